//! A cost model of whole steps, for engines whose steps were measured whole.
//!
//! ```text
//! t = step + Σ slope_i · (tokens in segment i) + row · (sequences that get a token) + chunk · (prefill sequences)
//!       + kv · (KV tokens that decoding sequences attend to) + pair · (pairs of prompt and KV tokens)
//! ```
//!
//! Nothing is negative and the slopes are those of segments of the token count, so that time never falls with work, and steps
//! across a kernel's edge have their own price.
//!
//! What binds a step that was measured whole nobody has seen. By its form: tokens of a batch and pairs are arithmetic; a step reads the weights, a row the
//! head, and attention the KV tokens, so these are memory; what each prefill sequence costs beside its tokens is the host's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bound, Cost, CostModel, DecodeCost, DecodeParts, HostCost, Parts, StepCost, StepShape};

/// What one more token costs, from a number of tokens on up to where the next slope begins.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slope {
    /// Tokens of the step at which it begins.
    pub from: u32,
    /// Time of one more [µs].
    pub us: f64,
}

/// Coefficients of the form; all at least zero.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepForm {
    /// Every step [µs].
    pub step_us: f64,
    /// Each token of the step (prompt or decode), by how many there are; ascending. The last goes on.
    pub tokens: Vec<Slope>,
    /// Each sequence that gets a token [µs]: logits and drawing.
    pub row_us: f64,
    /// Each prefill sequence [µs].
    pub chunk_us: f64,
    /// Each KV token that a decoding sequence attends to [ns].
    pub kv_ns: f64,
    /// Each pair of a prompt token and a KV token that it attends to [ns].
    pub pair_ns: f64,
}

/// Pairs of prompt and KV tokens of a step's prefill sequences: each new token attends to all before it, and to itself.
pub fn prefill_pairs(shape: &StepShape<'_>) -> u64 {
    let pairs = |part: &super::PrefillPart| {
        let (new, past) = (u64::from(part.tokens), u64::from(part.past));
        new * past + new * (new + 1) / 2
    };
    shape.prefill.iter().map(pairs).sum()
}

impl StepForm {
    /// Tokens within each slope's segment.
    pub(crate) fn segments(&self, tokens: u64) -> impl Iterator<Item = u64> + '_ {
        self.tokens.iter().enumerate().map(move |(i, slope)| {
            let end = self.tokens.get(i + 1).map_or(u64::MAX, |next| u64::from(next.from));
            tokens.min(end).saturating_sub(u64::from(slope.from))
        })
    }

    /// The part that does not depend on what is attended to.
    fn base(&self, tokens: u64, rows: u64, chunks: u64) -> Bound {
        let slopes: f64 = self.segments(tokens).zip(&self.tokens).map(|(n, slope)| n as f64 * slope.us).sum();
        let (rows, chunks) = (Bound::memory(rows as f64 * self.row_us), Bound::fixed(chunks as f64 * self.chunk_us));
        Bound::memory(self.step_us) + Bound::compute(slopes) + rows + chunks
    }
}

/// Step costs by a [`StepForm`].
#[derive(Clone, Debug)]
pub struct Steps {
    form: StepForm,
    kv: Cost,
    pair: Cost,
    host: HostCost,
}

impl Steps {
    /// A model of these coefficients and host times.
    pub fn new(form: StepForm, host: HostCost) -> Self {
        let (kv, pair) = (Cost::from_ns(form.kv_ns), Cost::from_ns(form.pair_ns));
        Steps { form, kv, pair, host }
    }

    fn base(&self, tokens: u64, rows: u64, chunks: u64) -> Cost {
        self.form.base(tokens, rows, chunks).cost()
    }
}

impl CostModel for Steps {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let tokens = shape.tokens();
        if tokens == 0 {
            return StepCost::default();
        }
        let (seqs, chunks) = (u64::from(shape.decode_seqs), shape.prefill.len() as u64);
        let base = self.base(tokens, seqs + u64::from(shape.prefill_ends), chunks);
        let attention = self.kv * shape.decode_context + self.pair * prefill_pairs(shape);
        StepCost { device: base + attention, host: self.host.of(seqs + chunks) }
    }

    fn decode(&mut self, seqs: u32, _: u64) -> DecodeCost {
        let n = u64::from(seqs);
        let host = self.host.of(n);
        if n == 0 {
            return DecodeCost { base: Cost(0), per_context: Cost(0), valid_below: u64::MAX, host };
        }
        DecodeCost { base: self.base(n, n, 0), per_context: self.kv, valid_below: u64::MAX, host }
    }

    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        let tokens = shape.tokens();
        if tokens == 0 {
            return Parts::default();
        }
        let rows = u64::from(shape.decode_seqs) + u64::from(shape.prefill_ends);
        let base = self.form.base(tokens, rows, shape.prefill.len() as u64).parts();
        base + Parts::memory(self.kv * shape.decode_context) + Parts::compute(self.pair * prefill_pairs(shape))
    }

    fn decode_parts(&mut self, seqs: u32, _: u64) -> DecodeParts {
        let n = u64::from(seqs);
        if n == 0 {
            return DecodeParts::default();
        }
        DecodeParts { base: self.form.base(n, n, 0).parts(), per_context: Parts::memory(self.kv) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::PrefillPart;

    fn form() -> StepForm {
        let tokens = vec![Slope { from: 0, us: 10.0 }, Slope { from: 4, us: 2.0 }, Slope { from: 16, us: 3.0 }];
        StepForm { step_us: 100.0, tokens, row_us: 5.0, chunk_us: 7.0, kv_ns: 20.0, pair_ns: 1.0 }
    }

    #[test]
    fn a_mixed_step_by_hand() {
        let mut model = Steps::new(form(), HostCost::ZERO);
        // 3 decodes over 90 KV tokens; prompts of 10 after 6 and of 7 after none, one of which ends.
        let prefill = [PrefillPart { tokens: 10, past: 6 }, PrefillPart { tokens: 7, past: 0 }];
        let shape = StepShape { decode_seqs: 3, decode_context: 90, prefill: &prefill, prefill_ends: 1 };
        // 20 tokens: 4 at 10, 12 at 2, 4 at 3. 4 rows, 2 chunks, 90 KV tokens, 60 + 55 + 28 pairs.
        let us = 100.0 + 40.0 + 24.0 + 12.0 + 20.0 + 14.0 + 1.8 + 0.143;
        let device = model.step(&shape).device;
        assert!((device.as_ns_f64() / 1e3 - us).abs() < 1e-6, "{device:?} is not {us} us");
        let parts = model.parts(&shape);
        assert_eq!(parts.whole, device);
        let near = |part: Cost, us: f64| (part.as_ns_f64() / 1e3 - us).abs() < 1e-3;
        assert!(near(parts.compute, 40.0 + 24.0 + 12.0 + 0.143) && near(parts.of_host(), 14.0), "{parts:?}");
    }

    #[test]
    fn decode_agrees_with_step() {
        let mut model = Steps::new(form(), HostCost::default());
        for (seqs, context) in [(1, 1), (3, 500), (16, 16), (40, 90_000)] {
            let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 };
            let (step, decode) = (model.step(&shape), model.decode(seqs, context));
            assert_eq!(step.device.0, decode.base.0 + decode.per_context.0 * context);
            assert_eq!(step.host, decode.host);
            assert_eq!(model.parts(&shape), model.decode_parts(seqs, context).at(context));
        }
    }
}
