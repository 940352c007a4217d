//! Power in the fleet: laws 8, 10 and 13 with meters, policies and brakes, and faults that the laws find.

use overbook_sim::fleet::{Brake, ClusterSpec, FleetPower, GpuLimiter, PowerFault, RowServer};
use overbook_sim::hardware::gpu::{GpuSpec, Origin, OriginKind};
use overbook_sim::hardware::power::{LimiterSpec, MeterSpec, PowerSpec};
use overbook_sim::hardware::server_power::{CpuPower, FanPower, ServerPowerSpec};
use overbook_sim::power::figures::PowerFigures;
use overbook_sim::power::policies::{
    ClockRange, Delays, OneThresholdSpec, PolcaSpec, PowerPolicySpec, ThresholdsSpec, TwoThresholdsSpec,
};
use overbook_sim::power::row::Feed;
use overbook_sim::power::{Energy, MilliWatts, PowerLaw};
use overbook_sim::schedulers::VllmSpec;
use overbook_sim::time::{Span, Time};
use overbook_sim::units::{Bandwidth, Bytes, Duration, Flops, Watts};
use overbook_sim::workload::arrival::Arrival;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::lanes::two_lanes;
use crate::points::device;
use crate::world::{How, MS, Run, World};
use crate::world_random::world;

fn origin() -> Origin {
    Origin { kind: OriginKind::Inferred, source: "a test".to_owned() }
}

/// A GPU that the tests' model of two layers can fill, the more so the slower it is: 100 W with a context, 400 W at most.
fn law(speed: f64) -> PowerLaw {
    let ms = |ms: u64| Duration(Span(ms * MS));
    let power = PowerSpec {
        origin: origin(),
        idle: Watts(100.0),
        resident: Watts(50.0),
        compute: Watts(300.0),
        memory: Watts(300.0),
        compute_exponent: 1.0,
        memory_exponent: 0.5,
        clock: device().clock,
        limiter: LimiterSpec { origin: origin(), reaction: ms(50) },
        meter: MeterSpec { origin: origin(), window: ms(100), period: ms(100) },
    };
    PowerLaw::of(&GpuSpec {
        memory: Bytes(1 << 20),
        bandwidth: Bandwidth(4e8 * speed),
        peak_bf16: Flops(5e9 * speed),
        tdp: Watts(400.0),
        power: Some(power),
        ..GpuSpec::none()
    })
    .unwrap()
}

fn server() -> ServerPowerSpec {
    ServerPowerSpec {
        origin: origin(),
        base: Watts(50.0),
        cpu: CpuPower { idle: Watts(10.0), busy: Watts(40.0) },
        network: Watts(10.0),
        fans: FanPower { least: Watts(10.0), per_watt: 0.2, above: Watts(150.0), lag: Duration(Span(7 * MS)) },
        supply_efficiency: 0.93,
    }
}

/// A row of servers with one replica of two GPUs each, every second one of low priority, that reads every 4 ms.
fn row(replicas: u32, budget: f64, policy: PowerPolicySpec) -> FleetPower {
    let of = |at: u32| RowServer {
        power: server(),
        low: at % 2 == 1,
        replicas: vec![(at, 2)],
        spare: u32::from(at == 0),
        pool: 0,
    };
    let budget = MilliWatts::from_watts(budget);
    FleetPower {
        laws: vec![law(1.0)],
        servers: (0..replicas).map(of).collect(),
        feed: Feed { budget, breaker: budget, ups: Some(budget), rack: 2, rise: Span(12 * MS), warm: Time::ZERO },
        rated: budget,
        policy,
        clocks: ClockRange { max: 1000, min: 100 },
        delays: Delays {
            period: Span(4 * MS),
            telemetry: Span(3 * MS),
            command: Span(12 * MS),
            brake: Span(5 * MS),
            warm: Time::ZERO,
        },
        spread: 0.0,
        brake: Brake { clock: 200, hold: Span(20 * MS) },
        resolution: Span(2 * MS),
        factor: 1.0,
        dedicated: false,
    }
}

