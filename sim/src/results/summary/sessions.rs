//! Figures of sessions whose requests follow on one another.

use crate::results::histogram::Histogram;
use crate::results::rows::{RequestRow, SessionRow};

/// The sessions of a run. Each distribution but those of `ttft` counts every session that is over once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SessionFigures {
    /// Sessions that were opened.
    pub opened: u64,
    /// Those that are over: all their requests have ended, in whatever way.
    pub over: u64,
    /// Those of them of which every request finished.
    pub finished: u64,
    /// Last end - first sent [ns].
    pub duration: Histogram,
    /// Requests of a session.
    pub requests: Histogram,
    /// Prompt tokens that a session asked for.
    pub prompt: Histogram,
    /// Those that were found in the prefix cache.
    pub cached: Histogram,
    /// Prompt tokens that were computed for a session.
    pub computed: Histogram,
    /// Time in which a session waited for answers [ns].
    pub waited: Histogram,
    /// `ttft` of finished requests that were the first of their session [ns].
    pub first_ttft: Histogram,
    /// `ttft` of the other finished requests of sessions [ns].
    pub later_ttft: Histogram,
}

impl SessionFigures {
    /// A session is over.
    pub(super) fn over(&mut self, row: &SessionRow) {
        self.over += 1;
        self.finished += u64::from(row.is_whole());
        self.duration.record((row.end - row.start).0);
        self.requests.record(u64::from(row.requests));
        self.prompt.record(row.prompt_tokens);
        self.cached.record(row.cached_tokens);
        self.computed.record(row.computed_tokens);
        self.waited.record(row.waited.0);
    }

    /// A request has finished.
    pub(super) fn turn(&mut self, row: &RequestRow, first: bool) {
        if let Some(ttft) = row.ttft() {
            let histogram = if first { &mut self.first_ttft } else { &mut self.later_ttft };
            histogram.record(ttft.0);
        }
    }

    pub(super) fn merge(&mut self, other: &SessionFigures) {
        self.opened += other.opened;
        self.over += other.over;
        self.finished += other.finished;
        self.duration.merge(&other.duration);
        self.requests.merge(&other.requests);
        self.prompt.merge(&other.prompt);
        self.cached.merge(&other.cached);
        self.computed.merge(&other.computed);
        self.waited.merge(&other.waited);
        self.first_ttft.merge(&other.first_ttft);
        self.later_ttft.merge(&other.later_ttft);
    }
}
