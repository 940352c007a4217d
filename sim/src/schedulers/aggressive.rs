//! Aggressive admission: who fits now may enter. The first baseline of Past-Future (arXiv 2507.10150).

use serde::{Deserialize, Serialize};

use super::lightllm::{Gate, Intake};
use crate::serving::step::{Head, StepBuilder};

/// Settings of aggressive admission, with LightLLM's names and the rule of the paper's server. Its simulation admits up to 99 % of
/// the pool: `used_max: 1`, `filled_max: 0.99`, `router_max_wait_tokens: 10`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AggressiveSpec {
    /// Nobody enters while this share of the pool or more is in use.
    pub used_max: f64,
    /// Share of the pool that is in use at most once the prompt and one more token are in it.
    pub filled_max: f64,
    /// Running requests at most.
    pub running_max_req_size: u32,
    /// Prompt tokens of one prefill step; by default those of the longest sequence.
    pub batch_max_tokens: Option<u32>,
    /// Decode steps from one attempt to admit to the next.
    pub router_max_wait_tokens: u32,
    /// Admissions of one attempt at most; `null` is no limit.
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

/// Admits the head if its prompt fits beside what is in use: the future is not looked at.
#[derive(Clone, Debug)]
pub(super) struct Fill {
    used_max: f64,
    filled_max: f64,
}

impl Fill {
    pub(super) fn new(spec: &AggressiveSpec) -> Fill {
        Fill { used_max: spec.used_max, filled_max: spec.filled_max }
    }
}

impl Gate for Fill {
    fn attempt(&mut self, _: &StepBuilder<'_>) {}

    fn admits(&mut self, step: &StepBuilder<'_>, head: &Head) -> bool {
        !self.is_shut(step, head)
    }

    /// What is in use only grows until somebody ends.
    fn is_shut(&self, step: &StepBuilder<'_>, head: &Head) -> bool {
        let blocks = step.limits().blocks;
        let used = blocks - step.free_blocks();
        let filled = used + step.blocks_for(head.tokens + 1);
        used as f64 >= self.used_max * blocks as f64 || filled as f64 > self.filled_max * blocks as f64
    }
}
