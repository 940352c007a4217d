//! What clients say to a driver, and what they hear.

use std::cmp::Ordering;

use overbook_sim::results::rows::{Outcome, RequestRow};
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::Arrival;
use tokio::sync::mpsc::UnboundedSender;

use crate::executor::{Bans, Sampling, Seat};

/// What ends a request before its output limit.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Stop {
    /// Tokens that end it; they are delivered. None: it goes on to the arrival's output length, whatever is drawn.
    pub tokens: Vec<u32>,
    /// Before it has this many output tokens, nothing ends it.
    pub min_tokens: u32,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Its lengths and wishes. `at` is when its client meant to send it: latencies count from then.
    pub arrival: Arrival,
    /// As many tokens as the arrival says, and those of the output that are known.
    pub prompt: Vec<u32>,
    /// How its tokens are drawn.
    pub sampling: Sampling,
    /// What is not drawn at first.
    pub bans: Bans,
    /// What ends it early.
    pub stop: Stop,
    /// Receives its tokens and its end.
    pub client: Option<UnboundedSender<Event>>,
}

/// Something that a client hears of its request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It got its number.
    Accepted {
        /// Needed to end it.
        id: u64,
    },
    /// A token is there.
    Token {
        /// Which.
        token: u32,
        /// The turn that delivered it.
        at: Time,
    },
    /// It has ended; nothing more comes.
    Ended(Box<RequestRow>),
}

/// A message to a driver.
#[derive(Debug)]
pub enum Message {
    /// A request.
    Submit(Box<Submission>),
    /// End a request early.
    End {
        /// Which.
        id: u64,
        /// As what: cancelled, or finished (its text was complete).
        outcome: Outcome,
    },
    /// End all requests as failed, and stop.
    Halt,
}

/// What the driver keeps of a request.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) generation: u32,
    /// Until its first step.
    pub(super) prompt: Vec<u32>,
    /// Whether the executor knows it.
    pub(super) begun: bool,
    pub(super) sampling: Sampling,
    pub(super) bans: Bans,
    pub(super) stop: Stop,
    pub(super) delivered: u32,
    pub(super) sender: Option<UnboundedSender<Event>>,
}

/// Why patience ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    MaxWait,
    Deadline,
    Cancel,
}

/// When a client's patience ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limit {
    pub(super) at: Time,
    pub(super) seat: Seat,
    pub(super) generation: u32,
    pub(super) why: Why,
}

impl Ord for Limit {
    /// Earliest first out of a [`std::collections::BinaryHeap`].
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |limit: &Limit| (limit.at, limit.seat, limit.generation, limit.why as u8);
        key(other).cmp(&key(self))
    }
}

impl PartialOrd for Limit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
