//! A pool with the memory of the host below it, and pools with other orders of eviction: blocks come up as they went down, and the
//! simulator makes the same batches and the same copies.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use overbook_engine::config::Config;
use overbook_engine::cpu::CpuExecutor;
use overbook_engine::cuda::{CudaExecutor, Model};
use overbook_engine::executor::{Batch, Capacity, Copied, Executor, ExecutorError, Output, Rehearsal, Seat, TierCopy};
use overbook_engine::parity::replay;
use overbook_engine::run::{EngineError, Measured, run};
use overbook_engine::weights::{Dtype, Loud, Weights};
use overbook_sim::cost::Cost;
use overbook_sim::fleet::ClusterSpec;
use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::kv::{KvTraffic, LoadRule, StoreSpec, TierSpec, TierTraffic, WriteRule};
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::serving::QueueOrder;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Content};

use crate::emulator::emulated;
use crate::parity::{self, BLOCK, Given, LONGEST};

/// A tier of so many blocks.
fn host(blocks: u32, write: WriteRule) -> TierSpec {
    TierSpec {
        name: "host".to_owned(),
        blocks,
        latency: Span(10_000),
        block_cost: Cost::from_ns(50_000.0),
        network: false,
        write,
        eviction: EvictionSpec::Lru,
    }
}

fn store(blocks: u32, write: WriteRule) -> StoreSpec {
    StoreSpec { tiers: vec![host(blocks, write)], record: true, ..StoreSpec::default() }
}

fn traffic(measured: &Measured) -> &KvTraffic {
    measured.result.summary.kv.as_ref().expect("a store that is not vLLM's")
}

fn tier(measured: &Measured) -> TierTraffic {
    traffic(measured).tiers[0].traffic
}

/// Requests on the rehearsal, which checks every position, and then on the simulator.
fn rehearsed(name: &str, spec: &ClusterSpec, arrivals: Vec<Arrival>) -> Measured {
    let count = arrivals.len();
    let measured = run(spec, &mut Given(arrivals.into_iter()), parity::rehearsal(spec), &mut |_| true);
    let measured = measured.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(measured.rows.len(), count, "{name}: every request ends (law 1)");
    let parity = replay(spec, &measured).unwrap_or_else(|error| panic!("{name}: {error}"));
    parity::expect_parity(name, &parity);
    measured
}

#[test]
fn the_simulator_makes_the_batches_and_copies_of_an_engine_with_a_tier() {
    let (mut schedulers, mut sum, mut preempted) = (0, TierTraffic::default(), 0);
    for (seed, (name, scheduler)) in (0..).zip(parity::schedulers()) {
        let needs = scheduler.needs();
        if !needs.prefix_caching || needs.order == QueueOrder::Keyed {
            continue;
        }
        schedulers += 1;
        for write in [WriteRule::Through, WriteRule::Back] {
            for load in [LoadRule::Always, LoadRule::AtLeast(3 * BLOCK), LoadRule::Faster(Cost::from_ns(20_000.0))] {
                let store = StoreSpec { load, ..store(40, write) };
                let spec = ClusterSpec { store, ..parity::spec(scheduler.clone(), seed) };
                let measured = rehearsed(&format!("{name}, {write:?}, {load:?}"), &spec, parity::arrivals(seed, 60));
                let TierTraffic { loaded, written, dropped, passed, .. } = tier(&measured);
                sum.loaded += loaded;
                sum.written += written;
                sum.dropped += dropped;
                sum.passed += passed;
                preempted += measured.rows.iter().map(|row| row.preemptions).sum::<u32>();
            }
        }
    }
    println!("{schedulers} schedulers, {preempted} preemptions, {sum:?}");
    assert!(schedulers >= 3 && preempted > 20, "{schedulers} schedulers, {preempted} preemptions");
    assert!(sum.loaded > 200 && sum.written > 1000 && sum.dropped > 500 && sum.passed > 50, "{sum:?}");
}

