//! However a prompt is cut, whatever runs beside it and wherever its blocks lie: the same bits.
//!
//! Planted faults that these tests found: a causal mask that sees one position too many, a block table taken for a run of blocks,
//! a tile of four rows that drops its last vector, the first row of a sequence sampled in place of the last.

use overbook_engine::config::Family;
use overbook_engine::cpu::Model;
use overbook_engine::weights::Dtype;

use crate::support::{BLOCK, Part, capacity, config, distance, prompt, step, weights};

/// Logits after every position from `first` on, one token a step.
fn decoded(model: &mut Model, tokens: &[u32], first: usize, table: &[u32]) -> Vec<Vec<f32>> {
    let vocab = 131;
    step(model, vocab, &[Part { tokens: &tokens[..first], past: 0, table }]);
    let one = |at: usize| step(model, vocab, &[Part { tokens: &tokens[at..=at], past: at, table }]).remove(0);
    (first..tokens.len()).map(one).collect()
}

#[test]
fn whole_chunked_decoded_and_prefix_cached_prefill_agree_bit_for_bit() {
    for (heads, kv_heads) in [(2, 2), (4, 1), (8, 1)] {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let config = config(Family::Llama, heads, kv_heads);
            let weights = weights(&config, dtype);
            let mut model = Model::new(config.clone(), weights, &capacity(&config, 12)).unwrap();
            let tokens = prompt(50, 1);
            let table = [3, 7, 1, 9];
            for len in [1, 2, 15, 16, 17, 31, 32, 33, 50] {
                let tokens = &tokens[..len];
                let whole = step(&mut model, 131, &[Part { tokens, past: 0, table: &table }]).remove(0);
                assert!(whole.iter().all(|logit| logit.is_finite()) && distance(&whole, &vec![0.0; 131]) > 0.1);
                if len > 1 {
                    let last = decoded(&mut model, tokens, len - 1, &table).remove(0);
                    assert_eq!(last, whole, "decode after {}", len - 1);
                    let all = decoded(&mut model, tokens, 1, &table).pop().unwrap();
                    assert_eq!(all, whole, "decode from the first token to {len}");
                }
                for cut in [1, 7, 15, 16, 17, 32].into_iter().filter(|cut| *cut < len) {
                    step(&mut model, 131, &[Part { tokens: &tokens[..cut], past: 0, table: &table }]);
                    let rest = [Part { tokens: &tokens[cut..], past: cut, table: &table }];
                    assert_eq!(step(&mut model, 131, &rest).remove(0), whole, "{len} cut at {cut}");
                }
            }
            // Another sequence with the same first block finds it in the cache.
            let whole = step(&mut model, 131, &[Part { tokens: &tokens, past: 0, table: &table }]).remove(0);
            let shared = [Part { tokens: &tokens[16..], past: BLOCK as usize, table: &[3, 0, 2, 4] }];
            assert_eq!(step(&mut model, 131, &shared).remove(0), whole);
        }
    }
}

#[test]
fn a_ragged_batch_gives_each_what_it_gets_alone() {
    let config = config(Family::Qwen3, 4, 2);
    let mut model = Model::new(config.clone(), weights(&config, Dtype::F32), &capacity(&config, 64)).unwrap();
    let lens = [1, 15, 16, 17, 40, 3, 1, 33, 2];
    let prompts: Vec<Vec<u32>> = lens.iter().zip(0..).map(|(len, seed)| prompt(*len, seed)).collect();
    // Three blocks each, scattered.
    let tables: Vec<[u32; 3]> = (0..9).map(|i| [i * 5 % 27, 27 + i * 7 % 27, 54 + i]).collect();
    let part = |i: usize, past: usize| Part { tokens: &prompts[i][past..], past, table: &tables[i] };
    let alone: Vec<Vec<f32>> = (0..9).map(|i| step(&mut model, 131, &[part(i, 0)]).remove(0)).collect();
    let parts: Vec<Part> = (0..9).map(|i| part(i, 0)).collect();
    assert_eq!(step(&mut model, 131, &parts), alone);
    // Decodes beside prefills: the last token of some, all of others.
    let parts: Vec<Part> = (0..9).map(|i| part(i, if i % 2 == 0 { lens[i] - 1 } else { 0 })).collect();
    assert_eq!(step(&mut model, 131, &parts), alone);
    // Different prompts are different.
    assert!(alone.windows(2).all(|pair| distance(&pair[0], &pair[1]) > 0.1));
}

#[test]
fn the_order_of_blocks_and_what_lies_in_others_do_not_matter() {
    let config = config(Family::Mistral, 4, 2);
    let weights = weights(&config, Dtype::Bf16);
    let tokens = prompt(60, 4);
    let mut model = Model::new(config.clone(), weights, &capacity(&config, 32)).unwrap();
    let run =
        |model: &mut Model, table: &[u32]| step(model, 131, &[Part { tokens: &tokens, past: 0, table }]).remove(0);
    let straight = run(&mut model, &[0, 1, 2, 3]);
    // The cache now holds other sequences' keys and values.
    let noise = prompt(200, 9);
    step(&mut model, 131, &[Part { tokens: &noise, past: 0, table: &(4..17).collect::<Vec<_>>() }]);
    for table in [[3, 2, 1, 0], [31, 0, 17, 5], [8, 30, 6, 21]] {
        assert_eq!(run(&mut model, &table), straight, "{table:?}");
    }
}

#[test]
fn threads_change_nothing() {
    let config = config(Family::Qwen2, 4, 1);
    let weights = weights(&config, Dtype::F32);
    let tokens = prompt(70, 2);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut model = Model::new(config.clone(), weights.clone(), &capacity(&config, 8)).unwrap();
        pool.install(|| step(&mut model, 131, &[Part { tokens: &tokens, past: 0, table: &[0, 1, 2, 3, 4] }]))
    };
    let one = run(1);
    assert!([2, 3, 7].into_iter().all(|threads| run(threads) == one));
}
