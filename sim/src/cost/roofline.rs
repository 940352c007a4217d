//! The default cost model: kernel times from closed forms, summed over a step.
//!
//! ```text
//! device = layers × [ matmuls(m) + attention + 2 all-reduces(m) + small kernels(m) ] + embedding(m) + head(rows)
//! ```
//!
//! In layers with experts the MLP is a router, the fused routed experts over the distinct experts that `m` tokens are
//! expected to touch, and the shared experts as one more MLP (not overlapped with the routed ones). A tensor-parallel
//! group splits the width of every expert, or holds whole experts ([`crate::hardware::parallel::ExpertParallel`]):
//!
//! ```text
//! all-reduce   rows of a GPU = imbalance × m k / g, and the buffers of all other pairs; 2 all-reduces(m) as before
//! all-to-all   the same rows alone; 2 all-to-alls(imbalance × m k / g) and 1 all-reduce(m): its halves stand before and
//!              behind the experts; router and shared experts see m / g tokens
//! ```
//!
//! A pipeline's stages do one step after the other: `Σ stages` is the whole model, plus the ways between them. Sliding
//! layers read their window once per sequence, however short it is.
//!
//! `m` is the number of tokens, rounded up to the next captured CUDA graph ([`graph_size`]); `rows` the sequences that
//! need logits. All that depends on `m` or `rows` alone is computed once and kept; attention is affine in sums that a
//! step shape gives directly, so a warm step costs a few multiplications. A mixed step is charged one launch of decode
//! and one of prefill attention.
//!
//! Known bias: fp8 steps come out 7 to 15 % slow against vLLM on Hopper, whose compiler fuses the quantisation of the
//! activations into the kernel before; the measured matmuls charge it as a kernel of its own.

use super::comm::Comm;
use super::forms::{
    self, DecodeAttention, ExpertShape, ExpertShare, HeadShape, PrefillAttention, expert_share_us, matmul_us,
    small_kernel_us,
};
use super::host::HostCost;
use super::{Cost, CostModel, DecodeCost, StepCost, StepShape};
use crate::hardware::gpu::GpuSpec;
use crate::hardware::model::{KvDtype, ModelError, ModelSpec, MoeSpec, Shard, WeightDtype};
use crate::hardware::parallel::{Exchange, ExpertParallel, Parallelism};

/// Why there is no cost model for a combination.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CostError {
    /// The shape is wrong or does not split.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The GPU cannot multiply such weights.
    #[error("{gpu} has no {dtype} arithmetic; use bf16 or int4 weights")]
    Weights {
        /// The GPU.
        gpu: String,
        /// The dtype of the weights.
        dtype: WeightDtype,
    },
    /// There are no attention constants.
    #[error("{gpu} has no measured attention times for {kv} keys and values with head_dim {head_dim}; it has {known}")]
    Attention {
        /// The GPU.
        gpu: String,
        /// The dtype of keys and values.
        kv: KvDtype,
        /// Head dimension.
        head_dim: u32,
        /// The combinations there are.
        known: String,
    },
    /// There are no constants for fused experts.
    #[error("{gpu} has no measured {dtype} experts, and {model} has experts; {known}")]
    Experts {
        /// The GPU.
        gpu: String,
        /// The model.
        model: String,
        /// The dtype of the weights.
        dtype: WeightDtype,
        /// Weight dtypes with kernels.
        known: &'static str,
    },
    /// There are no all-reduce constants.
    #[error("{gpu} has no measured all-reduce for tensor_parallel {tensor_parallel}; it has {known}{help}")]
    AllReduce {
        /// The GPU.
        gpu: String,
        /// GPUs that split a layer.
        tensor_parallel: u32,
        /// The group sizes there are.
        known: String,
        /// What else could be done.
        help: &'static str,
    },
    /// There are no all-to-all constants.
    #[error("{gpu} has no measured all-to-all over {gpus} GPUs; it has {known}; use `exchange: all-reduce`")]
    AllToAll {
        /// The GPU.
        gpu: String,
        /// GPUs that exchange tokens.
        gpus: u32,
        /// The group sizes there are.
        known: String,
    },
    /// There are no constants for experts spread by number.
    #[error("{gpu} has no measured {dtype} experts spread over GPUs; leave out `expert_parallel`")]
    Spread {
        /// The GPU.
        gpu: String,
        /// The dtype of the weights.
        dtype: WeightDtype,
    },
    /// A group does not fill servers evenly.
    #[error("tensor_parallel {tensor_parallel} neither divides the {gpus} GPUs of a server nor is a multiple of them")]
    Group {
        /// GPUs that split a layer.
        tensor_parallel: u32,
        /// GPUs of a server.
        gpus: u32,
    },
    /// Messages leave a GPU and nothing says which link they take.
    #[error("a pipeline needs a `fleet.server`: it says which links the stages have between them")]
    Placeless,
    /// Messages leave a server without a network.
    #[error("the replica does not fit into one {server}, and the catalog knows no network between several")]
    NoNetwork {
        /// The server.
        server: String,
    },
}

