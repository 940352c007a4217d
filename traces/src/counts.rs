//! What became of the rows of a trace.

use std::fmt;

/// What became of the rows in one pass over the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Rows read.
    pub rows: u64,
    /// Rows with an empty cell that were left out: `leave_out: empty` or `invalid`.
    pub empty: u64,
    /// Rows that could not be read and were left out: `leave_out: invalid`.
    pub invalid: u64,
    /// Rows that were earlier than a row above them: `sort: true`.
    pub out_of_order: u64,
    /// Rows outside `window`, as far as they were read.
    pub outside: u64,
    /// Rows that `keep` does not want.
    pub filtered: u64,
    /// Rows that are no requests to an engine, by the columns of their format: warm-up, answers from a cache, other events.
    pub no_request: u64,
    /// Failed requests: a length of 0, nothing to replay; with `failures: keep` or `redraw` they are skipped or taken as well.
    pub failed: u64,
    /// Failed requests that were left out.
    pub dropped: u64,
    /// Requests cut off by `sessions.max_prompt_tokens`, with those that follow on them.
    pub cut_off: u64,
    /// Rows passed over by `skip`.
    pub skipped: u64,
    /// Requests taken.
    pub taken: u64,
}

impl Counts {
    /// All of them by the names that reports have.
    pub(crate) fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("read", self.rows),
            ("taken", self.taken),
            ("failed", self.failed),
            ("failed_left_out", self.dropped),
            ("empty", self.empty),
            ("invalid", self.invalid),
            ("no_request", self.no_request),
            ("filtered", self.filtered),
            ("outside_window", self.outside),
            ("skipped", self.skipped),
            ("cut_off", self.cut_off),
            ("out_of_order", self.out_of_order),
        ]
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { rows, outside, filtered, failed, skipped, taken, .. } = self;
        write!(
            f,
            "{rows} rows read, {outside} outside the window, {filtered} filtered out, {failed} failed, {skipped} skipped, {taken} taken"
        )?;
        for (rows, what) in [
            (self.no_request, "no requests to an engine"),
            (self.empty, "with empty cells"),
            (self.invalid, "not readable"),
            (self.out_of_order, "out of order and sorted"),
            (self.cut_off, "with or behind a prompt that is too long"),
        ] {
            if rows > 0 {
                write!(f, ", {rows} {what}")?;
            }
        }
        Ok(())
    }
}
