//! Sessions that are opened, and what follows on requests that have ended.

use super::Running;
use crate::fleet::RunError;
use crate::fleet::controller::Timer;
use crate::fleet::drive::Stop;
use crate::fleet::intake::Follow;
use crate::fleet::kernel::RANK_ARRIVAL;
use crate::time::{Span, Time};

impl Running<'_> {
    /// The next session of the workload begins, if there is one.
    pub(super) fn open_session(&mut self) -> Result<(), RunError> {
        let now = self.kernel.now;
        let Some(opened) = self.intake.open_session(now)? else { return Ok(()) };
        self.kernel.sink.tally.session_opens();
        for (at, turn) in opened.turns {
            self.kernel.timer(at.max(now), RANK_ARRIVAL, Timer::Turn(turn));
        }
        Ok(())
    }

    /// A request has ended, and its client knows since then: what follows on it is scheduled.
    pub(super) fn follow(&mut self, request: u64, known: Time, pause: Option<Span>) -> Result<(), RunError> {
        // Never at this same moment: lanes that are due now may have planned already.
        let soonest = self.kernel.now + Span(1);
        let Follow { turns, over, session } = self.intake.follow(request, known);
        for (at, turn) in turns {
            self.kernel.timer(at.max(soonest), RANK_ARRIVAL, Timer::Turn(turn));
        }
        if let Some(pause) = pause.filter(|_| over) {
            self.kernel.timer((known + pause).max(soonest), RANK_ARRIVAL, Timer::Client);
        }
        if let Some(session) = session {
            self.kernel.sink.tally.session(&session);
            let kept = self.kernel.sink.recorder.session(&session);
            kept.map_err(|error| self.kernel.stop(0, Stop::Record(error)))?;
        }
        Ok(())
    }
}
