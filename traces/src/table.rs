//! A CSV file with a header line, a file of JSON lines or a Parquet file: rows of fields, found by name, with errors
//! that say where.
//!
//! A row of separated fields is a line, or several where a text in quotes has line breaks; its number is that of its first line.
//! The first objects of a JSON file serve as its header: what is not a key there is no column. A JSON document, and requests in
//! lists inside of records, are read whole ([`Document`]); their records are counted, not their lines.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::columnar::{Batch, ColumnKind, Columnar, is_parquet};
use crate::csv::{separator, split};
use crate::datetime::{nanoseconds_since_1970, zone_of};
use crate::document::{Document, is_document};
use crate::error::TraceError;
use crate::header::Header;
use crate::json::{self, BadJson};
use crate::lines::{Lines, Record};
use crate::number::{self, BadNumber, Order, TimeUnit};
use crate::quote::shorten;
use crate::sorted::{HeldRow, Sorted};

/// A table that is read row by row.
pub(crate) struct Table {
    path: PathBuf,
    header: Header,
    /// Columns that are read and are values in nested objects.
    paths: Vec<json::Path>,
    body: Body,
}

enum Body {
    Text {
        lines: Lines,
        separator: u8,
        /// Start and end of each field of the current row, in the line or in `unquoted`.
        fields: Vec<(usize, usize)>,
        unquoted: Vec<u8>,
    },
    Columns(Box<Columnar>),
    Document(Box<Document>),
    /// All rows, in order of time.
    Sorted(Sorted),
}

