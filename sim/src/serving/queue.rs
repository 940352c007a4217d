//! The waiting queue: first come first served, by priority, or in the order of the policy's keys.

mod keyed;

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::kv::Seat;
use crate::serving::request::Request;

pub(crate) use keyed::Keyed;

/// Order of the waiting queue, and the choice of the preemption victim that goes with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueueOrder {
    /// First come, first served; the victim is the last of the running list.
    #[default]
    Fcfs,
    /// (priority, arrival, id); the victim is the running request with the largest (priority, arrival).
    Priority,
    /// The policy's own: smallest key first, and any waiting request may be admitted. No setting of vLLM's.
    #[serde(skip)]
    Keyed,
}

/// Key of the priority order: (priority, arrival key, id), smallest first; ids are vLLM's zero-padded strings.
type PriorityKey = (i32, u64, u64, Seat);

/// Requests waiting for admission.
#[derive(Clone, Debug)]
pub(crate) enum WaitQueue {
    /// A deque of (seat, generation); entries whose generation has passed are gaps left by cancellations. Those that were swapped
    /// out stand in front of it.
    Fcfs {
        swapped: VecDeque<Seat>,
        deque: VecDeque<(Seat, u32)>,
        len: usize,
    },
    Priority(BTreeSet<PriorityKey>),
    Keyed(Keyed),
}

fn priority_key(seat: Seat, request: &Request) -> PriorityKey {
    (request.priority, request.arrival_key, request.id, seat)
}

impl WaitQueue {
    pub(crate) fn new(order: QueueOrder) -> Self {
        match order {
            QueueOrder::Fcfs => WaitQueue::Fcfs { swapped: VecDeque::new(), deque: VecDeque::new(), len: 0 },
            QueueOrder::Priority => WaitQueue::Priority(BTreeSet::new()),
            QueueOrder::Keyed => WaitQueue::Keyed(Keyed::default()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            WaitQueue::Fcfs { len, .. } => *len,
            WaitQueue::Priority(set) => set.len(),
            WaitQueue::Keyed(keyed) => keyed.len(),
        }
    }

    pub(crate) fn push(&mut self, seat: Seat, request: &Request) {
        match self {
            WaitQueue::Fcfs { deque, len, .. } => {
                deque.push_back((seat, request.generation));
                *len += 1;
            }
            WaitQueue::Priority(set) => {
                set.insert(priority_key(seat, request));
            }
            WaitQueue::Keyed(keyed) => keyed.push(seat, request),
        }
    }

    /// Puts a preempted request back: to the front (first come, first served) or to its place.
    pub(crate) fn push_front(&mut self, seat: Seat, request: &Request) {
        match self {
            WaitQueue::Fcfs { deque, len, .. } => {
                deque.push_front((seat, request.generation));
                *len += 1;
            }
            WaitQueue::Priority(_) | WaitQueue::Keyed(_) => self.push(seat, request),
        }
    }

    /// Puts a request back whose KV went to the host: behind others of that kind, in front of the rest, or to its place.
    pub(crate) fn push_swapped(&mut self, seat: Seat, request: &Request) {
        match self {
            WaitQueue::Fcfs { swapped, len, .. } => {
                swapped.push_back(seat);
                *len += 1;
            }
            WaitQueue::Priority(_) | WaitQueue::Keyed(_) => self.push(seat, request),
        }
    }

    /// The request that is next in order. Drops gaps it meets.
    pub(crate) fn head(&mut self, requests: &[Request]) -> Option<Seat> {
        match self {
            WaitQueue::Fcfs { swapped, deque, .. } => {
                if let Some(&seat) = swapped.front() {
                    return Some(seat);
                }
                while let Some(&(seat, generation)) = deque.front() {
                    let request = &requests[seat as usize];
                    if request.generation == generation && request.is_waiting() {
                        return Some(seat);
                    }
                    deque.pop_front();
                }
                None
            }
            WaitQueue::Priority(set) => set.first().map(|key| key.3),
            WaitQueue::Keyed(keyed) => keyed.first_from(0),
        }
    }

    /// Takes a request that is to be admitted: the head, or any in the order of keys. Returns whether it could be taken.
    pub(crate) fn take(&mut self, seat: Seat, requests: &[Request]) -> bool {
        if let WaitQueue::Keyed(keyed) = self {
            return keyed.remove(seat, &requests[seat as usize]);
        }
        let is_head = self.head(requests) == Some(seat);
        match self {
            WaitQueue::Fcfs { swapped, deque, len } if is_head => {
                if swapped.pop_front().is_none() {
                    deque.pop_front();
                }
                *len -= 1;
            }
            WaitQueue::Priority(set) if is_head => {
                set.pop_first();
            }
            WaitQueue::Fcfs { .. } | WaitQueue::Priority(_) | WaitQueue::Keyed(_) => {}
        }
        is_head
    }

    /// Closes the gaps once they are the larger part of the queue.
    pub(crate) fn close_gaps(&mut self, requests: &[Request]) {
        if let WaitQueue::Fcfs { deque, len, .. } = self
            && deque.len() > 2 * *len + 64
        {
            deque.retain(|&(seat, generation)| {
                let request = &requests[seat as usize];
                request.generation == generation && request.is_waiting()
            });
        }
    }

    /// Removes a request from anywhere in the queue. In FCFS order its entry stays as a gap: the caller ends the
    /// request, so that its generation passes.
    pub(crate) fn remove(&mut self, seat: Seat, request: &Request) {
        match self {
            WaitQueue::Fcfs { swapped, len, .. } => {
                *len -= 1;
                if request.kv.below() > 0 {
                    swapped.retain(|&s| s != seat);
                }
            }
            WaitQueue::Priority(set) => {
                set.remove(&priority_key(seat, request));
            }
            WaitQueue::Keyed(keyed) => {
                keyed.remove(seat, request);
            }
        }
    }
}
