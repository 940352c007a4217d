//! Stores of KV: other orders of eviction, and tiers below the GPUs, under the laws.

use std::collections::BTreeSet;

use overbook_sim::cost::Cost;
use overbook_sim::fleet::{Disaggregation, Failure, Leak, OutputLimit, RunError};
use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::kv::{KvTraffic, LoadRule, StoreSpec, TierSpec, WriteRule};
use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Content};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::combined::failing;
use crate::lanes::{apart, lawful};
use crate::world::{How, MS, World};
use crate::world_random::world;

/// Every policy that a live cache can have.
fn policies() -> Vec<EvictionSpec> {
    EvictionSpec::every().into_iter().map(|(_, spec)| spec).filter(|spec| !spec.needs().next_uses).collect()
}

/// The world of a seed, if it has a prefix cache, with a store of another kind and a cost per block that is felt.
fn stored(seed: u64) -> Option<World> {
    let mut world = world(seed);
    if !world.spec.limits.prefix_caching {
        return None;
    }
    world.spec.store = store(seed, (world.cost.base_us * 1e3) as u64);
    Some(world)
}

/// The same world with prompts and decodes on different replicas, some of which fail.
fn stored_apart(seed: u64) -> Option<World> {
    let plain = world(seed);
    if !plain.spec.limits.prefix_caching {
        return None;
    }
    let mut world = apart(seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x57_DA);
    world.set_scheduler(SchedulerSpec::Vllm(VllmSpec {
        enable_prefix_caching: true,
        async_scheduling: rng.random_range(0..2) == 0,
        scheduler_reserve_full_isl: rng.random_range(0..2) == 0,
        long_prefill_token_threshold: [0, 60][rng.random_range(0..2)],
        ..VllmSpec::default()
    }));
    failing(&mut world, &mut rng);
    world.spec.store = store(seed, (world.cost.base_us * 1e3) as u64);
    Some(world)
}

/// A store for steps of about `step` [ns].
fn store(seed: u64, step: u64) -> StoreSpec {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x57_0E);
    let policies = policies();
    let pick = |rng: &mut ChaCha8Rng| policies[rng.random_range(0..policies.len())].clone();
    let count = rng.random_range(0..4_usize);
    let tier = |number: usize, rng: &mut ChaCha8Rng, eviction| TierSpec {
        name: format!("tier {number}"),
        blocks: rng.random_range(1..=40),
        latency: Span(rng.random_range(0..=2 * step)),
        block_cost: Cost::from_ns((step * rng.random_range(1..=40) / 20) as f64),
        network: rng.random_range(0..3) == 0,
        write: if rng.random_range(0..2) == 0 { WriteRule::Through } else { WriteRule::Back },
        eviction,
    };
    let tiers = (0..count).map(|number| {
        let eviction = pick(&mut rng);
        tier(number, &mut rng, eviction)
    });
    let tiers: Vec<TierSpec> = tiers.collect();
    StoreSpec {
        eviction: pick(&mut rng),
        tiers,
        load: match rng.random_range(0..4) {
            0 => LoadRule::AtLeast(rng.random_range(1..100)),
            1 => LoadRule::Faster(Cost::from_ns(step as f64 / f64::from(rng.random_range(1..64_u32)))),
            _ => LoadRule::Always,
        },
        prefetch: rng.random_range(0..2) == 0,
        record: true,
        seed,
        instant: rng.random_range(0..4) == 0,
    }
}

fn traffic(run: &crate::world::Run) -> KvTraffic {
    run.result.summary.kv.clone().expect("the store is another one than vLLM's")
}

