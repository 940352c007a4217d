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
//! Under data-parallel attention a step is as long as the busiest of its `R` ranks, and `m` is what that one has: decoding
//! requests and their contexts are the mean over the ranks, a prompt is computed by one rank alone. The experts see all
//! ranks' tokens, `M`: `R` captured graphs of the busiest while all decode, else the tokens that there are.
//!
//! ```text
//! layers × [ matmuls(m) + attention + small kernels(m) + all-reduce in the rank(m) ]
//!   + layers with experts × [ router and shared experts(m) + gather(M) + routed experts(M) + scatter(M) ]
//! ```
//!
//! A pipeline's stages do one step after the other: `Σ stages` is the whole model, plus the ways between them. Sliding
//! layers read at most their window; which of the sequences are shorter is not known, so that all count as alike long. Recurrent layers read
//! and write their state once per sequence.
//!
//! `m` is the number of tokens, rounded up to the next captured CUDA graph ([`graph_size`]); `rows` the sequences that
//! need logits. All that depends on `m` or `rows` alone is computed once and kept; attention is affine in sums that a
//! step shape gives directly, so a warm step costs a few multiplications. A mixed step is charged one launch of decode
//! and one of prefill attention.
//!
//! Known bias: fp8 steps come out 7 to 15 % slow against vLLM on Hopper, whose compiler fuses the quantisation of the
//! activations into the kernel before; the measured matmuls charge it as a kernel of its own.

mod layers;
mod ranks;
mod verify;

use super::comm::Comm;
use super::forms::{self, DecodeAttention, HeadShape, PrefillAttention};
use super::host::HostCost;
use super::recurrence::Recurrence;
use super::{Bound, Cost, CostModel, DecodeCost, DecodeParts, Parts, StepCost, StepShape};
use crate::hardware::gpu::GpuSpec;
use crate::hardware::model::{KvDtype, ModelError, ModelSpec, Shard, WeightDtype};
use crate::hardware::parallel::{ExpertParallel, Parallelism};
use ranks::{Prompts, Share};

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
    /// The engine's own all-reduce is off, and there are no constants for NCCL's.
    #[error("{gpu} has no measured collectives of NCCL; leave out `disable_custom_all_reduce`")]
    NoNccl {
        /// The GPU.
        gpu: String,
    },
    /// Ranks and stages at once.
    #[error("data-parallel attention inside a pipeline is not modelled; leave out one of them")]
    RanksInStages,
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
    /// The same of the layers with a window, which attend to no more than that.
    decode_near: Parts,
    window: u64,
    prefill_launch: Parts,
    prefill_pair: Parts,
    prefill_near_pair: Parts,
    prefill_token: Parts,
    prefill_past: Parts,
}

impl Attention {
    /// `ranks`: parts of a group among which the attended tokens are spread evenly.
    fn new(
        gpu: &GpuSpec,
        model: &ModelSpec,
        shard: &Shard,
        (decode, prefill): (&DecodeAttention, &PrefillAttention),
        ranks: u32,
    ) -> Attention {
        let (layers, share) = (f64::from(model.attention_layers()), 1.0 / f64::from(ranks));
        let (near, window) = model.sliding.map_or((0.0, 0), |s| (f64::from(s.layers), u64::from(s.window)));
        let state = model.recurrent.map_or_else(Recurrence::default, |one| Recurrence::new(gpu, one, shard.recurrent));
        let recurrent = model.recurrent.map_or(0.0, |one| f64::from(one.layers));
        let all = |time: Bound, recurrence: Bound| (time * layers + recurrence * recurrent).parts();
        Attention {
            decode_launch: all(decode.floor, state.decode_launch),
            decode_seq: all(decode.per_seq, state.per_seq),
            decode_context: (decode.per_context * share * (layers - near)).parts(),
            decode_near: (decode.per_context * share * near).parts(),
            window,
            prefill_launch: all(prefill.floor, state.prefill_launch),
            prefill_pair: (prefill.per_pair * (layers - near)).parts(),
            prefill_near_pair: (prefill.per_pair * near).parts(),
            prefill_token: all(prefill.per_token, state.per_token),
            prefill_past: (prefill.per_past * (layers - near)).parts(),
        }
    }

    /// Attended tokens in the layers with a window, of `seqs` sequences of alike length (of all ranks): the mean of what each attends to is at
    /// most this.
    fn near(&self, seqs: u32, context: u64) -> u64 {
        context.min(self.window.saturating_mul(u64::from(seqs)))
    }

