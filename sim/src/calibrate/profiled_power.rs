//! What a GPU draws, as it was measured beside its steps: the part `power` of a profile of whole steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hardware::gpu::GpuSpec;
use crate::hardware::power::PowerSpec;
use crate::units::{Bandwidth, Bytes, Flops, Watts};

/// The power law of the GPU that was measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfiledPower {
    /// The driver's version, if it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// There was no GPU: watts were made up by a law.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emulated: bool,
    /// Dense bf16 peak that rates are shares of.
    pub peak_bf16: Flops,
    /// Bandwidth that rates are shares of.
    pub bandwidth: Bandwidth,
    /// Memory that weights fill a share of.
    pub memory: Bytes,
    /// What the GPU's power was kept below.
    pub limit: Watts,
    /// Draw of the GPU without a context, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bare_idle: Option<Watts>,
    /// The law.
    pub law: PowerSpec,
    /// Standard errors of its coefficients.
    pub errors: PowerErrors,
    /// Root mean square of `predicted / measured - 1` over the operating points that were used [%].
    pub residual_percent: f64,
    /// Mean of its absolute value on a third of them that was left out of a fit [%].
    pub held_out_percent: f64,
    /// Of the exponent of the clock: its standard error, if it was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponent_error: Option<f64>,
    /// The operating points, in the order in which they were held.
    pub points: Vec<PowerPoint>,
}

/// Standard errors of the coefficients of a law.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerErrors {
    /// Of `resident`; absent where weights fill too little of the memory to tell, and it is the catalog's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<Watts>,
    /// Of `compute`.
    pub compute: Watts,
    /// Of `memory`.
    pub memory: Watts,
}

/// Steps of one shape, held for some seconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerPoint {
    /// Their shape, in words.
    pub steps: String,
    /// Mean time from the end of one to the end of the next [µs].
    pub step_us: f64,
    /// Mean draw.
    pub watts: Watts,
    /// Clock as a share of the highest; absent where it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<f64>,
    /// Share of the memory that weights fill.
    pub resident: f64,
    /// Achieved operations per second over the peak.
    pub compute: f64,
    /// Achieved bytes per second over the bandwidth.
    pub memory: f64,
    /// What held the clock back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_back: Vec<String>,
}

impl ProfiledPower {
    /// A GPU with the peaks that rates were shares of, and this law.
    #[must_use]
    pub fn of(&self, gpu: &GpuSpec) -> GpuSpec {
        GpuSpec {
            memory: self.memory,
            bandwidth: self.bandwidth,
            peak_bf16: self.peak_bf16,
            tdp: self.limit,
            power: Some(self.law.clone()),
            ..gpu.clone()
        }
    }
}
