//! Fleets whose replicas differ: the laws hold across pools, each replica has its own pool's costs and limits, and routers weigh.

use overbook_sim::cost::Cost;
use overbook_sim::fleet::{Disaggregation, OutputLimit, ReplicaPool, StopReason};
use overbook_sim::results::rows::Outcome;
use overbook_sim::routers::RouterSpec;
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::serving::replica::Limits;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::Arrival;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::lanes::{apart, lawful, times, two_lanes};
use crate::world::{Affine, How, MS, World};
use crate::world_random::world;

/// The world of a seed: of one lane, of two, or with prompts and decodes apart.
pub fn any(seed: u64) -> World {
    let mut world = match seed % 4 {
        0 | 1 => world(seed),
        2 => two_lanes(seed),
        _ => apart(seed),
    };
    world.spec.controllers.autoscale = None;
    world
}

/// The world of a seed whose replicas are of two or three kinds: other pools, other costs, other weights.
pub fn mixed(seed: u64) -> World {
    into_pools(any(seed), seed)
}

fn into_pools(mut world: World, seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x9001);
    let routers = RouterSpec::every();
    world.spec.router = routers[rng.random_range(0..routers.len())].1;
    let (limits, moves) = (world.spec.limits, world.spec.controllers.disaggregation.is_some());
    let least = u64::from(limits.max_model_len).div_ceil(16);
    let mut left = world.spec.replicas.max(2);
    while left > 0 {
        let replicas = if world.spec.pools.is_empty() { rng.random_range(1..left) } else { rng.random_range(1..=left) };
        left -= replicas;
        // A request that moves must be taken wherever it goes.
        let max_model_len = if moves { limits.max_model_len } else { limits.max_model_len / rng.random_range(1..=2) };
        let blocks = least + rng.random_range(0..=least * 2);
        let weight = rng.random_range(1..=7);
        world.spec.pools.push(ReplicaPool {
            replicas,
            limits: Limits { blocks, max_model_len, ..limits },
            gpus: None,
            weight,
            autoscale: None,
            frontend: world.spec.traffic.frontend,
        });
    }
    let slower = |cost: Affine, by: f64| Affine {
        base_us: cost.base_us * by,
        seq_us: cost.seq_us * by,
        context_ns: cost.context_ns * by,
        token_us: cost.token_us * by,
        ..cost
    };
    let pools = world.spec.pools.len();
    world.others = (1..pools).map(|_| slower(world.cost, rng.random_range(5..60) as f64 / 10.0)).collect();
    world
}

#[test]
pub fn mixed_fleets_keep_the_laws() {
    let every = RouterSpec::every();
    let (mut pools, mut routers, mut preempted, mut moved) = ([0u64; 5], vec![0u64; every.len()], 0, 0);
    let (mut finished, mut outcomes) = ([0u64; 4], [0u64; Outcome::ALL.len()]);
    for seed in 0..800 {
        let world = mixed(seed);
        let (run, _) = lawful(&world, seed);
        let summary = &run.result.summary;
        pools[world.spec.pools.len()] += 1;
        routers[every.iter().position(|&(_, router)| router == world.spec.router).unwrap()] += 1;
        preempted += summary.work.preemptions;
        moved += u64::from(world.spec.controllers.disaggregation.is_some());
        // What the pools have is what the fleet has.
        let sum =
            |of: fn(&overbook_sim::results::summary::PoolSummary) -> u64| summary.pools.iter().map(of).sum::<u64>();
        assert_eq!(sum(|pool| pool.finished), summary.count(Outcome::Finished), "world {seed}");
        assert_eq!(sum(|pool| pool.finished + pool.others), summary.served(), "world {seed}");
        assert_eq!(sum(|pool| pool.good), summary.attained.all, "world {seed}");
        assert_eq!(sum(|pool| pool.blocks), summary.fleet.blocks, "world {seed}");
        assert_eq!(sum(|pool| pool.output_tokens), summary.tokens.finished_output, "world {seed}");
        let busy = sum(|pool| pool.busy.0);
        // Each lane's time is cut to whole nanoseconds once, and once for each of its segments.
        assert!(busy.abs_diff(summary.work.busy.0) <= summary.work.segments + 16, "world {seed}: {busy}");
        for (at, pool) in summary.pools.iter().enumerate() {
            finished[at] += pool.finished;
        }
        for (sum, n) in outcomes.iter_mut().zip(summary.outcomes) {
            *sum += n;
        }
    }
    eprintln!(
        "pools: worlds by number {pools:?}, by router {routers:?}, finished by pool {finished:?}, {outcomes:?}, {preempted} \
         preemptions, {moved} worlds apart"
    );
    assert!(pools[2] > 300 && pools[3] > 30 && routers.iter().all(|&n| n > 50) && moved > 150, "{pools:?}");
    assert!(finished[..3].iter().all(|&n| n > 300) && outcomes.iter().all(|&n| n > 100) && preempted > 1000);
}

