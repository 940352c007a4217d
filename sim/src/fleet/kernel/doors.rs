//! Which replicas take requests, and since when each is there.

use super::Kernel;
use crate::fleet::controller::Event;
use crate::time::{Span, Time};

/// Why a replica takes no requests. Each reason is one controller's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::fleet) enum Hold {
    /// It is down.
    Down = 1,
    /// It is not there, or about to leave.
    Scaled = 2,
}

/// The replicas' doors.
#[derive(Debug)]
pub(super) struct Doors {
    /// Reasons, as bits, for which each replica takes no requests.
    holds: Vec<u8>,
    /// Replicas among which a router chooses: the first ones.
    entrances: usize,
    /// Those of them that take requests.
    open: Vec<u32>,
}

impl Doors {
    pub(super) fn new(replicas: usize, entrances: usize) -> Doors {
        Doors { holds: vec![0; replicas], entrances, open: (0..entrances as u32).collect() }
    }
}

/// When each replica is there.
#[derive(Debug)]
pub(super) struct Presence {
    since: Vec<Option<Time>>,
    /// Replicas that have left, and when they were there.
    past: Vec<(usize, Time, Time)>,
}

impl Presence {
    pub(super) fn new(replicas: usize) -> Presence {
        Presence { since: vec![Some(Time::ZERO); replicas], past: Vec::new() }
    }
}

impl Kernel<'_> {
    /// The entrances that take requests.
    pub(in crate::fleet) fn open(&self) -> &[u32] {
        &self.doors.open
    }

    /// Whether nothing holds a replica's door.
    pub(in crate::fleet) fn takes_requests(&self, at: usize) -> bool {
        self.doors.holds[at] == 0
    }

    /// A replica takes no requests until it is released.
    pub(in crate::fleet) fn hold(&mut self, at: usize, why: Hold) {
        if self.takes_requests(at) {
            self.notify(Event::Closed { replica: at });
        }
        if why == Hold::Down && self.doors.holds[at] & why as u8 == 0 {
            self.sink.outages.begin(self.now);
        }
        self.doors.holds[at] |= why as u8;
        self.find_open();
    }

    /// A replica takes requests again, as far as this reason is concerned.
    pub(in crate::fleet) fn release(&mut self, at: usize, why: Hold) {
        let before = self.doors.holds[at];
        if why == Hold::Down && before & why as u8 != 0 {
            self.sink.outages.end(self.now);
        }
        self.doors.holds[at] &= !(why as u8);
        if before != 0 && self.takes_requests(at) {
            self.notify(Event::Opened);
        }
        self.find_open();
    }

    /// A replica fails and is back at the same moment.
    pub(in crate::fleet) fn blink(&mut self) {
        self.sink.outages.begin(self.now);
        self.sink.outages.end(self.now);
    }

    fn find_open(&mut self) {
        let holds = &self.doors.holds;
        self.doors.open = (0..self.doors.entrances as u32).filter(|&at| holds[at as usize] == 0).collect();
    }

    /// A replica is there from now on.
    pub(in crate::fleet) fn join(&mut self, at: usize) {
        self.presence.since[at] = Some(self.now);
    }

    /// A replica is not there any more.
    pub(in crate::fleet) fn leave(&mut self, at: usize) {
        if let Some(since) = self.presence.since[at].take() {
            self.presence.past.push((at, since, self.now));
        }
    }

    /// Time that GPUs were there between two moments, summed; `None` if their number is not known.
    pub(in crate::fleet) fn gpu_time(&self, from: Time, to: Time) -> Option<Span> {
        let known = (0..self.replicas.len()).all(|at| self.pools.gpus(at).is_some());
        known.then(|| self.served((from, to), |at| self.pools.gpus(at).unwrap_or(0)))
    }

    /// Time that replicas were there between two moments, summed; each counts `weight` times.
    pub(in crate::fleet) fn served(&self, (from, to): (Time, Time), weight: impl Fn(usize) -> u32) -> Span {
        let since = self.presence.since.iter().enumerate();
        let there = since.filter_map(|(at, since)| Some((at, (*since)?, Time::MAX)));
        let spans = self.presence.past.iter().copied().chain(there);
        let time = |(at, start, end): (usize, Time, Time)| {
            u128::from(end.min(to).since(start.max(from)).0) * u128::from(weight(at))
        };
        Span(u64::try_from(spans.map(time).sum::<u128>()).unwrap_or(u64::MAX))
    }
}
