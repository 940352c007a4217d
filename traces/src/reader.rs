//! One pass over a trace file: detects the format, decodes rows, filters, skips, takes, and watches the order of time.

use std::path::PathBuf;

use overbook_sim::arrival::ClassId;

use crate::azure::Azure;
use crate::burstgpt::BurstGpt;
use crate::error::TraceError;
use crate::replay::Counts;
use crate::spec::{Format, Keep, TraceSpec};
use crate::table::{Header, Row, Table};
use crate::vidur::Vidur;

/// What a row says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Decoded {
    /// When [ns since the file's own origin].
    pub(crate) at_ns: u64,
    pub(crate) outcome: Outcome,
}

/// What becomes of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Request {
        prompt_tokens: u32,
        output_tokens: u32,
        class: ClassId,
    },
    /// A failed request: it has no lengths.
    Failed,
    /// The `keep` filter does not want it.
    Filtered,
}

/// A request that is to be replayed, with the file's own time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Recorded {
    pub(crate) at_ns: u64,
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    pub(crate) class: ClassId,
}

/// The decoder of the file's format.
#[derive(Debug)]
enum Decoder {
    BurstGpt(BurstGpt),
    Azure(Azure, [String; 1]),
    Vidur(Vidur, [String; 1]),
}

impl Decoder {
    fn new(format: Format, columns: &[usize], keep: &Keep) -> Decoder {
        let class = [format.to_string()];
        match format {
            Format::Azure => Decoder::Azure(Azure::new(columns), class),
            Format::Vidur => Decoder::Vidur(Vidur::new(columns), class),
            Format::BurstGpt | Format::Auto => Decoder::BurstGpt(BurstGpt::new(columns, keep.clone())),
        }
    }

    fn decode(&mut self, row: &Row<'_>) -> Result<Decoded, TraceError> {
        match self {
            Decoder::BurstGpt(decoder) => decoder.decode(row),
            Decoder::Azure(decoder, _) => decoder.decode(row),
            Decoder::Vidur(decoder, _) => decoder.decode(row),
        }
    }

    fn time_column(&self) -> usize {
        match self {
            Decoder::BurstGpt(decoder) => decoder.time_column(),
            Decoder::Azure(decoder, _) => decoder.time_column(),
            Decoder::Vidur(decoder, _) => decoder.time_column(),
        }
    }
}

/// The timestamp of the row above, as time and as text.
#[derive(Default)]
struct Above {
    at_ns: u64,
    text: Vec<u8>,
}

/// Reads the requests that a specification takes from its file, one at a time.
pub(crate) struct Reader {
    path: PathBuf,
    table: Table,
    format: Format,
    decoder: Decoder,
    skip: u64,
    take: u64,
    above: Above,
    counts: Counts,
    line: u64,
}

impl Reader {
    pub(crate) fn open(spec: &TraceSpec) -> Result<Reader, TraceError> {
        let table = Table::open(&spec.path)?;
        let (format, columns) = match spec.format {
            Format::Auto => detect(&table)?,
            format => (format, columns_of(format, &table)?),
        };
        if format != Format::BurstGpt && !spec.keep.is_all() {
            return Err(TraceError::NothingToFilter { path: spec.path.clone(), format });
        }
        Ok(Reader {
            path: spec.path.clone(),
            table,
            format,
            decoder: Decoder::new(format, &columns, &spec.keep),
            skip: spec.skip,
            take: spec.requests.unwrap_or(u64::MAX),
            above: Above::default(),
            counts: Counts::default(),
            line: 1,
        })
    }

    /// Starts over at the first row; the classes keep their numbers.
    pub(crate) fn rewind(&mut self) -> Result<(), TraceError> {
        let table = Table::open(&self.path)?;
        if table.header() != self.table.header() {
            return Err(TraceError::Changed { path: self.path.clone() });
        }
        self.table = table;
        self.above = Above::default();
        self.counts = Counts::default();
        self.line = 1;
        Ok(())
    }

