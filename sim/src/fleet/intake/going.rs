//! The sessions that are going on, as far as a fleet has to know of them.

use std::collections::BTreeMap;

use crate::results::rows::{RequestRow, SessionRow};
use crate::time::Time;
use crate::workload::sessions::{Opened, Turn};

/// A session that is open.
#[derive(Debug)]
struct Session {
    /// Number of its first request, once it is sent.
    first: Option<u64>,
    row: SessionRow,
}

/// The open sessions, and which of their requests are under way.
#[derive(Default, Debug)]
pub(super) struct Going {
    turns: BTreeMap<u64, Turn>,
    sessions: BTreeMap<u32, Session>,
    /// Requests of open sessions that were not sent yet.
    unsent: u64,
}

impl Going {
    pub(super) fn open(&mut self, opened: &Opened, now: Time) {
        self.unsent += u64::from(opened.requests);
        let session = Session { first: None, row: SessionRow::begin(opened.session, now) };
        self.sessions.insert(opened.number, session);
    }

    /// The request with this number is that of a turn.
    pub(super) fn send(&mut self, request: u64, turn: Turn) {
        self.unsent -= 1;
        self.turns.insert(request, turn);
        if let Some(session) = self.sessions.get_mut(&turn.session) {
            session.first.get_or_insert(request);
        }
    }

    /// A request has ended; says whether it was the first of its session.
    pub(super) fn book(&mut self, row: &RequestRow) -> Option<bool> {
        let session = self.sessions.get_mut(&self.turns.get(&row.request)?.session)?;
        let first = session.first == Some(row.request);
        if first {
            session.row.first_ttft = row.ttft();
        }
        session.row.add(row);
        Some(first)
    }

    /// Takes the turn of a request that has ended.
    pub(super) fn take(&mut self, request: u64) -> Option<Turn> {
        self.turns.remove(&request)
    }

    /// Takes the row of a session that is over.
    pub(super) fn close(&mut self, session: u32) -> Option<SessionRow> {
        self.sessions.remove(&session).map(|session| session.row)
    }

    /// Whether every request of the open sessions was sent.
    pub(super) fn all_sent(&self) -> bool {
        self.unsent == 0
    }
}
