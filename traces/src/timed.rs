//! Requests of a file at times that are drawn: for files that have lengths and no times.

use crate::arrivals::Arrivals;
use crate::error::TraceError;
use crate::outcome::Recorded;
use crate::reader::Reader;
use crate::rows::Rows;

/// A stage that gives each request the next arrival of a process.
pub(crate) struct Timed {
    rows: Box<dyn Rows>,
    arrivals: Arrivals,
}

impl Timed {
    pub(crate) fn new(rows: Box<dyn Rows>, arrivals: Arrivals) -> Timed {
        Timed { rows, arrivals }
    }
}

impl Rows for Timed {
    fn next_row(&mut self) -> Result<Option<Recorded>, TraceError> {
        let Some(request) = self.rows.next_row()? else { return Ok(None) };
        let reader = self.rows.reader();
        let too_late = || TraceError::TooLate { path: reader.path().clone(), line: reader.line() };
        let at_ns = self.arrivals.next_ns().ok_or_else(too_late)?;
        Ok(Some(Recorded { at_ns, ..request }))
    }

    fn reader(&self) -> &Reader {
        self.rows.reader()
    }

    fn classes(&self) -> &[String] {
        self.rows.classes()
    }
}
