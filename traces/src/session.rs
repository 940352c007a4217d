//! Sessions of a trace: which requests belong to one user's conversation.
//!
//! A session is known by a 63-bit hash of its id as written, so that nothing must be remembered; ids that name the turn
//! before (`parent`) are followed to the first turn of their session, at 16 bytes of memory per row.

use std::collections::HashMap;

use overbook_sim::counter::finish;
use overbook_sim::workload::arrival::SessionId;

use crate::table::Row;

/// Where a row says to which session it belongs.
#[derive(Clone, Debug)]
pub(crate) struct SessionColumn {
    id: usize,
    parent: Option<usize>,
    /// Whether ids that are numbers are the sessions themselves, as this program writes them.
    numbered: bool,
    /// The first turn of the session of each turn so far, if turns name their parents.
    roots: HashMap<u64, u64>,
}

impl SessionColumn {
    pub(crate) fn new(id: usize, parent: Option<usize>) -> SessionColumn {
        SessionColumn { id, parent, numbered: false, roots: HashMap::new() }
    }

    /// A column in which this program has written sessions.
    pub(crate) fn written(id: usize) -> SessionColumn {
        SessionColumn { numbered: true, ..SessionColumn::new(id, None) }
    }

    /// The columns that are read.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(self.id).chain(self.parent)
    }

    /// Starts over at the first row.
    pub(crate) fn rewind(&mut self) {
        self.roots.clear();
    }

    /// The session of a row, which is to be asked of every row; `None` if its id is empty, as that of `BurstGPT`'s API
    /// requests is.
    pub(crate) fn of(&mut self, row: &Row<'_>) -> Option<SessionId> {
        let id = row.word(self.id);
        let id = id.trim_ascii();
        if id.is_empty() {
            return None;
        }
        let number = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).filter(|_| self.numbered);
        if let Some(number) = number {
            return Some(SessionId::new(number));
        }
        let id = hash(id);
        let Some(parent) = self.parent else { return Some(SessionId::new(id)) };
        let root = match row.word(parent).trim_ascii() {
            b"" | b"-1" => id,
            // The turns before the part that was recorded are unknown.
            parent => {
                let parent = hash(parent);
                self.roots.get(&parent).copied().unwrap_or(parent)
            }
        };
        self.roots.insert(id, root);
        Some(SessionId::new(root))
    }
}

/// FNV-1a, well mixed (the finalizer of `SplitMix64`).
pub(crate) fn hash(text: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    finish(text.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}
