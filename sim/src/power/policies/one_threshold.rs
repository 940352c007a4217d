//! One threshold: POLCA's baselines. Above it clocks go down, on servers of low priority or on all; below it by the hysteresis they are
//! given back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClockRange, Clocks, Delays, PowerPolicy, PowerPolicySettings, RowReading};
use crate::check::Check;
use crate::power::share::Share;
use crate::time::Time;

/// The settings of both.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OneThresholdSpec {
    /// Share of the budget above which clocks go down.
    #[schemars(range(max = 1))]
    pub above: f64,
    /// Clocks come back this much below the threshold, a share of the budget.
    pub hysteresis: f64,
    /// The lower clock [MHz]; by default 1110 of an A100's 1410, at the same share of other GPUs' highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<u32>,
}

impl Default for OneThresholdSpec {
    fn default() -> Self {
        OneThresholdSpec { above: 0.89, hysteresis: 0.05, clock: None }
    }
}

impl OneThresholdSpec {
    fn rules(&self, check: &mut Check<'_>, clocks: ClockRange) {
        check.share_above_zero("above", self.above);
        let told = format!("is {}; it must be at least 0 and below `above` ({})", self.hysteresis, self.above);
        check.that((0.0..self.above.max(0.0)).contains(&self.hysteresis), "hysteresis", told);
        clocks.check(check, "clock", self.clock);
    }

    fn policy(&self, clocks: ClockRange, all: bool) -> Box<dyn PowerPolicy> {
        let slow = self.clock.unwrap_or_else(|| clocks.like_a100(1110));
        let above = Share::from_f64(self.above);
        Box::new(OneThreshold {
            above,
            below: above.less(Share::from_f64(self.hysteresis)),
            full: Clocks { low: clocks.max, high: clocks.max },
            slowed: Clocks { low: slow, high: if all { slow } else { clocks.max } },
            slow: false,
        })
    }
}

/// Servers of low priority slow down.
#[derive(Debug)]
pub(super) struct Low(pub(super) OneThresholdSpec);

/// All servers slow down.
#[derive(Debug)]
pub(super) struct All(pub(super) OneThresholdSpec);

impl PowerPolicySettings for Low {
    fn check(&self, check: &mut Check<'_>, clocks: ClockRange) {
        self.0.rules(check, clocks);
    }

    fn build(&self, clocks: ClockRange, _: Delays) -> Box<dyn PowerPolicy> {
        self.0.policy(clocks, false)
    }
}

impl PowerPolicySettings for All {
    fn check(&self, check: &mut Check<'_>, clocks: ClockRange) {
        self.0.rules(check, clocks);
    }

    fn build(&self, clocks: ClockRange, _: Delays) -> Box<dyn PowerPolicy> {
        self.0.policy(clocks, true)
    }
}

#[derive(Debug)]
struct OneThreshold {
    above: Share,
    below: Share,
    full: Clocks,
    slowed: Clocks,
    slow: bool,
}

impl PowerPolicy for OneThreshold {
    fn hear(&mut self, reading: RowReading, _: Time) -> Clocks {
        if reading.load > self.above {
            self.slow = true;
        } else if reading.load < self.below {
            self.slow = false;
        }
        if self.slow { self.slowed } else { self.full }
    }

    fn thresholds(&self) -> Vec<Share> {
        vec![self.above]
    }
}