/// The batch that a CUDA graph is replayed with for `tokens` tokens, vLLM's default capture sizes: 1, 2, 4, multiples
/// of 8 to 256, multiples of 16 to 512; larger batches run as they are.
pub const fn graph_size(tokens: u64) -> u64 {
    match tokens {
        3..=4 => 4,
        5..=256 => tokens.next_multiple_of(8),
        257..=512 => tokens.next_multiple_of(16),
        _ => tokens,
    }
}

/// Closed-form step costs of one model on one kind of GPU.
#[derive(Clone, Debug)]
pub struct Roofline {
    gpu: GpuSpec,
    model: ModelSpec,
    shard: Shard,
    weights: WeightDtype,
    experts: Option<ExpertParallel>,
    comm: Comm,
    host: HostCost,
    graph_padding: bool,
    decode_launch: Cost,
    decode_seq: Cost,
    decode_context: Cost,
    prefill_launch: Cost,
    prefill_pair: Cost,
    prefill_token: Cost,
    prefill_past: Cost,
    /// Everything that depends on the token count alone, by token count; 0: not computed yet.
    linear: Vec<Cost>,
    /// Head and sampling, by rows; 0: not computed yet.
    head: Vec<Cost>,
}

impl Roofline {
    /// Costs of `model` spread like that (a number: tensor parallelism alone). Batches up to `max_tokens` tokens are
    /// memoised.
    pub fn new(
        gpu: &GpuSpec,
        model: &ModelSpec,
        spread: impl Into<Parallelism>,
        weights: WeightDtype,
        kv: KvDtype,
        host: HostCost,
        max_tokens: u32,
    ) -> Result<Roofline, CostError> {
        let spread = spread.into();
        let shard = model.shard_experts(spread.tensor, spread.experts.map(|experts| experts.exchange))?;
        if !gpu.supports_weights(weights) {
            return Err(CostError::Weights { gpu: gpu.name.clone(), dtype: weights });
        }
        if model.moe.is_some() && !gpu.supports_experts(weights) {
            return Err(experts_error(gpu, model, weights));
        }
        let (decode, prefill) = attention(gpu, model, &shard, kv)?;
        if spread.experts.is_some() && !gpu.knows_spread_experts(weights) {
            return Err(CostError::Spread { gpu: gpu.name.clone(), dtype: weights });
        }
        let comm = Comm::new(gpu, &spread)?;
        let layers = f64::from(model.layers);
        let (near, window) = model.sliding.map_or((0.0, 0.0), |s| (f64::from(s.layers), f64::from(s.window)));
        let all_layers = |us: f64| Cost::from_us(us * layers);
        let far_layers = |us: f64, us_near: f64| Cost::from_us(us * (layers - near) + us_near * near);
        let size = max_tokens as usize + 1;
        Ok(Roofline {
            gpu: gpu.clone(),
            model: model.clone(),
            shard,
            weights,
            experts: spread.experts,
            comm,
            host,
            graph_padding: true,
            decode_launch: all_layers(decode.floor_us),
            decode_seq: far_layers(decode.per_seq_us, decode.per_seq_us + window * decode.per_context_us),
            decode_context: far_layers(decode.per_context_us, 0.0),
            prefill_launch: all_layers(prefill.floor_us),
            prefill_pair: far_layers(prefill.per_pair_us, 0.0),
            prefill_token: far_layers(prefill.per_token_us, prefill.per_token_us + 2.0 * window * prefill.per_pair_us),
            prefill_past: far_layers(prefill.per_past_us, 0.0),
            linear: vec![Cost(0); size],
            head: vec![Cost(0); size],
        })
    }

