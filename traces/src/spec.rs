//! What a scenario says about a trace, and which formats there are.

use std::fmt;
use std::path::PathBuf;

use overbook_sim::arrival::Workload;
use overbook_sim::units::Rate;
use serde::{Deserialize, Serialize};

use crate::error::{Problem, TraceError};
use crate::number::TOKENS_MAX;
use crate::replay::Replay;
use crate::{azure, burstgpt, vidur};

/// A recorded trace to replay: which file, which rows of it, how fast.
///
/// The steps happen in the order of the fields: filter, skip, take, clip, scale, repeat. The first request that is
/// taken arrives at time zero.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceSpec {
    /// The file: CSV, plain or packed with gzip or Zstandard (its first bytes decide).
    pub path: PathBuf,
    /// Format of the file; by default its header decides.
    #[serde(default)]
    pub format: Format,
    /// Rows to keep, by model and log type; by default all (`BurstGPT` only).
    #[serde(default, skip_serializing_if = "Keep::is_all")]
    pub keep: Keep,
    /// Kept rows to pass over at the start.
    #[serde(default)]
    pub skip: u64,
    /// Kept rows to take after that; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Prompts longer than this are clipped to it [tokens].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prompt_tokens: Option<u32>,
    /// Outputs longer than this are clipped to it [tokens].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// Divides all gaps: 100 plays a hundred times faster. Not together with `rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_scale: Option<f64>,
    /// Scales all gaps to this mean rate, (requests - 1) / (last - first arrival). Reads the file twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Times to play the taken rows; each copy starts one mean gap after the last arrival of the copy before.
    #[serde(default = "once")]
    pub repeat: u64,
}

fn once() -> u64 {
    1
}

/// Rows to keep. An empty list keeps everything; names are compared without regard to case.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Models, e.g. `ChatGPT`, `GPT-4`.
    pub model: Vec<String>,
    /// Log types, in full (`Conversation log`) or short (`conversation`, `api`).
    pub log_type: Vec<String>,
}

impl Keep {
    /// Whether nothing is filtered out.
    pub fn is_all(&self) -> bool {
        self.model.is_empty() && self.log_type.is_empty()
    }
}

/// Layout of a trace file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The header decides.
    #[default]
    Auto,
    /// `BurstGPT` v1 and v1.2, and excerpts with relative timestamps.
    #[serde(rename = "burstgpt")]
    BurstGpt,
    /// Azure LLM inference traces of 2023 and 2024.
    Azure,
    /// Request files of the vidur simulator.
    Vidur,
}

impl Format {
    /// The formats that a file can have.
    pub(crate) const ALL: [Format; 3] = [Format::BurstGpt, Format::Azure, Format::Vidur];

    /// Columns that the format needs; `|` separates alternatives.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Format::Auto => &[],
            Format::BurstGpt => burstgpt::COLUMNS,
            Format::Azure => azure::COLUMNS,
            Format::Vidur => vidur::COLUMNS,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Auto => "auto",
            Format::BurstGpt => "burstgpt",
            Format::Azure => "azure",
            Format::Vidur => "vidur",
        })
    }
}

/// What each format needs, for messages.
pub(crate) fn needs() -> String {
    let needs = Format::ALL.map(|format| format!("{format} ({})", format.columns().join(", ")));
    needs.join("; ")
}

impl TraceSpec {
    /// All rows of a file, as they are.
    pub fn new(path: impl Into<PathBuf>) -> TraceSpec {
        TraceSpec {
            path: path.into(),
            format: Format::Auto,
            keep: Keep::default(),
            skip: 0,
            requests: None,
            max_prompt_tokens: None,
            max_output_tokens: None,
            time_scale: None,
            rate: None,
            repeat: 1,
        }
    }

    /// Everything that is wrong with the values, as (path below this specification, message).
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: String| problems.push((path.to_owned(), message));
        if self.path.as_os_str().is_empty() {
            add("path", "is empty; name a trace file".to_owned());
        }
        if matches!(self.format, Format::Azure | Format::Vidur) && !self.keep.is_all() {
            add("keep", format!("filters by model and log type, but format {} has neither column", self.format));
        }
        if self.requests == Some(0) {
            add("requests", "is 0; take at least 1 request, or leave it out to take all".to_owned());
        }
        for (path, limit) in
            [("max_prompt_tokens", self.max_prompt_tokens), ("max_output_tokens", self.max_output_tokens)]
        {
            if limit.is_some_and(|limit| !(1..=TOKENS_MAX).contains(&limit)) {
                add(path, format!("must be between 1 and {TOKENS_MAX} tokens"));
            }
        }
        if self.time_scale.is_some() && self.rate.is_some() {
            add("rate", "and `time_scale` both set the speed; give one of them".to_owned());
        }
        if let Some(scale) = self.time_scale
            && !(scale.is_finite() && scale > 0.0)
        {
            add("time_scale", format!("is {scale}; it must be above 0 (100 plays a hundred times faster)"));
        }
        if let Some(Rate(rate)) = self.rate
            && !(rate.is_finite() && rate > 0.0)
        {
            add("rate", format!("is {rate}/s; it must be above 0"));
        }
        if self.repeat == 0 {
            add("repeat", "is 0; play the trace at least once".to_owned());
        }
        problems
    }

    /// Opens the trace and reads up to its first request, so that a wrong file fails here and not in mid-run.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn open(&self) -> Result<Box<dyn Workload>, TraceError> {
        Ok(Box::new(self.replay()?))
    }

    /// As [`open`](TraceSpec::open), but with the concrete type, which also tells what became of the rows.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn replay(&self) -> Result<Replay, TraceError> {
        Replay::open(self)
    }
}
