//! Closed loops, and the time between a client and the engine: the server's front end, and the client's own loop.
//!
//! What a client sends is a session: requests that follow on one another as the workload says. A request of no session is one of its
//! own. When a session is over, its client thinks and opens the next one. Without clients sessions start at times of their own.

use std::collections::BTreeMap;

use crate::fleet::controller::{Action, Controller, Event, Timer, Topics};
use crate::fleet::kernel::{Kernel, RANK_ARRIVAL};
use crate::fleet::{ClusterSpec, RunError};
use crate::results::rows::{Outcome, RequestRow};
use crate::time::{Span, Time};

/// Closed-loop clients: each sends its next request, or opens its next session, a think time after its last one has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clients {
    /// How many.
    pub count: u32,
    /// Time between an end and the next request, or session; at least a nanosecond.
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
    /// For each token of the prompt: the tokeniser.
    pub per_prompt_token: Span,
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
    /// Whether requests follow on one another.
    sessions: bool,
    /// Whether replicas have front ends.
    frontend: bool,
    time: Option<ClientTime>,
    /// The client's time of the requests under way.
    times: BTreeMap<u64, Span>,
}

impl Control {
    /// None where nothing stands between an open loop's clients and the engine.
    pub(super) fn new(spec: &ClusterSpec, sessions: bool) -> Option<Control> {
        let (clients, frontend, time) = (spec.traffic.clients, spec.has_frontend(), spec.traffic.client_time);
        let any = clients.is_some() || sessions || frontend || time.is_some();
        any.then(|| Control { clients, sessions, frontend, time, times: BTreeMap::new() })
    }

    /// A request is sent.
    fn sends(&mut self, request: u64, kernel: &Kernel<'_>) {
        if let Some(ClientTime { base, per_concurrent }) = self.time {
            let span = base + Span(per_concurrent.0.saturating_mul(kernel.under_way()));
            self.times.insert(request, span);
        }
    }

    /// A request has ended.
    fn receives(&mut self, row: &RequestRow, kernel: &mut Kernel<'_>) -> Option<Action> {
        let at_client = self.times.remove(&row.request);
        if let Some(span) = at_client.filter(|_| row.outcome == Outcome::Finished) {
            kernel.sink.tally.client(row, span);
        }
        let known = kernel.now + row.frontend + at_client.unwrap_or(Span::ZERO);
        let follows = self.clients.is_some() || self.sessions;
        let pause = self.clients.map(|clients| clients.think_time);
        follows.then_some(Action::Follow { request: row.request, known, pause })
    }
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        // Only what is needed: most runs have a front end alone.
        let if_any = |any: bool, topics: Topics| if any { topics } else { Topics::NONE };
        let (clients, time) = (self.clients.is_some() || self.sessions, self.time.is_some());
        if_any(self.frontend, Topics::ENDED)
            .and(if_any(clients || time, Topics::BOOKED))
            .and(if_any(time, Topics::ARRIVED))
            .and(if_any(clients, Topics::TIMERS))
    }

    fn ended(&mut self, row: &mut RequestRow, kernel: &mut Kernel<'_>) -> Option<Time> {
        let at = row.replica as usize;
        if row.outcome == Outcome::Finished {
            let running = kernel.replicas[at].running() + 1;
            row.frontend = kernel.pools.frontend_time(at, running, row.prompt_tokens);
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
            Event::Booked { row } => return Ok(self.receives(row, kernel).into_iter().collect()),
            Event::Timer(Timer::Client) => return Ok(vec![Action::Next]),
            Event::Timer(Timer::Turn(turn)) => return Ok(vec![Action::Turn(turn)]),
            _ => {}
        }
        Ok(Vec::new())
    }
}
