//! How long the output of a request will be: what schedulers that plan with lengths believe.
//!
//! A scheduler hands on what has finished ([`StepBuilder::finished`]) and asks about requests. Except for the oracles,
//! which a scenario must name and every report prints, no model knows more than the scheduler does.
//!
//! [`StepBuilder::finished`]: crate::serving::step::StepBuilder::finished

mod history;
mod oracle;

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::serving::step::RequestView;

pub use history::{HistorySpec, QuantileSpec};
pub use oracle::NoisyOracleSpec;

/// Predicts output lengths.
pub trait LengthModel: std::fmt::Debug {
    /// The whole output of an unfinished request [tokens]: more than it has generated, at most its limit. The same for the same
    /// question, whatever was asked in between.
    fn predict(&self, request: &RequestView, draw: Draw) -> u32;

    /// A request has finished with so many output tokens.
    fn finished(&mut self, _output_tokens: u32) {}

    /// Whether predictions depend on the draw.
    fn is_random(&self) -> bool {
        false
    }
}

/// Which of many independent predictions is meant. Draws are keyed by this and the request, never by their order, so that a
/// scheduler may leave out those that cannot matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Draw {
    /// Number of the decision that asks, e.g. of the step.
    pub attempt: u64,
    /// Number of the sample within the decision.
    pub list: u32,
}

/// Where a scheduler's idea of output lengths comes from.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LengthSpec {
    /// Drawn from the lengths that finished last, given what has been generated (Past-Future).
    History(HistorySpec),
    /// A fixed quantile of the lengths that finished last, given what has been generated.
    Quantile(QuantileSpec),
    /// The output limit.
    Max,
    /// The true length times an error: an oracle, and reported as one.
    NoisyOracle(NoisyOracleSpec),
    /// The true length: an oracle, and reported as one.
    Oracle,
}

/// The settings of a length model: they check themselves, and build it.
pub trait LengthPolicy {
    /// Whether it knows the true lengths, exactly or roughly: an assumption that reports print.
    fn is_oracle(&self) -> bool {
        false
    }

    /// The rules on its settings.
    fn check(&self, _: &mut Check<'_>) {}

    /// The model of one replica.
    fn build(&self, seed: u64, replica: u32) -> Box<dyn LengthModel>;
}

impl LengthSpec {
    /// Its name in scenarios, and its settings.
    fn policy(&self) -> (&'static str, &dyn LengthPolicy) {
        match self {
            LengthSpec::History(settings) => ("history", settings),
            LengthSpec::Quantile(settings) => ("quantile", settings),
            LengthSpec::Max => ("max", &Max),
            LengthSpec::NoisyOracle(settings) => ("noisy-oracle", settings),
            LengthSpec::Oracle => ("oracle", &oracle::Oracle),
        }
    }

    /// Every length model, and what to call it: those with a memory learn within the short runs of a test.
    pub fn every() -> Vec<(&'static str, LengthSpec)> {
        let (window, initial) = (20, 60);
        let every = [
            LengthSpec::History(HistorySpec { window, initial }),
            LengthSpec::Quantile(QuantileSpec { quantile: 0.6, window, initial }),
            LengthSpec::Max,
            LengthSpec::NoisyOracle(NoisyOracleSpec { sigma: 0.3 }),
            LengthSpec::Oracle,
        ];
        every.map(|lengths| (lengths.policy().0, lengths)).into()
    }

    /// The model of one replica.
    pub fn build(&self, seed: u64, replica: u32) -> Box<dyn LengthModel> {
        self.policy().1.build(seed, replica)
    }

    /// The rules on its settings, below its name.
    pub fn check(&self, check: &mut Check<'_>) {
        let (name, policy) = self.policy();
        policy.check(&mut check.below(name));
    }

    /// Whether it knows the true lengths, exactly or roughly: an assumption that reports print.
    pub fn is_oracle(&self) -> bool {
        self.policy().1.is_oracle()
    }
}

impl Default for LengthSpec {
    fn default() -> Self {
        LengthSpec::History(HistorySpec::default())
    }
}

/// Every request uses up its limit.
#[derive(Clone, Copy, Debug)]
struct Max;

impl LengthPolicy for Max {
    fn build(&self, _: u64, _: u32) -> Box<dyn LengthModel> {
        Box::new(*self)
    }
}

impl LengthModel for Max {
    fn predict(&self, request: &RequestView, _: Draw) -> u32 {
        request.limit
    }
}

/// A prediction, brought into the range that is possible: above what is generated, up to the limit.
fn possible(length: f64, request: &RequestView) -> u32 {
    (length.round().min(f64::from(u32::MAX)) as u32).max(request.generated + 1).min(request.limit)
}

#[cfg(test)]
mod tests;
