//! Answers beside throughput: what requests that kept only some of their tokens are worth.

use std::collections::BTreeMap;

use super::Summary;
use crate::results::rows::Outcome;

/// Measured shares of right answers of one task, by what a request kept.
#[derive(Clone, PartialEq, Debug)]
pub struct Quality {
    /// The task.
    pub task: String,
    /// The model that was measured.
    pub model: String,
    /// The policy.
    pub policy: String,
    /// Where the numbers stand, and of what kind they are.
    pub source: String,
    /// Right answers where all tokens are kept, from 0 to 1.
    pub full: f64,
    /// Right answers by budget; `None` where nobody measured it. 0: all tokens are kept.
    pub by_budget: BTreeMap<u32, Option<f64>>,
    /// Why some of them are unknown; empty if none is.
    pub unknown: String,
}

impl Summary {
    /// Finished requests whose quality is known, their right answers, and all finished requests.
    fn answers(&self) -> Option<(u64, f64, u64)> {
        let quality = self.quality.as_ref()?;
        let finished = self.count(Outcome::Finished);
        let Some(retained) = &self.retained else { return Some((finished, finished as f64 * quality.full, finished)) };
        let (mut known, mut right) = (0, 0.0);
        for (budget, of) in &retained.finished {
            if let Some(score) = quality.by_budget.get(budget).copied().flatten() {
                known += of.requests;
                right += of.requests as f64 * score;
            }
        }
        Some((known, right, finished))
    }

    /// Right answers, over those that full caches would give. `None` unless the quality of every finished request is known.
    pub fn quality_share(&self) -> Option<f64> {
        let (known, right, finished) = self.answers()?;
        let full = self.quality.as_ref()?.full;
        (known == finished && finished > 0).then(|| right / (finished as f64 * full))
    }

    /// Share of the finished requests whose quality is unknown.
    pub fn quality_unknown(&self) -> Option<f64> {
        let (known, _, finished) = self.answers()?;
        (finished > 0).then(|| (finished - known) as f64 / finished as f64)
    }

    /// Right answers per second of a GPU. `None` unless the quality of every finished request is known: an unknown answer is not a
    /// wrong one.
    pub fn answers_per_gpu_second(&self) -> Option<f64> {
        let (known, right, finished) = self.answers()?;
        let seconds = self.fleet.gpu_time?.as_secs_f64();
        (known == finished && finished > 0 && seconds > 0.0).then(|| right / seconds)
    }
}
