//! POLCA (ASPLOS 2024, arXiv 2308.12908): two thresholds, two priorities, frequency caps, hysteresis.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ladder::{Ladder, LadderClocks};
use super::thresholds::{Thresholds, ThresholdsSpec};
use super::{ClockRange, Delays, PowerPolicy, PowerPolicySettings};
use crate::check::Check;

/// The published policy; all constants are those of its A100s.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolcaSpec {
    /// Shares of the budget above which clocks go down; by default 0.80 and 0.89.
    pub thresholds: ThresholdsSpec,
    /// Clocks come back this much below a threshold, a share of the budget.
    pub hysteresis: f64,
    /// The clocks.
    pub clocks: LadderClocks,
}

impl Default for PolcaSpec {
    fn default() -> Self {
        PolcaSpec { thresholds: ThresholdsSpec::default(), hysteresis: 0.05, clocks: LadderClocks::default() }
    }
}

impl PowerPolicySettings for PolcaSpec {
    fn check(&self, check: &mut Check<'_>, clocks: ClockRange) {
        self.thresholds.check(check, self.hysteresis);
        self.clocks.check(&mut check.below("clocks"), clocks);
    }

    fn build(&self, clocks: ClockRange, delays: Delays) -> Box<dyn PowerPolicy> {
        let thresholds = Thresholds::new(&self.thresholds, delays);
        Box::new(Ladder::new(thresholds, self.hysteresis, &self.clocks, clocks, delays))
    }
}
