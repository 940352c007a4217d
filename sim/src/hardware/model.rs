//! The shape of a transformer, as far as time and memory depend on it: decoder-only; grouped-query or multi-head latent
//! attention; dense MLPs or experts; biases left out (below 0.05 % of the weights wherever there are any).

mod bits;
mod moe;
mod recurrent;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hardware::gpu::Origin;
use crate::hardware::parallel::{Exchange, Split};

pub use bits::WeightBits;
pub use moe::MoeSpec;
pub use recurrent::RecurrentSpec;

use moe::SKEW_MAX;

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
    /// 4-bit floats in groups of 32 with an 8-bit scale each (OCP MX) for routed experts, bf16 for everything else, as gpt-oss is
    /// published. Modelled as `int4` is.
    Mxfp4,
    /// So many bits a weight on average, scales included, multiplied in bf16: what an allocation of bits by sensitivity (BAQ) or a stack of
    /// residual blocks that is loaded as far as memory allows (BitStack) keeps. Modelled as `int4` is; unpacking is not charged.
    Bits(WeightBits),
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
    /// Bits stored per 1000 weights, scales included. int4: 4 + 16/128, mxfp4: 4 + 8/32.
    const fn millibits(self) -> u64 {
        match self {
            WeightDtype::Bf16 => 16_000,
            WeightDtype::Fp8 => 8_000,
            WeightDtype::Int4 => 4_125,
            WeightDtype::Mxfp4 => 4_250,
            WeightDtype::Bits(bits) => bits.millibits(),
        }
    }

    /// The format of attention, dense MLPs and shared experts in a checkpoint whose routed experts have this one.
    #[must_use]
    pub const fn outside_experts(self) -> WeightDtype {
        match self {
            WeightDtype::Mxfp4 => WeightDtype::Bf16,
            other => other,
        }
    }

    /// A width of routed experts as the kernels hold it: MXFP4's are padded, inputs to 256 and outputs to 128 (vLLM's
    /// `quantization/mxfp4.py`: gpt-oss-120b takes 65.97 GiB by Marlin and 64.38 GiB by Triton, 60.7 GiB without).
    pub(crate) const fn padded(self, width: u32, to: u32) -> u32 {
        match self {
            WeightDtype::Mxfp4 => width.next_multiple_of(to),
            _ => width,
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
            WeightDtype::Mxfp4 => "mxfp4",
            WeightDtype::Bits(bits) => return write!(f, "{}-bit", bits.get()),
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
    /// Key and value heads; divides `heads`. 1 with `mla`: all heads share the latent vector.
    pub kv_heads: u32,
    /// Width of one head. With `mla` the width of what is stored: `kv_lora_rank + rope_head_dim`.
    pub head_dim: u32,
    /// Width of the MLP; in a model with `moe`, of its dense layers (without such layers it is not used).
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
    /// Experts in place of the MLP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moe: Option<MoeSpec>,
    /// Multi-head latent attention in place of grouped-query attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mla: Option<MlaSpec>,
    /// Layers that attend only to the last few tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding: Option<SlidingSpec>,
    /// Layers with a state of fixed size in place of attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrent: Option<RecurrentSpec>,
    /// Whether attention gates its output, so that queries are projected twice as wide (Qwen3-Next, Qwen3.5).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub output_gate: bool,
    /// Where the shape comes from.
    pub origin: Origin,
}

/// Multi-head latent attention (DeepSeek-V2): keys and values of all heads are made from one stored latent vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlaSpec {
    /// Width of the latent that queries are made from; absent: queries come straight from the residual stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q_lora_rank: Option<u32>,
    /// Width of the latent that keys and values are made from.
    pub kv_lora_rank: u32,
    /// Part of a key that carries the position, shared by all heads.
    pub rope_head_dim: u32,
    /// Part of a key that does not.
    pub nope_head_dim: u32,
    /// Width of a value.
    pub v_head_dim: u32,
}

impl MlaSpec {
    /// Width of a query and of a key.
    pub const fn qk_head_dim(&self) -> u32 {
        self.rope_head_dim + self.nope_head_dim
    }

    /// Numbers stored per token and layer: the latent and the key's rotary part.
    pub const fn stored(&self) -> u32 {
        self.kv_lora_rank + self.rope_head_dim
    }
}

