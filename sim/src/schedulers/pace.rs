//! How fast a replica computes prompts, as its scheduler has seen it.

use crate::serving::step::StepBuilder;
use crate::time::{Span, Time};

/// The fastest step with prompt tokens so far. What cannot be met at this pace cannot be met at all; before anything was seen,
/// prompts are believed to take no time. Lanes of depth 1 only: a step lasts from its plan to the next one.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Pace {
    /// When the last step was planned, and its prompt tokens.
    planned: Option<(Time, u64)>,
    /// A step's length [ns] and prompt tokens.
    fastest: Option<(u64, u64)>,
}

impl Pace {
    /// A plan begins: the last step has ended.
    pub(crate) fn begin(&mut self, step: &StepBuilder<'_>) {
        let Some((at, tokens)) = self.planned.take() else { return };
        let took = (step.now() - at).0;
        let faster = |(ns, of): (u64, u64)| u128::from(took) * u128::from(of) < u128::from(ns) * u128::from(tokens);
        if self.fastest.is_none_or(faster) {
            self.fastest = Some((took, tokens));
        }
    }

    /// The plan is made.
    pub(crate) fn end(&mut self, step: &StepBuilder<'_>) {
        let tokens = step.prefill_tokens();
        self.planned = (tokens > 0).then(|| (step.now(), tokens));
    }

    /// The least time that so many prompt tokens take.
    pub(crate) fn least(&self, tokens: u32) -> Span {
        let (ns, of) = self.fastest.unwrap_or((0, 1));
        Span((u128::from(ns) * u128::from(tokens) / u128::from(of)).min(u128::from(u64::MAX)) as u64)
    }
}
