//! What a driver reports of a piecewise constant power: readings that are means over a window, and a counter of energy.
//!
//! ```text
//! reading at t = (E(t) − E(t − window)) / window,    t = period, 2 · period, …       E(t) = ∫ P
//! counter at t = E at the last multiple of the period, in whole mJ
//! ```
//!
//! H100 and most GPUs since Ampere report the mean of the last second; the A100 the mean of 25 ms in every 100 ms, and misses the rest
//! (arXiv 2312.02741). Power is a whole number of milliwatts and time of nanoseconds, so energy is a whole number of picojoules: law 10 holds
//! to the last digit, however a stretch of time is cut.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use crate::hardware::power::MeterSpec;
use crate::time::{Span, Time};

/// Power [mW].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct MilliWatts(pub u64);

impl MilliWatts {
    /// Rounds a power in watts; negative and NaN become zero, huge values saturate.
    pub fn from_watts(watts: f64) -> MilliWatts {
        // As `round`, which is a call; this is called for every server and every second.
        let exact = watts * 1e3;
        let whole = exact as u64;
        MilliWatts(whole.saturating_add(u64::from(exact - whole as f64 >= 0.5)))
    }

    /// Watts, for printing and floating-point statistics only.
    pub fn as_watts_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// The energy of that power over a span.
    pub fn over(self, span: Span) -> Energy {
        Energy(u128::from(self.0) * u128::from(span.0))
    }
}

/// Energy [pJ].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Energy(pub u128);

impl Energy {
    /// Picojoules in one millijoule.
    const PER_MJ: u128 = 1_000_000_000;

    /// Joules, for printing and floating-point statistics only.
    pub fn as_joules_f64(self) -> f64 {
        self.0 as f64 / 1e12
    }

    /// Whole millijoules.
    pub fn whole_mj(self) -> u128 {
        self.0 / Energy::PER_MJ
    }

    /// The mean power over a span, rounded to the nearest milliwatt; zero over no time.
    pub fn mean_over(self, span: Span) -> MilliWatts {
        // Those of a period of a row fit 64 bits, whose division is several times as fast.
        if let Some(sum) = u64::try_from(self.0).ok().and_then(|energy| energy.checked_add(span.0 / 2)) {
            return MilliWatts(sum.checked_div(span.0).unwrap_or(0));
        }
        let span = u128::from(span.0);
        MilliWatts((self.0 + span / 2).checked_div(span).unwrap_or(0) as u64)
    }
}

impl Add for Energy {
    type Output = Energy;
    fn add(self, other: Energy) -> Energy {
        Energy(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Energy {
    fn add_assign(&mut self, other: Energy) {
        *self = *self + other;
    }
}

impl Sub for Energy {
    type Output = Energy;
    fn sub(self, other: Energy) -> Energy {
        Energy(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Energy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} J", self.as_joules_f64())
    }
}

/// What a meter reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// When.
    pub at: Time,
    /// Mean power over the window before.
    pub power: MilliWatts,
}

/// A stretch of constant power that the meter may still look back on.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: Time,
    /// All energy before it.
    before: Energy,
    power: MilliWatts,
}

/// A meter of one device. It remembers one window.
#[derive(Clone, Debug)]
pub struct Meter {
    window: Span,
    period: Span,
    start: Time,
    now: Time,
    energy: Energy,
    counted: Energy,
    next: Time,
    past: VecDeque<Stretch>,
}

impl Meter {
    /// A meter that is switched on at `start`.
    ///
    /// # Panics
    /// If the period is zero, which `check` refuses.
    pub fn new(spec: &MeterSpec, start: Time) -> Meter {
        let (window, period) = (spec.window.0, spec.period.0);
        assert!(period > Span::ZERO, "a meter needs a period");
        Meter {
            window,
            period,
            start,
            now: start,
            energy: Energy::default(),
            counted: Energy::default(),
            next: start + period,
            past: VecDeque::new(),
        }
    }

    /// Until when it knows the power.
    pub fn now(&self) -> Time {
        self.now
    }

    /// All energy so far.
    pub fn energy(&self) -> Energy {
        self.energy
    }

    /// The driver's counter of energy [mJ]: it stands still between two readings.
    pub fn counter_mj(&self) -> u128 {
        self.counted.whole_mj()
    }

    /// Constant power from now until then. Readings that fall due are handed over in order.
    ///
    /// # Panics
    /// If `until` lies before now (law 3).
    pub fn advance(&mut self, until: Time, power: MilliWatts, mut hear: impl FnMut(Reading)) {
        let span = until - self.now;
        if span == Span::ZERO {
            return;
        }
        if self.past.back().is_none_or(|last| last.power != power) {
            self.past.push_back(Stretch { start: self.now, before: self.energy, power });
        }
        self.energy += power.over(span);
        self.now = until;
        while self.next <= until {
            let at = self.next;
            let from = Time(at.0.saturating_sub(self.window.0)).max(self.start);
            self.forget(from);
            self.counted = self.until(at);
            hear(Reading { at, power: (self.counted - self.until(from)).mean_over(at - from) });
            self.next = at + self.period;
            if self.next == at {
                break; // the end of time
            }
        }
    }

    /// Energy until a time within the last stretches.
    fn until(&self, time: Time) -> Energy {
        let stretch = self.past.iter().rev().find(|stretch| stretch.start <= time);
        stretch.map_or(Energy::default(), |stretch| stretch.before + stretch.power.over(time - stretch.start))
    }

    /// Drops stretches that ended before.
    fn forget(&mut self, from: Time) {
        while self.past.get(1).is_some_and(|second| second.start <= from) {
            self.past.pop_front();
        }
    }
}