impl Table {
    /// Opens the file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Table, TraceError> {
        Table::open_at(path, None)
    }

    /// As [`open`](Table::open); `records` leads to the requests of a JSON document.
    pub(crate) fn open_at(path: &Path, records: Option<&str>) -> Result<Table, TraceError> {
        if is_parquet(path) {
            let columns = Columnar::open(path)?;
            let header = Header::flat(columns.names().to_vec());
            return Ok(Table::new(path, header, Body::Columns(Box::new(columns))));
        }
        let mut lines = Lines::open(path)?;
        let head = lines.ahead()?;
        let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head).trim_ascii_start();
        if head.starts_with(b"[") || (records.is_some() && head.starts_with(b"{")) {
            return Table::document(path, records);
        }
        let Some((_, line)) = lines.next_line()? else {
            return Err(TraceError::EmptyFile { path: path.to_owned() });
        };
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        if line.trim_ascii_start().starts_with(b"{") {
            let length = line.len();
            match json::keys(line) {
                // An object that goes on in the next line, and is not cut off.
                Err(why) if why.at >= length && path.is_file() && goes_on(line) => {
                    return Table::document(path, records);
                }
                Err(why) => return Err(bad_json(path, 1, line, why)),
                Ok(_) if path.is_file() && is_document(line) => return Table::document(path, records),
                Ok(_) => {}
            }
            let first = line.to_vec();
            let ahead = lines.ahead()?;
            // The last line of the block may be cut off; as a header nothing is lost with it.
            let more = ahead.split(|byte| *byte == b'\n');
            let objects = std::iter::once(first.as_slice()).chain(more);
            let header = Header::of_objects(objects, None).ok_or_else(|| not_utf8_header(path))?;
            lines.step_back();
            return Ok(Table::text(path, header, lines, b','));
        }
        let separator = separator(line);
        lines.step_back();
        let record = lines.next_record(separator)?;
        let (line, quoted) = record.map_or((&[][..], false), |record| (record.text, record.quoted));
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        let (mut fields, mut unquoted) = (Vec::new(), Vec::new());
        let bytes = split((line, quoted), separator, &mut fields, &mut unquoted);
        let names = fields.iter().map(|&(start, end)| std::str::from_utf8(&bytes[start..end]).map(str::trim));
        let names: Result<Vec<String>, _> = names.map(|name| name.map(str::to_owned)).collect();
        let header = Header::flat(names.map_err(|_| not_utf8_header(path))?);
        Ok(Table::text(path, header, lines, separator))
    }

    fn document(path: &Path, records: Option<&str>) -> Result<Table, TraceError> {
        if !path.is_file() {
            let problem = "a JSON document is read from its beginning again, which a pipe does not give".to_owned();
            let help = "write it into a file, or send one request per line";
            return Err(TraceError::Document { path: path.to_owned(), problem, help });
        }
        let (document, header) = Document::open(path, records)?;
        Ok(Table::new(path, header, Body::Document(Box::new(document))))
    }

    fn text(path: &Path, header: Header, lines: Lines, separator: u8) -> Table {
        let fields = vec![(0, 0); header.names().len()];
        Table::new(path, header, Body::Text { lines, separator, fields, unquoted: Vec::new() })
    }

    fn new(path: &Path, header: Header, body: Body) -> Table {
        Table { path: path.to_owned(), header, paths: Vec::new(), body }
    }

    /// Opens a CSV file that has no header line.
    pub(crate) fn open_without_header(path: &Path, names: &[&str]) -> Result<Table, TraceError> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Ok(Table::text(path, Header::flat(names), Lines::open(path)?, b','))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Says which columns will be read. Text is cut up whole; of a Parquet file nothing else is decoded.
    ///
    /// # Errors
    /// A column is of a type that has no meaning in a trace, or another has its name.
    pub(crate) fn want(&mut self, columns: &[usize]) -> Result<(), TraceError> {
        for &column in columns {
            if let Some((first, second)) = self.header.twice(column) {
                let name = shorten(&self.header.names()[column]);
                return Err(TraceError::Twice { path: self.path.clone(), name, first, second });
            }
        }
        self.paths = self.header.paths(columns);
        match &mut self.body {
            Body::Text { .. } | Body::Document(_) | Body::Sorted(_) => Ok(()),
            Body::Columns(file) => file.want(columns),
        }
    }

    /// Reads all rows and puts them in order of time; they are then read from memory. `columns` are those that are read,
    /// `leave` says whether a row that is broken as a whole is left out. Gives the number of those.
    ///
    /// # Errors
    /// The file is broken, or one of its rows and `leave` says no.
    pub(crate) fn sort(
        &mut self,
        (time, unit): (usize, TimeUnit),
        columns: &[usize],
        mut leave: impl FnMut(&TraceError) -> bool,
    ) -> Result<u64, TraceError> {
        let (mut rows, mut left_out) = (Vec::new(), 0);
        let mut columns = columns.to_vec();
        columns.sort_unstable();
        columns.dedup();
        loop {
            match self.next_row() {
                Ok(None) => break,
                Ok(Some(row)) => {
                    let at_ns = row.time(time, unit).ok();
                    rows.push(HeldRow::new(at_ns, row.line, columns.iter().map(|&column| row.field(column))));
                }
                Err(error) if leave(&error) => left_out += 1,
                Err(error) => return Err(error),
            }
        }
        let kinds = match &self.body {
            Body::Columns(file) => Some(file.batch().1.to_vec()),
            Body::Text { .. } | Body::Document(_) | Body::Sorted(_) => None,
        };
        self.body = Body::Sorted(Sorted::new(rows, columns, kinds));
        Ok(left_out)
    }

    /// Starts over, if the rows are in memory; gives how many of them were out of order.
    pub(crate) fn rewind_sorted(&mut self) -> Option<u64> {
        let Body::Sorted(sorted) = &mut self.body else { return None };
        sorted.rewind();
        Some(sorted.out_of_order)
    }

    /// The next row; `None` at the end.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row<'_>>, TraceError> {
        let (path, header) = (self.path.as_path(), &self.header);
        let (lines, separator, fields, unquoted) = match &mut self.body {
            Body::Text { lines, separator, fields, unquoted } => (lines, *separator, fields, unquoted),
            Body::Document(document) => {
                let Some((line, bytes, fields)) = document.advance(header, &self.paths)? else { return Ok(None) };
                return Ok(Some(Row { path, header, line, cells: Cells::Text { bytes, fields } }));
            }
            Body::Columns(file) => {
                let Some((line, row)) = file.advance()? else { return Ok(None) };
                let (batch, kinds) = file.batch();
                return Ok(Some(Row { path, header, line, cells: Cells::Batch { batch, kinds, row } }));
            }
            Body::Sorted(sorted) => {
                let Some(row) = sorted.advance().map(|at| sorted.row(at)) else { return Ok(None) };
                let cells = Cells::Held { row, columns: &sorted.columns, kinds: sorted.kinds.as_deref() };
                return Ok(Some(Row { path, header, line: row.line, cells }));
            }
        };
        if header.is_json() {
            let Some((line, text)) = lines.next_line()? else { return Ok(None) };
            let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
            let bytes = json::split(text, header.keys(), &self.paths, fields, unquoted)
                .map_err(|why| bad_json(path, line, text, why))?;
            return Ok(Some(Row { path, header, line, cells: Cells::Text { bytes, fields } }));
        }
        let Some(Record { line, text, quoted, open }) = lines.next_record(separator)? else { return Ok(None) };
        if open {
            return Err(TraceError::OpenQuote { path: path.to_owned(), line });
        }
        let bytes = split((text, quoted), separator, fields, unquoted);
        let (expected, found) = (header.names().len(), fields.len());
        if expected != found {
            return Err(TraceError::FieldCount { path: path.to_owned(), line, expected, found });
        }
        Ok(Some(Row { path, header, line, cells: Cells::Text { bytes, fields } }))
    }
}

