//! Operating points that change at any moment: the laws hold, each part of a step takes its time, and work is counted once.

use overbook_sim::cost::{OperatingPoint, UNIT};
use overbook_sim::fleet::{DeviceSpec, PointChange, Reading, StopReason, Usage};
use overbook_sim::hardware::gpu::{Origin, OriginKind};
use overbook_sim::hardware::model::{KvDtype, ModelSpec, WeightDtype};
use overbook_sim::hardware::power::ClockSpec;
use overbook_sim::partitioners::{PartitionSpec, ShareScaling, Shares};
use overbook_sim::power::work::{StepWork, Work};
use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::{SchedulerSpec, SemiPdSpec, VllmSpec};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::Arrival;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::lanes::{lawful, times, two_lanes};
use crate::pools::mixed;
use crate::world::{How, MS, Run, World};
use crate::world_random::world;

fn origin() -> Origin {
    Origin { kind: OriginKind::Inferred, source: "a test".to_owned() }
}

/// A GPU of 1000 MHz whose memory keeps its pace down to 600, and a model of two layers.
pub fn device() -> DeviceSpec {
    let model = ModelSpec {
        name: "two layers".to_owned(),
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        intermediate: 128,
        vocab: 500,
        gated: true,
        qk_norm: false,
        tied_embeddings: false,
        context: 4096,
        moe: None,
        mla: None,
        sliding: None,
        recurrent: None,
        output_gate: false,
        origin: origin(),
    };
    DeviceSpec {
        clock: ClockSpec {
            origin: origin(),
            max_mhz: 1000,
            min_mhz: 100,
            response: origin(),
            exponent: 1.7,
            memory_fixed: 0.6,
            knee: 0.6,
        },
        work: StepWork::new(&model, 1, WeightDtype::Bf16, KvDtype::Bf16).unwrap(),
    }
}

fn at_clock(mhz: u32) -> OperatingPoint {
    OperatingPoint::at_clock(mhz, 1000)
}

/// Gives a world GPUs whose points change at random moments, boundaries of steps among them, and readings at others.
pub fn pointed(mut world: World, seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x901e);
    let plain = world.run(How::JUMPS);
    let pools = &world.spec.pools;
    let replicas = if pools.is_empty() { world.spec.replicas } else { pools.iter().map(|pool| pool.replicas).sum() };
    world.spec.devices = vec![device(); pools.len().max(1)];
    let end = plain.result.end.0;
    let steps = &plain.rows.steps;
    let moment = |rng: &mut ChaCha8Rng| match steps.len() {
        n if n > 0 && rng.random_range(0..3) == 0 => {
            let boundary = steps[rng.random_range(0..n)].end.0;
            Time((boundary + 1).saturating_sub(rng.random_range(0..3)))
        }
        _ => Time(rng.random_range(0..=end + end / 2)),
    };
    for _ in 0..rng.random_range(1..30) {
        let at = moment(&mut rng);
        let replicas = (0..replicas).filter(|_| rng.random_range(0..2) == 0).collect();
        let lane = [None, None, Some(0)][rng.random_range(0..3)];
        let sm_share = if rng.random_range(0..3) == 0 { rng.random_range(UNIT / 5..=UNIT) } else { UNIT };
        let sm_clock = if rng.random_range(0..4) == 0 { UNIT } else { rng.random_range(UNIT / 5..=UNIT) };
        let point = OperatingPoint { sm_share, sm_clock };
        world.spec.controllers.points.push(PointChange { at, replicas, lane, point });
    }
    world.spec.controllers.readings = (0..20).map(|_| moment(&mut rng)).collect();
    world
}

/// What the tests of random worlds have hit.
#[derive(Default, Debug)]
struct Seen {
    stops: u64,
    readings: usize,
    mid_work: usize,
    outcomes: [u64; Outcome::ALL.len()],
    preempted: u64,
}

impl Seen {
    fn add(&mut self, run: &Run) {
        self.stops += run.result.effort.stops[StopReason::Point as usize];
        self.readings += run.result.readings.len();
        self.mid_work += run.result.readings.iter().filter(|r| r.usage.work != Work::default()).count();
        self.preempted += run.result.summary.work.preemptions;
        for (sum, n) in self.outcomes.iter_mut().zip(run.result.summary.outcomes) {
            *sum += n;
        }
    }
}

