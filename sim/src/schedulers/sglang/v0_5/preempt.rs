//! Preemption by priority (`preempt_to_schedule`, rule 22).

use std::cmp::Reverse;

use super::SglangV05;
use super::budget::Pass;
use crate::serving::step::{Infeasible, RequestView, StepBuilder};

impl SglangV05 {
    /// Releases less urgent running requests for a candidate, if they give back what it lacks. Its prompt counts as it was looked at
    /// last: not at all the first time, as in SGLang.
    pub(super) fn displace(
        &mut self,
        step: &mut StepBuilder<'_>,
        pass: &mut Pass,
        candidate: &RequestView,
    ) -> Result<bool, Infeasible> {
        let mut order: Vec<RequestView> = pass.list.clone();
        order.sort_by_key(|request| (Reverse(self.urgency(request)), Reverse(self.note(request.seat).entry)));
        let note = self.note(candidate.seat);
        let needed = i64::from(note.looked) - i64::from(note.cached) + Self::limit(step, candidate).min(self.clip());
        let mut lacking = needed as f64 - pass.memory(step);
        let threshold = i64::from(self.spec.priority_scheduling_preemption_threshold);
        let mut victims = Vec::new();
        for request in order {
            if self.urgency(&request) - self.urgency(candidate) <= threshold {
                break;
            }
            victims.push(request);
            lacking -= self.offset(step, &request);
            if lacking <= 0.0 {
                break;
            }
        }
        if victims.is_empty() || lacking > 0.0 {
            return Ok(false);
        }
        let mut left = pass.list.len();
        for request in std::mem::take(&mut pass.list) {
            if victims.iter().any(|victim| victim.seat == request.seat) {
                left -= 1;
                pass.promised -= self.offset(step, &request);
                pass.rows -= 1;
                self.throw_back(step, &request, left)?;
            } else {
                pass.list.push(request);
            }
        }
        for victim in victims {
            let waits = step.view(victim.seat);
            self.append(step, &waits);
            self.displaced.push(victim.id);
        }
        Ok(true)
    }
}
