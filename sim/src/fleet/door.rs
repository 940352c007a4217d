//! The door of the fleet: requests arrive, are routed, and enter a replica or are turned away.

use super::{Cluster, Event, RANK_PATIENCE, Why};
use crate::digest::Kind;
use crate::fleet::drive::Books;
use crate::fleet::outcome::RunError;
use crate::fleet::pools::Costs;
use crate::results::rows::{Outcome, Recorder, RequestRow};
use crate::routers::{FleetView, RequestInfo};
use crate::time::Span;
use crate::workload::arrival::Arrival;

impl Cluster {
    /// The router chooses a replica for a request; none if all are down.
    pub(super) fn route<R: Recorder>(
        &mut self,
        arrival: &Arrival,
        books: &mut Books<'_, R>,
    ) -> Result<Option<usize>, RunError> {
        if self.open.is_empty() {
            return Ok(None);
        }
        if let Some(reports) = &mut self.reports {
            reports.deliver(self.now);
        } else if self.router.needs().blocks {
            for at in 0..self.replicas.len() {
                self.settle(at, books)?;
            }
        }
        let request = RequestInfo::of(arrival);
        let chosen = self
            .router
            .route(request, FleetView::new(&self.replicas, self.reports.as_ref(), &self.open, &self.weights));
        let at = self.open[chosen] as usize;
        if let Some(reports) = &mut self.reports {
            reports.chosen(at, self.now, request);
        }
        Ok(Some(at))
    }

    /// A request reaches the router.
    pub(super) fn arrive<R: Recorder>(
        &mut self,
        mut arrival: Arrival,
        costs: &mut Costs<'_>,
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        let now = self.now;
        let id = self.arrived;
        self.arrived += 1;
        books.timeline.arrival(now);
        if arrival.failed_in_trace {
            return self.book_failed_in_trace(id, &arrival, books);
        }
        self.client_sends(id);
        self.spec.output_limit.apply(&mut arrival);
        if self.spec.retry.is_some() {
            self.attempts.begin(id, &arrival);
        }
        self.submit(id, arrival, costs, books)
    }

    /// A client sends a request, for the first time or again.
    pub(super) fn submit<R: Recorder>(
        &mut self,
        id: u64,
        mut arrival: Arrival,
        costs: &mut Costs<'_>,
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        let now = self.now;
        let Some(at) = self.route(&arrival, books)? else {
            let row = RequestRow::without_service(id, 0, &arrival, Outcome::Failed, now);
            self.digest.add(now, Kind::End, id, u32::MAX, 0, 0);
            return self.attempt_ended(row, books);
        };
        let at = self.overflow(at);
        if !self.keeps_promises(at, &arrival, costs, books)? {
            return self.reject(id, at, &arrival, books);
        }
        let replica = &mut self.replicas[at];
        self.spec.patience.apply(&mut arrival);
        let limits =
            [(arrival.max_wait, Why::MaxWait), (arrival.deadline, Why::Deadline), (arrival.cancel_after, Why::Cancel)];
        let first = self.first_drive[at];
        self.drives[self.first_drive[at + 1] - 1].book_levels(now, replica, books);
        let seat = match replica.enqueue(id, arrival) {
            Ok(seat) => seat,
            Err(arrival) => return self.reject(id, at, &arrival, books),
        };
        if self.spec.disaggregation.is_some() {
            let until = |limit: Option<Span>| limit.map(|span| now + span);
            self.transfers.remember(id, until(limits[1].0), until(limits[2].0));
        }
        let generation = replica.generation(seat);
        let moved = self.drives[first].arrived(now, replica, books).map_err(|s| self.stop(at, s))?;
        for (span, why) in limits {
            if let Some(span) = span {
                let event = Event::Patience { replica: at as u32, seat, generation, why };
                self.calendar.schedule(now + span, RANK_PATIENCE, event);
                self.forget_ended();
            }
        }
        if moved {
            self.reschedule(first);
        }
        Ok(())
    }

    pub(super) fn reject<R: Recorder>(
        &mut self,
        id: u64,
        at: usize,
        arrival: &Arrival,
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        let row = RequestRow::without_service(id, at as u32, arrival, Outcome::Rejected, self.now);
        self.settle(at, books)?;
        self.book_end(at, row, books)
    }

    /// Ends a request that had failed in the trace where it arrives: neither router nor replicas learn of it.
    pub(super) fn book_failed_in_trace<R: Recorder>(
        &mut self,
        id: u64,
        arrival: &Arrival,
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        let row = RequestRow::without_service(id, 0, arrival, Outcome::FailedInTrace, self.now);
        self.digest.add(self.now, Kind::End, id, u32::MAX, 0, 0);
        self.book_row(&row, books)
    }

    /// Drops the patience of requests that have ended, once such entries are the larger part of the calendar.
    pub(super) fn forget_ended(&mut self) {
        if self.calendar.len() < self.calendar_max {
            return;
        }
        let replicas = &self.replicas;
        self.calendar.retain(|event| match *event {
            Event::Patience { replica, seat, generation, .. } => {
                replicas[replica as usize].generation(seat) == generation
            }
            _ => true,
        });
        self.calendar_max = 2 * self.calendar.len() + 1024;
    }
}