#[test]
fn the_simulator_makes_the_batches_of_an_engine_with_any_order_of_eviction() {
    let mut evicted = 0;
    for (seed, (name, eviction)) in (0..).zip(EvictionSpec::every()) {
        if eviction.needs().next_uses {
            continue;
        }
        let tier = TierSpec { eviction: eviction.clone(), ..host(40, WriteRule::Back) };
        for tiers in [vec![], vec![tier]] {
            let store = StoreSpec { eviction: eviction.clone(), tiers, seed, ..StoreSpec::default() };
            let spec = ClusterSpec { store, ..parity::spec(SchedulerSpec::default(), seed) };
            let measured = rehearsed(name, &spec, parity::arrivals(seed, 60));
            evicted += measured.result.summary.kv.as_ref().map_or(0, |kv| kv.evicted);
        }
    }
    assert!(evicted > 1000, "{evicted} blocks evicted");
}

/// What sequences have drawn: by prompt and position.
type Drawn = BTreeMap<Vec<u32>, BTreeMap<u32, u32>>;

/// An executor that hears what another one draws, and may copy to wrong places.
struct Heard {
    inner: Box<dyn Executor>,
    prompts: BTreeMap<Seat, Vec<u32>>,
    /// Prompts and positions of the tokens of steps that are out.
    out: VecDeque<Vec<(Vec<u32>, u32)>>,
    drawn: Arc<Mutex<Drawn>>,
    misplaces: bool,
}

impl Executor for Heard {
    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }

    fn submit(&mut self, lane: usize, batch: Batch) -> Result<(), ExecutorError> {
        for begin in &batch.begins {
            self.prompts.insert(begin.seat, begin.prompt.clone());
        }
        let samples = batch.sequences.iter().filter(|sequence| sequence.samples);
        self.out.push_back(samples.map(|s| (self.prompts[&s.seat].clone(), s.past + s.tokens)).collect());
        self.inner.submit(lane, batch)
    }

    fn wait(&mut self, lane: usize) -> Result<Output, ExecutorError> {
        let output = self.inner.wait(lane)?;
        let places = self.out.pop_front().expect("a step is out");
        let mut drawn = self.drawn.lock().expect("no panic");
        for ((prompt, position), (_, token)) in places.into_iter().zip(&output.tokens) {
            let before = drawn.entry(prompt).or_default().insert(position, *token);
            assert!(self.misplaces || before.is_none_or(|before| before == *token), "one prefix, two tokens");
        }
        Ok(output)
    }

    fn copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        let mut copies = copies.to_vec();
        if self.misplaces {
            let slots = self.capacity().host_blocks;
            copies.iter_mut().filter(|copy| !copy.up).for_each(|copy| copy.slot = (copy.slot + 1) % slots);
        }
        self.inner.copy(&copies)
    }

    fn copied(&mut self) -> Result<Copied, ExecutorError> {
        self.inner.copied()
    }

    fn give_contexts(&mut self) -> Result<(), ExecutorError> {
        self.inner.give_contexts()
    }

    fn ready(&mut self, lane: usize) -> Result<bool, ExecutorError> {
        self.inner.ready(lane)
    }
}

const OUTPUT: u32 = 6;
/// Longest sequence of the families, and more.
const ROOM: u32 = 80;
const FAMILIES: u64 = 5;

/// Prompts of five families, one after the other and again: what one has left in a small pool is gone when it comes again.
fn families() -> Vec<Arrival> {
    let request = |number: u64| {
        let mut arrival = Arrival::new(Time(number), 6 * BLOCK + 3 + (number % 7) as u32, OUTPUT);
        let ids = (0..5).map(|index| (number % FAMILIES) * 100 + index).chain([1000 + number]).collect();
        arrival.content = Some(Box::new(Content { block_tokens: BLOCK, ids }));
        arrival
    };
    (0..4 * FAMILIES).map(request).collect()
}

/// Two layers of keys and values of two heads of 32 numbers in bf16.
const BLOCK_BYTES: u64 = 2 * 2 * 2 * 32 * 2 * BLOCK as u64;

fn model() -> Config {
    let tiny = Config::preset("tiny").expect("a preset");
    Config { layers: 2, hidden: 64, intermediate: 96, heads: 4, kv_heads: 2, vocab: 256, ..tiny }
}