    /// The same without CUDA graphs: batches are not padded. (Launch overhead is the host's.)
    #[must_use]
    pub fn without_graph_padding(mut self) -> Roofline {
        self.graph_padding = false;
        self.linear.fill(Cost(0));
        self
    }

    /// Matmuls, all-reduces, small kernels and embedding of a step with `tokens` tokens [µs].
    fn linear_us(&self, tokens: u64) -> f64 {
        let m = if self.graph_padding { graph_size(tokens) } else { tokens };
        let (layers, dense) = (f64::from(self.model.layers), f64::from(self.model.dense_layers()));
        let hidden_bytes = m as f64 * f64::from(self.model.hidden) * 2.0;
        let all_reduce = self.comm.all_reduce_us(hidden_bytes);
        let shared = self.attention_matmuls_us(m) + self.layer_small_us(m) + 2.0 * all_reduce;
        // Around experts that exchange tokens one of the two all-reduces falls apart into its halves.
        let exchange = self.exchange_us(m) - if self.exchanges() { all_reduce } else { 0.0 };
        let mlp = if dense > 0.0 { self.mlp_us(m, self.shard.intermediate) } else { 0.0 };
        let experts = self.model.moe.map_or(0.0, |moe| self.experts_us(m, moe));
        // Embedding: gather and write one row per token, sum over the shards. Final norm: read both streams, write one.
        let ends = small_kernel_us(&self.gpu, 2.0 * hidden_bytes) + small_kernel_us(&self.gpu, 3.0 * hidden_bytes);
        let stages = self.comm.stages_us(hidden_bytes);
        layers * shared + dense * mlp + (layers - dense) * (experts + exchange) + ends + all_reduce + stages
    }

    /// Whether tokens travel to their experts.
    fn exchanges(&self) -> bool {
        self.experts.is_some_and(|experts| experts.exchange == Exchange::AllToAll)
    }

    /// Tokens to their experts and back, in bf16.
    fn exchange_us(&self, m: u64) -> f64 {
        let Some((experts, moe)) = self.experts.zip(self.model.moe).filter(|_| self.exchanges()) else { return 0.0 };
        let pairs = m as f64 * f64::from(moe.experts_per_token) / self.comm.gpus() * experts.imbalance;
        2.0 * self.comm.all_to_all_us(pairs * f64::from(self.model.hidden) * 2.0)
    }

    fn attention_matmuls_us(&self, m: u64) -> f64 {
        let matrices = self.model.attention_matrices(self.shard.heads, self.shard.kv_heads);
        matrices.into_iter().map(|(n, k)| self.matmul_us(self.weights.outside_experts(), m, n, k)).sum()
    }

    /// A dense MLP of that width: two matrix products and the activation between them.
    fn mlp_us(&self, m: u64, width: u32) -> f64 {
        let (hidden, inputs, wide) =
            (u64::from(self.model.hidden), u64::from(self.model.mlp_inputs()), u64::from(width));
        let activation = 2.0 * m as f64 * f64::from(width) * (inputs + 1) as f64;
        self.matmul_us(self.weights.outside_experts(), m, inputs * wide, hidden)
            + self.matmul_us(self.weights.outside_experts(), m, hidden, wide)
            + small_kernel_us(&self.gpu, activation)
    }

