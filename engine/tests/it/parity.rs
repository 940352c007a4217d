//! Law 12 over every scheduler that runs on one lane: random workloads in real time on an executor that checks every
//! position, then the simulator, given only when requests came in and how long steps took.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use overbook_engine::executor::{
    self, Batch, Capacity, Copied, Executor, ExecutorError, Output, Rehearsal, Sampling, TierCopy,
};
use overbook_engine::parity::{Parity, replay};
use overbook_engine::run::{EngineError, Measured, run, run_drawing};
use overbook_sim::fleet::{Clients, ClusterSpec, Traffic};
use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::serving::replica::Lanes;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Content, Workload, WorkloadError};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};

pub(crate) const BLOCK: u32 = 8;
pub(crate) const BLOCKS: u32 = 60;
pub(crate) const LONGEST: u32 = 300;

pub(crate) struct Given(pub(crate) std::vec::IntoIter<Arrival>);

impl Workload for Given {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        Ok(self.0.next())
    }

    fn classes(&self) -> &[String] {
        &[]
    }
}

/// Requests that crowd the pool: some alike, some impatient, some that end early, one that is too long.
pub(crate) fn arrivals(seed: u64, count: u64) -> Vec<Arrival> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut at = 0;
    let mut made = Vec::new();
    for number in 0..count {
        at += rng.random_range(0..1_200_000);
        let prompt = if number == 7 { LONGEST + 5 } else { rng.random_range(1..120) };
        let output = rng.random_range(1..60);
        let mut arrival = Arrival::new(Time(at), prompt, output);
        let limit = if rng.random_bool(0.5) { output } else { output + rng.random_range(1..40) };
        arrival.max_new_tokens = Some(limit);
        arrival.priority = rng.random_range(0..3);
        if rng.random_bool(0.6) {
            // Chains of one of four families; what follows the family's own blocks is the request's.
            let (family, shared) = (rng.random_range(0..4u64), rng.random_range(0..8u64));
            let own = |index: u64| if index < shared { family * 1000 + index } else { (number + 9) * 1000 + index };
            let ids = (0..u64::from((prompt + output) / BLOCK)).map(own).collect();
            arrival.content = Some(Box::new(Content { block_tokens: BLOCK, ids }));
        }
        match rng.random_range(0..12) {
            0 => arrival.cancel_after = Some(Span(rng.random_range(0..60_000_000))),
            1 => arrival.max_wait = Some(Span(rng.random_range(0..40_000_000))),
            2 => arrival.deadline = Some(Span(rng.random_range(20_000_000..90_000_000))),
            _ => {}
        }
        made.push(arrival);
    }
    made
}

pub(crate) fn spec(scheduler: SchedulerSpec, seed: u64) -> ClusterSpec {
    let limits = scheduler.needs().limits(u64::from(BLOCKS), BLOCK, LONGEST);
    ClusterSpec { limits, scheduler, seed, ..ClusterSpec::default() }
}

pub(crate) fn rehearsal(spec: &ClusterSpec) -> Box<dyn Executor> {
    let host_blocks = spec.store.tiers.first().map_or(0, |tier| tier.blocks);
    let capacity = Capacity { lanes: lanes(spec), host_blocks, ..Capacity::unbounded(BLOCKS, BLOCK, LONGEST, 1000) };
    Box::new(Rehearsal::new(capacity, Duration::from_micros(150), Duration::from_micros(1)))
}

fn measure(spec: &ClusterSpec, arrivals: Vec<Arrival>) -> Result<Measured, EngineError> {
    run(spec, &mut Given(arrivals.into_iter()), rehearsal(spec), &mut |_| true)
}

/// Notes how tokens are to be drawn.
struct Notes(Box<dyn Executor>, Arc<Mutex<Vec<Sampling>>>);

impl Executor for Notes {
    fn capacity(&self) -> Capacity {
        self.0.capacity()
    }

    fn submit(&mut self, lane: usize, batch: Batch) -> Result<(), ExecutorError> {
        self.1.lock().expect("no panic").extend(batch.begins.iter().map(|begin| begin.sampling));
        self.0.submit(lane, batch)
    }

    fn wait(&mut self, lane: usize) -> Result<Output, ExecutorError> {
        self.0.wait(lane)
    }

    fn copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        self.0.copy(copies)
    }

    fn copied(&mut self) -> Result<Copied, ExecutorError> {
        self.0.copied()
    }

    fn give_contexts(&mut self) -> Result<(), ExecutorError> {
        self.0.give_contexts()
    }

    fn ready(&mut self, lane: usize) -> Result<bool, ExecutorError> {
        self.0.ready(lane)
    }
}

