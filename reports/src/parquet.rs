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

use overbook_sim::results::rows::{Outcome, RecordError, Recorder, RequestRow, SessionRow, StepRow};
use overbook_sim::workload::arrival::SessionId;

use crate::ReportError;
pub use samples::write_step_samples;

use column::Column;
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

const REQUEST_COLUMNS: usize = 18;
const STEP_COLUMNS: usize = 15;
const SESSION_COLUMNS: usize = 11;

fn request_columns() -> [Column; REQUEST_COLUMNS] {
    [
        Column::long("request"),
        Column::int("replica"),
        Column::int("class"),
        Column::word("outcome", Outcome::ALL.map(Outcome::name)),
        Column::long("arrival_ns"),
        Column::optional("start_ns"),
        Column::optional("first_token_ns"),
        Column::long("end_ns"),
        Column::int("prompt_tokens"),
        Column::int("output_tokens"),
        Column::int("cached_tokens"),
        Column::int("preemptions"),
        Column::long("recomputed_tokens"),
        Column::long("swapped_tokens"),
        Column::optional("session"),
        Column::optional("longest_gap_ns"),
        Column::int("attempts"),
        Column::long("frontend_ns"),
    ]
}

fn step_columns() -> [Column; STEP_COLUMNS] {
    [
        Column::int("replica"),
        Column::int("lane"),
        Column::long("start_ns"),
        Column::long("end_ns"),
        Column::long("steps"),
        Column::int("decode_seqs"),
        Column::int("prefill_seqs"),
        Column::int("prefill_tokens"),
        Column::long("decode_context"),
        Column::long("prefill_context"),
        Column::int("running"),
        Column::int("waiting"),
        Column::long("used_blocks"),
        Column::int("preempted"),
        Column::long("swapped_blocks"),
    ]
}

fn session_columns() -> [Column; SESSION_COLUMNS] {
    [
        Column::long("session"),
        Column::long("start_ns"),
        Column::long("end_ns"),
        Column::int("requests"),
        Column::int("finished"),
        Column::long("prompt_tokens"),
        Column::long("cached_tokens"),
        Column::long("computed_tokens"),
        Column::long("output_tokens"),
        Column::optional("first_ttft_ns"),
        Column::long("waited_ns"),
    ]
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
        let [
            request,
            replica,
            class,
            outcome,
            arrival,
            start,
            first_token,
            end,
            prompt,
            output,
            cached,
            preemptions,
            recomputed,
            swapped,
            session,
            longest_gap,
            attempts,
            frontend,
        ] = &mut self.requests.columns;
        request.push_long(row.request);
        replica.push_int(row.replica);
        class.push_int(u32::from(row.class.0));
        outcome.push_word(row.outcome as usize);
        arrival.push_long(row.arrival.0);
        start.push_optional(row.start.map(|t| t.0));
        first_token.push_optional(row.first_token.map(|t| t.0));
        end.push_long(row.end.0);
        prompt.push_int(row.prompt_tokens);
        output.push_int(row.output_tokens);
        cached.push_int(row.cached_tokens);
        preemptions.push_int(row.preemptions);
        recomputed.push_long(row.recomputed_tokens);
        swapped.push_long(row.swapped_tokens);
        session.push_optional(row.session.map(SessionId::get));
        longest_gap.push_optional(row.longest_gap.map(|gap| gap.0));
        attempts.push_int(row.attempts);
        frontend.push_long(row.frontend.0);
        Ok(self.requests.row_is_complete()?)
    }

    #[inline]
    fn step(&mut self, row: &StepRow) -> Result<(), RecordError> {
        let Some(table) = &mut self.steps else { return Ok(()) };
        let [
            replica,
            lane,
            start,
            end,
            steps,
            decode_seqs,
            prefill_seqs,
            prefill_tokens,
            decode_context,
            prefill_context,
            running,
            waiting,
            used_blocks,
            preempted,
            swapped_blocks,
        ] = &mut table.columns;
        replica.push_int(row.replica);
        lane.push_int(row.lane);
        start.push_long(row.start.0);
        end.push_long(row.end.0);
        steps.push_long(row.steps);
        decode_seqs.push_int(row.decode_seqs);
        prefill_seqs.push_int(row.prefill_seqs);
        prefill_tokens.push_int(row.prefill_tokens);
        decode_context.push_long(row.decode_context);
        prefill_context.push_long(row.prefill_context);
        running.push_int(row.running);
        waiting.push_int(row.waiting);
        used_blocks.push_long(row.used_blocks);
        preempted.push_int(row.preempted);
        swapped_blocks.push_long(row.swapped_blocks);
        Ok(table.row_is_complete()?)
    }

    fn session(&mut self, row: &SessionRow) -> Result<(), RecordError> {
        if self.sessions.is_none() {
            self.sessions = Some(Table::create(&self.dir.join(SESSIONS), session_columns())?);
        }
        let Some(table) = &mut self.sessions else { return Ok(()) };
        let [session, start, end, requests, finished, prompt, cached, computed, output, first_ttft, waited] =
            &mut table.columns;
        session.push_long(row.session.get());
        start.push_long(row.start.0);
        end.push_long(row.end.0);
        requests.push_int(row.requests);
        finished.push_int(row.finished);
        prompt.push_long(row.prompt_tokens);
        cached.push_long(row.cached_tokens);
        computed.push_long(row.computed_tokens);
        output.push_long(row.output_tokens);
        first_ttft.push_optional(row.first_ttft.map(|ttft| ttft.0));
        waited.push_long(row.waited.0);
        Ok(table.row_is_complete()?)
    }

    fn wants_steps(&self) -> bool {
        self.steps.is_some()
    }
}

#[cfg(test)]
mod tests;
