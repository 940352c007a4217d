//! Schedules worked out by hand from the rules of docs/schedulers.md, one file each in `schedules/`, with the
//! reasoning beside every step. Every step lasts one unit of time, and a quarter more for each block that is swapped.

use overbook_sim::cost::Cost;
use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::{Arrival, ClassId, Content};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::world::{How, MS, World};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    blocks: u64,
    block_tokens: u32,
    max_model_len: u32,
    requests: Vec<Stated>,
    /// When a step begins, prefill tokens, decoding requests, running, waiting, used blocks, preempted.
    steps: Vec<(f64, u32, u32, u32, u32, u64, u32)>,
    /// Request, planned first, first token, end, preemptions, cached tokens, recomputed tokens.
    ends: Vec<(u64, f64, f64, f64, u32, u32, u64)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    at: f64,
    prompt: u32,
    output: u32,
    limit: u32,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    class: u16,
    #[serde(default)]
    content: Vec<u64>,
}

fn time(units: f64) -> Time {
    Time((units * MS as f64).round() as u64)
}

fn units(time: Time) -> f64 {
    time.0 as f64 / MS as f64
}

fn world(scheduler: SchedulerSpec, schedule: &Schedule) -> World {
    let arrival = |stated: &Stated| {
        let mut arrival = Arrival::new(time(stated.at), stated.prompt, stated.output);
        arrival.max_new_tokens = Some(stated.limit);
        arrival.priority = stated.priority;
        arrival.class = ClassId(stated.class);
        if !stated.content.is_empty() {
            let ids = stated.content.clone().into_boxed_slice();
            arrival.content = Some(Box::new(Content { block_tokens: schedule.block_tokens, ids }));
        }
        arrival
    };
    let arrivals = schedule.requests.iter().map(arrival).collect();
    let mut world = World::of(scheduler, schedule.blocks, schedule.block_tokens, schedule.max_model_len, arrivals);
    world.spec.limits.swap.block_cost = Cost::from_us(250.0);
    world
}

/// A schedule names its scheduler beside the rest.
fn read(text: &str) -> (SchedulerSpec, Schedule) {
    let Value::Object(all) = serde_yaml_ng::from_str(text).unwrap() else { panic!("a schedule is a mapping") };
    let stated = |key: &str| ["blocks", "block_tokens", "max_model_len", "requests", "steps", "ends"].contains(&key);
    let (schedule, scheduler): (Map<_, _>, _) = all.into_iter().partition(|(key, _)| stated(key));
    let read = serde_json::from_value(Value::Object(scheduler)).expect("a schedule has a scheduler");
    (read, serde_json::from_value(Value::Object(schedule)).unwrap())
}

fn check(text: &str) -> usize {
    let (scheduler, schedule) = read(text);
    let world = world(scheduler, &schedule);
    for jumps in [false, true] {
        let run = world.run(How { jumps, audit: true, ..How::STEPS });
        let mut ends: Vec<_> = run.rows.requests.iter().collect();
        ends.sort_by_key(|r| r.request);
        let ends: Vec<_> = ends
            .into_iter()
            .map(|r| {
                assert_eq!(r.outcome, Outcome::Finished);
                let (start, first) = (units(r.start.unwrap()), units(r.first_token.unwrap()));
                (r.request, start, first, units(r.end), r.preemptions, r.cached_tokens, r.recomputed_tokens)
            })
            .collect();
        if !jumps {
            let row = |r: &overbook_sim::results::rows::StepRow| {
                assert_eq!((r.steps, r.end.0 - r.start.0), (1, MS + r.swapped_blocks * MS / 4));
                (units(r.start), r.prefill_tokens, r.decode_seqs, r.running, r.waiting, r.used_blocks, r.preempted)
            };
            assert_eq!(run.rows.steps.iter().map(row).collect::<Vec<_>>(), schedule.steps, "steps");
        }
        assert_eq!(run.result.effort.steps, schedule.steps.len() as u64, "number of steps");
        assert_eq!(ends, schedule.ends, "ends, jumps {jumps}");
    }
    schedule.steps.len()
}

macro_rules! worked_by_hand {
    ($($name:ident: $file:literal,)*) => {$(
        #[test]
        fn $name() {
            let steps = check(include_str!(concat!("schedules/", $file)));
            eprintln!("schedules: {} agrees, {steps} steps", $file);
        }
    )*};
}

worked_by_hand! {
    chunks_of_a_long_prompt: "chunked.yaml",
    planned_ahead_arrivals_wait: "depth2-arrival.yaml",
    planned_ahead_eos_costs_a_step: "depth2-eos.yaml",
    planned_ahead_length_costs_nothing: "depth2-length.yaml",
    planned_ahead_victims_get_their_token: "depth2-preempt.yaml",
    the_whole_output_is_reserved: "orca.yaml",
    the_last_is_preempted_and_recomputes: "preempt.yaml",
    the_first_deadline_first: "edf.yaml",
    the_longest_prefix_first: "lpm.yaml",
    the_short_and_the_new_go_first: "fastserve.yaml",
    the_least_rank_takes_the_memory: "ltr.yaml",
    the_shortest_goes_first: "sjf.yaml",
    equal_prefixes_are_shared: "prefix.yaml",
    the_least_urgent_is_preempted: "priority.yaml",
    decodes_first_and_promises_kept: "sarathi.yaml",
    expected_to_fit_and_retracted: "sglang.yaml",
    used_to_the_full: "trtllm.yaml",
    whole_batches: "static.yaml",
    the_peak_must_fit: "past-future.yaml",
    who_fits_now_enters: "aggressive.yaml",
    promises_stay_within_the_overcommit: "conservative.yaml",
    short_outputs_until_busy: "lightllm-main.yaml",
    prompts_first: "vllm-v0.yaml",
    the_tenant_served_least_is_next: "vtc.yaml",
    swapped_out_and_in: "swap.yaml",
    the_watermark_stays_free: "watermark.yaml",
}

/// The tests' teeth: one wrong number in a schedule is seen.
#[test]
#[should_panic(expected = "steps")]
fn a_wrong_schedule_is_noticed() {
    check(&include_str!("schedules/chunked.yaml").replace("[2, 0, 2, 2, 0, 4, 0]", "[2, 0, 2, 2, 0, 5, 0]"));
}
