//! Fits of the cost model's closed forms to measured kernel times.
//!
//! Every fit minimises the mean of `|ln(predicted / measured)|`. Part of the rows is held out: every second shape where
//! there are enough of them (the study behind the catalog does the same), else every third row. What a [`Residual`] states is the
//! error on those, with the constants that were fitted without them.
//!
//! Left out are rows whose data fit into the second-level cache while they were timed: a server streams other weights
//! between two calls.

mod fits;
pub mod inferred;
mod nnls;
mod power;
mod profile;
mod profiled_power;
mod rows;
mod search;
mod step_profile;
pub mod steps;

pub use fits::{FitError, fit};
pub use power::{ClockExponent, FULL_CLOCK, PowerFit, PowerFitError, PowerSample, SAMPLES_MIN, fit_power};
pub use profile::{HullRange, Profile, ProfileSource};
pub use profiled_power::{PowerErrors, PowerPoint, ProfiledPower};
pub use rows::{CollectiveRow, DecodeRow, ExpertsRow, MatmulRow, PrefillRow, Samples, SmallRow};
pub use step_profile::{
    AnchorTime, Hardware, Noise, ProfiledEngine, SampleFile, StepGrid, StepModel, StepProfile, StepProfileError,
    StepTable,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The median, of an even number between the two in the middle; zero of none. Sorts them.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// How well a form predicts rows that it was not fitted to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// The operation, e.g. `matmul bf16`.
    pub operation: String,
    /// Rows that the constants were fitted to.
    pub fitted: u64,
    /// Rows that they were tried on.
    pub held_out: u64,
    /// Median of `|predicted / measured − 1|` on those [%].
    pub median_percent: f64,
    /// Its 90th percentile [%].
    pub p90_percent: f64,
}
