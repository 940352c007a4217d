//! The way from the workload to the fleet: the next request, and when its client may send it.

use super::outcome::RunError;
use crate::time::{Span, Time};
use crate::workload::arrival::{Arrival, Unsorted, Workload};

/// Reads the workload, one request ahead of the run.
pub(super) struct Intake<'a> {
    workload: &'a mut dyn Workload,
    /// The next request of an open loop.
    next: Option<Arrival>,
    /// Requests that the client has under way at most, open loop.
    most: Option<u64>,
    /// When a client that had as many requests under way as it may could send the next one.
    freed: Time,
    /// The workload has no further request.
    pub(super) exhausted: bool,
}

impl<'a> Intake<'a> {
    pub(super) fn new(workload: &'a mut dyn Workload, most: Option<u32>) -> Intake<'a> {
        Intake { workload, next: None, most: most.map(u64::from), freed: Time::ZERO, exhausted: false }
    }

    /// Reads the first request of an open loop.
    pub(super) fn open(&mut self) -> Result<(), RunError> {
        self.next = self.workload.next_arrival().map_err(RunError::Workload)?;
        self.exhausted = self.next.is_none();
        Ok(())
    }

    /// When the next request is sent: at its time, or once the client has one less under way. `None` while it has as many as
    /// it may.
    pub(super) fn next_sent(&self, under_way: u64) -> Option<Time> {
        let free = self.most.is_none_or(|most| under_way < most);
        self.next.as_ref().filter(|_| free).map(|arrival| arrival.at.max(self.freed))
    }

    /// Takes the next request, which is sent at `sent`; `arrived` requests came before it.
    pub(super) fn take(&mut self, sent: Time, arrived: u64) -> Result<Option<Arrival>, RunError> {
        let following = self.workload.next_arrival().map_err(RunError::Workload)?;
        self.exhausted = following.is_none();
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
        self.exhausted |= next.is_none();
        Ok(next.map(|arrival| Arrival { at: now, ..arrival }))
    }

    /// A request is about to end, with so many under way.
    pub(super) fn ends(&mut self, now: Time, under_way: u64) {
        if self.most == Some(under_way) {
            // A moment later, like a closed-loop client: whatever else ends at the same time does so first.
            self.freed = now + Span(1);
        }
    }

    pub(super) fn classes(&self) -> &[String] {
        self.workload.classes()
    }
}
