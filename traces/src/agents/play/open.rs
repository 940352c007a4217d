//! Sessions that are open: which of their requests have ended, and what may be sent.

use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, SessionId};
use overbook_sim::workload::sessions::Turn;

use crate::agents::session::{SESSION_IDS, Session};
use crate::load::Failures;
use crate::rows::salted;
use crate::spec::TraceSpec;

/// An open session.
#[derive(Debug)]
pub(super) struct Open {
    session: Session,
    id: SessionId,
    /// What its content ids count from.
    base: u64,
    block_tokens: u32,
    start: Time,
    /// Of each request: ends that it still waits for, and when it may be sent as far as is known.
    waits: Vec<(u32, Time)>,
    /// Requests that were not left out and have not ended.
    left: u32,
}

impl Open {
    /// The session with this number over all copies of the file.
    pub(super) fn new(session: Session, number: u64, copy: u64, now: Time, spec: &TraceSpec) -> Open {
        let dropped = spec.failures == Failures::Drop;
        let left = session.requests.iter().filter(|request| !(dropped && request.failed())).count() as u32;
        Open {
            id: salted(session.id, copy),
            base: number.wrapping_mul(SESSION_IDS),
            block_tokens: spec.block_tokens,
            start: now,
            waits: session.requests.iter().map(|request| (request.waits_for, now)).collect(),
            left,
            session,
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// The requests that wait for nothing, and when they are sent.
    pub(super) fn first(&self) -> Vec<(Time, u32)> {
        let waiting = self.waits.iter().map(|(waits, _)| *waits);
        self.all(false).into_iter().zip(waiting).filter_map(|(turn, waits)| (waits == 0).then_some(turn)).collect()
    }

    /// All requests at their recorded times, with or without those that failed.
    pub(super) fn all(&self, drops_failed: bool) -> Vec<(Time, u32)> {
        let requests = self.session.requests.iter().zip(0..).filter(|(request, _)| !(drops_failed && request.failed()));
        requests.map(|(request, turn)| (self.start + Span(request.at_ns), turn)).collect()
    }

    /// The request of a turn, sent at a time.
    pub(super) fn arrival(&self, turn: u32, at: Time) -> Arrival {
        let request = &self.session.requests[turn as usize];
        let recorded_e2el = request.took_ns.map(Span);
        if request.failed() {
            return Arrival { class: request.class, session: Some(self.id), recorded_e2el, ..Arrival::failed(at) };
        }
        Arrival {
            class: request.class,
            content: Some(Box::new(self.session.content(turn, self.block_tokens, self.base))),
            session: Some(self.id),
            recorded_e2el,
            ..Arrival::new(at, request.prompt_tokens, request.output_tokens)
        }
    }

    /// A request has ended. Gives those that waited for nothing else; without a time, nothing waits for it.
    pub(super) fn end(&mut self, turn: u32, at: Option<Time>) -> Vec<(Time, u32)> {
        self.left -= 1;
        at.map_or_else(Vec::new, |at| self.followers(turn, at))
    }

    fn followers(&mut self, turn: u32, at: Time) -> Vec<(Time, u32)> {
        let mut ready = Vec::new();
        for edge in self.session.followers(turn as usize) {
            let (waits, soonest) = &mut self.waits[edge.to as usize];
            *waits -= 1;
            *soonest = (*soonest).max(at + Span(edge.pause_ns));
            if *waits == 0 {
                ready.push((*soonest, edge.to));
            }
        }
        ready
    }
}

/// The open sessions by number.
#[derive(Default, Debug)]
pub(super) struct Slots {
    open: Vec<Option<Open>>,
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn put(&mut self, open: Open) -> u32 {
        if let Some(number) = self.free.pop() {
            self.open[number as usize] = Some(open);
            return number;
        }
        self.open.push(Some(open));
        self.open.len() as u32 - 1
    }

    /// An open session.
    ///
    /// # Panics
    /// It is not open: the fleet has asked for a turn that it was not given.
    pub(super) fn at(&mut self, number: u32) -> &mut Open {
        self.open[number as usize].as_mut().expect("a turn of an open session")
    }

    /// Puts in the place of failed requests what follows on them, the time later that they took.
    pub(super) fn pass_over_failed(&mut self, turns: Vec<(Time, Turn)>) -> Vec<(Time, Turn)> {
        let mut ready = Vec::with_capacity(turns.len());
        let mut found: Vec<(Time, Turn)> = turns.into_iter().rev().collect();
        while let Some((at, turn)) = found.pop() {
            let open = self.at(turn.session);
            let request = &open.session.requests[turn.turn as usize];
            if !request.failed() {
                ready.push((at, turn));
                continue;
            }
            let ended = at + Span(request.took_ns.unwrap_or(0));
            let followers = open.followers(turn.turn, ended);
            found.extend(followers.into_iter().map(|(at, next)| (at, Turn { turn: next, ..turn })));
        }
        ready
    }

    /// Closes a session of which nothing is left.
    pub(super) fn close_if_over(&mut self, number: u32) -> bool {
        let over = self.at(number).left == 0;
        if over {
            self.open[number as usize] = None;
            self.free.push(number);
        }
        over
    }
}
