//! Law 13: jumping over equal steps, and settling at any instant, change no result.

use std::panic::{AssertUnwindSafe, catch_unwind};

use overbook_sim::fleet::{Effort, StopReason};
use overbook_sim::results::rows::Outcome;
use overbook_sim::routers::RouterSpec;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::time::Time;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::lanes::two_lanes;
use crate::points::pointed;
use crate::schedulers::{Pausing, Unsure};
use crate::world::{How, Run, World};
use crate::world_random::{retaining, world};

const WORLDS: u64 = 1600;

/// What the worlds of a test have hit.
#[derive(Default, Debug)]
struct Coverage {
    worlds: u64,
    requests: usize,
    effort: Effort,
    preempting: u64,
    depths: [u64; 2],
    priority: u64,
    fixed: u64,
    caching: u64,
    routers: Vec<u64>,
    fleets: u64,
    stale: u64,
    retried: u64,
    faulty: u64,
    scaled: u64,
    closed: u64,
    outcomes: [u64; Outcome::ALL.len()],
    cached_tokens: u64,
}

impl Coverage {
    fn add(&mut self, world: &World, run: &Run) {
        self.worlds += 1;
        self.requests += run.rows.requests.len();
        self.effort.add(&run.result.effort);
        self.preempting += u64::from(run.rows.requests.iter().any(|r| r.preemptions > 0));
        self.depths[world.spec.limits.depth as usize - 1] += 1;
        self.priority += u64::from(world.spec.limits.order != overbook_sim::serving::QueueOrder::Fcfs);
        self.fixed += u64::from(matches!(world.spec.scheduler, SchedulerSpec::Static(_)));
        self.caching += u64::from(world.spec.limits.prefix_caching);
        let routers = RouterSpec::every();
        let router = routers.iter().position(|&(_, r)| r == world.spec.router).unwrap();
        self.routers.resize(routers.len(), 0);
        self.routers[router] += u64::from(world.spec.replicas > 1);
        self.fleets += u64::from(world.spec.replicas > 1);
        self.stale += u64::from(world.spec.replicas > 1 && world.spec.controllers.router_view.is_some());
        self.retried += u64::from(run.rows.requests.iter().any(|r| r.attempts > 1));
        self.scaled += u64::from(world.spec.replicas > 1 && run.result.summary.fleet.served.is_some());
        self.faulty += u64::from(world.spec.controllers.faults.is_some());
        self.closed += u64::from(world.spec.traffic.clients.is_some());
        for (sum, n) in self.outcomes.iter_mut().zip(run.result.summary.outcomes) {
            *sum += n;
        }
        self.cached_tokens += run.result.summary.tokens.cached;
    }

    fn stops(&self, reason: StopReason) -> u64 {
        self.effort.stops[reason as usize]
    }
}

#[test]
fn jumps_equal_step_by_step() {
    let mut seen = Coverage::default();
    for seed in 0..WORLDS {
        let world = world(seed);
        let slow = world.run(How::STEPS);
        let fast = world.run(How { audit: seed % 8 == 0, ..How::JUMPS });
        if let Some(what) = slow.difference(&fast) {
            panic!("world {seed} differs in {what}\n{:?}", world.spec);
        }
        assert_eq!(fast.rows.requests.len(), world.arrivals.len(), "law 1 in world {seed}");
        seen.add(&world, &fast);
    }
    let mean = seen.effort.steps as f64 / seen.effort.plans as f64;
    eprintln!("law 13: mean jump {mean:.1}, {seen:?}\nstops by reason {:?}", StopReason::ALL);
    assert!(mean >= 5.0, "mean jump {mean}");
    // The worlds have one lane a replica at one point, and requests keep all tokens; for others see `lanes.rs`, `points.rs` and `retention.rs`.
    let elsewhere = [StopReason::Horizon, StopReason::Lane, StopReason::Cut, StopReason::Point];
    for reason in StopReason::ALL.into_iter().filter(|reason| !elsewhere.contains(reason)) {
        assert!(seen.stops(reason) >= 100, "{reason:?} only {} times", seen.stops(reason));
    }
    assert!(seen.preempting * 5 >= seen.worlds, "preemption in {} of {} worlds", seen.preempting, seen.worlds);
    let floor = [
        seen.depths[0],
        seen.depths[1],
        seen.priority,
        seen.fixed,
        seen.caching,
        seen.closed,
        seen.stale,
        seen.retried,
        seen.faulty,
    ];
    assert!(floor.iter().chain(&seen.routers).all(|&n| n >= 50), "{seen:?}");
    assert!(seen.outcomes.iter().all(|&n| n >= 100), "every ending must occur: {seen:?}");
    assert!(seen.cached_tokens > 10_000, "{seen:?}");
}

#[test]
fn a_finite_horizon_is_kept() {
    let mut stops = 0;
    for seed in 0..200 {
        let world = world(seed);
        let pausing = How { scheduler: Some(&|| Box::new(Pausing)), ..How::STEPS };
        let slow = world.run(How { audit: true, ..pausing });
        let fast = world.run(How { jumps: true, ..pausing });
        assert_eq!(slow.difference(&fast), None, "world {seed}");
        stops += fast.result.effort.stops[StopReason::Horizon as usize];
    }
    eprintln!("law 13: {stops} jumps ended by a scheduler's horizon");
    assert!(stops >= 100);
}