/// Readings of a lane never fall, and never show more busy time than there was.
fn readings_ascend(readings: &[Reading], seed: u64) {
    let mut lanes: Vec<(u32, u32)> = readings.iter().map(|r| (r.replica, r.lane)).collect();
    lanes.sort_unstable();
    lanes.dedup();
    for lane in lanes {
        let mut before = (Time::ZERO, Usage::default());
        for r in readings.iter().filter(|r| (r.replica, r.lane) == lane) {
            let done = r.usage - before.1;
            let sum = [
                before.1.work.bf16_flops + done.work.bf16_flops == r.usage.work.bf16_flops,
                before.1.work.weight_bytes + done.work.weight_bytes == r.usage.work.weight_bytes,
                before.1.work.kv_bytes + done.work.kv_bytes == r.usage.work.kv_bytes,
                before.1.busy + done.busy == r.usage.busy,
            ];
            assert_eq!(sum, [true; 4], "world {seed}: what was done is undone: {before:?}, {r:?}");
            assert!(done.busy.0 <= r.at.since(before.0).0 + 1, "world {seed}: busy beyond time: {before:?}, {r:?}");
            before = (r.at, r.usage);
        }
    }
}

/// Law 13 with points that change at any moment: single steps, jumps and jumps that are settled anywhere agree, in what the lanes had done
/// at any moment too. At both depths, with failures, on two lanes, across pools.
#[test]
fn changes_at_any_moment_keep_the_laws() {
    for name in ["one lane", "two lanes", "pools"] {
        let mut seen = Seen::default();
        for seed in 0..300 {
            let plain = match name {
                "one lane" => world(seed),
                "two lanes" => two_lanes(seed),
                _ => mixed(seed),
            };
            let world = pointed(plain, seed);
            let (run, _) = lawful(&world, seed);
            readings_ascend(&run.result.readings, seed);
            seen.add(&run);
        }
        eprintln!("points, {name}: {seen:?}");
        assert!(seen.stops > 200 && seen.readings > 5000 && seen.mid_work > 2000, "{name}: {seen:?}");
        assert!(seen.outcomes[Outcome::Failed as usize] > 50 && seen.preempted > 500, "{name}: {seen:?}");
    }
}

/// The same for every scheduler.
#[test]
fn every_scheduler_keeps_the_laws_at_changing_points() {
    for (name, spec) in SchedulerSpec::every() {
        let mut seen = Seen::default();
        for seed in 0..24 {
            let mut world = world(seed);
            world.set_scheduler(spec.clone());
            let world = pointed(world, seed);
            let steps = world.run(How { audit: true, ..How::STEPS });
            let jumps = world.run(How::JUMPS);
            assert_eq!(steps.difference(&jumps), None, "world {seed}, {name}");
            readings_ascend(&jumps.result.readings, seed);
            seen.add(&jumps);
        }
        assert!(seen.stops > 0 && seen.mid_work > 100, "{name}: {seen:?}");
    }
}

/// GPUs that stay at their nominal point change nothing, and a lane that goes there and back between two steps does not either.
#[test]
fn the_nominal_point_changes_nothing() {
    let mut read = 0;
    for seed in 0..200 {
        let plain = if seed % 2 == 0 { world(seed) } else { two_lanes(seed) };
        let mut counted = pointed(plain.clone(), seed);
        counted.spec.controllers.points.iter_mut().for_each(|change| change.point = OperatingPoint::NOMINAL);
        let run = counted.run(How::JUMPS);
        read += run.result.readings.len();
        let mut without = run.clone();
        without.result.readings.clear();
        assert_eq!(plain.run(How::JUMPS).difference(&without), None, "world {seed}");
        assert_eq!(plain.run(How::JUMPS).result.effort, run.result.effort, "world {seed}");
    }
    assert!(read > 3000);
}

