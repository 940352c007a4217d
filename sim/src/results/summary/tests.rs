use super::*;
use crate::results::rows::{RequestRow, StepRow};
use crate::workload::arrival::ClassId;

const MS: u64 = 1_000_000;

fn row(arrival: u64, first: u64, end: u64, output: u32) -> RequestRow {
    RequestRow {
        request: 0,
        replica: 0,
        class: ClassId(0),
        session: None,
        outcome: Outcome::Finished,
        arrival: Time(arrival * MS),
        start: Some(Time((arrival + 1) * MS)),
        first_token: Some(Time(first * MS)),
        end: Time(end * MS),
        prompt_tokens: 100,
        output_tokens: output,
        cached_tokens: 20,
        preemptions: 0,
        recomputed_tokens: 5,
        longest_gap: (output > 1).then_some(Span(3 * MS)),
        swapped_tokens: 7,
        frontend: Span::ZERO,
        attempts: 1,
    }
}

fn rejected(arrival: u64) -> RequestRow {
    RequestRow {
        outcome: Outcome::Rejected,
        start: None,
        first_token: None,
        output_tokens: 0,
        cached_tokens: 0,
        recomputed_tokens: 0,
        longest_gap: None,
        swapped_tokens: 0,
        frontend: Span::ZERO,
        attempts: 1,
        class: ClassId(1),
        ..row(arrival, 0, arrival, 1)
    }
}

fn step() -> StepRow {
    StepRow {
        replica: 0,
        lane: 0,
        start: Time(0),
        end: Time(40 * MS),
        steps: 10,
        decode_seqs: 3,
        prefill_seqs: 1,
        prefill_tokens: 70,
        decode_context: 0,
        prefill_context: 0,
        running: 4,
        waiting: 0,
        used_blocks: 0,
        preempted: 2,
        swapped_blocks: 0,
    }
}

fn slo() -> Slo {
    Slo { ttft: Some(Span(20 * MS)), tpot: Some(Span(10 * MS)), ..Slo::default() }
}

const FLEET: Fleet = Fleet { replicas: 2, lanes: 2, blocks: 200, served: None, gpu_time: None };

/// Three finished requests (one late, one with a single token) and a rejected one over a makespan of 100 ms.
fn tally() -> Tally {
    let mut tally = Tally::new(slo());
    tally.request(&row(100, 110, 200, 10));
    tally.request(&row(100, 150, 160, 2));
    tally.request(&row(100, 120, 120, 1));
    tally.request(&rejected(130));
    tally.gaps(10 * MS, 9);
    (0..4).for_each(|i| tally.gaps(10 * MS + 1000 * i, 2));
    tally.step(&step());
    tally.plans(3);
    tally.hold(Time(100 * MS), Time(200 * MS), 4, 1, 50, 100);
    tally.hold(Time(150 * MS), Time(200 * MS), 2, 0, 80, 100);
    tally
}

fn near(got: Option<f64>, want: f64) -> bool {
    got.is_some_and(|got| (got - want).abs() <= 1e-9 + 0.0005 * want.abs())
}

#[test]
fn the_figures_of_a_small_run() {
    let summary = tally().finish(FLEET, &["chat".to_owned()]);
    for (name, want) in [
        ("makespan", 0.1),
        ("finished", 3.0),
        ("rejected", 1.0),
        ("ttft_mean", 0.08 / 3.0),
        ("ttft_p50", 0.02),
        ("ttft_p99_9", 0.05),
        ("tpot_p50", 0.01),
        ("e2el_p90", 0.1),
        ("queue_time_mean", 0.001),
        ("itl_p50", 0.01),
        ("request_throughput", 30.0),
        ("output_throughput", 130.0),
        ("total_token_throughput", 3130.0),
        ("request_goodput", 20.0),
        ("token_goodput", 2110.0),
        ("mtpot_p99", 0.003),
        ("decode_steps", 10.0),
        ("goodput_fraction", 0.5),
        ("preemptions", 2.0),
        ("recompute_tax", 0.15),
        ("prefix_hit_rate", 0.2),
        ("kv_usage_mean", 0.45),
        ("kv_usage_max", 0.8),
        ("running_mean", 5.0),
        ("waiting_mean", 1.0),
        ("steps", 10.0),
        ("plans", 3.0),
        ("mean_jump", 10.0),
        ("utilization", 0.2),
    ] {
        assert!(near(summary.metric(name), want), "{name}: {:?}, not {want}", summary.metric(name));
    }
    assert_eq!(summary.attained, Attained { ttft: Some(2), tpot: Some(3), mtpot: None, e2el: None, all: 2 });
    assert_eq!((summary.single_token, summary.ended(), summary.itl.count()), (1, 4, 17));
    assert_eq!((summary.classes[0].name.as_str(), summary.classes[1].name.as_str()), ("chat", "1"));
    assert_eq!((summary.classes[0].ended(), summary.classes[1].ended()), (3, 1));
}

#[test]
fn every_name_is_known_and_unknown_names_are_not() {
    let summary = tally().finish(FLEET, &[]);
    let names = Summary::metric_names();
    // Of what a run may not have: the client's own time, sessions, GPUs, power, a store of another kind.
    let kinds = ["client_", "first_turn_", "later_turn_", "session", "gpu_", "low_", "high_", "power_", "energy_"];
    let optional = |name: &str| {
        kinds.iter().any(|kind| name.starts_with(kind))
            || matches!(
                name,
                "carbon_per_mtoken"
                    | "cost_hardware"
                    | "cost_total"
                    | "cost_per_mtoken"
                    | "cost_per_mtoken_output"
                    | "break_even_input"
                    | "break_even_output"
                    | "loaded_tokens"
                    | "cache_gap"
                    | "shrunk"
                    | "quality"
                    | "quality_unknown"
                    | "answers_per_gpu_second"
                    | "draft_tokens"
                    | "accepted_tokens"
                    | "draft_acceptance_rate"
                    | "mean_acceptance_length"
                    | "gpus_mean"
                    | "tokens_per_s_per_gpu"
            )
    };
    let odd: Vec<_> = names.iter().filter(|name| summary.metric(name).is_some() == optional(name)).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert_eq!(names.len(), 108 + 94);
    for unknown in ["ttft", "ttft_", "ttft_p98", "e2el_p99_99", "queue_time", "goodput", ""] {
        assert_eq!(summary.metric(unknown), None, "{unknown}");
    }
}

#[test]
fn an_empty_run_states_only_counts() {
    let summary = Tally::new(Slo::default()).finish(Fleet::default(), &[]);
    assert_eq!(summary.makespan(), Span::ZERO);
    for name in Summary::metric_names() {
        assert!(summary.metric(&name).is_none_or(|value| value == 0.0), "{name}");
    }
}

#[test]
fn shards_merge_to_the_whole() {
    let mut shard = Tally::new(slo());
    shard.request(&rejected(90));
    shard.request(&row(300, 310, 420, 30));
    shard.hold(Time(0), Time(MS), 9, 9, 1, 1);
    let (mut ab, mut ba) = (tally(), shard.clone());
    ab.merge(&shard);
    ba.merge(&tally());
    assert_eq!(ab, ba);
    let mut whole = tally();
    whole.request(&rejected(90));
    whole.request(&row(300, 310, 420, 30));
    whole.hold(Time(0), Time(MS), 9, 9, 1, 1);
    assert_eq!(ab, whole);
}
