//! Figures are those of the rows, and none says what cannot be: over all schedulers, prompts and decodes apart or not.

use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::Arrival;

use crate::lanes::apart;
use crate::world::{How, MS, Run, World};
use crate::world_random::world;

/// What disagrees between a run's summary and its rows, if anything does.
fn wrong(run: &Run, retries: bool) -> Option<String> {
    let (summary, rows) = (&run.result.summary, &run.rows.requests);
    let makespan = summary.makespan();
    let lanes = u128::from(summary.fleet.lanes);
    if u128::from(summary.work.busy.0) > u128::from(makespan.0) * lanes {
        return Some(format!("busy {} of {makespan} on {lanes} lanes", summary.work.busy));
    }
    let load = summary.load;
    let shares = [load.kv_usage_mean, load.kv_usage_max];
    if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || load.kv_usage_mean > load.kv_usage_max + 1e-9 {
        return Some(format!("{load:?}"));
    }
    let by_step: u64 = run.rows.steps.iter().map(|step| u64::from(step.preempted)).sum();
    let by_request: u64 = rows.iter().map(|row| u64::from(row.preemptions)).sum();
    if by_step > summary.work.preemptions || (!retries && by_request != summary.work.preemptions) {
        return Some(format!("preemptions: {by_request} of rows, {by_step} of steps, {}", summary.work.preemptions));
    }
    let there: u128 = rows.iter().map(|row| u128::from((row.end - row.arrival).0)).sum();
    let mean = there as f64 / makespan.0.max(1) as f64;
    let levels = load.running_mean + load.waiting_mean;
    let off = (mean - levels).abs();
    (!retries && off > 1e-6 * mean.max(1.0))
        .then(|| format!("Little's law: {levels} there on average, rows say {mean}"))
}

#[test]
fn figures_of_random_worlds_are_those_of_their_rows() {
    let (mut worlds, mut preempting, mut retrying) = (0u64, 0, 0);
    let mut look = |world: &World, name: &str| {
        let retries = world.spec.controllers.retry.is_some();
        let run = world.run(How::JUMPS);
        assert_eq!(wrong(&run, retries), None, "{name}: {:?}", world.spec);
        worlds += 1;
        preempting += u64::from(run.result.summary.work.preemptions > 0);
        retrying += u64::from(retries);
    };
    for (name, spec) in SchedulerSpec::every() {
        for seed in 1000..1030 {
            let mut world = world(seed);
            world.set_scheduler(spec.clone());
            look(&world, &format!("world {seed}, {name}"));
        }
    }
    for seed in 1000..1300 {
        look(&apart(seed), &format!("world {seed}, apart"));
    }
    eprintln!("figures: {worlds} worlds, {preempting} preempt, {retrying} retry");
    assert!(preempting * 6 > worlds && retrying * 6 > worlds);
}

/// The step in flight when the last request ends is no part of the run.
#[test]
fn busy_time_ends_with_the_run() {
    for async_scheduling in [false, true] {
        let spec = VllmSpec { async_scheduling, ..VllmSpec::default() };
        let mut ends_early = Arrival::new(Time(0), 10, 1);
        ends_early.max_new_tokens = Some(50);
        let run = World::vllm(spec, 256, 16, 1024, vec![ends_early]).run(How::JUMPS);
        let summary = &run.result.summary;
        assert_eq!((summary.count(Outcome::Finished), summary.makespan()), (1, Span(MS)));
        assert_eq!(summary.work.busy, Span(MS), "async {async_scheduling}");
    }
}
