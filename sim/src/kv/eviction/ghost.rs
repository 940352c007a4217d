//! Contents that have left a cache and are remembered for a while, first in, first out.

use std::collections::VecDeque;

use crate::kv::table::Table;

/// Remembered contents. Sixteen bytes each in the order, and 32 to 64 in a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Ghost {
    /// Numbers under which contents came, void ones included.
    table: Table,
    /// Contents in the order in which they came; `None`: it was taken out.
    order: VecDeque<Option<u64>>,
    /// The number of the first in the order; numbers start anew with every refill of the table.
    first: u32,
    len: usize,
}

impl Ghost {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Contents are about to be looked up.
    pub(super) fn warm(&self, contents: &[u64]) {
        self.table.warm(contents.iter().copied());
    }

    /// Remembers a content as the youngest.
    pub(super) fn push(&mut self, content: u64) {
        self.take(content);
        self.len += 1;
        let number = u64::from(self.first) + self.order.len() as u64;
        self.order.push_back(Some(content));
        if self.table.is_full() || self.order.len() > 2 * self.len + 64 || number >= u64::from(u32::MAX) {
            self.order.retain(Option::is_some);
            self.first = 0;
            self.table.refill(self.len, self.order.iter().flatten().copied().zip(0..));
        } else {
            self.table.insert(content, number as u32);
        }
    }

    /// Forgets a content; whether it was there.
    pub(super) fn take(&mut self, content: u64) -> bool {
        let place = |number: u32| number.wrapping_sub(self.first) as usize;
        let found = self.table.find(content, |number| self.order.get(place(number)) == Some(&Some(content)));
        if let Some(number) = found {
            let place = place(number);
            self.order[place] = None;
            self.len -= 1;
        }
        found.is_some()
    }

    /// Forgets the oldest.
    pub(super) fn drop_oldest(&mut self) {
        while let Some(oldest) = self.order.pop_front() {
            self.first += 1;
            if oldest.is_some() {
                self.len -= 1;
                return;
            }
        }
    }

    /// Forgets the oldest until at most so many are left.
    pub(super) fn trim(&mut self, most: usize) {
        while self.len() > most {
            self.drop_oldest();
        }
    }
}
