//! What a step executes on one GPU: arithmetic operations, and bytes moved to and from its memory.
//!
//! ```text
//! operations   2 · weights that a token passes through · tokens      (layers; experts: those that the tokens visit)
//!              2 · head · sequences that need logits
//!              attention: 4 · heads · head_dim per pair of query and key, no more pairs than the causal mask leaves
//! bytes        weights of the layers once, of experts only those that some token visits; the head where logits are made;
//!              one row of the embedding per token
//!              keys and values: all that decoding sequences attend to, what a chunk finds and makes, what is written
//! ```
//!
//! These are the conventions under which the published coefficients of the power law were fitted (powertrace-sim,
//! `model/timing/iteration.py`): logical work, without the padding of CUDA graphs and tiles; activations are not counted,
//! most of them stay in the cache. Integers, but for the expected number of distinct experts, whose bytes and operations are rounded
//! once per number of tokens. So the work of a jump is the sum of its steps, exactly.

use std::ops::{Add, Mul, Sub};

use crate::cost::forms::ExpertShare;
use crate::cost::{PrefillPart, StepShape};
use crate::hardware::memory::{self, Stage};
use crate::hardware::model::{KvDtype, ModelError, ModelSpec, MoeSpec, Shard, WeightDtype};
use crate::hardware::parallel::{Exchange, ExpertParallel, Parallelism};

/// Work on one GPU of every stage of a replica, all stages together. Sums and products saturate.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Work {
    /// Floating-point operations in bf16: attention always, head and router always, layers unless they are fp8.
    pub bf16_flops: u64,
    /// Floating-point operations in fp8.
    pub fp8_flops: u64,
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes of keys and values read and written.
    pub kv_bytes: u64,
}

impl Work {
    /// All operations.
    pub fn flops(&self) -> u64 {
        self.bf16_flops.saturating_add(self.fp8_flops)
    }

    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.kv_bytes)
    }

    /// `part / whole` of it, at most the whole; all of it where there is no whole. The ratio is taken to 40 binary places, and what comes of it is
    /// rounded down: every reading of a replica asks for a share, and exact ones need a division of 128 bits for each number.
    #[must_use]
    pub fn share(&self, part: u64, whole: u64) -> Work {
        if part >= whole {
            return *self;
        }
        let ratio = (part as f64 / whole as f64 * SHARE) as u64;
        let of = |n: u64| ((u128::from(n) * u128::from(ratio)) >> SHARE_BITS) as u64;
        Work {
            bf16_flops: of(self.bf16_flops),
            fp8_flops: of(self.fp8_flops),
            weight_bytes: of(self.weight_bytes),
            kv_bytes: of(self.kv_bytes),
        }
    }
}

/// Binary places of a share.
const SHARE_BITS: u32 = 40;
const SHARE: f64 = (1_u64 << SHARE_BITS) as f64;

impl Add for Work {
    type Output = Work;
    fn add(self, other: Work) -> Work {
        Work {
            bf16_flops: self.bf16_flops.saturating_add(other.bf16_flops),
            fp8_flops: self.fp8_flops.saturating_add(other.fp8_flops),
            weight_bytes: self.weight_bytes.saturating_add(other.weight_bytes),
            kv_bytes: self.kv_bytes.saturating_add(other.kv_bytes),
        }
    }
}

impl Sub for Work {
    type Output = Work;
    fn sub(self, other: Work) -> Work {
        Work {
            bf16_flops: self.bf16_flops.saturating_sub(other.bf16_flops),
            fp8_flops: self.fp8_flops.saturating_sub(other.fp8_flops),
            weight_bytes: self.weight_bytes.saturating_sub(other.weight_bytes),
            kv_bytes: self.kv_bytes.saturating_sub(other.kv_bytes),
        }
    }
}

impl Mul<u64> for Work {
    type Output = Work;
    fn mul(self, times: u64) -> Work {
        Work {
            bf16_flops: self.bf16_flops.saturating_mul(times),
            fp8_flops: self.fp8_flops.saturating_mul(times),
            weight_bytes: self.weight_bytes.saturating_mul(times),
            kv_bytes: self.kv_bytes.saturating_mul(times),
        }
    }
}

