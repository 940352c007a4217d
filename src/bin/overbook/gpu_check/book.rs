//! A part's file: written line by line as things are measured, read again where a check goes on.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Part;
use super::rows::{Line, Row};
use crate::output::{Failure, note};
use crate::watch::interrupted;

/// The file of a part that is being measured.
pub(crate) struct Book {
    part: Part,
    path: PathBuf,
    file: File,
    lines: Vec<Line>,
    /// Items that have been measured, now or at an earlier time.
    done: BTreeSet<String>,
    began: Instant,
    until: Instant,
    quiet: bool,
}

/// The file of a part in a folder.
pub(crate) fn path(dir: &Path, part: Part) -> PathBuf {
    dir.join(format!("{}.jsonl", part.name()))
}

/// What a part's file holds; nothing if there is none. A line that was cut off as it was written is left out.
pub(crate) fn read(dir: &Path, part: Part) -> Vec<Line> {
    texts(dir, part).into_iter().map(|(_, line)| line).collect()
}

/// The same, with the very text of each line.
fn texts(dir: &Path, part: Part) -> Vec<(String, Line)> {
    let text = fs::read_to_string(path(dir, part)).unwrap_or_default();
    text.lines().filter_map(|line| Some((line.to_owned(), serde_json::from_str(line).ok()?))).collect()
}

/// Whether a part has come to its end with nothing left.
pub(crate) fn is_complete(lines: &[Line]) -> bool {
    matches!(lines.last(), Some(Line { row: Row::Ended { complete: true, .. }, .. }))
}

impl Book {
    /// Opens the file of a part that may take so much time. What an earlier time has measured is kept, but for what it could not.
    pub(crate) fn open(dir: &Path, part: Part, budget: Duration, quiet: bool) -> Result<Book, Failure> {
        let again = |row: &Row| matches!(row, Row::Left { .. } | Row::Failed { .. } | Row::Ended { .. });
        let mut kept = texts(dir, part);
        kept.retain(|(_, line)| !again(&line.row));
        let path = path(dir, part);
        // As it stands there: a number that is read and written again may be another in its last digit.
        let (texts, lines): (Vec<String>, Vec<Line>) = kept.into_iter().unzip();
        let text: String = texts.into_iter().flat_map(|text| [text, "\n".to_owned()]).collect();
        let aside = path.with_extension("partial");
        let opened = fs::write(&aside, text)
            .and_then(|()| fs::rename(&aside, &path))
            .and_then(|()| OpenOptions::new().append(true).open(&path));
        let file = opened.map_err(|error| failed(&path, &error))?;
        let done = lines.iter().map(|line| line.item.clone()).collect();
        let began = Instant::now();
        Ok(Book { part, path, file, lines, done, began, until: began + budget, quiet })
    }

    /// Whether an item that takes about so long is to be measured now: it was not yet, nobody has interrupted, and there is time.
    pub(crate) fn wants(&mut self, item: &str, about: Duration) -> Result<bool, Failure> {
        if self.done.contains(item) {
            return Ok(false);
        }
        let why = if interrupted() {
            "interrupted"
        } else if Instant::now() + about > self.until {
            "no time"
        } else {
            if !self.quiet {
                note(&format!("{}: {item}", self.part.name()));
            }
            return Ok(true);
        };
        self.put(item, vec![Row::Left { why: why.to_owned() }])?;
        Ok(false)
    }

    /// Whether an item has been measured.
    pub(crate) fn has(&self, item: &str) -> bool {
        self.done.contains(item)
    }

    /// Writes down all that an item gave.
    pub(crate) fn put(&mut self, item: &str, rows: Vec<Row>) -> Result<(), Failure> {
        let at_s = self.began.elapsed().as_secs_f64();
        let measured = !rows.iter().any(|row| matches!(row, Row::Left { .. } | Row::Failed { .. }));
        if measured {
            self.done.insert(item.to_owned());
        }
        self.append(rows.into_iter().map(|row| Line { item: item.to_owned(), at_s, row }).collect())
    }

    /// Writes down what an item gave, or why it could not be measured.
    pub(crate) fn take<E: std::fmt::Display>(&mut self, item: &str, rows: Result<Vec<Row>, E>) -> Result<(), Failure> {
        let rows = rows.unwrap_or_else(|error| {
            note(&format!("{}: {item}: {error}", self.part.name()));
            vec![Row::Failed { error: error.to_string() }]
        });
        self.put(item, rows)
    }

    fn append(&mut self, lines: Vec<Line>) -> Result<(), Failure> {
        let mut text = String::new();
        for line in &lines {
            text += &serde_json::to_string(line).map_err(anyhow::Error::new)?;
            text.push('\n');
        }
        self.file.write_all(text.as_bytes()).map_err(|error| failed(&self.path, &error))?;
        self.lines.extend(lines);
        Ok(())
    }

    /// Ends the part; all its lines.
    pub(crate) fn end(mut self) -> Result<Vec<Line>, Failure> {
        let missing = |line: &Line| matches!(line.row, Row::Left { .. } | Row::Failed { .. });
        let complete = !self.lines.iter().any(missing);
        let seconds = self.began.elapsed().as_secs_f64();
        self.put("", vec![Row::Ended { complete, seconds }])?;
        self.file.sync_all().map_err(|error| failed(&self.path, &error))?;
        Ok(self.lines)
    }

    /// What is left of the part's time.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Run(anyhow::anyhow!("cannot write {}: {error}", path.display()))
}
