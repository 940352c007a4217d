//! A model's weights in device memory: matrices in bf16, row by row as the files have them; norms, biases and angles in f32.

use std::sync::Arc;

use rayon::prelude::*;

use super::CudaError;
use super::driver::{Address, Buffer, Gpu};
use super::upload::{CHUNK, Uploader};
use crate::config::Config;
use crate::weights::{Source, WeightsError, bf16};

/// Addresses of one decoder layer's weights. Zero where the model has none.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Layer {
    /// Norm before attention, `[hidden]`.
    pub(super) input_norm: Address,
    /// Queries, then keys, then values: `[(heads + 2 kv_heads) · head_dim, hidden]`.
    pub(super) qkv: Address,
    /// Their biases.
    pub(super) qkv_bias: Address,
    /// Norm of each query head, `[head_dim]`.
    pub(super) query_norm: Address,
    /// Norm of each key head, `[head_dim]`.
    pub(super) key_norm: Address,
    /// From attention to the residual stream, `[hidden, heads · head_dim]`.
    pub(super) output: Address,
    /// Norm before the MLP, `[hidden]`.
    pub(super) mlp_norm: Address,
    /// Gate projection, then up projection, `[2 · intermediate, hidden]`.
    pub(super) gate_up: Address,
    /// Back to the residual stream, `[hidden, intermediate]`.
    pub(super) down: Address,
}

/// A model on the device.
#[derive(Debug)]
pub(super) struct Weights {
    /// `[vocab, hidden]`; also the head of a tied model.
    pub(super) embedding: Address,
    /// `[vocab, hidden]`.
    pub(super) head: Address,
    /// Norm before the head, `[hidden]`.
    pub(super) norm: Address,
    /// Cosines of every position, `[position, head_dim / 2]`.
    pub(super) cos: Address,
    /// Sines, laid out as the cosines.
    pub(super) sin: Address,
    /// From first to last.
    pub(super) layers: Vec<Layer>,
    /// Keeps the memory.
    buffers: Vec<Buffer>,
}

impl Weights {
    /// Reads and uploads all weights, for sequences of up to `positions` tokens.
    ///
    /// # Errors
    /// A tensor is missing or wrong, or the device has too little memory.
    pub(super) fn load(
        gpu: &Arc<Gpu>,
        config: &Config,
        source: &dyn Source,
        positions: u32,
    ) -> Result<Weights, CudaError> {
        let mut loader = Loader { uploader: Uploader::new(gpu)?, source };
        let (hidden, vocab) = (config.hidden, config.vocab);
        let embedding = loader.matrix(&[("model.embed_tokens.weight".to_owned(), vocab)], hidden)?;
        let head =
            if config.tied { embedding } else { loader.matrix(&[("lm_head.weight".to_owned(), vocab)], hidden)? };
        let norm = loader.vector(&[("model.norm.weight".to_owned(), hidden)])?;
        let layers = (0..config.layers).map(|layer| loader.layer(config, layer)).collect::<Result<_, _>>()?;
        let frequencies = config.rope_frequencies();
        let angles = |of: fn(f64) -> f64| -> Vec<f32> {
            let positions = 0..positions;
            positions.flat_map(|at| frequencies.iter().map(move |f| of(f64::from(at) * f) as f32)).collect()
        };
        let mut uploader = loader.uploader;
        let (cos, sin) = (uploader.floats(&angles(f64::cos))?, uploader.floats(&angles(f64::sin))?);
        Ok(Weights { embedding, head, norm, cos, sin, layers, buffers: uploader.finish()? })
    }

    /// Device memory that they take [bytes].
    pub(super) fn bytes(&self) -> u64 {
        self.buffers.iter().map(|buffer| buffer.bytes() as u64).sum()
    }
}

/// Device memory that the weights of a model take, without loading them [bytes].
pub(super) fn bytes(config: &Config) -> u64 {
    let (hidden, query, kv, inner) = (config.hidden, config.query_width(), config.kv_width(), config.intermediate);
    let layer = hidden * (query + 2 * kv) + query * hidden + 3 * hidden * inner;
    let heads = if config.tied { 1 } else { 2 };
    2 * (config.layers * layer + heads * config.vocab * hidden) as u64
}

/// Reads tensors and copies them to the device.
struct Loader<'a> {
    uploader: Uploader,
    source: &'a dyn Source,
}

impl Loader<'_> {
    fn layer(&mut self, config: &Config, layer: usize) -> Result<Layer, CudaError> {
        let (hidden, query, kv) = (config.hidden, config.query_width(), config.kv_width());
        let intermediate = config.intermediate;
        let name = |tensor: &str| format!("model.layers.{layer}.{tensor}");
        let [q, k, v] = ["q", "k", "v"].map(|which| name(&format!("self_attn.{which}_proj.weight")));
        let mut made = Layer {
            input_norm: self.vector(&[(name("input_layernorm.weight"), hidden)])?,
            qkv: self.matrix(&[(q, query), (k, kv), (v, kv)], hidden)?,
            output: self.matrix(&[(name("self_attn.o_proj.weight"), hidden)], query)?,
            mlp_norm: self.vector(&[(name("post_attention_layernorm.weight"), hidden)])?,
            gate_up: self.matrix(
                &[(name("mlp.gate_proj.weight"), intermediate), (name("mlp.up_proj.weight"), intermediate)],
                hidden,
            )?,
            down: self.matrix(&[(name("mlp.down_proj.weight"), hidden)], intermediate)?,
            ..Layer::default()
        };
        if config.qkv_bias() {
            let [q, k, v] = ["q", "k", "v"].map(|which| name(&format!("self_attn.{which}_proj.bias")));
            made.qkv_bias = self.vector(&[(q, query), (k, kv), (v, kv)])?;
        }
        if config.qk_norm() {
            made.query_norm = self.vector(&[(name("self_attn.q_norm.weight"), config.head_dim)])?;
            made.key_norm = self.vector(&[(name("self_attn.k_norm.weight"), config.head_dim)])?;
        }
        Ok(made)
    }

    /// Matrices of one width, one below the other, in bf16.
    fn matrix(&mut self, parts: &[(String, usize)], width: usize) -> Result<Address, CudaError> {
        let rows: usize = parts.iter().map(|(_, rows)| rows).sum();
        let start = self.uploader.buffer(rows * width * 2)?;
        let mut at = 0;
        for (name, rows) in parts {
            let (source, len) = (self.source, rows * width);
            // What can be made piece by piece never lies in memory as a whole.
            let whole = if source.narrow(name, 0, &mut []) { None } else { Some(self.tensor(name, &[*rows, width])?) };
            for first in (0..len).step_by(CHUNK / 2) {
                let count = (len - first).min(CHUNK / 2);
                self.uploader.copy(start + at as u64, count * 2, |bytes| {
                    let Some(values) = &whole else {
                        source.narrow(name, first, bytes);
                        return;
                    };
                    let (bytes, _) = bytes.as_chunks_mut::<2>();
                    let narrow = |(two, value): (&mut [u8; 2], &f32)| *two = (bf16(*value) as u16).to_le_bytes();
                    bytes.par_iter_mut().zip(&values[first..]).with_min_len(1 << 16).for_each(narrow);
                })?;
                at += count * 2;
            }
        }
        Ok(start)
    }

    /// Vectors one behind the other, in f32.
    fn vector(&mut self, parts: &[(String, usize)]) -> Result<Address, CudaError> {
        let mut values = Vec::new();
        for (name, len) in parts {
            values.extend(self.tensor(name, &[*len])?);
        }
        self.uploader.floats(&values)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        self.source.tensor(name, shape)
    }
}
