//! Small models and batches.

use std::sync::Arc;

use overbook_engine::config::{Config, Family, RopeScaling};
use overbook_engine::cpu::Model;
use overbook_engine::executor::{Capacity, Sequence};
use overbook_engine::weights::{Dtype, Dummy, Source, Weights, WeightsError};

/// Two layers, with `heads` query heads over `kv_heads`.
pub(crate) fn config(family: Family, heads: usize, kv_heads: usize) -> Config {
    Config {
        family,
        hidden: 64,
        intermediate: 96,
        layers: 2,
        heads,
        kv_heads,
        head_dim: 32,
        vocab: 131,
        max_positions: 512,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tied: false,
        eos: Vec::new(),
    }
}

pub(crate) const BLOCK: u32 = 16;

pub(crate) fn capacity(config: &Config, blocks: u32) -> Capacity {
    Capacity::unbounded(blocks, BLOCK, 256, config.vocab as u32)
}

pub(crate) fn weights(config: &Config, dtype: Dtype) -> Arc<Weights> {
    Arc::new(Weights::from_source(config, &Loud { seed: 5, factor: 10.0 }, dtype).expect("weights"))
}

/// [`Dummy`], but for norms times a factor: the usual standard deviation makes attention nearly flat at this width.
pub(crate) struct Loud {
    pub seed: u64,
    pub factor: f32,
}

impl Source for Loud {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let values = Dummy { seed: self.seed }.tensor(name, shape)?;
        let factor = if name.ends_with("norm.weight") { 1.0 } else { self.factor };
        Ok(values.into_iter().map(|value| value * factor).collect())
    }
}

/// Tokens that do not repeat with a short period.
pub(crate) fn prompt(len: usize, seed: u32) -> Vec<u32> {
    (0..len as u32).map(|i| (i * i * 7 + i * 31 + seed * 57 + 3) % 131).collect()
}

/// A part of a sequence: which tokens, from which position on, and its blocks.
pub(crate) struct Part<'a> {
    pub tokens: &'a [u32],
    pub past: usize,
    pub table: &'a [u32],
}

/// The logits of the last position of each part, computed in one step.
pub(crate) fn step(model: &mut Model, vocab: usize, parts: &[Part]) -> Vec<Vec<f32>> {
    let (mut tokens, mut tables, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
    for (seat, part) in parts.iter().enumerate() {
        sequences.push(Sequence {
            seat: seat as u32,
            past: part.past as u32,
            tokens: part.tokens.len() as u32,
            samples: true,
        });
        tokens.extend_from_slice(part.tokens);
        tables.push(part.table);
    }
    model.forward(&tokens, &sequences, &tables).chunks(vocab).map(<[f32]>::to_vec).collect()
}

/// The largest difference of two rows of logits.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
