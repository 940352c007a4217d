//! Requests without a part in the steps, and since when: the guard against starvation.

use std::collections::VecDeque;

use crate::kv::Seat;
use crate::serving::step::StepBuilder;

/// Requests that wait for their turn, the one that has waited longest first. Moments are steps or nanoseconds, as the policy counts.
#[derive(Clone, Default, Debug)]
pub(crate) struct Idle {
    /// By seat: the request that is idle there, and since when.
    since: Vec<Option<(u64, u64)>>,
    /// (since, seat, id), in order; entries that no longer hold are dropped when they come up.
    order: VecDeque<(u64, Seat, u64)>,
}

impl Idle {
    /// A request is without a turn from now on, if it was not already. Moments never decrease.
    pub(crate) fn begin(&mut self, seat: Seat, id: u64, now: u64) {
        if self.since.len() <= seat as usize {
            self.since.resize(seat as usize + 1, None);
        }
        let entry = &mut self.since[seat as usize];
        if entry.is_none_or(|(other, _)| other != id) {
            *entry = Some((id, now));
            self.order.push_back((now, seat, id));
        }
    }

    /// It had a turn.
    pub(crate) fn end(&mut self, seat: Seat) {
        if let Some(entry) = self.since.get_mut(seat as usize) {
            *entry = None;
        }
    }

    /// Whether a request is without a turn.
    pub(crate) fn contains(&self, seat: Seat, id: u64) -> bool {
        self.since.get(seat as usize).copied().flatten().is_some_and(|(other, _)| other == id)
    }

    /// Since when the one that has waited longest does so.
    pub(crate) fn longest(&mut self, step: &StepBuilder<'_>) -> Option<(u64, Seat, u64)> {
        while let Some(&(since, seat, id)) = self.order.front() {
            if step.is_here(seat, id) && self.since[seat as usize] == Some((id, since)) {
                return Some((since, seat, id));
            }
            self.order.pop_front();
        }
        None
    }
}