    /// Router, fused routed experts, and the shared experts as one MLP.
    fn experts_us(&self, m: u64, moe: MoeSpec) -> f64 {
        let shape = ExpertShape {
            hidden: self.model.hidden,
            width: self.shard.expert_intermediate,
            inputs: self.model.mlp_inputs(),
            per_token: moe.experts_per_token,
        };
        // Tokens that are this GPU's own outside of the routed experts.
        let own = if self.exchanges() { m.div_ceil(self.comm.gpus() as u64) } else { m };
        let router = self.matmul_us(WeightDtype::Bf16, own, u64::from(moe.experts), u64::from(self.model.hidden));
        // `new` has checked that there are constants.
        let routed = expert_share_us(&self.gpu, self.weights, shape, self.expert_share(m, moe)).unwrap_or(0.0);
        let width = self.shard.shared_intermediate * moe.shared_experts;
        let shared = if width > 0 { self.mlp_us(own, width) } else { 0.0 };
        router + routed + shared
    }

    /// What the busiest GPU of the group computes of a layer's experts.
    fn expert_share(&self, m: u64, moe: MoeSpec) -> ExpertShare {
        ExpertShare::of(moe, self.shard.experts, self.experts, self.comm.gpus(), m)
    }

    /// Two norms with residual (four streams each), rotary embedding in place, and norms of queries and keys where the
    /// model has them (with `mla`: of both latents).
    fn layer_small_us(&self, m: u64) -> f64 {
        let m = m as f64;
        let hidden = m * f64::from(self.model.hidden);
        let heads = m * f64::from((self.shard.heads + self.shard.kv_heads) * self.rotated());
        let norm = small_kernel_us(&self.gpu, 8.0 * hidden);
        let in_place = small_kernel_us(&self.gpu, 4.0 * heads);
        let latents = self.model.mla.map_or(0.0, |mla| {
            small_kernel_us(&self.gpu, 4.0 * m * f64::from(mla.kv_lora_rank + mla.q_lora_rank.unwrap_or(0)))
        });
        2.0 * norm + in_place + latents + if self.model.qk_norm { in_place } else { 0.0 }
    }

    /// Width of the part of a head that carries the position.
    fn rotated(&self) -> u32 {
        self.model.mla.map_or(self.model.head_dim, |mla| mla.rope_head_dim)
    }

    /// Head, gathering of its shards, and greedy sampling in f32 [µs].
    fn head_us(&self, rows: u64) -> f64 {
        let logits = rows as f64 * f64::from(self.model.vocab);
        let head = self.matmul_us(WeightDtype::Bf16, rows, u64::from(self.shard.vocab), u64::from(self.model.hidden));
        // A gather moves half of what an all-reduce of the same buffer moves.
        let gather = if self.comm.is_group() { self.comm.gather_us(2.0 * logits) } else { 0.0 };
        head + gather + small_kernel_us(&self.gpu, 6.0 * logits) + small_kernel_us(&self.gpu, 4.0 * logits)
    }

    fn matmul_us(&self, dtype: WeightDtype, m: u64, n: u64, k: u64) -> f64 {
        // `new` has checked that the GPU can multiply the dtype.
        matmul_us(&self.gpu, dtype, m, n, k).unwrap_or(0.0)
    }

    fn linear(&mut self, tokens: u64) -> Cost {
        match self.linear.get(tokens as usize) {
            Some(known) if known.0 != 0 => *known,
            _ => self.fill_linear(tokens),
        }
    }

    #[cold]
    fn fill_linear(&mut self, tokens: u64) -> Cost {
        let cost = if tokens == 0 { Cost(0) } else { Cost::from_us(self.linear_us(tokens)) };
        if let Some(slot) = self.linear.get_mut(tokens as usize) {
            *slot = cost;
        }
        cost
    }

