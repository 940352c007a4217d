//! Controllers together: pools that scale, failures where prompts and decodes are apart, servers that take their replicas along.

use overbook_sim::cost::Cost;
use overbook_sim::fleet::{Autoscale, Disaggregation, Failure, Faults, Growth, ReplicaPool, ScaleTarget};
use overbook_sim::results::rows::Outcome;
use overbook_sim::routers::RouterSpec;
use overbook_sim::schedulers::VllmSpec;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::Arrival;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::lanes::{apart, lawful};
use crate::pools::mixed;
use crate::world::{Affine, How, MS, Run, World};

fn scaling(rng: &mut ChaCha8Rng) -> Autoscale {
    let target = [
        ScaleTarget::Outstanding(3.0),
        ScaleTarget::KvUse(0.3),
        ScaleTarget::Waiting(2.0),
        ScaleTarget::QueueTime(Span(20 * MS)),
    ][rng.random_range(0..4)];
    Autoscale {
        min: 1,
        start_up: Span(rng.random_range(0..200) * MS),
        interval: Span(rng.random_range(1..100) * MS),
        target,
        cool_down: Span(rng.random_range(0..300) * MS),
        tolerance: [0.0, 0.1][rng.random_range(0..2)],
        growth: Growth { replicas: rng.random_range(0..3), share: 1.0, per: Span(rng.random_range(0..100) * MS) },
    }
}

/// Failures at given moments and at random, of single replicas and of all on a server of two.
pub fn failing(world: &mut World, rng: &mut ChaCha8Rng) {
    let replicas = if world.spec.pools.is_empty() {
        world.spec.replicas
    } else {
        world.spec.pools.iter().map(|pool| pool.replicas).sum()
    };
    let servers: Vec<Vec<u32>> =
        (0..replicas).step_by(2).map(|first| (first..replicas.min(first + 2)).collect()).collect();
    let server = servers[rng.random_range(0..servers.len())].clone();
    let at = Time(rng.random_range(0..2000) * MS);
    world.spec.controllers.failures.push(Failure {
        at,
        replicas: server,
        down_for: Span(rng.random_range(0..800) * MS),
    });
    if rng.random_range(0..2) == 0 {
        world.spec.controllers.faults = Some(Faults {
            mtbf: Span(rng.random_range(100..2000) * MS),
            mttr: Span(rng.random_range(1..400) * MS),
            domains: if rng.random_range(0..2) == 0 { servers } else { Vec::new() },
        });
    }
}

/// Makes pools scale that stand on one side of a disaggregation. Returns whether any does.
fn scale_pools(world: &mut World, rng: &mut ChaCha8Rng) -> bool {
    let prefill = world.spec.controllers.disaggregation.map_or(0, |apart| apart.prefill);
    let mut first = 0;
    for pool in &mut world.spec.pools {
        let end = first + pool.replicas;
        let one_side = end <= prefill || first >= prefill;
        if one_side && rng.random_range(0..3) > 0 {
            pool.autoscale = Some(scaling(rng));
        }
        first = end;
    }
    world.spec.pools.iter().any(|pool| pool.autoscale.is_some())
}

#[test]
fn pools_that_scale_and_fail_keep_the_laws() {
    let (mut scaled, mut moved, mut failed, mut smaller) = (0, 0, 0, 0);
    for seed in 0..600 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xc0de);
        let mut world = mixed(seed);
        let scales = scale_pools(&mut world, &mut rng);
        failing(&mut world, &mut rng);
        let (run, _) = lawful(&world, seed);
        let summary = &run.result.summary;
        assert_eq!(summary.fleet.served.is_some(), scales, "world {seed}");
        if let Some(served) = summary.fleet.served {
            let all = u128::from(summary.makespan().0) * u128::from(summary.fleet.replicas);
            assert!(u128::from(served.0) <= all, "world {seed}");
            smaller += u64::from(u128::from(served.0) * 10 < all * 9);
        }
        scaled += u64::from(scales);
        moved += u64::from(world.spec.controllers.disaggregation.is_some());
        failed += summary.count(Outcome::Failed);
    }
    eprintln!(
        "combined: {scaled} of 600 worlds scale, {smaller} were smaller for a tenth, {moved} apart, {failed} failed"
    );
    assert!(scaled > 300 && smaller > 50 && moved > 100 && failed > 300);
}

#[test]
fn failures_where_prompts_and_decodes_are_apart_keep_the_laws() {
    let (mut failed, mut decoders) = (0, 0);
    for seed in 0..600 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xdead);
        let mut world = apart(seed);
        failing(&mut world, &mut rng);
        let prefill = world.spec.controllers.disaggregation.unwrap().prefill;
        let (run, _) = lawful(&world, seed);
        let lost = run.rows.requests.iter().filter(|row| row.outcome == Outcome::Failed);
        failed += run.result.summary.count(Outcome::Failed);
        decoders += lost.filter(|row| row.replica >= prefill).count();
    }
    eprintln!("combined: {failed} requests failed, {decoders} of them where they decoded");
    assert!(failed > 500 && decoders > 100);
}

/// One replica for prompts and two for decodes; prompts take 1 ms, decode steps too, KV is there at once.
fn three(arrivals: Vec<Arrival>) -> World {
    let spec = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
    let mut world = World::vllm(spec, 256, 16, 1024, arrivals);
    world.spec.replicas = 3;
    world.spec.controllers.disaggregation = Some(Disaggregation {
        prefill: 1,
        latency: Span(0),
        per_token: Cost::from_us(0.0),
        layers: 1,
        max_seqs: 8,
        overflow: None,
    });
    world
}

