//! Past-Future: admission by the future peak of memory, with lengths drawn from the past (arXiv 2507.10150, ASPLOS '25).

use serde::{Deserialize, Serialize};

use super::future_peak::{FuturePeak, Growth};
use super::lightllm::{Gate, Intake, NEAREST, PeriodicAdmission};
use super::{Nearest, Needs, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::lengths::{Draw, HistorySpec, LengthModel, LengthSpec};
use crate::serving::step::{Head, StepBuilder};

/// Settings of Past-Future, with LightLLM's names and defaults (pull request 1048). The paper's servers use `reserved: 0.05`,
/// `router_max_wait_tokens: 2`, `max_admissions: 1` and a window of 40; its simulation 0.03, 10, no limit and 1,000.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PastFutureSpec {
    /// Where output lengths come from.
    pub lengths: LengthSpec,
    /// Share of the pool that the future peak must leave free.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub reserved: f64,
    /// Samples of the whole batch that must all fit, at most.
    #[schemars(range(min = 1, max = 1000))]
    pub maximum_lists: u32,
    /// Predictions of single requests that an attempt wants: small batches are sampled more often, up to `maximum_lists`.
    pub minimum_samples: u32,
    /// Running requests at most.
    #[schemars(range(min = 1))]
    pub running_max_req_size: u32,
    /// Prompt tokens of one prefill step; by default those of the longest sequence.
    #[schemars(range(min = 1))]
    pub batch_max_tokens: Option<u32>,
    /// Decode steps from one attempt to admit to the next.
    #[schemars(range(min = 1))]
    pub router_max_wait_tokens: u32,
    /// Admissions of one attempt at most; `null` is no limit.
    #[schemars(range(min = 1))]
    pub max_admissions: Option<u32>,
}

impl Default for PastFutureSpec {
    fn default() -> Self {
        PastFutureSpec {
            lengths: LengthSpec::default(),
            reserved: 0.05,
            maximum_lists: 5,
            minimum_samples: 200,
            running_max_req_size: 1000,
            batch_max_tokens: None,
            router_max_wait_tokens: 6,
            max_admissions: None,
        }
    }
}

impl PastFutureSpec {
    /// When it admits.
    pub fn intake(&self) -> Intake {
        Intake {
            running_max_req_size: self.running_max_req_size,
            batch_max_tokens: self.batch_max_tokens,
            router_max_wait_tokens: self.router_max_wait_tokens,
            max_admissions: self.max_admissions,
        }
    }

    /// The scheduler of one replica, with another length model than these settings name.
    pub fn with_lengths(&self, lengths: Box<dyn LengthModel>) -> Box<dyn Scheduler> {
        Box::new(PeriodicAdmission::new(self.intake(), Box::new(Peak::new(self, lengths))))
    }
}

impl SchedulerPolicy for PastFutureSpec {
    fn needs(&self) -> Needs {
        Needs { lengths: Some(self.lengths), ..self.intake().needs() }
    }

    fn nearest(&self) -> Nearest {
        NEAREST
    }

    fn check(&self, check: &mut Check<'_>) {
        self.intake().check(check);
        self.lengths.check(&mut check.below("lengths"));
        check.share_below_one("reserved", self.reserved);
        check.range("maximum_lists", self.maximum_lists, 1, 1000);
    }

    fn build(&self, seed: u64, replica: u32) -> Box<dyn Scheduler> {
        self.with_lengths(self.lengths.build(seed, replica))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let short = HistorySpec { window: 10, initial: 40 };
        let plain = PastFutureSpec { lengths: LengthSpec::History(short), ..PastFutureSpec::default() };
        let quick = PastFutureSpec { router_max_wait_tokens: 2, max_admissions: Some(1), ..plain.clone() };
        let bold = PastFutureSpec { reserved: 0.0, maximum_lists: 1, running_max_req_size: 6, ..plain.clone() };
        let first = [
            ("", PastFutureSpec::default()),
            ("short history", plain.clone()),
            ("one at a time", quick),
            ("bold, few places", bold),
        ];
        let with = |lengths| PastFutureSpec { lengths, reserved: 0.0, ..plain.clone() };
        let lengths = LengthSpec::every().into_iter().map(|(name, lengths)| (name, with(lengths)));
        first.into_iter().chain(lengths).collect()
    }
}

