//! Replicas that fail and come back.

use super::{Cluster, RunError, Tick};
use crate::fleet::drive::Books;
use crate::results::rows::Recorder;
use crate::serving::replica::Replica;
use crate::streams::{Purpose, keyed};
use crate::time::{Span, Time};

/// A replica fails: all that it had is lost. It is back, empty, after `down_for`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// When.
    pub at: Time,
    /// Which.
    pub replica: u32,
    /// For how long no request is sent there.
    pub down_for: Span,
}

/// Replicas that fail at random, independently of each other: times up and down are exponential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faults {
    /// Mean time between coming up and failing.
    pub mtbf: Span,
    /// Mean time until it is back.
    pub mttr: Span,
}

/// Which replicas are down, and until when.
#[derive(Debug)]
pub(super) struct Health {
    down_until: Vec<Option<Time>>,
    /// Random failures so far, by replica.
    drawn: Vec<u64>,
}

impl Health {
    pub(super) fn new(replicas: usize) -> Health {
        Health { down_until: vec![None; replicas], drawn: vec![0; replicas] }
    }

    pub(super) fn is_up(&self, replica: usize) -> bool {
        self.down_until[replica].is_none()
    }
}

impl Cluster {
    /// The first random failure of each replica.
    pub(super) fn expect_faults(&mut self) {
        for at in 0..self.replicas.len() {
            self.next_fault(at);
        }
    }

    fn next_fault(&mut self, at: usize) {
        if let Some(faults) = self.spec.faults {
            let up = self.draw(at, faults.mtbf);
            self.ticks.schedule(self.now + up, 0, Tick::Fault(at as u32));
        }
    }

    /// An exponential time, at least a nanosecond.
    fn draw(&mut self, at: usize, mean: Span) -> Span {
        let drawn = &mut self.health.drawn[at];
        *drawn += 1;
        let uniform = keyed(self.spec.seed, Purpose::Failing, &[at as u64, *drawn]);
        Span(((1.0 - uniform).ln() * -(mean.0 as f64)).min(1e18) as u64 + 1)
    }

    /// A replica fails at random.
    pub(super) fn fault<R: Recorder>(&mut self, at: usize, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let Some(faults) = self.spec.faults else { return Ok(()) };
        let down_for = self.draw(at, faults.mttr);
        self.fail(at, down_for, books)
    }

    /// A replica fails and is down for a while.
    pub(super) fn fail<R: Recorder>(
        &mut self,
        at: usize,
        down_for: Span,
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        if down_for > Span::ZERO {
            let until = self.now + down_for;
            let down = &mut self.health.down_until[at];
            *down = Some(down.map_or(until, |other| other.max(until)));
            self.ticks.schedule(until, 0, Tick::Back(at as u32));
            self.reopen();
        }
        self.transfers.lose(at);
        self.disturb(at, books, Replica::fail)?;
        self.fetch_all(books)
    }

    /// A replica is back, unless it has failed again meanwhile.
    pub(super) fn back<R: Recorder>(&mut self, at: usize, books: &mut Books<'_, R>) -> Result<(), RunError> {
        if self.health.down_until[at].is_none_or(|until| until > self.now) {
            return Ok(());
        }
        self.health.down_until[at] = None;
        self.settle(at, books)?;
        self.replicas[at].pool_mut().forget();
        self.reopen();
        self.next_fault(at);
        Ok(())
    }

    /// Finds again which replicas take requests.
    pub(super) fn reopen(&mut self) {
        let entrances = self.entrances() as u32;
        self.open = (0..entrances)
            .filter(|&at| self.health.is_up(at as usize) && self.scaling.takes_requests(at as usize))
            .collect();
    }
}