/// Sliding-window layers. Their reads stop at the window, and the pool does not count them: vLLM's hybrid cache manager gives their
/// old blocks back, so that of a long sequence the window alone is left, which is small beside the other layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlidingSpec {
    /// How many of the layers.
    pub layers: u32,
    /// Tokens that they attend to.
    pub window: u32,
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
    /// Experts, latent attention or sliding layers do not fit the rest of the shape.
    #[error("model {model}: {what}")]
    Parts {
        /// The model.
        model: String,
        /// What does not fit.
        what: String,
    },
    /// A pipeline has more stages than there are layers.
    #[error("model {model}: its {layers} layers do not make {stages} pipeline stages")]
    Stages {
        /// The model.
        model: String,
        /// Stages wanted.
        stages: u32,
        /// Layers there are.
        layers: u32,
    },
    /// The group does not fall into equal ranks.
    #[error("{model}: {ranks} ranks of data-parallel attention do not divide the {tensor_parallel} GPUs of a group")]
    Ranks {
        /// The model.
        model: String,
        /// GPUs of the group.
        tensor_parallel: u32,
        /// The ranks asked for.
        ranks: u32,
    },
    /// Experts are to be spread where there are none.
    #[error("model {model} has no experts to spread over GPUs; leave out `expert_parallel`")]
    NoExperts {
        /// The model.
        model: String,
    },
    /// The model cannot be split over that many GPUs.
    #[error("model {model}: tensor_parallel {tensor_parallel} does not divide {what} ({count})")]
    Split {
        /// The model.
        model: String,
        /// GPUs per replica.
        tensor_parallel: u32,
        /// The part of the model that it does not divide.
        what: &'static str,
        /// Number of those parts.
        count: u32,
    },
}

