//! A queue in the order of keys that the policy gives.

use std::collections::BTreeSet;

use crate::kv::Seat;
use crate::serving::request::Request;

/// Smallest first; equal keys are served by arrival.
type Entry = (u64, u64, u64, Seat);

/// Waiting requests by key. A request that has just arrived stands behind all others until the policy has ranked it; one
/// that was preempted stands where it stood.
#[derive(Clone, Default, Debug)]
pub(crate) struct Keyed {
    set: BTreeSet<Entry>,
    /// Key of the request in each seat, waiting or not.
    keys: Vec<u64>,
    /// Arrivals (seat, generation) that the policy has not seen yet, the first one first. Some may have left again.
    newcomers: std::collections::VecDeque<(Seat, u32)>,
}

impl Keyed {
    fn entry(&self, seat: Seat, request: &Request) -> Entry {
        (self.key(seat), request.arrival_key, request.id, seat)
    }

    pub(crate) fn key(&self, seat: Seat) -> u64 {
        self.keys[seat as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    pub(crate) fn push(&mut self, seat: Seat, request: &Request) {
        if self.keys.len() <= seat as usize {
            self.keys.resize(seat as usize + 1, u64::MAX);
        }
        if request.preemptions == 0 {
            self.keys[seat as usize] = u64::MAX;
            self.newcomers.push_back((seat, request.generation));
        }
        self.set.insert(self.entry(seat, request));
    }

    /// Gives a request another key, and another place if it waits.
    pub(crate) fn rank(&mut self, seat: Seat, request: &Request, key: u64) {
        let waits = request.is_waiting() && self.set.remove(&self.entry(seat, request));
        self.keys[seat as usize] = key;
        if waits {
            self.set.insert(self.entry(seat, request));
        }
    }

    /// The longest-waiting arrival that the policy has not seen.
    pub(crate) fn pop_newcomer(&mut self, requests: &[Request]) -> Option<Seat> {
        while let Some((seat, generation)) = self.newcomers.pop_front() {
            let request = &requests[seat as usize];
            if request.generation == generation && request.is_waiting() {
                return Some(seat);
            }
        }
        None
    }

    /// The first request whose key is `key` or more.
    pub(crate) fn first_from(&self, key: u64) -> Option<Seat> {
        self.set.range((key, 0, 0, 0)..).next().map(|entry| entry.3)
    }

    /// All requests, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Seat> + '_ {
        self.set.iter().map(|entry| entry.3)
    }

    /// Takes a request out; returns whether it was here.
    pub(crate) fn remove(&mut self, seat: Seat, request: &Request) -> bool {
        self.set.remove(&self.entry(seat, request))
    }
}
