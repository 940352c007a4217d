//! Aggressive admission: a request that fits now may enter. The first baseline of Past-Future (arXiv 2507.10150).

use serde::{Deserialize, Serialize};

use super::lightllm::{Gate, Intake, NEAREST, PeriodicAdmission};
use super::{Nearest, Needs, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::serving::step::{Head, StepBuilder};

/// Settings of aggressive admission, with LightLLM's names and the rule of the paper's server. Its simulation admits up to 99 % of
/// the pool: `used_max: 1`, `filled_max: 0.99`, `router_max_wait_tokens: 10`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AggressiveSpec {
    /// No request enters while this share of the pool or more is in use.
    #[schemars(range(min = 0, max = 1))]
    pub used_max: f64,
    /// Share of the pool that is in use at most once the prompt and one more token are in it.
    #[schemars(range(min = 0, max = 1))]
    pub filled_max: f64,
    /// Running requests at most.
    #[schemars(range(min = 1))]
    pub running_max_req_size: u32,
    /// Prompt tokens of one prefill step; by default those of the longest sequence.
    #[schemars(range(min = 1))]
    pub batch_max_tokens: Option<u32>,
    /// Decode steps from one attempt to admit to the next.
    #[schemars(range(min = 1))]
    pub router_max_wait_tokens: u32,
    /// Admissions of one attempt at most; `null` is no limit.
    #[schemars(range(min = 1))]
    pub max_admissions: Option<u32>,
}

impl Default for AggressiveSpec {
    fn default() -> Self {
        AggressiveSpec {
            used_max: 0.95,
            filled_max: 1.0,
            running_max_req_size: 1000,
            batch_max_tokens: None,
            router_max_wait_tokens: 2,
            max_admissions: None,
        }
    }
}

impl AggressiveSpec {
    /// When it admits.
    pub fn intake(&self) -> Intake {
        Intake {
            running_max_req_size: self.running_max_req_size,
            batch_max_tokens: self.batch_max_tokens,
            router_max_wait_tokens: self.router_max_wait_tokens,
            max_admissions: self.max_admissions,
        }
    }
}

impl SchedulerPolicy for AggressiveSpec {
    fn needs(&self) -> Needs {
        self.intake().needs()
    }

    fn nearest(&self) -> Nearest {
        NEAREST
    }

    fn check(&self, check: &mut Check<'_>) {
        self.intake().check(check);
        check.share("used_max", self.used_max);
        check.share("filled_max", self.filled_max);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(PeriodicAdmission::new(self.intake(), Box::new(Fill::new(self))))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = AggressiveSpec::default();
        let slow = AggressiveSpec { used_max: 1.0, filled_max: 0.99, router_max_wait_tokens: 10, ..plain.clone() };
        let few = AggressiveSpec { running_max_req_size: 5, max_admissions: Some(1), ..plain.clone() };
        vec![("", plain), ("99 %, every 10", slow), ("few places", few)]
    }
}

/// Admits the head if its prompt fits beside what is in use: the future is not looked at.
#[derive(Clone, Debug)]
struct Fill {
    used_max: f64,
    filled_max: f64,
}

impl Fill {
    fn new(spec: &AggressiveSpec) -> Fill {
        Fill { used_max: spec.used_max, filled_max: spec.filled_max }
    }
}

impl Gate for Fill {
    fn attempt(&mut self, _: &StepBuilder<'_>) {}

    fn admits(&mut self, step: &StepBuilder<'_>, head: &Head) -> bool {
        !self.is_shut(step, head)
    }

    /// What is in use only grows until a request ends.
    fn is_shut(&self, step: &StepBuilder<'_>, head: &Head) -> bool {
        let blocks = step.limits().blocks;
        let used = blocks - step.free_blocks();
        let filled = used + step.blocks_for(head.tokens + 1);
        used as f64 >= self.used_max * blocks as f64 || filled as f64 > self.filled_max * blocks as f64
    }
}
