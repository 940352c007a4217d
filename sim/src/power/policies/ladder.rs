//! POLCA's ladder: which level a row is on, by two thresholds with hysteresis.
//!
//! ```text
//! level   low priority   high priority
//!   0     full           full
//!   1     base           full            above the lower threshold
//!   2     low            full            above the upper one
//!   3     low            slowed          still above it when the last command must have shown
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::thresholds::Thresholds;
use super::{ClockRange, Clocks, Delays, PowerPolicy, RowReading};
use crate::check::Check;
use crate::power::share::Share;
use crate::time::{Span, Time};

/// The clocks of the ladder [MHz]; by default those published for the A100, at the same share of other GPUs' highest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LadderClocks {
    /// Low priority above the lower threshold: no boost (1275 of 1410).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_base: Option<u32>,
    /// Low priority above the upper threshold (1110 of 1410).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<u32>,
    /// High priority if that is not enough (1305 of 1410).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<u32>,
}

impl LadderClocks {
    /// The rules on them.
    pub(super) fn check(&self, check: &mut Check<'_>, clocks: ClockRange) {
        clocks.check(check, "low_base", self.low_base);
        clocks.check(check, "low", self.low);
        clocks.check(check, "high", self.high);
        let [_, base, low, _] = self.levels(clocks);
        let told = format!("is {} MHz, above `low_base`: {} MHz", low.low, base.low);
        check.that(low.low <= base.low, "low", told);
    }

    /// The clocks of each level.
    fn levels(&self, clocks: ClockRange) -> [Clocks; 4] {
        let full = clocks.max;
        let base = self.low_base.unwrap_or_else(|| clocks.like_a100(1275));
        let low = self.low.unwrap_or_else(|| clocks.like_a100(1110));
        let high = self.high.unwrap_or_else(|| clocks.like_a100(1305));
        let of = |low, high| Clocks { low, high };
        [of(full, full), of(base, full), of(low, full), of(low, high)]
    }
}

#[derive(Debug)]
pub(super) struct Ladder {
    thresholds: Thresholds,
    hysteresis: Share,
    levels: [Clocks; 4],
    level: usize,
    /// Time after a command in which readings may not show it yet.
    settling: Span,
    settled: Time,
}

impl Ladder {
    pub(super) fn new(
        thresholds: Thresholds,
        hysteresis: f64,
        clocks: &LadderClocks,
        range: ClockRange,
        delays: Delays,
    ) -> Ladder {
        Ladder {
            thresholds,
            hysteresis: Share::from_f64(hysteresis),
            levels: clocks.levels(range),
            level: 0,
            settling: Span(delays.command.0.saturating_add(delays.telemetry.0).saturating_add(delays.period.0)),
            settled: Time::ZERO,
        }
    }

    /// The level for a load, by these thresholds.
    fn wanted(&self, load: Share, (lower, upper): (Share, Share), now: Time) -> usize {
        if load > upper {
            return match self.level {
                0 | 1 => 2,
                2 if now >= self.settled => 3,
                level => level,
            };
        }
        if load > lower && self.level == 0 {
            return 1;
        }
        if self.level >= 2 && load < upper.less(self.hysteresis) {
            return 1;
        }
        if self.level == 1 && load < lower.less(self.hysteresis) { 0 } else { self.level }
    }
}

impl PowerPolicy for Ladder {
    fn hear(&mut self, reading: RowReading, now: Time) -> Clocks {
        if let Some(thresholds) = self.thresholds.at(reading) {
            let wanted = self.wanted(reading.load, thresholds, now);
            if wanted != self.level {
                (self.level, self.settled) = (wanted, now + self.settling);
            }
        }
        self.levels[self.level]
    }

    fn thresholds(&self) -> Vec<Share> {
        self.thresholds.now().map_or_else(Vec::new, |(lower, upper)| vec![lower, upper])
    }
}