/// Every scheduler plans each kind of replica by its own limits: horizons are kept, and no replica stalls.
#[test]
fn every_scheduler_serves_mixed_fleets() {
    for (name, spec) in SchedulerSpec::every() {
        let mut plans = 0;
        for seed in 1000..1024 {
            let mut world = world(seed);
            world.spec.controllers.autoscale = None;
            world.set_scheduler(spec.clone());
            let (run, _) = lawful(&into_pools(world, seed), seed);
            let summary = &run.result.summary;
            assert_eq!(summary.pools.iter().map(|pool| pool.replicas).sum::<u32>(), summary.fleet.replicas);
            plans += run.result.effort.plans;
        }
        eprintln!("pools: {name}, {plans} plans");
        assert!(plans > 300, "{name}: {plans} plans");
    }
}

/// A jump that is one step too long is noticed in mixed fleets too.
#[test]
fn a_planted_fault_is_seen() {
    let seen = |reason| {
        (0..200).filter(move |&seed| {
            let world = mixed(seed * 4);
            let fast = std::panic::catch_unwind(|| world.try_run(How { planted: Some(reason), ..How::JUMPS }));
            let slow = world.run(How::STEPS);
            !matches!(&fast, Ok(Ok(fast)) if slow.difference(fast).is_none())
        })
    };
    for reason in [StopReason::Leave, StopReason::Blocks, StopReason::Arrival] {
        let seen = seen(reason).count();
        eprintln!("pools: {reason:?} off by one seen in {seen} of 200 worlds");
        assert!(seen > 5, "{reason:?}");
    }
}

/// Pools of the same kind are the uniform fleet, bit for bit; another cost in one of them is not.
#[test]
fn equal_pools_are_the_uniform_fleet() {
    let (mut compared, mut differ) = (0, 0);
    for seed in 0..400 {
        let uniform = any(seed);
        let replicas = uniform.spec.replicas;
        if replicas < 2 {
            continue;
        }
        let mut split = uniform.clone();
        let (limits, weight) = (uniform.spec.limits, 1 + (seed % 3) as u32);
        split.spec.pools = [1, replicas - 1]
            .map(|replicas| ReplicaPool { replicas, limits, gpus: None, weight, autoscale: None, frontend: None })
            .into();
        split.others = vec![uniform.cost];
        let (one, two) = (uniform.run(How::JUMPS), split.run(How::JUMPS));
        assert_eq!(one.difference(&two), None, "world {seed}");
        assert_eq!(one.result.summary.fleet, two.result.summary.fleet);
        split.others[0].base_us *= 1.5;
        differ += u64::from(one.difference(&split.run(How::JUMPS)).is_some());
        compared += 1;
    }
    eprintln!("pools: {compared} worlds compared, {differ} differ with another cost");
    assert!(compared > 200 && differ * 10 > compared * 8);
}

/// Replicas of vLLM without overlap: `costs` [ms] of a step in each pool, one replica each, with these weights.
fn by_hand(costs: &[u64], weights: &[u32], router: RouterSpec, arrivals: Vec<Arrival>) -> World {
    let spec = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
    let mut world = World::vllm(spec, 64, 16, 512, arrivals);
    let limits = world.spec.limits;
    world.spec.pools = weights
        .iter()
        .map(|&weight| ReplicaPool { replicas: 1, limits, gpus: None, weight, autoscale: None, frontend: None })
        .collect();
    world.cost = Affine::constant(costs[0] * MS);
    world.others = costs[1..].iter().map(|&ms| Affine::constant(ms * MS)).collect();
    world.spec.router = router;
    world.spec.traffic.output_limit = OutputLimit::True;
    world
}

fn at_once(n: u64, output: u32) -> Vec<Arrival> {
    (0..n).map(|_| Arrival::new(Time(0), 10, output)).collect()
}

