//! Conservative admission: memory for the whole output limit. The second baseline of Past-Future (arXiv 2507.10150).

use serde::{Deserialize, Serialize};

use super::lightllm::{Gate, Intake, NEAREST, PeriodicAdmission};
use super::orca::whole_blocks;
use super::{Nearest, Needs, Reserve, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::serving::step::{Head, RequestView, StepBuilder};

/// Settings of conservative admission, with LightLLM's names. The paper's server reserves 12,000 output tokens for every request, its
/// simulation 4,096 (`max_new_tokens`).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConservativeSpec {
    /// Memory that is promised, over memory that there is: 1 or more (TGI, DeepSpeed-MII). Above 1, requests may be preempted.
    #[schemars(range(min = 1))]
    pub overcommit: f64,
    /// Output tokens that are reserved for every request, instead of its limit.
    #[schemars(range(min = 1))]
    pub max_new_tokens: Option<u32>,
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

impl Default for ConservativeSpec {
    fn default() -> Self {
        ConservativeSpec {
            overcommit: 1.0,
            max_new_tokens: None,
            running_max_req_size: 1000,
            batch_max_tokens: None,
            router_max_wait_tokens: 2,
            max_admissions: None,
        }
    }
}

impl ConservativeSpec {
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

impl SchedulerPolicy for ConservativeSpec {
    fn needs(&self) -> Needs {
        let reserves = Some(Reserve { output: self.max_new_tokens, overcommit: self.overcommit });
        Needs { reserves, ..self.intake().needs() }
    }

    fn nearest(&self) -> Nearest {
        NEAREST
    }

    fn check(&self, check: &mut Check<'_>) {
        self.intake().check(check);
        let ratio = self.overcommit;
        check.that(ratio >= 1.0 && ratio.is_finite(), "overcommit", format!("is {ratio}; it must be at least 1"));
        check.positive("max_new_tokens", self.max_new_tokens);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(PeriodicAdmission::new(self.intake(), Box::new(Reservations::new(self))))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = ConservativeSpec::default();
        let over = ConservativeSpec { overcommit: 1.6, ..plain.clone() };
        let fixed = ConservativeSpec { max_new_tokens: Some(50), router_max_wait_tokens: 10, ..plain.clone() };
        vec![("", plain), ("overcommitted", over), ("50", fixed)]
    }
}

/// Admits the head if the reservations of all, with its own, stay within the pool times the overcommit ratio.
#[derive(Clone, Debug)]
struct Reservations {
    overcommit: f64,
    max_new_tokens: Option<u32>,
}

impl Reservations {
    fn new(spec: &ConservativeSpec) -> Reservations {
        Reservations { overcommit: spec.overcommit, max_new_tokens: spec.max_new_tokens }
    }

    fn blocks(&self, step: &StepBuilder<'_>, request: &RequestView) -> u64 {
        whole_blocks(step, request.prompt_tokens, self.max_new_tokens.unwrap_or(request.limit))
    }
}

impl Gate for Reservations {
    fn attempt(&mut self, _: &StepBuilder<'_>) {}

    fn admits(&mut self, step: &StepBuilder<'_>, head: &Head) -> bool {
        !self.is_shut(step, head)
    }

    /// What is reserved stays so until a request ends.
    fn is_shut(&self, step: &StepBuilder<'_>, head: &Head) -> bool {
        let running = (0..step.running()).map(|at| self.blocks(step, &step.running_at(at)));
        let reserved: u64 = running.chain([self.blocks(step, &head.request)]).sum();
        reserved as f64 > self.overcommit * step.limits().blocks as f64
    }
}
