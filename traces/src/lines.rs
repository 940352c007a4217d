//! Bytes to lines, and to records of several lines: one block of the file in memory, whatever the file's size; a JSON object or a text in
//! quotes that is longer makes it grow.

use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memchr::memchr;

use crate::csv::{End, Quotes};
use crate::error::TraceError;
use crate::packing::Packing;
use crate::source::Source;

/// Bytes read at a time, and the longest line accepted that is no JSON object and has no text in quotes.
const BLOCK: usize = 256 << 10;

/// Longest JSON object accepted, and written. A prompt of a million tokens with an id for each block of 16 has up to 1.4 MB, a
/// session of a thousand requests with all their ids 20 MB.
pub(crate) const OBJECT_MAX: usize = 256 << 20;

/// Longest record with a text in quotes. A prompt of a million tokens has some 4 MB.
const RECORD_MAX: usize = 16 << 20;

/// A record of separated fields.
pub(crate) struct Record<'a> {
    /// The line at which it begins.
    pub(crate) line: u64,
    pub(crate) text: &'a [u8],
    /// Whether it has a quote.
    pub(crate) quoted: bool,
    /// Whether a quote in it is never closed, or not rightly; its text is then that of the one line.
    pub(crate) open: bool,
}

/// Lines of a file, numbered from 1.
pub(crate) struct Lines {
    path: PathBuf,
    source: Source,
    block: Vec<u8>,
    /// Unread bytes are `block[start..end]`.
    start: usize,
    end: usize,
    /// Where the last line began.
    last: usize,
    at_end: bool,
    number: u64,
}

impl Lines {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> Result<Lines, TraceError> {
        Ok(Lines {
            path: path.to_owned(),
            source: Source::open(path)?,
            block: vec![0; BLOCK],
            start: 0,
            end: 0,
            last: 0,
            at_end: false,
            number: 0,
        })
    }

    /// Number and text of the next line that is not empty, without its line end; `None` at the end of the file.
    pub(crate) fn next_line(&mut self) -> Result<Option<(u64, &[u8])>, TraceError> {
        Ok(self.advance()?.map(|text| (self.number, &self.block[text])))
    }

    /// The next record that is not empty: a line, or several where a quote stands open at the end of one; `None` at the end of the file.
    pub(crate) fn next_record(&mut self, separator: u8) -> Result<Option<Record<'_>>, TraceError> {
        let Some(text) = self.advance()? else { return Ok(None) };
        let line = self.number;
        let quoted = memchr(b'"', &self.block[text.clone()]).is_some();
        let mut quotes = Quotes::new(separator);
        if !quoted || quotes.end(&self.block[text.clone()]) != End::Open {
            return Ok(Some(Record { line, text: &self.block[text], quoted, open: false }));
        }
        // Reading on keeps what is behind `start`.
        let first = (text.len(), self.start - self.last, 0);
        self.start = self.last;
        let whole = self.close(quotes, first.0, first.1)?;
        let (length, taken, lines) = whole.unwrap_or(first);
        self.number += lines;
        self.last = self.start;
        self.start += taken;
        let text = &self.block[self.last..self.last + length];
        Ok(Some(Record { line, text, quoted, open: whole.is_none() }))
    }

    /// Looks for the end of the record at `start`, of which `read` bytes are known to the quotes and whose first line takes so many
    /// bytes. Gives the length of its text, the bytes that its lines take, and the number of further lines; `None` if its quotes are not
    /// closed.
    fn close(
        &mut self,
        mut quotes: Quotes,
        mut read: usize,
        mut taken: usize,
    ) -> Result<Option<(usize, usize, u64)>, TraceError> {
        for lines in 1.. {
            let end = match self.find_line_end(taken) {
                Ok(Some(end)) => end,
                // An open quote must not hide the rest of the file.
                Ok(None) | Err(TraceError::LineTooLong { .. }) => break,
                Err(error) => return Err(error),
            };
            let text = &self.block[self.start..end];
            taken = self.end.min(end + 1) - self.start;
            match quotes.end(&text[read..]) {
                End::Open => read = text.len(),
                End::Closed => return Ok(Some((text.len() - usize::from(text.ends_with(b"\r")), taken, lines))),
                End::Astray => break,
            }
        }
        Ok(None)
    }

    /// Moves on to the next line that is not empty: where its text stands in the block, without its line end.
    fn advance(&mut self) -> Result<Option<Range<usize>>, TraceError> {
        loop {
            let Some(end) = self.find_line_end(0)? else {
                return Ok(None);
            };
            let line = self.start..end;
            self.last = self.start;
            self.start = self.end.min(end + 1);
            self.number += 1;
            let length = line.len() - usize::from(self.block[line.clone()].ends_with(b"\r"));
            if length > 0 {
                return Ok(Some(line.start..line.start + length));
            }
        }
    }

    /// What is behind the last line in a whole block: the same bytes, whatever pieces the file comes in.
    pub(crate) fn ahead(&mut self) -> Result<&[u8], TraceError> {
        // The line before may still be given once more.
        while !self.at_end && self.end < self.block.len() {
            let read = loop {
                match self.source.stream.read(&mut self.block[self.end..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            let read = read.map_err(|source| self.read_error(source))?;
            self.end += read;
            self.at_end = read == 0;
        }
        Ok(&self.block[self.start..self.end])
    }

    /// Number of the last line.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Gives the last line once more. Nothing was read since.
    pub(crate) fn step_back(&mut self) {
        self.start = self.last;
        self.number -= 1;
    }

    /// Index just past the text of the line that begins so many bytes behind `start`; reads on as needed.
    fn find_line_end(&mut self, behind: usize) -> Result<Option<usize>, TraceError> {
        let mut searched = self.start + behind;
        loop {
            if let Some(found) = memchr(b'\n', &self.block[searched..self.end]) {
                return Ok(Some(searched + found));
            }
            if self.at_end {
                return Ok((self.start + behind < self.end).then_some(self.end));
            }
            let pending = self.end - self.start;
            self.refill()?;
            searched = self.start + pending;
        }
    }

    /// Moves the pending bytes to the front and reads more behind them.
    fn refill(&mut self) -> Result<(), TraceError> {
        self.block.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.block.len() {
            let limit = self.limit();
            if self.end >= limit {
                return Err(TraceError::LineTooLong { path: self.path.clone(), line: self.number + 1, limit });
            }
            self.block.resize((2 * self.end).min(limit), 0);
        }
        let read = loop {
            match self.source.stream.read(&mut self.block[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = read.map_err(|source| self.read_error(source))?;
        self.end += read;
        self.at_end = read == 0;
        Ok(())
    }

    /// How long the pending line may be: the block grows up to that.
    fn limit(&self) -> usize {
        let pending = &self.block[self.start..self.end];
        let text = pending.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pending).trim_ascii_start();
        match text.first() {
            Some(b'{') => OBJECT_MAX,
            _ if memchr(b'"', text).is_some() => RECORD_MAX,
            _ => BLOCK,
        }
    }

    fn read_error(&self, source: io::Error) -> TraceError {
        let (path, line) = (self.path.clone(), self.number + 1);
        match self.source.packing {
            Packing::Plain => TraceError::Read { path, line, source },
            packing => TraceError::BrokenStream { path, line, packing, source },
        }
    }
}
