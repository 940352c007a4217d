//! Orca: iteration-level scheduling with selective batching (Yu et al., OSDI '22, Algorithm 1).

use serde::{Deserialize, Serialize};

use super::{Horizon, Nearest, Needs, Prompts, Reserve, Scheduler, SchedulerPolicy, StepTokens};
use crate::check::Check;
use crate::serving::step::{Infeasible, StepBuilder};

/// Settings of Orca.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrcaSpec {
    /// Running requests at most (the paper's `max_bs`).
    #[schemars(range(min = 1))]
    pub max_batch_size: u32,
}

impl Default for OrcaSpec {
    fn default() -> Self {
        OrcaSpec { max_batch_size: 128 }
    }
}

impl SchedulerPolicy for OrcaSpec {
    fn needs(&self) -> Needs {
        let plain = Needs::plain(self.max_batch_size, UNBUDGETED, Prompts::Whole(Vec::new()));
        Needs { reserves: Some(Reserve::LIMIT), counts_slots: true, ..plain }
    }

    fn nearest(&self) -> Nearest {
        Nearest::but("orca has no flag: the engines do not reserve memory for the whole output")
    }

    fn check(&self, check: &mut Check<'_>) {
        check.positive("max_batch_size", self.max_batch_size);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(Orca::new(self.clone()))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        vec![("", OrcaSpec::default()), ("3", OrcaSpec { max_batch_size: 3 })]
    }
}

/// A scheduler without a token budget has that of vLLM's server, as far as memory for activations goes.
pub(super) const UNBUDGETED: StepTokens = StepTokens::Fixed(8192);

/// First come, first served at every step. A request enters when the memory for its prompt and its whole output limit can be
/// reserved; whole prompts are computed beside decodes. No request is ever preempted.
#[derive(Clone, Debug)]
pub struct Orca {
    spec: OrcaSpec,
}

impl Orca {
    /// A scheduler for one replica.
    pub fn new(spec: OrcaSpec) -> Self {
        Orca { spec }
    }
}

/// Blocks of a request's prompt and whole output limit. The last output token is never computed.
pub(crate) fn whole_blocks(step: &StepBuilder<'_>, prompt: u32, limit: u32) -> u64 {
    step.blocks_over(prompt, prompt + limit - 1)
}

/// Blocks reserved for the running requests.
pub(crate) fn reserved_blocks(step: &StepBuilder<'_>) -> u64 {
    let running = (0..step.running()).map(|at| step.running_at(at));
    running.map(|request| whole_blocks(step, request.prompt_tokens, request.limit)).sum()
}

impl Scheduler for Orca {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        step.decode_all()?;
        let mut reserved = None;
        let mut pure = true;
        while step.running() < self.spec.max_batch_size as usize {
            let Some(head) = step.head() else { break };
            let already = reserved.unwrap_or_else(|| reserved_blocks(step));
            let whole = whole_blocks(step, head.request.prompt_tokens, head.request.limit);
            if already + whole > step.limits().blocks {
                break;
            }
            step.admit(&head, head.tokens - head.cached)?;
            reserved = Some(already + whole);
            pure = false;
        }
        if !pure {
            return Ok(Horizon::ONE);
        }
        let room = step.running() < self.spec.max_batch_size as usize;
        Ok(Horizon::until_admission(room, step.waiting() > 0))
    }
}
