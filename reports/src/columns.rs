//! Result rows as columns: one list of names and types for the Parquet files and for tables in memory. What the columns mean is said in
//! [`crate::parquet`].

use overbook_sim::results::rows::{Outcome, RecordError, Recorder, RequestRow, SessionRow, StepRow};
use overbook_sim::workload::arrival::SessionId;

/// Columns of requests.
pub(crate) const REQUEST_COLUMNS: usize = 18;
/// Columns of steps.
pub(crate) const STEP_COLUMNS: usize = 15;
/// Columns of sessions.
pub(crate) const SESSION_COLUMNS: usize = 11;

/// The values of a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Values {
    /// Whole numbers; the largest `i32` stands for values beyond it.
    Int(Vec<i32>),
    /// Whole numbers; the largest `i64` stands for values beyond it.
    Long(Vec<i64>),
    /// Whole numbers, where there are some.
    Optional {
        /// Those that there are.
        values: Vec<i64>,
        /// Per row, whether there is one: 1 or 0.
        present: Vec<i16>,
    },
    /// One of a few words.
    Word {
        /// The words.
        words: Vec<&'static str>,
        /// Per row, the index of its word.
        values: Vec<u8>,
    },
}

/// A named column. Pushing a value of another kind than the column's is a bug.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    name: &'static str,
    pub(crate) values: Values,
}

impl Column {
    pub(crate) fn int(name: &'static str) -> Self {
        Column { name, values: Values::Int(Vec::new()) }
    }

    pub(crate) fn long(name: &'static str) -> Self {
        Column { name, values: Values::Long(Vec::new()) }
    }

    pub(crate) fn optional(name: &'static str) -> Self {
        Column { name, values: Values::Optional { values: Vec::new(), present: Vec::new() } }
    }

    pub(crate) fn word<const N: usize>(name: &'static str, words: [&'static str; N]) -> Self {
        Column { name, values: Values::Word { words: words.to_vec(), values: Vec::new() } }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its values.
    pub fn into_values(self) -> Values {
        self.values
    }

    pub(crate) fn is_word(&self) -> bool {
        matches!(self.values, Values::Word { .. })
    }

    /// The largest `i32` stands for values beyond it.
    #[inline]
    pub(crate) fn push_int(&mut self, value: u32) {
        match &mut self.values {
            Values::Int(values) => values.push(value.min(i32::MAX as u32) as i32),
            _ => unreachable!("{} is no int column", self.name),
        }
    }

    /// The largest `i64` stands for values beyond it.
    #[inline]
    pub(crate) fn push_long(&mut self, value: u64) {
        match &mut self.values {
            Values::Long(values) => values.push(value.min(i64::MAX as u64) as i64),
            _ => unreachable!("{} is no long column", self.name),
        }
    }

    #[inline]
    pub(crate) fn push_optional(&mut self, value: Option<u64>) {
        match &mut self.values {
            Values::Optional { values, present } => {
                present.push(i16::from(value.is_some()));
                if let Some(value) = value {
                    values.push(value.min(i64::MAX as u64) as i64);
                }
            }
            _ => unreachable!("{} is no optional column", self.name),
        }
    }

    #[inline]
    pub(crate) fn push_word(&mut self, index: usize) {
        match &mut self.values {
            Values::Word { values, .. } => values.push(index as u8),
            _ => unreachable!("{} is no word column", self.name),
        }
    }
}

pub(crate) fn request_columns() -> [Column; REQUEST_COLUMNS] {
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

pub(crate) fn step_columns() -> [Column; STEP_COLUMNS] {
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

pub(crate) fn session_columns() -> [Column; SESSION_COLUMNS] {
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

/// Adds a request.
#[inline]
pub(crate) fn push_request(columns: &mut [Column; REQUEST_COLUMNS], row: &RequestRow) {
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
    ] = columns;
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
}

/// Adds a segment.
#[inline]
pub(crate) fn push_step(columns: &mut [Column; STEP_COLUMNS], row: &StepRow) {
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
    ] = columns;
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
}

/// Adds a session.
#[inline]
pub(crate) fn push_session(columns: &mut [Column; SESSION_COLUMNS], row: &SessionRow) {
    let [session, start, end, requests, finished, prompt, cached, computed, output, first_ttft, waited] = columns;
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
}

/// Keeps all rows in memory, in the columns of the Parquet files: about 130 bytes a request and 100 a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Columns {
    requests: [Column; REQUEST_COLUMNS],
    steps: [Column; STEP_COLUMNS],
    sessions: [Column; SESSION_COLUMNS],
}

impl Default for Columns {
    fn default() -> Columns {
        Columns { requests: request_columns(), steps: step_columns(), sessions: session_columns() }
    }
}

impl Columns {
    /// The columns of requests in the order of their end, of segments, and of sessions in the order of their end.
    pub fn into_tables(
        self,
    ) -> (impl Iterator<Item = Column>, impl Iterator<Item = Column>, impl Iterator<Item = Column>) {
        (self.requests.into_iter(), self.steps.into_iter(), self.sessions.into_iter())
    }
}

impl Recorder for Columns {
    fn request(&mut self, row: &RequestRow) -> Result<(), RecordError> {
        push_request(&mut self.requests, row);
        Ok(())
    }

    fn step(&mut self, row: &StepRow) -> Result<(), RecordError> {
        push_step(&mut self.steps, row);
        Ok(())
    }

    fn session(&mut self, row: &SessionRow) -> Result<(), RecordError> {
        push_session(&mut self.sessions, row);
        Ok(())
    }
}
