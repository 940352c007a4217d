//! The reference executor: the same models in plain candle tensors, f32, nothing clever.
//!
//! Slow, and written for reading: what the CPU executor computes must agree with it. It stands among the tests, so that only
//! they compile candle.

use std::collections::VecDeque;
use std::time::Instant;

use candle_core::{D, Device, Result, Tensor};

use overbook_engine::config::Config;
use overbook_engine::executor::{Batch, Capacity, Copied, Executor, ExecutorError, Output, Sequence, TierCopy};
use overbook_engine::history::Histories;
use overbook_engine::weights::{Source, WeightsError};

/// A layer's weights, in the orientation of the files: `[out, in]`.
struct Layer {
    input_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    norms: Option<(Tensor, Tensor)>,
    output: Linear,
    mlp_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `[rows, in]` to `[rows, out]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// Keys and values of a layer, `[block, offset, kv head, head_dim]`.
struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// A model in candle tensors, and its paged cache.
pub(crate) struct CandleModel {
    config: Config,
    capacity: Capacity,
    embedding: Tensor,
    head: Tensor,
    norm: Tensor,
    layers: Vec<Layer>,
    cache: Vec<Cache>,
}

/// Why a model cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CandleError {
    /// Its weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Candle refuses.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
}

/// Tensors by name.
struct Loader<'a, S: Source>(&'a S);

impl<S: Source> Loader<'_, S> {
    fn tensor(&self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, CandleError> {
        Ok(Tensor::from_vec(self.0.tensor(name, shape)?, shape, &Device::Cpu)?)
    }

    fn linear(&self, name: &str, out: usize, width: usize, bias: bool) -> std::result::Result<Linear, CandleError> {
        let weight = self.tensor(&format!("{name}.weight"), &[out, width])?;
        let bias = if bias { Some(self.tensor(&format!("{name}.bias"), &[out])?) } else { None };
        Ok(Linear { weight, bias })
    }

    fn layer(&self, config: &Config, index: usize) -> std::result::Result<Layer, CandleError> {
        let (hidden, query, kv) = (config.hidden, config.query_width(), config.kv_width());
        let at = |name: &str| format!("model.layers.{index}.{name}");
        let bias = config.qkv_bias();
        let norm = |name: &str| self.tensor(&at(name), &[config.head_dim]);
        Ok(Layer {
            input_norm: self.tensor(&at("input_layernorm.weight"), &[hidden])?,
            query: self.linear(&at("self_attn.q_proj"), query, hidden, bias)?,
            key: self.linear(&at("self_attn.k_proj"), kv, hidden, bias)?,
            value: self.linear(&at("self_attn.v_proj"), kv, hidden, bias)?,
            norms: if config.qk_norm() {
                Some((norm("self_attn.q_norm.weight")?, norm("self_attn.k_norm.weight")?))
            } else {
                None
            },
            output: self.linear(&at("self_attn.o_proj"), hidden, query, false)?,
            mlp_norm: self.tensor(&at("post_attention_layernorm.weight"), &[hidden])?,
            gate: self.linear(&at("mlp.gate_proj"), config.intermediate, hidden, false)?,
            up: self.linear(&at("mlp.up_proj"), config.intermediate, hidden, false)?,
            down: self.linear(&at("mlp.down_proj"), hidden, config.intermediate, false)?,
        })
    }
}

/// Where the positions of a step stand: rotary angles, and a sequence's rows among those of the batch.
struct Places {
    cos: Tensor,
    sin: Tensor,
    /// First row of each sequence.
    first: Vec<usize>,
}

impl CandleModel {
    /// Takes tensors under their Hugging Face names.
    ///
    /// # Errors
    /// A tensor is missing or of another shape.
    pub(crate) fn new(
        config: Config,
        source: &impl Source,
        capacity: Capacity,
    ) -> std::result::Result<Self, CandleError> {
        let loader = Loader(source);
        let (vocab, hidden) = (config.vocab, config.hidden);
        let embedding = loader.tensor("model.embed_tokens.weight", &[vocab, hidden])?;
        let head = if config.tied { embedding.clone() } else { loader.tensor("lm_head.weight", &[vocab, hidden])? };
        let slots = capacity.blocks as usize * capacity.block_tokens as usize * config.kv_width();
        let cache = || Cache { keys: vec![0.0; slots], values: vec![0.0; slots] };
        Ok(CandleModel {
            norm: loader.tensor("model.norm.weight", &[hidden])?,
            layers: (0..config.layers)
                .map(|index| loader.layer(&config, index))
                .collect::<std::result::Result<_, _>>()?,
            cache: (0..config.layers).map(|_| cache()).collect(),
            embedding,
            head,
            capacity,
            config,
        })
    }

    /// Computes the positions of some sequences and gives logits `[sequence that samples, vocab]`; see
    /// [`overbook_engine::cpu::Model::forward`].
    ///
    /// # Errors
    /// Candle refuses: a bug here.
    pub(crate) fn forward(&mut self, tokens: &[u32], sequences: &[Sequence], tables: &[&[u32]]) -> Result<Vec<f32>> {
        let places = self.places(sequences)?;
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        let mut x = self.embedding.index_select(&ids, 0)?;
        for index in 0..self.layers.len() {
            let attended = self.attend(index, &x, &places, sequences, tables)?;
            x = (x + attended)?;
            let layer = &self.layers[index];
            let normed = self.rms_norm(&x, &layer.mlp_norm)?;
            let inner = (layer.gate.forward(&normed)?.silu()? * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&inner)?)?;
        }
        let last = |(sequence, first): (&Sequence, &usize)| (first + sequence.tokens as usize - 1) as u32;
        let rows = sequences.iter().zip(&places.first).filter(|(sequence, _)| sequence.samples).map(last);
        let rows: Vec<u32> = rows.collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let count = rows.len();
        let x = x.index_select(&Tensor::from_vec(rows, count, &Device::Cpu)?, 0)?;
        let logits = self.rms_norm(&x, &self.norm)?.matmul(&self.head.t()?)?;
        logits.flatten_all()?.to_vec1()
    }

    fn places(&self, sequences: &[Sequence]) -> Result<Places> {
        let frequencies = self.config.rope_frequencies();
        let (mut first, mut angles, mut rows) = (Vec::new(), Vec::new(), 0);
        for sequence in sequences {
            first.push(rows);
            for position in sequence.past..sequence.past + sequence.tokens {
                angles.extend(frequencies.iter().map(|frequency| f64::from(position) * frequency));
            }
            rows += sequence.tokens as usize;
        }
        let table = |of: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| of(*angle) as f32).collect();
            Tensor::from_vec(values, (rows, 1, frequencies.len()), &Device::Cpu)
        };
        Ok(Places { cos: table(f64::cos)?, sin: table(f64::sin)?, first })
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let mean = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(self.config.norm_eps))?;
        x.broadcast_div(&mean.sqrt()?)?.broadcast_mul(weight)
    }

    /// `[rows, heads, head_dim]`, the two halves of each head turned against each other.
    fn rotate(x: &Tensor, places: &Places) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let first = (a.broadcast_mul(&places.cos)? - b.broadcast_mul(&places.sin)?)?;
        let second = (b.broadcast_mul(&places.cos)? + a.broadcast_mul(&places.sin)?)?;
        Tensor::cat(&[first, second], D::Minus1)
    }

    fn attend(
        &mut self,
        index: usize,
        x: &Tensor,
        places: &Places,
        sequences: &[Sequence],
        tables: &[&[u32]],
    ) -> Result<Tensor> {
        let layer = &self.layers[index];
        let (rows, dim) = (x.dim(0)?, self.config.head_dim);
        let normed = self.rms_norm(x, &layer.input_norm)?;
        let mut query = layer.query.forward(&normed)?.reshape((rows, self.config.heads, dim))?;
        let mut key = layer.key.forward(&normed)?.reshape((rows, self.config.kv_heads, dim))?;
        if let Some((query_norm, key_norm)) = &layer.norms {
            (query, key) = (self.rms_norm(&query, query_norm)?, self.rms_norm(&key, key_norm)?);
        }
        let query = Self::rotate(&query, places)?;
        let keys: Vec<f32> = Self::rotate(&key, places)?.flatten_all()?.to_vec1()?;
        let values: Vec<f32> = layer.value.forward(&normed)?.flatten_all()?.to_vec1()?;
        self.store(index, sequences, tables, &keys, &values);
        let mut attended = Vec::new();
        for ((sequence, table), first) in sequences.iter().zip(tables).zip(&places.first) {
            let query = query.narrow(0, *first, sequence.tokens as usize)?;
            attended.push(self.attention(index, sequence, table, &query)?);
        }
        self.layers[index].output.forward(&Tensor::cat(&attended, 0)?)
    }

    /// Places in the cache of a sequence's first positions.
    fn slots(&self, sequence: &Sequence, table: &[u32]) -> Vec<usize> {
        let block = self.capacity.block_tokens;
        let slot = |position: u32| (table[(position / block) as usize] * block + position % block) as usize;
        (0..sequence.past + sequence.tokens).map(slot).collect()
    }

    fn store(&mut self, index: usize, sequences: &[Sequence], tables: &[&[u32]], keys: &[f32], values: &[f32]) {
        let width = self.config.kv_width();
        let mut row = 0;
        for (sequence, table) in sequences.iter().zip(tables) {
            for slot in self.slots(sequence, table).into_iter().skip(sequence.past as usize) {
                let (from, to) = (row * width..(row + 1) * width, slot * width..(slot + 1) * width);
                self.cache[index].keys[to.clone()].copy_from_slice(&keys[from.clone()]);
                self.cache[index].values[to].copy_from_slice(&values[from]);
                row += 1;
            }
        }
    }

    /// Causal attention of one sequence's new positions, `[tokens, heads * head_dim]`.
    fn attention(&self, index: usize, sequence: &Sequence, table: &[u32], query: &Tensor) -> Result<Tensor> {
        let Config { heads, kv_heads, head_dim: dim, .. } = self.config;
        let (new, group) = (sequence.tokens as usize, heads / kv_heads);
        let slots = self.slots(sequence, table);
        let context = slots.len();
        let gather = |cache: &[f32]| {
            let width = kv_heads * dim;
            let rows: Vec<f32> =
                slots.iter().flat_map(|slot| &cache[slot * width..(slot + 1) * width]).copied().collect();
            Tensor::from_vec(rows, (context, kv_heads, dim), &Device::Cpu)?.transpose(0, 1)?.contiguous()
        };
        let (keys, values) = (gather(&self.cache[index].keys)?, gather(&self.cache[index].values)?);
        // The queries of the heads that share a key head follow one another: `[kv head, group × new, dim]`.
        let query = query.reshape((new, kv_heads, group, dim))?.permute((1, 2, 0, 3))?.contiguous()?;
        let query = query.reshape((kv_heads, group * new, dim))?;
        let scores = (query.matmul(&keys.transpose(1, 2)?.contiguous()?)? / (dim as f64).sqrt())?;
        let past = sequence.past as usize;
        let hidden = |row: usize, key: usize| if key > past + row % new { f32::NEG_INFINITY } else { 0.0 };
        let mask = (0..group * new).flat_map(|row| (0..context).map(move |key| hidden(row, key))).collect::<Vec<f32>>();
        let scores = scores.broadcast_add(&Tensor::from_vec(mask, (1, group * new, context), &Device::Cpu)?)?;
        let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        let mixed = weights.matmul(&values)?.reshape((kv_heads, group, new, dim))?;
        mixed.permute((2, 0, 1, 3))?.contiguous()?.reshape((new, heads * dim))
    }
}

/// Runs steps with candle, when they are waited for.
pub(crate) struct CandleExecutor {
    model: CandleModel,
    histories: Histories,
    out: VecDeque<Batch>,
}

impl CandleExecutor {
    /// An executor of a model, its cache empty.
    pub(crate) fn new(model: CandleModel) -> Self {
        CandleExecutor { histories: Histories::new(model.capacity), model, out: VecDeque::new() }
    }
}

impl Executor for CandleExecutor {
    fn capacity(&self) -> Capacity {
        self.model.capacity
    }

    fn submit(&mut self, _: usize, batch: Batch) -> std::result::Result<(), ExecutorError> {
        self.out.push_back(batch);
        Ok(())
    }

    fn copy(&mut self, _: &[TierCopy]) -> std::result::Result<(), ExecutorError> {
        Err(ExecutorError("candle has no memory below its pool".to_owned()))
    }

    fn copied(&mut self) -> std::result::Result<Copied, ExecutorError> {
        Ok(Copied::default())
    }

    fn give_contexts(&mut self) -> std::result::Result<(), ExecutorError> {
        Ok(())
    }

    fn ready(&mut self, _: usize) -> std::result::Result<bool, ExecutorError> {
        Ok(true)
    }

    fn wait(&mut self, _: usize) -> std::result::Result<Output, ExecutorError> {
        let batch = self.out.pop_front();
        let batch = batch.ok_or_else(|| ExecutorError("waited for a step, and none is out".to_owned()))?;
        let start = Instant::now();
        let Batch { ends, begins, tables, sequences, .. } = batch;
        self.histories.update(&ends, begins, &tables)?;
        let inputs = self.histories.inputs(&sequences)?;
        let logits = if inputs.is_empty() {
            Vec::new()
        } else {
            let computed = self.model.forward(&inputs, &sequences, &self.histories.tables(&sequences));
            computed.map_err(|error| ExecutorError(format!("candle: {error}")))?
        };
        let tokens = self.histories.sample(&sequences, &logits);
        Ok(Output { tokens, start, end: Instant::now() })
    }
}
