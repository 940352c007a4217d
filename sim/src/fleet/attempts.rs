//! Clients that send a request again when it has come to nothing.

use std::collections::BTreeMap;

use super::{Cluster, Event, RANK_ARRIVAL};
use crate::fleet::drive::Books;
use crate::fleet::outcome::RunError;
use crate::fleet::pools::Costs;
use crate::results::rows::{Outcome, Recorder, RequestRow};
use crate::streams::{Purpose, keyed};
use crate::time::{Span, Time};
use crate::workload::arrival::Arrival;

/// When clients send a request again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Retry {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles from one to the next. At least a nanosecond.
    pub backoff: Span,
    /// Longest pause.
    pub max_backoff: Span,
    /// Share of the pause that is left out at random, 0 to 1.
    pub jitter: f64,
    /// After a replica has failed.
    pub on_failed: bool,
    /// After the client's own patience (`max_wait`, `deadline`) has ended.
    pub on_expired: bool,
    /// After a refusal.
    pub on_rejected: bool,
}

impl Retry {
    fn wants(&self, row: &RequestRow) -> bool {
        let after = match row.outcome {
            Outcome::Failed => self.on_failed,
            Outcome::Expired => self.on_expired,
            Outcome::Rejected => self.on_rejected,
            Outcome::Finished | Outcome::Cancelled | Outcome::FailedInTrace => false,
        };
        after && row.attempts < self.attempts
    }

    /// Pause after an attempt that has come to nothing; `draw` is between 0 and 1.
    fn pause(&self, attempts: u32, draw: f64) -> Span {
        let doubled = self.backoff.0.saturating_mul(1u64.checked_shl(attempts - 1).unwrap_or(u64::MAX));
        let whole = doubled.min(self.max_backoff.0);
        let left_out = (whole as f64 * self.jitter * draw) as u64;
        Span((whole - left_out.min(whole)).max(1))
    }
}

/// What is known of a request between and beside its attempts.
#[derive(Clone, Debug)]
struct Tried {
    arrival: Arrival,
    attempts: u32,
    first: Time,
    started: Option<Time>,
}

/// Requests whose clients may send them again.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    tried: BTreeMap<u64, Tried>,
    /// How many of them are with their clients.
    pub(super) resting: u64,
}

impl Attempts {
    /// A request is sent for the first time.
    pub(super) fn begin(&mut self, id: u64, arrival: &Arrival) {
        let tried = Tried { arrival: arrival.clone(), attempts: 1, first: arrival.at, started: None };
        self.tried.insert(id, tried);
    }

    /// A request is sent again.
    fn again(&mut self, id: u64) -> Option<Arrival> {
        let tried = self.tried.get_mut(&id)?;
        tried.attempts += 1;
        self.resting -= 1;
        Some(tried.arrival.clone())
    }

    /// The row of an attempt as that of its request.
    pub(super) fn whole(&mut self, row: &mut RequestRow) {
        if let Some(tried) = self.tried.get_mut(&row.request) {
            tried.started = tried.started.or(row.start);
            (row.attempts, row.arrival, row.start) = (tried.attempts, tried.first, tried.started);
        }
    }
}

impl Cluster {
    /// An attempt has ended: its client sends the request again later, or it ends with it.
    pub(super) fn attempt_ended<R: Recorder>(
        &mut self,
        mut row: RequestRow,
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        let Some(retry) = self.spec.retry else { return self.book_row(&row, books) };
        self.attempts.whole(&mut row);
        if !retry.wants(&row) {
            self.attempts.tried.remove(&row.request);
            return self.book_row(&row, books);
        }
        books.tally.attempt(&row);
        self.transfers.forget(row.request);
        let draw = if retry.jitter > 0.0 {
            keyed(self.spec.seed, Purpose::Retrying, &[row.request, u64::from(row.attempts)])
        } else {
            0.0
        };
        self.attempts.resting += 1;
        let at = self.now + retry.pause(row.attempts, draw);
        self.calendar.schedule(at, RANK_ARRIVAL, Event::Retry(row.request));
        Ok(())
    }

    /// A client sends its request again.
    pub(super) fn retry<R: Recorder>(
        &mut self,
        id: u64,
        costs: &mut Costs<'_>,
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        let Some(mut arrival) = self.attempts.again(id) else { return Ok(()) };
        arrival.at = self.now;
        self.submit(id, arrival, costs, books)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = Retry {
            attempts: 9,
            backoff: Span(500),
            max_backoff: Span(8000),
            jitter: 0.25,
            on_failed: true,
            on_expired: true,
            on_rejected: false,
        };
        let pauses: Vec<u64> = [1, 2, 3, 5, 6, 80].map(|attempts| retry.pause(attempts, 0.0).0).into();
        assert_eq!(pauses, [500, 1000, 2000, 8000, 8000, 8000]);
        assert_eq!(retry.pause(2, 0.999).0, 751);
        assert_eq!(Retry { backoff: Span(0), ..retry }.pause(1, 0.0).0, 1, "never at the same moment");
    }
}