const SOURCE: Loud = Loud { seed: 3, factor: 8.0 };

fn capacity(spec: &ClusterSpec) -> Capacity {
    Capacity {
        blocks: spec.limits.blocks as u32,
        block_tokens: BLOCK,
        max_model_len: ROOM,
        vocab: 256,
        step_tokens: 160,
        sequences: 4,
        lanes: parity::lanes(spec),
        host_blocks: spec.store.tiers.first().map_or(0, |tier| tier.blocks),
    }
}

fn on_cpu(capacity: Capacity) -> Box<dyn Executor> {
    let weights = Weights::from_source(&model(), &SOURCE, Dtype::Bf16).expect("weights");
    Box::new(CpuExecutor::new(model(), Arc::new(weights), capacity, 1).expect("an executor"))
}

/// A pool of so many blocks, for so many requests at once.
fn small(blocks: u64, seqs: u32, ahead: bool, store: StoreSpec) -> ClusterSpec {
    let vllm = VllmSpec {
        max_num_seqs: seqs,
        max_num_batched_tokens: 160,
        async_scheduling: ahead,
        enable_prefix_caching: true,
        ..VllmSpec::default()
    };
    let scheduler = SchedulerSpec::Vllm(vllm);
    let limits = scheduler.needs().limits(blocks, BLOCK, ROOM);
    ClusterSpec { limits, scheduler, seed: 9, store, ..ClusterSpec::default() }
}

/// The tokens of the families on an executor.
fn tokens(
    spec: &ClusterSpec,
    open: &dyn Fn(Capacity) -> Box<dyn Executor>,
    misplaces: bool,
) -> Result<(Measured, Drawn), EngineError> {
    let drawn = Arc::new(Mutex::new(Drawn::new()));
    let heard = Heard {
        inner: open(capacity(spec)),
        prompts: BTreeMap::new(),
        out: VecDeque::new(),
        drawn: drawn.clone(),
        misplaces,
    };
    let measured = run(spec, &mut Given(families().into_iter()), Box::new(heard), &mut |_| true)?;
    let mut drawn = std::mem::take(&mut *drawn.lock().expect("no panic"));
    for (prompt, drawn) in &mut drawn {
        // A step that was planned ahead draws a token after the last one, which nobody gets.
        let end = prompt.len() as u32 + OUTPUT;
        drawn.retain(|position, _| *position < end);
        assert_eq!(drawn.len(), OUTPUT as usize);
    }
    assert_eq!(drawn.len() as u64, 4 * FAMILIES);
    Ok((measured, drawn))
}

#[test]
fn tokens_do_not_depend_on_where_blocks_have_been() {
    let (_, wanted) = tokens(&small(600, 2, true, StoreSpec::default()), &on_cpu, false).expect("runs");
    for write in [WriteRule::Through, WriteRule::Back] {
        for ahead in [false, true] {
            let spec = small(20, 2, ahead, store(60, write));
            let (measured, got) = tokens(&spec, &on_cpu, false).expect("runs");
            assert_eq!(wanted, got, "{write:?}, ahead {ahead}");
            parity::expect_parity("on the CPU", &replay(&spec, &measured).expect("replays"));
            let tier = tier(&measured);
            assert!(tier.loaded >= 20 && tier.written >= 30, "{tier:?}");
            let copied = measured.copied.expect("a tier");
            assert_eq!((copied.up.bytes, copied.down.bytes), (tier.loaded * BLOCK_BYTES, tier.written * BLOCK_BYTES));
            assert_eq!(u128::from(tier.busy), (copied.up.time + copied.down.time).as_nanos());
            assert!(tier.busy > 0 && traffic(&measured).bound.is_some());
        }
    }
}

