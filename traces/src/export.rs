//! Requests written as a trace file that the readers take back: same times to the nanosecond, same lengths and classes.
//!
//! All layouts have the columns `arrived_at`, `num_prefill_tokens`, `num_decode_tokens` and `class`. Times count from
//! the start of the workload: seconds with nine decimals in CSV and JSON lines; in Parquet a timestamp in nanoseconds,
//! which other tools show as a moment after 1970-01-01 00:00:00.

mod columnar;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use overbook_sim::time::NS_PER_S;
use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};

use columnar::ParquetRows;

/// Names of the columns.
const COLUMNS: [&str; 4] = ["arrived_at", "num_prefill_tokens", "num_decode_tokens", "class"];

/// How requests are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// A header line and a line per request.
    Csv,
    /// A JSON object per line.
    JsonLines,
    /// Columns, in row groups of 131,072 requests.
    Parquet,
}

impl Layout {
    /// The layout that the ending of a file name asks for: `.csv`, `.jsonl` or `.parquet`.
    pub fn of(path: &Path) -> Option<Layout> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Layout::Csv),
            "jsonl" => Some(Layout::JsonLines),
            "parquet" => Some(Layout::Parquet),
            _ => None,
        }
    }
}

/// Why requests cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The workload is broken at this point; it says where.
    #[error("{0}")]
    Workload(WorkloadError),
    /// The file cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file cannot be encoded or written.
    #[error("{0}")]
    Parquet(#[from] parquet::errors::ParquetError),
}

/// Writes all requests of a workload but failed ones; gives their number. One request is in memory at a time; in Parquet, a row group.
///
/// # Errors
/// See [`ExportError`].
pub fn write_requests(workload: &mut dyn Workload, layout: Layout, file: File) -> Result<u64, ExportError> {
    match layout {
        Layout::Csv => {
            let mut file = BufWriter::new(file);
            writeln!(file, "{}", COLUMNS.join(","))?;
            let mut names = Names::new(csv_field);
            let requests = each(workload, |arrival, classes| {
                let (time, class) = (seconds(arrival), names.of(arrival, classes));
                writeln!(file, "{time},{},{},{class}", arrival.prompt_tokens, arrival.output_tokens)?;
                Ok(())
            })?;
            file.flush()?;
            Ok(requests)
        }
        Layout::JsonLines => {
            let mut file = BufWriter::new(file);
            let mut names = Names::new(|name| serde_json::Value::from(name).to_string());
            let [at, prompt, output, class] = COLUMNS;
            let requests = each(workload, |arrival, classes| {
                let (time, name) = (seconds(arrival), names.of(arrival, classes));
                let (prompts, outputs) = (arrival.prompt_tokens, arrival.output_tokens);
                writeln!(
                    file,
                    "{{\"{at}\": {time}, \"{prompt}\": {prompts}, \"{output}\": {outputs}, \"{class}\": {name}}}"
                )?;
                Ok(())
            })?;
            file.flush()?;
            Ok(requests)
        }
        Layout::Parquet => {
            let mut rows = ParquetRows::create(file)?;
            let requests = each(workload, |arrival, classes| Ok(rows.push(arrival, classes)?))?;
            rows.finish()?;
            Ok(requests)
        }
    }
}

fn each(
    workload: &mut dyn Workload,
    mut see: impl FnMut(&Arrival, &[String]) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    let mut requests = 0;
    while let Some(arrival) = workload.next_arrival().map_err(ExportError::Workload)? {
        // A failed request has no lengths, which the layouts need.
        if !arrival.failed_in_trace {
            see(&arrival, workload.classes())?;
            requests += 1;
        }
    }
    Ok(requests)
}

fn seconds(arrival: &Arrival) -> String {
    format!("{}.{:09}", arrival.at.0 / NS_PER_S, arrival.at.0 % NS_PER_S)
}

/// Names of the classes as the layout writes them.
struct Names<F> {
    write: F,
    known: Vec<String>,
}

impl<F: Fn(&str) -> String> Names<F> {
    fn new(write: F) -> Self {
        Names { write, known: Vec::new() }
    }

    fn of(&mut self, arrival: &Arrival, classes: &[String]) -> &str {
        let class = usize::from(arrival.class.0);
        for name in classes.get(self.known.len()..).unwrap_or_default() {
            self.known.push((self.write)(name));
        }
        self.known.get(class).map_or("", String::as_str)
    }
}

/// A field in quotes where it needs them (RFC 4180). The readers take a line for a row, so no line ends go into it.
fn csv_field(text: &str) -> String {
    let text: String = text.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c }).collect();
    if text.contains(['"', ',']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_it_matters() {
        assert_eq!(csv_field("GPT-4/api"), "GPT-4/api");
        assert_eq!(csv_field("a, b"), "\"a, b\"");
        assert_eq!(csv_field("say \"hi\""), "\"say \"\"hi\"\"\"");
        assert_eq!(csv_field("two\nlines"), "two lines");
    }
}
