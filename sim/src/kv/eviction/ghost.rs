//! Contents that have left a cache and are remembered for a while, first in, first out.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::counter::finish;

/// Remembered contents. Sixteen bytes each in a table and as many in the order.
#[derive(Clone, Debug, Default)]
pub(super) struct Ghost {
    /// Content, and the number under which it came.
    table: HashTable<(u64, u64)>,
    /// The same in the order in which they came; those that were taken out in between stand here for a while.
    order: VecDeque<(u64, u64)>,
    came: u64,
}

impl Ghost {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Remembers a content as the youngest.
    pub(super) fn push(&mut self, content: u64) {
        self.take(content);
        let entry = (content, self.came);
        self.came += 1;
        self.table.insert_unique(finish(content), entry, |entry| finish(entry.0));
        self.order.push_back(entry);
        if self.order.len() > 2 * self.table.len() + 64 {
            let table = &self.table;
            self.order.retain(|entry| table.find(finish(entry.0), |other| other == entry).is_some());
        }
    }

    /// Forgets a content; whether it was there.
    pub(super) fn take(&mut self, content: u64) -> bool {
        let found = self.table.find_entry(finish(content), |entry| entry.0 == content);
        found.is_ok_and(|entry| {
            entry.remove();
            true
        })
    }

    /// Forgets the oldest.
    pub(super) fn drop_oldest(&mut self) {
        while let Some(oldest) = self.order.pop_front() {
            let found = self.table.find_entry(finish(oldest.0), |entry| *entry == oldest);
            if let Ok(entry) = found {
                entry.remove();
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
