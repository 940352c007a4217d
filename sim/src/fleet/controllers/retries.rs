//! Clients that send a request again when it has come to nothing.

use std::collections::BTreeMap;

use crate::fleet::RunError;
use crate::fleet::controller::{Action, Controller, Event, Timer, Topics};
use crate::fleet::kernel::{Kernel, RANK_ARRIVAL};
use crate::results::rows::{Outcome, RequestRow};
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
#[derive(Debug)]
pub(super) struct Control {
    retry: Retry,
    seed: u64,
    tried: BTreeMap<u64, Tried>,
}

impl Control {
    pub(super) fn new(retry: Retry, seed: u64) -> Control {
        Control { retry, seed, tried: BTreeMap::new() }
    }

    /// A request is sent again.
    fn again(&mut self, request: u64) -> Option<Action> {
        let tried = self.tried.get_mut(&request)?;
        tried.attempts += 1;
        Some(Action::Submit { request, arrival: Box::new(tried.arrival.clone()) })
    }

    /// Makes the row of an attempt that of its request.
    fn whole(&mut self, row: &mut RequestRow) {
        if let Some(tried) = self.tried.get_mut(&row.request) {
            tried.started = tried.started.or(row.start);
            (row.attempts, row.arrival, row.start) = (tried.attempts, tried.first, tried.started);
        }
    }
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        Topics::ARRIVED.and(Topics::ENDED).and(Topics::TIMERS)
    }

    fn on(&mut self, event: Event<'_>, _: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match event {
            Event::Arrived { request, arrival } => {
                let tried = Tried { arrival: arrival.clone(), attempts: 1, first: arrival.at, started: None };
                self.tried.insert(request, tried);
            }
            Event::Timer(Timer::Retry(request)) => return Ok(self.again(request).into_iter().collect()),
            _ => {}
        }
        Ok(Vec::new())
    }

    fn ended(&mut self, row: &mut RequestRow, kernel: &mut Kernel<'_>) -> Option<Time> {
        self.whole(row);
        if !self.retry.wants(row) {
            self.tried.remove(&row.request);
            return None;
        }
        let draw = if self.retry.jitter > 0.0 {
            keyed(self.seed, Purpose::Retrying, &[row.request, u64::from(row.attempts)])
        } else {
            0.0
        };
        let at = kernel.now + self.retry.pause(row.attempts, draw);
        kernel.timer(at, RANK_ARRIVAL, Timer::Retry(row.request));
        Some(at)
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
