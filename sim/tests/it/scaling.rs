//! Replicas that come and go with the load, worked out by hand.

use overbook_sim::fleet::{Autoscale, Growth, ScaleTarget};
use overbook_sim::routers::RouterSpec;
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::Arrival;

use crate::world::{How, MS, Run, World};

/// Up to three replicas with steps of 1 ms: decisions every 10 ms, two requests each, 15 ms to start.
fn fleet(arrivals: Vec<Arrival>, cool_down: u64) -> World {
    let spec = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
    let mut world = World::vllm(spec, 4096, 16, 8192, arrivals);
    world.spec.replicas = 3;
    world.spec.router = RouterSpec::LeastOutstanding;
    world.spec.controllers.autoscale = Some(Autoscale {
        min: 1,
        start_up: Span(15 * MS),
        interval: Span(10 * MS),
        target: ScaleTarget::Outstanding(2.0),
        cool_down: Span(cool_down * MS),
        tolerance: 0.0,
        growth: Growth::UNLIMITED,
    });
    world
}

fn at(ms: u64, output: u32) -> Arrival {
    Arrival::new(Time(ms * MS), 10, output)
}

fn served(run: &Run) -> u64 {
    run.result.summary.fleet.served.unwrap().0 / MS
}

#[test]
fn a_replica_joins_after_its_start_up_and_leaves_when_it_is_drained() {
    // Three requests from 5 ms on: at 10 ms two replicas are wanted, at 25 ms the second one takes the next requests.
    let arrivals = vec![at(0, 200), at(5, 200), at(5, 20), at(20, 100), at(30, 45), at(31, 5)];
    let world = fleet(arrivals, 0);
    let run = world.run(How { audit: true, ..How::JUMPS });
    let replicas: Vec<u32> = (0..6).map(|request| run.row(request).replica).collect();
    // At 30 ms replica 1 has no request; at 31 ms it has one, replica 0 three (its third has ended at 25 ms).
    assert_eq!(replicas, [0, 0, 0, 0, 1, 1]);
    // At 40 ms four are there, the two long ones, the one from 20 ms and that from 30 ms: two replicas are right. At 80 ms three are
    // left and two replicas are still wanted; at 130 ms two are left, and the second replica, which is empty, leaves at once.
    assert_eq!(run.row(4).end, Time(75 * MS));
    assert_eq!(run.row(1).end, Time(205 * MS));
    // From 0 to 205 ms one, from 10 (it is paid for while it starts) to 130 ms the other.
    assert_eq!(served(&run), 205 + 120);
    let summary = &run.result.summary;
    assert!((summary.metric("replica_hours").unwrap() - 0.325 / 3600.0).abs() < 1e-12);
}

#[test]
fn a_cool_down_keeps_replicas_and_draining_ones_come_back() {
    let arrivals = vec![at(0, 200), at(5, 200), at(5, 20), at(20, 100), at(30, 45), at(31, 5)];
    // What was wanted up to 100 ms ago counts: no replica leaves before the end, at 205 ms.
    assert_eq!(served(&fleet(arrivals.clone(), 100).run(How::JUMPS)), 205 + 195);
    // The second replica drains from 40 ms on, when two requests are left, one of them there; at 60 ms three are there again, and it
    // takes the last one at once.
    let arrivals = vec![at(0, 25), at(0, 200), at(0, 25), at(27, 100), at(55, 100), at(61, 5)];
    let run = fleet(arrivals, 0).run(How { audit: true, ..How::JUMPS });
    let replicas: Vec<u32> = (0..6).map(|request| run.row(request).replica).collect();
    assert_eq!(replicas, [0, 0, 0, 1, 0, 1]);
}

/// A fleet of up to 16 under one rule, nothing of which leaves again.
fn ruled(arrivals: Vec<Arrival>, change: impl Fn(&mut Autoscale)) -> u64 {
    let mut world = fleet(arrivals, 1000);
    world.spec.replicas = 16;
    change(world.spec.controllers.autoscale.as_mut().unwrap());
    served(&world.run(How { audit: true, ..How::JUMPS }))
}

#[test]
fn a_load_within_the_tolerance_changes_nothing() {
    let load = |requests: u64| (0..requests).map(|_| at(0, 200)).collect();
    let rule = |tolerance: f64| {
        move |rules: &mut Autoscale| {
            rules.target = ScaleTarget::Outstanding(20.0);
            rules.tolerance = tolerance;
        }
    };
    // 21 over 20: a second replica from 10 ms on, or none. 23 over 20 is beyond a tenth.
    assert_eq!(ruled(load(21), rule(0.0)), 200 + 190);
    assert_eq!(ruled(load(21), rule(0.1)), 200);
    assert_eq!(ruled(load(23), rule(0.1)), 200 + 190);
}

#[test]
fn a_fleet_grows_by_four_or_by_its_double_within_a_period() {
    let arrivals = || (0..16).map(|_| at(0, 200)).collect::<Vec<_>>();
    let wanted = |growth| {
        move |rules: &mut Autoscale| {
            rules.target = ScaleTarget::Outstanding(1.0);
            rules.growth = growth;
        }
    };
    assert_eq!(ruled(arrivals(), wanted(Growth::UNLIMITED)), 200 + 15 * 190);
    // At 10 ms from one to five, at 30 ms (those of 10 ms are 15 ms old) to ten, at 50 ms to all sixteen.
    let growth = Growth { replicas: 4, share: 1.0, per: Span(15 * MS) };
    assert_eq!(ruled(arrivals(), wanted(growth)), 200 + 4 * 190 + 5 * 170 + 6 * 150);
}

#[test]
fn a_fleet_follows_the_time_in_its_queue_or_its_length() {
    let rule = |target| {
        move |world: &mut World| {
            let spec = VllmSpec { async_scheduling: false, max_num_seqs: 1, ..VllmSpec::default() };
            world.spec.scheduler = SchedulerSpec::Vllm(spec);
            world.spec.controllers.autoscale.as_mut().unwrap().target = target;
        }
    };
    let run = |change: &dyn Fn(&mut World)| {
        let mut world = fleet(vec![at(0, 50), at(0, 50), at(0, 50)], 1000);
        change(&mut world);
        served(&world.run(How { audit: true, ..How::JUMPS }))
    };
    // One after the other, to 150 ms. The next one has waited 30 ms at 30 ms: one and a half times 20 ms, so two; at 50 ms three.
    assert_eq!(run(&rule(ScaleTarget::QueueTime(Span(20 * MS)))), 150 + 120 + 100);
    // Two wait from the start: two replicas of one each at 10 ms.
    assert_eq!(run(&rule(ScaleTarget::Waiting(1.0))), 150 + 140);
}

#[test]
fn a_fleet_that_does_not_scale_is_there_all_the_time() {
    let mut world = fleet(vec![at(0, 100), at(50, 100)], 0);
    world.spec.controllers.autoscale = None;
    let summary = world.run(How::JUMPS).result.summary;
    assert_eq!(summary.fleet.served, None);
    assert!((summary.metric("replica_hours").unwrap() - 3.0 * 0.15 / 3600.0).abs() < 1e-12);
}
