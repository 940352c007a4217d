//! Sarathi-Serve: stall-free batches with chunked prefill (Agrawal et al., OSDI '24, Algorithm 3).

use serde::{Deserialize, Serialize};

use super::victim::{Victim, make_room, watermark_blocks};
use super::{Horizon, Scheduler};
use crate::step::{Infeasible, StepBuilder};

/// Settings of Sarathi-Serve, with Vidur's defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SarathiSpec {
    /// Token budget of one step (the paper's τ): decodes count, but are never held back.
    pub chunk_size: u32,
    /// Running requests at most.
    pub max_num_seqs: u32,
    /// Share of the pool kept free when admitting beside running requests.
    pub watermark: f64,
    /// Whom to preempt when blocks run out.
    pub victim: Victim,
}

impl Default for SarathiSpec {
    fn default() -> Self {
        SarathiSpec { chunk_size: 512, max_num_seqs: 128, watermark: 0.01, victim: Victim::LatestArrival }
    }
}

/// Every step decodes all members, then fills the budget with the prompts in prefill and with new ones, first come, first
/// served. The blocks of a whole prompt are promised at admission (`vidur/scheduler/replica_scheduler/sarathi_replica_scheduler.py`
/// allocates them there), so a decode never takes a block that a prompt in prefill counts on.
#[derive(Clone, Debug)]
pub struct Sarathi {
    spec: SarathiSpec,
}

impl Sarathi {
    /// A scheduler for one replica.
    pub fn new(spec: SarathiSpec) -> Self {
        Sarathi { spec }
    }
}

impl Scheduler for Sarathi {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let preempted = make_room(step, self.spec.victim)?;
        step.decode_all()?;
        let mut pure = !preempted && step.prefilling().is_empty();
        let mut budget = step.prefill_within(self.spec.chunk_size.saturating_sub(step.members()))?;
        let mut owed = step.owed_blocks();
        while budget > 0 && step.running() < self.spec.max_num_seqs as usize {
            let Some(head) = step.head() else { break };
            let kept = owed + watermark_blocks(step, self.spec.watermark);
            if step.blocks_to_hold(&head, head.tokens) + kept > step.free_blocks() {
                break;
            }
            let tokens = (head.tokens - head.cached).min(budget);
            step.admit(&head, tokens)?;
            budget -= tokens;
            owed += step.blocks_for(head.tokens) - step.blocks_for(head.cached + tokens);
            pure = false;
        }
        if !pure {
            return Ok(Horizon::ONE);
        }
        let room = budget > 0 && step.running() < self.spec.max_num_seqs as usize;
        Ok(Horizon::until_admission(room, step.waiting() > 0))
    }
}
