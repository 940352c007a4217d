//! Continuous batching with chunked prefill, as far as schedulers share it: decodes first, then prompts within a token budget.
//! They differ in which request is admitted next, and which is preempted when memory runs out.

use serde::{Deserialize, Serialize};

use super::victim::{PreemptionMode, make_room, watermark_blocks};
use super::{Needs, Prompts, StepTokens};
use crate::check::Check;
use crate::kv::Seat;
use crate::serving::step::{Head, Infeasible, StepBuilder};

/// Limits of a batch.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSpec {
    /// Token budget of one step: decodes count, but are never held back; prompts are split to fit.
    #[schemars(range(min = 1))]
    pub max_num_batched_tokens: u32,
    /// Running requests at most.
    #[schemars(range(min = 1))]
    pub max_num_seqs: u32,
    /// Share of the pool kept free when admitting beside running requests.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub watermark: f64,
}

impl Default for BatchSpec {
    fn default() -> Self {
        BatchSpec { max_num_batched_tokens: 2048, max_num_seqs: 256, watermark: 0.01 }
    }
}

/// Which request is admitted next, and which is preempted.
pub(crate) trait Order {
    /// The waiting request to admit next, if there is one.
    ///
    /// # Errors
    /// A bug in the policy.
    fn next(&mut self, step: &mut StepBuilder<'_>) -> Result<Option<Head>, Infeasible>;

    /// It was admitted.
    fn admitted(&mut self, _: &Head) {}

    /// The running request to preempt. At least one runs.
    fn victim(&self, step: &StepBuilder<'_>) -> Seat;
}

/// What has become of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// It decodes the standing set and does nothing else.
    pub(crate) pure: bool,
    /// There are a place and tokens for one more request.
    pub(crate) room: bool,
}

impl BatchSpec {
    /// Builds a step: every member decodes, then the budget goes to the prompts in prefill and to new ones. The blocks of a whole
    /// prompt are promised at admission, so a decode never takes a block that a prompt in prefill counts on.
    ///
    /// # Errors
    /// A bug in the policy.
    pub(crate) fn plan(&self, order: &mut dyn Order, step: &mut StepBuilder<'_>) -> Result<Batch, Infeasible> {
        let preempted = make_room(step, PreemptionMode::Recompute, |step| order.victim(step))?;
        step.decode_all()?;
        let mut pure = !preempted && step.prefilling().is_empty();
        let mut budget = step.prefill_within(self.max_num_batched_tokens.saturating_sub(step.members()))?;
        let mut owed = step.owed_blocks();
        while budget > 0 && step.running() < self.max_num_seqs as usize {
            let Some(head) = order.next(step)? else { break };
            let kept = owed + watermark_blocks(step, self.watermark);
            if step.blocks_to_compute(&head) + kept > step.free_blocks() {
                break;
            }
            let tokens = (head.tokens - head.cached).min(budget);
            step.admit(&head, tokens)?;
            order.admitted(&head);
            budget -= tokens;
            owed += step.blocks_of(&head, head.tokens) - step.blocks_of(&head, head.cached + tokens);
            pure = false;
        }
        let room = budget > 0 && step.running() < self.max_num_seqs as usize;
        Ok(Batch { pure, room })
    }

    /// What a scheduler with such batches needs, first come, first served. Decodes are never held back: a step may exceed the
    /// budget by them.
    pub(crate) fn needs(&self) -> Needs {
        let tokens = self.max_num_batched_tokens.max(self.max_num_seqs);
        let plain = Needs::plain(self.max_num_seqs, StepTokens::Fixed(tokens), Prompts::Split);
        Needs { counts_slots: true, ..plain }
    }

    /// The rules on its settings.
    pub(crate) fn check(&self, check: &mut Check<'_>) {
        check.positive("max_num_batched_tokens", self.max_num_batched_tokens);
        check.positive("max_num_seqs", self.max_num_seqs);
        check.share_below_one("watermark", self.watermark);
    }
}
