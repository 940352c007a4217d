//! Models that are told the truth. Scenarios name them, reports print them.

use serde::{Deserialize, Serialize};

use super::{Draw, LengthModel, possible};
use crate::serving::step::RequestView;
use crate::streams::{Purpose, keyed};

/// The true length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oracle;

impl LengthModel for Oracle {
    fn predict(&self, request: &RequestView, _: Draw) -> u32 {
        request.truth.open()
    }
}

/// Settings of the noisy oracle.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoisyOracleSpec {
    /// Standard deviation of the error's logarithm: with 0.5, two thirds of the predictions are off by a factor of at most
    /// 1.65. The median is right.
    pub sigma: f64,
}

impl Default for NoisyOracleSpec {
    fn default() -> Self {
        NoisyOracleSpec { sigma: 0.5 }
    }
}

/// The true length times a log-normal error of each request, which stays the same.
#[derive(Clone, Debug)]
pub(super) struct NoisyOracle {
    sigma: f64,
    seed: u64,
}

impl NoisyOracle {
    pub(super) fn new(spec: NoisyOracleSpec, seed: u64) -> NoisyOracle {
        NoisyOracle { sigma: spec.sigma, seed }
    }
}

impl LengthModel for NoisyOracle {
    fn predict(&self, request: &RequestView, _: Draw) -> u32 {
        let uniform = |part| keyed(self.seed, Purpose::Lengths, &[request.id, part]);
        // Box and Muller's normal variate.
        let normal = (-2.0 * (1.0 - uniform(0)).ln()).sqrt() * (std::f64::consts::TAU * uniform(1)).cos();
        possible(f64::from(request.truth.open()) * (self.sigma * normal).exp(), request)
    }
}
