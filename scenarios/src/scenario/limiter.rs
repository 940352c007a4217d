//! The GPUs' own power limiters.

use overbook_sim::check::Check;
use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Watts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RowSpec;

/// Limiters of the GPUs that slow steps down: where the power law's watts are above what a GPU may draw for long, its clock goes down until they
/// fit. By default there are none; what measured runs say of it is in docs/power.md. A real engine refuses it: its device has its own.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimiterSpec {
    /// Time between two looks at what a GPU draws; it acts with the time constant of the GPU's limiter (catalog).
    pub every: Duration,
    /// What a GPU may draw for long; by default its thermal design power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Watts>,
}

impl Default for LimiterSpec {
    fn default() -> Self {
        LimiterSpec { every: Duration(Span(50_000_000)), limit: None }
    }
}

/// Least and most time between two looks: below, a run does little else; above, prompts are over before the limiter has seen them.
const EVERY: (Span, Span) = (Span(1_000_000), Span(250_000_000));

impl LimiterSpec {
    /// The rules on it.
    pub(super) fn check(&self, row: Option<&RowSpec>, check: &mut Check<'_>) {
        let every = self.every.0;
        let (least, most) = (Duration(EVERY.0), Duration(EVERY.1));
        let told = format!("is {}; it must be from {least} to {most}", self.every);
        let within = every >= EVERY.0 && every <= EVERY.1;
        check.that(within, "every", told);
        if let (true, Some(row)) = (within, row) {
            let told =
                format!("is {}, and `fleet.row.resolution`, {}, is no whole number of it", self.every, row.resolution);
            check.that(row.resolution.0.0.is_multiple_of(every.0), "every", told);
        }
        check.that(self.limit.is_none_or(|limit| limit.0 > 0.0), "limit", "is 0; it must be above 0");
    }
}
