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

mod layers;
mod verify;

use super::comm::Comm;
use super::forms::{self, DecodeAttention, HeadShape, PrefillAttention};
use super::host::HostCost;
use super::{Bound, Cost, CostModel, DecodeCost, DecodeParts, Parts, StepCost, StepShape};
use crate::hardware::gpu::GpuSpec;
use crate::hardware::model::{KvDtype, ModelError, ModelSpec, Shard, WeightDtype};
use crate::hardware::parallel::{ExpertParallel, Parallelism};

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

/// What attention costs, all layers together.
#[derive(Clone, Copy, Debug)]
struct Attention {
    decode_launch: Parts,
    decode_seq: Parts,
    decode_context: Parts,
    prefill_launch: Parts,
    prefill_pair: Parts,
    prefill_token: Parts,
    prefill_past: Parts,
}

impl Attention {
    fn new(model: &ModelSpec, decode: &DecodeAttention, prefill: &PrefillAttention) -> Attention {
        let layers = f64::from(model.layers);
        let (near, window) = model.sliding.map_or((0.0, 0.0), |s| (f64::from(s.layers), f64::from(s.window)));
        let all_layers = |time: Bound| (time * layers).parts();
        let far_layers = |time: Bound, time_near: Bound| (time * (layers - near) + time_near * near).parts();
        let none = Bound::default();
        Attention {
            decode_launch: all_layers(decode.floor),
            decode_seq: far_layers(decode.per_seq, decode.per_seq + decode.per_context * window),
            decode_context: far_layers(decode.per_context, none),
            prefill_launch: all_layers(prefill.floor),
            prefill_pair: far_layers(prefill.per_pair, none),
            prefill_token: far_layers(prefill.per_token, prefill.per_token + prefill.per_pair * (2.0 * window)),
            prefill_past: far_layers(prefill.per_past, none),
        }
    }
}

/// Sums over the prompts of a step.
struct Prompts {
    pairs: u64,
    tokens: u64,
    past: u64,
}

impl Prompts {
    fn of(shape: &StepShape<'_>) -> Prompts {
        let (mut pairs, mut tokens, mut past) = (0u64, 0u64, 0u64);
        for part in shape.prefill {
            let (new, present) = (u64::from(part.tokens), u64::from(part.past));
            pairs = pairs.saturating_add(new.saturating_mul(new + 2 * present));
            tokens += new;
            past += present;
        }
        Prompts { pairs, tokens, past }
    }
}

/// Closed-form step costs of one model on one kind of GPU. What binds a step is known kernel by kernel: each roofline gives its time to its two limits,
/// collectives are links, floors and starts of kernels are the host's.
#[derive(Clone, Debug)]
pub struct Roofline {
    gpu: GpuSpec,
    model: ModelSpec,
    shard: Shard,
    weights: WeightDtype,
    kv: KvDtype,
    experts: Option<ExpertParallel>,
    comm: Comm,
    host: HostCost,
    graph_padding: bool,
    /// Tokens of a decoding sequence in a step, and those of them that need logits: more than 1 where drafts are verified.
    queries: u64,
    scored: u64,
    attention: Attention,
    /// Everything that depends on the token count alone, by token count; 0: not computed yet.
    linear: Vec<Cost>,
    /// Head and sampling, by rows; 0: not computed yet.
    head: Vec<Cost>,
    /// The parts of both; empty until somebody asks.
    linear_parts: Vec<Option<Parts>>,
    head_parts: Vec<Option<Parts>>,
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
        let size = max_tokens as usize + 1;
        Ok(Roofline {
            gpu: gpu.clone(),
            model: model.clone(),
            shard,
            weights,
            kv,
            experts: spread.experts,
            comm,
            host,
            graph_padding: true,
            queries: 1,
            scored: 1,
            attention: Attention::new(model, &decode, &prefill),
            linear: vec![Cost(0); size],
            head: vec![Cost(0); size],
            linear_parts: Vec::new(),
            head_parts: Vec::new(),
        })
    }

    /// The same without CUDA graphs: batches are not padded. (Launch overhead is the host's.)
    #[must_use]
    pub fn without_graph_padding(mut self) -> Roofline {
        self.graph_padding = false;
        self.linear.fill(Cost(0));
        self.linear_parts.clear();
        self
    }

    fn linear(&mut self, tokens: u64) -> Cost {
        match self.linear.get(tokens as usize) {
            Some(known) if known.0 != 0 => *known,
            _ => self.fill_linear(tokens),
        }
    }

    #[cold]
    fn fill_linear(&mut self, tokens: u64) -> Cost {
        let cost = if tokens == 0 { Cost(0) } else { self.linear_time(tokens).cost() };
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
        let cost = if rows == 0 { Cost(0) } else { self.head_time(rows).cost() };
        if let Some(slot) = self.head.get_mut(rows as usize) {
            *slot = cost;
        }
        cost
    }

    fn decode_base(&self, seqs: u64) -> Cost {
        let Attention { decode_launch, decode_seq, .. } = &self.attention;
        if seqs == 0 { Cost(0) } else { decode_launch.whole + decode_seq.whole * seqs }
    }

    fn prefill_attention(&self, shape: &StepShape<'_>) -> Cost {
        if shape.prefill.is_empty() {
            return Cost(0);
        }
        let Attention { prefill_launch, prefill_pair, prefill_token, prefill_past, .. } = &self.attention;
        let Prompts { pairs, tokens, past } = Prompts::of(shape);
        prefill_launch.whole + prefill_pair.whole * pairs + prefill_token.whole * tokens + prefill_past.whole * past
    }

    /// Parts of what depends on the number of tokens and of rows, and of drawing tokens.
    fn shared_parts(&mut self, tokens: u64, rows: u64) -> Parts {
        let mut linear = std::mem::take(&mut self.linear_parts);
        let mut head = std::mem::take(&mut self.head_parts);
        let shared = known(&mut linear, self.linear.len(), tokens, |tokens| self.linear_time(tokens))
            + known(&mut head, self.head.len(), rows, |rows| self.head_time(rows));
        (self.linear_parts, self.head_parts) = (linear, head);
        shared + Parts::host(self.host.sampling(rows))
    }

    fn decode_base_parts(&self, seqs: u64) -> Parts {
        let Attention { decode_launch, decode_seq, .. } = self.attention;
        if seqs == 0 { Parts::default() } else { decode_launch + decode_seq * seqs }
    }
}

