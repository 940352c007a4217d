//! Which errors are about one row, so that the row may be left out.

use crate::error::TraceError;
use crate::load::LeaveOut;
use crate::table::is_nothing;

/// Which rows must be left out, at least, so that this is no error: `None` if it is not about one row.
pub(crate) fn about_row(error: &TraceError) -> Option<LeaveOut> {
    match error {
        TraceError::Value { found, .. } if is_nothing(found.as_bytes()) => Some(LeaveOut::Empty),
        TraceError::Value { .. }
        | TraceError::FieldCount { .. }
        | TraceError::Json { .. }
        | TraceError::NotUtf8 { .. } => Some(LeaveOut::Invalid),
        _ => None,
    }
}
