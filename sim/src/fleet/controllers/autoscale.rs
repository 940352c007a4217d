//! A fleet that grows and shrinks with its load: replicas join after a start-up delay and drain before they leave. Every pool
//! that says so scales by its own load.

use std::collections::VecDeque;
use std::ops::Range;

use crate::fleet::controller::{Action, Controller, Event, Tick, Topics};
use crate::fleet::kernel::{Hold, Kernel};
use crate::fleet::{ClusterSpec, RunError};
use crate::serving::replica::Replica;
use crate::time::{Span, Time};

/// What the number of replicas follows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ScaleTarget {
    /// Waiting and running requests of a replica, above 0.
    Outstanding(f64),
    /// Share of its KV blocks in use, above 0.
    KvUse(f64),
    /// Waiting requests of a replica, above 0.
    Waiting(f64),
    /// How long the next request of its queue has waited, above 0. Requests that ran before a preemption do not count.
    QueueTime(Span),
}

/// How fast a group grows at most: within any `per` by so many replicas or by that share of those that there were, whichever is more.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Growth {
    /// Replicas.
    pub replicas: u32,
    /// Share of the replicas before.
    pub share: f64,
    /// The time that is looked back upon.
    pub per: Span,
}

impl Growth {
    /// As fast as is wanted.
    pub const UNLIMITED: Growth = Growth { replicas: u32::MAX, share: 0.0, per: Span::ZERO };
}

/// An autoscaler like Kubernetes' (HPA, `replica_calculator.go` and `horizontal.go`): at every interval it wants load ÷ target replicas, rounded
/// up, or as many as there are if that is within a tolerance. It grows as fast as it may, and shrinks to the most that it wanted within the
/// cool-down.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Autoscale {
    /// Replicas at least, and at the start. The most is the number of replicas of the fleet or the pool.
    pub min: u32,
    /// Time from the decision until a replica takes requests. It is paid for.
    pub start_up: Span,
    /// Time between two decisions, above 0.
    pub interval: Span,
    /// What a replica should have.
    pub target: ScaleTarget,
    /// For how long a lower load must have lasted before replicas leave.
    pub cool_down: Span,
    /// Share by which the load may be off the target before anything changes.
    pub tolerance: f64,
    /// How fast it grows at most.
    pub growth: Growth,
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

/// Replicas that scale together.
#[derive(Debug)]
struct Group {
    rules: Autoscale,
    replicas: Range<usize>,
    /// What was wanted lately and has not been topped since, by time: the first one is the most.
    wanted: VecDeque<(Time, u32)>,
    /// Replicas that were added lately, by time.
    added: VecDeque<(Time, u32)>,
}

impl Group {
    /// How many there may be now, of which there are `active`.
    fn most(&mut self, active: u32, now: Time) -> u32 {
        let Growth { replicas, share, per } = self.rules.growth;
        while self.added.front().is_some_and(|&(at, _)| at + per <= now) {
            self.added.pop_front();
        }
        let before = active.saturating_sub(self.added.iter().map(|&(_, added)| added).sum());
        let by_share = (f64::from(before) * (1.0 + share)).ceil() as u32;
        before.saturating_add(replicas).max(by_share).max(active)
    }
}

#[derive(Debug)]
pub(super) struct Control {
    groups: Vec<Group>,
    states: Vec<State>,
}

impl Control {
    /// None where nothing scales.
    pub(super) fn new(spec: &ClusterSpec, replicas: u32) -> Option<Control> {
        let mut first = 0;
        let mut groups = Vec::new();
        for pool in spec.replica_pools() {
            let end = first + pool.replicas as usize;
            if let Some(rules) = pool.autoscale {
                groups.push(Group { rules, replicas: first..end, wanted: VecDeque::new(), added: VecDeque::new() });
            }
            first = end;
        }
        (!groups.is_empty()).then(|| Control { groups, states: vec![State::Up; replicas as usize] })
    }

    fn start(&mut self, kernel: &mut Kernel<'_>) {
        for (number, group) in (0..).zip(&self.groups) {
            for at in group.replicas.clone().skip(group.rules.min as usize) {
                self.states[at] = State::Off;
                kernel.leave(at);
                kernel.hold(at, Hold::Scaled);
            }
            kernel.tick(Time::ZERO + group.rules.interval, Tick::Scale(number));
        }
    }