/// The work of decode-only steps of one batch size: `base + per_context · s` for the context sum `s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeWork {
    /// Part that does not depend on the context.
    pub base: Work,
    /// Per attended KV token.
    pub per_context: Work,
}

/// Counts the work of steps of one model, spread over GPUs in one way.
#[derive(Clone, Debug)]
pub struct StepWork {
    model: ModelSpec,
    shard: Shard,
    weights: WeightDtype,
    /// Experts by number; the mean GPU, so without imbalance.
    experts: Option<ExpertParallel>,
    gpus: u32,
    /// Parts of the group that divide requests among them; the mean of them.
    ranks: u64,
    stages: u32,
    resident: u64,
    /// Operations per token outside of routed experts, head and attention, all layers.
    outside: u64,
    /// Bytes of weights that every step reads, and of all routed experts of one layer.
    read_always: u64,
    routed: u64,
    /// Operations per pair of query and key, one layer: decoding, and prompts.
    decode_pair: u64,
    prefill_pair: u64,
    /// Operations per token found before a chunk, one layer: keys and values made again from latents.
    remade: u64,
    /// Bytes of keys and values of one token in one layer.
    slot: u64,
    /// Layers that attend to everything, and those with a window of `window` tokens.
    far: u64,
    near: u64,
    /// Bytes of state that a decoding sequence reads and writes, all layers.
    state: u64,
    window: u64,
}

impl StepWork {
    /// For a model spread like that (a number: tensor parallelism alone).
    pub fn new(
        model: &ModelSpec,
        spread: impl Into<Parallelism>,
        weights: WeightDtype,
        kv: KvDtype,
    ) -> Result<StepWork, ModelError> {
        let spread = spread.into();
        let shard = model.shard_split(spread.split())?;
        if spread.stages == 0 || spread.stages > model.layers {
            let (stages, layers) = (spread.stages, model.layers);
            return Err(ModelError::Stages { model: model.name.clone(), stages, layers });
        }
        let stages = Stage::all(model, spread.stages).into_iter();
        let resident = stages.map(|stage| memory::stage_weight_bytes(model, &shard, weights, stage)).sum();
        let heads = u64::from(shard.heads);
        let (decode_pair, prefill_pair, remade) = model.mla.map_or_else(
            || {
                let pair = 4 * heads * u64::from(model.head_dim);
                (pair, pair, 0)
            },
            |mla| {
                let (rank, stored) = (u64::from(mla.kv_lora_rank), u64::from(mla.stored()));
                let (key, value) = (u64::from(mla.qk_head_dim()), u64::from(mla.v_head_dim));
                let made = u64::from(mla.nope_head_dim + mla.v_head_dim);
                (2 * heads * (stored + rank), 2 * heads * (key + value), 2 * heads * rank * made)
            },
        );
        let near = model.sliding.map_or(0, |sliding| u64::from(sliding.layers));
        let attention = u64::from(model.attention_layers()) * model.attention_weights_of(shard.heads, shard.kv_heads);
        let recurrent = u64::from(model.layers - model.attention_layers());
        let attention = attention + recurrent * model.recurrent_weights_of(shard.recurrent);
        let mlp = u64::from(model.dense_layers()) * model.mlp_weights_of(shard.intermediate);
        Ok(StepWork {
            outside: 2 * (attention + mlp),
            read_always: read_always(model, &shard, weights),
            routed: routed_bytes(model, &shard, weights),
            experts: spread.experts.map(|experts| ExpertParallel { imbalance: 1.0, ..experts }),
            gpus: spread.tensor,
            ranks: u64::from(spread.ranks),
            stages: spread.stages,
            weights,
            resident,
            decode_pair,
            prefill_pair,
            remade,
            slot: model.stored_per_token(shard.kv_heads) * kv.bytes(),
            far: u64::from(model.attention_layers()) - near,
            near,
            // A step reads and writes the state of every sequence.
            state: model.recurrent.map_or(0, |one| 2 * u64::from(one.layers) * one.bytes_per_sequence(shard.recurrent)),
            window: model.sliding.map_or(0, |sliding| u64::from(sliding.window)),
            model: model.clone(),
            shard,
        })
    }

