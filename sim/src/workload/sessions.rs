//! Sessions whose requests follow on one another: the next one is sent when the answer to the one before has come, and its user
//! has thought.

use super::arrival::{Arrival, SessionId, WorkloadError};
use crate::time::Time;

/// One request of a session that is open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Turn {
    /// Which of the open sessions; the number of one that is over is given out again.
    pub session: u32,
    /// Its place in the session, from 0.
    pub turn: u32,
}

/// A session that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its number among the open ones, as in [`Turn::session`].
    pub number: u32,
    /// Its identity, as in [`Arrival::session`].
    pub session: SessionId,
    /// Requests that it will send, 1 or more.
    pub requests: u32,
    /// Those that wait for nothing, and when each is sent; at least one.
    pub turns: Vec<(Time, Turn)>,
}

/// What follows on a request that has ended.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Followed {
    /// Requests that are sent now or later, and when.
    pub turns: Vec<(Time, Turn)>,
    /// Nothing of the session is left.
    pub over: bool,
}

/// Sessions that a fleet opens, and whose requests it asks for one by one. An open session is in memory; others are not.
pub trait Sessions {
    /// Whether any request waits for an answer. If none does, all times are known beforehand.
    fn waits(&self) -> bool;

    /// When the next session starts by itself: never before the one before. `None` at the end. Not asked in a closed loop of
    /// clients, each of whom opens a session when its last one is over.
    ///
    /// # Errors
    /// The source is broken at this point, or says nothing of starts.
    fn next_start(&mut self) -> Result<Option<Time>, WorkloadError>;

    /// Opens the next session now; `None` at the end.
    ///
    /// # Errors
    /// The source is broken at this point.
    fn open(&mut self, now: Time) -> Result<Option<Opened>, WorkloadError>;

    /// The request of a turn, which is sent now.
    fn send(&mut self, turn: Turn, now: Time) -> Arrival;

    /// The request of a turn has ended, and its client knows since `at`. A session that is over is closed.
    fn ended(&mut self, turn: Turn, at: Time) -> Followed;
}
