//! The waiting queue: first come first served, by priority, or in the order of the policy's keys.

mod keyed;

use std::collections::{BTreeSet, VecDeque};

use crate::policy::QueueOrder;
use crate::request::{Request, Slot};

pub(crate) use keyed::Keyed;

/// Key of the priority order: (priority, arrival key, id), smallest first; ids are vLLM's zero-padded strings.
type PriorityKey = (i32, u64, u64, Slot);

/// Requests waiting for admission.
#[derive(Clone, Debug)]
pub(crate) enum WaitQueue {
    /// A deque of (slot, generation); entries whose generation has passed are gaps left by cancellations. Those that were swapped
    /// out stand in front of it.
    Fcfs {
        swapped: VecDeque<Slot>,
        deque: VecDeque<(Slot, u32)>,
        len: usize,
    },
    Priority(BTreeSet<PriorityKey>),
    Keyed(Keyed),
}

fn priority_key(slot: Slot, request: &Request) -> PriorityKey {
    (request.priority, request.arrival_key, request.id, slot)
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

    pub(crate) fn push(&mut self, slot: Slot, request: &Request) {
        match self {
            WaitQueue::Fcfs { deque, len, .. } => {
                deque.push_back((slot, request.generation));
                *len += 1;
            }
            WaitQueue::Priority(set) => {
                set.insert(priority_key(slot, request));
            }
            WaitQueue::Keyed(keyed) => keyed.push(slot, request),
        }
    }

    /// Puts a preempted request back: to the front (first come, first served) or to its place.
    pub(crate) fn push_front(&mut self, slot: Slot, request: &Request) {
        match self {
            WaitQueue::Fcfs { deque, len, .. } => {
                deque.push_front((slot, request.generation));
                *len += 1;
            }
            WaitQueue::Priority(_) | WaitQueue::Keyed(_) => self.push(slot, request),
        }
    }

    /// Puts a request back whose KV went to the host: behind others of that kind, in front of the rest, or to its place.
    pub(crate) fn push_swapped(&mut self, slot: Slot, request: &Request) {
        match self {
            WaitQueue::Fcfs { swapped, len, .. } => {
                swapped.push_back(slot);
                *len += 1;
            }
            WaitQueue::Priority(_) | WaitQueue::Keyed(_) => self.push(slot, request),
        }
    }

    /// The request that is next in order. Drops gaps it meets.
    pub(crate) fn head(&mut self, requests: &[Request]) -> Option<Slot> {
        match self {
            WaitQueue::Fcfs { swapped, deque, .. } => {
                if let Some(&slot) = swapped.front() {
                    return Some(slot);
                }
                while let Some(&(slot, generation)) = deque.front() {
                    let request = &requests[slot as usize];
                    if request.generation == generation && request.is_waiting() {
                        return Some(slot);
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
    pub(crate) fn take(&mut self, slot: Slot, requests: &[Request]) -> bool {
        if let WaitQueue::Keyed(keyed) = self {
            return keyed.remove(slot, &requests[slot as usize]);
        }
        let is_head = self.head(requests) == Some(slot);
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
            _ => {}
        }
        is_head
    }

    /// Closes the gaps once they are the larger part of the queue.
    pub(crate) fn close_gaps(&mut self, requests: &[Request]) {
        if let WaitQueue::Fcfs { deque, len, .. } = self
            && deque.len() > 2 * *len + 64
        {
            deque.retain(|&(slot, generation)| {
                let request = &requests[slot as usize];
                request.generation == generation && request.is_waiting()
            });
        }
    }

    /// Removes a request from anywhere in the queue. In FCFS order its entry stays as a gap: the caller ends the
    /// request, so that its generation passes.
    pub(crate) fn remove(&mut self, slot: Slot, request: &Request) {
        match self {
            WaitQueue::Fcfs { swapped, len, .. } => {
                *len -= 1;
                if request.swapped {
                    swapped.retain(|&s| s != slot);
                }
            }
            WaitQueue::Priority(set) => {
                set.remove(&priority_key(slot, request));
            }
            WaitQueue::Keyed(keyed) => {
                keyed.remove(slot, request);
            }
        }
    }
}