    /// Groups of GPUs that do one step after the other.
    pub fn stages(&self) -> u32 {
        self.stages
    }

    /// Bytes of weights on one GPU, the mean over the stages.
    pub fn resident_bytes(&self) -> f64 {
        self.resident as f64 / f64::from(self.stages)
    }

    /// The work of one step of any shape; none without tokens.
    pub fn of(&self, shape: &StepShape<'_>) -> Work {
        let tokens = shape.tokens();
        if tokens == 0 {
            return Work::default();
        }
        let seqs = u64::from(shape.decode_seqs);
        let rows = seqs + u64::from(shape.prefill_ends);
        let prefill = shape.prefill.iter().fold(Work::default(), |sum, part| sum + self.chunk(*part));
        let prefill = self.of_rank(prefill);
        self.layers(tokens) + self.head(rows) + self.decoded(seqs) + self.attended() * shape.decode_context + prefill
    }

    /// The work of decode-only steps of `seqs` sequences, as a function of the context sum.
    pub fn decode(&self, seqs: u32) -> DecodeWork {
        let seqs = u64::from(seqs);
        let base = if seqs == 0 { Work::default() } else { self.layers(seqs) + self.head(seqs) + self.decoded(seqs) };
        DecodeWork { base, per_context: self.attended() }
    }

    /// Matrices of all layers for `tokens` tokens, and rows of the embedding.
    fn layers(&self, tokens: u64) -> Work {
        let sparse = u64::from(self.model.layers - self.model.dense_layers());
        let own = tokens.div_ceil(self.ranks);
        let rows = own.saturating_mul(2 * u64::from(self.model.hidden));
        let outside = arithmetic(self.weights.outside_experts(), self.outside, own);
        let read = Work { weight_bytes: self.read_always.saturating_add(rows), ..Work::default() };
        outside + read + self.experts(tokens) * sparse
    }

    /// Routed and shared experts and the router of one layer, and the bytes of the routed ones.
    fn experts(&self, tokens: u64) -> Work {
        let (model, shard) = (&self.model, &self.shard);
        let Some(moe) = model.moe else { return Work::default() };
        let share = ExpertShare::of(moe, shard.experts, self.experts, f64::from(self.gpus), tokens);
        let one = model.mlp_weights_of(shard.expert_intermediate);
        let routed = arithmetic(self.weights, 2 * one, share.own.round() as u64);
        // Tokens that are this GPU's own outside of the routed experts.
        let exchanges = self.experts.is_some_and(|experts| experts.exchange == Exchange::AllToAll);
        let own = match self.ranks {
            1 if exchanges => tokens.div_ceil(u64::from(self.gpus)),
            ranks => tokens.div_ceil(ranks),
        };
        let shared = u64::from(moe.shared_experts) * model.mlp_weights_of(shard.shared_intermediate);
        let always = arithmetic(self.weights.outside_experts(), 2 * shared, own)
            + arithmetic(WeightDtype::Bf16, 2 * model.router_weights(), own);
        let visited = share.touched / f64::from(shard.experts) * self.routed as f64;
        routed + always + Work { weight_bytes: visited.round() as u64, ..Work::default() }
    }

    /// The head for so many sequences.
    fn head(&self, rows: u64) -> Work {
        let rows = rows.div_ceil(self.ranks);
        let weights = u64::from(self.shard.vocab) * u64::from(self.model.hidden);
        let read = if rows > 0 { 2 * weights } else { 0 };
        arithmetic(WeightDtype::Bf16, 2 * weights, rows) + Work { weight_bytes: read, ..Work::default() }
    }

    /// What a decoding sequence does beside its context: it writes one token, and layers with a window read that, however short the
    /// sequence.
    fn decoded(&self, seqs: u64) -> Work {
        let windows = self.near * self.window;
        let written = self.slot * u64::from(self.model.attention_layers()) + self.state;
        let each =
            Work { bf16_flops: self.decode_pair * windows, kv_bytes: self.slot * windows + written, ..Work::default() };
        each * seqs.div_ceil(self.ranks)
    }

