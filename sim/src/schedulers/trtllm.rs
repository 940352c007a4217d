//! TensorRT-LLM's in-flight batching with its two capacity policies.

use serde::{Deserialize, Serialize};

use super::orca::{reserved_blocks, whole_blocks};
use super::victim::{PreemptionMode, Victim, make_room};
use super::{Horizon, Nearest, Needs, Prompts, Reserve, Scheduler, SchedulerPolicy, StepTokens};
use crate::check::Check;
use crate::serving::step::{Head, Infeasible, StepBuilder};

/// Which requests may hold memory (`CapacitySchedulerPolicy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Capacity {
    /// A request starts when the memory for its prompt and its whole output limit can be reserved; none is paused.
    #[default]
    GuaranteedNoEvict,
    /// A request starts when its prompt fits; the last to start is paused (and recomputed) when memory runs out.
    MaxUtilization,
}

/// Settings of TensorRT-LLM's scheduler, with its names and defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrtllmSpec {
    /// Which requests may hold memory.
    pub capacity_scheduler_policy: Capacity,
    /// Running requests at most.
    #[schemars(range(min = 1))]
    pub max_batch_size: u32,
    /// Tokens of one step: one per decode, the rest for prompts.
    #[schemars(range(min = 1))]
    pub max_num_tokens: u32,
    /// Split prompts over steps.
    pub enable_chunked_context: bool,
}

impl Default for TrtllmSpec {
    fn default() -> Self {
        TrtllmSpec {
            capacity_scheduler_policy: Capacity::GuaranteedNoEvict,
            max_batch_size: 2048,
            max_num_tokens: 8192,
            enable_chunked_context: false,
        }
    }
}

impl SchedulerPolicy for TrtllmSpec {
    fn needs(&self) -> Needs {
        let whole = || Prompts::Whole(vec![("max_num_tokens", self.max_num_tokens)]);
        let prompts = if self.enable_chunked_context { Prompts::Split } else { whole() };
        let (serves_apart, reserves) = match self.capacity_scheduler_policy {
            Capacity::MaxUtilization => (true, None),
            Capacity::GuaranteedNoEvict => (false, Some(Reserve::LIMIT)),
        };
        Needs {
            serves_apart,
            reserves,
            ..Needs::plain(self.max_batch_size, StepTokens::Fixed(self.max_num_tokens), prompts)
        }
    }

    fn nearest(&self) -> Nearest {
        Nearest::but("trtllm is TensorRT-LLM's scheduler: these commands are only the nearest of other engines")
    }

    fn check(&self, check: &mut Check<'_>) {
        check.positive("max_batch_size", self.max_batch_size);
        check.positive("max_num_tokens", self.max_num_tokens);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(Trtllm::new(self.clone()))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = TrtllmSpec::default();
        let full = TrtllmSpec { capacity_scheduler_policy: Capacity::MaxUtilization, ..plain.clone() };
        let chunks = TrtllmSpec { max_num_tokens: 60, enable_chunked_context: true, ..full.clone() };
        let few = TrtllmSpec { max_num_tokens: 60, enable_chunked_context: true, max_batch_size: 5, ..plain.clone() };
        vec![("", plain), ("max utilization", full), ("max utilization, chunks", chunks), ("chunks, few places", few)]
    }
}

/// In-flight batching: every step decodes all members and fills the token budget with prompts, first come, first served
/// (`cpp/tensorrt_llm/batch_manager/capacityScheduler.cpp`, `microBatchScheduler.cpp`). Blocks of a prompt are promised when it starts.
#[derive(Clone, Debug)]
pub struct Trtllm {
    spec: TrtllmSpec,
}

impl Trtllm {
    /// A scheduler for one replica.
    pub fn new(spec: TrtllmSpec) -> Self {
        Trtllm { spec }
    }

    /// Whether the memory of the head can be had, given the blocks that others hold or were promised.
    fn fits(&self, step: &StepBuilder<'_>, head: &Head, taken: u64) -> bool {
        match self.spec.capacity_scheduler_policy {
            Capacity::GuaranteedNoEvict => taken + self.need(step, head) <= step.limits().blocks,
            Capacity::MaxUtilization => taken + self.need(step, head) <= step.free_blocks(),
        }
    }

    /// Blocks that the head takes from what others leave.
    fn need(&self, step: &StepBuilder<'_>, head: &Head) -> u64 {
        match self.spec.capacity_scheduler_policy {
            Capacity::GuaranteedNoEvict => whole_blocks(step, head.request.prompt_tokens, head.request.limit),
            Capacity::MaxUtilization => step.blocks_to_hold(head, head.tokens),
        }
    }

    fn admit(&self, step: &mut StepBuilder<'_>, mut budget: u32) -> Result<bool, Infeasible> {
        let reserves = self.spec.capacity_scheduler_policy == Capacity::GuaranteedNoEvict;
        let mut taken = None;
        let mut any = false;
        while budget > 0 && step.running() < self.spec.max_batch_size as usize {
            let Some(head) = step.head() else { break };
            let held = taken.unwrap_or_else(|| if reserves { reserved_blocks(step) } else { step.owed_blocks() });
            let want = head.tokens - head.cached;
            let split = self.spec.enable_chunked_context;
            if !self.fits(step, &head, held) || (want > budget && !split) {
                break;
            }
            let need = self.need(step, &head);
            let tokens = want.min(budget);
            step.admit(&head, tokens)?;
            budget -= tokens;
            let promised = step.blocks_of(&head, head.tokens) - step.blocks_of(&head, head.cached + tokens);
            taken = Some(held + if reserves { need } else { promised });
            any = true;
        }
        Ok(any)
    }
}

impl Scheduler for Trtllm {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let paused = match self.spec.capacity_scheduler_policy {
            Capacity::GuaranteedNoEvict => false,
            Capacity::MaxUtilization => {
                make_room(step, PreemptionMode::Recompute, |step| Victim::LastAdmitted.choose(step))?
            }
        };
        step.decode_all()?;
        let mut pure = step.prefilling().is_empty();
        let budget = step.prefill_within(self.spec.max_num_tokens.saturating_sub(step.members()))?;
        if !paused {
            pure &= !self.admit(step, budget)?;
        }
        if paused || !pure {
            return Ok(Horizon::ONE);
        }
        let room = budget > 0 && step.running() < self.spec.max_batch_size as usize;
        Ok(Horizon::until_admission(room, step.waiting() > 0))
    }
}