/// One request whose steps are all arithmetic, 1 ms each.
fn alone(asynchronous: bool, output: u32) -> World {
    let spec = VllmSpec { async_scheduling: asynchronous, ..VllmSpec::default() };
    let mut arrival = Arrival::new(Time(0), 10, output);
    arrival.max_new_tokens = Some(output);
    let mut world = World::vllm(spec, 4096, 16, 8192, vec![arrival]);
    world.spec.devices = vec![device()];
    world
}

fn change(world: &mut World, at_us: u64, point: OperatingPoint) {
    let at = Time(at_us * 1000);
    world.spec.controllers.points.push(PointChange { at, replicas: vec![0], lane: None, point });
}

fn end_us(world: &World) -> u64 {
    let run = world.run(How::JUMPS);
    assert_eq!(world.run(How::STEPS).difference(&run), None);
    run.row(0).end.0 / 1000
}

/// Steps of 1 ms at 1000 MHz, changed in the middle of the third.
#[test]
fn the_rest_of_a_step_and_the_steps_behind_it_by_hand() {
    for asynchronous in [false, true] {
        let mut world = alone(asynchronous, 6);
        assert_eq!(end_us(&world), 6000, "six steps, the first of which is the prompt");
        change(&mut world, 2500, at_clock(500));
        assert_eq!(end_us(&world), 2500 + 1000 + 3 * 2000, "half a step, and three more, at half the clock");
        change(&mut world, 3000, at_clock(250));
        assert_eq!(end_us(&world), 3000 + 1000 + 3 * 4000, "a quarter of a step is left when the clock falls again");
        change(&mut world, 4000, OperatingPoint::NOMINAL);
        assert_eq!(end_us(&world), 7000, "back at the boundary");
        change(&mut world, 6500, OperatingPoint { sm_share: UNIT / 2, ..OperatingPoint::NOMINAL });
        assert_eq!(end_us(&world), 7500, "half of the SMs for half of the last step");
    }
}

/// Host time before the device begins does not change; where it hides behind the device, it is the shortest that a step can be.
#[test]
fn host_time_does_not_notice() {
    let mut world = alone(false, 3);
    world.cost.host_us = 400.0;
    assert_eq!(end_us(&world), 3 * 1400);
    // In the second step's host time; again while it is still there, and then in its device time.
    change(&mut world, 1500, at_clock(500));
    assert_eq!(end_us(&world), 1400 + 2 * 2400);
    change(&mut world, 1700, at_clock(250));
    assert_eq!(end_us(&world), 1400 + 2 * 4400);
    change(&mut world, 1400 + 400 + 2000, OperatingPoint::NOMINAL);
    assert_eq!(end_us(&world), 1400 + 400 + 2000 + 500 + 1400);

    let mut world = alone(true, 4);
    world.cost.host_us = 1500.0;
    // The first step waits for the host; behind it the host takes longer than the device.
    assert_eq!(end_us(&world), 2500 + 3 * 1500);
    // 0.5 ms of the device's 1 ms are done: the other half takes 2 ms, the host has 1 ms left.
    change(&mut world, 3000, at_clock(250));
    assert_eq!(end_us(&world), 2500 + 2500 + 2 * 4000);
}

/// Memory keeps its pace until the SMs are too slow to ask for it.
#[test]
fn steps_that_memory_binds_keep_their_pace() {
    let mut world = alone(true, 200);
    (world.cost.base_us, world.cost.seq_us) = (0.0, 1000.0);
    let prompt = 0; // its one sequence decodes nothing: no time
    assert_eq!(end_us(&world), prompt + 199_000);
    change(&mut world, 0, at_clock(650));
    assert_eq!(end_us(&world), prompt + 199_000);
    change(&mut world, 9000, at_clock(300));
    // Half of the pace below which it falls; a clock is a multiple of 2⁻³².
    assert!(end_us(&world).abs_diff(prompt + 9000 + 2 * 190_000) <= 1);
}

