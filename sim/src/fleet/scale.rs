//! A fleet that grows and shrinks with its load: replicas join after a start-up delay and drain before they leave.

use std::collections::VecDeque;

use super::{Cluster, RunError, Tick};
use crate::fleet::drive::Books;
use crate::results::rows::Recorder;
use crate::time::{Span, Time};

/// What the number of replicas follows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ScaleTarget {
    /// Waiting and running requests of a replica, above 0.
    Outstanding(f64),
    /// Share of its KV blocks in use, above 0.
    KvUse(f64),
}

/// An autoscaler like Kubernetes' (HPA): at every interval it wants load ÷ target replicas, rounded up. It grows at once, and shrinks
/// to the most that it wanted within the cool-down.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Autoscale {
    /// Replicas at least, and at the start. The most is the fleet's number of replicas.
    pub min: u32,
    /// Time from the decision until a replica takes requests. It is paid for.
    pub start_up: Span,
    /// Time between two decisions, above 0.
    pub interval: Span,
    /// What a replica should have.
    pub target: ScaleTarget,
    /// For how long a lower load must have lasted before replicas leave.
    pub cool_down: Span,
}

/// Whether a replica is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Off,
    /// Ready at this moment.
    Starting(Time),
    Up,
    /// Takes no more requests, and leaves when the last one has ended.
    Draining,
}

/// Which replicas are there, and since when.
#[derive(Debug)]
pub(super) struct Scaling {
    states: Vec<State>,
    since: Vec<Time>,
    /// Times at which a replica was there that has left.
    left: Vec<(Time, Time)>,
    /// What was wanted lately, by time.
    wanted: VecDeque<(Time, u32)>,
}

impl Scaling {
    pub(super) fn new(replicas: usize, at_start: u32) -> Scaling {
        let state = |at| if at < at_start as usize { State::Up } else { State::Off };
        Scaling {
            states: (0..replicas).map(state).collect(),
            since: vec![Time::ZERO; replicas],
            left: Vec::new(),
            wanted: VecDeque::new(),
        }
    }

    pub(super) fn takes_requests(&self, replica: usize) -> bool {
        self.states[replica] == State::Up
    }

    /// Replicas that are up or will be.
    fn active(&self) -> u32 {
        self.states.iter().filter(|state| matches!(state, State::Up | State::Starting(_))).count() as u32
    }

    /// The last replica in such a state.
    fn last(&self, is: impl Fn(State) -> bool) -> Option<usize> {
        self.states.iter().rposition(|&state| is(state))
    }

    fn leave(&mut self, at: usize, now: Time) {
        self.states[at] = State::Off;
        self.left.push((self.since[at], now));
    }

    /// Time that replicas were there between two moments, summed.
    pub(super) fn served(&self, from: Time, to: Time) -> Span {
        let there = self.states.iter().zip(&self.since).filter(|(state, _)| **state != State::Off);
        let spans = self.left.iter().copied().chain(there.map(|(_, &since)| (since, Time::MAX)));
        Span(spans.map(|(start, end)| end.min(to).since(start.max(from)).0).sum())
    }
}

impl Cluster {
    /// The autoscaler looks at the load.
    pub(super) fn scale<R: Recorder>(&mut self, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let Some(spec) = self.spec.autoscale else { return Ok(()) };
        self.ticks.schedule(self.now + spec.interval, 0, Tick::Scale);
        let desired = self.desired(spec, books)?;
        let wanted = &mut self.scaling.wanted;
        wanted.push_back((self.now, desired));
        while wanted.front().is_some_and(|&(at, _)| at + spec.cool_down < self.now) {
            wanted.pop_front();
        }
        let lately = wanted.iter().map(|&(_, n)| n).max().unwrap_or(desired);
        while self.scaling.active() < desired {
            self.grow(spec.start_up);
        }
        while self.scaling.active() > lately {
            self.shrink();
        }
        self.reopen();
        Ok(())
    }

    fn desired<R: Recorder>(&mut self, spec: Autoscale, books: &mut Books<'_, R>) -> Result<u32, RunError> {
        let load = match spec.target {
            ScaleTarget::Outstanding(each) => {
                self.replicas.iter().map(|r| f64::from(r.outstanding())).sum::<f64>() / each
            }
            ScaleTarget::KvUse(share) => {
                for at in 0..self.replicas.len() {
                    self.settle(at, books)?;
                }
                self.replicas.iter().map(|r| r.pool().used() as f64 / r.pool().total() as f64).sum::<f64>() / share
            }
        };
        // As many as there may be at most, whatever the load; the cast saturates.
        Ok((load.ceil() as u32).clamp(spec.min, self.spec.replicas))
    }

    /// One more: one that still drains is back at once, another one starts.
    fn grow(&mut self, start_up: Span) {
        let states = &mut self.scaling.states;
        if let Some(at) = states.iter().position(|state| *state == State::Draining) {
            states[at] = State::Up;
        } else if let Some(at) = states.iter().position(|state| *state == State::Off) {
            let ready = self.now + start_up;
            self.scaling.states[at] = State::Starting(ready);
            self.scaling.since[at] = self.now;
            self.replicas[at].pool_mut().forget();
            self.ticks.schedule(ready, 0, Tick::Started(at as u32));
        }
    }

    /// One less: one that is starting, or the last.
    fn shrink(&mut self) {
        let (scaling, now) = (&mut self.scaling, self.now);
        if let Some(at) = scaling.last(|state| matches!(state, State::Starting(_))) {
            scaling.leave(at, now);
        } else if let Some(at) = scaling.last(|state| state == State::Up) {
            scaling.states[at] = State::Draining;
            self.leave_if_drained(at);
        }
    }

    /// A replica that has started takes requests, if it is still wanted.
    pub(super) fn started(&mut self, at: usize) {
        if self.scaling.states[at] == State::Starting(self.now) {
            self.scaling.states[at] = State::Up;
            self.reopen();
        }
    }

    /// A draining replica leaves with its last request.
    pub(super) fn leave_if_drained(&mut self, at: usize) {
        if self.scaling.states[at] == State::Draining && self.replicas[at].outstanding() == 0 {
            self.scaling.leave(at, self.now);
        }
    }
}
