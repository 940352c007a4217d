//! What a workload hands to the simulation: one request at a time, in order of arrival.

use std::num::NonZeroU64;

use super::sessions::Sessions;
use crate::time::{Span, Time};

/// Index of a request class (model tag, log type, tenant) in [`Workload::classes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ClassId(pub u16);

/// Identity of a session: requests of one user that follow one another. Never 0, and below 2⁶³.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(NonZeroU64);

impl SessionId {
    /// The session with this number; its highest bit does not count, and 0 is taken for 1.
    pub fn new(number: u64) -> SessionId {
        SessionId(NonZeroU64::new(number & (u64::MAX >> 1)).unwrap_or(NonZeroU64::MIN))
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// Identity of the content of a request's full KV blocks, for prefix caching.
///
/// Ids are *chained*: equal id means equal content **and** equal prefix, so the id alone is the cache key.
/// The sequence covers the full blocks of the prompt and, where known, goes on with the output's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// Tokens per block that the ids stand for.
    pub block_tokens: u32,
    /// One chained id per full block, from the start of the prompt.
    pub ids: Box<[u64]>,
}

/// One request as the outside world makes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When the request reaches the router.
    pub at: Time,
    /// Prompt length [tokens], at least 1 unless the request failed in the trace.
    pub prompt_tokens: u32,
    /// True output length [tokens], at least 1 unless the request failed in the trace. Hidden from every policy (law 9).
    pub output_tokens: u32,
    /// Output limit that the client states and policies may see [tokens]; `None` means "up to the context length".
    pub max_new_tokens: Option<u32>,
    /// The client wants the whole limit: no token ends the output before it, and schedulers may count on that.
    pub ignore_eos: bool,
    /// Request class.
    pub class: ClassId,
    /// Smaller is more urgent (vLLM's convention).
    pub priority: i32,
    /// The replica whose own client sends it, if replicas have their own: the router is not asked.
    pub home: Option<u32>,
    /// Prefix identity, when the trace knows it.
    pub content: Option<Box<Content>>,
    /// Session, when the workload knows it; nothing but the result rows looks at it.
    pub session: Option<SessionId>,
    /// How long the recorded service took for the whole answer, when the trace knows it; the simulation never looks.
    pub recorded_e2el: Option<Span>,
    /// The request failed in the trace: it has no lengths (both are 0), reaches no replica and ends where it arrives, as
    /// [`FailedInTrace`](crate::results::rows::Outcome::FailedInTrace).
    pub failed_in_trace: bool,
    /// The client gives up if the request was not started this long after arrival.
    pub max_wait: Option<Span>,
    /// The client gives up if the request has not finished this long after arrival.
    pub deadline: Option<Span>,
    /// The client disconnects this long after arrival (a recorded cancellation).
    pub cancel_after: Option<Span>,
}

impl Arrival {
    /// A plain request: no class, priority 0, no home, no content identity, no session, no limits.
    pub fn new(at: Time, prompt_tokens: u32, output_tokens: u32) -> Self {
        Arrival {
            at,
            prompt_tokens,
            output_tokens,
            max_new_tokens: None,
            ignore_eos: false,
            class: ClassId(0),
            priority: 0,
            home: None,
            content: None,
            session: None,
            recorded_e2el: None,
            failed_in_trace: false,
            max_wait: None,
            deadline: None,
            cancel_after: None,
        }
    }

    /// A request that failed in the trace: see [`Arrival::failed_in_trace`].
    pub fn failed(at: Time) -> Self {
        Arrival { failed_in_trace: true, ..Arrival::new(at, 0, 0) }
    }
}

/// Why a workload could not deliver its next request (a broken trace line, say); carries its own location.
pub type WorkloadError = Box<dyn std::error::Error + Send + Sync>;

/// A workload that goes backwards in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("request {request} arrives at {at}, before the one before it at {before}; arrivals must be sorted by time")]
pub struct Unsorted {
    /// Number of the request.
    pub request: u64,
    /// Its arrival.
    pub at: Time,
    /// The arrival before.
    pub before: Time,
}

/// A source of requests, read lazily: one arrival is in memory at a time.
pub trait Workload {
    /// The next request, in order of arrival; `None` at the end.
    ///
    /// # Errors
    /// The source is broken at this point (it says where); the run stops.
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError>;

    /// Names of the classes that [`Arrival::class`] indexes. May grow while reading.
    fn classes(&self) -> &[String];

    /// Its sessions, if requests follow on one another in ways that it knows. A fleet then opens them and asks for their requests
    /// one by one; whoever reads on with [`Workload::next_arrival`] gets the same requests at the times at which they were recorded.
    fn sessions(&mut self) -> Option<&mut dyn Sessions> {
        None
    }

    /// What became of the rows of a recorded trace that were read so far: a name for it, and the number of rows. Empty for
    /// requests that were not recorded.
    fn rows(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
