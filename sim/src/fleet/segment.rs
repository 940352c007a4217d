//! A segment: equal steps of one lane in virtual time, as an affine cost in the step index.

use crate::cost::{COST_PER_NS, Cost, DecodeParts, Slowdown, scale};
use crate::power::work::Work;
use crate::results::rows::StepRow;
use crate::time::{Span, Time};

const FRACTION: u128 = (COST_PER_NS - 1) as u128;
const SHIFT: u32 = COST_PER_NS.trailing_zeros();

/// What a segment keeps where clocks can change and work is counted.
#[derive(Clone, Debug)]
pub(crate) struct Metered {
    /// What its steps are made of at the nominal point, by the context that they attend to.
    pub(crate) parts: DecodeParts,
    /// The context of the first step.
    pub(crate) context: u64,
    /// Work of the first step, and by how much each does more than the one before.
    pub(crate) work: Work,
    pub(crate) work_growth: Work,
    /// Up to here the first step's work is in the books, and no longer in `work`: its price has changed then.
    pub(crate) booked: Cost,
}

impl Metered {
    pub(crate) fn new(parts: DecodeParts, context: u64, work: Work, work_growth: Work) -> Box<Metered> {
        Box::new(Metered { parts, context, work, work_growth, booked: Cost(0) })
    }
}

/// How the length of a step comes about: the device begins after `lead` and takes `device` (in the first step; in each further one
/// `growth` longer), and no step is shorter than `floor`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) lead: Cost,
    pub(crate) device: Cost,
    pub(crate) growth: Cost,
    pub(crate) floor: Cost,
}

impl Timing {
    /// Length of the first step.
    pub(crate) fn length(&self) -> Cost {
        (self.lead + self.device).max(self.floor)
    }
}

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
    pub(crate) timing: Timing,
    pub(crate) metered: Option<Box<Metered>>,
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

/// Pairs of steps: the sum of all whole numbers below `steps`. A jump has at most 2²⁰ steps.
fn pairs(steps: u64) -> u64 {
    steps * steps.saturating_sub(1) / 2
}

impl Segment {
    /// Length of the first `steps` steps, remainder included [2⁻²⁰ ns].
    pub(crate) fn length(&self, steps: u64) -> u128 {
        u128::from(self.remainder)
            + u128::from(steps) * u128::from(self.first.0)
            + u128::from(self.growth.0) * u128::from(pairs(steps))
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

    /// Time that step `i` has taken by `now`.
    pub(crate) fn passed(&self, i: u64, now: Time) -> Cost {
        self.passed_since(i, self.length(i), now)
    }

    /// The same, the length of the steps before it being known.
    pub(crate) fn passed_since(&self, i: u64, length: u128, now: Time) -> Cost {
        let passed = (u128::from(now.since(self.start).0) << SHIFT).saturating_sub(length);
        Cost(u64::try_from(passed).unwrap_or(u64::MAX)).min(self.cost_of(i))
    }

    /// Work from the end of step `from` to the end of step `to`.
    pub(crate) fn work_between(&self, from: u64, to: u64) -> Work {
        let Some(metered) = &self.metered else { return Work::default() };
        metered.work * (to - from) + metered.work_growth * (pairs(to) - pairs(from))
    }

    /// Work of step `i`.
    fn work_of(&self, i: u64) -> Work {
        self.metered.as_ref().map_or_else(Work::default, |metered| metered.work + metered.work_growth * i)
    }

    /// Work of step `i` in the first `passed` of its time.
    pub(crate) fn work_within(&self, i: u64, passed: Cost) -> Work {
        let booked = self.metered.as_ref().map_or(Cost(0), |metered| metered.booked);
        let past = |cost: Cost| cost.0.saturating_sub(booked.0);
        self.work_of(i).share(past(passed), past(self.cost_of(i)))
    }

    /// Step `i` alone.
    pub(crate) fn single(&self, i: u64) -> Segment {
        let mut single = self.clone();
        (single.start, single.remainder) = (self.end_of(i), self.remainder_after(i));
        (single.first, single.growth) = (self.cost_of(i), Cost(0));
        let device = self.timing.device + self.timing.growth * i;
        single.timing = Timing { device, growth: Cost(0), ..self.timing };
        (single.steps, single.planned, single.done) = (1, 1, 0);
        single.row.start = single.start;
        if let Some(metered) = &mut single.metered {
            metered.context += i * self.growing;
            metered.work = self.work_of(i);
            metered.work_growth = Work::default();
        }
        if i > 0 {
            single.row.decode_context += i * self.growing;
            // What its plan has done beside it goes with the first step.
            (single.row.preempted, single.row.swapped_blocks) = (0, 0);
        }
        single
    }

    /// A single step goes on at another pace from `now` on: the device keeps what it has done, the rest takes its part longer, or less long.
    /// Returns the work up to then, which the step has no more.
    pub(crate) fn reprice(&mut self, now: Time, (before, after): (Slowdown, Slowdown)) -> Work {
        let passed = self.passed(0, now);
        let work = self.work_within(0, passed);
        let Timing { lead, device, .. } = self.timing;
        let done = Cost(passed.0.saturating_sub(lead.0)).min(device);
        let rest = Cost(device.0 - done.0);
        let (mut to, mut from) = (after.whole, before.whole);
        if let Some(metered) = &mut self.metered {
            metered.work = metered.work - work;
            metered.booked = passed;
            if (before.compute, before.memory) != (after.compute, after.memory) {
                let at = |pace: Slowdown| pace.reprice_decode(&metered.parts, metered.context).0;
                (to, from) = (at(after), at(before));
            }
        }
        if from > 0 {
            self.timing.device = done + scale(rest, to, from);
            self.first = self.timing.length();
        }
        work
    }

    /// Steps that end strictly before `now`.
    pub(crate) fn completed_before(&self, now: Time) -> u64 {
        self.completed(now).0
    }

    /// Steps that end strictly before `now`, and their length, remainder included [2⁻²⁰ ns].
    pub(crate) fn completed(&self, now: Time) -> (u64, u128) {
        if now <= self.start || self.steps == self.done {
            return (self.done, self.length(self.done));
        }
        // Largest n with length(n) < (now - start) << SHIFT. Start from the quadratic's root, then mend its rounding.
        let time = now.0 - self.start.0;
        let room = u128::from(time) << SHIFT;
        let (a, b) = (self.first.0 as f64, self.growth.0 as f64);
        let x = time as f64 * COST_PER_NS as f64;
        let half = a - b / 2.0;
        let guess = if b == 0.0 { x / a } else { (-half + (half * half + 2.0 * b * x).sqrt()) / b };
        let mut n = (guess as u64).clamp(self.done, self.steps);
        // Every reading of a replica comes by here: lengths are made from the one beside them, in sums.
        let mut length = self.length(n);
        let step = |n: u64| u128::from(self.first.0) + u128::from(self.growth.0) * u128::from(n);
        while n > self.done && length >= room {
            n -= 1;
            length -= step(n);
        }
        while n < self.steps && length + step(n) < room {
            length += step(n);
            n += 1;
        }
        (n, length)
    }

    /// Steps left.
    pub(crate) fn unfinished(&self) -> u64 {
        self.steps - self.done
    }
}