/// Gives a world a row whose budget is often reached.
fn powered(mut world: World, seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0b0d);
    let replicas = world.spec.replicas;
    world.spec.devices = vec![device()];
    let policies = PowerPolicySpec::every();
    let policy = policies[rng.random_range(0..policies.len())];
    let budget = f64::from(replicas) * rng.random_range(420.0..900.0);
    let mut power = row(replicas, budget, policy);
    power.spread = [0.0, 0.7][rng.random_range(0..2)];
    power.dedicated = replicas > 1 && rng.random_range(0..3) == 0;
    power.factor = [1.0, 1.1][rng.random_range(0..2)];
    world.spec.power = Some(power);
    world
}

/// Gives some worlds limiters, with a row and without one.
fn limited(mut world: World, seed: u64) -> World {
    let limit = Some(Watts([125.0, 160.0][(seed / 3 % 2) as usize]));
    let every = Span([1, 2][(seed / 6 % 2) as usize] * MS);
    if seed.is_multiple_of(3) {
        world.spec.limiter = Some(GpuLimiter { laws: vec![law(1.0)], limit, every });
        if seed.is_multiple_of(2) {
            world.spec.power = None;
        }
    }
    world
}

fn figures(run: &Run) -> &PowerFigures {
    &run.result.summary.power.as_ref().unwrap().figures
}

/// Energy of the GPUs, summed by hand from readings of what each replica had done: at every span of the row, and whenever a point changed.
fn by_hand(world: &World, run: &Run) -> Energy {
    let power = world.spec.power.as_ref().unwrap();
    let (law, work) = (&power.laws[0], &world.spec.devices[0].work);
    let end = run.result.end;
    let mut sum = Energy::default();
    for replica in 0..world.spec.replicas {
        let mut before = (Time::ZERO, overbook_sim::fleet::Usage::default());
        let mut of = |at: Time, clock: f64, usage: overbook_sim::fleet::Usage| {
            let span = at.since(before.0);
            if span == Span::ZERO {
                return;
            }
            let done = usage - before.1;
            before = (at, usage);
            let mut activity = law.activity(work, done.work, span.as_secs_f64());
            activity.busy *= done.busy.0.min(span.0) as f64 / span.0 as f64;
            let idle = law.spec().idle.0;
            let demand = if done.busy == Span::ZERO { idle } else { law.demand(&activity, clock) };
            let demand = idle + (demand - idle) * power.factor;
            let limit = 400.0 * power.policy.cap().unwrap_or(1.0);
            // With limiters nothing is cut off.
            let watts = if world.spec.limiter.is_some() { demand } else { demand.min(limit) };
            sum += Energy(2 * MilliWatts::from_watts(watts).over(span).0);
        };
        let own = run.result.readings.iter().filter(|reading| reading.replica == replica && reading.at <= end);
        own.for_each(|reading| of(reading.at, reading.point.clock(), reading.usage));
    }
    sum
}

