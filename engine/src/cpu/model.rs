//! The forward pass.

use std::sync::Arc;

use fearless_simd::{Level, dispatch};
use rayon::prelude::*;

use super::attention::{Heads, Query, attention};
use super::cache;
use super::evict::Rows;
use super::gate::gate;
use super::math::{rms_norm, rms_norm_in_place, rotate};
use super::matmul::{Epilogue, matmul};
use super::retained::Retained;
use crate::config::Config;
use crate::executor::{BuildError, Capacity, ExecutorError, Seat, Sequence, Shrink};
use crate::retention::{Place, Retention};
use crate::weights::{Layer, Weights};

#[cfg(test)]
mod tests;

/// A model with its cache. It computes on the threads of the pool that it is called in.
pub struct Model {
    config: Config,
    weights: Arc<Weights>,
    cache: Vec<cache::Layer>,
    /// Cosines and sines of every position, `[position, head_dim / 2]`.
    rope: (Vec<f32>, Vec<f32>),
    level: Level,
    scratch: Scratch,
    /// What its sequences keep; `None`: everything.
    retained: Option<Retained>,
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
    /// Queries before rotation, `[row, heads, head_dim]`; empty if nobody needs them.
    unrotated: Vec<f32>,
    /// Inside the networks of retention, `[row, width]`, and what they give, `[row, kv_heads]`.
    gate_inner: Vec<f32>,
    gates: Vec<f32>,
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
        let (level, scratch) = (Level::new(), Scratch::default());
        Ok(Model { config, weights, cache, rope, level, scratch, retained: None })
    }

    /// A model whose sequences keep only some of their tokens.
    ///
    /// # Errors
    /// The system has no memory for the cache.
    pub fn retaining(
        config: Config,
        weights: Arc<Weights>,
        capacity: &Capacity,
        retention: Retention,
    ) -> Result<Model, BuildError> {
        let mut model = Model::new(config, weights, capacity)?;
        if !retention.is_idle() {
            model.retained = Some(Retained::new(retention, model.heads(), model.config.layers));
        }
        Ok(model)
    }

    fn heads(&self) -> Heads {
        let Config { heads, kv_heads, head_dim, .. } = self.config;
        Heads { group: heads / kv_heads, kv: kv_heads, dim: head_dim }
    }

    /// The pool, layer by layer.
    pub(super) fn pool(&mut self) -> &mut [cache::Layer] {
        &mut self.cache
    }

    /// Slots that a sequence occupies in each layer and head while its part of a step is computed: its block table must cover them.
    ///
    /// # Errors
    /// It keeps only some tokens, and does not go on where it stopped.
    pub fn slots(&self, sequence: &Sequence) -> Result<u64, ExecutorError> {
        let all = u64::from(sequence.past) + u64::from(sequence.tokens);
        self.retained.as_ref().map_or(Ok(all), |retained| retained.slots(sequence))
    }

    /// Positions of the tokens that a sequence keeps in a layer and KV head, by slot; `None` if everything stays, or nothing is computed.
    pub fn kept(&self, place: Place) -> Option<&[u32]> {
        self.retained.as_ref()?.kept(place)
    }

    /// Lowers the budget of a sequence that has this block table.
    ///
    /// # Errors
    /// Its model keeps everything, nothing of it is computed, or the policy protects more than the budget.
    pub fn shrink(&mut self, shrink: Shrink, table: &[u32]) -> Result<(), ExecutorError> {
        let Some(retained) = &mut self.retained else {
            return Err(ExecutorError(format!("the budget of seat {} shrinks, and it keeps everything", shrink.seat)));
        };
        retained.shrink(self.level, &mut self.cache, table, shrink)
    }

    /// Forgets which tokens a sequence keeps. It is needed for no sequence that begins in the same seat.
    pub fn forget(&mut self, seat: Seat) {
        if let Some(retained) = &mut self.retained {
            retained.forget(seat);
        }
    }

    /// Computes the positions of some sequences, whose input tokens stand in `tokens` in order, and gives logits
    /// `[sequence that samples, vocab]`. Each sequence has its block table. Where only some tokens are kept, a prompt ends with the first step
    /// that samples, and a sequence begins anew where its first position is computed.
    ///
    /// # Panics
    /// A sequence that keeps only some tokens does not go on where it stopped.
    pub fn forward(&mut self, tokens: &[u32], sequences: &[Sequence], tables: &[&[u32]]) -> &mut [f32] {
        let rows = if let Some(retained) = &mut self.retained {
            retained.begin(sequences);
            retained.queries(tables)
        } else {
            let rows = sequences.iter().zip(tables).flat_map(|(sequence, table)| {
                let positions = sequence.past as usize..(sequence.past + sequence.tokens) as usize;
                positions.map(|position| Query { table, context: position + 1, position })
            });
            rows.collect()
        };
        assert_eq!(rows.len(), tokens.len(), "one input token per position");
        self.embed(tokens);
        let weights = self.weights.clone();
        for (index, layer) in weights.layers.iter().enumerate() {
            self.attend(layer, index, &rows);
            self.retain(index, tables);
            self.transform(layer);
        }
        if let Some(retained) = &mut self.retained {
            retained.finish(sequences);
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
        let heads = self.heads();
        let Scratch { x, normed, qkv, attended, packed, unrotated, gate_inner, gates, .. } = &mut self.scratch;
        let (query, kv) = (self.config.query_width(), self.config.kv_width());
        let width = query + 2 * kv;
        norm(level, x, &layer.input_norm, epsilon, normed);
        qkv.resize(rows.len() * width, 0.0);
        matmul(level, &layer.qkv, normed, qkv, Epilogue::Store(&layer.qkv_bias), packed);
        let dim = self.config.head_dim;
        if self.config.qk_norm() {
            qkv.par_chunks_exact_mut(width).with_min_len(ROWS_PER_TASK).for_each(|qkv| {
                for (head, values) in qkv[..query + kv].chunks_exact_mut(dim).enumerate() {
                    let weight = if head < query / dim { &layer.query_norm } else { &layer.key_norm };
                    dispatch!(level, simd => rms_norm_in_place(simd, values, weight, epsilon));
                }
            });
        }
        if let Some(retention) = self.retained.as_ref().map(Retained::retention) {
            if retention.needed().queries {
                unrotated.clear();
                qkv.chunks_exact(width).for_each(|row| unrotated.extend_from_slice(&row[..query]));
            }
            if let Some(networks) = retention.gates() {
                gate(level, networks.kind(), networks.layer(index), normed, gates, (gate_inner, packed));
            }
        }
        // Queries and keys get their place in the sequence.
        let (cos, sin) = &self.rope;
        qkv.par_chunks_exact_mut(width).zip(rows).with_min_len(ROWS_PER_TASK).for_each(|(qkv, row)| {
            let at = row.position * (dim / 2)..(row.position + 1) * (dim / 2);
            let (cos, sin) = (&cos[at.clone()], &sin[at]);
            dispatch!(level, simd => {
                let _ = simd;
                qkv[..query + kv].chunks_exact_mut(dim).for_each(|values| rotate(values, cos, sin));
            });
        });
        let cache = &mut self.cache[index];
        for (qkv, row) in qkv.chunks_exact(width).zip(rows) {
            cache.store(row.table, row.context - 1, &qkv[query..query + kv], &qkv[query + kv..]);
        }
        attended.resize(rows.len() * query, 0.0);
        attention(level, heads, cache, rows, qkv, attended);
        matmul(level, &layer.output, attended, x, Epilogue::Add, packed);
    }

    /// Follows a layer in the slots of sequences that keep only some tokens.
    fn retain(&mut self, layer: usize, tables: &[&[u32]]) {
        let Some(retained) = &mut self.retained else { return };
        let Scratch { qkv, unrotated, gates, .. } = &self.scratch;
        let query_width = self.config.query_width();
        let width = query_width + 2 * self.config.kv_width();
        let rows = Rows { qkv, width, query_width, unrotated, gates };
        retained.follow(self.level, layer, &mut self.cache[layer], tables, &rows);
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