#[test]
fn tokens_are_drawn_at_the_temperature_that_is_asked_for() {
    let spec = spec(SchedulerSpec::default(), 3);
    let sent = || Given((0..3).map(|_| Arrival::new(Time::ZERO, 9, 3)).collect::<Vec<_>>().into_iter());
    let drawn = |temperature| {
        let seen = Arc::default();
        let executor = Box::new(Notes(rehearsal(&spec), Arc::clone(&seen)));
        run_drawing(&spec, &mut sent(), executor, temperature, &mut |_| true).expect("it runs");
        let seen = seen.lock().expect("no panic").clone();
        assert_eq!(seen.len(), 3);
        seen
    };
    let hot = drawn(0.7);
    assert!(hot.iter().all(|sampling| sampling.temperature.to_bits() == 0.7_f32.to_bits()), "{hot:?}");
    assert!(hot[0].seed != hot[1].seed && hot == drawn(0.7), "each its own draws, the same every time: {hot:?}");
    assert!(drawn(0.0).iter().all(|sampling| sampling.temperature == 0.0));
}

/// The lanes that a scheduler needs.
pub(crate) fn lanes(spec: &ClusterSpec) -> executor::Lanes {
    match spec.limits.lanes {
        Lanes::Split => executor::Lanes::Two { prefill: 75, decode: 50 },
        _ => executor::Lanes::One,
    }
}

/// Every scheduler that runs on one lane, or on two. Those that would swap compute again: the engine has no memory to swap to.
pub(crate) fn schedulers() -> Vec<(String, SchedulerSpec)> {
    let every = SchedulerSpec::every().into_iter();
    every.collect()
}

pub(crate) fn expect_parity(name: &str, parity: &Parity) {
    assert!(
        parity.holds(),
        "{name}: {} differences, digest {}: {:#?}",
        parity.differences,
        parity.digest,
        parity.first
    );
}

/// What runs have covered, or they prove little.
#[derive(Default, Debug)]
pub(crate) struct Covered {
    pub preempted: u32,
    pub cached: u32,
    pub early: u32,
    pub gone: u32,
}

/// Runs `count` requests through schedulers, at their times times `slower`, and replays them on the simulator.
pub(crate) fn every_scheduler(
    schedulers: Vec<(String, SchedulerSpec)>,
    count: u64,
    slower: u64,
    open: &mut dyn FnMut(&ClusterSpec) -> Box<dyn Executor>,
) -> Covered {
    let mut covered = Covered::default();
    for (seed, (name, scheduler)) in schedulers.into_iter().enumerate() {
        let spec = spec(scheduler, seed as u64);
        let arrivals = later(arrivals(seed as u64, count), slower);
        let measured = run(&spec, &mut Given(arrivals.into_iter()), open(&spec), &mut |_| true);
        let measured = measured.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(measured.rows.len() as u64, count, "{name}: every request ends (law 1)");
        let parity = replay(&spec, &measured).unwrap_or_else(|e| panic!("{name}: {e}"));
        expect_parity(&name, &parity);
        assert_eq!((parity.steps, parity.requests as u64), (measured.steps.len(), count));
        for row in &measured.rows {
            let sent = &measured.sent[row.request as usize];
            covered.preempted += row.preemptions;
            covered.cached += row.cached_tokens;
            covered.early +=
                u32::from(row.outcome == Outcome::Finished && sent.max_new_tokens > Some(row.output_tokens));
            covered.gone += u32::from(matches!(row.outcome, Outcome::Cancelled | Outcome::Expired));
            // One is too long for every replica.
            assert!(row.request != 7 || row.outcome == Outcome::Rejected, "{name}: {row:?}");
        }
    }
    covered
}

/// The same requests on a slower clock.
fn later(mut arrivals: Vec<Arrival>, slower: u64) -> Vec<Arrival> {
    for arrival in &mut arrivals {
        arrival.at = Time(arrival.at.0 * slower);
        for span in [&mut arrival.cancel_after, &mut arrival.max_wait, &mut arrival.deadline].into_iter().flatten() {
            *span = Span(span.0 * slower);
        }
    }
    arrivals
}

#[test]
fn the_simulator_makes_the_batches_of_the_engine() {
    let covered = every_scheduler(schedulers(), 60, 1, &mut rehearsal);
    assert!(covered.preempted > 100 && covered.cached > 1000, "{covered:?}");
    // Ends by an end-of-sequence token, and clients that gave up.
    assert!(covered.early > 300 && covered.gone > 50, "{covered:?}");
}

