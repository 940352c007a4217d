//! A CSV file with a header line: rows of fields, found by column name, with errors that say where.
//!
//! The formats read here never break a line inside quotes, so a line is a row and line numbers are exact.

use std::path::{Path, PathBuf};

use memchr::memchr;

use crate::error::TraceError;
use crate::lines::Lines;
use crate::number::{self, BadNumber};

/// Column names of the header line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    names: Vec<String>,
}

impl Header {
    /// Positions of columns, each given by its name or by alternatives with `|` between; else the missing ones.
    pub(crate) fn find(&self, columns: &'static [&'static str]) -> Result<Vec<usize>, Vec<&'static str>> {
        let found = columns.iter().map(|names| (names, names.split('|').find_map(|name| self.position(name))));
        let missing: Vec<_> = found.clone().filter_map(|(names, at)| at.is_none().then_some(*names)).collect();
        if missing.is_empty() { Ok(found.filter_map(|(_, at)| at).collect()) } else { Err(missing) }
    }

    /// Case and blanks around the name do not count.
    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|column| column.eq_ignore_ascii_case(name))
    }

    /// The header as one line, cut to a length that fits in a message.
    pub(crate) fn text(&self) -> String {
        shorten(&self.names.join(","))
    }
}

/// A table that is read row by row.
pub(crate) struct Table {
    path: PathBuf,
    lines: Lines,
    header: Header,
    /// Start and end of each field of the current row, in the line or in `unquoted`.
    fields: Vec<(usize, usize)>,
    unquoted: Vec<u8>,
}

impl Table {
    /// Opens the file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Table, TraceError> {
        let mut lines = Lines::open(path)?;
        let Some((_, line)) = lines.next_line()? else {
            return Err(TraceError::EmptyFile { path: path.to_owned() });
        };
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let (mut fields, mut unquoted) = (Vec::new(), Vec::new());
        let bytes = split(line, &mut fields, &mut unquoted);
        let names = fields.iter().map(|&(start, end)| std::str::from_utf8(&bytes[start..end]).map(str::trim));
        let names: Result<Vec<String>, _> = names.map(|name| name.map(str::to_owned)).collect();
        let names =
            names.map_err(|_| TraceError::NotUtf8 { path: path.to_owned(), line: 1, column: "(header)".to_owned() })?;
        Ok(Table { path: path.to_owned(), lines, header: Header { names }, fields, unquoted })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The next row; `None` at the end.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row<'_>>, TraceError> {
        let Some((line, text)) = self.lines.next_line()? else {
            return Ok(None);
        };
        let bytes = split(text, &mut self.fields, &mut self.unquoted);
        let (expected, found) = (self.header.names.len(), self.fields.len());
        if expected != found {
            return Err(TraceError::FieldCount { path: self.path.clone(), line, expected, found });
        }
        Ok(Some(Row { path: &self.path, header: &self.header, line, bytes, fields: &self.fields }))
    }
}

/// One row. Columns are positions that [`Header::find`] gave.
pub(crate) struct Row<'a> {
    pub(crate) path: &'a Path,
    pub(crate) line: u64,
    header: &'a Header,
    bytes: &'a [u8],
    fields: &'a [(usize, usize)],
}

impl<'a> Row<'a> {
    /// The raw field.
    pub(crate) fn field(&self, column: usize) -> &'a [u8] {
        let (start, end) = self.fields[column];
        &self.bytes[start..end]
    }

    /// The field as text.
    pub(crate) fn text(&self, column: usize) -> Result<&'a str, TraceError> {
        std::str::from_utf8(self.field(column)).map_err(|_| self.not_utf8(column))
    }

    /// Seconds since some origin, as nanoseconds.
    pub(crate) fn seconds(&self, column: usize) -> Result<u64, TraceError> {
        number::nanoseconds(self.field(column)).map_err(|why| self.bad_seconds(column, why))
    }

    /// A number of tokens, at most [`number::TOKENS_MAX`].
    pub(crate) fn tokens(&self, column: usize) -> Result<u32, TraceError> {
        number::tokens(self.field(column)).map_err(|why| self.bad_tokens(column, why))
    }

    /// A number of tokens, at least 1.
    pub(crate) fn tokens_not_zero(&self, column: usize) -> Result<u32, TraceError> {
        match self.tokens(column)? {
            0 => Err(self.bad(
                column,
                "a number of tokens of at least 1",
                "a request without a size cannot be replayed; remove the row",
            )),
            tokens => Ok(tokens),
        }
    }

    #[cold]
    fn bad_seconds(&self, column: usize, why: BadNumber) -> TraceError {
        match why {
            BadNumber::Malformed => self.bad(
                column,
                "seconds as a decimal number, like 45 or 45.25",
                "the line may be cut off, or its fields shifted against the header",
            ),
            BadNumber::Negative => self.bad(
                column,
                "a time of at least 0 seconds",
                "add a constant to all timestamps: only their differences matter",
            ),
            BadNumber::TooLarge => self.bad(
                column,
                "at most 18446744073 seconds (584 years)",
                "the column is in seconds; a number this large is often milliseconds or nanoseconds",
            ),
        }
    }

    #[cold]
    fn bad_tokens(&self, column: usize, why: BadNumber) -> TraceError {
        match why {
            BadNumber::Malformed => self.bad(
                column,
                "a whole number of tokens, like 472",
                "the line may be cut off, or its fields shifted against the header",
            ),
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
                found: shorten(found),
                help,
            },
        }
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
