//! Steps that lie apart.

use overbook_sim::cost::Jitter;
use overbook_sim::schedulers::VllmSpec;
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::Arrival;

use crate::world::{How, MS, World};
use crate::world_random::world;

/// One step in twenty takes up to three times as long as the others.
fn skewed() -> Jitter {
    let ratio = |i: u32| if i < 950 { 0.9 + 0.0002 * f64::from(i) } else { 1.09 + 0.04 * f64::from(i - 950) };
    Jitter::of((0..1000).map(ratio).collect()).unwrap()
}

#[test]
fn steps_lie_apart_as_the_quantiles_say() {
    let arrivals = (0..40).map(|i| Arrival::new(Time(i * 3 * MS), 20, 400)).collect();
    let world = World::vllm(VllmSpec::default(), 4096, 16, 4096, arrivals);
    let jitter = skewed();
    let run = world.run(How { jitter: Some(&jitter), ..How::JUMPS });
    assert!(run.rows.steps.iter().all(|step| step.steps == 1), "no jump is right any more");
    let mut lengths: Vec<f64> =
        run.rows.steps.iter().map(|step| (step.end - step.start).0 as f64 / MS as f64).collect();
    lengths.sort_by(f64::total_cmp);
    assert!(lengths.len() > 500);
    for share in [0.02, 0.1, 0.3, 0.5, 0.7, 0.9] {
        let (got, want) = (lengths[(share * lengths.len() as f64) as usize], jitter.ratio(share));
        assert!((got / want - 1.0).abs() < 0.03, "{share}: {got} of a median step, should be {want}");
    }
    let late = lengths.iter().filter(|&&length| length > 1.2).count() as f64 / lengths.len() as f64;
    assert!((0.02..0.08).contains(&late), "{late} of the steps are among the long ones");
}

#[test]
fn no_jitter_and_jitter_of_nothing_are_one() {
    let none = Jitter::of(vec![1.0; 12]).unwrap();
    for seed in 0..80 {
        let world = world(seed);
        let with = world.run(How { jitter: Some(&none), ..How::JUMPS });
        assert_eq!(world.run(How::STEPS).difference(&with), None, "world {seed}");
    }
}

#[test]
fn draws_are_those_of_the_seed_whatever_is_looked_at() {
    let jitter = skewed();
    let how = How { jitter: Some(&jitter), audit: true, ..How::JUMPS };
    let mut differ = 0;
    for seed in 0..40 {
        let mut world = world(seed);
        let run = world.run(how);
        let probes: Vec<Time> = (1..60).map(|i| Time(run.result.end.0 / 61 * i)).collect();
        assert_eq!(run.difference(&world.run(How { jumps: false, ..how })), None, "world {seed}");
        assert_eq!(run.difference(&world.run(How { probes: &probes, ..how })), None, "world {seed}, probed");
        world.spec.seed ^= 1;
        differ += u32::from(run.difference(&world.run(how)).is_some());
    }
    assert!(differ > 30, "another seed, other steps: {differ}");
}
