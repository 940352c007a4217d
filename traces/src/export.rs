//! Requests written as a trace file that the readers take back: the same requests, to the nanosecond and the prefix id.
//!
//! All layouts have the columns `arrived_at`, `num_prefill_tokens`, `num_decode_tokens` and `class`. Times count from
//! the start of the workload: seconds with nine decimals in CSV and JSON lines; in Parquet a timestamp in nanoseconds,
//! which other tools show as a moment after 1970-01-01 00:00:00. A failed request has no tokens.
//!
//! JSON lines and Parquet have more: `priority`, `session` (a number), `elapsed` (how long the recorded service took [s]),
//! and `hash_ids` with `block_tokens`, an id for each full block of so many tokens, which stands for the block and all before
//! it; in Parquet the list is a string, `[3,4]`. What is not known is null. CSV has none of these: see [`ExportError::Loses`].

mod columnar;
mod lines;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use overbook_sim::time::NS_PER_S;
use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};

use crate::lines::OBJECT_MAX;
use crate::mooncake::HASH_IDS;
use columnar::ParquetRows;

/// Names of the columns that all layouts have.
const COLUMNS: [&str; 4] = ["arrived_at", "num_prefill_tokens", "num_decode_tokens", CLASS];
/// Name of the request class.
pub(crate) const CLASS: &str = "class";
/// Priority, smaller is more urgent; null for 0.
pub(crate) const PRIORITY: &str = "priority";
/// Number of the session.
pub(crate) const SESSION: &str = "session";
/// Time that the recorded service took for the whole answer [s].
pub(crate) const ELAPSED: &str = "elapsed";
/// Tokens that each of the ids stands for.
pub(crate) const BLOCK_TOKENS: &str = "block_tokens";
/// Columns by which the readers know that this program has written a file.
pub(crate) const EXTRA: [&str; 6] = [CLASS, PRIORITY, SESSION, ELAPSED, BLOCK_TOKENS, HASH_IDS];

/// What a request may have that CSV has no columns for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extra {
    /// Ids of its prefixes.
    Ids,
    /// Its session.
    Sessions,
    /// A priority other than 0.
    Priorities,
    /// How long the recorded service took for the whole answer.
    Elapsed,
}

impl Extra {
    /// All of them.
    pub const ALL: [Extra; 4] = [Extra::Ids, Extra::Sessions, Extra::Priorities, Extra::Elapsed];

    /// Its name: `ids`, `sessions`, `priorities`, `elapsed`.
    pub fn name(self) -> &'static str {
        match self {
            Extra::Ids => "ids",
            Extra::Sessions => "sessions",
            Extra::Priorities => "priorities",
            Extra::Elapsed => "elapsed",
        }
    }

    fn of(self, arrival: &Arrival) -> bool {
        match self {
            Extra::Ids => arrival.content.is_some(),
            Extra::Sessions => arrival.session.is_some(),
            Extra::Priorities => arrival.priority != 0,
            Extra::Elapsed => arrival.recorded_e2el.is_some(),
        }
    }

    fn drop(self, arrival: &mut Arrival) {
        match self {
            Extra::Ids => arrival.content = None,
            Extra::Sessions => arrival.session = None,
            Extra::Priorities => arrival.priority = 0,
            Extra::Elapsed => arrival.recorded_e2el = None,
        }
    }
}

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
    /// A request has what the layout has no columns for, and it is not to be dropped.
    #[error(
        "request {request} has {lost}, which CSV has no columns for; help: write .jsonl or .parquet, or give them up with --drop {lost}"
    )]
    Loses {
        /// Number of the request, from 1.
        request: u64,
        /// What it has, with commas between.
        lost: String,
    },
    /// The line of a request would be longer than the readers take.
    #[error(
        "request {request} has a line of {bytes} bytes, and the readers take {OBJECT_MAX} at most; help: write .parquet, or give the ids up with \
         --drop ids"
    )]
    LineTooLong {
        /// Number of the request, from 1.
        request: u64,
        /// Bytes of its line.
        bytes: usize,
    },
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

/// Writes all requests of a workload without what is to be dropped of them; gives their number. One request is in memory at a
/// time; in Parquet, a row group.
///
/// # Errors
/// See [`ExportError`].
pub fn write_requests(
    workload: &mut dyn Workload,
    layout: Layout,
    drop: &[Extra],
    file: File,
) -> Result<u64, ExportError> {
    match layout {
        Layout::Csv => {
            let mut file = BufWriter::new(file);
            writeln!(file, "{}", COLUMNS.join(","))?;
            let mut names = Names::new(csv_field);
            let requests = each(workload, drop, |number, arrival, classes| {
                let lost: Vec<&str> =
                    Extra::ALL.iter().filter(|extra| extra.of(arrival)).map(|one| one.name()).collect();
                if !lost.is_empty() {
                    return Err(ExportError::Loses { request: number, lost: lost.join(",") });
                }
                let (time, class) = (seconds(arrival.at.0), names.of(arrival, classes));
                writeln!(file, "{time},{},{},{class}", arrival.prompt_tokens, arrival.output_tokens)?;
                Ok(())
            })?;
            file.flush()?;
            Ok(requests)
        }
        Layout::JsonLines => {
            let mut file = BufWriter::new(file);
            let mut names = Names::new(|name| serde_json::Value::from(name).to_string());
            let mut line = Vec::new();
            let requests = each(workload, drop, |number, arrival, classes| {
                line.clear();
                lines::write(&mut line, arrival, names.of(arrival, classes), number == 1)?;
                readable(number, line.len(), OBJECT_MAX)?;
                Ok(file.write_all(&line)?)
            })?;
            file.flush()?;
            Ok(requests)
        }
        Layout::Parquet => {
            let mut rows = ParquetRows::create(file)?;
            let requests = each(workload, drop, |_, arrival, classes| Ok(rows.push(arrival, classes)?))?;
            rows.finish()?;
            Ok(requests)
        }
    }
}

/// Shows every request with its number, from 1, and the classes so far.
fn each(
    workload: &mut dyn Workload,
    drop: &[Extra],
    mut see: impl FnMut(u64, &Arrival, &[String]) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    let mut requests = 0;
    while let Some(mut arrival) = workload.next_arrival().map_err(ExportError::Workload)? {
        for extra in drop {
            extra.drop(&mut arrival);
        }
        requests += 1;
        see(requests, &arrival, workload.classes())?;
    }
    Ok(requests)
}

/// Refuses a line that the readers would refuse.
fn readable(request: u64, bytes: usize, most: usize) -> Result<(), ExportError> {
    if bytes < most { Ok(()) } else { Err(ExportError::LineTooLong { request, bytes }) }
}

/// Nanoseconds as seconds with nine decimals.
fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / NS_PER_S, ns % NS_PER_S)
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
