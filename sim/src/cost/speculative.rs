//! Steps of speculative decoding: the model verifies drafts, and something drafts the next ones.
//!
//! ```text
//!   step = verify(1 + k tokens of each sequence, prompts) + draft
//!   draft = first pass (all tokens of the step, one set of logits a sequence) + (k − 1) passes of one token a sequence
//! ```
//!
//! The first pass takes in what the model has computed, prompts included, as vLLM's and SGLang's drafters do; each further one computes a
//! token more. Nothing is overlapped with anything.

use super::forms::matmul;
use super::{Bound, Cost, CostModel, DecodeCost, DecodeParts, Parts, PrefillPart, Roofline, StepCost, StepShape};
use crate::hardware::draft::Matrices;
use crate::hardware::gpu::GpuSpec;
use crate::hardware::model::WeightDtype;

/// What drafts tokens.
#[derive(Clone, Debug)]
pub enum Drafter {
    /// A look-up on the host: time of a step, and of each sequence in it.
    Host {
        /// Each step.
        base: Cost,
        /// Each sequence.
        per_seq: Cost,
    },
    /// Passes of a smaller model, or of a head of the model itself.
    Passes(Box<DraftPasses>),
}

/// Passes that draft.
#[derive(Clone, Debug)]
pub struct DraftPasses {
    /// The first one: all tokens of a step.
    pub first: Roofline,
    /// A further one: a token of each sequence.
    pub next: Roofline,
    /// Tokens drafted for a sequence.
    pub drafts: u32,
    /// Matrices (outputs, inputs) before each pass, and before the first one alone.
    pub entry: (Matrices, Matrices),
    /// The GPU that multiplies them, and how they are stored.
    pub gpu: GpuSpec,
    /// How the matrices are stored.
    pub weights: WeightDtype,
    /// Host time that each pass waits for.
    pub host: Cost,
}

impl DraftPasses {
    fn matrices(&self, matrices: &[(u64, u64)], tokens: u64) -> Parts {
        let time = |&(n, k): &(u64, u64)| matmul(&self.gpu, self.weights, tokens, n, k).unwrap_or_default();
        if tokens == 0 { Parts::default() } else { matrices.iter().map(time).sum::<Bound>().parts() }
    }

    /// What drafting costs after a step of a shape.
    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        let tokens = shape.tokens() + u64::from(shape.decode_seqs) * u64::from(self.drafts);
        let (each, once) = &self.entry;
        let mut parts = self.matrices(once, tokens) + self.matrices(each, tokens) + Parts::host(self.host);
        parts = parts + self.first.parts(shape);
        let seqs = shape.decode_seqs + shape.prefill.len() as u32;
        let prompts: u64 = shape.prefill.iter().map(|p: &PrefillPart| u64::from(p.tokens) + u64::from(p.past)).sum();
        let entry = self.matrices(&self.entry.0, u64::from(seqs)) + Parts::host(self.host);
        for pass in 1..self.drafts {
            let decode_context = shape.decode_context + prompts + u64::from(seqs) * u64::from(pass);
            let next = StepShape { decode_seqs: seqs, decode_context, prefill: &[], prefill_ends: 0 };
            parts = parts + entry + self.next.parts(&next);
        }
        parts
    }
}

/// A cost model of steps that verify drafts and draft the next ones.
#[derive(Clone, Debug)]
pub struct Speculative {
    verify: Roofline,
    drafter: Drafter,
}

impl Speculative {
    /// Steps that `verify` prices, each decoding sequence with its drafts, and a drafter behind them.
    pub fn new(verify: Roofline, drafter: Drafter) -> Speculative {
        Speculative { verify, drafter }
    }

    fn draft(&mut self, shape: &StepShape<'_>) -> Parts {
        match &mut self.drafter {
            Drafter::Host { base, per_seq } => Parts::host(*base + *per_seq * u64::from(shape.decode_seqs)),
            Drafter::Passes(passes) => passes.parts(shape),
        }
    }
}

impl CostModel for Speculative {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let StepCost { device, host } = self.verify.step(shape);
        StepCost { device: device + self.draft(shape).whole, host }
    }

    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        // Every step is planned by itself: the price need not hold for a longer context.
        let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 };
        let StepCost { device, host } = self.step(&shape);
        DecodeCost { base: device, per_context: Cost(0), valid_below: context + 1, host }
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        self.verify.parts(shape) + self.draft(shape)
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 };
        DecodeParts { base: self.parts(&shape), per_context: Parts::default() }
    }
}
