//! The calendar: what happens next.
//!
//! Entries are ordered by (time, rank, sequence), so that ties never depend on chance: a smaller rank comes first, and equal
//! ranks in the order in which they were scheduled. An entry can be cancelled by its ticket.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// Claims a scheduled entry, to cancel it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    slot: u32,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry<E> {
    time: Time,
    /// Rank above, sequence below.
    order: u64,
    slot: u32,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.time, self.order) == (other.time, other.order)
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.order).cmp(&(other.time, other.order))
    }
}

/// 2⁴⁰ entries in a run, 2²⁴ ranks.
const SEQUENCE_BITS: u32 = 40;
const IDLE: u64 = u64::MAX;

/// A queue of future events.
#[derive(Clone, Debug)]
pub struct Calendar<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    /// Order of the live entry of each ticket slot, `IDLE` if none.
    live: Vec<u64>,
    free: Vec<u32>,
    sequence: u64,
}

impl<E: Copy> Default for Calendar<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Copy> Calendar<E> {
    /// An empty calendar.
    pub fn new() -> Self {
        Calendar { heap: BinaryHeap::new(), live: Vec::new(), free: Vec::new(), sequence: 0 }
    }

    /// Schedules `event`.
    pub fn schedule(&mut self, time: Time, rank: u32, event: E) -> Ticket {
        assert!(rank < 1 << (u64::BITS - SEQUENCE_BITS) && self.sequence < 1 << SEQUENCE_BITS, "the calendar is full");
        let order = u64::from(rank) << SEQUENCE_BITS | self.sequence;
        self.sequence += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.live.push(IDLE);
            (self.live.len() - 1) as u32
        });
        self.live[slot as usize] = order;
        self.heap.push(Reverse(Entry { time, order, slot, event }));
        Ticket { slot, sequence: order }
    }

    /// Cancels an entry; nothing happens if it has fired already.
    pub fn cancel(&mut self, ticket: Ticket) {
        let live = &mut self.live[ticket.slot as usize];
        if *live == ticket.sequence {
            *live = IDLE;
        }
    }

    fn drop_cancelled(&mut self) {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if self.live[entry.slot as usize] == entry.order {
                return;
            }
            self.free.push(entry.slot);
            self.heap.pop();
        }
    }

    /// Time and rank of the next event.
    pub fn peek(&mut self) -> Option<(Time, u32)> {
        self.drop_cancelled();
        self.heap.peek().map(|Reverse(e)| (e.time, (e.order >> SEQUENCE_BITS) as u32))
    }

    /// Entries held, cancelled ones that have not been met yet included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is scheduled.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Drops cancelled entries and those that `keep` does not want, so that memory follows what can still happen.
    pub fn retain(&mut self, keep: impl Fn(&E) -> bool) {
        let (live, free) = (&mut self.live, &mut self.free);
        self.heap.retain(|Reverse(entry)| {
            let wanted = live[entry.slot as usize] == entry.order && keep(&entry.event);
            if !wanted {
                live[entry.slot as usize] = IDLE;
                free.push(entry.slot);
            }
            wanted
        });
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        self.drop_cancelled();
        let Reverse(entry) = self.heap.pop()?;
        self.live[entry.slot as usize] = IDLE;
        self.free.push(entry.slot);
        Some((entry.time, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_by_time_then_rank_then_sequence_and_forgets_cancelled_entries() {
        let mut calendar = Calendar::new();
        calendar.schedule(Time(5), 2, 'd');
        calendar.schedule(Time(5), 1, 'b');
        let gone = calendar.schedule(Time(1), 0, 'x');
        calendar.schedule(Time(5), 1, 'c');
        calendar.schedule(Time(4), 9, 'a');
        calendar.cancel(gone);
        let order: String = std::iter::from_fn(|| calendar.pop().map(|e| e.1)).collect();
        assert_eq!(order, "abcd");
        let doomed = calendar.schedule(Time(20), 0, 'z');
        calendar.schedule(Time(9), 0, 'w');
        calendar.retain(|&event| event != 'w');
        assert_eq!(calendar.len(), 1);
        calendar.cancel(doomed);
        calendar.retain(|_| true);
        assert!(calendar.is_empty());
        let late = calendar.schedule(Time(9), 0, 'y');
        calendar.cancel(gone); // an old ticket does not touch the new entry
        assert_eq!(calendar.peek(), Some((Time(9), 0)));
        calendar.cancel(late);
        assert_eq!(calendar.pop(), None);
    }
}
