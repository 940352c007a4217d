//! Closed-loop clients, and the time between a client and the engine: the server's front end, and the client's own loop.

use std::collections::BTreeMap;

use crate::fleet::controller::{Action, Controller, Event, Timer, Topics};
use crate::fleet::kernel::{Kernel, RANK_ARRIVAL};
use crate::fleet::{ClusterSpec, RunError};
use crate::results::rows::{Outcome, RequestRow};
use crate::time::{Span, Time};

/// Closed-loop clients: each sends its next request a think time after its last one has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clients {
    /// How many.
    pub count: u32,
    /// Time between an end and the next request; at least a nanosecond.
    pub think_time: Span,
}

/// What the server's front end adds to the latencies of a request: HTTP, tokeniser, detokeniser, streams. One process serves all
/// streams of a replica, so a token waits while those of the others are sent. It moves no request inside the engine: closed-loop
/// clients send their next request that much later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frontend {
    /// Of every request.
    pub base: Span,
    /// For each request that its replica runs when it ends, itself included.
    pub per_running: Span,
}

/// What a client sees beyond the server's own clock, per request. It moves no request inside the engine: closed-loop clients
/// send their next request that much later, and the client's latencies are stated beside the server's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientTime {
    /// Of every request.
    pub base: Span,
    /// For each request that is under way when it is sent, itself included.
    pub per_concurrent: Span,
}

#[derive(Debug)]
pub(super) struct Control {
    clients: Option<Clients>,
    /// Whether replicas have front ends.
    frontend: bool,
    time: Option<ClientTime>,
    /// The client's time of the requests under way.
    times: BTreeMap<u64, Span>,
}

impl Control {
    /// None where nothing stands between an open loop's clients and the engine.
    pub(super) fn new(spec: &ClusterSpec) -> Option<Control> {
        let (clients, frontend, time) = (spec.traffic.clients, spec.has_frontend(), spec.traffic.client_time);
        let any = clients.is_some() || frontend || time.is_some();
        any.then(|| Control { clients, frontend, time, times: BTreeMap::new() })
    }

    /// A request is sent.
    fn sends(&mut self, request: u64, kernel: &Kernel<'_>) {
        if let Some(ClientTime { base, per_concurrent }) = self.time {
            let span = base + Span(per_concurrent.0.saturating_mul(kernel.under_way()));
            self.times.insert(request, span);
        }
    }

    /// A request has ended.
    fn receives(&mut self, row: &RequestRow, kernel: &mut Kernel<'_>) {
        let at_client = self.times.remove(&row.request);
        if let Some(span) = at_client.filter(|_| row.outcome == Outcome::Finished) {
            kernel.sink.tally.client(row, span);
        }
        if let Some(clients) = self.clients {
            // Never at this same moment: lanes that are due now may have planned already.
            let pause = (clients.think_time + row.frontend + at_client.unwrap_or(Span::ZERO)).max(Span(1));
            kernel.timer(kernel.now + pause, RANK_ARRIVAL, Timer::Client);
        }
    }
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        // Only what is needed: most runs have a front end alone.
        let if_any = |any: bool, topics: Topics| if any { topics } else { Topics::NONE };
        let (clients, time) = (self.clients.is_some(), self.time.is_some());
        if_any(self.frontend, Topics::ENDED)
            .and(if_any(clients || time, Topics::BOOKED))
            .and(if_any(time, Topics::ARRIVED))
            .and(if_any(clients, Topics::TIMERS))
    }

    fn ended(&mut self, row: &mut RequestRow, kernel: &mut Kernel<'_>) -> Option<Time> {
        let at = row.replica as usize;
        let frontend = kernel.pools.frontend(at).filter(|_| row.outcome == Outcome::Finished);
        if let Some(Frontend { base, per_running }) = frontend {
            let running = u64::from(kernel.replicas[at].running()) + 1;
            row.frontend = base + Span(per_running.0.saturating_mul(running));
        }
        None
    }

    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match event {
            Event::Start => {
                for _ in 0..self.clients.map_or(0, |clients| clients.count) {
                    kernel.timer(Time::ZERO, RANK_ARRIVAL, Timer::Client);
                }
            }
            Event::Arrived { request, .. } => self.sends(request, kernel),
            Event::Booked { row } => self.receives(row, kernel),
            Event::Timer(Timer::Client) => return Ok(vec![Action::Next]),
            _ => {}
        }
        Ok(Vec::new())
    }
}
