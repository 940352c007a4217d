//! Law 14 where memory is short: requests neither wait for each other nor undo each other's work for ever; and a scheduler under which
//! they do ends the run with what there is.

use overbook_sim::cost::Cost;
use overbook_sim::fleet::{Clients, Disaggregation, Halt};
use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::{
    BatchSpec, FastserveSpec, LtrSpec, PreemptionMode, SchedulerSpec, SglangSpec, VllmSpec,
};
use overbook_sim::serving::step::{Infeasible, StepBuilder};
use overbook_sim::serving::{Horizon, QueueOrder, Scheduler};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::Arrival;

use crate::world::{Affine, How, MS, Run, World};

/// Both ways of running a world in which every request must finish.
fn all_finish(world: &World) -> Run {
    let steps = world.run(How { audit: true, ..How::STEPS });
    let jumps = world.run(How::JUMPS);
    assert_eq!(steps.difference(&jumps), None);
    assert_eq!(jumps.result.summary.count(Outcome::Finished), world.arrivals.len() as u64);
    jumps
}

fn request(at: Time, prompt: u32, output: u32) -> Arrival {
    Arrival::new(at, prompt, output)
}

#[test]
fn a_split_prompt_goes_on_when_transfers_give_its_blocks_back() {
    let arrivals = (0..12).map(|i| request(Time(i * 5 * MS), 33, 81)).collect();
    let spec = SglangSpec { chunked_prefill_size: Some(1), ..SglangSpec::default() };
    let mut world = World::of(SchedulerSpec::Sglang(spec), 13, 16, 200, arrivals);
    world.spec.replicas = 3;
    world.spec.controllers.disaggregation = Some(Disaggregation {
        prefill: 2,
        latency: Span(10_000),
        per_token: Cost::from_us(42.0),
        layers: 1,
        max_seqs: 256,
        overflow: None,
    });
    all_finish(&world);
}

#[test]
fn by_feedback_queue_a_prompt_that_was_begun_is_not_dropped_for_another() {
    for mode in [PreemptionMode::Recompute, PreemptionMode::Swap] {
        let arrivals = (0..40).map(|i| request(Time(i * MS), 300, 100)).collect();
        let batch = BatchSpec { max_num_batched_tokens: 64, max_num_seqs: 8, ..BatchSpec::default() };
        let spec = FastserveSpec { preemption_mode: mode, batch, ..FastserveSpec::default() };
        let mut world = World::of(SchedulerSpec::Fastserve(spec), 26, 16, 400, arrivals);
        // Room for a prompt and a half: some go to the host, others cannot.
        world.spec.limits.swap.blocks = world.spec.limits.swap.blocks.min(30);
        world.cost = Affine::constant(23 * MS);
        let preempted = all_finish(&world).result.summary.work.preemptions;
        assert!(preempted > 0, "{mode:?}");
    }
}

#[test]
fn by_rank_a_prompt_that_was_begun_is_not_dropped_for_a_starving_one() {
    let batch = BatchSpec { max_num_batched_tokens: 1, ..BatchSpec::default() };
    let mode = PreemptionMode::Recompute;
    let spec = LtrSpec { starv: 1, preemption_mode: mode, batch, ..LtrSpec::default() };
    let arrivals = vec![request(Time(0), 15, 1), request(Time(MS), 9, 1), request(Time(2 * MS), 12, 1)];
    all_finish(&World::of(SchedulerSpec::Ltr(spec), 1, 16, 16, arrivals));
}

/// A closed loop starts its clients at one moment: two requests of one priority and one arrival time.
#[test]
fn by_priority_equals_are_not_each_others_victims() {
    let spec = VllmSpec {
        policy: QueueOrder::Priority,
        scheduler_reserve_full_isl: false,
        long_prefill_token_threshold: 50,
        ..VllmSpec::default()
    };
    let arrivals = (0..4).map(|i| request(Time(i * 1000 * MS), 600, 700)).collect();
    let mut world = World::vllm(spec, 88, 16, 1302, arrivals);
    world.spec.traffic.clients = Some(Clients { count: 2, think_time: Span(0) });
    world.cost = Affine::constant(23 * MS);
    all_finish(&world);
}

/// Preempts every prompt that was begun, and begins the next one.
#[derive(Debug)]
struct Thrash;

impl Scheduler for Thrash {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        step.decode_all()?;
        while let Some(&seat) = step.prefilling().first() {
            step.preempt(seat)?;
        }
        if let Some(head) = step.head() {
            step.admit(&head, 1)?;
        }
        Ok(Horizon::ONE)
    }
}

#[test]
fn a_run_without_progress_keeps_what_it_has_and_says_so() {
    let arrivals = vec![request(Time(0), 1, 5), request(Time(50 * MS), 2, 1), request(Time(60 * MS), 7, 3)];
    let world = World::vllm(VllmSpec::default(), 20, 16, 64, arrivals);
    let thrash: &dyn Fn() -> Box<dyn Scheduler> = &|| Box::new(Thrash);
    let how = How { scheduler: Some(thrash), ..How::JUMPS };
    let run = world.try_run(how).unwrap();
    let (rows, summary) = (&run.rows, &run.result.summary);
    assert_eq!(rows.requests.len(), 1, "what had ended is kept");
    assert_eq!(summary.count(Outcome::Finished), 1);
    let Some(Halt::NoProgress { policy: "vllm", replica: 0, at, requests: 2, plans }) = run.result.halted else {
        panic!("{:?}", run.result.halted)
    };
    assert!(plans == 640 && at > Time(600 * MS) && at < Time(1000 * MS), "{plans} plans until {at}");
    assert!(summary.work.preemptions > 600 && summary.load.waiting_mean > 0.5, "{:?}", summary.load);
    assert!(summary.load.kv_usage_mean <= summary.load.kv_usage_max && summary.makespan() >= Span(at.0));
    let slow = world.try_run(How { jumps: false, ..how }).unwrap();
    assert_eq!(run.difference(&slow), None);
}

/// Under vLLM's prefix cache, on by default, a preempted request finds its own blocks whether or not the workload has ids for them.
#[test]
fn a_preempted_request_finds_what_is_left_of_its_own_blocks() {
    let recomputed = |enable_prefix_caching: bool, async_scheduling: bool| {
        let spec = VllmSpec { enable_prefix_caching, async_scheduling, ..VllmSpec::default() };
        let world = World::vllm(spec, 100, 16, 1000, vec![request(Time(0), 500, 400); 8]);
        let run = all_finish(&world);
        assert!(run.result.summary.work.preemptions > 0);
        run.result.summary.tokens.recomputed
    };
    for depth in [false, true] {
        let (with, without) = (recomputed(true, depth), recomputed(false, depth));
        assert!(with * 10 < without * 9, "{with} tokens computed again with the cache, {without} without");
    }
}
