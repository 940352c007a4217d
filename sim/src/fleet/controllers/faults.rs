//! Replicas that fail and come back, alone or with their server.

use crate::fleet::controller::{Action, Controller, Event, Tick, Timer, Topics};
use crate::fleet::kernel::{Hold, Kernel, RANK_PATIENCE};
use crate::fleet::{ClusterSpec, RunError};
use crate::streams::{Purpose, keyed};
use crate::time::{Span, Time};

/// Replicas fail at one moment: all that they had is lost. They are back, empty, after `down_for`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// When.
    pub at: Time,
    /// Which: one, or all on a server.
    pub replicas: Vec<u32>,
    /// For how long no request is sent there.
    pub down_for: Span,
}

/// Fault domains that fail at random, independently of each other: times up and down are exponential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faults {
    /// Mean time between coming up and failing.
    pub mtbf: Span,
    /// Mean time until it is back.
    pub mttr: Span,
    /// Replicas that fail together, such as those on one server; empty: each replica alone.
    pub domains: Vec<Vec<u32>>,
}

#[derive(Debug)]
pub(super) struct Control {
    failures: Vec<Failure>,
    /// Mean times up and down of the domains, if they fail at random.
    random: Option<(Span, Span)>,
    domains: Vec<Domain>,
    /// Until when each replica is down.
    down_until: Vec<Option<Time>>,
    seed: u64,
}

#[derive(Debug)]
struct Domain {
    replicas: Vec<u32>,
    /// Random times so far.
    drawn: u64,
    /// Its next failure is drawn and has not come yet.
    expected: bool,
}

impl Control {
    /// None where nothing fails.
    pub(super) fn new(spec: &ClusterSpec, replicas: u32) -> Option<Control> {
        let (failures, faults) = (&spec.controllers.failures, &spec.controllers.faults);
        if failures.is_empty() && faults.is_none() {
            return None;
        }
        let given = faults.as_ref().map(|faults| faults.domains.clone()).unwrap_or_default();
        let domains = if given.is_empty() { (0..replicas).map(|at| vec![at]).collect() } else { given };
        Some(Control {
            failures: failures.clone(),
            random: faults.as_ref().map(|faults| (faults.mtbf, faults.mttr)),
            domains: domains.into_iter().map(|replicas| Domain { replicas, drawn: 0, expected: false }).collect(),
            down_until: vec![None; replicas as usize],
            seed: spec.seed,
        })
    }

    /// Draws the next random failure of a domain, unless one is drawn: a failure of the specification adds none.
    fn expect(&mut self, domain: usize, kernel: &mut Kernel<'_>) {
        if let Some((mtbf, _)) = self.random.filter(|_| !self.domains[domain].expected) {
            self.domains[domain].expected = true;
            let up = self.draw(domain, mtbf);
            kernel.tick(kernel.now + up, Tick::Fault(domain as u32));
        }
    }

    /// An exponential time, at least a nanosecond.
    fn draw(&mut self, domain: usize, mean: Span) -> Span {
        let drawn = &mut self.domains[domain].drawn;
        *drawn += 1;
        let uniform = keyed(self.seed, Purpose::Failing, &[domain as u64, *drawn]);
        Span(((1.0 - uniform).ln() * -(mean.0 as f64)).min(1e18) as u64 + 1)
    }

    fn start(&mut self, kernel: &mut Kernel<'_>) {
        for (number, failure) in (0..).zip(&self.failures) {
            if failure.replicas.iter().any(|&at| (at as usize) < self.down_until.len()) {
                kernel.timer(failure.at, RANK_PATIENCE, Timer::Failure(number));
            }
        }
        (0..self.domains.len()).for_each(|domain| self.expect(domain, kernel));
    }

    /// Replicas fail and are down for a while.
    fn fail(&mut self, replicas: &[u32], down_for: Span, kernel: &mut Kernel<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        for replica in replicas.iter().map(|&at| at as usize) {
            let Some(down) = self.down_until.get_mut(replica) else { continue };
            if down_for > Span::ZERO {
                let until = kernel.now + down_for;
                *down = Some(down.map_or(until, |other| other.max(until)));
                kernel.tick(until, Tick::Back(replica as u32));
                kernel.hold(replica, Hold::Down);
            } else if down.is_none() {
                kernel.blink();
            }
            actions.push(Action::Fail { replica });
        }
        actions
    }

    /// A domain fails at random.
    fn fault(&mut self, domain: usize, kernel: &mut Kernel<'_>) -> Vec<Action> {
        let Some((_, mttr)) = self.random else { return Vec::new() };
        self.domains[domain].expected = false;
        let down_for = self.draw(domain, mttr);
        let replicas = self.domains[domain].replicas.clone();
        self.fail(&replicas, down_for, kernel)
    }

    /// A replica is back, unless it has failed again meanwhile.
    fn back(&mut self, at: usize, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        if self.down_until[at].is_none_or(|until| until > kernel.now) {
            return Ok(());
        }
        self.down_until[at] = None;
        kernel.settle(at)?;
        kernel.replicas[at].forget();
        kernel.release(at, Hold::Down);
        for domain in 0..self.domains.len() {
            if self.domains[domain].replicas.contains(&(at as u32)) {
                self.expect(domain, kernel);
            }
        }
        Ok(())
    }
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        Topics::TIMERS.and(Topics::TICKS)
    }

    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match event {
            Event::Start => self.start(kernel),
            Event::Timer(Timer::Failure(number)) => {
                let Failure { replicas, down_for, .. } = self.failures[number as usize].clone();
                return Ok(self.fail(&replicas, down_for, kernel));
            }
            Event::Tick(Tick::Fault(domain)) => return Ok(self.fault(domain as usize, kernel)),
            Event::Tick(Tick::Back(at)) => self.back(at as usize, kernel)?,
            _ => {}
        }
        Ok(Vec::new())
    }
}
