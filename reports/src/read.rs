//! Reads back what a run has left: its figures, where it comes from, and its rows, batch by batch in bounded memory.

mod columns;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use overbook_sim::results::rows::{Outcome, RequestRow, StepRow};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{ClassId, SessionId};
use serde_json::Value;

use crate::ReportError;
use crate::parquet::{REQUESTS, STEPS};
use crate::run_dir::MANIFEST;
use columns::Columns;

pub use crate::run_dir::SUMMARY;

/// A run directory. The rows stay on disk until they are asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct RunData {
    dir: PathBuf,
    summary: Value,
    manifest: Value,
}

impl RunData {
    /// Opens a run directory. Interrupted and failed runs are opened as well: see [`RunData::is_complete`].
    ///
    /// # Errors
    /// `dir` is not a run directory, or one of its files is not JSON.
    pub fn open(dir: &Path) -> Result<RunData, ReportError> {
        let manifest = document(dir, MANIFEST)?;
        let summary = document(dir, SUMMARY)?;
        Ok(RunData { dir: dir.to_owned(), summary, manifest })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Name of the directory, which distinguishes runs.
    pub fn name(&self) -> String {
        let name =
            self.dir.file_name().or_else(|| self.dir.components().next_back().map(std::path::Component::as_os_str));
        name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Title of the scenario.
    pub fn title(&self) -> &str {
        self.summary["title"].as_str().unwrap_or_default()
    }

    /// How the run ended: `complete`, `interrupted`, `failed`.
    pub fn status(&self) -> &str {
        self.manifest["status"].as_str().unwrap_or("unknown")
    }

    /// Whether the run came to its end.
    pub fn is_complete(&self) -> bool {
        self.status() == "complete"
    }

    /// A figure of `summary.json` by its key; `/` leads into nested objects: `tokens/cached_tokens`. `None` if there is none.
    pub fn figure(&self, key: &str) -> Option<f64> {
        key.split('/').try_fold(&self.summary, |value, key| value.get(key))?.as_f64()
    }

    /// The whole of `summary.json`.
    pub fn summary(&self) -> &Value {
        &self.summary
    }

    /// The whole of `manifest.json`.
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// What the run assumed, as its report says it: what, and its value.
    pub fn assumptions(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let listed = self.summary["assumptions"].as_object();
        let mut facts: Vec<_> = listed.into_iter().flatten().map(|(what, value)| (what.clone(), text(value))).collect();
        if let Some(trust) = self.summary["trust"]["text"].as_str() {
            facts.push(("Trust".to_owned(), trust.to_owned()));
        }
        let more = [("calibration", &self.summary), ("tool_version", &self.manifest), ("trace_hash", &self.manifest)];
        for (key, file) in more {
            if let Some(value) = file[key].as_str() {
                let (what, value) = (key.replace('_', " "), value.to_owned());
                facts.push((what[..1].to_uppercase() + &what[1..], value));
            }
        }
        facts
    }

    /// Whether the rows of every request are there.
    pub fn has_requests(&self) -> bool {
        self.dir.join(REQUESTS).exists()
    }

    /// Whether the rows of every segment are there.
    pub fn has_steps(&self) -> bool {
        self.dir.join(STEPS).exists()
    }

    /// Names of the request classes, as [`RequestRow::class`] counts them.
    ///
    /// # Errors
    /// The file is missing, is not Parquet, or names none.
    pub fn classes(&self) -> Result<Vec<String>, ReportError> {
        let path = self.dir.join(REQUESTS);
        let names = Columns::open(&path)?.fact("overbook.classes");
        let names = names.and_then(|names| serde_json::from_str(&names).ok());
        names.ok_or_else(|| ReportError::unreadable(&path)("it does not say overbook.classes".to_owned()))
    }

    /// Shows every request, in order of end, until `see` says that it has seen enough.
    ///
    /// # Errors
    /// The file is missing, is not Parquet, or lacks a column.
    pub fn each_request(&self, mut see: impl FnMut(&RequestRow) -> bool) -> Result<(), ReportError> {
        let mut file = Columns::open(&self.dir.join(REQUESTS))?;
        let mut names = vec![
            "request",
            "replica",
            "class",
            "arrival_ns",
            "end_ns",
            "prompt_tokens",
            "output_tokens",
            "cached_tokens",
            "preemptions",
            "recomputed_tokens",
        ];
        // Runs of earlier versions have no sessions, no longest gaps, no swaps, no attempts, or no front end.
        let optional = ["start_ns", "first_token_ns", "session", "longest_gap_ns"];
        let known = if file.has("longest_gap_ns") { 4 } else { 2 + usize::from(file.has("session")) };
        let mut more = |name| {
            let at = file.has(name).then_some(names.len());
            names.extend(at.map(|_| name));
            at
        };
        let [swapped, attempts, frontend] = ["swapped_tokens", "attempts", "frontend_ns"].map(&mut more);
        file.read(&names, &optional[..known], Some("outcome"), |batch| {
            (0..batch.rows).all(|i| {
                let n = |column: usize| batch.numbers[column][i];
                see(&RequestRow {
                    request: n(0),
                    replica: n(1) as u32,
                    class: ClassId(n(2) as u16),
                    session: batch.optional.get(2).and_then(|sessions| sessions[i]).map(SessionId::new),
                    outcome: outcome(batch.words[i].data()),
                    arrival: Time(n(3)),
                    start: batch.optional[0][i].map(Time),
                    first_token: batch.optional[1][i].map(Time),
                    end: Time(n(4)),
                    prompt_tokens: n(5) as u32,
                    output_tokens: n(6) as u32,
                    cached_tokens: n(7) as u32,
                    preemptions: n(8) as u32,
                    recomputed_tokens: n(9),
                    longest_gap: batch.optional.get(3).and_then(|gaps| gaps[i]).map(Span),
                    swapped_tokens: swapped.map_or(0, n),
                    frontend: frontend.map_or(Span::ZERO, |at| Span(n(at))),
                    attempts: attempts.map_or(1, |at| n(at) as u32),
                })
            })
        })
    }

    /// Shows every segment, in the order in which they were completed, until `see` says that it has seen enough.
    ///
    /// # Errors
    /// The file is missing, is not Parquet, or lacks a column.
    pub fn each_step(&self, mut see: impl FnMut(&StepRow) -> bool) -> Result<(), ReportError> {
        let mut file = Columns::open(&self.dir.join(STEPS))?;
        let names = [
            "replica",
            "lane",
            "start_ns",
            "end_ns",
            "steps",
            "decode_seqs",
            "prefill_seqs",
            "prefill_tokens",
            "decode_context",
            "prefill_context",
            "running",
            "waiting",
            "used_blocks",
            "preempted",
            "swapped_blocks",
        ];
        let names = if file.has("swapped_blocks") { &names[..] } else { &names[..14] };
        file.read(names, &[], None, |batch| {
            (0..batch.rows).all(|i| {
                let n = |column: usize| batch.numbers[column][i];
                see(&StepRow {
                    replica: n(0) as u32,
                    lane: n(1) as u32,
                    start: Time(n(2)),
                    end: Time(n(3)),
                    steps: n(4),
                    decode_seqs: n(5) as u32,
                    prefill_seqs: n(6) as u32,
                    prefill_tokens: n(7) as u32,
                    decode_context: n(8),
                    prefill_context: n(9),
                    running: n(10) as u32,
                    waiting: n(11) as u32,
                    used_blocks: n(12),
                    preempted: n(13) as u32,
                    swapped_blocks: batch.numbers.get(14).map_or(0, |swapped| swapped[i]),
                })
            })
        })
    }
}

/// A request that ended in a way that this version does not know counts as failed.
fn outcome(name: &[u8]) -> Outcome {
    Outcome::ALL.into_iter().find(|outcome| outcome.name().as_bytes() == name).unwrap_or(Outcome::Failed)
}

fn document(dir: &Path, name: &'static str) -> Result<Value, ReportError> {
    let path = dir.join(name);
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ReportError::NotARun { dir: dir.to_owned(), missing: name }
        }
        _ => ReportError::unreadable(&path)(error.to_string()),
    })?;
    let value: Value = serde_json::from_str(&text).map_err(|e| ReportError::unreadable(&path)(e.to_string()))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(ReportError::unreadable(&path)("it is not a JSON object".to_owned()))
    }
}

#[cfg(test)]
mod tests;
