//! What a workload hands to the simulation: one request at a time, in order of arrival.

use crate::time::{Span, Time};

/// Index of a request class (model tag, log type, tenant) in [`Workload::classes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ClassId(pub u16);

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
    /// Prompt length [tokens], at least 1.
    pub prompt_tokens: u32,
    /// True output length [tokens], at least 1. Hidden from every policy (law 9).
    pub output_tokens: u32,
    /// Output limit that the client states and policies may see [tokens]; `None` means "up to the context length".
    pub max_new_tokens: Option<u32>,
    /// Request class.
    pub class: ClassId,
    /// Smaller is more urgent (vLLM's convention).
    pub priority: i32,
    /// Prefix identity, when the trace knows it.
    pub content: Option<Box<Content>>,
    /// The client gives up if the request was not started this long after arrival.
    pub max_wait: Option<Span>,
    /// The client gives up if the request has not finished this long after arrival.
    pub deadline: Option<Span>,
    /// The client disconnects this long after arrival (a recorded cancellation).
    pub cancel_after: Option<Span>,
}

impl Arrival {
    /// A plain request: no class, priority 0, no content identity, no limits.
    pub fn new(at: Time, prompt_tokens: u32, output_tokens: u32) -> Self {
        Arrival {
            at,
            prompt_tokens,
            output_tokens,
            max_new_tokens: None,
            class: ClassId(0),
            priority: 0,
            content: None,
            max_wait: None,
            deadline: None,
            cancel_after: None,
        }
    }
}

/// Why a workload could not deliver its next request (a broken trace line, say); carries its own location.
pub type WorkloadError = Box<dyn std::error::Error + Send + Sync>;

/// A source of requests, read lazily: one arrival is in memory at a time.
pub trait Workload {
    /// The next request, in order of arrival; `None` at the end.
    ///
    /// # Errors
    /// The source is broken at this point (it says where); the run stops.
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError>;

    /// Names of the classes that [`Arrival::class`] indexes. May grow while reading.
    fn classes(&self) -> &[String];
}
