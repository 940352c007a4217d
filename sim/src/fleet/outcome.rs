//! What a run gives, and why one stops.

use super::devices::Reading;
use super::drive::Effort;
use crate::digest::Digest;
use crate::results::rows::RecordError;
use crate::results::summary::Summary;
use crate::results::timeline::Timeline;
use crate::serving::step::Infeasible;
use crate::time::Time;
use crate::workload::arrival::{Unsorted, WorkloadError};

/// What a run gives, besides the recorder's rows.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// The figures.
    pub summary: Summary,
    /// Levels and rates over time.
    pub timeline: Timeline,
    /// What lanes had done when they were read, in time; empty unless [`Controllers::readings`](super::Controllers::readings) asks.
    pub readings: Vec<Reading>,
    /// When it ended.
    pub end: Time,
    /// What must not depend on how the run was made.
    pub digest: Digest,
    /// Work done by the simulator.
    pub effort: Effort,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
    /// Why the run ended before its time by itself, if it did: the rest is what there was by then.
    pub halted: Option<Halt>,
}

impl RunResult {
    /// The result of a run that did not halt.
    ///
    /// # Errors
    /// Why it halted.
    pub fn whole(self) -> Result<RunResult, RunError> {
        match self.halted {
            Some(halt) => Err(halt.into()),
            None => Ok(self),
        }
    }
}

/// Why a run ends before its time with what it has: its scheduler does not get on (law 14).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Halt {
    /// A replica with unfinished requests and nothing in flight plans nothing.
    #[error(
        "replica {replica} stalled at {at}: its scheduler, {policy}, plans nothing for {requests} unfinished requests, {waiting} of which wait"
    )]
    Stalled {
        /// The scheduler, as the specification names it.
        policy: &'static str,
        /// The replica.
        replica: u32,
        /// When.
        at: Time,
        /// Unfinished requests there.
        requests: u32,
        /// Those of them that wait.
        waiting: u32,
    },
    /// The requests of a replica preempt each other, and none gets further.
    #[error(
        "replica {replica} made no progress until {at}: under its scheduler, {policy}, {requests} unfinished requests preempt each other, and {plans} plans in a row only computed again what was dropped; give it more KV memory or another scheduler"
    )]
    NoProgress {
        /// The scheduler, as the specification names it.
        policy: &'static str,
        /// The replica.
        replica: u32,
        /// When this was known.
        at: Time,
        /// Unfinished requests there.
        requests: u32,
        /// Plans in a row that led nowhere.
        plans: u64,
    },
}

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The workload is broken at some point.
    #[error("{0}")]
    Workload(#[source] WorkloadError),
    /// The workload goes backwards in time.
    #[error(transparent)]
    Unsorted(#[from] Unsorted),
    /// A limit on requests under way, for sessions.
    #[error(
        "`max_concurrency` holds requests back in the order of a trace, and those of sessions wait for their own answers; bound the sessions that go on at once instead: `workload.clients`"
    )]
    SessionsHeldBack,
    /// The recorder could not keep a row.
    #[error("{0}")]
    Record(#[source] RecordError),
    /// A scheduler made an impossible plan.
    #[error("{0}")]
    Plan(#[from] Infeasible),
    /// The scheduler does not get on. A run keeps what it has and says so in [`RunResult::halted`]; [`RunResult::whole`] gives this.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// A router chose a replica that it was not shown.
    #[error("the router chose replica {chosen} at {at}, counted from 0; {of} take requests then")]
    Route {
        /// What it returned: an index into the replicas that take requests.
        chosen: usize,
        /// Replicas that take requests.
        of: usize,
        /// When.
        at: Time,
    },
    /// An eviction policy outside the specification would never be asked.
    #[error("an eviction policy is given, and it would never be asked: {0}")]
    Eviction(&'static str),
    /// Drafts that cannot be verified like that.
    #[error("speculation: {0}")]
    Speculation(&'static str),
    /// A step whose cost does not fit into [`Cost`](crate::cost::Cost).
    #[error(
        "a step of replica {replica} at {at} takes 4.9 hours or more, which no serving engine does; lower the times of the cost model or of engine.host"
    )]
    StepTooLong {
        /// The replica.
        replica: u32,
        /// When it begins.
        at: Time,
    },
    /// The next event lies beyond virtual time.
    #[error(
        "what comes after {after} lies more than 584 years after the start; lower the times of the scenario (think times, pauses, failures)"
    )]
    EndOfTime {
        /// When the last event was.
        after: Time,
    },
    /// The pool cannot hold one request of the maximal length.
    #[error(
        "max_model_len {max_model_len} needs {needed} KV blocks, the pool has {blocks}; lower max_model_len to {fits} or give the pool more memory"
    )]
    PoolTooSmall {
        /// Tokens of one request at most.
        max_model_len: u32,
        /// Blocks it needs.
        needed: u64,
        /// Blocks of the pool.
        blocks: u64,
        /// The longest that fits.
        fits: u64,
    },
    /// A law was broken: a bug in the simulator.
    #[error("law broken at {at} on replica {replica}: {what}")]
    Audit {
        /// The replica.
        replica: u32,
        /// When.
        at: Time,
        /// What.
        what: String,
    },
}

/// How far a run is, for progress displays.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Virtual time.
    pub now: Time,
    /// Requests that have arrived.
    pub arrived: u64,
    /// Requests that have ended.
    pub ended: u64,
}
