//! Host time of a step: planning, launching, reading back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{COST_PER_NS, Cost};
use crate::time::Span;
use crate::units::Duration;

/// Host time as an affine function of the sequences in the step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostCost {
    /// Per step.
    pub base: Duration,
    /// Per sequence in the step.
    pub per_seq: Duration,
}

impl HostCost {
    /// No host time at all.
    pub const ZERO: HostCost = HostCost { base: Duration(Span(0)), per_seq: Duration(Span(0)) };

    /// Host time of a step with that many sequences.
    pub fn of(&self, seqs: u64) -> Cost {
        Cost((self.base.0.0 + self.per_seq.0.0 * seqs).saturating_mul(COST_PER_NS))
    }
}

impl Default for HostCost {
    fn default() -> HostCost {
        HostCost { base: Duration(Span(1_000_000)), per_seq: Duration(Span(10_000)) }
    }
}
