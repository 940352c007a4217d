//! The first rows of a log, column by column.

use crate::error::TraceError;
use crate::fault::about_row;
use crate::table::{Row, Table};

/// Rows that are looked at to tell what a column holds.
const ROWS: usize = 1000;

/// Cells of a column that are not empty, with their lines.
#[derive(Clone, Default, Debug)]
pub(super) struct Sample {
    lines: Vec<u64>,
    texts: Vec<String>,
}

impl Sample {
    #[cfg(test)]
    pub(super) fn of(texts: &[&str]) -> Sample {
        Sample { lines: (2..).take(texts.len()).collect(), texts: texts.iter().map(|&text| text.to_owned()).collect() }
    }

    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether most of the cells are so, and there are some.
    pub(super) fn mostly(&self, holds: impl Fn(&str) -> bool) -> bool {
        let holding = self.texts.iter().filter(|text| holds(text)).count();
        holding > 0 && 2 * holding >= self.texts.len()
    }

    /// Line and text of the first cell that is not so.
    pub(super) fn first_without(&self, holds: impl Fn(&str) -> bool) -> Option<(u64, &str)> {
        let mut cells = self.lines.iter().zip(&self.texts);
        cells.find(|(_, text)| !holds(text)).map(|(line, text)| (*line, text.as_str()))
    }
}

/// What the first rows have in each column; those that are not asked for stay empty.
///
/// # Errors
/// The file cannot be read, has no rows, or none that is whole.
pub(super) fn take(table: &mut Table, columns: &[usize]) -> Result<Vec<Sample>, TraceError> {
    table.want(columns)?;
    let mut samples = vec![Sample::default(); table.header().names().len()];
    let (mut rows, mut broken) = (0, None);
    for _ in 0..ROWS {
        let row: Row<'_> = match table.next_row() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            // A broken row is reported when all are read.
            Err(error) if about_row(&error).is_some() => {
                broken.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        rows += 1;
        for &column in columns {
            if !row.is_empty(column)
                && let Ok(text) = row.text(column)
            {
                samples[column].lines.push(row.line);
                samples[column].texts.push(text.trim().to_owned());
            }
        }
    }
    if rows > 0 {
        return Ok(samples);
    }
    Err(broken.unwrap_or_else(|| TraceError::Document {
        path: table.path().to_owned(),
        problem: "the file has a header and no rows".to_owned(),
        help: "the download or the export may be incomplete",
    }))
}
