//! Shortest job first, by predicted output length.

use serde::{Deserialize, Serialize};

use super::chunked::{BatchSpec, Order};
use super::edf::last_by_key;
use super::{Horizon, Nearest, Needs, QueueOrder, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::kv::Seat;
use crate::lengths::{Draw, LengthModel, LengthSpec, NoisyOracleSpec};
use crate::serving::step::{Head, Infeasible, StepBuilder};
use crate::time::NS_PER_S;

/// Settings of shortest job first.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SjfSpec {
    /// Where the predictions come from. A trained predictor is nearest to a `noisy-oracle`.
    pub lengths: LengthSpec,
    /// By how much a second of waiting shortens the prediction [tokens], so that no request waits for ever; 0 is off.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub ageing: f64,
    /// Limits of a batch.
    pub batch: BatchSpec,
}

impl Default for SjfSpec {
    fn default() -> Self {
        SjfSpec { lengths: LengthSpec::Max, ageing: 0.0, batch: BatchSpec::default() }
    }
}

impl SchedulerPolicy for SjfSpec {
    fn needs(&self) -> Needs {
        Needs { order: QueueOrder::Keyed, lengths: Some(self.lengths), ..self.batch.needs() }
    }

    fn nearest(&self) -> Nearest {
        Nearest::by_priority_but(
            "sjf has no flag: `--scheduling-policy priority` with predicted lengths as priorities is nearest",
        )
    }

    fn check(&self, check: &mut Check<'_>) {
        self.batch.check(&mut check.below("batch"));
        self.lengths.check(&mut check.below("lengths"));
        let ageing = self.ageing;
        check.that((0.0..=1e6).contains(&ageing), "ageing", format!("is {ageing}; it must be from 0 to 1000000"));
    }

    fn build(&self, seed: u64, replica: u32) -> Box<dyn Scheduler> {
        Box::new(Sjf::new(self, self.lengths.build(seed, replica)))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = SjfSpec::default();
        let few = BatchSpec { max_num_seqs: 4, max_num_batched_tokens: 48, watermark: 0.0 };
        let noisy = LengthSpec::NoisyOracle(NoisyOracleSpec::default());
        let guessed = SjfSpec { lengths: noisy, batch: few, ageing: 250.0 };
        let learning = SjfSpec { lengths: LengthSpec::default(), ..plain.clone() };
        let told = SjfSpec { lengths: LengthSpec::Oracle, ..plain.clone() };
        vec![("", plain), ("noisy oracle, ageing, few places", guessed), ("history", learning), ("oracle", told)]
    }
}

/// Speculative shortest job first (Qiu et al., 2024; `James-QiuHaoran/LLM-serving-with-proxy-models`) over chunked prefill: the
/// prediction is made once, when a request arrives, and a running request is not stopped for a shorter one. When memory runs out, the
/// longest prediction goes.
#[derive(Debug)]
pub struct Sjf {
    lengths: Box<dyn LengthModel>,
    /// Tokens per second of waiting, in parts of a token.
    ageing: u64,
    batch: BatchSpec,
}

/// Parts of a token, in keys.
const ONE: u64 = 1 << 20;

impl Sjf {
    /// A scheduler for one replica, which goes by this length model.
    pub fn new(spec: &SjfSpec, lengths: Box<dyn LengthModel>) -> Self {
        let ageing = (spec.ageing * ONE as f64).round() as u64;
        Sjf { lengths, ageing, batch: spec.batch }
    }
}

impl Order for Sjf {
    fn next(&mut self, step: &mut StepBuilder<'_>) -> Result<Option<Head>, Infeasible> {
        Ok(step.head())
    }
    fn victim(&self, step: &StepBuilder<'_>) -> Seat {
        last_by_key(step)
    }
}

impl Scheduler for Sjf {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        for &length in step.finished() {
            self.lengths.finished(length);
        }
        while let Some(request) = step.newcomer() {
            let predicted = u64::from(self.lengths.predict(&request, Draw::default())) * ONE;
            // All waiting requests age alike: the order of arrivals counts.
            let lead = u128::from(request.arrival_key) * u128::from(self.ageing) / u128::from(NS_PER_S);
            step.rank(
                request.seat,
                predicted.saturating_add(u64::try_from(lead).unwrap_or(u64::MAX)).min(u64::MAX - 1),
            );
        }
        let limits = self.batch;
        let batch = limits.plan(self, step)?;
        if !batch.pure {
            return Ok(Horizon::ONE);
        }
        // What is predicted of an arrival may depend on what has finished by then.
        Ok(Horizon { repeats: u64::MAX, wake_on_arrival: true, wake_on_end: step.waiting() > 0 || !batch.room })
    }
}
