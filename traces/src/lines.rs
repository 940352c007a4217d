//! Bytes to lines: one block of the file in memory, whatever the file's size; a JSON object that is longer makes it grow.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memchr::memchr;

use crate::error::TraceError;
use crate::packing::Packing;
use crate::source::Source;

/// Bytes read at a time, and the longest line accepted that is no JSON object.
const BLOCK: usize = 256 << 10;

/// Longest JSON object accepted, and written. A prompt of a million tokens with an id for each block of 16 has up to 1.4 MB, a
/// session of a thousand requests with all their ids 20 MB.
pub(crate) const OBJECT_MAX: usize = 256 << 20;

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
        loop {
            let Some(end) = self.find_line_end()? else {
                return Ok(None);
            };
            let line = self.start..end;
            self.last = self.start;
            self.start = self.end.min(end + 1);
            self.number += 1;
            let length = line.len() - usize::from(self.block[line.clone()].ends_with(b"\r"));
            if length > 0 {
                return Ok(Some((self.number, &self.block[line.start..line.start + length])));
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

    /// Index just past the next line's text; reads on as needed.
    fn find_line_end(&mut self) -> Result<Option<usize>, TraceError> {
        let mut searched = self.start;
        loop {
            if let Some(found) = memchr(b'\n', &self.block[searched..self.end]) {
                return Ok(Some(searched + found));
            }
            if self.at_end {
                return Ok((self.start < self.end).then_some(self.end));
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
        if text.first() == Some(&b'{') { OBJECT_MAX } else { BLOCK }
    }

    fn read_error(&self, source: io::Error) -> TraceError {
        let (path, line) = (self.path.clone(), self.number + 1);
        match self.source.packing {
            Packing::Plain => TraceError::Read { path, line, source },
            packing => TraceError::BrokenStream { path, line, packing, source },
        }
    }
}