/// However often the clock changes, a request alone ends when its arithmetic is done: the integral of the clock is the nominal time.
#[test]
fn the_integral_of_the_clock_is_the_nominal_time() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut world = alone(seed % 2 == 0, 300);
        world.cost.base_us = 777.77;
        for _ in 0..rng.random_range(1..200) {
            let clock = at_clock(rng.random_range(200..=1000));
            change(&mut world, rng.random_range(0..600_000), clock);
        }
        world.spec.controllers.points.sort_by_key(|change| change.at);
        let end = world.run(How::JUMPS).row(0).end;
        let (mut from, mut clock, mut nominal) = (Time::ZERO, 1.0, 0.0);
        for change in &world.spec.controllers.points {
            let to = change.at.min(end);
            nominal += to.since(from).0 as f64 * clock;
            (from, clock) = (to, change.point.clock());
        }
        nominal += end.since(from).0 as f64 * clock;
        // A change cuts one nanosecond at most.
        assert!((nominal - 300.0 * 777_770.0).abs() < 250.0, "seed {seed}: {nominal}");
    }
}

/// Work by any moment is that of the steps that have ended and of the part of one: by hand, within a jump, and over a change.
#[test]
fn work_is_counted_step_by_step() {
    let mut world = alone(true, 1000);
    world.spec.controllers.readings = vec![Time(400_250_000), Time(600_000_001), Time(2_000_000_000)];
    change(&mut world, 500_500, at_clock(500));
    // A request that keeps the run going beyond the last reading.
    world.arrivals.push(Arrival::new(Time(3000 * MS), 1, 1));
    let run = world.run(How::JUMPS);
    let steps = device().work;
    // A step at context c: the prompt's 10 tokens first, then one token each, over all before it and itself.
    let prompt = steps.of(&overbook_sim::cost::StepShape {
        decode_seqs: 0,
        decode_context: 0,
        prefill: &[overbook_sim::cost::PrefillPart { tokens: 10, past: 0 }],
        prefill_ends: 1,
    });
    let decode = steps.decode(1);
    let step = |n: u64| if n == 0 { prompt } else { decode.base + decode.per_context * (10 + n) };
    let whole = |n: u64| (0..n).fold(Work::default(), |sum, i| sum + step(i));
    let usages: Vec<Usage> = run.result.readings.iter().map(|r| r.usage).collect();
    let ms = |ms: f64| Span((ms * MS as f64) as u64);
    assert_eq!(usages[0], Usage { busy: ms(400.25), work: whole(400) + step(400).share(1, 4) });
    // The change at 500.5 ms is read too, at the point before it.
    assert_eq!(run.result.readings[1].point, OperatingPoint::NOMINAL);
    assert_eq!(usages[1], Usage { busy: ms(500.5), work: whole(500) + step(500).share(1, 2) });
    // The other half of that step takes 1 ms, then 49 of 2 ms to 599.5 ms, then a quarter of one, and 1 ns.
    assert_eq!(usages[2].busy, Span(600_000_001));
    let expected = whole(550) + step(550).share(500_001, 2_000_000);
    assert!(usages[2].work.flops().abs_diff(expected.flops()) <= 1, "{:?} {expected:?}", usages[2].work);
    assert_eq!(usages[3], Usage { busy: ms(500.5 + 1.0 + 2.0 * 499.0), work: whole(1000) });
}

/// Clocks and shares of two lanes together: the share's fitted factor is on top of what the clock does.
#[test]
fn clocks_and_shares_go_together() {
    let partition = PartitionSpec::Static(Shares { prefill: 50, decode: 50 });
    let scaling = ShareScaling { prefill: 0.5, decode: 0.5 };
    let spec = SemiPdSpec { partition, scaling, ..SemiPdSpec::default() };
    let arrivals = vec![Arrival::new(Time(0), 10, 5), Arrival::new(Time(1_500_000), 10, 1)];
    let mut world = World::of(SchedulerSpec::SemiPd(spec), 64, 16, 512, arrivals);
    world.spec.devices = vec![device()];
    // Each lane has half of the SMs, 1.5 ms a step.
    assert_eq!(times(&world.run(How::JUMPS)), [(1500, 7500), (3000, 3000)]);
    // At half the clock from 2.25 ms on: half a step of both is left, and takes 1.5 ms; steps take 3 ms.
    change(&mut world, 2250, at_clock(500));
    assert_eq!(times(&world.run(How::JUMPS)), [(1500, 3750 + 3 * 3000), (3750, 3750)]);
}