#[test]
fn a_copy_to_the_wrong_slot_is_found() {
    let spec = small(20, 2, true, store(60, WriteRule::Through));
    let (_, wanted) = tokens(&spec, &on_cpu, false).expect("runs");
    let (measured, got) = tokens(&spec, &on_cpu, true).expect("runs");
    assert!(tier(&measured).loaded > 0);
    assert_ne!(wanted, got);
    // The rehearsal finds it at once.
    let rehearsal =
        |capacity| -> Box<dyn Executor> { Box::new(Rehearsal::new(capacity, Duration::ZERO, Duration::ZERO)) };
    tokens(&spec, &rehearsal, false).expect("runs");
    let found = tokens(&spec, &rehearsal, true).map(|_| ()).expect_err("found").to_string();
    assert!(found.contains("has other KV"), "{found}");
}

/// One request at a time: the same batches with a tier and without, so that sums are taken in the same order.
#[test]
fn a_gpu_draws_the_same_tokens_with_a_tier() {
    emulated("tier::a_gpu_draws_the_same_tokens_with_a_tier", &[], || {
        let model = Model::load(0, model(), &SOURCE).expect("a model");
        let on_gpu = |capacity| -> Box<dyn Executor> {
            Box::new(CudaExecutor::new(model.clone(), capacity).expect("an executor"))
        };
        let large = small(600, 1, true, StoreSpec::default());
        let (_, wanted) = tokens(&large, &on_gpu, false).expect("runs");
        for write in [WriteRule::Through, WriteRule::Back] {
            let spec = small(20, 1, true, store(80, write));
            let (measured, got) = tokens(&spec, &on_gpu, false).expect("runs");
            assert_eq!(wanted, got, "{write:?}");
            let tier = tier(&measured);
            assert!(tier.loaded >= 20 && tier.written >= 30, "{tier:?}");
            let copied = measured.copied.expect("a tier");
            assert_eq!((copied.up.bytes, copied.down.bytes), (tier.loaded * BLOCK_BYTES, tier.written * BLOCK_BYTES));
            let (_, wrong) = tokens(&spec, &on_gpu, true).expect("runs");
            assert_ne!(wanted, wrong, "a copy to the wrong slot is found");
        }
        // And but for ties, where rounding decides, they are the CPU's.
        let (_, cpu) = tokens(&large, &on_cpu, false).expect("runs");
        let same = cpu.values().flatten().zip(wanted.values().flatten()).filter(|(a, b)| a == b).count();
        println!("{same} of {} tokens are the CPU's", cpu.values().map(BTreeMap::len).sum::<usize>());
        assert!(same as u64 > 4 * FAMILIES * u64::from(OUTPUT) * 3 / 4, "{same}");
    });
}

#[test]
fn what_does_not_fit_or_is_not_there_is_refused() {
    let refused = |spec: &ClusterSpec| {
        let executor = parity::rehearsal(&ClusterSpec { store: StoreSpec::default(), ..spec.clone() });
        let ran = run(spec, &mut Given(Vec::new().into_iter()), executor, &mut |_| true);
        ran.map(|_| ()).expect_err("refused").to_string()
    };
    let with = |store| ClusterSpec { store, ..parity::spec(SchedulerSpec::default(), 0) };
    let two = StoreSpec { tiers: vec![host(4, WriteRule::Back); 2], ..StoreSpec::default() };
    assert!(refused(&with(two)).contains("leave one in `engine.prefix_cache.tiers`"));
    let far = TierSpec { network: true, ..host(4, WriteRule::Back) };
    let far = StoreSpec { tiers: vec![far], ..StoreSpec::default() };
    assert!(refused(&with(far)).contains("remove `over_network`"));
    let said = refused(&with(store(4, WriteRule::Back)));
    assert!(said.contains("keeps 0 blocks on the host; 4 are needed"), "{said}");
    // More than any machine has.
    let weights = Arc::new(Weights::from_source(&model(), &SOURCE, Dtype::Bf16).expect("weights"));
    let huge = Capacity { host_blocks: u32::MAX, block_tokens: 4096, ..Capacity::unbounded(1, BLOCK, LONGEST, 256) };
    let said = CpuExecutor::new(model(), weights, huge, 1).map(|_| ()).expect_err("refused").to_string();
    assert!(said.starts_with("the host's tier takes ") && said.contains(" MiB"), "{said}");
}
