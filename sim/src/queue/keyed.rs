//! A queue in the order of keys that the policy gives.

use std::collections::BTreeSet;

use crate::request::{Request, Slot};

/// Smallest first; equal keys are served by arrival.
type Entry = (u64, u64, u64, Slot);

/// Waiting requests by key. A request that has just arrived stands behind all others until the policy has ranked it; one
/// that was preempted stands where it stood.
#[derive(Clone, Default, Debug)]
pub(crate) struct Keyed {
    set: BTreeSet<Entry>,
    /// Key of the request in each slot, waiting or not.
    keys: Vec<u64>,
    /// Arrivals (slot, generation) that the policy has not seen yet, the first one first. Some may have left again.
    newcomers: std::collections::VecDeque<(Slot, u32)>,
}

impl Keyed {
    fn entry(&self, slot: Slot, request: &Request) -> Entry {
        (self.key(slot), request.arrival_key, request.id, slot)
    }

    pub(crate) fn key(&self, slot: Slot) -> u64 {
        self.keys[slot as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    pub(crate) fn push(&mut self, slot: Slot, request: &Request) {
        if self.keys.len() <= slot as usize {
            self.keys.resize(slot as usize + 1, u64::MAX);
        }
        if request.preemptions == 0 {
            self.keys[slot as usize] = u64::MAX;
            self.newcomers.push_back((slot, request.generation));
        }
        self.set.insert(self.entry(slot, request));
    }

    /// Gives a request another key, and another place if it waits.
    pub(crate) fn rank(&mut self, slot: Slot, request: &Request, key: u64) {
        let waits = request.is_waiting() && self.set.remove(&self.entry(slot, request));
        self.keys[slot as usize] = key;
        if waits {
            self.set.insert(self.entry(slot, request));
        }
    }

    /// The longest-waiting arrival that the policy has not been told of.
    pub(crate) fn pop_newcomer(&mut self, requests: &[Request]) -> Option<Slot> {
        while let Some((slot, generation)) = self.newcomers.pop_front() {
            let request = &requests[slot as usize];
            if request.generation == generation && request.is_waiting() {
                return Some(slot);
            }
        }
        None
    }

    /// The first request whose key is `key` or more.
    pub(crate) fn first_from(&self, key: u64) -> Option<Slot> {
        self.set.range((key, 0, 0, 0)..).next().map(|entry| entry.3)
    }

    /// All requests, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.set.iter().map(|entry| entry.3)
    }

    /// Takes a request out; returns whether it was here.
    pub(crate) fn remove(&mut self, slot: Slot, request: &Request) -> bool {
        self.set.remove(&self.entry(slot, request))
    }
}