/// Law 13 with power on: single steps, jumps, and jumps that are settled at any moment agree in every figure of power. Law 10: the energy of the
/// readings is that of the parts, and that of the GPUs is what their work says by hand.
#[test]
fn meters_keep_the_laws() {
    let (mut commands, mut brakes, mut cycles, mut at_limit, mut two) = (0, 0, 0, 0, 0);
    let (mut held, mut alone) = (0, 0);
    for seed in 0..240 {
        let world = limited(powered(if seed % 4 == 0 { two_lanes(seed) } else { world(seed) }, seed), seed);
        let slow = world.run(How { audit: true, ..How::STEPS });
        let fast = world.run(How::JUMPS);
        assert_eq!(slow.difference(&fast), None, "world {seed}: {:?}", world.spec);
        assert_eq!(slow.result.summary.power, fast.result.summary.power, "world {seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let probes: Vec<Time> = (0..40).map(|_| Time(rng.random_range(0..=fast.result.end.0))).collect();
        let probed = world.run(How { probes: &probes, ..How::JUMPS });
        assert_eq!(fast.difference(&probed), None, "world {seed}, settled");
        assert_eq!(fast.result.summary.power, probed.result.summary.power, "world {seed}, settled");
        assert_eq!(slow.result.summary.limiter, fast.result.summary.limiter, "world {seed}");
        assert_eq!(fast.result.summary.limiter, probed.result.summary.limiter, "world {seed}, settled");
        two += u64::from(world.spec.limits.lanes.work().len() > 1);
        if let Some(limiter) = &fast.result.summary.limiter {
            held += u64::from(limiter.limited > Span::ZERO);
            let replicas = u64::from(world.spec.replicas);
            assert_eq!(limiter.span.0, fast.result.end.0 * replicas, "world {seed}: all of the time is looked at");
        }
        if world.spec.power.is_none() {
            alone += 1;
            continue;
        }
        let of = figures(&fast);
        assert_eq!(of.row.metered, of.row.parts.total(), "law 10 in world {seed}");
        assert_eq!(of.row.span, fast.result.end.since(Time::ZERO), "world {seed}: all of the time is metered");
        commands += of.control.commands;
        brakes += of.control.brakes;
        cycles += of.control.cycles;
        at_limit += u64::from(of.limited > 0.0 && world.spec.limiter.is_none());
    }
    eprintln!(
        "power: {commands} commands, {brakes} brakes, {cycles} cycles, {at_limit} worlds at the limit, {two} with two lanes, {alone} with limiters \
         alone, {held} whose limiters hold clocks down"
    );
    assert!(commands > 100 && brakes > 50 && cycles > 30 && at_limit > 3 && two > 30 && alone > 30 && held > 30);
}

/// The same with a reading at every span of the row and at the end, so that its energy can be summed by hand; one lane, so that a reading is one replica.
fn read_to_the_end(mut world: World) -> (World, Run) {
    let end = world.run(How::JUMPS).result.end;
    let looks = world.spec.limiter.as_ref().map_or(u64::MAX, |limiter| limiter.every.0);
    let resolution = world.spec.power.as_ref().unwrap().resolution.0.min(looks);
    let spans = (1..=end.0 / resolution).map(|n| Time(n * resolution));
    world.spec.controllers.readings = spans.chain([end]).collect();
    let run = world.run(How::JUMPS);
    assert_eq!(run.result.end, end, "readings change nothing");
    (world, run)
}

/// What the GPUs drew, by hand: that of the replicas, and of the spare GPU on the first server.
fn gpus_by_hand(world: &World, run: &Run) -> Energy {
    by_hand(world, run) + MilliWatts(100_000).over(run.result.end.since(Time::ZERO))
}

#[test]
fn energy_is_the_integral_of_power_by_hand() {
    let (mut long, mut exact) = (0, 0);
    for seed in 0..120 {
        let mut world = powered(world(seed), seed);
        if seed % 4 == 0 {
            let limit = Some(Watts(280.0));
            world.spec.limiter = Some(GpuLimiter { laws: vec![law(1.0)], limit, every: Span(MS) });
        }
        let (world, run) = read_to_the_end(world);
        let (got, by_hand) = (figures(&run).row.parts.gpus, gpus_by_hand(&world, &run));
        // Where a clock changes at the very moment of a reading, the reading comes before the rest of the step is priced anew and the meter looks
        // after it. The two roundings may differ by one operation or byte, which then counts in the next span: for each change two spans of
        // 2 ms, in which two GPUs draw 2 mW more or less at most.
        let points = |replica| run.result.readings.iter().filter(move |reading| reading.replica == replica);
        let changes =
            |replica| points(replica).zip(points(replica).skip(1)).filter(|(a, b)| a.point != b.point).count();
        let changes: usize = (0..world.spec.replicas).map(changes).sum();
        let apart = got.0.abs_diff(by_hand.0);
        assert!(apart <= changes as u128 * 2 * 2 * 2 * (2 * u128::from(MS)), "law 10 in world {seed}: {got} {by_hand}");
        exact += u64::from(apart == 0);
        long += u64::from(run.result.end > Time(40 * MS));
    }
    eprintln!("{exact} of 120 worlds whose clocks change are exact");
    assert!(long > 60 && exact > 100, "{long} {exact}");
    // With clocks that stay, all are.
    for seed in 0..120 {
        let mut steady = powered(world(seed), seed);
        let power = steady.spec.power.as_mut().unwrap();
        (power.policy, power.feed.budget) = (PowerPolicySpec::default(), MilliWatts::from_watts(1e6));
        let (world, run) = read_to_the_end(steady);
        assert_eq!(figures(&run).row.parts.gpus, gpus_by_hand(&world, &run), "law 10 in steady world {seed}");
    }
}

/// Replicas that decode at once, their power rising with their contexts: four draw 2.5 kW at the start and, after 1500 tokens, 4.3 kW.
fn heavy(replicas: u32, budget: f64, policy: PowerPolicySpec) -> World {
    heavy_for(1500, replicas, budget, policy)
}

/// The same for so many tokens.
fn heavy_for(tokens: u32, replicas: u32, budget: f64, policy: PowerPolicySpec) -> World {
    let requests = 6 * replicas;
    let arrivals = (0..requests).map(|n| Arrival::new(Time(u64::from(n) * MS / 4), 60, tokens)).collect();
    let spec = VllmSpec { max_num_seqs: 64, ..VllmSpec::default() };
    let mut world = World::vllm(spec, 4000, 16, 2000, arrivals);
    world.spec.replicas = replicas;
    world.spec.devices = vec![device()];
    world.spec.power = Some(FleetPower { laws: vec![law(15.0)], ..row(replicas, budget, policy) });
    let all = 4_000_000_000 / (2 * MS);
    world.spec.controllers.readings = (1..all).map(|n| Time(n * 2 * MS)).collect();
    world
}

fn polca() -> PowerPolicySpec {
    PowerPolicySpec::Polca(PolcaSpec::default())
}

/// When a replica's clock first was at most that, in a run's readings.
fn slowed(run: &Run, replica: u32, clock: f64) -> Option<Time> {
    let own = run.result.readings.iter().filter(|reading| reading.replica == replica);
    own.filter(|reading| reading.point.clock() <= clock + 1e-9).map(|reading| reading.at).min()
}

/// Law 8: above the budget all GPUs brake within telemetry and brake latency of the period's end.
fn brakes_in_time(run: &Run) -> Result<(), String> {
    let of = figures(run);
    let first = of.row.excursions.first.first().ok_or("the budget was never passed")?;
    // The period of the first excursion ends 4 ms after it began; its reading comes 3 ms later, the brake 5 ms after that.
    let due = first.at + Span(12 * MS);
    let braked = slowed(run, 0, 0.2).ok_or("nothing braked")?;
    // Readings come every 2 ms, before what happens at the same moment.
    if braked > due + Span(2 * MS) { Err(format!("braked at {braked}, due at {due}")) } else { Ok(()) }
}

#[test]
fn the_brake_holds_within_its_time() {
    let run = heavy(4, 2800.0, PowerPolicySpec::default()).run(How::JUMPS);
    let of = figures(&run);
    assert!(of.control.brakes > 3 && of.row.excursions.count > 3, "{:?}", of.control);
    brakes_in_time(&run).unwrap();
    // A brake holds for 20 ms, so servers are below full clock at least for that.
    assert!(of.control.braked >= Span(of.control.brakes * 20 * MS - 20 * MS), "{:?}", of.control);
    let late =
        heavy(4, 2800.0, PowerPolicySpec::default()).run(How { power: Some(PowerFault::LateBrake), ..How::JUMPS });
    assert!(brakes_in_time(&late).is_err(), "a brake that comes late is found");
}

/// Law 8 for commands: above the lower threshold the low servers have the base clock within telemetry and command latency.
#[test]
fn commands_land_within_their_time() {
    let budget = 4300.0;
    let world = heavy(4, budget, polca());
    let run = world.run(How::JUMPS);
    let of = figures(&run);
    assert_eq!(of.control.brakes, 0, "the ladder is enough: {:?}", of.row.peak);
    let lower = MilliWatts::from_watts(budget * 0.8);
    let above = of.curve.bins().find(|bin| bin.peak > lower).expect("it is passed");
    // A bin is a period of 4 ms here; 3 ms of telemetry and 12 ms of command.
    assert_eq!(of.curve.width(), Span(4 * MS));
    let due = above.from + of.curve.width() + Span(15 * MS) + Span(2 * MS);
    for low in [1, 3] {
        let at = slowed(&run, low, 0.905).expect("low servers slow down");
        assert!(at <= due, "server {low} at {at}, due at {due}");
    }
    assert!(slowed(&run, 0, 0.905).is_none(), "high priority keeps its clock");
    assert!(of.low.capped_share(of.row.span).unwrap() > 0.2 && of.high.capped < of.low.capped);
    assert!(of.control.commands >= 2 && of.control.cycles >= 1);
}

/// Law 10 finds energy that is counted at the wrong clock.
#[test]
fn a_span_at_the_wrong_clock_is_found() {
    let (world, run) = read_to_the_end(heavy(4, 4300.0, polca()));
    assert!(figures(&run).control.commands > 0);
    assert_eq!(figures(&run).row.parts.gpus, gpus_by_hand(&world, &run));
    let blind = world.run(How { power: Some(PowerFault::ClockBlind), ..How::JUMPS });
    assert_ne!(
        figures(&blind).row.parts.gpus,
        gpus_by_hand(&world, &blind),
        "a meter that is blind to clocks is found"
    );
}

/// Power as it is without delays stays within the budget where the ladder is deep enough for what comes within a period.
#[test]
fn an_oracle_has_no_excursion_where_polca_has() {
    let thresholds = ThresholdsSpec::Given(TwoThresholdsSpec { lower: 0.6, upper: 0.75 });
    let mut spec = PolcaSpec { thresholds, ..PolcaSpec::default() };
    (spec.clocks.low_base, spec.clocks.low, spec.clocks.high) = (Some(500), Some(200), Some(300));
    let count = |policy| {
        let run = heavy_for(60, 4, 2400.0, policy).run(How::JUMPS);
        figures(&run).row.excursions.count
    };
    let (oracle, late) = (count(PowerPolicySpec::Oracle(spec)), count(PowerPolicySpec::Polca(spec)));
    assert_eq!(oracle, 0);
    assert!(late > 0, "telemetry and commands that take time cost excursions");
}

/// Lower clocks draw less, and the same commands give the same clocks: a policy that is asked again for what holds does nothing.
#[test]
fn policies_draw_less_in_their_order() {
    let run = |policy| heavy(4, 4400.0, policy).run(How::JUMPS);
    let peak = |run: &Run| {
        // After all commands have landed.
        figures(run).curve.bins().filter(|bin| bin.from > Time(200 * MS)).map(|bin| bin.mean).max().unwrap()
    };
    let none = run(PowerPolicySpec::default());
    let low = run(PowerPolicySpec::OneThresholdLow(OneThresholdSpec { above: 0.5, hysteresis: 0.3, clock: Some(500) }));
    let all = OneThresholdSpec { above: 0.5, hysteresis: 0.3, clock: Some(500) };
    let all = run(PowerPolicySpec::OneThresholdAll(all));
    assert!(peak(&all) < peak(&low) && peak(&low) < peak(&none), "{} {} {}", peak(&all).0, peak(&low).0, peak(&none).0);
    assert_eq!((figures(&low).control.commands, figures(&all).control.commands), (2, 4), "each server is told once");
    assert_eq!(figures(&none).control.commands, 0);
    assert!(all.result.end >= low.result.end && low.result.end > none.result.end, "slower clocks take longer");
}

#[test]
fn dedicated_servers_get_requests_of_their_priority() {
    let mut world = heavy(4, 4400.0, PowerPolicySpec::default());
    world.spec.power.as_mut().unwrap().dedicated = true;
    for (n, arrival) in world.arrivals.iter_mut().enumerate() {
        arrival.priority = i32::from(n % 3 == 0);
    }
    let priorities: Vec<i32> = world.arrivals.iter().map(|arrival| arrival.priority).collect();
    let run = world.run(How::JUMPS);
    for row in &run.rows.requests {
        let low = priorities[row.request as usize] > 0;
        assert_eq!(row.replica % 2 == 1, low, "request {} on replica {}", row.request, row.replica);
    }
    let power = run.result.summary.power.as_ref().unwrap();
    assert_eq!((power.low.finished, power.high.finished), (8, 16));
}

#[test]
fn requests_with_a_home_go_there() {
    let mut world = heavy(3, 4400.0, PowerPolicySpec::default());
    world.spec.power = None;
    world.spec.devices.clear();
    world.spec.controllers.readings.clear();
    world.arrivals.iter_mut().for_each(|arrival| arrival.home = Some(2));
    let run = world.run(How::JUMPS);
    assert!(run.rows.requests.iter().all(|row| row.replica == 2));
    assert_eq!(run.result.summary.power, None);
}

/// Every GPU under a cap of its own: it draws less than that soon, and steps take longer.
#[test]
fn a_cap_slows_what_is_above_it() {
    let cap = overbook_sim::power::policies::PowerCapSpec { share: 0.5 };
    let run = |policy| {
        let mut world = heavy(2, 5000.0, policy);
        world.spec.power.as_mut().unwrap().laws = vec![law(1.0)];
        world.run(How::JUMPS)
    };
    let (none, capped) = (run(PowerPolicySpec::default()), run(PowerPolicySpec::PowerCap(cap)));
    assert!(slowed(&capped, 0, 0.9).is_some() && capped.result.end > none.result.end);
    let gpus = |run: &Run| figures(run).row.parts.gpus.mean_over(run.result.end.since(Time::ZERO)).as_watts_f64();
    // Four GPUs at 200 W and a spare one at rest.
    assert!(gpus(&capped) <= 4.0 * 200.0 + 100.0 + 1.0, "{}", gpus(&capped));
    assert!(gpus(&none) > gpus(&capped));
}

/// The limit of those limiters [W].
const LIMIT: f64 = 250.0;

/// Replicas whose draw rises with their contexts, with limiters of 250 W that look every 10 ms.
fn limited_heavy(row: bool) -> World {
    let mut world = heavy(2, 1e6, PowerPolicySpec::default());
    let laws = world.spec.power.as_ref().unwrap().laws.clone();
    world.spec.limiter = Some(GpuLimiter { laws, limit: Some(Watts(LIMIT)), every: Span(10 * MS) });
    if !row {
        world.spec.power = None;
    }
    world
}

/// Law 8 for the device's own limiter: ten times its reaction after the start no span between two readings is more than 5 % above the limit: by
/// what it has yet to see of a rising draw.
fn keeps_its_limit(world: &World, run: &Run) -> Result<(), String> {
    let (limiter, work) = (world.spec.limiter.as_ref().unwrap(), &world.spec.devices[0].work);
    let law = &limiter.laws[0];
    for replica in 0..world.spec.replicas {
        let own: Vec<_> = run.result.readings.iter().filter(|reading| reading.replica == replica).collect();
        for pair in own.windows(2).filter(|pair| pair[0].at > Time(500 * MS) && pair[1].at > pair[0].at) {
            let (done, span) = (pair[1].usage - pair[0].usage, pair[1].at.since(pair[0].at));
            let activity = law.activity(work, done.work, span.as_secs_f64());
            let busy = done.busy.0 as f64 / span.0 as f64;
            let watts = law.demand(&overbook_sim::power::Activity { busy, ..activity }, pair[1].point.clock());
            if watts > LIMIT * 1.05 {
                return Err(format!("{watts} W at {}", pair[1].at));
            }
        }
    }
    Ok(())
}

#[test]
fn limiters_keep_their_limit_and_slow_the_steps() {
    for row in [true, false] {
        let world = limited_heavy(row);
        let run = world.run(How::JUMPS);
        let free = World { spec: ClusterSpec { limiter: None, ..world.spec.clone() }, ..world.clone() }.run(How::JUMPS);
        keeps_its_limit(&world, &run).unwrap();
        let figures = run.result.summary.limiter.as_deref().unwrap();
        assert!(figures.limited_share().unwrap() > 0.3 && figures.mean_clock().unwrap() < 990.0, "{figures:?}");
        // It comes late, so that more was drawn for a while.
        assert!(figures.peak > MilliWatts::from_watts(LIMIT), "{figures:?}");
        assert!(run.result.end > free.result.end, "held clocks take longer: {} {}", run.result.end, free.result.end);
        let stuck = world.run(How { power: Some(PowerFault::StuckLimiter), ..How::JUMPS });
        assert!(keeps_its_limit(&world, &stuck).is_err(), "a limiter that lets all pass is found");
    }
}

/// A command below what the limiter would hold wins, and the limiter lets go under it.
#[test]
fn the_lowest_of_command_and_limiter_holds() {
    let run = |budget: f64| {
        let mut world = limited_heavy(true);
        world.spec.power.as_mut().unwrap().feed.budget = MilliWatts::from_watts(budget);
        world.run(How::JUMPS)
    };
    let (free, braked) = (run(1e6), run(1500.0));
    assert!(figures(&braked).control.brakes > 0 && figures(&free).control.brakes == 0);
    assert!(slowed(&braked, 0, 0.2).is_some(), "the brake is lower than the limiter");
    assert!(slowed(&free, 0, 0.2).is_none());
}
