//! What a scenario says about a trace.

use std::path::PathBuf;

use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Rate};
use serde::{Deserialize, Serialize};

use crate::arrivals::ArrivalSpec;
use crate::columns::Columns;
use crate::error::Problem;
use crate::format::Format;
use crate::keep::Keep;
use crate::load::{Failures, LeaveOut, ScaleSpec, Window};
use crate::mooncake;
use crate::number::TOKENS_MAX;
use crate::session_spec::SessionTraceSpec;

/// A recorded trace to replay: which file, which rows of it, how fast.
///
/// The steps, whatever the order of the fields: leave out what cannot be read, sort, cut the window, filter, drop or redraw failures, skip, take, clip, repeat
/// or superpose, spread, then compress or multiply. The first request that is taken arrives at time zero. At most one of
/// `scale`, `time_scale` and `rate` is given. Copies of a request (`superpose`, `multiply`, `repeat`) share no prefix with
/// the original.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceSpec {
    /// The file: CSV, JSON lines or a JSON document, plain or packed with gzip or Zstandard, or Parquet (its first bytes decide).
    pub path: PathBuf,
    /// Format of the file; by default its header decides.
    #[serde(default)]
    pub format: Format,
    /// Which column holds what, for a file of any other layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
    /// Tokens per block of the content ids, for traces that have them (Mooncake): the engine's block size.
    #[serde(default = "block_tokens", skip_serializing_if = "is_block_tokens")]
    pub block_tokens: u32,
    /// How sessions are played, of a trace that has them with think times (kv-cache-tester).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionTraceSpec>,
    /// The part of the trace to play, in time since its first row; by default all.
    #[serde(default, skip_serializing_if = "Window::is_all")]
    pub window: Window,
    /// Rows to keep, by model and log type (`BurstGPT`) or class; by default all.
    #[serde(default, skip_serializing_if = "Keep::is_all")]
    pub keep: Keep,
    /// Rows that cannot be read: by default none are left out.
    #[serde(default, skip_serializing_if = "LeaveOut::is_nothing")]
    pub leave_out: LeaveOut,
    /// Puts the rows in order of time first, for a file whose rows are not; rows at the same time keep their order. All rows
    /// are then in memory, some 100 bytes each.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sort: bool,
    /// What failed requests become.
    #[serde(default, skip_serializing_if = "Failures::is_drop")]
    pub failures: Failures,
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
    /// When the requests arrive, in place of the file's times: for files of lengths without any (`sglang-bench`). The order is that of
    /// the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<ArrivalSpec>,
    /// Spreads arrivals evenly over the time steps in which the file gives them: `1s` for `BurstGPT`, `3s` for Mooncake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Duration>,
    /// How the load is changed; by default not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleSpec>,
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