fn at(ms: u64, output: u32) -> Arrival {
    Arrival::new(Time(ms * MS), 10, output)
}

/// (outcome, replica, end [ms]) of a request.
fn of(run: &Run, request: u64) -> (Outcome, u32, u64) {
    let row = run.row(request);
    (row.outcome, row.replica, row.end.0 / MS)
}

#[test]
fn a_replica_that_decodes_is_passed_over_while_it_is_down() {
    let mut world = three(vec![at(0, 100), at(20, 10), at(60, 10)]);
    let down_for = Span(35 * MS);
    world.spec.controllers.failures = vec![Failure { at: Time(10 * MS), replicas: vec![1], down_for }];
    let run = world.run(How { audit: true, ..How::JUMPS });
    assert_eq!(of(&run, 0), (Outcome::Failed, 1, 10));
    assert_eq!(of(&run, 1), (Outcome::Finished, 2, 30));
    assert_eq!(of(&run, 2), (Outcome::Finished, 1, 70), "back at 45 ms");
}

#[test]
fn with_no_replica_to_decode_prompts_wait_for_one() {
    let mut world = three(vec![at(20, 10)]);
    let down =
        |replica, ms, down_for| Failure { at: Time(ms * MS), replicas: vec![replica], down_for: Span(down_for * MS) };
    world.spec.controllers.failures = vec![down(1, 10, 40), down(2, 15, 65)];
    let run = world.run(How { audit: true, ..How::JUMPS });
    // The prompt is computed at 21 ms; the first replica that decodes is back at 50 ms, and nine tokens follow.
    assert_eq!(of(&run, 0), (Outcome::Finished, 1, 59));
}

#[test]
fn a_server_takes_its_replicas_along() {
    let spec = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
    let mut world = World::vllm(spec, 256, 16, 1024, vec![at(0, 50), at(0, 50), at(0, 50), at(20, 5), at(21, 5)]);
    world.spec.replicas = 3;
    let down_for = Span(100 * MS);
    world.spec.controllers.failures = vec![Failure { at: Time(10 * MS), replicas: vec![0, 1], down_for }];
    let run = world.run(How { audit: true, ..How::JUMPS });
    let ends: Vec<_> = (0..5).map(|request| of(&run, request)).collect();
    assert_eq!(ends[..2], [(Outcome::Failed, 0, 10), (Outcome::Failed, 1, 10)]);
    assert_eq!(ends[2..], [(Outcome::Finished, 2, 50), (Outcome::Finished, 2, 25), (Outcome::Finished, 2, 26)]);
    let outages = &run.result.summary.outages;
    // The run ends before the server is back.
    let spans: Vec<_> = outages.spans().iter().map(|span| (span.from.0 / MS, span.to.0 / MS, span.replicas)).collect();
    assert_eq!(spans, [(10, 50, 2)]);
    let hit = outages.all();
    assert_eq!((hit.lost, hit.retried, hit.requests, hit.finished), (2, 0, 2, 2));
}

#[test]
fn a_stated_failure_draws_no_further_random_ones() {
    let spec = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
    let arrivals = (0..2000).map(|i| at(i * 10, 9)).collect();
    let mut world = World::vllm(spec, 256, 16, 1024, arrivals);
    world.spec.controllers.faults = Some(Faults { mtbf: Span(1000 * MS), mttr: Span(MS), domains: Vec::new() });
    let stated = |i: u64| Failure { at: Time(i * 100 * MS), replicas: vec![0], down_for: Span(MS) };
    world.spec.controllers.failures = (1..=50).map(stated).collect();
    let failed = world.run(How::JUMPS).result.summary.count(Outcome::Failed);
    // Each failure costs a request or two: 50 are stated, and about 20 come at random in 20 s.
    assert!((50..150).contains(&failed), "{failed} failed");
}

#[test]
fn each_pool_scales_by_its_own_load() {
    let spec = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
    let mut world = World::vllm(spec, 256, 16, 1024, (0..40).map(|i| at(i, 200)).collect());
    let limits = world.spec.limits;
    let rules = Autoscale {
        min: 1,
        start_up: Span(10 * MS),
        interval: Span(5 * MS),
        target: ScaleTarget::Outstanding(2.0),
        cool_down: Span(1000 * MS),
        tolerance: 0.0,
        growth: Growth::UNLIMITED,
    };
    let pool = |replicas, autoscale| ReplicaPool { replicas, limits, gpus: None, weight: 1, autoscale, frontend: None };
    world.spec.pools = vec![pool(1, None), pool(3, Some(rules))];
    world.others = vec![Affine::constant(MS)];
    world.spec.router = RouterSpec::LeastOutstanding;
    let run = world.run(How { audit: true, ..How::JUMPS });
    let first_on = |replica| run.rows.requests.iter().filter(|row| row.replica == replica).map(|row| row.arrival).min();
    assert_eq!(first_on(0), Some(Time(0)));
    assert!(first_on(1) < Some(Time(5 * MS)), "the pool's first replica is there from the start");
    // At 5 ms two to three requests are there: a second replica is wanted, and takes requests 10 ms later.
    assert!(
        first_on(2) >= Some(Time(15 * MS)) && first_on(3) > Some(Time(15 * MS)),
        "{:?} {:?}",
        first_on(2),
        first_on(3)
    );
    let served = run.result.summary.fleet.served.unwrap();
    assert!(served < Span(run.result.summary.makespan().0 * 4) && served > Span(run.result.summary.makespan().0 * 3));
}
