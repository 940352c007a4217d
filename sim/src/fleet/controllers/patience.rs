//! Clients that give up: after a wait without a first step, after a deadline, or by a recorded disconnect.

use std::collections::BTreeMap;

use crate::fleet::controller::{Action, Controller, Event, Limit, Limits, Place, Placement, Topics};
use crate::fleet::kernel::Kernel;
use crate::fleet::{ClusterSpec, RunError};
use crate::results::rows::{Outcome, RequestRow};
use crate::time::{Span, Time};
use crate::workload::arrival::Arrival;

/// How long clients wait; applies to arrivals that do not say so themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Patience {
    /// Until the first step.
    pub max_wait: Option<Span>,
    /// Until the last token.
    pub deadline: Option<Span>,
    /// Until the client disconnects anyway.
    pub cancel_after: Option<Span>,
}

impl Patience {
    /// Gives a request the patience that it does not have of its own.
    pub fn apply(self, arrival: &mut Arrival) {
        arrival.max_wait = arrival.max_wait.or(self.max_wait);
        arrival.deadline = arrival.deadline.or(self.deadline);
        arrival.cancel_after = arrival.cancel_after.or(self.cancel_after);
    }
}

#[derive(Debug)]
pub(super) struct Control {
    patience: Patience,
    /// When clients gave up, where that is known, by request: whatever else they say.
    gave_up: BTreeMap<u64, Span>,
    /// Whether requests move between replicas, and their limits with them.
    moves: bool,
    /// Moments at which clients of unfinished requests leave, where requests move.
    until: BTreeMap<u64, [(Limit, Option<Time>); 2]>,
}

impl Control {
    pub(super) fn new(spec: &ClusterSpec) -> Control {
        let moves = spec.controllers.disaggregation.is_some();
        let (patience, gave_up) = (spec.controllers.patience, spec.controllers.gave_up.clone());
        Control { patience, gave_up, moves, until: BTreeMap::new() }
    }

    fn entered(&mut self, request: u64, place: Place, limits: Limits, kernel: &mut Kernel<'_>) {
        let now = kernel.now;
        let known = self.gave_up.get(&request);
        let limits = known.map_or(limits, |&after| [None, Some(after), None]);
        let [_, deadline, cancel] = limits.map(|limit| limit.map(|span| now + span));
        if self.moves && (deadline.is_some() || cancel.is_some()) {
            self.until.insert(request, [(Limit::Deadline, deadline), (Limit::Cancel, cancel)]);
        }
        for (limit, span) in Limit::ALL.into_iter().zip(limits) {
            if let Some(span) = span {
                kernel.due(now + span, place, limit);
                kernel.forget_ended();
            }
        }
    }

    fn moved(&self, request: u64, place: Place, kernel: &mut Kernel<'_>) {
        for &(limit, until) in self.until.get(&request).into_iter().flatten() {
            if let Some(until) = until {
                kernel.due(until.max(kernel.now), place, limit);
            }
        }
    }

    fn due(place: Place, limit: Limit, kernel: &Kernel<'_>) -> Vec<Action> {
        let replica = &kernel.replicas[place.replica as usize];
        let gone = replica.generation(place.seat) != place.generation;
        if gone || (limit == Limit::MaxWait && !replica.never_started(place.seat)) {
            return Vec::new();
        }
        let outcome = if limit == Limit::Cancel { Outcome::Cancelled } else { Outcome::Expired };
        vec![Action::Cancel { place, outcome }]
    }
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        let always = Topics::ENTERED.and(Topics::DUE);
        let placing = if self.patience == Patience::default() { Topics::NONE } else { Topics::PLACING };
        let moving = if self.moves { Topics::MOVED.and(Topics::ENDED) } else { Topics::NONE };
        always.and(placing).and(moving)
    }

    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match event {
            Event::Entered { request, place, limits } => self.entered(request, place, limits, kernel),
            Event::Moved { request, place } => self.moved(request, place, kernel),
            Event::Due { place, limit } => return Ok(Control::due(place, limit, kernel)),
            _ => {}
        }
        Ok(Vec::new())
    }

    fn place(&mut self, arrival: &mut Arrival, _: &mut Placement, _: &mut Kernel<'_>) -> Result<(), RunError> {
        self.patience.apply(arrival);
        Ok(())
    }

    fn ended(&mut self, row: &mut RequestRow, _: &mut Kernel<'_>) -> Option<Time> {
        self.until.remove(&row.request);
        None
    }
}