/// vLLM's default block size.
fn block_tokens() -> u32 {
    16
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_block_tokens(tokens: &u32) -> bool {
    *tokens == block_tokens()
}

impl TraceSpec {
    /// All rows of a file, as they are.
    pub fn new(path: impl Into<PathBuf>) -> TraceSpec {
        TraceSpec {
            path: path.into(),
            format: Format::Auto,
            columns: None,
            block_tokens: block_tokens(),
            sessions: None,
            window: Window::default(),
            keep: Keep::default(),
            leave_out: LeaveOut::Nothing,
            sort: false,
            failures: Failures::Drop,
            skip: 0,
            requests: None,
            max_prompt_tokens: None,
            max_output_tokens: None,
            arrivals: None,
            spread: None,
            scale: None,
            time_scale: None,
            rate: None,
            repeat: 1,
        }
    }

    /// Everything that is wrong with the values, as (path below this specification, message).
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.path.as_os_str().is_empty() {
            problems.push(("path".to_owned(), "is empty; name a trace file".to_owned()));
        }
        problems.extend(self.keep_problems());
        problems.extend(self.layout_problems());
        let mut add = |path: &str, message: String| problems.push((path.to_owned(), message));
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
        if self.scale.is_some() && (self.time_scale.is_some() || self.rate.is_some()) {
            add("scale", "and `time_scale` or `rate` both set the load; give one of them".to_owned());
        }
        if self.spread == Some(Duration(Span::ZERO)) {
            add("spread", "is 0; leave it out to keep the times of the file".to_owned());
        }
        if self.repeat > 1 && matches!(self.scale, Some(ScaleSpec::Superpose { .. })) {
            add("repeat", "cannot be combined with `scale.superpose`, whose copies wrap around".to_owned());
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
        problems.extend(self.timed_problems());
        problems.extend(self.columns.iter().flat_map(Columns::problems));
        problems.extend(self.window.problem());
        problems.extend(self.scale.iter().flat_map(ScaleSpec::problems));
        problems.extend(self.sessions.iter().flat_map(SessionTraceSpec::problems));
        match self.format {
            Format::KvCacheTester => problems.extend(self.rows_only()),
            Format::Auto => {}
            format if self.sessions.is_some() => {
                problems.push((
                    "sessions".to_owned(),
                    format!("and format {format} exclude each other: it has no think times"),
                ));
            }
            _ => {}
        }
        problems
    }

    /// What is wrong with `arrivals`, and settings that go by the times of the file.
    fn timed_problems(&self) -> Vec<Problem> {
        let Some(arrivals) = &self.arrivals else { return Vec::new() };
        let clashes = [
            ("window", !self.window.is_all()),
            ("sort", self.sort),
            ("spread", self.spread.is_some()),
            ("scale", self.scale.is_some()),
            ("time_scale", self.time_scale.is_some()),
            ("rate", self.rate.is_some()),
            ("repeat", self.repeat > 1),
        ];
        let clashes = clashes.into_iter().filter(|(_, set)| *set);
        let told = "goes by the times of the file, which `arrivals` replaces; leave one of them out";
        clashes.map(|(key, _)| (key.to_owned(), told.to_owned())).chain(arrivals.problems("arrivals")).collect()
    }

    /// Everything that is wrong with the values for a file of sessions.
    pub(crate) fn session_problems(&self) -> Vec<Problem> {
        let mut problems = self.problems();
        if self.format == Format::Auto {
            problems.extend(self.rows_only());
        }
        problems
    }

    /// Settings that change rows, and have no meaning for sessions.
    fn rows_only(&self) -> Vec<Problem> {
        let cases = [
            (
                "window",
                !self.window.is_all(),
                "cuts by time, and sessions have no common clock; take some with `sessions.skip` and `sessions.take`",
            ),
            ("keep", !self.keep.is_all(), "takes single requests out, and others wait for their answers"),
            ("leave_out", self.leave_out != LeaveOut::Nothing, "leaves rows out, and a line is a whole session here"),
            ("sort", self.sort, "puts rows in order, and a line is a whole session here"),
            (
                "failures",
                self.failures == Failures::Redraw,
                "can be `drop` or `keep` here: prompts of sessions build on each other",
            ),
            ("skip", self.skip > 0, "passes over rows, and a line is a whole session here; use `sessions.skip`"),
            (
                "requests",
                self.requests.is_some(),
                "takes rows, and a line is a whole session here; use `sessions.take`",
            ),
            (
                "max_prompt_tokens",
                self.max_prompt_tokens.is_some(),
                "would make all later prompts of a session the same; `sessions.max_prompt_tokens` ends it there",
            ),
            ("arrivals", self.arrivals.is_some(), "gives times to single requests, and others wait for their answers"),
            ("spread", self.spread.is_some(), "moves single requests, and others wait for their answers"),
            (
                "scale",
                self.scale.is_some(),
                "changes rows; the load of sessions is `workload.clients` or `sessions.rate`",
            ),
            (
                "time_scale",
                self.time_scale.is_some(),
                "divides gaps; the load of sessions is `workload.clients` or `sessions.rate`",
            ),
            (
                "rate",
                self.rate.is_some(),
                "is that of rows; the load of sessions is `workload.clients` or `sessions.rate`",
            ),
        ];
        let set = cases.into_iter().filter(|(_, set, _)| *set);
        set.map(|(key, _, why)| (key.to_owned(), format!("{why} (the trace holds sessions)"))).collect()
    }

    /// What cannot be meant of the file's layout.
    fn layout_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: String| problems.push((path.to_owned(), message));
        match (&self.columns, self.format) {
            (None, Format::Columns) => add("columns", "is missing; format `columns` needs to know them".to_owned()),
            (Some(_), Format::Auto | Format::Columns) | (None, _) => {}
            (Some(_), format) => add("columns", format!("and format {format} exclude each other; give one of them")),
        }
        if self.arrivals.is_none() && self.columns.as_ref().is_some_and(|columns| columns.arrival.is_none()) {
            add(
                "columns.arrival",
                "is missing; name the column with the times, or say in `arrivals` when requests arrive".to_owned(),
            );
        }
        if !(1..=TOKENS_MAX).contains(&self.block_tokens) {
            add("block_tokens", format!("must be between 1 and {TOKENS_MAX} tokens"));
        } else if self.format == Format::Mooncake && !mooncake::HASH_TOKENS.is_multiple_of(self.block_tokens) {
            add("block_tokens", format!("is {}; it must divide {}", self.block_tokens, mooncake::HASH_TOKENS));
        }
        problems
    }

    /// Filters that the format cannot apply.
    fn keep_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: String| problems.push((path.to_owned(), message));
        if self.format == Format::Bailian && !(self.keep.model.is_empty() && self.keep.log_type.is_empty()) {
            add(
                "keep",
                "filters by model and log type, which format bailian does not have; filter by `class`".to_owned(),
            );
        }
        if matches!(self.format, Format::Azure | Format::Vidur | Format::Mooncake) && !self.keep.is_all() {
            add("keep", format!("filters by model and log type, but format {} has neither column", self.format));
        }
        if self.columns.is_some() && !(self.keep.model.is_empty() && self.keep.log_type.is_empty()) {
            add("keep", "filters by model and log type, which only BurstGPT has; filter by `class`".to_owned());
        }
        if self.columns.as_ref().is_some_and(|columns| columns.class.is_none()) && !self.keep.class.is_empty() {
            add("keep.class", "needs `columns.class`".to_owned());
        }
        problems
    }

    /// The same rows as the file has them: neither spread nor scaled nor repeated. `None` if they are played like that.
    pub fn recorded(&self) -> Option<TraceSpec> {
        let plain = TraceSpec { spread: None, scale: None, time_scale: None, rate: None, repeat: 1, ..self.clone() };
        (plain != *self).then_some(plain)
    }
}