/// Admits the head if the future peak stays below what is not reserved, in every sample of the batch's lengths.
#[derive(Debug)]
pub(super) struct Peak {
    lengths: Box<dyn LengthModel>,
    reserved: f64,
    maximum_lists: u32,
    minimum_samples: u32,
    attempt: u64,
    /// The batch in every sample of this attempt; empty as long as no head has come near the bound.
    lists: Vec<FuturePeak>,
}

impl Peak {
    fn new(spec: &PastFutureSpec, lengths: Box<dyn LengthModel>) -> Peak {
        Peak {
            maximum_lists: spec.maximum_lists,
            minimum_samples: spec.minimum_samples,
            ..Peak::plain(lengths, spec.reserved)
        }
    }

    /// One sample.
    pub(super) fn plain(lengths: Box<dyn LengthModel>, reserved: f64) -> Peak {
        Peak { lengths, reserved, maximum_lists: 1, minimum_samples: 1, attempt: 0, lists: Vec::new() }
    }

    /// Tokens below which the future peak must stay.
    fn bound(&self, step: &StepBuilder<'_>) -> f64 {
        let limits = step.limits();
        (limits.blocks * u64::from(limits.block_tokens)) as f64 * (1.0 - self.reserved)
    }

    /// KV tokens as blocks hold them: the last one may be almost empty.
    fn held(step: &StepBuilder<'_>, tokens: u32) -> u64 {
        u64::from(tokens) + u64::from(step.limits().block_tokens) - 1
    }

    /// The samples of the batch as it runs.
    fn sample(&mut self, step: &StepBuilder<'_>) {
        let running: Vec<_> = (0..step.running()).map(|at| step.running_at(at)).collect();
        let wanted = self.minimum_samples / (running.len() as u32).max(1) + 1;
        let lists = if self.lengths.is_random() { wanted.min(self.maximum_lists) } else { 1 };
        let growth = |list| {
            let draw = Draw { attempt: self.attempt, list };
            let of = running.iter().map(|request| Growth {
                held: Peak::held(step, request.computed),
                left: u64::from(self.lengths.predict(request, draw) - request.generated),
            });
            FuturePeak::new(of.collect())
        };
        self.lists = (0..lists).map(growth).collect();
    }
}

impl Gate for Peak {
    fn finished(&mut self, output_tokens: u32) {
        self.lengths.finished(output_tokens);
    }

    fn attempt(&mut self, step: &StepBuilder<'_>) {
        // Attempts that are certain to fail may be skipped, so they are not counted.
        self.attempt = step.executed();
        self.lists.clear();
    }

    fn admits(&mut self, step: &StepBuilder<'_>, head: &Head) -> bool {
        if self.is_shut(step, head) {
            return false;
        }
        if self.lists.is_empty() {
            self.sample(step);
        }
        let bound = self.bound(step);
        let held = Peak::held(step, head.tokens);
        let mut growths = Vec::with_capacity(self.lists.len());
        for (list, peak) in (0..).zip(&self.lists) {
            let length = self.lengths.predict(&head.request, Draw { attempt: self.attempt, list });
            // The prefill delivers a token of its own.
            let growth = Growth { held, left: u64::from(length - head.request.generated - 1) };
            if peak.with(growth) as f64 >= bound {
                return false;
            }
            growths.push(growth);
        }
        for (peak, growth) in self.lists.iter_mut().zip(growths) {
            peak.insert(growth);
        }
        true
    }

    /// What is held now is a lower bound of every future peak, and only grows.
    fn is_shut(&self, step: &StepBuilder<'_>, head: &Head) -> bool {
        let slack = u64::from(step.members()) * (u64::from(step.limits().block_tokens) - 1);
        let held = step.member_tokens() + slack + Peak::held(step, head.tokens);
        held as f64 >= self.bound(step)
    }
}
