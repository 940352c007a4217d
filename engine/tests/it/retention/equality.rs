//! What retention must not change: anything, with a budget for all tokens; a sequence, whatever runs beside it.

use overbook_engine::config::{Config, Family};
use overbook_engine::cpu::Model;
use overbook_engine::executor::Sequence;
use overbook_engine::retention::{Place, Retention};
use overbook_engine::weights::Dtype;
use overbook_sim::counter::draw;
use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};

use super::{BLOCK, VOCAB, capacity, config, extras, model, part, policies, tokens, weights};

const SEED: u64 = 3;

/// Lengths of chunks from a key, which add up to a length: short ones and long ones.
fn chunks(length: usize, key: u64) -> Vec<usize> {
    let mut left = length;
    let mut chunks = Vec::new();
    for index in 0.. {
        if left == 0 {
            break;
        }
        let most = if draw(key, index).is_multiple_of(3) { 20 } else { 3 };
        let chunk = (1 + draw(key, 1000 + index) as usize % most).min(left);
        chunks.push(chunk);
        left -= chunk;
    }
    chunks
}

/// A sequence that runs in a seat of its own, in chunks.
struct Run {
    seat: u32,
    tokens: Vec<u32>,
    chunks: Vec<usize>,
    table: Vec<u32>,
    /// Logits after each chunk, and what was kept.
    seen: Vec<(Vec<f32>, Vec<Vec<u32>>)>,
    past: usize,
}

impl Run {
    fn new(seat: u32, length: usize, key: u64) -> Run {
        let blocks = (length as u32).div_ceil(BLOCK);
        let table = (0..blocks).map(|block| seat * 50 + (block * 3) % 50).collect();
        Run { seat, tokens: tokens(length, key), chunks: chunks(length, key), table, seen: Vec::new(), past: 0 }
    }

    fn next(&self) -> Option<Sequence> {
        let chunk = self.chunks.get(self.seen.len())?;
        Some(part(self.seat, self.past, *chunk, true))
    }
}

/// Computes the next chunk of some sequences in one step.
fn step(model: &mut Model, config: &Config, runs: &mut [&mut Run]) {
    let sequences: Vec<Sequence> = runs.iter().filter_map(|run| run.next()).collect();
    let inputs = runs.iter().zip(&sequences).flat_map(|(run, sequence)| {
        let past = sequence.past as usize;
        run.tokens[past..past + sequence.tokens as usize].to_vec()
    });
    let inputs: Vec<u32> = inputs.collect();
    let tables: Vec<Vec<u32>> = runs.iter().map(|run| run.table.clone()).collect();
    let tables: Vec<&[u32]> = tables.iter().map(|table| &table[..]).collect();
    let logits = model.forward(&inputs, &sequences, &tables).to_vec();
    for ((run, logits), sequence) in runs.iter_mut().zip(logits.chunks(VOCAB as usize)).zip(&sequences) {
        run.past += sequence.tokens as usize;
        let places = (0..config.layers).flat_map(|layer| (0..config.kv_heads).map(move |head| (layer, head)));
        let kept = places.filter_map(|(layer, head)| model.kept(Place { seat: run.seat, layer, head }));
        run.seen.push((logits.to_vec(), kept.map(<[u32]>::to_vec).collect()));
    }
}

#[test]
fn with_a_budget_for_all_tokens_every_bit_is_that_of_full_attention() {
    let mut compared = 0;
    for (family, dtype) in [(Family::Llama, Dtype::F32), (Family::Qwen3, Dtype::Bf16)] {
        let config = config(family);
        let mut plain = Model::new(config.clone(), weights(&config, SEED, dtype), &capacity(&config, 200)).unwrap();
        for (policy, key) in policies().into_iter().zip(100..) {
            // As long as the longest sequence, and not a token more.
            let mut model = model(&config, &RetentionSpec::strict(policy, 61), SEED, dtype);
            for key in [key, key + 50] {
                let mut runs = [Run::new(0, 61, key), Run::new(1, 40, key + 7), Run::new(2, 17, key + 9)];
                while runs.iter().any(|run| run.next().is_some()) {
                    let mut going: Vec<&mut Run> = runs.iter_mut().filter(|run| run.next().is_some()).collect();
                    step(&mut model, &config, &mut going);
                }
                for run in &runs {
                    // The whole up to each chunk's end, alone and at once.
                    let mut end = 0;
                    for (chunk, (logits, kept)) in run.chunks.iter().zip(&run.seen) {
                        end += chunk;
                        let whole = [part(0, 0, end, true)];
                        let wanted = plain.forward(&run.tokens[..end], &whole, &[&run.table]);
                        assert_eq!(&wanted[..], &logits[..], "{} up to {end}", policy.name());
                        let all: Vec<u32> = (0..end as u32).collect();
                        assert!(kept.iter().all(|kept| *kept == all));
                        compared += 1;
                    }
                }
            }
        }
    }
    println!("{compared} rows of logits are equal, bit for bit");
}

#[test]
fn sequences_that_join_and_leave_change_no_bit_of_others() {
    let config = config(Family::Llama);
    for (policy, key) in policies().into_iter().zip(200..) {
        let spec = RetentionSpec::strict(policy, 9);
        let runs = || [Run::new(0, 45, key), Run::new(2, 30, key + 3), Run::new(1, 23, key + 5)];
        let mut alone = runs();
        for run in &mut alone {
            let mut model = model(&config, &spec, SEED, Dtype::F32);
            while run.next().is_some() {
                step(&mut model, &config, &mut [run]);
            }
        }
        let (mut beside, mut model) = (runs(), model(&config, &spec, SEED, Dtype::F32));
        for turn in 0.. {
            // Each joins three steps after the one before it.
            let mut going: Vec<&mut Run> = beside
                .iter_mut()
                .enumerate()
                .filter(|(index, run)| turn >= 3 * index && run.next().is_some())
                .map(|(_, run)| run)
                .collect();
            if going.is_empty() {
                break;
            }
            step(&mut model, &config, &mut going);
        }
        for (alone, beside) in alone.iter().zip(&beside) {
            assert!(alone.seen == beside.seen && !alone.seen.is_empty(), "{} in seat {}", policy.name(), alone.seat);
            assert!(policy == RetentionPolicy::Full || alone.seen.last().is_some_and(|(_, kept)| kept[0].len() == 9));
        }
    }
}

#[test]
fn threads_change_nothing() {
    let config = config(Family::Qwen2);
    for policy in [policies()[5], policies()[10], policies()[13]] {
        let spec = RetentionSpec::strict(policy, 10);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let retention = Retention::new(&spec, &config, &extras(&config, &spec, SEED)).unwrap();
            let weights = weights(&config, SEED, Dtype::Bf16);
            let mut model = Model::retaining(config.clone(), weights, &capacity(&config, 50), retention).unwrap();
            let mut run = Run::new(0, 40, 77);
            pool.install(|| {
                while run.next().is_some() {
                    step(&mut model, &config, &mut [&mut run]);
                }
            });
            run.seen
        };
        let one = run(1);
        assert!([2, 5].into_iter().all(|threads| run(threads) == one), "{}", policy.name());
    }
}
