//! The longest gap of every request, against the moments at which its tokens were delivered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::{AggressiveSpec, SchedulerSpec};
use overbook_sim::serving::step::{Infeasible, StepBuilder};
use overbook_sim::serving::{Horizon, Scheduler};
use overbook_sim::time::Time;

use crate::world::{How, World};
use crate::world_random::world;

/// (tokens delivered, when the last of them was, longest gap between two [ns]) of a request.
type Seen = Rc<RefCell<BTreeMap<u64, (u32, Time, u64)>>>;

/// Watches the tokens of running requests come in, step by step.
#[derive(Debug)]
struct Watching {
    inner: Box<dyn Scheduler>,
    seen: Seen,
}

impl Scheduler for Watching {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let mut seen = self.seen.borrow_mut();
        for request in (0..step.running()).map(|at| step.running_at(at)) {
            let entry = seen.entry(request.id).or_insert((0, Time::ZERO, 0));
            if request.generated > entry.0 {
                assert_eq!(request.generated, entry.0 + 1, "a token at a time");
                let gap = if entry.0 == 0 { 0 } else { step.now().since(entry.1).0 };
                *entry = (request.generated, step.now(), entry.2.max(gap));
            }
        }
        self.inner.plan(step)?;
        Ok(Horizon::ONE)
    }
}

/// Compares all finished requests; returns how many, and how many of them had been preempted.
fn compare(world: &World, seed: u64) -> (u64, u64) {
    let seen = Seen::default();
    let spec = world.spec.scheduler.clone();
    let build = || -> Box<dyn Scheduler> { Box::new(Watching { inner: spec.build(seed, 0), seen: Rc::clone(&seen) }) };
    let run = world.run(How { scheduler: Some(&build), ..How::STEPS });
    let seen = seen.borrow();
    let (mut finished, mut preempted) = (0, 0);
    for row in &run.rows.requests {
        if row.outcome != Outcome::Finished || row.output_tokens < 2 {
            assert_eq!(row.longest_gap, None, "world {seed}: {row:?}");
            continue;
        }
        // Its last token came when it ended.
        let (tokens, last, longest) = seen[&row.request];
        assert_eq!(tokens + 1, row.output_tokens, "world {seed}: {row:?}");
        let wanted = longest.max(row.end.since(last).0);
        let got = row.longest_gap.unwrap().0;
        // A moment is a whole nanosecond, a step's length is not.
        assert!(got.abs_diff(wanted) <= 1, "world {seed}: {wanted}, {row:?}");
        finished += 1;
        preempted += u64::from(row.preemptions > 0);
    }
    (finished, preempted)
}

#[test]
fn the_longest_gap_is_that_of_the_tokens() {
    let (mut finished, mut preempted) = (0, 0);
    for seed in 0..300 {
        let mut world = world(seed);
        if world.spec.limits.depth == 2 {
            // A token that ends a request early is known a step late: not to be watched from plans.
            world.set_scheduler(SchedulerSpec::Aggressive(AggressiveSpec::default()));
        }
        world.spec.controllers.failures.clear();
        (world.spec.controllers.faults, world.spec.controllers.retry) = (None, None);
        let (more_finished, more_preempted) = compare(&world, seed);
        finished += more_finished;
        preempted += more_preempted;
    }
    eprintln!("longest gaps: {finished} requests compared, {preempted} of them had been preempted");
    assert!(finished > 3000 && preempted > 300);
}
