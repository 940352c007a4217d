//! What a retention policy costs beside the attention that it saves: gates, scores, and the search for what goes.
//!
//! ```text
//! each step          the gates' weights are read once
//! each token         2 · layers · (hidden · width + width · kv heads) operations of the gates
//! each decode        its slots · (bytes of a step + bytes of an eviction / every), and for what compares keys with keys
//!                    its slots · budget · 2 · head_dim operations / every
//! each chunk         its slots and tokens · (bytes of an eviction + four passes over the scores)
//!                    and (its slots and tokens)² · 2 · head_dim operations, for what compares keys with keys
//! ```
//!
//! Where tokens of a prompt go once, after its last chunk, each chunk is charged with what it adds to that eviction: by its own tokens, and by
//! the pairs that they add. Over the chunks of a prompt this is the eviction of the whole prompt.
//!
//! Per layer and KV head, over the GPUs of the group. Bytes count at the bandwidth that small kernels get, operations at what matrix
//! products get; launches are taken to be part of the captured step. A sequence below its budget is charged for looking at its slots
//! too: at most that is what it costs.

use super::{Cost, CostModel, DecodeCost, DecodeParts, Jitter, Parts, StepCost, StepShape};
use crate::hardware::gpu::GpuSpec;
use crate::hardware::model::{KvDtype, ModelSpec, Shard};

/// Passes of a radix selection over scores of four bytes.
const SELECT_BYTES: f64 = 16.0;

/// What a policy costs beside attention, for each layer and KV head of a request. Dimensions of a head count in `dims`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct SlotWork {
    /// Bytes that each slot has beside its key and value: position and score.
    pub slot_bytes: u32,
    /// Bytes read or written per slot in every decode step.
    pub step_bytes: u32,
    /// Bytes per slot whenever some go; and so many times the bytes of a key.
    pub evict_bytes: u32,
    /// Keys read per slot whenever some go.
    pub evict_keys: u32,
    /// Pairs of keys multiplied: so many multiplications of heads for each pair of slots whenever some go.
    pub evict_pairs: u32,
    /// Hidden width of the network that each token goes through; 0: there is none.
    pub gate_width: u32,
}

/// A cost model whose steps keep budgets. Gates on tokens and the pairs of keys of prompts are bound by arithmetic, what reads weights and slots by
/// memory: comparing keys with keys while a sequence decodes, which computes, counts there too.
#[derive(Debug)]
pub struct Retained<C> {
    inner: C,
    work: RetentionWork,
}

/// When a policy evicts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Slots that stay.
    pub budget: u32,
    /// Tokens between two evictions of a sequence that decodes.
    pub every: u32,
    /// Whether tokens of a prompt go once, after its last chunk, and not after each.
    pub at_end: bool,
}

/// What retention adds to a step.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RetentionWork {
    /// Each step.
    pub step: Cost,
    /// Each token.
    pub token: Cost,
    /// Each slot that a decoding sequence attends to.
    pub slot: Cost,
    /// Each slot or token that an eviction of a prompt looks at.
    pub chunk_slot: Cost,
    /// Each pair of slots that it compares.
    pub chunk_pair: Cost,
    /// Whether a prompt is looked at once, after its last chunk.
    pub at_end: bool,
}

impl RetentionWork {
    /// The work of a policy with this pace of evictions, on a GPU that has a shard of the model.
    pub fn new(
        work: &SlotWork,
        Pace { budget, every, at_end }: Pace,
        gpu: &GpuSpec,
        (model, shard): (&ModelSpec, &Shard),
        kv: KvDtype,
    ) -> RetentionWork {
        if *work == SlotWork::default() {
            return RetentionWork::default();
        }
        let heads = f64::from(model.layers) * f64::from(shard.kv_heads);
        let byte_us = 1e6 / (gpu.small_kernels.memory * gpu.bandwidth.0);
        let flop_us = 1e6 / (gpu.matmul.bf16.compute * gpu.peak_bf16.0);
        let key = f64::from(model.head_dim) * kv.bytes() as f64;
        let evict = f64::from(work.evict_bytes) + f64::from(work.evict_keys) * key;
        let every = f64::from(every);
        let pair = f64::from(work.evict_pairs) * 2.0 * f64::from(model.head_dim) * flop_us;
        let width = f64::from(work.gate_width);
        let ways = f64::from(model.hidden) * width + width * f64::from(model.kv_heads);
        // Every GPU of a group has the whole hidden state: the gates are computed on each, all of them.
        let layers = f64::from(model.layers);
        let gate_bytes = 2.0 * ways * layers;
        let gate = if work.gate_width == 0 { 0.0 } else { gate_bytes * byte_us };
        RetentionWork {
            step: Cost::from_us(gate),
            token: Cost::from_us(2.0 * ways * layers * flop_us),
            slot: Cost::from_us(
                heads * ((f64::from(work.step_bytes) + evict / every) * byte_us + f64::from(budget) * pair / every),
            ),
            chunk_slot: Cost::from_us(heads * (evict + SELECT_BYTES) * byte_us),
            chunk_pair: Cost::from_us(heads * pair),
            at_end,
        }
    }
}

