//! vLLM's first scheduler (v0), in its default form: prefill first, whole prompts, no mixing.

use serde::{Deserialize, Serialize};

use super::victim::{PreemptionMode, Victim, make_room, watermark_blocks};
use super::{Horizon, Scheduler};
use crate::serving::step::{Infeasible, StepBuilder};
use crate::units::Bytes;

/// Settings of vLLM's v0 scheduler, with vLLM's names and defaults (versions 0.4 to 0.6, without chunked prefill).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VllmV0Spec {
    /// Prompt tokens of one prefill step; by default the context, at least 2,048.
    pub max_num_batched_tokens: Option<u32>,
    /// Running requests at most.
    pub max_num_seqs: u32,
    /// Share of the pool kept free when admitting beside running requests.
    pub watermark: f64,
    /// Whom to preempt when blocks run out.
    pub victim: Victim,
    /// What becomes of the victim's KV.
    pub preemption_mode: PreemptionMode,
    /// Memory of the host for KV that was swapped out, per GPU.
    pub swap_space: Bytes,
}

impl Default for VllmV0Spec {
    fn default() -> Self {
        VllmV0Spec {
            max_num_batched_tokens: None,
            max_num_seqs: 256,
            watermark: 0.01,
            victim: Victim::LatestArrival,
            preemption_mode: PreemptionMode::Recompute,
            swap_space: Bytes(4 << 30),
        }
    }
}

impl VllmV0Spec {
    /// Prompt tokens of one prefill step where sequences have up to `max_model_len` tokens.
    pub fn budget(&self, max_model_len: u32) -> u32 {
        self.max_num_batched_tokens.unwrap_or_else(|| max_model_len.max(2048))
    }
}

/// As long as the head of the queue fits, steps compute whole prompts and all decodes wait; otherwise all decode
/// (`vllm/core/scheduler.py`, `_schedule_default`). As long as somebody is swapped out, nobody else is admitted.
#[derive(Clone, Debug)]
pub struct VllmV0 {
    spec: VllmV0Spec,
}

impl VllmV0 {
    /// A scheduler for one replica.
    pub fn new(spec: VllmV0Spec) -> Self {
        VllmV0 { spec }
    }

    /// A step of whole prompts. Returns whether there is one.
    fn prefill(&self, step: &mut StepBuilder<'_>) -> Result<bool, Infeasible> {
        let mut budget = self.spec.budget(step.limits().max_model_len);
        let mut any = false;
        while step.running() < self.spec.max_num_seqs as usize {
            let Some(head) = step.head() else { break };
            let tokens = head.tokens - head.cached;
            let kept = watermark_blocks(step, self.spec.watermark);
            if tokens > budget || step.blocks_to_hold(&head, head.tokens) + kept > step.free_blocks() {
                break;
            }
            step.admit(&head, tokens)?;
            budget -= tokens;
            any = true;
        }
        Ok(any)
    }
}

/// Takes back requests that were swapped out, the first one first, while they fit beside the next step of those that run, and
/// while there are places. Returns whether any came.
///
/// # Errors
/// Never, unless the state is broken.
pub(crate) fn swap_in(step: &mut StepBuilder<'_>, places: u32, watermark: f64) -> Result<bool, Infeasible> {
    let mut any = false;
    while step.running() < places as usize {
        let Some(head) = step.head().filter(|head| head.request.on_host > 0) else { break };
        let kept = step.member_blocks() + watermark_blocks(step, watermark);
        if step.blocks_for(head.request.on_host + 1) + kept > step.free_blocks() {
            break;
        }
        step.swap_in(&head)?;
        any = true;
    }
    Ok(any)
}

impl Scheduler for VllmV0 {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let VllmV0Spec { max_num_seqs, watermark, victim, preemption_mode, .. } = self.spec;
        let any_swapped = step.swapped_blocks() > 0;
        if !any_swapped && self.prefill(step)? {
            return Ok(Horizon::ONE);
        }
        let preempted = make_room(step, preemption_mode, |step| victim.choose(step))?;
        let came = !preempted && any_swapped && swap_in(step, max_num_seqs, watermark)?;
        step.decode_all()?;
        if preempted || came {
            return Ok(Horizon::ONE);
        }
        let room = step.running() < max_num_seqs as usize;
        Ok(Horizon::until_admission(room, step.waiting() > 0))
    }
}