    fn head(&mut self, rows: u64) -> Cost {
        match self.head.get(rows as usize) {
            Some(known) if known.0 != 0 => *known,
            _ => self.fill_head(rows),
        }
    }

    #[cold]
    fn fill_head(&mut self, rows: u64) -> Cost {
        let cost = if rows == 0 { Cost(0) } else { Cost::from_us(self.head_us(rows)) };
        if let Some(slot) = self.head.get_mut(rows as usize) {
            *slot = cost;
        }
        cost
    }

    fn decode_base(&self, seqs: u64) -> Cost {
        if seqs == 0 { Cost(0) } else { self.decode_launch + self.decode_seq * seqs }
    }

    fn prefill_attention(&self, shape: &StepShape<'_>) -> Cost {
        if shape.prefill.is_empty() {
            return Cost(0);
        }
        let (mut pairs, mut tokens, mut past) = (0u64, 0u64, 0u64);
        for part in shape.prefill {
            let (new, present) = (u64::from(part.tokens), u64::from(part.past));
            pairs = pairs.saturating_add(new.saturating_mul(new + 2 * present));
            tokens += new;
            past += present;
        }
        self.prefill_launch + self.prefill_pair * pairs + self.prefill_token * tokens + self.prefill_past * past
    }
}

impl CostModel for Roofline {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let seqs = u64::from(shape.decode_seqs);
        let rows = seqs + u64::from(shape.prefill_ends);
        let shared = self.linear(shape.tokens()) + self.head(rows) + self.host.sampling(rows);
        let decode = self.decode_base(seqs) + self.decode_context * shape.decode_context;
        StepCost {
            device: shared + decode + self.prefill_attention(shape),
            host: self.host.of(seqs + shape.prefill.len() as u64),
        }
    }

    fn decode(&mut self, seqs: u32, _context: u64) -> DecodeCost {
        let seqs = u64::from(seqs);
        DecodeCost {
            base: self.linear(seqs) + self.head(seqs) + self.host.sampling(seqs) + self.decode_base(seqs),
            per_context: self.decode_context,
            valid_below: u64::MAX,
            host: self.host.of(seqs),
        }
    }
}

fn attention(
    gpu: &GpuSpec,
    model: &ModelSpec,
    shard: &Shard,
    kv: KvDtype,
) -> Result<(DecodeAttention, PrefillAttention), CostError> {
    let found = if let Some(mla) = model.mla {
        DecodeAttention::latent(gpu, kv, shard.heads, mla).zip(PrefillAttention::latent(gpu, kv, shard.heads, mla))
    } else {
        let heads = HeadShape { heads: shard.heads, kv_heads: shard.kv_heads, head_dim: model.head_dim };
        DecodeAttention::new(gpu, kv, heads).zip(PrefillAttention::new(gpu, kv, heads))
    };
    let head_dim = if model.mla.is_some() { forms::LATENT_FIT } else { model.head_dim };
    found.ok_or_else(|| attention_error(gpu, kv, head_dim))
}

fn experts_error(gpu: &GpuSpec, model: &ModelSpec, dtype: WeightDtype) -> CostError {
    let known = match &gpu.experts {
        Some(_) => "use bf16 or int4 weights",
        None => "choose another GPU, or a cost table measured on it",
    };
    CostError::Experts { gpu: gpu.name.clone(), model: model.name.clone(), dtype, known }
}

fn attention_error(gpu: &GpuSpec, kv: KvDtype, head_dim: u32) -> CostError {
    let known: Vec<String> =
        gpu.decode_attention.fits.iter().map(|fit| format!("{} with {}", fit.kv, fit.head_dim)).collect();
    CostError::Attention { gpu: gpu.name.clone(), kv, head_dim, known: known.join(", ") }
}
