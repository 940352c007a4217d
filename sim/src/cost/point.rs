//! Operating points: at which clock and on which share of its SMs a GPU runs, and what that does to the time of a step.
//!
//! A step's time on the device has parts by what binds it at the nominal point ([`Parts`]). At another point each part is priced anew
//! ([`Slowdown`]):
//!
//! ```text
//! time(x, s) = compute / (x · s) + memory · max(1, x_knee / x) + link + host        x: SM clock over the highest, s: share of the SMs
//! ```
//!
//! Arithmetic takes as much longer as the clock is lower. Memory keeps its pace until the SMs are too slow to ask for enough of it; links,
//! launches and the host do not notice. Kernels follow one another, so their parts add
//! up; what binds a kernel at the nominal point binds it at any, which is exact there and within 3 % down to 0.6 of the clock
//! (`sim/tests/cost/parts.rs`). All of it is integers, so a jump over steps and single steps come to the same nanosecond at any point.

use std::ops::{Add, Mul};

use super::{Cost, DecodeCost};
use crate::hardware::power::ClockSpec;

/// One, as a fixed-point factor or share.
pub const UNIT: u64 = 1 << 32;

/// `cost · to / from`, rounded down; `from` above 0.
pub(crate) fn scale(cost: Cost, to: u64, from: u64) -> Cost {
    Cost(u64::try_from(u128::from(cost.0) * u128::from(to) / u128::from(from)).unwrap_or(u64::MAX))
}

/// At which clock and on which share of its SMs a lane runs; both in parts of [`UNIT`], above 0 and at most that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OperatingPoint {
    /// Share of the SMs, beside what a partition between lanes leaves.
    pub sm_share: u64,
    /// SM clock over the highest.
    pub sm_clock: u64,
}

impl OperatingPoint {
    /// All SMs at the highest clock: what cost models describe.
    pub const NOMINAL: OperatingPoint = OperatingPoint { sm_share: UNIT, sm_clock: UNIT };

    /// All SMs at a clock [MHz] of a GPU with that highest clock. Above the highest it is the highest.
    ///
    /// # Panics
    /// A clock is zero.
    pub fn at_clock(mhz: u32, max_mhz: u32) -> OperatingPoint {
        assert!(mhz > 0 && max_mhz > 0, "a GPU at 0 MHz of {max_mhz} MHz does nothing");
        let clock = (u64::from(mhz) * UNIT + u64::from(max_mhz) / 2) / u64::from(max_mhz);
        OperatingPoint { sm_clock: clock.clamp(1, UNIT), ..OperatingPoint::NOMINAL }
    }

    /// The clock [MHz], rounded, of a GPU with that highest clock.
    pub fn mhz(self, max_mhz: u32) -> u32 {
        ((u128::from(self.sm_clock) * u128::from(max_mhz) + u128::from(UNIT) / 2) / u128::from(UNIT)) as u32
    }

    /// Clock as a share of the highest, for the power law.
    pub fn clock(self) -> f64 {
        self.sm_clock as f64 / UNIT as f64
    }

    /// Whether both are above 0 and at most [`UNIT`].
    pub fn is_valid(self) -> bool {
        let valid = 1..=UNIT;
        valid.contains(&self.sm_share) && valid.contains(&self.sm_clock)
    }
}

impl Default for OperatingPoint {
    fn default() -> Self {
        OperatingPoint::NOMINAL
    }
}

/// Time on the device by what binds it at the nominal point. What is left of `whole` is the host's: launches, drawing of tokens, all that no
/// clock changes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Parts {
    /// All of it, to the last digit what the cost model charges.
    pub whole: Cost,
    /// Bound by arithmetic.
    pub compute: Cost,
    /// Bound by the GPU's memory.
    pub memory: Cost,
    /// Bound by links between GPUs.
    pub link: Cost,
}

impl Parts {
    /// Bound by arithmetic alone.
    pub fn compute(whole: Cost) -> Parts {
        Parts { whole, compute: whole, ..Parts::default() }
    }

    /// Bound by memory alone.
    pub fn memory(whole: Cost) -> Parts {
        Parts { whole, memory: whole, ..Parts::default() }
    }

    /// Bound by links alone.
    pub fn link(whole: Cost) -> Parts {
        Parts { whole, link: whole, ..Parts::default() }
    }

    /// Bound by launches and the host alone.
    pub fn host(whole: Cost) -> Parts {
        Parts { whole, ..Parts::default() }
    }

    /// The part that is the host's.
    pub fn of_host(&self) -> Cost {
        let bound = self.compute + self.memory + self.link;
        Cost(self.whole.0.saturating_sub(bound.0))
    }
}

impl Add for Parts {
    type Output = Parts;
    fn add(self, other: Parts) -> Parts {
        Parts {
            whole: self.whole + other.whole,
            compute: self.compute + other.compute,
            memory: self.memory + other.memory,
            link: self.link + other.link,
        }
    }
}

impl Mul<u64> for Parts {
    type Output = Parts;
    fn mul(self, times: u64) -> Parts {
        Parts {
            whole: self.whole * times,
            compute: self.compute * times,
            memory: self.memory * times,
            link: self.link * times,
        }
    }
}

/// Parts of a [`DecodeCost`]: those of its base, and of what each attended token adds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DecodeParts {
    /// Parts of [`DecodeCost::base`].
    pub base: Parts,
    /// Parts of [`DecodeCost::per_context`].
    pub per_context: Parts,
}

