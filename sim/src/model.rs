//! The shape of a transformer, as far as time and memory depend on it: decoder-only, grouped-query attention, dense
//! MLP.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gpu::Origin;

/// How the matrices of the layers are stored and multiplied. Embedding, head and norms stay bf16, as in the usual
/// quantised checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightDtype {
    /// 16-bit brain float.
    #[default]
    Bf16,
    /// 8-bit float (e4m3); activations are quantised on the fly.
    Fp8,
    /// 4-bit integers in groups of 128 with a 16-bit scale each, multiplied in bf16 (W4A16). No measured kernel times
    /// stand behind it: modelled as bf16 arithmetic over fewer weight bytes.
    Int4,
}

/// How keys and values are stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KvDtype {
    /// 16-bit brain float.
    #[default]
    Bf16,
    /// 8-bit float; queries stay bf16.
    Fp8,
}

impl WeightDtype {
    /// Bits stored per 1000 weights, scales included. int4: 4 + 16/128.
    const fn millibits(self) -> u64 {
        match self {
            WeightDtype::Bf16 => 16_000,
            WeightDtype::Fp8 => 8_000,
            WeightDtype::Int4 => 4_125,
        }
    }

    /// Bytes of that many weights, rounded up.
    pub const fn bytes(self, weights: u64) -> u64 {
        ((weights as u128 * self.millibits() as u128).div_ceil(8_000)) as u64
    }
}

impl KvDtype {
    /// Bytes per stored number.
    pub const fn bytes(self) -> u64 {
        match self {
            KvDtype::Bf16 => 2,
            KvDtype::Fp8 => 1,
        }
    }
}

impl fmt::Display for WeightDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightDtype::Bf16 => "bf16",
            WeightDtype::Fp8 => "fp8",
            WeightDtype::Int4 => "int4",
        })
    }
}

impl fmt::Display for KvDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KvDtype::Bf16 => "bf16",
            KvDtype::Fp8 => "fp8",
        })
    }
}

/// A model's shape.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name, for messages and reports.
    pub name: String,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Decoder layers.
    pub layers: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Width of the MLP.
    pub intermediate: u32,
    /// Vocabulary, as wide as the embedding matrix.
    pub vocab: u32,
    /// Whether the MLP has a gate beside the up projection (SwiGLU).
    pub gated: bool,
    /// Whether queries and keys are normalised per head (Qwen3).
    #[serde(default)]
    pub qk_norm: bool,
    /// Whether the head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Longest sequence the model was made for [tokens].
    pub context: u32,
    /// Where the shape comes from.
    pub origin: Origin,
}

/// What is wrong with a model's shape.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ModelError {
    /// A size that must be at least one is zero.
    #[error("model {model}: `{field}` is 0")]
    Zero {
        /// The model.
        model: String,
        /// The field.
        field: &'static str,
    },
    /// Query heads do not divide into groups.
    #[error("model {model}: {heads} heads cannot share {kv_heads} kv_heads evenly")]
    Groups {
        /// The model.
        model: String,
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
    },
    /// The model cannot be split over that many GPUs.
    #[error("model {model}: tensor_parallel {tensor_parallel} does not divide {what} ({count})")]
    Split {
        /// The model.
        model: String,
        /// GPUs per replica.
        tensor_parallel: u32,
        /// What it does not divide.
        what: &'static str,
        /// How many of those there are.
        count: u32,
    },
}

/// What one GPU of a tensor-parallel group holds of every layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; copies where there are more GPUs than heads.
    pub kv_heads: u32,
    /// Width of the MLP.
    pub intermediate: u32,
    /// Rows of the embedding and head matrices.
    pub vocab: u32,
}

impl ModelSpec {
    /// Checks that the sizes make a model.
    pub fn validate(&self) -> Result<(), ModelError> {
        let sizes = [
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate", self.intermediate),
            ("vocab", self.vocab),
            ("context", self.context),
        ];
        if let Some((field, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ModelError::Zero { model: self.name.clone(), field });
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ModelError::Groups { model: self.name.clone(), heads: self.heads, kv_heads: self.kv_heads });
        }
        Ok(())
    }

    /// Splits the model over `tensor_parallel` GPUs as vLLM does: heads and MLP columns by share, KV heads copied where
    /// there are too few, vocabulary padded.
    pub fn shard(&self, tensor_parallel: u32) -> Result<Shard, ModelError> {
        self.validate()?;
        let split = |what, count| ModelError::Split { model: self.name.clone(), tensor_parallel, what, count };
        let share = |what, count: u32| match count.checked_rem(tensor_parallel) {
            Some(0) => Ok(count / tensor_parallel),
            _ => Err(split(what, count)),
        };
        let kv_heads = if tensor_parallel > self.kv_heads && tensor_parallel.is_multiple_of(self.kv_heads) {
            1
        } else {
            share("kv_heads", self.kv_heads)?
        };
        Ok(Shard {
            heads: share("heads", self.heads)?,
            kv_heads,
            intermediate: share("intermediate", self.intermediate)?,
            vocab: self.vocab.div_ceil(tensor_parallel),
        })
    }

    /// Matrices of one MLP that read the residual stream: gate and up, or up alone.
    pub const fn mlp_inputs(&self) -> u32 {
        if self.gated { 2 } else { 1 }
    }

    /// Weights in the matrices of one layer.
    pub const fn layer_matrix_weights(&self) -> u64 {
        let hidden = self.hidden as u64;
        let head_dim = self.head_dim as u64;
        let attention = hidden * head_dim * (2 * self.heads as u64 + 2 * self.kv_heads as u64);
        attention + hidden * self.intermediate as u64 * (self.mlp_inputs() as u64 + 1)
    }

    /// Weights of the norms of one layer.
    pub const fn layer_norm_weights(&self) -> u64 {
        2 * self.hidden as u64 + if self.qk_norm { 2 * self.head_dim as u64 } else { 0 }
    }

    /// Weights of the embedding matrix; the head has as many.
    pub const fn embedding_weights(&self) -> u64 {
        self.vocab as u64 * self.hidden as u64
    }

    /// Stored weights; a tied head counts once.
    pub const fn parameters(&self) -> u64 {
        let layer = self.layer_matrix_weights() + self.layer_norm_weights();
        let vocabularies = if self.tied_embeddings { 1 } else { 2 };
        self.layers as u64 * layer + vocabularies * self.embedding_weights() + self.hidden as u64
    }
}
