//! Result rows as Parquet, row group by row group: constant memory, the same bytes for the same rows.
//!
//! Times are whole nanoseconds since the start of the run; no column holds a fact of the wall clock.
//!
//! | `requests.parquet` | type | unit | meaning |
//! |---|---|---|---|
//! | `request` | int64 | | number in arrival order, from 0 (rows are in order of end) |
//! | `replica` | int32 | | replica that had it last |
//! | `class` | int32 | | index into the file's key-value metadata `overbook.classes` (a JSON array of names) |
//! | `outcome` | string | | `finished`, `cancelled`, `expired`, `rejected`, `failed`, `failed-in-trace` |
//! | `arrival_ns` | int64 | ns | when it reached the router |
//! | `start_ns` | int64? | ns | first part of a step plan; null if never |
//! | `first_token_ns` | int64? | ns | first token delivered; null if never |
//! | `end_ns` | int64 | ns | when it ended |
//! | `prompt_tokens` | int32 | tokens | prompt length |
//! | `output_tokens` | int32 | tokens | tokens delivered |
//! | `cached_tokens` | int32 | tokens | prompt tokens from the prefix cache at first admission |
//! | `preemptions` | int32 | | how often it was preempted |
//! | `recomputed_tokens` | int64 | tokens | computed again because of preemptions |
//! | `swapped_tokens` | int64 | tokens | copied to the host by preemptions |
//! | `session` | int64? | | session of the workload, a hash of its id in the trace; null if it knows none |
//! | `longest_gap_ns` | int64? | ns | longest time between two of its tokens; null if it did not finish with two or more |
//! | `attempts` | int32 | | how often its client sent it; arrival and start are of the first attempt, the rest of the last |
//! | `frontend_ns` | int64 | ns | the server's front end, part of its latencies; the other times are the engine's |
//!
//! | `steps.parquet` | type | unit | meaning |
//! |---|---|---|---|
//! | `replica`, `lane` | int32 | | where |
//! | `start_ns`, `end_ns` | int64 | ns | first step began, last step ended |
//! | `steps` | int64 | | steps of this segment (all with the same plan) |
//! | `decode_seqs` | int32 | sequences | decoding one token in each step |
//! | `prefill_seqs` | int32 | sequences | in prefill |
//! | `prefill_tokens` | int32 | tokens | prefill tokens of the step |
//! | `decode_context` | int64 | tokens | KV tokens that the decodes attend to in the first step, summed |
//! | `prefill_context` | int64 | tokens | KV tokens already present of the prefills, summed |
//! | `running`, `waiting` | int32 | requests | when the segment was planned |
//! | `used_blocks` | int64 | blocks | used KV blocks after planning its first step |
//! | `preempted` | int32 | requests | preempted by the plan |
//! | `swapped_blocks` | int64 | blocks | copied to the host and back before the step |
//!
//! | `sessions.parquet` | type | unit | meaning |
//! |---|---|---|---|
//! | `session` | int64 | | as in `requests.parquet` (rows are in order of end) |
//! | `start_ns`, `end_ns` | int64 | ns | opened, its last request ended |
//! | `requests`, `finished` | int32 | | requests that it sent, and that finished |
//! | `prompt_tokens` | int64 | tokens | prompts of its requests that were started |
//! | `cached_tokens` | int64 | tokens | those found in the prefix cache |
//! | `computed_tokens` | int64 | tokens | those computed, and what preemptions made compute again |
//! | `output_tokens` | int64 | tokens | delivered |
//! | `first_ttft_ns` | int64? | ns | time to first token of its first request; null if that got none |
//! | `waited_ns` | int64 | ns | end-to-end latencies of its requests, summed |

mod column;
mod samples;
mod table;

use std::path::{Path, PathBuf};

use overbook_sim::results::rows::{RecordError, Recorder, RequestRow, SessionRow, StepRow};

use crate::ReportError;
use crate::columns::{
    REQUEST_COLUMNS, SESSION_COLUMNS, STEP_COLUMNS, push_request, push_session, push_step, request_columns,
    session_columns, step_columns,
};
pub use samples::write_step_samples;

use table::Table;

/// File name of the request rows.
pub const REQUESTS: &str = "requests.parquet";
/// File name of the segment rows.
pub const STEPS: &str = "steps.parquet";
/// File name of the session rows; there is none without sessions.
pub const SESSIONS: &str = "sessions.parquet";

/// What a finished recorder has written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Written {
    /// Rows of `requests.parquet`.
    pub request_rows: u64,
    /// Bytes of `requests.parquet`.
    pub request_bytes: u64,
    /// Rows of `steps.parquet`.
    pub step_rows: u64,
    /// Bytes of `steps.parquet`.
    pub step_bytes: u64,
    /// Rows of `sessions.parquet`.
    pub session_rows: u64,
    /// Bytes of `sessions.parquet`.
    pub session_bytes: u64,
}

/// Writes rows into `requests.parquet`, into `steps.parquet` if wanted, and into `sessions.parquet` if there are sessions.
///
/// Without [`ParquetRecorder::finish`] the files stay without a footer: no reader takes them for whole.
pub struct ParquetRecorder {
    requests: Table<REQUEST_COLUMNS>,
    steps: Option<Table<STEP_COLUMNS>>,
    sessions: Option<Table<SESSION_COLUMNS>>,
    dir: PathBuf,
}

impl ParquetRecorder {
    /// Begins the files in `dir`, `steps.parquet` only if `with_steps`.
    ///
    /// # Errors
    /// A file cannot be made.
    pub fn create(dir: &Path, with_steps: bool) -> Result<Self, ReportError> {
        let requests = Table::create(&dir.join(REQUESTS), request_columns())?;
        let steps = with_steps.then(|| Table::create(&dir.join(STEPS), step_columns()));
        Ok(ParquetRecorder { requests, steps: steps.transpose()?, sessions: None, dir: dir.to_owned() })
    }

    /// Writes what is left and the footers. `classes` are the workload's class names.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(self, classes: &[String]) -> Result<Written, ReportError> {
        let names = serde_json::Value::from(classes).to_string();
        let (request_rows, request_bytes) = self.requests.finish(&[("overbook.classes", &names)])?;
        let (step_rows, step_bytes) = match self.steps {
            Some(steps) => steps.finish(&[])?,
            None => (0, 0),
        };
        let (session_rows, session_bytes) = match self.sessions {
            Some(sessions) => sessions.finish(&[])?,
            None => (0, 0),
        };
        Ok(Written { request_rows, request_bytes, step_rows, step_bytes, session_rows, session_bytes })
    }
}

impl Recorder for ParquetRecorder {
    #[inline]
    fn request(&mut self, row: &RequestRow) -> Result<(), RecordError> {
        push_request(&mut self.requests.columns, row);
        Ok(self.requests.row_is_complete()?)
    }

    #[inline]
    fn step(&mut self, row: &StepRow) -> Result<(), RecordError> {
        let Some(table) = &mut self.steps else { return Ok(()) };
        push_step(&mut table.columns, row);
        Ok(table.row_is_complete()?)
    }

    fn session(&mut self, row: &SessionRow) -> Result<(), RecordError> {
        if self.sessions.is_none() {
            self.sessions = Some(Table::create(&self.dir.join(SESSIONS), session_columns())?);
        }
        let Some(table) = &mut self.sessions else { return Ok(()) };
        push_session(&mut table.columns, row);
        Ok(table.row_is_complete()?)
    }

    fn wants_steps(&self) -> bool {
        self.steps.is_some()
    }
}

#[cfg(test)]
mod tests;