/// Whether a line is the beginning of something longer.
fn goes_on(line: &[u8]) -> bool {
    matches!(line.trim_ascii_end().last(), Some(b'{' | b'[' | b',' | b':'))
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cold]
fn not_utf8_header(path: &Path) -> TraceError {
    TraceError::NotUtf8 { path: path.to_owned(), line: 1, column: "(header)".to_owned() }
}

#[cold]
fn bad_json(path: &Path, line: u64, text: &[u8], BadJson { at, expected }: BadJson) -> TraceError {
    let found = String::from_utf8_lossy(text.get(at..).unwrap_or_default());
    let found = if found.is_empty() { "the end of the line".to_owned() } else { format!("`{}`", shorten(&found)) };
    TraceError::Json { path: path.to_owned(), line, column: at + 1, expected, found }
}

/// One row. Columns are positions that [`Header::find`] gave.
pub(crate) struct Row<'a> {
    pub(crate) path: &'a Path,
    /// Line of a text file, from 1; row of a Parquet file, from 1.
    pub(crate) line: u64,
    header: &'a Header,
    cells: Cells<'a>,
}

enum Cells<'a> {
    Text { bytes: &'a [u8], fields: &'a [(usize, usize)] },
    Batch { batch: &'a Batch, kinds: &'a [ColumnKind], row: usize },
    Held { row: &'a HeldRow, columns: &'a [usize], kinds: Option<&'a [ColumnKind]> },
}

