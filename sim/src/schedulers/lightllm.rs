//! The decision loop of LightLLM's router, whose admission tests are `past-future`, `aggressive`, `conservative` and
//! `lightllm-main`.

use super::chunked::Order;
use super::victim::{PreemptionMode, Victim, make_room};
use super::vtc::Vtc;
use super::{Horizon, Nearest, Needs, Prompts, Scheduler, StepTokens};
use crate::check::Check;
use crate::serving::step::{Head, Infeasible, StepBuilder};

/// When requests may enter, and how many. LightLLM's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Intake {
    /// Running requests at most.
    pub running_max_req_size: u32,
    /// Prompt tokens of one prefill step; by default those of the longest sequence.
    pub batch_max_tokens: Option<u32>,
    /// Decode steps from one attempt to admit to the next.
    pub router_max_wait_tokens: u32,
    /// Admissions of one attempt at most.
    pub max_admissions: Option<u32>,
}

impl Intake {
    /// Prompt tokens of one prefill step.
    fn budget(&self) -> StepTokens {
        self.batch_max_tokens.map_or(StepTokens::Longest(0), StepTokens::Fixed)
    }

    /// What a scheduler that admits so needs.
    pub(crate) fn needs(&self) -> Needs {
        let stated = self.batch_max_tokens.map(|tokens| ("batch_max_tokens", tokens));
        Needs::plain(self.running_max_req_size, self.budget(), Prompts::Whole(stated.into_iter().collect()))
    }

    /// The rules on its settings.
    pub(crate) fn check(&self, check: &mut Check<'_>) {
        check.positive("running_max_req_size", self.running_max_req_size);
        check.positive("router_max_wait_tokens", self.router_max_wait_tokens);
        check.positive("batch_max_tokens", self.batch_max_tokens);
        check.positive("max_admissions", self.max_admissions);
    }
}

/// How near other engines come to LightLLM's router.
pub(super) const NEAREST: Nearest =
    Nearest::but("LightLLM's router admits in its own way: these commands are only the nearest");

/// Which requests may enter.
pub(crate) trait Gate: std::fmt::Debug {
    /// A request has finished with so many output tokens.
    fn finished(&mut self, _output_tokens: u32) {}

    /// Opens an attempt to admit.
    fn attempt(&mut self, step: &StepBuilder<'_>);

    /// Whether the head may enter in this attempt; if so, it does.
    fn admits(&mut self, step: &StepBuilder<'_>, head: &Head) -> bool;

    /// Whether every attempt will refuse the head until a running request ends.
    fn is_shut(&self, step: &StepBuilder<'_>, head: &Head) -> bool;
}

/// Prompts and decodes in separate steps (`router/manager.py`, `_step`): every few decode steps an attempt to admit, head of
/// the queue first, until one is refused; admitted requests are prefilled while the others wait. When memory runs out, the
/// latest arrival goes back to the front of the queue, one at a time.
#[derive(Debug)]
pub(crate) struct PeriodicAdmission {
    intake: Intake,
    gate: Box<dyn Gate>,
    /// Fair shares, if the queue is not in order of arrival.
    fair: Option<Vtc>,
    /// Executed steps at which the next attempt is due.
    due: u64,
}

impl PeriodicAdmission {
    pub(crate) fn new(intake: Intake, gate: Box<dyn Gate>) -> PeriodicAdmission {
        PeriodicAdmission { intake, gate, fair: None, due: 0 }
    }

    /// The same with the next request that of the tenant that was served least.
    pub(crate) fn fair(self, fair: Option<Vtc>) -> PeriodicAdmission {
        PeriodicAdmission { fair, ..self }
    }

    /// Whose turn it is.
    fn next(&mut self, step: &mut StepBuilder<'_>) -> Result<Option<Head>, Infeasible> {
        match &mut self.fair {
            Some(fair) => fair.next(step),
            None => Ok(step.head()),
        }
    }

    /// Admits the requests that may enter. Returns whether any does.
    fn attempt(&mut self, step: &mut StepBuilder<'_>) -> Result<bool, Infeasible> {
        let mut budget = self.intake.budget().at(step.limits().max_model_len);
        let most = self.intake.max_admissions.unwrap_or(u32::MAX);
        let mut admitted = 0;
        self.gate.attempt(step);
        while admitted < most && step.running() < self.intake.running_max_req_size as usize {
            let Some(head) = self.next(step)? else { break };
            let tokens = head.tokens - head.cached;
            let fits = tokens <= budget && step.blocks_to_compute(&head) <= step.free_blocks();
            // A lone request goes ahead: it fits, whatever is feared of it.
            if !fits || !(self.gate.admits(step, &head) || step.running() == 0) {
                break;
            }
            step.admit(&head, tokens)?;
            if let Some(fair) = &mut self.fair {
                fair.admitted(&head);
            }
            budget -= tokens;
            admitted += 1;
        }
        Ok(admitted > 0)
    }

    fn charge(&mut self, step: &StepBuilder<'_>, decodes: bool) {
        if let Some(fair) = &mut self.fair {
            fair.charge(step, decodes);
        }
    }

    /// For how long steps that only decode go on.
    fn horizon(&self, step: &mut StepBuilder<'_>) -> Horizon {
        let Some(head) = step.head() else {
            return Horizon { repeats: u64::MAX, wake_on_arrival: true, wake_on_end: false };
        };
        let full = step.running() >= self.intake.running_max_req_size as usize;
        // Whose turn it is may change with every token.
        let shut = full || (self.fair.is_none() && self.gate.is_shut(step, &head));
        let repeats = if shut { u64::MAX } else { self.due - step.executed() - 1 };
        Horizon { repeats, wake_on_arrival: self.fair.is_some(), wake_on_end: true }
    }
}

impl Scheduler for PeriodicAdmission {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        for &output_tokens in step.finished() {
            self.gate.finished(output_tokens);
        }
        if let Some(fair) = &mut self.fair {
            fair.catch_up(step);
            fair.take_in(step);
        }
        let (now, wait) = (step.executed(), u64::from(self.intake.router_max_wait_tokens));
        if now > self.due {
            // The attempts in between found an empty queue, or would have been refused.
            self.due += (now - self.due).div_ceil(wait) * wait;
        }
        if step.running() == 0 || now == self.due {
            if self.attempt(step)? {
                self.charge(step, false);
                self.due = now + 1 + wait;
                return Ok(Horizon::ONE);
            }
            self.due = now + wait;
        }
        let preempted = make_room(step, PreemptionMode::Recompute, |step| Victim::LatestArrival.choose(step))?;
        if preempted {
            self.due = now + wait;
        }
        step.decode_all()?;
        self.charge(step, true);
        Ok(if preempted { Horizon::ONE } else { self.horizon(step) })
    }
}
