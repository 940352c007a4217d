//! The CPU executor against the same model in plain candle tensors.

use overbook_engine::config::{Config, Family, RopeScaling};
use overbook_engine::cpu::{CpuExecutor, Model};
use overbook_engine::executor::{Bans, Batch, Begin, Executor, Sampling, Sequence, TableChange};
use overbook_engine::weights::Dtype;

use crate::candle::{CandleExecutor, CandleModel};
use crate::support::{Loud, capacity, config, prompt, weights};

/// Three sequences in one step: a prompt, a chunk after 21 positions, a decode after 37. Tables are out of order.
fn ragged(first: bool) -> (Vec<u32>, Vec<Sequence>, [&'static [u32]; 3]) {
    let tables: [&[u32]; 3] = [&[7, 2, 5], &[9, 0, 4], &[8, 1, 3]];
    let part = |seat: u32, past: u32, tokens: u32| Sequence { seat, past, tokens, samples: true };
    let (a, b, c) = (prompt(33, 1), prompt(40, 2), prompt(38, 3));
    let sequences = if first {
        vec![part(0, 0, 33), part(1, 0, 21), part(2, 0, 37)]
    } else {
        vec![part(0, 16, 17), part(1, 21, 19), part(2, 37, 1)]
    };
    let inputs = sequences
        .iter()
        .zip([a, b, c])
        .flat_map(|(part, tokens)| tokens[part.past as usize..(part.past + part.tokens) as usize].to_vec());
    (inputs.collect(), sequences, tables)
}

#[test]
fn logits_agree_with_candle() {
    let llama3 = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 64.0 };
    for (family, heads, kv_heads, rope_scaling) in [
        (Family::Llama, 4, 1, llama3),
        (Family::Mistral, 4, 4, RopeScaling::None),
        (Family::Qwen2, 4, 2, RopeScaling::Linear { factor: 2.0 }),
        (Family::Qwen3, 8, 2, RopeScaling::None),
    ] {
        let config = Config { rope_scaling, ..config(family, heads, kv_heads) };
        let capacity = capacity(&config, 10);
        let mut ours = Model::new(config.clone(), weights(&config, Dtype::F32), &capacity).unwrap();
        let source = Loud { seed: 5, factor: 10.0 };
        let mut candle = CandleModel::new(config.clone(), &source, capacity).expect("a model");
        for first in [true, false] {
            let (tokens, sequences, tables) = ragged(first);
            let theirs = candle.forward(&tokens, &sequences, &tables).expect("computes");
            let ours = ours.forward(&tokens, &sequences, &tables);
            assert_eq!((ours.len(), theirs.len()), (3 * config.vocab, 3 * config.vocab));
            let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let size = theirs.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            assert!(size > 0.5 && worst < 1e-4 * size.max(1.0), "{family:?}: {worst} of {size}");
        }
    }
}

#[test]
fn both_executors_draw_the_same_tokens() {
    let config = config(Family::Llama, 4, 2);
    let capacity = capacity(&config, 12);
    let source = Loud { seed: 5, factor: 10.0 };
    let model = CandleModel::new(config.clone(), &source, capacity).expect("a model");
    let ours = CpuExecutor::new(config.clone(), weights(&config, Dtype::F32), capacity, 2).expect("an executor");
    let executors: [Box<dyn Executor>; 2] = [Box::new(ours), Box::new(CandleExecutor::new(model))];
    let tokens = executors.map(|mut executor| {
        let mut drawn = Vec::new();
        for step in 0..12 {
            let begin = Begin { seat: 0, prompt: prompt(17, 4), sampling: Sampling::GREEDY, bans: Bans::default() };
            let (past, tokens) = if step == 0 { (0, 17) } else { (16 + step, 1) };
            let sequence = Sequence { seat: 0, past, tokens, samples: true };
            let (begins, tables) = if step == 0 {
                (vec![begin], vec![TableChange { seat: 0, from: 0, blocks: vec![11, 3] }])
            } else {
                (Vec::new(), Vec::new())
            };
            executor
                .submit(0, Batch { begins, tables, sequences: vec![sequence], ..Batch::default() })
                .expect("submits");
            drawn.extend(executor.wait(0).expect("computes").tokens);
        }
        drawn
    });
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(tokens[0].len(), 12);
}
