//! The time between a client and the engine: HTTP, tokeniser, detokeniser, the client's own loop.

use std::collections::BTreeMap;

use super::Cluster;
use crate::results::rows::{Outcome, RequestRow};
use crate::results::summary::Tally;
use crate::time::Span;

/// What a client sees beyond the engine's own clock, per request. It moves no request inside the engine: closed-loop clients
/// send their next request that much later, and the client's latencies are stated beside the engine's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientTime {
    /// Of every request.
    pub base: Span,
    /// For each request that is under way when it is sent, itself included.
    pub per_concurrent: Span,
}

/// The client's time of the requests under way.
#[derive(Debug, Default)]
pub(super) struct ClientTimes(BTreeMap<u64, Span>);

impl Cluster {
    /// A request is sent.
    pub(super) fn client_sends(&mut self, id: u64) {
        if let Some(ClientTime { base, per_concurrent }) = self.spec.client_time {
            let span = base + Span(per_concurrent.0.saturating_mul(self.under_way()));
            self.client_times.0.insert(id, span);
        }
    }

    /// A request has ended; returns how much later its client knows.
    pub(super) fn client_receives(&mut self, row: &RequestRow, tally: &mut Tally) -> Span {
        let Some(span) = self.client_times.0.remove(&row.request) else { return Span::ZERO };
        if row.outcome == Outcome::Finished {
            tally.client(row, span);
        }
        span
    }
}
