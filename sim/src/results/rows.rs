//! Typed result rows and the recorder that receives them. One row type per file of the run directory.

use crate::time::{Span, Time};
use crate::workload::arrival::{Arrival, ClassId, SessionId};

/// How a request ended. Every request ends exactly once (law 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// All output tokens were delivered.
    Finished,
    /// The client disconnected.
    Cancelled,
    /// Its maximal wait or deadline passed.
    Expired,
    /// Refused on arrival: it could never run (larger than the context or the pool) or a limit refused it.
    Rejected,
    /// The replica lost it.
    Failed,
    /// It had failed in the trace already, and was kept to be counted: no replica has seen it, no promise covers it.
    FailedInTrace,
}

impl Outcome {
    /// All outcomes, in the order of their codes.
    pub const ALL: [Outcome; 6] = [
        Outcome::Finished,
        Outcome::Cancelled,
        Outcome::Expired,
        Outcome::Rejected,
        Outcome::Failed,
        Outcome::FailedInTrace,
    ];

    /// The name used in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Finished => "finished",
            Outcome::Cancelled => "cancelled",
            Outcome::Expired => "expired",
            Outcome::Rejected => "rejected",
            Outcome::Failed => "failed",
            Outcome::FailedInTrace => "failed-in-trace",
        }
    }
}

/// One ended request: a row of `requests.parquet`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestRow {
    /// Number of the request in arrival order, from 0.
    pub request: u64,
    /// Replica that had it last; 0 for one that [failed in the trace](Outcome::FailedInTrace), which none had.
    pub replica: u32,
    /// Its class.
    pub class: ClassId,
    /// Its session, if the workload knows it.
    pub session: Option<SessionId>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it reached the router.
    pub arrival: Time,
    /// When it was first part of a step plan.
    pub start: Option<Time>,
    /// When its first token was delivered.
    pub first_token: Option<Time>,
    /// When it ended.
    pub end: Time,
    /// Prompt length [tokens].
    pub prompt_tokens: u32,
    /// Tokens delivered.
    pub output_tokens: u32,
    /// Prompt tokens served from the prefix cache at its first admission.
    pub cached_tokens: u32,
    /// How often it was preempted.
    pub preemptions: u32,
    /// Tokens computed again because of preemptions.
    pub recomputed_tokens: u64,
    /// Longest time between two of its tokens, if it finished with two or more (the paper's `MTPOT`, max time per output token).
    pub longest_gap: Option<Span>,
    /// Tokens whose KV was copied to the host by preemptions (and back, if it was taken up again).
    pub swapped_tokens: u64,
    /// What the server's front end added between client and engine: HTTP, tokeniser, detokeniser, streams. Zero unless it finished.
    pub frontend: Span,
    /// How often its client sent it. Of one sent again, arrival and start are the first attempt's, everything else is the last's.
    pub attempts: u32,
}

impl RequestRow {
    /// The row of a request that ends where it arrives, without having been served.
    pub fn without_service(request: u64, replica: u32, arrival: &Arrival, outcome: Outcome, at: Time) -> RequestRow {
        RequestRow {
            request,
            replica,
            class: arrival.class,
            session: arrival.session,
            outcome,
            arrival: at,
            start: None,
            first_token: None,
            end: at,
            prompt_tokens: arrival.prompt_tokens,
            output_tokens: 0,
            cached_tokens: 0,
            preemptions: 0,
            recomputed_tokens: 0,
            longest_gap: None,
            swapped_tokens: 0,
            frontend: Span::ZERO,
            attempts: 1,
        }
    }

    /// Time to first token (vLLM's `ttft`): first token delivered - arrival, and the front end.
    pub fn ttft(&self) -> Option<Span> {
        self.first_token.map(|t| t - self.arrival + self.frontend)
    }

    /// Mean time per output token after the first (vLLM's `tpot`) [ns]; undefined for one-token outputs.
    pub fn tpot(&self) -> Option<Span> {
        match (self.outcome, self.first_token) {
            (Outcome::Finished, Some(first)) if self.output_tokens > 1 => {
                Some(Span((self.end - first).0 / u64::from(self.output_tokens - 1)))
            }
            _ => None,
        }
    }

    /// End-to-end latency (vLLM's `e2el`): last token - arrival, and the front end.
    pub fn e2el(&self) -> Span {
        self.end - self.arrival + self.frontend
    }
}

/// One session whose requests have all ended: a row of `sessions.parquet`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRow {
    /// Its identity.
    pub session: SessionId,
    /// When it was opened: its first request is sent then.
    pub start: Time,
    /// When its last request ended.
    pub end: Time,
    /// Requests that it sent.
    pub requests: u32,
    /// Those of them that finished.
    pub finished: u32,
    /// Prompt tokens of the requests that were started: what it asked for.
    pub prompt_tokens: u64,
    /// Those of them that were found in the prefix cache.
    pub cached_tokens: u64,
    /// Prompt tokens that were computed: those not found, and what preemptions made compute again.
    pub computed_tokens: u64,
    /// Tokens delivered.
    pub output_tokens: u64,
    /// Time to first token of its first request, if that finished.
    pub first_ttft: Option<Span>,
    /// Latencies of its requests, summed: the time in which it waited for answers. Requests side by side count each.
    pub waited: Span,
}