/// Steps of 1 ms on one replica and of 3 ms on the other: in turns, two requests of three tokens end at 3 and 9 ms.
#[test]
fn each_replica_has_its_own_costs_and_limits() {
    let mut world = by_hand(&[1, 3], &[1, 1], RouterSpec::RoundRobin, at_once(2, 3));
    assert_eq!(times(&world.run(How::JUMPS)), [(1000, 3000), (3000, 9000)]);
    let pools = world.run(How::JUMPS).result.summary.pools;
    assert_eq!(pools.iter().map(|pool| (pool.finished, pool.busy.0 / MS)).collect::<Vec<_>>(), [(1, 3), (1, 9)]);
    assert_eq!(pools[1].utilization(Span(18 * MS)), Some(0.5));
    // A prompt of ten tokens is more than the second replica takes: the router does not look at that, and it is refused there.
    world.spec.pools[1].limits.max_model_len = 10;
    let run = world.run(How::JUMPS);
    assert_eq!((run.row(0).outcome, run.row(1).outcome), (Outcome::Finished, Outcome::Rejected));
}

#[test]
fn routers_weigh() {
    let chosen = |weights: &[u32], router, n| {
        let run = by_hand(&vec![10; weights.len()], weights, router, at_once(n, 9)).run(How::JUMPS);
        (0..n).map(|request| run.row(request).replica).collect::<Vec<_>>()
    };
    // nginx' own example: weights 5, 1, 1 give a, a, b, a, c, a, a.
    assert_eq!(chosen(&[5, 1, 1], RouterSpec::RoundRobin, 7), [0, 0, 1, 0, 2, 0, 0]);
    // (n + 1) ÷ weight: 1/1 against 1/3, 2/3, 3/3 (a tie goes to the lower number), 4/3; then 2/1 against 3/3 …
    assert_eq!(chosen(&[1, 3], RouterSpec::LeastOutstanding, 8), [1, 1, 0, 1, 1, 1, 0, 1]);
    // The same in prompt tokens, ten each.
    assert_eq!(chosen(&[1, 3], RouterSpec::TokenJsq, 8), [1, 1, 0, 1, 1, 1, 0, 1]);
    // Of two replicas both are drawn every time.
    assert_eq!(chosen(&[1, 3], RouterSpec::PowerOfTwo, 8), [1, 1, 0, 1, 1, 1, 0, 1]);
    let drawn = chosen(&[1, 3], RouterSpec::Random, 4000);
    let second = drawn.iter().filter(|&&replica| replica == 1).count();
    assert!((2880..3120).contains(&second), "{second} of 4000, three quarters wanted");
}

/// By the share of the pool: with 64 and 16 blocks and requests of one block, the first is chosen until it holds four.
#[test]
fn least_kv_looks_at_shares() {
    let arrivals = (0..6).map(|i| Arrival::new(Time(i * MS + 1), 10, 300)).collect();
    let mut world = by_hand(&[1, 1], &[1, 1], RouterSpec::LeastKv, arrivals);
    world.spec.pools[1].limits.blocks = 16;
    world.spec.pools[1].limits.max_model_len = 256;
    let run = world.run(How::JUMPS);
    let chosen: Vec<_> = (0..6).map(|request| run.row(request).replica).collect();
    // 0/64 = 0/16: the first; 1/64 > 0/16: the second; then 1/64, 2/64, 3/64 < 1/16; and 4/64 = 1/16, where fewer requests are.
    assert_eq!(chosen, [0, 1, 0, 0, 0, 1]);
}

/// Splitwise-HA: prompts on the fast kind, decodes on the slow one. A prompt of 1 ms, 2 ms for the KV of ten tokens, two steps of 3 ms.
#[test]
fn prompts_on_one_kind_and_decodes_on_another() {
    let mut world = by_hand(&[1, 3], &[1, 1], RouterSpec::RoundRobin, at_once(1, 3));
    let (latency, per_token) = (Span(0), Cost::from_us(200.0));
    world.spec.controllers.disaggregation =
        Some(Disaggregation { prefill: 1, latency, per_token, layers: 1, max_seqs: 8, overflow: None });
    assert_eq!(times(&world.run(How::JUMPS)), [(1000, 9000)]);
    // Three replicas that decode, one of them with twice the weight: two of four requests go there.
    let mut world = by_hand(&[1, 3, 3, 3], &[1, 1, 2, 1], RouterSpec::RoundRobin, at_once(4, 9));
    world.spec.controllers.disaggregation =
        Some(Disaggregation { prefill: 1, latency, per_token: Cost(0), layers: 1, max_seqs: 8, overflow: None });
    let run = world.run(How::JUMPS);
    let decoded = (0..4).filter(|&request| run.row(request).replica == 2).count();
    assert_eq!(decoded, 2);
}