#[test]
fn laws_hold_over_random_stores() {
    let (mut worlds, mut sum, mut seen) = (0, overbook_sim::kv::TierTraffic::default(), BTreeSet::new());
    let (mut deep, mut evicted, mut asked, mut found) = (0, 0, 0, 0);
    for seed in 0..1500 {
        let Some(world) = stored(seed) else { continue };
        let slow = world.run(How { audit: true, ..How::STEPS });
        let fast = world.run(How::JUMPS);
        if let Some(what) = slow.difference(&fast) {
            panic!("world {seed} differs in {what}\n{:?}", world.spec);
        }
        assert_eq!(fast.rows.requests.len(), world.arrivals.len(), "law 1 in world {seed}");
        worlds += 1;
        seen.insert(world.spec.store.eviction.label());
        let kv = traffic(&fast);
        evicted += kv.evicted;
        for (number, tier) in kv.tiers.iter().enumerate() {
            let t = tier.traffic;
            sum = overbook_sim::kv::TierTraffic {
                loaded: sum.loaded + t.loaded,
                passed: sum.passed + t.passed,
                written: sum.written + t.written,
                dropped: sum.dropped + t.dropped,
                prefetched: sum.prefetched + t.prefetched,
                busy: sum.busy + t.busy,
            };
            deep += if number > 0 { t.loaded } else { 0 };
        }
        let bound = kv.bound.expect("the accesses are recorded");
        let faultless = world.spec.controllers.failures.is_empty() && world.spec.controllers.faults.is_none();
        assert!(bound.found <= bound.unlimited || !faultless, "world {seed} finds what nobody left: {bound:?}");
        assert!(bound.found <= bound.belady, "world {seed} beats the bound: {bound:?}\n{:?}", world.spec.store);
        (asked, found) = (asked + bound.asked, found + bound.found);
    }
    eprintln!(
        "stores: {worlds} worlds, {sum:?}, {deep} loaded from the second tier or below, {evicted} evicted, {found} of {asked} found"
    );
    let labels: BTreeSet<String> = policies().iter().map(EvictionSpec::label).collect();
    assert!(worlds > 300 && seen == labels, "{worlds} worlds with {seen:?}");
    assert!(sum.loaded > 1000 && sum.passed > 300 && sum.dropped > 1000 && sum.prefetched > 50 && deep > 100);
}

#[test]
fn settling_a_store_at_any_instants_changes_nothing() {
    for seed in 0..400 {
        let Some(world) = stored(seed) else { continue };
        let plain = world.run(How::JUMPS);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let end = plain.result.end.0;
        let probes: Vec<Time> = (0..40).map(|_| Time(rng.random_range(0..=end))).collect();
        for jumps in [true, false] {
            let probed = world.run(How { jumps, probes: &probes, ..How::STEPS });
            assert_eq!(plain.difference(&probed), None, "world {seed}, jumps {jumps}");
        }
    }
}

/// Laws 1, 2, 13 and 14 where KV moves between replicas, comes up from tiers, and is lost on the way.
#[test]
fn laws_hold_over_stores_apart_that_fail() {
    let (mut worlds, mut tiers, mut loaded, mut moved, mut failed) = (0, 0, 0, 0, 0);
    for seed in 0..1500 {
        let Some(world) = stored_apart(seed) else { continue };
        let prefill = world.spec.controllers.disaggregation.unwrap().prefill;
        let (run, _) = lawful(&world, seed);
        worlds += 1;
        tiers += u32::from(!world.spec.store.tiers.is_empty());
        loaded += traffic(&run).tiers.iter().map(|tier| tier.traffic.loaded).sum::<u64>();
        moved += run.rows.requests.iter().filter(|row| row.replica >= prefill).count();
        failed += run.result.summary.count(Outcome::Failed);
    }
    eprintln!(
        "stores apart: {worlds} worlds, {tiers} with tiers, {loaded} blocks loaded, {moved} moved, {failed} failed"
    );
    assert!(worlds > 300 && tiers > 200 && loaded > 1000 && moved > 2000 && failed > 500);
}

/// A block that is not given back when KV has been sent, and one that is not when it was loaded for nobody: law 2 sees both.
#[test]
fn a_block_that_is_lost_on_the_way_is_seen() {
    for (leak, least) in [(Leak::Sent, 100), (Leak::Loaded, 4)] {
        let seen = (0..600).filter_map(stored_apart).filter(|world| {
            let told = std::panic::catch_unwind(|| world.try_run(How { audit: true, leak: Some(leak), ..How::STEPS }));
            matches!(&told, Ok(Err(RunError::Audit { what, .. })) if what.contains("blocks"))
        });
        let seen = seen.count();
        eprintln!("stores apart: a leak of {leak:?} seen in {seen} worlds");
        assert!(seen > least, "{leak:?}: {seen}");
    }
}

/// A decoding replica fails while KV comes up for a request that was preempted there, and is back before it is there. What is sent
/// to it meanwhile waits for that, and is fetched then.
#[test]
fn a_load_for_nobody_keeps_nobody_waiting() {
    let mut world = again();
    world.spec.replicas = 2;
    world.spec.controllers.disaggregation = Some(Disaggregation {
        prefill: 1,
        latency: Span(MS),
        per_token: Cost::from_ns(1.0),
        layers: 1,
        max_seqs: 8,
        overflow: None,
    });
    // Two answers of 80 tokens beside prompts of 4 blocks outgrow 12 blocks: one is preempted, and its blocks are loaded again.
    let request = |at: u64, first: u64, output: u32| {
        let mut arrival = Arrival::new(Time(at * MS), 70, output);
        arrival.content = Some(Box::new(Content { block_tokens: 16, ids: (first..first + 4).collect() }));
        arrival
    };
    world.arrivals = vec![request(0, 100, 80), request(0, 200, 80), request(120, 300, 2)];
    world.spec.traffic.output_limit = OutputLimit::True;
    let mut slow = host(0.1, WriteRule::Through);
    slow.tiers[0].latency = Span(300 * MS);
    world.spec.store = slow;
    let down_for = Span(5 * MS);
    world.spec.controllers.failures = vec![Failure { at: Time(110 * MS), replicas: vec![1], down_for }];
    let (run, _) = lawful(&world, 0);
    let outcomes = [0, 1, 2].map(|request| run.row(request).outcome);
    assert_eq!(outcomes, [Outcome::Finished, Outcome::Failed, Outcome::Finished]);
    assert!(run.row(2).end > Time(150 * MS), "it waits for the load: {:?}", run.row(2));
}

