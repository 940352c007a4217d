//! Request files of the vidur simulator (microsoft/vidur): arrival in seconds, prefill and decode tokens.

use overbook_sim::workload::arrival::ClassId;

use crate::error::TraceError;
use crate::outcome::{Decoded, Outcome};
use crate::table::Row;

/// Reads rows; all requests are of one class.
#[derive(Debug)]
pub(crate) struct Vidur {
    time: usize,
    prompt: usize,
    output: usize,
}

impl Vidur {
    /// The columns are those of `Format::Vidur`, in that order.
    pub(crate) fn new(columns: &[usize]) -> Vidur {
        Vidur { time: columns[0], prompt: columns[1], output: columns[2] }
    }

    pub(crate) fn columns(&self) -> Vec<usize> {
        vec![self.time, self.prompt, self.output]
    }

    pub(crate) fn time_column(&self) -> usize {
        self.time
    }

    pub(crate) fn decode(&self, row: &Row<'_>) -> Result<Decoded, TraceError> {
        let at_ns = row.seconds(self.time)?;
        let (prompt_tokens, output_tokens) = (row.tokens(self.prompt)?, row.tokens(self.output)?);
        Ok(Decoded { at_ns, outcome: Outcome::of(prompt_tokens, output_tokens, ClassId(0), 0) })
    }
}
