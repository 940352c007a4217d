//! What a row of a trace says, before and after it is taken.

use overbook_sim::time::Span;
use overbook_sim::workload::arrival::{ClassId, Content, SessionId};

/// What a row says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Decoded {
    /// When [ns since the file's own origin].
    pub(crate) at_ns: u64,
    pub(crate) outcome: Outcome,
}

/// What becomes of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Request {
        prompt_tokens: u32,
        output_tokens: u32,
        class: ClassId,
        priority: i32,
    },
    /// A failed request: it has no lengths.
    Failed {
        class: ClassId,
        priority: i32,
    },
    /// The `keep` filter does not want it.
    Filtered,
    /// It is none: another event in the log, warm-up, or one that no engine has seen.
    NoRequest,
}

impl Outcome {
    /// A request with a length of 0 has failed, in whatever format.
    pub(crate) fn of(prompt_tokens: u32, output_tokens: u32, class: ClassId, priority: i32) -> Outcome {
        if prompt_tokens == 0 || output_tokens == 0 {
            return Outcome::Failed { class, priority };
        }
        Outcome::Request { prompt_tokens, output_tokens, class, priority }
    }
}

/// A request that is to be replayed, with the file's own time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Recorded {
    pub(crate) at_ns: u64,
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    pub(crate) class: ClassId,
    pub(crate) priority: i32,
    pub(crate) content: Option<Box<Content>>,
    pub(crate) session: Option<SessionId>,
    /// How long the recorded service took for the whole answer.
    pub(crate) e2el: Option<Span>,
    /// It failed, and is kept as it is: without a size.
    pub(crate) failed: bool,
}