/// Two prompts of ten blocks, one after the other, and the first one again; the pool holds one of them.
fn again() -> World {
    let request = |at: u64, first: u64| {
        let mut arrival = Arrival::new(Time(at * MS), 165, 2);
        arrival.content = Some(Box::new(Content { block_tokens: 16, ids: (first..first + 10).collect() }));
        arrival
    };
    let vllm = VllmSpec { enable_prefix_caching: true, async_scheduling: false, ..VllmSpec::default() };
    World::vllm(vllm, 12, 16, 190, vec![request(0, 100), request(100, 200), request(200, 100)])
}

fn host(block_ms: f64, write: WriteRule) -> StoreSpec {
    let tier = TierSpec {
        name: "host".into(),
        blocks: 64,
        latency: Span(MS / 4),
        block_cost: Cost::from_ns(block_ms * MS as f64),
        network: false,
        write,
        eviction: EvictionSpec::Lru,
    };
    StoreSpec { tiers: vec![tier], ..StoreSpec::default() }
}

#[test]
fn a_host_tier_gives_back_what_the_gpus_dropped() {
    let world = again();
    let without = world.run(How::STEPS);
    assert_eq!(without.row(2).cached_tokens, 16, "the second prompt took all blocks of the first but one");
    for write in [WriteRule::Through, WriteRule::Back] {
        let mut world = world.clone();
        world.spec.store = host(0.1, write);
        let run = world.run(How { audit: true, ..How::STEPS });
        let row = run.row(2);
        assert_eq!(row.cached_tokens, 160, "{write:?}");
        let tier = traffic(&run).tiers[0].traffic;
        assert_eq!((tier.loaded, tier.passed), (9, 0));
        // Nine blocks of 0.1 ms and 0.25 ms of latency, then a step of 1 ms.
        assert_eq!(row.first_token, Some(Time(200 * MS + 9 * MS / 10 + MS / 4 + MS)), "{write:?}");
        // Write back: the second prompt drops nine blocks of the first, and the third one nine of the second.
        assert_eq!(tier.written, if write == WriteRule::Through { 20 } else { 18 });
    }
}

#[test]
fn what_comes_later_than_it_is_computed_is_computed() {
    let mut world = again();
    world.spec.store = StoreSpec { load: LoadRule::Faster(Cost::from_ns(1e4)), ..host(5.0, WriteRule::Through) };
    let run = world.run(How { audit: true, ..How::STEPS });
    let tier = traffic(&run).tiers[0].traffic;
    assert_eq!((run.row(2).cached_tokens, tier.loaded, tier.passed), (16, 0, 9));
    // 144 tokens at 10 µs are 1.44 ms; nine blocks of 0.13 ms and 0.25 ms are less.
    world.spec.store.tiers[0].block_cost = Cost::from_ns(0.13 * MS as f64);
    let run = world.run(How { audit: true, ..How::STEPS });
    assert_eq!((run.row(2).cached_tokens, traffic(&run).tiers[0].traffic.loaded), (160, 9));
}

/// Blocks that came with a request from another replica are found by one that is served whole where they are.
#[test]
fn the_bound_counts_what_transfers_bring() {
    let mut world = again();
    world.arrivals[1].at = Time(100 * MS);
    world.arrivals[2].at = Time(100 * MS);
    world.spec.replicas = 2;
    world.spec.store = StoreSpec { record: true, ..StoreSpec::default() };
    world.spec.controllers.disaggregation = Some(Disaggregation {
        prefill: 1,
        latency: Span(MS),
        per_token: Cost::from_ns(1.0),
        layers: 1,
        max_seqs: 8,
        overflow: Some(0),
    });
    let run = world.run(How { audit: true, ..How::STEPS });
    let bound = traffic(&run).bound.expect("the accesses are recorded");
    assert_eq!(bound.found, 10, "the third prompt is served where the first one went: {bound:?}");
    assert!(bound.found <= bound.belady && bound.belady <= bound.unlimited, "{bound:?}");
}
