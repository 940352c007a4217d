//! vLLM's first scheduler (v0), in its default form: prefill first, whole prompts, no mixing.

use serde::{Deserialize, Serialize};

use super::victim::{PreemptionMode, Victim, make_room, watermark_blocks};
use super::{Horizon, Nearest, Needs, Prompts, Scheduler, SchedulerPolicy, StepTokens};
use crate::check::Check;
use crate::serving::step::{Infeasible, StepBuilder};
use crate::units::Bytes;

/// Settings of vLLM's v0 scheduler, with vLLM's names and defaults (versions 0.4 to 0.6, without chunked prefill).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VllmV0Spec {
    /// Prompt tokens of one prefill step; by default the context, at least 2,048.
    #[schemars(range(min = 1))]
    pub max_num_batched_tokens: Option<u32>,
    /// Running requests at most.
    #[schemars(range(min = 1))]
    pub max_num_seqs: u32,
    /// Share of the pool kept free when admitting beside running requests.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub watermark: f64,
    /// Which request to preempt when blocks run out.
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
    /// Prompt tokens of one prefill step.
    fn budget(&self) -> StepTokens {
        self.max_num_batched_tokens.map_or(StepTokens::Longest(2048), StepTokens::Fixed)
    }
}

impl SchedulerPolicy for VllmV0Spec {
    fn needs(&self) -> Needs {
        let stated = self.max_num_batched_tokens.map(|tokens| ("max_num_batched_tokens", tokens));
        Needs {
            swap_space: self.preemption_mode.swap_space(self.swap_space),
            serves_apart: true,
            ..Needs::plain(self.max_num_seqs, self.budget(), Prompts::Whole(stated.into_iter().collect()))
        }
    }

    fn nearest(&self) -> Nearest {
        Nearest::but("vllm-v0 is vLLM 0.4 to 0.6 without chunked prefill: today's vLLM has no flag for it")
    }

    fn check(&self, check: &mut Check<'_>) {
        check.positive("max_num_seqs", self.max_num_seqs);
        check.share_below_one("watermark", self.watermark);
        check.positive("max_num_batched_tokens", self.max_num_batched_tokens);
        self.preemption_mode.check(self.swap_space, check);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(VllmV0::new(self.clone()))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = VllmV0Spec::default();
        let few = VllmV0Spec { max_num_seqs: 4, watermark: 0.0, ..plain.clone() };
        let kept = VllmV0Spec { victim: Victim::MostComputed, watermark: 0.0, ..plain.clone() };
        let mode = PreemptionMode::Swap;
        let swaps = VllmV0Spec { preemption_mode: mode, watermark: 0.0, ..plain.clone() };
        let cramped = VllmV0Spec { swap_space: Bytes(20), victim: Victim::LastAdmitted, ..swaps.clone() };
        vec![("", plain), ("few places", few), ("largest victim", kept), ("swap", swaps), ("swap of 20 bytes", cramped)]
    }
}

/// As long as the head of the queue fits, steps compute whole prompts and all decodes wait; otherwise all decode
/// (`vllm/core/scheduler.py`, `_schedule_default`). As long as a request is swapped out, no other is admitted.
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
        let mut budget = self.spec.budget().at(step.limits().max_model_len);
        let mut any = false;
        while step.running() < self.spec.max_num_seqs as usize {
            let Some(head) = step.head() else { break };
            let tokens = head.tokens - head.cached;
            let kept = watermark_blocks(step, self.spec.watermark);
            if tokens > budget || step.blocks_to_compute(&head) + kept > step.free_blocks() {
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
