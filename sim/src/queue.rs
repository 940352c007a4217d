//! The waiting queue: first come first served, or by priority.

use std::collections::{BTreeSet, VecDeque};

use crate::policy::QueueOrder;
use crate::request::{Request, Slot};

/// Key of the priority order: (priority, arrival key, id), smallest first; ids are vLLM's zero-padded strings.
type PriorityKey = (i32, u64, u64, Slot);

/// Requests waiting for admission.
#[derive(Clone, Debug)]
pub(crate) enum WaitQueue {
    /// A deque of (slot, generation); entries whose generation has passed are gaps left by cancellations.
    Fcfs {
        deque: VecDeque<(Slot, u32)>,
        len: usize,
    },
    Priority(BTreeSet<PriorityKey>),
}

fn priority_key(slot: Slot, request: &Request) -> PriorityKey {
    (request.priority, request.arrival_key, request.id, slot)
}

impl WaitQueue {
    pub(crate) fn new(order: QueueOrder) -> Self {
        match order {
            QueueOrder::Fcfs => WaitQueue::Fcfs { deque: VecDeque::new(), len: 0 },
            QueueOrder::Priority => WaitQueue::Priority(BTreeSet::new()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            WaitQueue::Fcfs { len, .. } => *len,
            WaitQueue::Priority(set) => set.len(),
        }
    }

    pub(crate) fn push(&mut self, slot: Slot, request: &Request) {
        match self {
            WaitQueue::Fcfs { deque, len } => {
                deque.push_back((slot, request.generation));
                *len += 1;
            }
            WaitQueue::Priority(set) => {
                set.insert(priority_key(slot, request));
            }
        }
    }

    /// Puts a preempted request back: to the front (first come, first served) or to its place.
    pub(crate) fn push_front(&mut self, slot: Slot, request: &Request) {
        match self {
            WaitQueue::Fcfs { deque, len } => {
                deque.push_front((slot, request.generation));
                *len += 1;
            }
            WaitQueue::Priority(_) => self.push(slot, request),
        }
    }

    /// The request that is next in order. Drops gaps it meets.
    pub(crate) fn head(&mut self, requests: &[Request]) -> Option<Slot> {
        match self {
            WaitQueue::Fcfs { deque, .. } => {
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
        }
    }

    /// Takes the head, which [`WaitQueue::head`] has just returned.
    pub(crate) fn pop_head(&mut self) {
        match self {
            WaitQueue::Fcfs { deque, len } => {
                deque.pop_front();
                *len -= 1;
            }
            WaitQueue::Priority(set) => {
                set.pop_first();
            }
        }
    }

    /// Closes the gaps once they are the larger part of the queue.
    pub(crate) fn close_gaps(&mut self, requests: &[Request]) {
        if let WaitQueue::Fcfs { deque, len } = self
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
            WaitQueue::Fcfs { len, .. } => *len -= 1,
            WaitQueue::Priority(set) => {
                set.remove(&priority_key(slot, request));
            }
        }
    }
}
