//! Which turn of its session a request is.

use hashbrown::HashTable;

use crate::counter::finish;
use crate::workload::arrival::SessionId;

/// Turns of every session so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    counts: HashTable<(u64, u32)>,
}

impl Turns {
    /// Counts a request. Returns which turn it is, from 1.
    pub(super) fn count(&mut self, session: Option<SessionId>) -> u32 {
        let Some(session) = session.map(SessionId::get) else { return 1 };
        let entry = self.counts.entry(finish(session), |entry| entry.0 == session, |entry| finish(entry.0));
        let mut entry = entry.or_insert((session, 0));
        let turns = &mut entry.get_mut().1;
        *turns = turns.saturating_add(1);
        *turns
    }

    /// The turn counted last.
    pub(super) fn of(&self, session: Option<SessionId>) -> u32 {
        let Some(session) = session.map(SessionId::get) else { return 1 };
        self.counts.find(finish(session), |entry| entry.0 == session).map_or(1, |entry| entry.1)
    }
}
