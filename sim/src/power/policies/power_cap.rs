//! A cap on every GPU, kept by the device itself all the time.
//!
//! The device's own limiter lowers clocks step by step, as deep as each step needs: prompts lose most, decodes little. Short prompts pass
//! over the cap before the limiter has seen them (POLCA, section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::none::Always;
use super::{ClockRange, Clocks, Delays, PowerPolicy, PowerPolicySettings};
use crate::check::Check;

/// The cap.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PowerCapSpec {
    /// Share of the thermal design power that a GPU may draw, above 0 and at most 1.
    #[schemars(range(max = 1))]
    pub share: f64,
}

impl Default for PowerCapSpec {
    fn default() -> Self {
        PowerCapSpec { share: 0.7 }
    }
}

impl PowerPolicySettings for PowerCapSpec {
    fn check(&self, check: &mut Check<'_>, _: ClockRange) {
        check.share_above_zero("share", self.share);
    }

    fn build(&self, clocks: ClockRange, _: Delays) -> Box<dyn PowerPolicy> {
        Box::new(Always(Clocks { low: clocks.max, high: clocks.max }))
    }

    fn cap(&self) -> Option<f64> {
        Some(self.share)
    }
}