impl DecodeParts {
    /// Everything bound by the same: `DecodeParts::all(cost, Parts::memory)`.
    pub fn all(cost: DecodeCost, bound: fn(Cost) -> Parts) -> DecodeParts {
        DecodeParts { base: bound(cost.base), per_context: bound(cost.per_context) }
    }

    /// Parts of one step whose sequences attend to so many tokens.
    pub fn at(&self, context: u64) -> Parts {
        self.base + self.per_context * context
    }
}

/// How much longer the parts of a step take at an operating point, as factors in parts of [`UNIT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slowdown {
    /// On all of it, after the others: the fitted answer of a whole step to a share of the SMs, where two lanes divide them.
    pub whole: u64,
    /// On what arithmetic binds.
    pub compute: u64,
    /// On what memory binds.
    pub memory: u64,
}

impl Slowdown {
    /// At the nominal point.
    pub const NONE: Slowdown = Slowdown { whole: UNIT, compute: UNIT, memory: UNIT };

    /// At a point of a GPU with these clocks.
    ///
    /// # Panics
    /// The point is not valid ([`OperatingPoint::is_valid`]).
    pub fn of(point: OperatingPoint, clock: &ClockSpec) -> Slowdown {
        assert!(point.is_valid(), "an operating point without SMs or clock, or beyond all of them: {point:?}");
        let (share, x) = (point.sm_share as f64 / UNIT as f64, point.clock());
        let factor = |times: f64| (times * UNIT as f64).round() as u64;
        Slowdown { whole: UNIT, compute: factor(1.0 / (x * share)), memory: factor((clock.knee / x).max(1.0)) }
    }

    /// The parts' time at the point: at the nominal one `parts.whole`, to the last digit.
    pub fn reprice(self, parts: &Parts) -> Cost {
        let clocked = if self.compute == UNIT && self.memory == UNIT {
            parts.whole
        } else {
            let fixed = parts.link + parts.of_host();
            fixed + scale(parts.compute, self.compute, UNIT) + scale(parts.memory, self.memory, UNIT)
        };
        if self.whole == UNIT { clocked } else { scale(clocked, self.whole, UNIT) }
    }

    /// Time of a decode step over so many tokens: affine in them, as at the nominal point.
    pub fn reprice_decode(self, parts: &DecodeParts, context: u64) -> Cost {
        self.reprice(&parts.base) + self.reprice(&parts.per_context) * context
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::gpu::{Origin, OriginKind};

    fn clock() -> ClockSpec {
        let origin = Origin { kind: OriginKind::Inferred, source: "a test".to_owned() };
        ClockSpec {
            origin: origin.clone(),
            max_mhz: 2000,
            min_mhz: 200,
            response: origin,
            exponent: 1.7,
            memory_fixed: 0.6,
            knee: 0.6,
        }
    }

    const PARTS: Parts = Parts { whole: Cost(1003), compute: Cost(400), memory: Cost(300), link: Cost(200) };

    #[test]
    fn the_nominal_point_changes_nothing() {
        let none = Slowdown::of(OperatingPoint::NOMINAL, &clock());
        assert_eq!(none, Slowdown::NONE);
        assert_eq!(none.reprice(&PARTS), Cost(1003));
        assert_eq!(PARTS.of_host(), Cost(103));
    }

    #[test]
    fn each_part_by_hand() {
        // Half the clock, which is below the knee: compute × 2, memory × 1.2.
        let half = Slowdown::of(OperatingPoint::at_clock(1000, 2000), &clock());
        assert_eq!(half.compute, 2 * UNIT);
        assert_eq!(half.reprice(&PARTS), Cost(800 + 359 + 200 + 103), "each part is rounded down");
        // Above the knee memory keeps its pace; a quarter of the SMs takes four times as long over arithmetic.
        let point = OperatingPoint { sm_share: UNIT / 4, sm_clock: UNIT * 4 / 5 };
        assert_eq!(Slowdown::of(point, &clock()).reprice(&PARTS), Cost(400 * 5 + 300 + 200 + 103));
        // A fitted factor is on top of that.
        let whole = Slowdown { whole: 3 * UNIT, ..half };
        assert_eq!(whole.reprice(&PARTS), Cost(3 * 1462));
    }

    #[test]
    fn decode_steps_stay_affine() {
        let parts =
            DecodeParts { base: PARTS, per_context: Parts { whole: Cost(7), memory: Cost(5), ..Parts::default() } };
        let slow = Slowdown::of(OperatingPoint::at_clock(700, 2000), &clock());
        let at = |context| slow.reprice_decode(&parts, context).0;
        assert_eq!(at(30) - at(20), at(20) - at(10));
        assert_eq!(parts.at(10).whole, Cost(1073));
        assert_eq!(Slowdown::NONE.reprice_decode(&parts, 10), Cost(1073));
    }

    #[test]
    fn clocks_are_rounded_and_kept_within_range() {
        assert_eq!(OperatingPoint::at_clock(2500, 2000), OperatingPoint::NOMINAL);
        let third = OperatingPoint::at_clock(660, 1980);
        assert!((third.clock() - 1.0 / 3.0).abs() < 1e-9);
        assert!(!OperatingPoint { sm_clock: 0, ..third }.is_valid());
        assert!(!OperatingPoint { sm_share: UNIT + 1, ..third }.is_valid());
    }

    #[test]
    fn huge_costs_saturate() {
        let slow = Slowdown { whole: UNIT, compute: 8 * UNIT, memory: UNIT };
        assert_eq!(slow.reprice(&Parts::compute(Cost(u64::MAX / 2))), Cost::TOO_LONG);
    }
}
