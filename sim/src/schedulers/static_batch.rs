//! Static batching, as FasterTransformer and naive serving loops do it.

use serde::{Deserialize, Serialize};

use super::orca::UNBUDGETED;
use super::{Horizon, Nearest, Needs, Prompts, Reserve, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::serving::step::{Infeasible, StepBuilder};

/// Settings of static batching.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StaticSpec {
    /// Requests per batch at most.
    #[schemars(range(min = 1))]
    pub batch_size: u32,
}

impl Default for StaticSpec {
    fn default() -> Self {
        StaticSpec { batch_size: 32 }
    }
}

impl SchedulerPolicy for StaticSpec {
    fn needs(&self) -> Needs {
        let plain = Needs::plain(self.batch_size, UNBUDGETED, Prompts::Whole(Vec::new()));
        Needs { reserves: Some(Reserve::LIMIT), counts_slots: true, ..plain }
    }

    fn nearest(&self) -> Nearest {
        Nearest::but("static batching has no flag: the engines admit between steps")
    }

    fn check(&self, check: &mut Check<'_>) {
        check.positive("batch_size", self.batch_size);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(StaticBatch::new(self.clone()))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let of = |batch_size| StaticSpec { batch_size };
        vec![("1", of(1)), ("4", of(4)), ("64", of(64))]
    }
}

/// Static batching. A batch is formed when nothing runs: the head of the queue and its followers, as long as the batch has room and
/// the blocks of all prompts and output limits fit. All prompts are computed in one step; no request joins until
/// all have finished.
#[derive(Clone, Debug)]
pub struct StaticBatch {
    spec: StaticSpec,
}

impl StaticBatch {
    /// A scheduler for one replica.
    pub fn new(spec: StaticSpec) -> Self {
        StaticBatch { spec }
    }

    fn form(&self, step: &mut StepBuilder<'_>) -> Result<(), Infeasible> {
        let mut reserved = 0;
        for _ in 0..self.spec.batch_size {
            let Some(head) = step.head() else { break };
            // The last output token is never computed.
            let whole =
                step.blocks_over(head.request.prompt_tokens, head.request.prompt_tokens + head.request.limit - 1);
            if reserved + whole > step.limits().blocks {
                break;
            }
            reserved += whole;
            step.admit(&head, head.tokens - head.cached)?;
        }
        Ok(())
    }
}

impl Scheduler for StaticBatch {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        if step.running() == 0 {
            self.form(step)?;
            return Ok(Horizon::ONE);
        }
        step.decode_all()?;
        Ok(Horizon { repeats: u64::MAX, wake_on_arrival: false, wake_on_end: false })
    }
}