/// Of 100 worlds that have a stop rule, how many must notice that it is off by one: half of what was measured.
fn notices(reason: StopReason) -> u64 {
    match reason {
        StopReason::Blocks => 38,
        StopReason::HostCrossing => 37,
        StopReason::CostBreak => 41,
        _ => 47,
    }
}

/// The law's teeth: a stop rule that is off by one step is noticed, by about as many worlds as ever.
#[test]
fn an_off_by_one_in_any_stop_rule_is_noticed() {
    for reason in StopReason::ALL {
        let (mut tried, mut noticed) = (0u64, 0u64);
        for seed in 0..600 {
            if tried == 60 {
                break;
            }
            let world = match reason {
                StopReason::Lane => two_lanes(seed),
                StopReason::Cut => retaining(seed),
                StopReason::Point => pointed(world(seed), seed),
                _ => world(seed),
            };
            let pausing: &dyn Fn() -> Box<dyn overbook_sim::serving::Scheduler> = &|| Box::new(Pausing);
            let scheduler = (reason == StopReason::Horizon).then_some(pausing);
            let honest = world.run(How { scheduler, ..How::JUMPS });
            if honest.result.effort.stops[reason as usize] == 0 {
                continue;
            }
            tried += 1;
            let how = How { scheduler, planted: Some(reason), ..How::JUMPS };
            let spoilt = catch_unwind(AssertUnwindSafe(|| world.try_run(how)));
            noticed += u64::from(match spoilt {
                Ok(Ok(run)) => run.result.halted.is_some() || honest.difference(&run).is_some(),
                Ok(Err(_)) | Err(_) => true,
            });
        }
        let told = format!("{reason:?} off by one noticed in {noticed} of {tried} worlds that have it");
        eprintln!("law 13: {told}");
        assert!(tried >= 20 && 100 * noticed >= notices(reason) * tried, "{told}, {} of 100 must", notices(reason));
    }
}

#[test]
fn settling_at_any_instants_changes_nothing() {
    let mut instants = 0;
    for seed in 0..300 {
        let world = world(seed);
        let plain = world.run(How::JUMPS);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let end = plain.result.end.0;
        let mut probes: Vec<Time> = (0..40).map(|_| Time(rng.random_range(0..=end))).collect();
        // Boundaries are where rounding bites: the very nanosecond of a segment's end, and its neighbours.
        for row in &plain.rows.steps {
            if rng.random_range(0..8) == 0 {
                probes.push(Time((row.end.0 + 1).saturating_sub(rng.random_range(0..3)).min(end)));
            }
        }
        for jumps in [true, false] {
            let probed = world.run(How { jumps, probes: &probes, ..How::STEPS });
            assert_eq!(plain.difference(&probed), None, "world {seed}, jumps {jumps}");
        }
        instants += probes.len();
    }
    eprintln!("law 13: settled at {instants} instants");
}

/// A certificate is only a promise: a scheduler that promises nothing gives the same run.
#[test]
fn a_scheduler_that_promises_nothing_gives_the_same_run() {
    let (mut worlds, mut plans, mut unsure_plans) = (0, 0, 0);
    for seed in 0..300 {
        let world = world(seed);
        let sure = world.run(How::JUMPS);
        let spec = world.spec.scheduler.clone();
        let build = move || -> Box<dyn overbook_sim::serving::Scheduler> { Box::new(Unsure(spec.build(0, 0))) };
        let unsure = world.run(How { scheduler: Some(&build), ..How::JUMPS });
        assert_eq!(sure.difference(&unsure), None, "world {seed}");
        worlds += 1;
        plans += sure.result.effort.plans;
        unsure_plans += unsure.result.effort.plans;
    }
    eprintln!("law 13: {worlds} worlds with {plans} plans, {unsure_plans} without certificates");
    assert!(unsure_plans > 3 * plans);
}

/// A run that is not drained ends at the same moment with the same figures, and is a whole run up to there.
#[test]
fn a_run_that_is_not_drained_is_cut_at_the_same_moment() {
    let (mut cut, mut requests) = (0, 0);
    for seed in 0..400 {
        let mut world = world(seed);
        let whole = world.run(How::JUMPS);
        world.spec.traffic.drain = false;
        let steps = world.run(How { audit: true, ..How::STEPS });
        let jumps = world.run(How::JUMPS);
        assert_eq!(steps.difference(&jumps), None, "world {seed}");
        assert_eq!(steps.result.summary.work.decode_steps, jumps.result.summary.work.decode_steps, "world {seed}");
        assert!(jumps.rows.requests.iter().all(|row| whole.rows.requests.contains(row)), "world {seed}");
        let last = jumps.rows.requests.iter().map(|row| row.start.unwrap_or(row.end)).max();
        assert!(last <= Some(jumps.result.end) && jumps.result.end.0 <= whole.result.end.0 + 1, "world {seed}");
        cut += u64::from(jumps.rows.requests.len() < whole.rows.requests.len());
        requests += jumps.rows.requests.len();
    }
    eprintln!("not drained: {cut} of 400 worlds were cut off, {requests} requests had ended");
    assert!(cut > 200 && requests > 1000);
}