impl RetentionWork {
    /// What it adds to a step.
    fn of(&self, shape: &StepShape<'_>) -> Parts {
        let (mut slots, mut pairs) = (0u64, 0u64);
        for part in shape.prefill {
            let (past, tokens) = (u64::from(part.past), u64::from(part.tokens));
            let before = if self.at_end { past } else { 0 };
            slots += past + tokens - before;
            pairs = pairs.saturating_add((past + tokens) * (past + tokens) - before * before);
        }
        let memory = self.step + self.slot * shape.decode_context + self.chunk_slot * slots;
        Parts::memory(memory) + Parts::compute(self.token * shape.tokens() + self.chunk_pair * pairs)
    }
}

impl<C: CostModel> Retained<C> {
    /// The steps of `inner`, and this work in each.
    pub fn new(inner: C, work: RetentionWork) -> Retained<C> {
        Retained { inner, work }
    }
}

impl<C: CostModel> CostModel for Retained<C> {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let cost = self.inner.step(shape);
        if shape.tokens() == 0 {
            return cost;
        }
        StepCost { device: cost.device + self.work.of(shape).whole, ..cost }
    }

    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        let cost = self.inner.decode(seqs, context);
        if seqs == 0 {
            return cost;
        }
        let base = cost.base + self.work.step + self.work.token * u64::from(seqs);
        DecodeCost { base, per_context: cost.per_context + self.work.slot, ..cost }
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        let parts = self.inner.parts(shape);
        if shape.tokens() == 0 { parts } else { parts + self.work.of(shape) }
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        let parts = self.inner.decode_parts(seqs, context);
        if seqs == 0 {
            return parts;
        }
        let RetentionWork { step, token, slot, .. } = self.work;
        DecodeParts {
            base: parts.base + Parts::memory(step) + Parts::compute(token * u64::from(seqs)),
            per_context: parts.per_context + Parts::memory(slot),
        }
    }

    fn jitter(&self) -> Option<&Jitter> {
        self.inner.jitter()
    }
}

impl CostModel for Box<dyn CostModel> {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        (**self).step(shape)
    }

    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        (**self).decode(seqs, context)
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        (**self).parts(shape)
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        (**self).decode_parts(seqs, context)
    }

    fn jitter(&self) -> Option<&Jitter> {
        (**self).jitter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{Constant, PrefillPart};

    #[test]
    fn decode_agrees_with_step_and_each_part_is_charged() {
        let work = RetentionWork {
            step: Cost(1000),
            token: Cost(10),
            slot: Cost(3),
            chunk_slot: Cost(7),
            chunk_pair: Cost(1),
            at_end: false,
        };
        let inner = Constant(StepCost { device: Cost(50), host: Cost(5) });
        let mut model = Retained::new(inner, work);
        let shape = StepShape { decode_seqs: 4, decode_context: 400, prefill: &[], prefill_ends: 0 };
        let (step, decode) = (model.step(&shape), model.decode(4, 400));
        assert_eq!(step.device, Cost(50 + 1000 + 40 + 1200));
        assert_eq!(step.device, decode.base + decode.per_context * 400);
        assert_eq!(step.host, decode.host);
        let parts = model.parts(&shape);
        assert_eq!((parts.whole, parts.compute, parts.of_host()), (step.device, Cost(40), Cost(50)));
        assert_eq!(parts, model.decode_parts(4, 400).at(400));
        let prefill = [PrefillPart { tokens: 20, past: 80 }];
        let mixed = model.step(&StepShape { prefill: &prefill, prefill_ends: 1, ..shape });
        assert_eq!(mixed.device, Cost(50 + 1000 + 240 + 1200 + 700 + 10_000));
        assert_eq!(model.parts(&StepShape { prefill: &prefill, prefill_ends: 1, ..shape }).whole, mixed.device);
        let none = StepShape { decode_seqs: 0, decode_context: 0, prefill: &[], prefill_ends: 0 };
        assert_eq!(model.step(&none).device, Cost(50), "no tokens, no work");
    }

    #[test]
    fn the_chunks_of_a_prompt_cut_at_its_end_pay_for_one_eviction_of_the_whole_prompt() {
        let work = RetentionWork { chunk_slot: Cost(7), chunk_pair: Cost(3), at_end: true, ..Default::default() };
        let mut model = Retained::new(Constant(StepCost::default()), work);
        let mut of = |parts: &[(u32, u32)]| -> u64 {
            let cost = |&(past, tokens): &(u32, u32)| {
                let prefill = [PrefillPart { tokens, past }];
                model
                    .step(&StepShape { decode_seqs: 0, decode_context: 0, prefill: &prefill, prefill_ends: 0 })
                    .device
                    .0
            };
            parts.iter().map(cost).sum()
        };
        assert_eq!(of(&[(0, 100)]), 7 * 100 + 3 * 100 * 100);
        assert_eq!(of(&[(0, 60), (60, 30), (90, 10)]), of(&[(0, 100)]));
    }
}
