//! A Llama model in plain f32, one token of one sequence at a time, with a set of kept positions in each layer and KV head.

use std::collections::BTreeSet;

use fearless_simd::{Level, Simd, dispatch};

use crate::config::{Config, Family};
use crate::weights::{Source, WeightsError};

/// Why a model cannot be used here.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Its weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// It is of a family with more parts.
    #[error("{0:?}: the reference has Llama's parts only (no biases, no norms of heads)")]
    Family(Family),
}

/// A matrix by columns of its input, `[in, out]`.
struct Matrix {
    out: usize,
    values: Vec<f32>,
}

struct Layer {
    input_norm: Vec<f32>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    mlp_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// A model's weights in f32.
pub struct Reference {
    config: Config,
    level: Level,
    embedding: Vec<f32>,
    head: Matrix,
    norm: Vec<f32>,
    layers: Vec<Layer>,
    frequencies: Vec<f64>,
}

/// A sequence in the middle of its computation: keys and values of all positions, and which of them each head keeps.
pub struct Sequence {
    /// Per layer.
    layers: Vec<LayerCache>,
    length: usize,
}

/// One layer of a sequence.
pub struct LayerCache {
    /// Rotated keys of every position, per KV head, `[position, head_dim]`.
    pub keys: Vec<Vec<f32>>,
    /// Values, in the same order.
    pub values: Vec<Vec<f32>>,
    /// Positions that each KV head keeps.
    pub kept: Vec<BTreeSet<usize>>,
}

/// What one layer has just computed for the latest position.
pub struct Step<'a> {
    /// Its position.
    pub position: usize,
    /// The layer.
    pub layer: usize,
    /// Normalised hidden state that made queries, keys and values, `[hidden]`.
    pub normed: &'a [f32],
    /// Queries before rotation, `[heads, head_dim]`.
    pub queries: &'a [f32],
    /// Attention weights of each query head over the positions that its KV head keeps, in their order.
    pub weights: &'a [Vec<f32>],
    /// Query heads for each KV head.
    pub group: usize,
    /// Width of a head.
    pub dim: usize,
    /// Rotary frequencies [radians per position], `[head_dim / 2]`.
    pub frequencies: &'a [f64],
}

impl Step<'_> {
    /// Attention weights of a KV head: the mean over its query heads, in the order of the kept positions.
    pub fn weights_of(&self, head: usize) -> Vec<f32> {
        let rows = &self.weights[head * self.group..(head + 1) * self.group];
        (0..rows[0].len()).map(|at| rows.iter().map(|row| row[at]).sum::<f32>() / self.group as f32).collect()
    }
}

impl Matrix {
    fn new(source: &impl Source, name: &str, out: usize, width: usize) -> Result<Matrix, WeightsError> {
        Ok(Matrix::transpose(&source.tensor(name, &[out, width])?, out, width))
    }

    /// From `[out, in]`, the order of files.
    fn transpose(rows: &[f32], out: usize, width: usize) -> Matrix {
        let values = (0..width).flat_map(|column| (0..out).map(move |row| rows[row * width + column])).collect();
        Matrix { out, values }
    }

    fn apply(&self, level: Level, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; self.out];
        dispatch!(level, simd => accumulate(simd, &self.values, x, &mut y));
        y
    }
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled for the instructions that `dispatch!` has chosen")]
fn accumulate<S: Simd>(_: S, values: &[f32], x: &[f32], y: &mut [f32]) {
    for (x, column) in x.iter().zip(values.chunks_exact(y.len())) {
        for (y, weight) in y.iter_mut().zip(column) {
            *y += x * weight;
        }
    }
}

/// Scalar product.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Turns scores into weights that add up to one.
pub fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
    }
    let sum: f32 = scores.iter().sum();
    for score in scores {
        *score /= sum;
    }
}

