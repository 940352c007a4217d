//! Cost models: what a step costs, as integers.
//!
//! A cost is fixed point, units of 2⁻²⁰ ns ([`Cost`]), so that a jump over k steps and k single steps add up to the very
//! same number. Floats live only inside a model, before its coefficients are rounded.

mod bound;
pub mod comm;
mod eager;
pub mod forms;
mod host;
pub mod jitter;
mod point;
mod recurrence;
mod retained;
pub mod roofline;
mod speculative;
pub mod steps;
pub mod table;
pub mod vidur;

use std::ops::{Add, Mul};

pub use bound::Bound;
pub use eager::Eager;
pub use host::HostCost;
pub use jitter::Jitter;
pub(crate) use point::scale;
pub use point::{DecodeParts, OperatingPoint, Parts, Slowdown, UNIT};
pub use retained::{Pace, Retained, RetentionWork, SlotWork};
pub use roofline::{CostError, Roofline};
pub use speculative::{DraftPasses, Drafter, Speculative};

/// Units of [`Cost`] in one nanosecond.
pub const COST_PER_NS: u64 = 1 << 20;

/// A span in fixed point [2⁻²⁰ ns]. `u64` covers 4.9 hours of a single step; sums and products saturate at
/// [`Cost::TOO_LONG`], and the fleet refuses a step of that cost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Cost(pub u64);

impl Cost {
    /// More than a single step may cost.
    pub const TOO_LONG: Cost = Cost(u64::MAX);

    /// Rounds a length in nanoseconds to fixed point. Negative and NaN become zero, huge values [`Cost::TOO_LONG`].
    pub fn from_ns(ns: f64) -> Cost {
        Cost((ns * COST_PER_NS as f64).round() as u64)
    }

    /// A length in whole nanoseconds.
    pub fn from_whole_ns(ns: u64) -> Cost {
        Cost(ns) * COST_PER_NS
    }

    /// Rounds a length in microseconds to fixed point.
    pub fn from_us(us: f64) -> Cost {
        Cost::from_ns(us * 1e3)
    }

    /// Nanoseconds, for printing.
    pub fn as_ns_f64(self) -> f64 {
        self.0 as f64 / COST_PER_NS as f64
    }
}

impl Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost(self.0.saturating_add(other.0))
    }
}

impl Mul<u64> for Cost {
    type Output = Cost;
    fn mul(self, times: u64) -> Cost {
        Cost(self.0.saturating_mul(times))
    }
}

/// One prefill sequence's part of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefillPart {
    /// Tokens computed in this step.
    pub tokens: u32,
    /// KV tokens already present before the step (cached or computed).
    pub past: u32,
}

/// The shape of one batched step, all that a cost model may know.
#[derive(Clone, Copy, Debug)]
pub struct StepShape<'a> {
    /// Sequences that decode one token.
    pub decode_seqs: u32,
    /// Sum over the decode sequences of the KV tokens attended, the current one included.
    pub decode_context: u64,
    /// Prefill sequences.
    pub prefill: &'a [PrefillPart],
    /// Prefill sequences whose last chunk this is (they need logits too).
    pub prefill_ends: u32,
}

impl StepShape<'_> {
    /// Tokens in the batch.
    pub fn tokens(&self) -> u64 {
        u64::from(self.decode_seqs) + self.prefill.iter().map(|p| u64::from(p.tokens)).sum::<u64>()
    }
}

/// What a single step costs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StepCost {
    /// Time on the device.
    pub device: Cost,
    /// Host time to plan, launch and read back; hidden behind the device at lane depth 2.
    pub host: Cost,
}

/// The cost of decode-only steps of one batch size as a function of the context sum `s`:
/// `device(s) = base + per_context · s`, exact up to (excluding) `valid_below`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeCost {
    /// Part that does not depend on the context.
    pub base: Cost,
    /// Device cost per attended KV token.
    pub per_context: Cost,
    /// The first context sum at which other coefficients hold (`u64::MAX`: never).
    pub valid_below: u64,
    /// Host time per step.
    pub host: Cost,
}

/// Maps step shapes to time. Implementations may cache (hence `&mut`), and must be pure otherwise:
/// the same shape always costs the same, and `decode` agrees with `step` for shapes without prefill.
pub trait CostModel {
    /// Cost of one step of any shape.
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost;

    /// Affine cost of decode-only steps of `seqs` sequences around the context sum `context`.
    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost;

    /// What binds the device time of a step at the nominal operating point. [`Parts::whole`] is the `device` of [`CostModel::step`]; only asked
    /// where clocks can change. A model that does not know says what its form suggests, and its docs say so.
    fn parts(&mut self, shape: &StepShape<'_>) -> Parts;

    /// The same for [`CostModel::decode`]: parts of its `base` and its `per_context`.
    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts;

    /// [`CostModel::step`] and [`CostModel::parts`] at once, for models that need not do the same work twice.
    fn step_in_parts(&mut self, shape: &StepShape<'_>) -> (StepCost, Parts) {
        (self.step(shape), self.parts(shape))
    }

    /// [`CostModel::decode`] and [`CostModel::decode_parts`] at once.
    fn decode_in_parts(&mut self, seqs: u32, context: u64) -> (DecodeCost, DecodeParts) {
        (self.decode(seqs, context), self.decode_parts(seqs, context))
    }

    /// How far single steps lie around these costs on the device; every step is simulated by itself then. Without, all steps of
    /// a shape take the same time.
    fn jitter(&self) -> Option<&Jitter> {
        None
    }
}

/// A cost model that charges the same for every step; for tests and for schedules without physics: no clock changes it.
#[derive(Clone, Copy, Debug)]
pub struct Constant(pub StepCost);

impl CostModel for Constant {
    fn step(&mut self, _: &StepShape<'_>) -> StepCost {
        self.0
    }

    fn decode(&mut self, _: u32, _: u64) -> DecodeCost {
        DecodeCost { base: self.0.device, per_context: Cost(0), valid_below: u64::MAX, host: self.0.host }
    }

    fn parts(&mut self, _: &StepShape<'_>) -> Parts {
        Parts::host(self.0.device)
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        DecodeParts::all(self.decode(seqs, context), Parts::host)
    }
}