impl<'a> Row<'a> {
    /// The raw field: its text, or the bytes of its value in a Parquet file.
    pub(crate) fn field(&self, column: usize) -> &'a [u8] {
        match self.cells {
            Cells::Text { bytes, fields } => {
                let (start, end) = fields[column];
                &bytes[start..end]
            }
            Cells::Batch { batch, row, .. } => batch.field(column, row),
            Cells::Held { row, columns, .. } => {
                columns.iter().position(|held| *held == column).map_or(&[], |at| row.field(at))
            }
        }
    }

    /// What the columns of a Parquet file hold; `None` for text.
    fn kinds(&self) -> Option<&'a [ColumnKind]> {
        match self.cells {
            Cells::Text { .. } => None,
            Cells::Batch { kinds, .. } => Some(kinds),
            Cells::Held { kinds, .. } => kinds,
        }
    }

    /// What the values of a Parquet column are; text is all words.
    fn kind(&self, column: usize) -> ColumnKind {
        self.kinds().map_or(ColumnKind::Words, |kinds| kinds[column])
    }

    /// The field as text.
    pub(crate) fn text(&self, column: usize) -> Result<Cow<'a, str>, TraceError> {
        self.kind(column).text(self.field(column)).ok_or_else(|| self.not_utf8(column))
    }

    /// The field as the bytes of its text, empty if it is null.
    pub(crate) fn word(&self, column: usize) -> Cow<'a, [u8]> {
        let field = self.field(column);
        match self.kind(column) {
            ColumnKind::Words => Cow::Borrowed(field),
            _ if field.is_empty() => Cow::Borrowed(field),
            kind => Cow::Owned(kind.text(field).map_or_else(Vec::new, |text| text.into_owned().into_bytes())),
        }
    }

    /// A raw field of this column, of whatever row, as text for a message.
    pub(crate) fn shown(&self, column: usize, field: &[u8]) -> String {
        match self.kind(column).text(field) {
            Some(text) => shorten(&text),
            None => shorten(&String::from_utf8_lossy(field)),
        }
    }

    /// Seconds since some origin, as nanoseconds.
    pub(crate) fn seconds(&self, column: usize) -> Result<u64, TraceError> {
        let time = match self.kinds() {
            None => number::nanoseconds(self.field(column)),
            Some(kinds) => kinds[column].time(self.field(column), TimeUnit::S),
        };
        time.map_err(|why| self.bad_time(column, TimeUnit::S, why))
    }

    /// A point in time in some unit, as nanoseconds.
    pub(crate) fn time(&self, column: usize, unit: TimeUnit) -> Result<u64, TraceError> {
        let text = self.field(column);
        if let Some(kinds) = self.kinds() {
            return kinds[column].time(text, unit).map_err(|why| self.bad_time(column, unit, why));
        }
        match unit.places() {
            Some(places) => number::scaled_nanoseconds(text, places).map_err(|why| self.bad_time(column, unit, why)),
            None => nanoseconds_since_1970(text, unit.order()).ok_or_else(|| self.bad_date(column, unit)),
        }
    }

    /// The clock that a time of this unit is by.
    #[cold]
    pub(crate) fn clock(&self, column: usize, unit: TimeUnit) -> Clock {
        match self.kind(column) {
            // Parquet counts from 1970 in UTC.
            ColumnKind::Stamp { .. } => Clock::Zone(0),
            ColumnKind::Words if unit.places().is_none() => {
                zone_of(self.field(column), unit.order()).map_or(Clock::Local, |seconds| Clock::Zone(seconds as i32))
            }
            _ => Clock::Elapsed,
        }
    }

    #[cold]
    pub(crate) fn bad_date(&self, column: usize, unit: TimeUnit) -> TraceError {
        let expected = match unit.order() {
            Order::Year => "a date and time between 1970 and 2500, like 2023-11-16 18:15:46.6805900 or with +00:00",
            Order::Month => "a date and time between 1970 and 2500 with the month first, like 11/28/2026 18:15:46",
            Order::Day => "a date and time between 1970 and 2500 with the day first, like 28/11/2026 18:15:46",
        };
        let word = self.word(column);
        let is_number = || std::str::from_utf8(&word).is_ok_and(|text| text.trim().parse::<f64>().is_ok());
        let help = match self.kinds() {
            _ if self.is_empty(column) => EMPTY,
            None if is_number() => "this is a number: name its unit, `s`, `ms`, `us` or `ns`",
            None => date_help(&word).unwrap_or("the line may be cut off, or the date written in another way"),
            Some(_) => "a column of numbers needs a unit: s, ms, us or ns",
        };
        self.bad(column, expected, help)
    }

    /// A number of tokens, at most [`number::TOKENS_MAX`].
    pub(crate) fn tokens(&self, column: usize) -> Result<u32, TraceError> {
        let tokens = match self.kinds() {
            None => number::tokens(self.field(column)),
            Some(kinds) => kinds[column].tokens(self.field(column)),
        };
        tokens.map_err(|why| self.bad_tokens(column, why))
    }

    /// A decimal number in a range.
    pub(crate) fn number(
        &self,
        column: usize,
        range: &std::ops::RangeInclusive<f64>,
        expected: &'static str,
    ) -> Result<f64, TraceError> {
        let number = self.text(column)?.trim().parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| self.bad(column, expected, "the fields may be shifted against the header"))
    }

    #[cold]
    fn bad_time(&self, column: usize, unit: TimeUnit, why: BadNumber) -> TraceError {
        match (why, unit) {
            (BadNumber::Malformed, TimeUnit::S) => {
                self.bad(column, "seconds as a decimal number, like 45 or 45.25", self.misread_time(column))
            }
            (BadNumber::Malformed, unit) if unit.places().is_none() => self.bad_date(column, unit),
            (BadNumber::Malformed, _) => {
                self.bad(column, "a time as a decimal number, like 45 or 45.25", self.misread_time(column))
            }
            (BadNumber::Negative, _) => self.bad(
                column,
                "a time of at least 0 seconds",
                "add a constant to all timestamps: only their differences matter",
            ),
            (BadNumber::TooLarge, TimeUnit::S) => self.bad(
                column,
                "at most 18446744073 seconds (584 years)",
                "the column is in seconds; a number this large is often milliseconds or nanoseconds",
            ),
            (BadNumber::TooLarge, _) => self.bad(column, "at most 584 years", "the unit may be a smaller one"),
        }
    }

    /// Why a field probably does not hold what its column should.
    fn misread(&self, column: usize) -> &'static str {
        let otherwise = || std::str::from_utf8(self.field(column)).ok().and_then(number::written_otherwise);
        match self.kinds() {
            _ if self.is_empty(column) => EMPTY,
            None => otherwise().unwrap_or("the line may be cut off, or its fields shifted against the header"),
            Some(_) => "the column may be another one than is meant; name it in `columns`",
        }
    }

    /// Why a field probably is no number in a unit of time.
    fn misread_time(&self, column: usize) -> &'static str {
        date_help(self.field(column)).unwrap_or_else(|| self.misread(column))
    }

    /// Whether a cell holds nothing, in the ways in which tools write that.
    pub(crate) fn is_empty(&self, column: usize) -> bool {
        is_nothing(&self.word(column))
    }

    #[cold]
    fn bad_tokens(&self, column: usize, why: BadNumber) -> TraceError {
        match why {
            BadNumber::Malformed => self.bad(column, "a whole number of tokens, like 472", self.misread(column)),
            BadNumber::Negative => self.bad(column, "a number of tokens, not negative", "check how the file was made"),
            BadNumber::TooLarge => self.bad(
                column,
                "at most 16777216 tokens (2^24)",
                "no model takes that many; the fields may be shifted against the header",
            ),
        }
    }

    /// An error about one field of this row.
    #[cold]
    pub(crate) fn bad(&self, column: usize, expected: &'static str, help: &'static str) -> TraceError {
        match self.text(column) {
            Err(error) => error,
            Ok(found) => TraceError::Value {
                path: self.path.to_owned(),
                line: self.line,
                column: self.header.names()[column].clone(),
                expected,
                found: shorten(&found),
                help,
            },
        }
    }

    /// The error for a class that is one too many.
    #[cold]
    pub(crate) fn too_many_classes(&self, column: usize, limit: usize, found: String) -> TraceError {
        let (path, column) = (self.path.to_owned(), self.header.names()[column].clone());
        TraceError::TooManyClasses { path, line: self.line, column, limit, found }
    }

    #[cold]
    fn not_utf8(&self, column: usize) -> TraceError {
        let column = self.header.names()[column].clone();
        TraceError::NotUtf8 { path: self.path.to_owned(), line: self.line, column }
    }

    /// Name of a column.
    pub(crate) fn name(&self, column: usize) -> &'a str {
        &self.header.names()[column]
    }
}

/// How a date is read; `None` if the text is none.
fn date_help(text: &[u8]) -> Option<&'static str> {
    let is = |order| nanoseconds_since_1970(text, order).is_some();
    match (is(Order::Year), is(Order::Month), is(Order::Day)) {
        (true, ..) => Some(
            "this is a date: read the file with `columns: { arrival: NAME, prompt: NAME, output: NAME, unit: datetime }`",
        ),
        (_, true, false) => Some("this is a date with the month first: its unit is `mdy`"),
        (_, false, true) => Some("this is a date with the day first: its unit is `dmy`"),
        (_, true, true) => Some("this is a date: its unit is `mdy` if the month stands first, `dmy` if the day does"),
        _ => None,
    }
}

/// What to do about a cell that holds nothing.
const EMPTY: &str = "the cell is empty; `leave_out: empty` leaves such rows out and counts them";

/// Whether a text says that there is no value.
pub(crate) fn is_nothing(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.is_empty()
        || ["null", "none", "nil", "nan", "na", "n/a", "-", "\\n"]
            .iter()
            .any(|no| text.eq_ignore_ascii_case(no.as_bytes()))
}
