//! Which errors are about one row, so that the row may be left out; and which rows were.

use crate::error::TraceError;
use crate::load::LeaveOut;
use crate::places::Lines;
use crate::table::is_nothing;

/// Which rows must be left out, at least, so that this is no error: `None` if it is not about one row.
pub(crate) fn about_row(error: &TraceError) -> Option<LeaveOut> {
    match error {
        TraceError::Value { found, .. } if is_nothing(found.as_bytes()) => Some(LeaveOut::Empty),
        TraceError::Value { .. }
        | TraceError::FieldCount { .. }
        | TraceError::OpenQuote { .. }
        | TraceError::Json { .. }
        | TraceError::NotUtf8 { .. } => Some(LeaveOut::Invalid),
        _ => None,
    }
}

/// The line that an error is about.
pub(crate) fn line_of(error: &TraceError) -> Option<u64> {
    match error {
        TraceError::Value { line, .. }
        | TraceError::FieldCount { line, .. }
        | TraceError::OpenQuote { line, .. }
        | TraceError::Json { line, .. }
        | TraceError::NotUtf8 { line, .. }
        | TraceError::Backwards { line, .. } => Some(*line),
        _ => None,
    }
}

/// Where the rows that were left out stand. Of a Parquet file and of a JSON document rows are counted.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LeftOut {
    /// Those with an empty cell.
    pub empty: Lines,
    /// Those that could not be read.
    pub invalid: Lines,
    /// Failed requests: a length of 0.
    pub failed: Lines,
    /// Those that are no requests to an engine.
    pub no_request: Lines,
    /// Why they are none: which column says so.
    pub no_request_why: String,
}
