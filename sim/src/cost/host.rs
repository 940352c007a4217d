//! Host time of a step: planning, launching, reading back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Cost;
use crate::time::Span;
use crate::units::Duration;

/// Host time as an affine function of the sequences in the step, and what drawing tokens costs.
///
/// The default is inferred: 0.6 ms and 44 µs per sequence is what vLLM 0.11.1 (synchronous scheduling) took beyond the
/// the roofline's device time in the steady full batches of ML.ENERGY, Llama-3.1-8B on an H100 with
/// 8 to 128 sequences (median inter-token times 7.32, 7.91, 8.91, 11.50, 14.08, 16.48 ms; the mean context, taken as
/// 450, was not published). Engines that plan ahead (lane depth 2) hide it: Llama-3.1-8B on an H100 at 1 to 128
/// clients of an unstated vLLM version was within 2 % of the device time alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostCost {
    /// Per step.
    pub base: Duration,
    /// Per sequence in the step.
    pub per_seq: Duration,
    /// Per sequence whose next token is drawn by top-k, top-p and penalties instead of taken greedily. It stands between
    /// two steps, so that no planning ahead hides it. vLLM 0.11 to 0.15 with Qwen2.5 and Llama-3.1 on two kinds of H100:
    /// 34 µs (docs/validation.md), whatever the model and its bandwidth.
    #[serde(default = "no_time", skip_serializing_if = "is_no_time")]
    pub sampling: Duration,
}

fn no_time() -> Duration {
    Duration(Span(0))
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_no_time(time: &Duration) -> bool {
    time.0.0 == 0
}

impl HostCost {
    /// No host time at all.
    pub const ZERO: HostCost =
        HostCost { base: Duration(Span(0)), per_seq: Duration(Span(0)), sampling: Duration(Span(0)) };

    /// Time to draw that many tokens, on the device or between two steps.
    pub fn sampling(&self, seqs: u64) -> Cost {
        Cost::from_whole_ns(self.sampling.0.0) * seqs
    }

    /// Host time of a step with that many sequences.
    pub fn of(&self, seqs: u64) -> Cost {
        Cost::from_whole_ns(self.base.0.0) + Cost::from_whole_ns(self.per_seq.0.0) * seqs
    }
}

impl Default for HostCost {
    fn default() -> HostCost {
        HostCost { base: Duration(Span(600_000)), per_seq: Duration(Span(44_000)), sampling: Duration(Span(0)) }
    }
}
