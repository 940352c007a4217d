//! The way from the workload to the fleet: the next request, when its client may send it, and what follows on its end.

mod going;

use super::outcome::RunError;
use crate::results::rows::{RequestRow, SessionRow};
use crate::time::{Span, Time};
use crate::workload::arrival::{Arrival, Unsorted, Workload};
use crate::workload::sessions::{Opened, Turn};
use going::Going;

/// Reads the workload, one request ahead of the run; of a workload with sessions, what is open.
pub(super) struct Intake<'a> {
    workload: &'a mut dyn Workload,
    /// The next request of an open loop.
    next: Option<Arrival>,
    /// Requests that the client has under way at most, open loop.
    most: Option<u64>,
    /// When a client that had as many requests under way as it may could send the next one.
    freed: Time,
    /// The workload has no further request, or no further session.
    at_end: bool,
    /// What is open of a workload with sessions.
    going: Option<Going>,
    /// When the next session starts, open loop.
    start: Option<Time>,
}

/// What follows on the end of a request.
pub(super) struct Follow {
    /// Requests of its session that are sent now or later.
    pub(super) turns: Vec<(Time, Turn)>,
    /// Its client is free: what the request belongs to is over. A request of no session is over with itself.
    pub(super) over: bool,
    /// The session that is over.
    pub(super) session: Option<SessionRow>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(workload: &'a mut dyn Workload, most: Option<u32>) -> Result<Intake<'a>, RunError> {
        let going = workload.sessions().map(|_| Going::default());
        if going.is_some() && most.is_some() {
            return Err(RunError::SessionsHeldBack);
        }
        let (most, freed) = (most.map(u64::from), Time::ZERO);
        Ok(Intake { workload, next: None, most, freed, at_end: false, going, start: None })
    }

    /// Whether it opens sessions.
    pub(super) fn has_sessions(&self) -> bool {
        self.going.is_some()
    }

    /// Whether no further request will come.
    pub(super) fn exhausted(&self) -> bool {
        self.at_end && self.going.as_ref().is_none_or(Going::all_sent)
    }

    /// Reads the first request of an open loop, or when its first session starts.
    pub(super) fn open(&mut self) -> Result<(), RunError> {
        if let Some(sessions) = self.workload.sessions() {
            self.start = sessions.next_start().map_err(RunError::Workload)?;
            self.at_end = self.start.is_none();
            return Ok(());
        }
        self.next = self.workload.next_arrival().map_err(RunError::Workload)?;
        self.at_end = self.next.is_none();
        Ok(())
    }

    /// When the next request is sent: at its time, or once the client has one less under way. `None` while it has as many as
    /// it may. Of a workload with sessions: when the next one starts.
    pub(super) fn next_sent(&self, under_way: u64) -> Option<Time> {
        if self.start.is_some() {
            return self.start;
        }
        let free = self.most.is_none_or(|most| under_way < most);
        self.next.as_ref().filter(|_| free).map(|arrival| arrival.at.max(self.freed))
    }

    /// Takes the next request, which is sent at `sent`; `arrived` requests came before it.
    pub(super) fn take(&mut self, sent: Time, arrived: u64) -> Result<Option<Arrival>, RunError> {
        let following = self.workload.next_arrival().map_err(RunError::Workload)?;
        self.at_end = following.is_none();
        let Some(mut arrival) = std::mem::replace(&mut self.next, following) else { return Ok(None) };
        if let Some(following) = &self.next
            && following.at < arrival.at
        {
            let (at, before) = (following.at, arrival.at);
            return Err(Unsorted { request: arrived + 1, at, before }.into());
        }
        arrival.at = sent;
        Ok(Some(arrival))
    }

    /// Takes the next request of a closed loop, whatever its time, for a client that sends it now.
    pub(super) fn take_now(&mut self, now: Time) -> Result<Option<Arrival>, RunError> {
        let next = self.workload.next_arrival().map_err(RunError::Workload)?;
        self.at_end |= next.is_none();
        Ok(next.map(|arrival| Arrival { at: now, ..arrival }))
    }

    /// Opens the next session now; `None` if there is none.
    pub(super) fn open_session(&mut self, now: Time) -> Result<Option<Opened>, RunError> {
        let (Some(sessions), Some(going)) = (self.workload.sessions(), &mut self.going) else { return Ok(None) };
        let opened = sessions.open(now).map_err(RunError::Workload)?;
        if let Some(opened) = &opened {
            going.open(opened, now);
        } else {
            self.at_end = true;
        }
        if self.start.is_some() {
            self.start = sessions.next_start().map_err(RunError::Workload)?;
            self.at_end = self.start.is_none();
        }
        Ok(opened)
    }

    /// The request of a turn, which is sent now and has this number.
    pub(super) fn send(&mut self, turn: Turn, now: Time, request: u64) -> Option<Arrival> {
        self.going.as_mut()?.send(request, turn);
        Some(self.workload.sessions()?.send(turn, now))
    }

    /// A request is about to end, with so many under way.
    pub(super) fn ends(&mut self, now: Time, under_way: u64) {
        if self.most == Some(under_way) {
            // A moment later, like a closed-loop client: whatever else ends at the same time does so first.
            self.freed = now + Span(1);
        }
    }

    /// A request of a session has ended; says whether it was the first of its session.
    pub(super) fn book(&mut self, row: &RequestRow) -> Option<bool> {
        self.going.as_mut()?.book(row)
    }

    /// What follows on a request that has ended, and whose client knows since `at`.
    pub(super) fn follow(&mut self, request: u64, at: Time) -> Follow {
        let alone = Follow { turns: Vec::new(), over: true, session: None };
        let (Some(sessions), Some(going)) = (self.workload.sessions(), &mut self.going) else { return alone };
        let Some(turn) = going.take(request) else { return alone };
        let followed = sessions.ended(turn, at);
        let session = followed.over.then(|| going.close(turn.session)).flatten();
        Follow { turns: followed.turns, over: followed.over, session }
    }

    pub(super) fn classes(&self) -> &[String] {
        self.workload.classes()
    }
}
