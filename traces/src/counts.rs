//! What became of the rows of a trace.

use std::fmt;

/// What became of the rows in one pass over the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Rows read.
    pub rows: u64,
    /// Rows outside `window`, as far as they were read.
    pub outside: u64,
    /// Rows that `keep` does not want.
    pub filtered: u64,
    /// Failed requests: a length of 0, nothing to replay; with `failures: keep` or `redraw` they are skipped or taken as well.
    pub failed: u64,
    /// Rows passed over by `skip`.
    pub skipped: u64,
    /// Requests taken.
    pub taken: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { rows, outside, filtered, failed, skipped, taken } = self;
        write!(
            f,
            "{rows} rows read, {outside} outside the window, {filtered} filtered out, {failed} failed, {skipped} skipped, {taken} taken"
        )
    }
}
