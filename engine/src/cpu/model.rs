//! The forward pass.

use std::sync::Arc;

use fearless_simd::{Level, dispatch};
use rayon::prelude::*;

use super::attention::{Heads, Query, attention};
use super::cache;
use super::math::{rms_norm, rms_norm_in_place, rotate};
use super::matmul::{Epilogue, matmul};
use crate::config::Config;
use crate::executor::{BuildError, Capacity, Sequence};
use crate::weights::{Layer, Weights};

/// A model with its cache. It computes on the threads of the pool that it is called in.
pub struct Model {
    config: Config,
    weights: Arc<Weights>,
    cache: Vec<cache::Layer>,
    /// Cosines and sines of every position, `[position, head_dim / 2]`.
    rope: (Vec<f32>, Vec<f32>),
    level: Level,
    scratch: Scratch,
}

/// Activations of a step, kept for the next one.
#[derive(Default)]
struct Scratch {
    /// Residual stream, `[row, hidden]`.
    x: Vec<f32>,
    /// The stream after a norm.
    normed: Vec<f32>,
    /// Queries, keys and values, `[row, heads + 2 kv_heads, head_dim]`.
    qkv: Vec<f32>,
    /// What attention gives, `[row, heads, head_dim]`.
    attended: Vec<f32>,
    /// Inside the MLP, `[row, intermediate]`.
    inner: Vec<f32>,
    /// `[sampled row, vocab]`.
    logits: Vec<f32>,
    /// What a multiplication works in.
    packed: Vec<f32>,
}

/// Rows that are worth a task of their own.
const ROWS_PER_TASK: usize = 16;

impl Model {
    /// A model with an empty cache. Sizes must have been checked (see [`super::CpuExecutor::new`]).
    ///
    /// # Errors
    /// The system has no memory for the cache.
    pub fn new(config: Config, weights: Arc<Weights>, capacity: &Capacity) -> Result<Model, BuildError> {
        let layers = (0..config.layers).map(|_| cache::Layer::new(&config, capacity, weights.dtype));
        let cache = layers.collect::<Result<_, _>>()?;
        let frequencies = config.rope_frequencies();
        let positions = 0..capacity.max_model_len;
        let angles = positions.flat_map(|position| frequencies.iter().map(move |f| f64::from(position) * f));
        let rope = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Ok(Model { config, weights, cache, rope, level: Level::new(), scratch: Scratch::default() })
    }

    /// The pool, layer by layer.
    pub(super) fn pool(&mut self) -> &mut [cache::Layer] {
        &mut self.cache
    }

    /// Computes the positions of some sequences, whose input tokens stand in `tokens` in order, and gives logits
    /// `[sequence that samples, vocab]`. Each sequence has its block table.
    pub fn forward(&mut self, tokens: &[u32], sequences: &[Sequence], tables: &[&[u32]]) -> &mut [f32] {
        let mut rows = Vec::with_capacity(tokens.len());
        for (sequence, table) in sequences.iter().zip(tables) {
            let contexts = sequence.past as usize + 1..=(sequence.past + sequence.tokens) as usize;
            rows.extend(contexts.map(|context| Query { table, context }));
        }
        assert_eq!(rows.len(), tokens.len(), "one input token per position");
        self.embed(tokens);
        let weights = self.weights.clone();
        for (index, layer) in weights.layers.iter().enumerate() {
            self.attend(layer, index, &rows);
            self.transform(layer);
        }
        self.logits(sequences)
    }

    fn embed(&mut self, tokens: &[u32]) {
        let hidden = self.config.hidden;
        self.scratch.x.resize(tokens.len() * hidden, 0.0);
        let rows = self.scratch.x.chunks_exact_mut(hidden).zip(tokens);
        rows.for_each(|(x, token)| self.weights.embedding.unpack_row(*token as usize, x));
    }

    /// Norm, attention, and back to the stream.
    fn attend(&mut self, layer: &Layer, index: usize, rows: &[Query]) {
        let (level, epsilon) = (self.level, self.config.norm_eps);
        let Scratch { x, normed, qkv, attended, packed, .. } = &mut self.scratch;
        let (query, kv) = (self.config.query_width(), self.config.kv_width());
        let width = query + 2 * kv;
        norm(level, x, &layer.input_norm, epsilon, normed);
        qkv.resize(rows.len() * width, 0.0);
        matmul(level, &layer.qkv, normed, qkv, Epilogue::Store(&layer.qkv_bias), packed);
        // Queries and keys get their place in the sequence.
        let dim = self.config.head_dim;
        let (cos, sin) = &self.rope;
        qkv.par_chunks_exact_mut(width).zip(rows).with_min_len(ROWS_PER_TASK).for_each(|(qkv, row)| {
            let at = (row.context - 1) * (dim / 2)..row.context * (dim / 2);
            let (cos, sin) = (&cos[at.clone()], &sin[at]);
            dispatch!(level, simd => {
                for (head, values) in qkv[..query + kv].chunks_exact_mut(dim).enumerate() {
                    let weight = if head < query / dim { &layer.query_norm } else { &layer.key_norm };
                    if !weight.is_empty() {
                        rms_norm_in_place(simd, values, weight, epsilon);
                    }
                    rotate(values, cos, sin);
                }
            });
        });
        let cache = &mut self.cache[index];
        for (qkv, row) in qkv.chunks_exact(width).zip(rows) {
            cache.store(row.table, row.context - 1, &qkv[query..query + kv], &qkv[query + kv..]);
        }
        attended.resize(rows.len() * query, 0.0);
        let heads = Heads { group: self.config.heads / self.config.kv_heads, kv: self.config.kv_heads, dim };
        attention(level, heads, cache, rows, qkv, attended);
        matmul(level, &layer.output, attended, x, Epilogue::Add, packed);
    }

    /// Norm, MLP, and back to the stream.
    fn transform(&mut self, layer: &Layer) {
        let level = self.level;
        let Scratch { x, normed, inner, packed, .. } = &mut self.scratch;
        norm(level, x, &layer.mlp_norm, self.config.norm_eps, normed);
        inner.resize(x.len() / self.config.hidden * self.config.intermediate, 0.0);
        matmul(level, &layer.gate_up, normed, inner, Epilogue::Gate, packed);
        matmul(level, &layer.down, inner, x, Epilogue::Add, packed);
    }

    /// The head over the last position of the sequences that sample.
    fn logits(&mut self, sequences: &[Sequence]) -> &mut [f32] {
        let hidden = self.config.hidden;
        let Scratch { x, normed, attended, logits, packed, .. } = &mut self.scratch;
        attended.clear();
        let mut end = 0;
        for sequence in sequences {
            end += sequence.tokens as usize;
            if sequence.samples {
                attended.extend_from_slice(&x[(end - 1) * hidden..end * hidden]);
            }
        }
        norm(self.level, attended, &self.weights.norm, self.config.norm_eps, normed);
        logits.resize(attended.len() / hidden * self.config.vocab, 0.0);
        if !logits.is_empty() {
            matmul(self.level, self.weights.head(), normed, logits, Epilogue::Store(&[]), packed);
        }
        logits
    }
}

/// Norm of every row of `x`.
fn norm(level: Level, x: &[f32], weight: &[f32], epsilon: f32, y: &mut Vec<f32>) {
    y.resize(x.len(), 0.0);
    let rows = y.par_chunks_exact_mut(weight.len()).zip(x.par_chunks_exact(weight.len()));
    rows.with_min_len(ROWS_PER_TASK).for_each(|(y, x)| dispatch!(level, simd => rms_norm(simd, x, weight, epsilon, y)));
}