    /// What depends on the context sum of a decode step: fixed part, per attended token, and below which sum that holds.
    fn context(&self, seqs: u32, context: u64) -> (Parts, Parts, u64) {
        let bend = self.window.saturating_mul(u64::from(seqs));
        if context < bend {
            (Parts::default(), self.decode_context + self.decode_near, bend)
        } else {
            (self.decode_near * bend, self.decode_context, u64::MAX)
        }
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
    /// Among all GPUs of the group, and among those of a rank: the same without ranks.
    comm: Comm,
    rank_comm: Comm,
    ranks: u64,
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
    /// Routed experts and their exchange by gathered tokens, where requests are divided among ranks.
    gathered: Vec<Cost>,
    gathered_parts: Vec<Option<Parts>>,
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
        let shard = model.shard_split(spread.split())?;
        if spread.ranks > 1 && spread.stages > 1 {
            return Err(CostError::RanksInStages);
        }
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
        let rank_comm = if spread.ranks > 1 { Comm::of_rank(gpu, &spread)? } else { comm.clone() };
        let size = max_tokens as usize + 1;
        let gathered = if spread.ranks > 1 { size + spread.ranks as usize * 16 } else { 0 };
        Ok(Roofline {
            gpu: gpu.clone(),
            model: model.clone(),
            shard,
            weights,
            kv,
            experts: spread.experts,
            comm,
            rank_comm,
            ranks: u64::from(spread.ranks),
            host,
            graph_padding: true,
            queries: 1,
            scored: 1,
            attention: Attention::new(gpu, model, &shard, (&decode, &prefill), spread.ranks),
            linear: vec![Cost(0); size],
            head: vec![Cost(0); size],
            linear_parts: Vec::new(),
            head_parts: Vec::new(),
            gathered: vec![Cost(0); gathered],
            gathered_parts: Vec::new(),
        })
    }

    /// The same without CUDA graphs: batches are not padded. (Launch overhead is the host's.)
    #[must_use]
    pub fn without_graph_padding(mut self) -> Roofline {
        self.graph_padding = false;
        self.linear.fill(Cost(0));
        self.linear_parts.clear();
        self.gathered.fill(Cost(0));
        self.gathered_parts.clear();
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

    fn prefill_attention(&self, prompts: &Prompts) -> Cost {
        if !prompts.any {
            return Cost(0);
        }
        let Attention { prefill_launch, prefill_pair, prefill_near_pair, prefill_token, prefill_past, .. } =
            &self.attention;
        let &Prompts { pairs, near_pairs, tokens, past, .. } = prompts;
        prefill_launch.whole
            + prefill_pair.whole * pairs
            + prefill_near_pair.whole * near_pairs
            + prefill_token.whole * tokens
            + prefill_past.whole * past
    }

    /// Parts of what depends on the number of tokens and of rows, and of drawing tokens.
    fn shared_parts(&mut self, part: &Share) -> Parts {
        let &Share { tokens, gathered, rows, .. } = part;
        let mut linear = std::mem::take(&mut self.linear_parts);
        let mut head = std::mem::take(&mut self.head_parts);
        let shared = known(&mut linear, self.linear.len(), tokens, |tokens| self.linear_time(tokens))
            + known(&mut head, self.head.len(), rows, |rows| self.head_time(rows));
        (self.linear_parts, self.head_parts) = (linear, head);
        shared + self.gathered_parts(gathered) + Parts::host(self.host.sampling(rows))
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
        let part = self.share(shape);
        let near = self.attention.decode_near.whole * self.attention.near(shape.decode_seqs, shape.decode_context);
        let decode = self.decode_base(part.seqs) + self.attention.decode_context.whole * shape.decode_context + near;
        let shared = self.linear(part.tokens) + self.head(part.rows) + self.host.sampling(part.rows);
        StepCost {
            device: shared + self.among_ranks(part.gathered) + decode + self.prefill_attention(&part.prompts),
            host: self.host.of(part.requests),
        }
    }

    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        let Share { tokens, gathered, seqs: own, rows, .. } = self.decode_share(seqs);
        let (fixed, per_context, valid_below) = self.attention.context(seqs, context);
        let shared = self.linear(tokens) + self.head(rows) + self.host.sampling(rows);
        DecodeCost {
            base: shared + self.among_ranks(gathered) + self.decode_base(own) + fixed.whole,
            per_context: per_context.whole,
            valid_below,
            host: self.host.of(own),
        }
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        let part = self.share(shape);
        let shared = self.shared_parts(&part);
        let near = self.attention.decode_near * self.attention.near(shape.decode_seqs, shape.decode_context);
        let decode = self.decode_base_parts(part.seqs) + self.attention.decode_context * shape.decode_context + near;
        if !part.prompts.any {
            return shared + decode;
        }
        let Attention { prefill_launch, prefill_pair, prefill_near_pair, prefill_token, prefill_past, .. } =
            self.attention;
        let Prompts { pairs, near_pairs, tokens, past, .. } = part.prompts;
        let prompts = prefill_launch + prefill_pair * pairs + prefill_near_pair * near_pairs;
        shared + decode + prompts + prefill_token * tokens + prefill_past * past
    }

    fn step_in_parts(&mut self, shape: &StepShape<'_>) -> (StepCost, Parts) {
        let parts = self.parts(shape);
        let host = self.host.of(self.share(shape).requests);
        (StepCost { device: parts.whole, host }, parts)
    }

    fn decode_in_parts(&mut self, seqs: u32, context: u64) -> (DecodeCost, DecodeParts) {
        let parts = self.decode_parts(seqs, context);
        let (base, per_context) = (parts.base.whole, parts.per_context.whole);
        let (_, _, valid_below) = self.attention.context(seqs, context);
        let host = self.host.of(self.decode_share(seqs).seqs);
        (DecodeCost { base, per_context, valid_below, host }, parts)
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        let part = self.decode_share(seqs);
        let (fixed, per_context, _) = self.attention.context(seqs, context);
        let base = self.shared_parts(&part) + self.decode_base_parts(part.seqs) + fixed;
        DecodeParts { base, per_context }
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
