//! All that is wrong with the rows of a trace, found in one pass.

use crate::agents::SessionReplay;
use crate::counts::Counts;
use crate::error::TraceError;
use crate::fault::{LeftOut, about_row, line_of};
use crate::load::{Failures, LeaveOut};
use crate::places::Lines;
use crate::reader::Reader;
use crate::spec::TraceSpec;

/// What a look at the rows has found.
#[derive(Debug)]
pub struct Inspection {
    /// What became of the rows that were read.
    pub counts: Counts,
    /// Whether these are all rows of the file.
    pub whole: bool,
    /// What is wrong, in the order of the file; faults of one kind are reported once.
    pub faults: Vec<RowFault>,
    /// Where the rows stand that were left out.
    pub left_out: LeftOut,
}

/// A fault of a row, and how many later rows have a fault of its kind.
#[derive(Debug)]
pub struct RowFault {
    /// The first row that has it, with line, column and what to do.
    pub first: TraceError,
    /// Rows after that.
    pub more: u64,
    /// The lines of all of them.
    pub lines: Lines,
}

/// Kinds of faults that are distinguished at most.
const KINDS_MAX: usize = 20;

impl TraceSpec {
    /// Reads up to `rows_max` rows and finds all that is wrong with them, where a replay stops at the first. Rows that
    /// `leave_out` leaves out are counted, and nothing is wrong with their order if `sort` is set.
    ///
    /// # Errors
    /// The specification is wrong, or the file is no such trace, or it cannot be read on.
    pub fn inspect(&self, rows_max: u64) -> Result<Inspection, TraceError> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(TraceError::Spec(problems));
        }
        if self.is_of_sessions()? {
            let (counts, whole, found) = SessionReplay::faults(self, rows_max)?;
            let mut faults = Vec::new();
            for error in found {
                note(&mut faults, error);
            }
            return Ok(Inspection { counts, whole, faults, left_out: LeftOut::default() });
        }
        // In the order of the file, so that the beginning of a large one is enough.
        let plain = TraceSpec { sort: false, skip: 0, requests: None, failures: Failures::Drop, ..self.clone() };
        let mut reader = Reader::open(&plain, 0)?;
        if self.sort {
            reader.in_any_order();
        }
        let mut faults: Vec<RowFault> = Vec::new();
        loop {
            if reader.counts().rows >= rows_max {
                return Ok(found(&reader, false, faults));
            }
            match reader.next_request() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(found(&reader, true, faults)),
                Err(error) if about_row(&error).is_some() || matches!(error, TraceError::Backwards { .. }) => {
                    note(&mut faults, error);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn found(reader: &Reader, whole: bool, faults: Vec<RowFault>) -> Inspection {
    Inspection { counts: reader.counts(), whole, faults, left_out: reader.left_out().clone() }
}

fn note(faults: &mut Vec<RowFault>, error: TraceError) {
    let line = line_of(&error);
    let at = match faults.iter().position(|fault| kind(&fault.first) == kind(&error)) {
        Some(alike) => {
            faults[alike].more += 1;
            alike
        }
        None if faults.len() < KINDS_MAX => {
            faults.push(RowFault { first: error, more: 0, lines: Lines::default() });
            faults.len() - 1
        }
        None => return,
    };
    if let Some(line) = line {
        faults[at].lines.add(line);
    }
}

/// What faults of one kind have in common: the sort of fault, and the column.
fn kind(error: &TraceError) -> (std::mem::Discriminant<TraceError>, &str, &str, Option<LeaveOut>) {
    let (column, expected) = match error {
        TraceError::Value { column, expected, .. } => (column.as_str(), *expected),
        TraceError::Backwards { column, .. } | TraceError::NotUtf8 { column, .. } => (column.as_str(), ""),
        _ => ("", ""),
    };
    (std::mem::discriminant(error), column, expected, about_row(error))
}