    /// The autoscaler of a group looks at its load.
    fn scale(&mut self, number: usize, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        let rules = self.groups[number].rules;
        kernel.tick(kernel.now + rules.interval, Tick::Scale(number as u32));
        let replicas = self.groups[number].replicas.clone();
        let active = self.active(&replicas);
        let desired = desired(&self.groups[number], active, kernel)?;
        let wanted = &mut self.groups[number].wanted;
        while wanted.back().is_some_and(|&(_, less)| less <= desired) {
            wanted.pop_back();
        }
        wanted.push_back((kernel.now, desired));
        while wanted.front().is_some_and(|&(at, _)| at + rules.cool_down < kernel.now) {
            wanted.pop_front();
        }
        let lately = wanted.front().map_or(desired, |&(_, most)| most);
        let goal = desired.min(self.groups[number].most(active, kernel.now));
        while self.active(&replicas) < goal {
            self.grow(&replicas, rules.start_up, kernel);
        }
        if goal > active {
            self.groups[number].added.push_back((kernel.now, goal - active));
        }
        while self.active(&replicas) > lately {
            self.shrink(&replicas, kernel);
        }
        Ok(())
    }

    /// Replicas of a group that are up or will be.
    fn active(&self, group: &Range<usize>) -> u32 {
        let states = &self.states[group.clone()];
        states.iter().filter(|state| matches!(state, State::Up | State::Starting(_))).count() as u32
    }

    /// One more: one that still drains is back at once, another one starts.
    fn grow(&mut self, group: &Range<usize>, start_up: Span, kernel: &mut Kernel<'_>) {
        if let Some(at) = group.clone().find(|&at| self.states[at] == State::Draining) {
            self.states[at] = State::Up;
            kernel.release(at, Hold::Scaled);
        } else if let Some(at) = group.clone().find(|&at| self.states[at] == State::Off) {
            let ready = kernel.now + start_up;
            self.states[at] = State::Starting(ready);
            kernel.join(at);
            kernel.replicas[at].forget();
            kernel.tick(ready, Tick::Started(at as u32));
        }
    }

    /// One less: one that is starting, or the last.
    fn shrink(&mut self, group: &Range<usize>, kernel: &mut Kernel<'_>) {
        let last = |is: fn(State) -> bool| group.clone().rev().find(|&at| is(self.states[at]));
        if let Some(at) = last(|state| matches!(state, State::Starting(_))) {
            self.states[at] = State::Off;
            kernel.leave(at);
        } else if let Some(at) = last(|state| state == State::Up) {
            self.states[at] = State::Draining;
            kernel.hold(at, Hold::Scaled);
            self.leave_if_drained(at, kernel);
        }
    }

    /// A replica that has started takes requests, if it is still wanted.
    fn started(&mut self, at: usize, kernel: &mut Kernel<'_>) {
        if self.states[at] == State::Starting(kernel.now) {
            self.states[at] = State::Up;
            kernel.release(at, Hold::Scaled);
        }
    }

    /// A draining replica leaves with its last request.
    fn leave_if_drained(&mut self, at: usize, kernel: &mut Kernel<'_>) {
        let replica = &kernel.replicas[at];
        if self.states[at] == State::Draining && replica.outstanding() == 0 && !replica.has_transfers() {
            self.states[at] = State::Off;
            kernel.leave(at);
        }
    }
}

/// Replicas that a group wants now, of which so many are active.
fn desired(group: &Group, active: u32, kernel: &mut Kernel<'_>) -> Result<u32, RunError> {
    let range = group.replicas.clone();
    let load = match group.rules.target {
        ScaleTarget::Outstanding(each) => {
            let replicas = &kernel.replicas[group.replicas.clone()];
            replicas.iter().map(|r| f64::from(r.outstanding())).sum::<f64>() / each
        }
        ScaleTarget::KvUse(share) => {
            group.replicas.clone().try_for_each(|at| kernel.settle(at))?;
            let replicas = &kernel.replicas[group.replicas.clone()];
            replicas.iter().map(|r| r.pool().used() as f64 / r.pool().total() as f64).sum::<f64>() / share
        }
        ScaleTarget::Waiting(each) => kernel.replicas[range].iter().map(|r| f64::from(r.waiting())).sum::<f64>() / each,
        ScaleTarget::QueueTime(target) => {
            let now = kernel.now;
            let waited = |r: &mut Replica| r.next_since().map_or(0.0, |since| now.since(since).as_secs_f64());
            kernel.replicas[range].iter_mut().map(waited).sum::<f64>() / target.as_secs_f64()
        }
    };
    let is_near = (load / f64::from(active) - 1.0).abs() <= group.rules.tolerance;
    // As many as there may be at most, whatever the load; the cast saturates.
    Ok((if is_near { f64::from(active) } else { load }.ceil() as u32)
        .clamp(group.rules.min, group.replicas.len() as u32))
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        Topics::TOLD.and(Topics::TICKS)
    }

    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match event {
            Event::Start => self.start(kernel),
            Event::Tick(Tick::Scale(group)) => self.scale(group as usize, kernel)?,
            Event::Tick(Tick::Started(at)) => self.started(at as usize, kernel),
            Event::Told { replica } => self.leave_if_drained(replica, kernel),
            _ => {}
        }
        Ok(Vec::new())
    }
}