impl Reference {
    /// Takes tensors under their Hugging Face names.
    ///
    /// # Errors
    /// The family has parts that are not computed here, or a tensor is missing or of another shape.
    pub fn new(config: Config, source: &impl Source) -> Result<Reference, ReferenceError> {
        if !matches!(config.family, Family::Llama | Family::Mistral) {
            return Err(ReferenceError::Family(config.family));
        }
        let (vocab, hidden) = (config.vocab, config.hidden);
        let embedding = source.tensor("model.embed_tokens.weight", &[vocab, hidden])?;
        let head = if config.tied {
            Matrix::transpose(&embedding, vocab, hidden)
        } else {
            Matrix::new(source, "lm_head.weight", vocab, hidden)?
        };
        let layers = (0..config.layers).map(|index| Layer::new(&config, source, index)).collect::<Result<_, _>>()?;
        Ok(Reference {
            level: Level::new(),
            norm: source.tensor("model.norm.weight", &[hidden])?,
            frequencies: config.rope_frequencies(),
            embedding,
            head,
            layers,
            config,
        })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A sequence without tokens.
    pub fn begin(&self) -> Sequence {
        let heads = self.config.kv_heads;
        let layer = || LayerCache {
            keys: vec![Vec::new(); heads],
            values: vec![Vec::new(); heads],
            kept: vec![BTreeSet::new(); heads],
        };
        Sequence { layers: (0..self.config.layers).map(|_| layer()).collect(), length: 0 }
    }

    /// Computes one token. Every head attends to what it keeps and to the token itself, which it keeps from now on. Then `evict` is called
    /// for each layer, and may take positions out. Gives the state from which [`Reference::logits`] are made, `[hidden]`.
    pub fn step(
        &self,
        sequence: &mut Sequence,
        token: u32,
        evict: &mut dyn FnMut(&Step<'_>, &mut LayerCache),
    ) -> Vec<f32> {
        let hidden = self.config.hidden;
        let mut x = self.embedding[token as usize * hidden..(token as usize + 1) * hidden].to_vec();
        for (index, layer) in self.layers.iter().enumerate() {
            let attended = self.attend(index, &x, sequence, evict);
            add(&mut x, &layer.output.apply(self.level, &attended));
            let normed = self.rms_norm(&x, &layer.mlp_norm);
            let mut inner = layer.gate.apply(self.level, &normed);
            for (gate, up) in inner.iter_mut().zip(layer.up.apply(self.level, &normed)) {
                *gate = *gate / (1.0 + (-*gate).exp()) * up;
            }
            add(&mut x, &layer.down.apply(self.level, &inner));
        }
        sequence.length += 1;
        x
    }

    /// Logits of the next token, `[vocab]`.
    pub fn logits(&self, state: &[f32]) -> Vec<f32> {
        self.head.apply(self.level, &self.rms_norm(state, &self.norm))
    }

    fn attend(
        &self,
        index: usize,
        x: &[f32],
        sequence: &mut Sequence,
        evict: &mut dyn FnMut(&Step<'_>, &mut LayerCache),
    ) -> Vec<f32> {
        let Config { heads, kv_heads, head_dim: dim, .. } = self.config;
        let (layer, position) = (&self.layers[index], sequence.length);
        let cache = &mut sequence.layers[index];
        let normed = self.rms_norm(x, &layer.input_norm);
        let queries = layer.query.apply(self.level, &normed);
        let (mut keys, values) = (layer.key.apply(self.level, &normed), layer.value.apply(self.level, &normed));
        let mut rotated = queries.clone();
        self.rotate(&mut rotated, position);
        self.rotate(&mut keys, position);
        for head in 0..kv_heads {
            cache.keys[head].extend_from_slice(&keys[head * dim..(head + 1) * dim]);
            cache.values[head].extend_from_slice(&values[head * dim..(head + 1) * dim]);
            cache.kept[head].insert(position);
        }
        let (mut out, mut weights) = (vec![0.0; heads * dim], Vec::new());
        let scale = (dim as f32).sqrt().recip();
        for (head, (query, out)) in rotated.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
            let kv = head / (heads / kv_heads);
            let row = |at: usize| at * dim..(at + 1) * dim;
            let mut scores: Vec<f32> =
                cache.kept[kv].iter().map(|at| dot(query, &cache.keys[kv][row(*at)]) * scale).collect();
            softmax(&mut scores);
            for (at, weight) in cache.kept[kv].iter().zip(&scores) {
                for (out, value) in out.iter_mut().zip(&cache.values[kv][row(*at)]) {
                    *out += weight * value;
                }
            }
            weights.push(scores);
        }
        let group = heads / kv_heads;
        let frequencies = &self.frequencies;
        let step = Step {
            position,
            layer: index,
            normed: &normed,
            queries: &queries,
            weights: &weights,
            group,
            dim,
            frequencies,
        };
        evict(&step, cache);
        out
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let scale = (dot(x, x) / x.len() as f32 + self.config.norm_eps).sqrt().recip();
        x.iter().zip(weight).map(|(x, weight)| x * scale * weight).collect()
    }

    /// Turns the two halves of each head against each other.
    fn rotate(&self, heads: &mut [f32], position: usize) {
        let half = self.config.head_dim / 2;
        for head in heads.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for ((a, b), frequency) in first.iter_mut().zip(second).zip(&self.frequencies) {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                let (sin, cos) = (sin as f32, cos as f32);
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

impl Layer {
    fn new(config: &Config, source: &impl Source, index: usize) -> Result<Layer, WeightsError> {
        let (hidden, query, kv) = (config.hidden, config.query_width(), config.kv_width());
        let at = |name: &str| format!("model.layers.{index}.{name}.weight");
        let matrix = |name: &str, out: usize, width: usize| Matrix::new(source, &at(name), out, width);
        Ok(Layer {
            input_norm: source.tensor(&at("input_layernorm"), &[hidden])?,
            query: matrix("self_attn.q_proj", query, hidden)?,
            key: matrix("self_attn.k_proj", kv, hidden)?,
            value: matrix("self_attn.v_proj", kv, hidden)?,
            output: matrix("self_attn.o_proj", hidden, query)?,
            mlp_norm: source.tensor(&at("post_attention_layernorm"), &[hidden])?,
            gate: matrix("mlp.gate_proj", config.intermediate, hidden)?,
            up: matrix("mlp.up_proj", config.intermediate, hidden)?,
            down: matrix("mlp.down_proj", hidden, config.intermediate)?,
        })
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