/// What one GPU of a group holds of every layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; copies where there are more GPUs than heads.
    pub kv_heads: u32,
    /// Width of the MLP of dense layers.
    pub intermediate: u32,
    /// Routed experts; 0 without experts.
    pub experts: u32,
    /// Width of one of them.
    pub expert_intermediate: u32,
    /// Width of one shared expert.
    pub shared_intermediate: u32,
    /// Heads of recurrent layers; 0 without such layers.
    pub recurrent: u32,
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
        self.misfit().map_or(Ok(()), |what| Err(ModelError::Parts { model: self.name.clone(), what }))
    }

    /// What does not fit about experts, latent attention or sliding layers.
    fn misfit(&self) -> Option<String> {
        if let Some(MoeSpec { experts, experts_per_token, expert_intermediate, dense_layers, skew, .. }) = self.moe {
            if experts == 0 || experts_per_token == 0 || expert_intermediate == 0 {
                return Some("`experts`, `experts_per_token` and `expert_intermediate` must be at least 1".to_owned());
            }
            if experts_per_token > experts {
                return Some(format!("a token cannot visit {experts_per_token} of {experts} experts"));
            }
            if !(0.0..=SKEW_MAX).contains(&skew) {
                return Some(format!("`skew` is {skew}; it must be between 0 and {SKEW_MAX}"));
            }
            if dense_layers >= self.layers {
                return Some(format!("{dense_layers} dense layers leave none of {} for the experts", self.layers));
            }
        }
        if let Some(mla) = self.mla {
            if mla.kv_lora_rank == 0 || mla.nope_head_dim == 0 || mla.v_head_dim == 0 || mla.q_lora_rank == Some(0) {
                return Some("the ranks and head widths of `mla` must be at least 1".to_owned());
            }
            if self.kv_heads != 1 || self.head_dim != mla.stored() {
                let stored = mla.stored();
                return Some(format!(
                    "with `mla`, kv_heads is 1 and head_dim is kv_lora_rank + rope_head_dim = {stored}: all heads share \
                     one stored vector"
                ));
            }
        }
        if let Some(what) = self.recurrent.and_then(|recurrent| recurrent.misfit(self.layers)) {
            return Some(what);
        }
        if self.recurrent.is_some() && (self.sliding.is_some() || self.mla.is_some()) {
            return Some("recurrent layers with `sliding` or `mla` are not modelled".to_owned());
        }
        match self.sliding {
            Some(sliding) if sliding.window == 0 || sliding.layers > self.layers => {
                Some("sliding layers need a window and cannot be more than there are layers".to_owned())
            }
            Some(_) if self.mla.is_some() => Some("sliding layers with `mla` are not modelled".to_owned()),
            _ => None,
        }
    }

    /// Splits the model over `tensor_parallel` GPUs as vLLM does: heads and MLP columns by share, KV heads copied where
    /// there are too few, vocabulary padded.
    pub fn shard(&self, tensor_parallel: u32) -> Result<Shard, ModelError> {
        self.shard_experts(tensor_parallel, None)
    }

    /// The same with whole experts on every GPU instead of a share of the width of each.
    pub fn shard_experts(&self, tensor_parallel: u32, experts: Option<Exchange>) -> Result<Shard, ModelError> {
        self.shard_split(Split { tensor: tensor_parallel, ranks: 1, experts })
    }

    /// The same for a group that may divide its requests among ranks: the GPUs of a rank split everything but the routed
    /// experts, which the whole group splits. Dense MLPs, shared experts, embedding and head are copied to every rank, as
    /// vLLM and TensorRT-LLM do; SGLang splits dense MLPs over the group.
    pub fn shard_split(&self, split: Split) -> Result<Shard, ModelError> {
        self.validate()?;
        let Split { tensor: group, ranks, experts } = split;
        let model = || self.name.clone();
        if ranks == 0 || group.checked_rem(ranks) != Some(0) {
            return Err(ModelError::Ranks { model: model(), tensor_parallel: group, ranks });
        }
        let share_of = |gpus: u32, what, count: u32| match count.checked_rem(gpus) {
            Some(0) => Ok(count / gpus),
            _ => Err(ModelError::Split { model: model(), tensor_parallel: gpus, what, count }),
        };
        let tensor_parallel = group / ranks;
        let share = |what, count: u32| share_of(tensor_parallel, what, count);
        let kv_heads = if tensor_parallel > self.kv_heads && tensor_parallel.is_multiple_of(self.kv_heads) {
            1
        } else {
            share("kv_heads", self.kv_heads)?
        };
        let (experts, expert, shared) = match (self.moe, experts) {
            (None, None) => (0, 0, 0),
            (None, Some(_)) => return Err(ModelError::NoExperts { model: self.name.clone() }),
            (Some(moe), None) => {
                let width = share_of(group, "expert_intermediate", moe.expert_intermediate)?;
                let shared = if ranks == 1 { width } else { share("expert_intermediate", moe.expert_intermediate)? };
                (moe.experts, width, shared)
            }
            (Some(moe), Some(exchange)) => {
                let shared = match exchange {
                    Exchange::AllReduce if moe.shared_experts > 0 => {
                        share("expert_intermediate", moe.expert_intermediate)?
                    }
                    _ => moe.expert_intermediate,
                };
                (share_of(group, "experts", moe.experts)?, moe.expert_intermediate, shared)
            }
        };
        Ok(Shard {
            heads: share("heads", self.heads)?,
            kv_heads,
            intermediate: if self.dense_layers() > 0 { share("intermediate", self.intermediate)? } else { 0 },
            experts,
            expert_intermediate: expert,
            shared_intermediate: shared,
            recurrent: self.recurrent.map_or(Ok(0), |recurrent| share("recurrent.heads", recurrent.heads))?,
            vocab: self.vocab.div_ceil(tensor_parallel),
        })
    }

    /// Matrices of one MLP that read the residual stream: gate and up, or up alone.
    pub const fn mlp_inputs(&self) -> u32 {
        if self.gated { 2 } else { 1 }
    }

    /// Layers with a dense MLP.
    pub fn dense_layers(&self) -> u32 {
        let without = self.recurrent.map_or(0, |recurrent| recurrent.without_mlp);
        self.moe.map_or(self.layers - without, |moe| moe.dense_layers)
    }

    /// Layers with attention, of any kind.
    pub fn attention_layers(&self) -> u32 {
        self.layers - self.recurrent.map_or(0, |recurrent| recurrent.layers)
    }

    /// Weights in the matrices of the attention of one layer.
    pub fn attention_weights(&self) -> u64 {
        self.attention_weights_of(self.heads, self.kv_heads)
    }

    /// The same for a share of the heads. The projections into the latents of `mla` are copied to every GPU.
    pub(crate) fn attention_weights_of(&self, heads: u32, kv_heads: u32) -> u64 {
        self.attention_matrices(heads, kv_heads).into_iter().map(|(n, k)| n * k).sum()
    }

    /// Matrices of the attention of one layer as (outputs, inputs), for a share of the heads.
    ///
    /// In absorbed decode, queries and outputs pass through the two halves of the last projection of `mla`; in prefill
    /// it makes keys and values. Weights and FLOP per token are the same.
    pub(crate) fn attention_matrices(&self, heads: u32, kv_heads: u32) -> Vec<(u64, u64)> {
        let hidden = u64::from(self.hidden);
        let heads = u64::from(heads);
        let Some(mla) = self.mla else {
            let (head_dim, kv_heads) = (u64::from(self.head_dim), u64::from(kv_heads));
            let queries = if self.output_gate { 2 * heads } else { heads };
            return vec![((queries + 2 * kv_heads) * head_dim, hidden), (hidden, heads * head_dim)];
        };
        let query = heads * u64::from(mla.qk_head_dim());
        let (latent, stored) = (u64::from(mla.kv_lora_rank), u64::from(mla.stored()));
        let made = heads * u64::from(mla.nope_head_dim + mla.v_head_dim);
        let output = (hidden, heads * u64::from(mla.v_head_dim));
        match mla.q_lora_rank.map(u64::from) {
            Some(rank) => vec![(rank + stored, hidden), (query, rank), (made, latent), output],
            None => vec![(query + stored, hidden), (made, latent), output],
        }
    }

    /// Weights in the matrices of one dense MLP.
    pub fn mlp_weights(&self) -> u64 {
        self.mlp_weights_of(self.intermediate)
    }

    /// Weights in the matrices of an MLP of that width.
    pub(crate) fn mlp_weights_of(&self, width: u32) -> u64 {
        u64::from(self.hidden) * u64::from(width) * u64::from(self.mlp_inputs() + 1)
    }

    /// Weights of the routed and shared experts of one layer; 0 without experts.
    pub fn expert_weights(&self) -> u64 {
        self.moe
            .map_or(0, |moe| u64::from(moe.experts + moe.shared_experts) * self.mlp_weights_of(moe.expert_intermediate))
    }

    /// Bytes of what one GPU holds of them.
    pub(crate) fn expert_bytes_of(&self, shard: &Shard, dtype: WeightDtype) -> u64 {
        self.moe.map_or(0, |moe| {
            let (hidden, width) = (dtype.padded(self.hidden, 256), dtype.padded(shard.expert_intermediate, 128));
            let routed = u64::from(hidden) * u64::from(width) * u64::from(self.mlp_inputs() + 1);
            let shared = u64::from(moe.shared_experts) * self.mlp_weights_of(shard.shared_intermediate);
            dtype.bytes(u64::from(shard.experts) * routed) + dtype.outside_experts().bytes(shared)
        })
    }

    /// Layers that keep the KV of the whole sequence. Where all slide, all count: the pool has to hold their windows.
    pub fn whole_layers(&self) -> u32 {
        let (near, attention) = (self.sliding.map_or(0, |sliding| sliding.layers), self.attention_layers());
        if near < attention { attention - near } else { attention }
    }

    /// Weights of the recurrence of one layer, for so many of its heads.
    pub(crate) fn recurrent_weights_of(&self, heads: u32) -> u64 {
        self.recurrent.map_or(0, |recurrent| recurrent.weights(self.hidden, heads))
    }

    /// Weights in the mixers of all layers: attention or recurrence.
    fn mixer_weights(&self) -> u64 {
        let recurrent = self.recurrent.map_or(0, |one| u64::from(one.layers) * self.recurrent_weights_of(one.heads));
        u64::from(self.attention_layers()) * self.attention_weights() + recurrent
    }

    /// Weights of the router of one layer, copied to every GPU and always bf16; 0 without experts.
    pub fn router_weights(&self) -> u64 {
        self.moe.map_or(0, |moe| u64::from(moe.experts) * u64::from(self.hidden))
    }

    /// Weights in the matrices of all layers, routers excepted.
    pub fn matrix_weights(&self) -> u64 {
        let (layers, dense) = (u64::from(self.layers), u64::from(self.dense_layers()));
        self.mixer_weights() + dense * self.mlp_weights() + (layers - dense) * self.expert_weights()
    }

    /// Weights in matrices of the layers that one token passes through.
    pub fn active_matrix_weights(&self) -> u64 {
        let (layers, dense) = (u64::from(self.layers), u64::from(self.dense_layers()));
        let visited = self.moe.map_or(0, |moe| {
            u64::from(moe.experts_per_token + moe.shared_experts) * self.mlp_weights_of(moe.expert_intermediate)
        });
        self.mixer_weights() + dense * self.mlp_weights() + (layers - dense) * visited
    }

    /// Weights of the norms of one layer.
    pub fn layer_norm_weights(&self) -> u64 {
        let latent = self.mla.map_or(0, |mla| u64::from(mla.kv_lora_rank + mla.q_lora_rank.unwrap_or(0)));
        2 * u64::from(self.hidden) + latent + if self.qk_norm { 2 * u64::from(self.head_dim) } else { 0 }
    }

    /// Weights of the embedding matrix; the head has as many.
    pub const fn embedding_weights(&self) -> u64 {
        self.vocab as u64 * self.hidden as u64
    }

    /// Stored weights; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        let (layers, dense) = (u64::from(self.layers), u64::from(self.dense_layers()));
        let small = layers * self.layer_norm_weights() + (layers - dense) * self.router_weights();
        let vocabularies = if self.tied_embeddings { 1 } else { 2 };
        self.matrix_weights() + small + vocabularies * self.embedding_weights() + u64::from(self.hidden)
    }

    /// Weights that one token passes through, embedding and head included.
    pub fn active_parameters(&self) -> u64 {
        self.parameters() - self.matrix_weights() + self.active_matrix_weights()
    }

    /// Numbers stored per token and layer on a GPU with that many KV heads: keys and values, or the shared latent.
    pub fn stored_per_token(&self, kv_heads: u32) -> u64 {
        match self.mla {
            Some(mla) => u64::from(mla.stored()),
            None => 2 * u64::from(kv_heads) * u64::from(self.head_dim),
        }
    }
}
