//! Models that know the true lengths. Scenarios name them, reports print them.

use serde::{Deserialize, Serialize};

use super::{Draw, LengthModel, LengthPolicy, possible};
use crate::check::Check;
use crate::serving::step::RequestView;
use crate::streams::{Purpose, keyed};

/// The true length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oracle;

impl LengthPolicy for Oracle {
    fn is_oracle(&self) -> bool {
        true
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn LengthModel> {
        Box::new(*self)
    }
}

impl LengthModel for Oracle {
    fn predict(&self, request: &RequestView, _: Draw) -> u32 {
        request.truth.unseal()
    }
}

/// Settings of the noisy oracle.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoisyOracleSpec {
    /// Standard deviation of the error's logarithm: with 0.5, two thirds of the predictions are off by a factor of at most
    /// 1.65. The median is right.
    #[schemars(range(min = 0, max = 10))]
    pub sigma: f64,
}

impl Default for NoisyOracleSpec {
    fn default() -> Self {
        NoisyOracleSpec { sigma: 0.5 }
    }
}

impl LengthPolicy for NoisyOracleSpec {
    fn is_oracle(&self) -> bool {
        true
    }

    fn check(&self, check: &mut Check<'_>) {
        let sigma = self.sigma;
        check.that((0.0..=10.0).contains(&sigma), "sigma", format!("is {sigma}; it must be from 0 to 10"));
    }

    fn build(&self, seed: u64, _: u32) -> Box<dyn LengthModel> {
        Box::new(NoisyOracle { sigma: self.sigma, seed })
    }
}

/// The true length times a log-normal error of each request, which stays the same.
#[derive(Clone, Debug)]
struct NoisyOracle {
    sigma: f64,
    seed: u64,
}

impl LengthModel for NoisyOracle {
    fn predict(&self, request: &RequestView, _: Draw) -> u32 {
        let uniform = |part| keyed(self.seed, Purpose::Lengths, &[request.id, part]);
        // Box and Muller's normal variate.
        let normal = (-2.0 * (1.0 - uniform(0)).ln()).sqrt() * (std::f64::consts::TAU * uniform(1)).cos();
        possible(f64::from(request.truth.unseal()) * (self.sigma * normal).exp(), request)
    }
}
