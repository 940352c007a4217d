//! Sarathi-Serve: stall-free batches with chunked prefill (Agrawal et al., OSDI '24, Algorithm 3).

use serde::{Deserialize, Serialize};

use super::chunked::{BatchSpec, Order};
use super::victim::Victim;
use super::{Horizon, Nearest, Needs, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::kv::Seat;
use crate::serving::step::{Head, Infeasible, StepBuilder};

/// Settings of Sarathi-Serve, with Vidur's defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SarathiSpec {
    /// Token budget of one step (the paper's τ): decodes count, but are never held back.
    #[schemars(range(min = 1))]
    pub chunk_size: u32,
    /// Running requests at most.
    #[schemars(range(min = 1))]
    pub max_num_seqs: u32,
    /// Share of the pool kept free when admitting beside running requests.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub watermark: f64,
    /// Which request to preempt when blocks run out.
    pub victim: Victim,
}

impl Default for SarathiSpec {
    fn default() -> Self {
        SarathiSpec { chunk_size: 512, max_num_seqs: 128, watermark: 0.01, victim: Victim::LatestArrival }
    }
}

impl SarathiSpec {
    fn batch(&self) -> BatchSpec {
        let SarathiSpec { chunk_size, max_num_seqs, watermark, victim: _ } = *self;
        BatchSpec { max_num_batched_tokens: chunk_size, max_num_seqs, watermark }
    }
}

impl SchedulerPolicy for SarathiSpec {
    fn needs(&self) -> Needs {
        Needs { serves_apart: true, ..self.batch().needs() }
    }

    fn nearest(&self) -> Nearest {
        Nearest::but("sarathi is nearest to chunked prefill with a small token budget, as shown")
    }

    fn check(&self, check: &mut Check<'_>) {
        check.positive("chunk_size", self.chunk_size);
        check.positive("max_num_seqs", self.max_num_seqs);
        check.share_below_one("watermark", self.watermark);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(Sarathi::new(self.clone()))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = SarathiSpec::default();
        let small = SarathiSpec { chunk_size: 24, watermark: 0.0, ..plain.clone() };
        let few = SarathiSpec { chunk_size: 64, max_num_seqs: 5, victim: Victim::LeastComputed, ..plain.clone() };
        let last = SarathiSpec { victim: Victim::LastAdmitted, watermark: 0.0, ..plain.clone() };
        vec![("", plain), ("24", small), ("few places", few), ("lifo", last)]
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
        let batch = self.spec.batch().plan(&mut Fcfs(self.spec.victim), step)?;
        if !batch.pure {
            return Ok(Horizon::ONE);
        }
        Ok(Horizon::until_admission(batch.room, step.waiting() > 0))
    }
}
