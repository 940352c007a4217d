//! What every scheduler must do, run over all examples of every [`SchedulerSpec`]: plan nothing impossible, keep the laws, make
//! progress, repeat itself, and certify no horizon that it does not keep.

use overbook_sim::fleet::Effort;
use overbook_sim::schedulers::SchedulerSpec;

use crate::world::How;
use crate::world_random::world;

const WORLDS: u64 = 60;

#[test]
fn every_scheduler_conforms() {
    for (name, spec) in SchedulerSpec::every() {
        let mut effort = Effort::default();
        let (mut preempted, mut swapped) = (0, 0);
        for seed in 0..WORLDS {
            let mut world = world(seed);
            world.set_scheduler(spec.clone());
            let steps = world.run(How { audit: true, ..How::STEPS });
            let jumps = world.run(How::JUMPS);
            let again = world.run(How::JUMPS);
            assert_eq!(steps.difference(&jumps), None, "horizons kept: world {seed}, {name}");
            assert_eq!(jumps.rows.steps, again.rows.steps, "deterministic: world {seed}, {name}");
            assert_eq!(jumps.difference(&again), None, "deterministic: world {seed}, {name}");
            assert_eq!(jumps.rows.requests.len(), world.arrivals.len(), "progress: world {seed}, {name}");
            effort.add(&jumps.result.effort);
            preempted += jumps.result.summary.work.preemptions;
            swapped += jumps.result.summary.tokens.swapped;
        }
        let (steps, plans) = (effort.steps, effort.plans);
        eprintln!(
            "conformance: {WORLDS} worlds, {steps} steps, {plans} plans, {preempted} preemptions, {swapped} tokens swapped: {name}"
        );
        assert_eq!(swapped > 0, spec.needs().swap_space.is_some(), "{name} swaps if it says so");
        assert!(steps > plans, "{name} never jumps");
    }
}