    /// One attended token of a decoding sequence.
    fn attended(&self) -> Work {
        let all = Work { bf16_flops: self.decode_pair * self.far, kv_bytes: self.slot * self.far, ..Work::default() };
        self.of_rank(all)
    }

    /// What of the group's attention one rank has, in the mean.
    fn of_rank(&self, work: Work) -> Work {
        Work { bf16_flops: work.bf16_flops / self.ranks, kv_bytes: work.kv_bytes / self.ranks, ..work }
    }

    /// Attention of a chunk of a prompt. What it finds is read once; what it makes is written and read once. Layers with a window
    /// compare each token with a whole one.
    fn chunk(&self, part: PrefillPart) -> Work {
        let (new, past) = (u64::from(part.tokens), u64::from(part.past));
        let pairs = new.saturating_mul(past).saturating_add(new.saturating_mul(new + 1) / 2);
        let near_pairs = new * self.window;
        let made = past.saturating_mul(self.remade).saturating_mul(self.far);
        let compared = self.far.saturating_mul(pairs).saturating_add(self.near * near_pairs);
        let bf16_flops = self.prefill_pair.saturating_mul(compared).saturating_add(made);
        let slots = self.far * (past + 2 * new) + self.near * (past.min(self.window) + 2 * new);
        Work { bf16_flops, kv_bytes: self.slot.saturating_mul(slots), ..Work::default() }
    }
}

/// Bytes of all routed experts of one layer that one GPU holds.
fn routed_bytes(model: &ModelSpec, shard: &Shard, weights: WeightDtype) -> u64 {
    let shared = |moe: MoeSpec| u64::from(moe.shared_experts) * model.mlp_weights_of(shard.shared_intermediate);
    model.expert_bytes_of(shard, weights) - weights.outside_experts().bytes(model.moe.map_or(0, shared))
}

/// Bytes of weights that every step reads: all but routed experts, embedding and head.
fn read_always(model: &ModelSpec, shard: &Shard, weights: WeightDtype) -> u64 {
    let sparse = u64::from(model.layers - model.dense_layers());
    let stage = Stage { layers: model.layers, dense: model.dense_layers(), first: false, last: false };
    memory::stage_weight_bytes(model, shard, weights, stage) - sparse * routed_bytes(model, shard, weights)
}

/// `flops` operations per token, in the arithmetic of a weight dtype.
fn arithmetic(dtype: WeightDtype, flops: u64, tokens: u64) -> Work {
    let flops = flops.saturating_mul(tokens);
    match dtype {
        WeightDtype::Fp8 => Work { fp8_flops: flops, ..Work::default() },
        WeightDtype::Bf16 | WeightDtype::Int4 | WeightDtype::Mxfp4 | WeightDtype::Bits(_) => {
            Work { bf16_flops: flops, ..Work::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_with_their_part_and_are_near_the_exact_one() {
        let work = Work { bf16_flops: u64::MAX, fp8_flops: 3, weight_bytes: 1 << 45, kv_bytes: 0 };
        assert_eq!((work.share(5, 5), work.share(7, 5), work.share(1, 0)), (work, work, work));
        assert_eq!(work.share(0, 5), Work::default());
        let whole = 30_000_000_u64 << 20;
        let mut before = Work::default();
        for step in 1..1000 {
            let part = whole / 1000 * step + step * step * 7919;
            let share = work.share(part, whole);
            for (n, share, before) in [
                (work.bf16_flops, share.bf16_flops, before.bf16_flops),
                (work.weight_bytes, share.weight_bytes, before.weight_bytes),
            ] {
                let exact = u128::from(n) * u128::from(part) / u128::from(whole);
                let away = exact.abs_diff(u128::from(share));
                assert!(away <= (u128::from(n) >> SHARE_BITS) + 1, "{n} · {part} / {whole}: {away} away");
                assert!(share >= before);
            }
            before = share;
        }
    }
}
