//! A segment: equal steps of one lane in virtual time, as an affine cost in the step index.

use crate::cost::{COST_PER_NS, Cost};
use crate::results::rows::StepRow;
use crate::time::{Span, Time};

const FRACTION: u128 = (COST_PER_NS - 1) as u128;
const SHIFT: u32 = COST_PER_NS.trailing_zeros();

/// `steps` steps from `start`; step i (from 0) lasts `first + growth · i`, in fixed point. `remainder` is the fraction of a
/// nanosecond that the lane carries into the first step, so that no rounding piles up.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) start: Time,
    pub(crate) remainder: u64,
    pub(crate) first: Cost,
    pub(crate) growth: Cost,
    /// Slots by which each step attends to more than the one before.
    pub(crate) growing: u64,
    /// Host time at the start of each step, if it does not hide behind the device.
    pub(crate) host: Cost,
    /// Steps it will have, unless it is cut.
    pub(crate) steps: u64,
    /// Steps planned so far.
    pub(crate) planned: u64,
    /// Steps completed so far.
    pub(crate) done: u64,
    pub(crate) wake_on_arrival: bool,
    pub(crate) wake_on_end: bool,
    /// What `steps.parquet` says of it; `end` and `steps` are filled in when it is complete.
    pub(crate) row: StepRow,
}

impl Segment {
    /// Length of the first `steps` steps, remainder included [2⁻²⁰ ns].
    fn length(&self, steps: u64) -> u128 {
        let n = u128::from(steps);
        u128::from(self.remainder)
            + n * u128::from(self.first.0)
            + u128::from(self.growth.0) * (n * n.saturating_sub(1) / 2)
    }

    /// Busy time from the end of step `from` to the end of step `to` [2⁻²⁰ ns].
    pub(crate) fn length_between(&self, from: u64, to: u64) -> u128 {
        self.length(to) - self.length(from)
    }

    /// When the `steps`-th step ends; [`Time::MAX`] if that is beyond virtual time.
    pub(crate) fn end_of(&self, steps: u64) -> Time {
        self.start + Span(u64::try_from(self.length(steps) >> SHIFT).unwrap_or(u64::MAX))
    }

    /// Fraction of a nanosecond left over at that moment.
    pub(crate) fn remainder_after(&self, steps: u64) -> u64 {
        (self.length(steps) & FRACTION) as u64
    }

    /// Length of step `i`.
    pub(crate) fn cost_of(&self, i: u64) -> Cost {
        self.first + self.growth * i
    }

    /// Steps that end strictly before `now`.
    pub(crate) fn completed_before(&self, now: Time) -> u64 {
        if now <= self.start || self.steps == self.done {
            return self.done;
        }
        // Largest n with length(n) < (now - start) << SHIFT. Start from the quadratic's root, then mend its rounding.
        let room = u128::from(now.0 - self.start.0) << SHIFT;
        let (a, b) = (self.first.0 as f64, self.growth.0 as f64);
        let x = room as f64;
        let half = a - b / 2.0;
        let guess = if b == 0.0 { x / a } else { (-half + (half * half + 2.0 * b * x).sqrt()) / b };
        let mut n = (guess as u64).clamp(self.done, self.steps);
        while n > self.done && self.length(n) >= room {
            n -= 1;
        }
        while n < self.steps && self.length(n + 1) < room {
            n += 1;
        }
        n
    }

    /// Steps left.
    pub(crate) fn unfinished(&self) -> u64 {
        self.steps - self.done
    }
}
