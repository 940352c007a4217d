//! A CSV file with a header line, a file of JSON lines or a Parquet file: rows of fields, found by name, with errors
//! that say where.
//!
//! The text formats read here never break a line inside quotes, so a line is a row and line numbers are exact.
//! The first object of a JSON file serves as its header: what is not a key there is no column.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use memchr::memchr;

use crate::clock::Clock;
use crate::columnar::{Batch, ColumnKind, Columnar, is_parquet};
use crate::datetime::{nanoseconds_since_1970, zone_of};
use crate::error::TraceError;
use crate::json::{self, BadJson};
use crate::lines::Lines;
use crate::number::{self, BadNumber, TimeUnit};
use crate::sorted::{HeldRow, Sorted};

/// Column names of the header line, or keys of the first object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    names: Vec<String>,
    is_json: bool,
}

impl Header {
    /// Positions of columns, each given by its name or by alternatives with `|` between; else the missing ones.
    pub(crate) fn find(&self, columns: &'static [&'static str]) -> Result<Vec<usize>, Vec<&'static str>> {
        let found = columns.iter().map(|names| (names, names.split('|').find_map(|name| self.position(name))));
        let missing: Vec<_> = found.clone().filter_map(|(names, at)| at.is_none().then_some(*names)).collect();
        if missing.is_empty() { Ok(found.filter_map(|(_, at)| at).collect()) } else { Err(missing) }
    }

    /// Case and blanks around the name do not count.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|column| column.eq_ignore_ascii_case(name.trim()))
    }

    /// Numbers, from 1, of the first two columns that have the name of this one, if there are two.
    fn twice(&self, column: usize) -> Option<(usize, usize)> {
        let name = &self.names[column];
        let mut alike = (1..).zip(&self.names).filter(|(_, other)| other.eq_ignore_ascii_case(name)).map(|(at, _)| at);
        Some((alike.next()?, alike.next()?))
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// The header as one line, cut to a length that fits in a message.
    pub(crate) fn text(&self) -> String {
        shorten(&self.names.join(","))
    }
}

/// A table that is read row by row.
pub(crate) struct Table {
    path: PathBuf,
    header: Header,
    body: Body,
}

enum Body {
    Text {
        lines: Lines,
        /// Start and end of each field of the current row, in the line or in `unquoted`.
        fields: Vec<(usize, usize)>,
        unquoted: Vec<u8>,
    },
    Columns(Box<Columnar>),
    /// All rows, in order of time.
    Sorted(Sorted),
}

impl Table {
    /// Opens the file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Table, TraceError> {
        if is_parquet(path) {
            let columns = Columnar::open(path)?;
            let header = Header { names: columns.names().to_vec(), is_json: false };
            return Ok(Table { path: path.to_owned(), header, body: Body::Columns(Box::new(columns)) });
        }
        let mut lines = Lines::open(path)?;
        let Some((_, line)) = lines.next_line()? else {
            return Err(TraceError::EmptyFile { path: path.to_owned() });
        };
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        let (mut fields, mut unquoted) = (Vec::new(), Vec::new());
        if line.trim_ascii_start().starts_with(b"{") {
            let keys = json::keys(line).map_err(|why| bad_json(path, 1, line, why))?;
            let names = keys.into_iter().map(|key| std::str::from_utf8(key).map(str::to_owned));
            let names: Result<Vec<String>, _> = names.collect();
            let header = Header { names: names.map_err(|_| not_utf8_header(path))?, is_json: true };
            lines.step_back();
            return Ok(Table { path: path.to_owned(), header, body: Body::Text { lines, fields, unquoted } });
        }
        let bytes = split(line, &mut fields, &mut unquoted);
        let names = fields.iter().map(|&(start, end)| std::str::from_utf8(&bytes[start..end]).map(str::trim));
        let names: Result<Vec<String>, _> = names.map(|name| name.map(str::to_owned)).collect();
        let header = Header { names: names.map_err(|_| not_utf8_header(path))?, is_json: false };
        Ok(Table { path: path.to_owned(), header, body: Body::Text { lines, fields, unquoted } })
    }

    /// Opens a CSV file that has no header line.
    pub(crate) fn open_without_header(path: &Path, names: &[&str]) -> Result<Table, TraceError> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let header = Header { names, is_json: false };
        let lines = Lines::open(path)?;
        let body = Body::Text { lines, fields: Vec::new(), unquoted: Vec::new() };
        Ok(Table { path: path.to_owned(), header, body })
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
                let name = shorten(&self.header.names[column]);
                return Err(TraceError::Twice { path: self.path.clone(), name, first, second });
            }
        }
        match &mut self.body {
            Body::Text { .. } | Body::Sorted(_) => Ok(()),
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
        leave: impl Fn(&TraceError) -> bool,
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
            Body::Text { .. } | Body::Sorted(_) => None,
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
        let (lines, fields, unquoted) = match &mut self.body {
            Body::Text { lines, fields, unquoted } => (lines, fields, unquoted),
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
        let Some((line, text)) = lines.next_line()? else {
            return Ok(None);
        };
        if header.is_json {
            let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
            let bytes =
                json::split(text, &header.names, fields, unquoted).map_err(|why| bad_json(path, line, text, why))?;
            return Ok(Some(Row { path, header, line, cells: Cells::Text { bytes, fields } }));
        }
        let bytes = split(text, fields, unquoted);
        let (expected, found) = (header.names.len(), fields.len());
        if expected != found {
            return Err(TraceError::FieldCount { path: path.to_owned(), line, expected, found });
        }
        Ok(Some(Row { path, header, line, cells: Cells::Text { bytes, fields } }))
    }
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
            None => nanoseconds_since_1970(text).ok_or_else(|| self.bad_date(column)),
        }
    }

    /// The clock that a time of this unit is by.
    #[cold]
    pub(crate) fn clock(&self, column: usize, unit: TimeUnit) -> Clock {
        match self.kind(column) {
            // Parquet counts from 1970 in UTC.
            ColumnKind::Stamp { .. } => Clock::Zone(0),
            ColumnKind::Words if unit == TimeUnit::Datetime => {
                zone_of(self.field(column)).map_or(Clock::Local, |seconds| Clock::Zone(seconds as i32))
            }
            _ => Clock::Elapsed,
        }
    }

    #[cold]
    pub(crate) fn bad_date(&self, column: usize) -> TraceError {
        self.bad(
            column,
            "a date and time between 1970 and 2500, like 2023-11-16 18:15:46.6805900 or with +00:00",
            match self.kinds() {
                _ if self.is_empty(column) => EMPTY,
                None => "the line may be cut off, or the date written in another order",
                Some(_) => "a column of numbers needs a unit: s, ms, us or ns",
            },
        )
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
            (BadNumber::Malformed, TimeUnit::Datetime) => self.bad_date(column),
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
        match self.kinds() {
            _ if self.is_empty(column) => EMPTY,
            None => "the line may be cut off, or its fields shifted against the header",
            Some(_) => "the column may be another one than is meant; name it in `columns`",
        }
    }

    /// Why a field probably is no number in a unit of time.
    fn misread_time(&self, column: usize) -> &'static str {
        if nanoseconds_since_1970(self.field(column)).is_none() {
            return self.misread(column);
        }
        "this is a date: read the file with `columns: { arrival: NAME, prompt: NAME, output: NAME, unit: datetime }`"
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
                column: self.header.names[column].clone(),
                expected,
                found: shorten(&found),
                help,
            },
        }
    }

    /// The error for a class that is one too many.
    #[cold]
    pub(crate) fn too_many_classes(&self, column: usize, limit: usize, found: String) -> TraceError {
        let (path, column) = (self.path.to_owned(), self.header.names[column].clone());
        TraceError::TooManyClasses { path, line: self.line, column, limit, found }
    }

    #[cold]
    fn not_utf8(&self, column: usize) -> TraceError {
        let column = self.header.names[column].clone();
        TraceError::NotUtf8 { path: self.path.to_owned(), line: self.line, column }
    }

    /// Name of a column.
    pub(crate) fn name(&self, column: usize) -> &'a str {
        &self.header.names[column]
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

