//! Sarathi-Serve: stall-free batches with chunked prefill (Agrawal et al., OSDI '24, Algorithm 3).

use serde::{Deserialize, Serialize};

use super::chunked::{BatchSpec, Order};
use super::victim::Victim;
use super::{Horizon, Scheduler};
use crate::kv::Seat;
use crate::serving::step::{Head, Infeasible, StepBuilder};

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

/// First come, first served.
struct Fcfs(Victim);

impl Order for Fcfs {
    fn next(&mut self, step: &mut StepBuilder<'_>) -> Result<Option<Head>, Infeasible> {
        Ok(step.head())
    }
    fn victim(&self, step: &StepBuilder<'_>) -> Seat {
        self.0.choose(step)
    }
}

impl Scheduler for Sarathi {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let SarathiSpec { chunk_size, max_num_seqs, watermark, victim } = self.spec;
        let limits = BatchSpec { max_num_batched_tokens: chunk_size, max_num_seqs, watermark };
        let batch = limits.plan(&mut Fcfs(victim), step)?;
        if !batch.pure {
            return Ok(Horizon::ONE);
        }
        Ok(Horizon::until_admission(batch.room, step.waiting() > 0))
    }
}
