//! Shares of a budget as whole numbers, so that a comparison with a threshold has one answer everywhere.

use std::fmt;

use crate::power::meter::MilliWatts;

/// A share [millionths]; more than a whole is possible.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Share(pub u64);

impl Share {
    /// All of it.
    pub const WHOLE: Share = Share(1_000_000);

    /// Rounds a share; negative and NaN become zero.
    pub fn from_f64(share: f64) -> Share {
        Share((share * 1e6).round() as u64)
    }

    /// As a float, for printing and statistics only.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// A power as a share of a budget, rounded down; of no budget it is nothing.
    pub fn of(power: MilliWatts, budget: MilliWatts) -> Share {
        let share = (u128::from(power.0) * 1_000_000).checked_div(u128::from(budget.0)).unwrap_or(0);
        Share(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// Less by another one, and not below nothing.
    #[must_use]
    pub fn less(self, other: Share) -> Share {
        Share(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} %", self.0 as f64 / 1e4)
    }
}
