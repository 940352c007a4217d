//! The clock that a GPU can hold for the work it does: its own limiter takes the clock down until the draw fits.
//!
//! ```text
//! target = x · ((L − P_ctx) / (P − P_ctx))^(1/k)        dx/dt = (target − x) / τ
//! ```
//!
//! `P` is what the GPU drew at the clock `x`, `L` the limit, `k` the power exponent of the clock, `τ` the time constant of the limiter. Like the
//! device, this looks at watts alone and not at what the work is bound by: work that hardly follows the clock needs several looks. A
//! draw below the limit lets the clock up again, an idle GPU boosts. [`crate::power::limiter`] says what an excess costs in watts without a
//! clock; this says what it costs in time.

use crate::hardware::power::PowerSpec;
use crate::time::Span;

/// Steps in which clocks can be set [MHz].
const CLOCK_STEP: f64 = 15.0;

/// The clock, as a share of the highest, at which a GPU that drew `watts` at `clock` would draw `limit`: by its power above idle, within its
/// range.
pub fn fitting(spec: &PowerSpec, watts: f64, limit: f64, clock: f64) -> f64 {
    if watts <= spec.idle.0 {
        return 1.0;
    }
    let room = (limit - spec.idle.0).max(1.0) / (watts - spec.idle.0).max(1.0);
    (clock * room.powf(1.0 / spec.clock.exponent)).clamp(spec.clock.lowest(), 1.0)
}

/// A clock as it can be set [MHz]: in steps, rounded down, and within the range.
pub fn settable(spec: &PowerSpec, clock: f64) -> u32 {
    let (min, max) = (spec.clock.min_mhz, spec.clock.max_mhz);
    // The highest need not be a whole number of steps.
    if clock >= 1.0 {
        return max;
    }
    let steps = (clock * f64::from(max) / CLOCK_STEP).floor();
    ((steps * CLOCK_STEP) as u32).clamp(min, max)
}

/// The clock that a limiter holds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SustainedClock {
    /// As a share of the highest, before it is rounded to a step.
    clock: f64,
}

impl SustainedClock {
    /// A limiter that holds nothing back.
    pub const FULL: SustainedClock = SustainedClock { clock: 1.0 };

    /// For a span the GPU drew `watts` in the mean, at `clock`. Returns the clock from now on [MHz].
    pub fn look(&mut self, spec: &PowerSpec, (watts, limit): (f64, f64), clock: f64, span: Span) -> u32 {
        let target = fitting(spec, watts, limit, clock);
        let left = (-span.as_secs_f64() / spec.limiter.reaction.0.as_secs_f64()).exp();
        self.clock = target + (self.clock - target) * left;
        // On its way up it would come to the highest clock only in the limit.
        if target >= 1.0 && (1.0 - self.clock) * f64::from(spec.clock.max_mhz) < CLOCK_STEP / 2.0 {
            self.clock = 1.0;
        }
        settable(spec, self.clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn spec() -> PowerSpec {
        PowerSpec::made_up(100.0, 0.0, 900.0, 300.0)
    }

    /// Work that follows the clock as `x^follows` settles at the limit, however much less that is than the exponent by which the limiter acts.
    #[test]
    fn a_limiter_settles_at_its_limit() {
        let spec = spec();
        for follows in [1.7, 1.0, 0.5] {
            let (mut held, mut clock) = (SustainedClock::FULL, 1.0_f64);
            let mut watts = 0.0;
            for _ in 0..100 {
                watts = 100.0 + 800.0 * clock.powf(follows);
                let mhz = held.look(&spec, (watts, 700.0), clock, Span(10 * MS));
                clock = f64::from(mhz) / 1980.0;
            }
            assert!(watts <= 700.0 && watts > 690.0, "{follows}: {watts} W at {clock}");
        }
    }

    #[test]
    fn it_takes_its_time_down_and_up() {
        let spec = spec();
        let mut held = SustainedClock::FULL;
        // Half of the power above idle is to go: 0.5^(1/1.7) = 0.665 of the clock, and 63 % of the way in a time constant.
        let mhz = held.look(&spec, (1300.0, 700.0), 1.0, Span(50 * MS));
        assert_eq!(mhz, 1560, "{held:?}");
        assert_eq!(held.look(&spec, (1300.0, 700.0), 1.0, Span(10_000 * MS)), 1305);
        assert!(held.look(&spec, (100.0, 700.0), 0.665, Span(50 * MS)) < 1980);
        assert_eq!(held.look(&spec, (100.0, 700.0), 0.665, Span(500 * MS)), 1980);
    }

    #[test]
    fn clocks_stay_within_the_range() {
        let spec = spec();
        let look = |watts, ms| {
            let mut held = SustainedClock::FULL;
            held.look(&spec, watts, 1.0, Span(ms * MS))
        };
        assert_eq!(look((1e6, 150.0), 10_000), 345);
        assert_eq!(look((650.0, 700.0), 1), 1980);
        let mut odd = spec.clone();
        odd.clock.max_mhz = 1000;
        assert_eq!((settable(&odd, 1.0), settable(&odd, 0.999), settable(&odd, 0.01)), (1000, 990, 345));
    }
}