/// Characters of foreign text that a message repeats at most.
const QUOTE_MAX: usize = 80;

/// Cuts foreign text for a message and makes its control characters visible.
pub(crate) fn shorten(text: &str) -> String {
    let cut: String = text.chars().take(QUOTE_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTE_MAX).is_some() { cut + "..." } else { cut }
}

/// Cuts a line at its commas and takes quotes off; the fields index the bytes that are returned.
fn split<'a>(line: &'a [u8], fields: &mut Vec<(usize, usize)>, unquoted: &'a mut Vec<u8>) -> &'a [u8] {
    fields.clear();
    if memchr(b'"', line).is_some() {
        return split_quoted(line, fields, unquoted);
    }
    let mut start = 0;
    for (at, &byte) in line.iter().enumerate() {
        if byte == b',' {
            fields.push((start, at));
            start = at + 1;
        }
    }
    fields.push((start, line.len()));
    line
}

fn split_quoted<'a>(line: &[u8], fields: &mut Vec<(usize, usize)>, unquoted: &'a mut Vec<u8>) -> &'a [u8] {
    unquoted.clear();
    let (mut start, mut inside) = (0, false);
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if inside && bytes.peek() == Some(&b'"') => {
                bytes.next();
                unquoted.push(b'"');
            }
            b'"' => inside = !inside,
            b',' if !inside => {
                fields.push((start, unquoted.len()));
                start = unquoted.len();
            }
            _ => unquoted.push(byte),
        }
    }
    fields.push((start, unquoted.len()));
    unquoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Vec<String> {
        let (mut fields, mut unquoted) = (Vec::new(), Vec::new());
        let bytes = split(line.as_bytes(), &mut fields, &mut unquoted);
        fields.iter().map(|&(start, end)| String::from_utf8_lossy(&bytes[start..end]).into_owned()).collect()
    }

    #[test]
    fn lines_split_at_commas_outside_quotes() {
        assert_eq!(fields("1,,x"), ["1", "", "x"]);
        assert_eq!(fields(""), [""]);
        assert_eq!(fields(r#""1","a, b","say ""hi""",2"#), ["1", "a, b", "say \"hi\"", "2"]);
        assert_eq!(fields(r#"1,"open,2"#), ["1", "open,2"]);
    }

    #[test]
    fn foreign_text_is_cut() {
        assert_eq!(shorten("a\tb"), "a\\tb");
        assert_eq!(shorten(&"ä".repeat(100)).chars().count(), QUOTE_MAX + 3);
    }
}