/// Parts of a time by a number that it depends on, computed once below `most`.
fn known(memo: &mut Vec<Option<Parts>>, most: usize, at: u64, time: impl Fn(u64) -> Bound) -> Parts {
    if at == 0 {
        return Parts::default();
    }
    memo.resize(most, None);
    match memo.get_mut(at as usize) {
        Some(slot) => *slot.get_or_insert_with(|| time(at).parts()),
        None => time(at).parts(),
    }
}

impl CostModel for Roofline {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let seqs = u64::from(shape.decode_seqs);
        let (tokens, rows) = (self.tokens(shape), self.rows(shape));
        let shared = self.linear(tokens) + self.head(rows) + self.host.sampling(rows);
        let decode = self.decode_base(seqs) + self.attention.decode_context.whole * shape.decode_context;
        StepCost {
            device: shared + decode + self.prefill_attention(shape),
            host: self.host.of(seqs + shape.prefill.len() as u64),
        }
    }

    fn decode(&mut self, seqs: u32, _context: u64) -> DecodeCost {
        let seqs = u64::from(seqs);
        let (tokens, rows) = (seqs * self.queries, seqs * self.scored);
        DecodeCost {
            base: self.linear(tokens) + self.head(rows) + self.host.sampling(rows) + self.decode_base(seqs),
            per_context: self.attention.decode_context.whole,
            valid_below: u64::MAX,
            host: self.host.of(seqs),
        }
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        let seqs = u64::from(shape.decode_seqs);
        let shared = self.shared_parts(self.tokens(shape), self.rows(shape));
        let decode = self.decode_base_parts(seqs) + self.attention.decode_context * shape.decode_context;
        if shape.prefill.is_empty() {
            return shared + decode;
        }
        let Attention { prefill_launch, prefill_pair, prefill_token, prefill_past, .. } = self.attention;
        let Prompts { pairs, tokens, past } = Prompts::of(shape);
        shared + decode + prefill_launch + prefill_pair * pairs + prefill_token * tokens + prefill_past * past
    }

    fn step_in_parts(&mut self, shape: &StepShape<'_>) -> (StepCost, Parts) {
        let parts = self.parts(shape);
        let host = self.host.of(u64::from(shape.decode_seqs) + shape.prefill.len() as u64);
        (StepCost { device: parts.whole, host }, parts)
    }

    fn decode_in_parts(&mut self, seqs: u32, context: u64) -> (DecodeCost, DecodeParts) {
        let parts = self.decode_parts(seqs, context);
        let (base, per_context) = (parts.base.whole, parts.per_context.whole);
        (DecodeCost { base, per_context, valid_below: u64::MAX, host: self.host.of(u64::from(seqs)) }, parts)
    }

    fn decode_parts(&mut self, seqs: u32, _context: u64) -> DecodeParts {
        let seqs = u64::from(seqs);
        let base = self.shared_parts(seqs * self.queries, seqs * self.scored) + self.decode_base_parts(seqs);
        DecodeParts { base, per_context: self.attention.decode_context }
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
