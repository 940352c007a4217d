//! LightLLM's own admission: the future peak with output limits, or with shorter outputs as long as there is room.

use serde::{Deserialize, Serialize};

use super::lightllm::{Gate, Intake, NEAREST, PeriodicAdmission};
use super::past_future::Peak;
use super::vtc::{FairSpec, Vtc};
use super::{Nearest, Needs, QueueOrder, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::lengths::{Draw, LengthModel, LengthSpec};
use crate::serving::step::{Head, RequestView, StepBuilder};

/// Settings of LightLLM's router, with its names and defaults (2025).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LightllmMainSpec {
    /// From this share of the pool in use on, requests are expected to use up their output limits. The default: always.
    #[schemars(range(min = 0, max = 1))]
    pub router_token_ratio: f64,
    /// Below it, outputs are expected to be this long, or 1.1 times what has been generated [tokens].
    #[schemars(range(min = 1))]
    pub router_max_new_token_len: u32,
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
    /// Fair shares between tenants instead of the order of arrival (S-LoRA's `VTCReqQueue`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fair: Option<FairSpec>,
}

impl Default for LightllmMainSpec {
    fn default() -> Self {
        LightllmMainSpec {
            router_token_ratio: 0.0,
            router_max_new_token_len: 1024,
            running_max_req_size: 1000,
            batch_max_tokens: None,
            router_max_wait_tokens: 6,
            max_admissions: None,
            fair: None,
        }
    }
}

impl LightllmMainSpec {
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

impl SchedulerPolicy for LightllmMainSpec {
    fn needs(&self) -> Needs {
        let order = if self.fair.is_some() { QueueOrder::Keyed } else { QueueOrder::Fcfs };
        Needs { order, ..self.intake().needs() }
    }

    fn nearest(&self) -> Nearest {
        NEAREST
    }

    fn check(&self, check: &mut Check<'_>) {
        self.intake().check(check);
        check.share("router_token_ratio", self.router_token_ratio);
        check.positive("router_max_new_token_len", self.router_max_new_token_len);
        if let Some(fair) = &self.fair {
            fair.check(&mut check.below("fair"));
        }
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        let router = PeriodicAdmission::new(self.intake(), Box::new(Main::new(self)));
        Box::new(router.fair(self.fair.clone().map(Vtc::sharing)))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = LightllmMainSpec::default();
        let bold = LightllmMainSpec { router_token_ratio: 0.7, router_max_new_token_len: 30, ..plain.clone() };
        let fair = LightllmMainSpec { fair: Some(FairSpec::default()), ..plain.clone() };
        let lcf = FairSpec { lift: false, foreseen: true, fair_weights: vec![2.0, 1.0], ..FairSpec::default() };
        let lcf = LightllmMainSpec { fair: Some(lcf), router_max_wait_tokens: 10, ..plain.clone() };
        vec![("", plain), ("short until busy", bold), ("fair", fair), ("least counter first, outputs foreseen", lcf)]
    }
}

/// The future peak without a reserve (`ReqQueue`, `NormalReq.get_tuple_tokens`).
#[derive(Debug)]
struct Main {
    router_token_ratio: f64,
    busy: Peak,
    idle: Peak,
    is_busy: bool,
}

impl Main {
    fn new(spec: &LightllmMainSpec) -> Main {
        let short = Short { tokens: spec.router_max_new_token_len };
        Main {
            router_token_ratio: spec.router_token_ratio,
            busy: Peak::plain(LengthSpec::Max.build(0, 0), 0.0),
            idle: Peak::plain(Box::new(short), 0.0),
            is_busy: true,
        }
    }
}

impl Gate for Main {
    fn attempt(&mut self, step: &StepBuilder<'_>) {
        let blocks = step.limits().blocks;
        self.is_busy = (blocks - step.free_blocks()) as f64 >= self.router_token_ratio * blocks as f64;
        self.busy.attempt(step);
        self.idle.attempt(step);
    }

    fn admits(&mut self, step: &StepBuilder<'_>, head: &Head) -> bool {
        if self.is_busy { self.busy.admits(step, head) } else { self.idle.admits(step, head) }
    }

    fn is_shut(&self, step: &StepBuilder<'_>, head: &Head) -> bool {
        // Both have the same bound.
        self.busy.is_shut(step, head)
    }
}

/// A fixed length, stretched by what has been generated.
#[derive(Clone, Copy, Debug)]
struct Short {
    tokens: u32,
}

impl LengthModel for Short {
    fn predict(&self, request: &RequestView, _: Draw) -> u32 {
        let stretched = (u64::from(request.generated) * 11 / 10) as u32;
        self.tokens.max(stretched).max(request.generated + 1).min(request.limit)
    }
}
