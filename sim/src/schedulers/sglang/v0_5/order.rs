//! The order of the queue (`schedule_policy.py`, rules 12 and 21).

use std::collections::BTreeSet;

use super::{SchedulePolicy, SglangV05};
use crate::kv::Seat;
use crate::serving::step::{Infeasible, Prefix, RequestView, StepBuilder};

/// A waiting request by what is cached of it.
struct Matched {
    prefix: Prefix,
    late: bool,
}

impl Matched {
    /// Cached tokens, of which one at least is computed again.
    fn cached(&self) -> u32 {
        self.prefix.cached.min(self.prefix.tokens - 1)
    }
}

impl SglangV05 {
    /// Sorts the queue; equal ones stay in order.
    pub(super) fn sort(&mut self, step: &mut StepBuilder<'_>) -> Result<(), Infeasible> {
        let order = self.spec.order();
        let few = step.waiting() <= self.constants.prefix_match_max;
        let limited = matches!(order, SchedulePolicy::Lpm | SchedulePolicy::Hrrn);
        if order.is_cache_aware() && (few || !limited) {
            let sorted = self.by_prefix(step, order)?;
            self.place(step, &sorted);
            return Ok(());
        }
        let priorities = self.spec.enable_priority_scheduling;
        match order {
            SchedulePolicy::Fcfs if priorities => {
                self.sort_by(step, |scheduler, _, request| {
                    (scheduler.urgency(request), scheduler.note(request.seat).entry as i64)
                });
            }
            SchedulePolicy::Lof => {
                self.sort_by(step, |scheduler, step, request| {
                    let urgency = if priorities { scheduler.urgency(request) } else { 0 };
                    (urgency, -Self::limit(step, request))
                });
            }
            _ => {}
        }
        self.freshen(step)
    }

    fn sort_by(
        &mut self,
        step: &mut StepBuilder<'_>,
        key: impl Fn(&Self, &StepBuilder<'_>, &RequestView) -> (i64, i64),
    ) {
        let keyed = step.queue().map(|request| (key(self, step, &request), request.seat));
        let mut keyed: Vec<((i64, i64), Seat)> = keyed.collect();
        keyed.sort_by_key(|&(key, _)| key);
        self.place(step, &keyed.into_iter().map(|(_, seat)| seat).collect::<Vec<_>>());
    }

    /// Puts the queue into an order.
    fn place(&mut self, step: &mut StepBuilder<'_>, sorted: &[Seat]) {
        if step.queue().map(|request| request.seat).eq(sorted.iter().copied()) {
            return;
        }
        for &seat in sorted {
            step.rank(seat, self.next_key);
            self.next_key += 1;
        }
    }

    /// Every so often the prefixes of those that wait are made younger than what nobody waits for (rule 21).
    fn freshen(&mut self, step: &mut StepBuilder<'_>) -> Result<(), Infeasible> {
        if !self.spec.enable_radix_cache || step.waiting() == 0 {
            return Ok(());
        }
        if self.passes.is_multiple_of(self.constants.prefix_refresh_interval) {
            let first: Vec<RequestView> = step.queue().take(self.constants.prefix_match_max).collect();
            for request in first.into_iter().rev() {
                step.look_up(request.seat, request.prompt_tokens + request.generated)?;
            }
        }
        self.passes += 1;
        Ok(())
    }

    fn by_prefix(&mut self, step: &mut StepBuilder<'_>, order: SchedulePolicy) -> Result<Vec<Seat>, Infeasible> {
        let mut matched = self.look_up_all(step)?;
        match order {
            SchedulePolicy::Lpm => {
                matched.sort_by_key(|m| if m.late { i64::MAX } else { -i64::from(m.cached()) });
            }
            SchedulePolicy::Hrrn => {
                let key = |m: &Matched| {
                    let to_compute = m.prefix.request.prompt_tokens.saturating_sub(m.cached());
                    let waited = self.processed - self.note(m.prefix.request.seat).processed;
                    match to_compute {
                        _ if m.late => f64::INFINITY,
                        0 => f64::NEG_INFINITY,
                        tokens => -(waited as f64 / f64::from(tokens)),
                    }
                };
                matched.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.prefix.request.id.cmp(&b.prefix.request.id)));
            }
            SchedulePolicy::ShortestPrefillFirst => {
                let entry = |m: &Matched| self.note(m.prefix.request.seat).entry;
                matched.sort_by_key(|m| (m.late, m.prefix.tokens - m.cached(), entry(m)));
            }
            _ => {
                let prefixes: Vec<Prefix> = matched.iter().map(|m| m.prefix).collect();
                let order = step.depth_first(&prefixes);
                return Ok(order.into_iter().map(|at| prefixes[at].request.seat).collect());
            }
        }
        Ok(matched.into_iter().map(|m| m.prefix.request.seat).collect())
    }

    /// Looks all waiting requests up, and finds those that had better wait for one before them.
    fn look_up_all(&mut self, step: &mut StepBuilder<'_>) -> Result<Vec<Matched>, Infeasible> {
        let block_tokens = step.limits().block_tokens;
        // Ids are chained: requests share so many blocks if they share the last of these.
        let few = self.constants.in_batch_prefix_tokens;
        let shared = few.div_ceil(block_tokens) as usize;
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        let waiting: Vec<RequestView> = step.queue().collect();
        let mut matched = Vec::with_capacity(waiting.len());
        for request in waiting {
            let prefix = step.look_up(request.seat, request.prompt_tokens + request.generated)?;
            self.notes[request.seat as usize].cached = prefix.cached;
            let mut late = false;
            if prefix.cached <= few
                && let Some(&content) = step.contents(request.seat).get(shared - 1)
            {
                late = !seen.insert(content);
            }
            matched.push(Matched { prefix, late });
        }
        Ok(matched)
    }
}