impl SessionRow {
    /// A session that begins.
    pub(crate) fn begin(session: SessionId, start: Time) -> SessionRow {
        SessionRow {
            session,
            start,
            end: start,
            requests: 0,
            finished: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            computed_tokens: 0,
            output_tokens: 0,
            first_ttft: None,
            waited: Span::ZERO,
        }
    }

    /// A request has ended.
    pub(crate) fn add(&mut self, row: &RequestRow) {
        self.end = self.end.max(row.end);
        self.requests += 1;
        self.finished += u32::from(row.outcome == Outcome::Finished);
        if row.start.is_some() {
            self.prompt_tokens += u64::from(row.prompt_tokens);
            self.computed_tokens += u64::from(row.prompt_tokens.saturating_sub(row.cached_tokens));
        }
        self.cached_tokens += u64::from(row.cached_tokens);
        self.computed_tokens += row.recomputed_tokens;
        self.output_tokens += u64::from(row.output_tokens);
        self.waited = self.waited + row.e2el();
    }

    /// Whether all its requests finished.
    pub fn is_whole(&self) -> bool {
        self.finished == self.requests
    }
}

/// One segment: `steps` consecutive steps of one lane with the same plan; a row of `steps.parquet`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepRow {
    /// Replica.
    pub replica: u32,
    /// Lane of the replica.
    pub lane: u32,
    /// When the first step of the segment began on the device.
    pub start: Time,
    /// When its last step ended.
    pub end: Time,
    /// Number of steps.
    pub steps: u64,
    /// Sequences decoding one token in each of these steps.
    pub decode_seqs: u32,
    /// Prefill sequences in the step (segments with prefill have one step).
    pub prefill_seqs: u32,
    /// Prefill tokens in the step.
    pub prefill_tokens: u32,
    /// Sum of KV tokens that the decode sequences attend to in the first step.
    pub decode_context: u64,
    /// Sum of KV tokens already present of the prefill sequences.
    pub prefill_context: u64,
    /// Running requests when the segment was planned.
    pub running: u32,
    /// Waiting requests when the segment was planned.
    pub waiting: u32,
    /// Used KV blocks after planning its first step.
    pub used_blocks: u64,
    /// Requests preempted by the plan.
    pub preempted: u32,
    /// Blocks copied between the GPUs and the host before the step, in both directions together.
    pub swapped_blocks: u64,
}

/// Why a recorder could not take a row (a full disk, say).
pub type RecordError = Box<dyn std::error::Error + Send + Sync>;

/// Receives result rows as they are made; rows are never kept by the simulation.
pub trait Recorder {
    /// A request has ended.
    ///
    /// # Errors
    /// The row could not be kept; the run stops.
    fn request(&mut self, row: &RequestRow) -> Result<(), RecordError>;

    /// A segment is complete. Segments of one lane come in order.
    ///
    /// # Errors
    /// The row could not be kept; the run stops.
    fn step(&mut self, row: &StepRow) -> Result<(), RecordError>;

    /// A session is over.
    ///
    /// # Errors
    /// The row could not be kept; the run stops.
    fn session(&mut self, _row: &SessionRow) -> Result<(), RecordError> {
        Ok(())
    }

    /// Whether [`Recorder::step`] rows are wanted at all (they cost time to make).
    fn wants_steps(&self) -> bool {
        true
    }
}

/// Keeps nothing.
#[derive(Clone, Copy, Default, Debug)]
pub struct Discard;

impl Recorder for Discard {
    fn request(&mut self, _: &RequestRow) -> Result<(), RecordError> {
        Ok(())
    }
    fn step(&mut self, _: &StepRow) -> Result<(), RecordError> {
        Ok(())
    }
    fn wants_steps(&self) -> bool {
        false
    }
}

/// Keeps everything in memory: for tests and small studies.
#[derive(Clone, Default, Debug)]
pub struct Keep {
    /// Ended requests in order of their end.
    pub requests: Vec<RequestRow>,
    /// Segments.
    pub steps: Vec<StepRow>,
    /// Sessions in order of their end.
    pub sessions: Vec<SessionRow>,
}

impl Recorder for Keep {
    fn request(&mut self, row: &RequestRow) -> Result<(), RecordError> {
        self.requests.push(row.clone());
        Ok(())
    }
    fn step(&mut self, row: &StepRow) -> Result<(), RecordError> {
        self.steps.push(row.clone());
        Ok(())
    }
    fn session(&mut self, row: &SessionRow) -> Result<(), RecordError> {
        self.sessions.push(row.clone());
        Ok(())
    }
}
