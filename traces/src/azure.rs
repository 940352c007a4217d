//! Azure LLM inference traces of 2023 and 2024 (Azure/AzurePublicDataset, CC-BY-4.0): date and time of each request.

use overbook_sim::workload::arrival::ClassId;

use crate::error::TraceError;
use crate::number::TimeUnit;
use crate::outcome::{Decoded, Outcome};
use crate::table::Row;

/// Reads rows; all requests are of one class.
#[derive(Debug)]
pub(crate) struct Azure {
    time: usize,
    prompt: usize,
    output: usize,
}

impl Azure {
    /// The columns are those of `Format::Azure`, in that order.
    pub(crate) fn new(columns: &[usize]) -> Azure {
        Azure { time: columns[0], prompt: columns[1], output: columns[2] }
    }

    pub(crate) fn columns(&self) -> Vec<usize> {
        vec![self.time, self.prompt, self.output]
    }

    pub(crate) fn time_column(&self) -> usize {
        self.time
    }

    pub(crate) fn decode(&self, row: &Row<'_>) -> Result<Decoded, TraceError> {
        let at_ns = row.time(self.time, TimeUnit::Datetime)?;
        let (prompt_tokens, output_tokens) = (row.tokens(self.prompt)?, row.tokens(self.output)?);
        Ok(Decoded { at_ns, outcome: Outcome::of(prompt_tokens, output_tokens, ClassId(0), 0) })
    }
}