/// A policy that goes by deadlines decides by those that were sent, and not by the turns at which clients were found to have gone. Steps
/// of 150 ms and one place: the first request holds it when two others come. Of these one has 310 ms, the other the policy's promise of
/// 400 ms; the first of them is served and is found late after 450 ms.
#[test]
fn deadlines_are_those_that_were_sent() {
    let edf = r#"{"edf": {"ttft": "400ms", "on_late": "keep", "batch": {"max_num_seqs": 1}}}"#;
    let spec = spec(serde_json::from_str(edf).expect("a scheduler"), 0);
    let mut sent =
        vec![Arrival::new(Time(0), 10, 1), Arrival::new(Time(1_000_000), 10, 60), Arrival::new(Time(1_000_000), 10, 2)];
    for arrival in &mut sent {
        arrival.max_new_tokens = Some(arrival.output_tokens);
    }
    sent[1].deadline = Some(Span(310_000_000));
    let capacity = Capacity { lanes: lanes(&spec), ..Capacity::unbounded(BLOCKS, BLOCK, LONGEST, 1000) };
    let slow = Box::new(Rehearsal::new(capacity, Duration::from_millis(150), Duration::ZERO));
    let measured = run(&spec, &mut Given(sent.into_iter()), slow, &mut |_| true).expect("runs");
    let expired = measured.seen.iter().filter(|row| row.outcome == Outcome::Expired).count();
    assert_eq!(expired, 1, "{:?}", measured.seen);
    expect_parity("edf", &replay(&spec, &measured).expect("replays"));
}

#[test]
fn closed_loops_and_concurrency_limits_are_reproduced() {
    let scheduler = SchedulerSpec::default();
    let closed = {
        let clients = Some(Clients { count: 5, think_time: Span(300_000) });
        ClusterSpec { traffic: Traffic { clients, ..Traffic::default() }, ..spec(scheduler.clone(), 3) }
    };
    let limited =
        ClusterSpec { traffic: Traffic { max_concurrency: Some(3), ..Traffic::default() }, ..spec(scheduler, 4) };
    for (name, spec) in [("closed", closed), ("limited", limited)] {
        let measured = measure(&spec, arrivals(5, 40)).expect(name);
        expect_parity(name, &replay(&spec, &measured).expect(name));
        let most = measured.steps.iter().map(|step| step.row.running + step.row.waiting).max();
        assert!(most <= Some(5), "{name}: {most:?} at once");
    }
}

#[test]
fn a_planted_reorder_is_caught() {
    let spec = spec(SchedulerSpec::default(), 1);
    let measured = measure(&spec, arrivals(2, 40)).expect("runs");
    expect_parity("as it was", &replay(&spec, &measured).expect("replays"));
    // One event out of order: two neighbours change places on arrival.
    let mut planted = measured;
    let (a, b) = (&planted.sent[20], &planted.sent[21]);
    assert_ne!(a.prompt_tokens, b.prompt_tokens);
    let (prompt, content) = (a.prompt_tokens, a.content.clone());
    planted.sent[20] =
        Arrival { prompt_tokens: b.prompt_tokens, content: b.content.clone(), ..planted.sent[20].clone() };
    planted.sent[21] = Arrival { prompt_tokens: prompt, content, ..planted.sent[21].clone() };
    let parity = replay(&spec, &planted).expect("replays");
    assert!(!parity.holds() && parity.differences > 0, "{parity:?}");
    assert!(!parity.first.is_empty());
}

#[test]
fn what_the_engine_cannot_do_is_refused() {
    // An executor of one lane for a scheduler of two.
    let semi = spec(serde_json::from_str(r#"{"semi-pd": {}}"#).expect("a scheduler"), 0);
    let one = rehearsal(&spec(SchedulerSpec::default(), 0));
    let refused = run(&semi, &mut Given(arrivals(1, 2).into_iter()), one, &mut |_| true).map(|_| ());
    let refused = refused.expect_err("one lane").to_string();
    assert!(refused.contains("one lane"), "{refused}");
    let swaps = serde_json::from_str(r#"{"vllm-v0": {"preemption_mode": "swap"}}"#).expect("a scheduler");
    let mut swapping = spec(swaps, 0);
    swapping.limits.swap.blocks = 10;
    let two = ClusterSpec { replicas: 2, ..spec(SchedulerSpec::default(), 0) };
    let mut wide = spec(SchedulerSpec::default(), 0);
    wide.limits.blocks += 1;
    for (what, spec) in [("swap", swapping), ("one replica", two), ("61", wide)] {
        let refused = measure(&spec, arrivals(1, 2)).map(|_| ()).expect_err(what).to_string();
        assert!(refused.contains(what), "{refused}");
    }
}