    /// The next request; `None` when the file ends or enough were taken.
    pub(crate) fn next_request(&mut self) -> Result<Option<Recorded>, TraceError> {
        while self.counts.taken < self.take {
            let Some(row) = self.table.next_row()? else {
                return Ok(None);
            };
            self.line = row.line;
            self.counts.rows += 1;
            let Decoded { at_ns, outcome } = self.decoder.decode(&row)?;
            let time_column = self.decoder.time_column();
            if at_ns < self.above.at_ns {
                return Err(backwards(&row, time_column, &self.above));
            }
            self.above.at_ns = at_ns;
            self.above.text.clear();
            self.above.text.extend_from_slice(row.field(time_column));
            match outcome {
                Outcome::Filtered => self.counts.filtered += 1,
                Outcome::Failed => self.counts.failed += 1,
                Outcome::Request { .. } if self.counts.skipped < self.skip => {
                    self.counts.skipped += 1;
                }
                Outcome::Request { prompt_tokens, output_tokens, class } => {
                    self.counts.taken += 1;
                    return Ok(Some(Recorded { at_ns, prompt_tokens, output_tokens, class }));
                }
            }
        }
        Ok(None)
    }

    /// What became of the rows of this pass.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// The line that was read last.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(crate) fn classes(&self) -> &[String] {
        match &self.decoder {
            Decoder::BurstGpt(decoder) => decoder.classes(),
            Decoder::Azure(_, class) | Decoder::Vidur(_, class) => class,
        }
    }

    /// The error for a pass without a single request.
    pub(crate) fn no_requests(&self) -> TraceError {
        let counts = self.counts;
        let help = match &self.decoder {
            Decoder::BurstGpt(decoder) if counts.filtered > 0 => {
                format!("`keep` must match what the file has: {}", decoder.seen().join(", "))
            }
            _ if counts.skipped > 0 => format!("`skip` must be below {}", counts.skipped),
            _ if counts.failed > 0 => "choose a file with successful requests".to_owned(),
            _ => "the file has a header and no rows; the download may be incomplete".to_owned(),
        };
        TraceError::NoRequests { path: self.path.clone(), line: self.line, counts, help }
    }
}

fn backwards(row: &Row<'_>, time_column: usize, above: &Above) -> TraceError {
    TraceError::Backwards {
        path: row.path.to_owned(),
        line: row.line,
        column: row.name(time_column).to_owned(),
        before: crate::table::shorten(&String::from_utf8_lossy(&above.text)),
        found: crate::table::shorten(&String::from_utf8_lossy(row.field(time_column))),
    }
}

fn columns_of(format: Format, table: &Table) -> Result<Vec<usize>, TraceError> {
    table.header().find(format.columns()).map_err(|missing| TraceError::MissingColumns {
        path: table.path().to_owned(),
        format,
        missing: missing.join(", "),
        found: table.header().text(),
    })
}

fn detect(table: &Table) -> Result<(Format, Vec<usize>), TraceError> {
    let header = table.header();
    let fits = |format: Format| header.find(format.columns()).ok().map(|columns| (format, columns));
    Format::ALL.into_iter().find_map(fits).ok_or_else(|| TraceError::UnknownHeader {
        path: table.path().to_owned(),
        found: header.text(),
        help: guess(header),
    })
}

/// What a file that is no trace probably is.
fn guess(header: &Header) -> &'static str {
    let text = header.text().to_ascii_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    if starts(&["version https://git-lfs"]) {
        "this is a Git LFS pointer, not the data; run `git lfs pull` or download the file from the release page"
    } else if starts(&["<!doctype", "<html", "<?xml"]) {
        "this is a web page, not the data; use the link to the raw file"
    } else if starts(&["{", "["]) {
        "this is JSON; convert it to one of these CSV layouts"
    } else if starts(&["par1", "pk"]) {
        "this is a binary file; convert or unpack it to CSV"
    } else if text.contains(';') || text.contains("\\t") {
        "separate the columns with commas"
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        "the header line is missing; add it above the first row"
    } else {
        "rename the columns to those of one format"
    }
}
