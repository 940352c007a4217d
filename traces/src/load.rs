//! The named ways to change the load of a trace.

use overbook_sim::time::{NS_PER_S, Span};
use overbook_sim::units::{Duration, Rate};
use serde::{Deserialize, Serialize};

use crate::error::Problem;

/// How the load of a trace is changed. The three ways answer different questions.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScaleSpec {
    /// Divides all times by this: the same requests, faster. Bursts become higher and shorter; `time_scale` is the
    /// same.
    Compress(f64),
    /// Lays copies of the trace over each other, each shifted and wrapped around its end: other users with the same
    /// habits. Bursts of one copy meet the quiet hours of another. The trace must last `copies` times `shift`.
    Superpose {
        /// Copies, the trace itself included.
        copies: u32,
        /// Shift from copy to copy; whole days keep the time of day.
        #[serde(default = "day")]
        shift: Duration,
    },
    /// Plays each request so many times, within the second in which it arrived: the same bursts, higher. A fraction is
    /// a probability; below 1 requests are left out.
    Multiply(f64),
    /// `multiply` by whatever gives this mean rate. Reads the file twice.
    MultiplyTo(Rate),
}

/// What a failed request becomes. It has no size of its own: both its lengths are 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Failures {
    /// Nothing.
    #[default]
    Drop,
    /// A request that arrives and is counted, and ends at once as `failed-in-trace`: it reaches no replica, and goodput does
    /// not count it.
    Keep,
    /// A request with the size of a successful one of its class, drawn from the kept rows. Reads the file twice.
    Redraw,
}

/// Which rows that cannot be read are left out. They are counted, and every report says how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveOut {
    /// None: such a row ends the run with its place.
    #[default]
    Nothing,
    /// Those with an empty cell where a time or a length belongs; `NULL`, `NaN` and `N/A` are empty too.
    Empty,
    /// All: those with empty cells, and those that are cut off or hold something else.
    Invalid,
}

impl LeaveOut {
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(crate) fn is_nothing(&self) -> bool {
        *self == LeaveOut::Nothing
    }
}

impl Failures {
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(crate) fn is_drop(&self) -> bool {
        *self == Failures::Drop
    }
}

/// A part of a trace, in time since its first row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Window {
    /// Rows before this are passed over; by default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Duration>,
    /// Rows at or after this are not read; by default all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Duration>,
}

impl Window {
    pub(crate) fn is_all(&self) -> bool {
        *self == Window::default()
    }

    pub(crate) fn problem(&self) -> Option<Problem> {
        let from = self.from.map_or(Span::ZERO, |from| from.0);
        let empty = self.to.is_some_and(|to| to.0 <= from);
        empty.then(|| ("window.to".to_owned(), "must be later than `from`".to_owned()))
    }
}

fn day() -> Duration {
    Duration(Span(86_400 * NS_PER_S))
}

/// Copies of a trace at most: each holds its file open.
const COPIES_MAX: u32 = 256;

/// Requests made of one at most.
pub(crate) const FACTOR_MAX: f64 = 10_000.0;

impl ScaleSpec {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: String| problems.push((format!("scale.{path}"), message));
        match *self {
            ScaleSpec::Compress(factor) if !(factor.is_finite() && factor > 0.0) => {
                add("compress", format!("is {factor}; it must be above 0 (100 plays a hundred times faster)"));
            }
            ScaleSpec::Multiply(factor) if !(factor > 0.0 && factor <= FACTOR_MAX) => {
                add("multiply", format!("is {factor}; it must be above 0 and at most {FACTOR_MAX}"));
            }
            ScaleSpec::MultiplyTo(Rate(rate)) if !(rate.is_finite() && rate > 0.0) => {
                add("multiply-to", format!("is {rate}/s; it must be above 0"));
            }
            ScaleSpec::Superpose { copies, shift } => {
                if !(1..=COPIES_MAX).contains(&copies) {
                    add("superpose.copies", format!("is {copies}; it must be between 1 and {COPIES_MAX}"));
                }
                if shift.0 == Span::ZERO {
                    add("superpose.shift", "is 0; copies at the same time are one trace `multiply`-ed".to_owned());
                }
            }
            _ => {}
        }
        problems
    }
}
