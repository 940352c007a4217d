//! What the clock of the SMs does to the time of a step and to its power.
//!
//! ```text
//! time(x) = max( t_compute / x,  t_memory / min(1, x / x_knee) ) + t_host
//! ```
//!
//! Arithmetic takes as much longer as the clock is lower. Memory keeps its pace until the SMs are too slow to ask for enough of it. The host
//! does not notice. Priors, not measured here: see `ClockSpec::response` of a GPU.

use crate::power::law::{Activity, PowerLaw};
use crate::units::Watts;

/// Parts of a step's time at the highest clock [s].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepTimes {
    /// Bound by arithmetic.
    pub compute: f64,
    /// Bound by memory.
    pub memory: f64,
    /// Neither: host, launches, links.
    pub host: f64,
}

/// A step at a lower clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Throttled {
    /// Clock as a share of the highest.
    pub clock: f64,
    /// Its time over that at the highest clock, at least 1.
    pub slowdown: f64,
    /// What the GPU draws [W].
    pub watts: f64,
}

/// Halvings of the range of clocks in search of a limit: finer than any clock that can be set.
const HALVINGS: u32 = 40;

impl StepTimes {
    /// Time at a clock [s].
    pub fn at(&self, clock: f64, knee: f64) -> f64 {
        (self.compute / clock).max(self.memory / (clock / knee).min(1.0)) + self.host
    }
}

impl PowerLaw {
    /// A step at that clock, a share of the highest, which is kept within the device's range. `activity` is that of the step at the
    /// highest clock. Limits are not looked at.
    pub fn at_clock(&self, activity: &Activity, times: &StepTimes, clock: f64) -> Throttled {
        let clock = clock.clamp(self.spec().clock.lowest(), 1.0);
        let knee = self.spec().clock.knee;
        let whole = times.at(1.0, knee);
        let slowdown = if whole > 0.0 { times.at(clock, knee) / whole } else { 1.0 };
        Throttled { clock, slowdown, watts: self.demand(&activity.stretched(slowdown), clock) }
    }

    /// The step at the highest clock, up to `clock`, at which it draws no more than the limit. At the lowest clock the draw may still be above
    /// the limit: that is all that a limiter can do.
    pub fn within(&self, activity: &Activity, times: &StepTimes, clock: f64, cap: Option<Watts>) -> Throttled {
        let limit = self.limit(cap);
        let asked = self.at_clock(activity, times, clock);
        if asked.watts <= limit {
            return asked;
        }
        let mut low = self.at_clock(activity, times, 0.0);
        if low.watts > limit {
            return low;
        }
        let mut above = asked.clock;
        for _ in 0..HALVINGS {
            let middle = self.at_clock(activity, times, f64::midpoint(low.clock, above));
            if middle.watts <= limit {
                low = middle;
            } else {
                above = middle.clock;
            }
        }
        low
    }
}
