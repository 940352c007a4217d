//! A capacity plan: the answer in one sentence, how sure it is, why nothing cheaper holds, and the files to start it.

mod chart;
mod files;
mod heat;
mod page;
mod split;
mod text;

use overbook_sim::results::trust::Trust;
use serde::Serialize;

use crate::manifest::Status;
use crate::{Report, ReportError, json};

pub use files::LEDGER;
pub use split::{Split, SplitSide};

/// What a plan found. Times in seconds, money in dollars, shares from 0 to 1.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Plan {
    /// What was asked.
    pub title: String,
    /// Whether the search came to its end.
    pub status: Status,
    /// The answer in a sentence or two.
    pub sentence: String,
    /// The cheapest fleet that keeps the promises; none if none does, or if it is not known yet.
    pub answer: Option<Fleet>,
    /// Whether the interval of the headroom holds today's load: then the next size is the sure one.
    pub too_close_to_call: bool,
    /// What is promised, a line each.
    pub promises: Vec<String>,
    /// Which requests, and which of them decide.
    pub requests: Vec<(String, String)>,
    /// What each stage looked at, and what it left.
    pub stages: Vec<Stage>,
    /// How much more load the answer holds, by each meaning of "more"; the most cautious first.
    pub headroom: Vec<Headroom>,
    /// What stops the answer at a larger load, in words.
    pub binding: String,
    /// The fleets for larger loads, of the answer's shape.
    pub growth: Vec<Grown>,
    /// The next-best shapes.
    pub alternatives: Vec<Alternative>,
    /// Latencies of the answer at multiples of the load.
    pub curve: Vec<LoadPoint>,
    /// Fleets whose trial came to its end: what they cost, and how near they come to the promise.
    pub tried: Vec<Tried>,
    /// How far the figures are to be trusted, by measured runs of real engines.
    pub trust: Option<Trust>,
    /// How far measured runs are off in the figures that are promised.
    pub errors: Vec<FigureError>,
    /// What the answer stands on: what, and its value.
    pub assumptions: Vec<(String, String)>,
    /// Settings that turn the scenario into the answer: dotted paths and YAML.
    pub settings: Vec<(String, String)>,
    /// Commands that start a replica of the answer.
    pub start: Vec<String>,
    /// What the commands cannot say.
    pub start_notes: Vec<String>,
    /// Where the step costs come from.
    pub calibration: String,
    /// The command that makes the plan again.
    pub command: String,
    /// Hash of the answer's resolved scenario; empty without one.
    pub plan_hash: String,
    /// Tool and version.
    pub tool: String,
    /// What of the answer today's load uses, in the stretch that is judged.
    pub uses: Vec<Use>,
    /// What a million output tokens cost if one thing were a fifth less or more.
    pub sensitivity: Vec<Sensitivity>,
    /// Reserved GPUs and those on demand, where these have a price.
    pub split: Option<Split>,
    /// Every candidate, and why it lost.
    #[serde(skip)]
    pub ledger: Vec<LedgerRow>,
    /// The answer's run over all requests, or over the stretch that is judged: for the charts over time.
    #[serde(skip)]
    pub run: Option<Box<Report>>,
}

/// How far measured runs are off in a figure, by the nearest of which there are enough.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FigureError {
    /// The figure: `TTFT`, `TPOT`, `end-to-end time`, `throughput`.
    pub figure: String,
    /// Median relative error, a share.
    pub error: f64,
    /// Runs.
    pub runs: usize,
    /// The same in words, with nearer runs that are too few.
    pub text: String,
    /// Whether the runs are of other GPUs.
    pub elsewhere: bool,
    /// Whether the figure stops the answer at a larger load: the interval of the headroom is as wide as its error asks.
    pub binds: bool,
}

/// What of something the load uses.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Use {
    /// Of what.
    pub of: String,
    /// A share from 0 to 1; none where it is not weighed.
    pub share: Option<f64>,
    /// The same in words.
    pub text: String,
}

/// What a million output tokens cost [USD] if one thing were a fifth less or more, and all else the same.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Sensitivity {
    /// What changes.
    pub of: String,
    /// With a fifth less of it.
    pub less: f64,
    /// With a fifth more of it.
    pub more: f64,
}

/// A fleet and its price.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Fleet {
    /// Its shape in words.
    pub shape: String,
    /// Its GPU.
    pub gpu: String,
    /// GPUs that split a copy of the model.
    pub tensor_parallel: u32,
    /// The GPU of the replicas that decode, where they are of another kind.
    pub decode_gpu: Option<String>,
    /// GPUs that split a copy of theirs.
    pub decode_tensor_parallel: Option<u32>,
    /// Replicas: `11`, or those for prompts and those that decode, `8 + 3`.
    pub replicas: String,
    /// GPUs.
    pub gpus: u32,
    /// Servers, where they are known.
    pub servers: Option<u32>,
    /// What it draws, where watts are counted.
    pub power: Option<Power>,
    /// What binds its steps.
    pub binds: Option<Binds>,
    /// Dollars an hour, if it has a price.
    pub usd_per_hour: Option<f64>,
    /// Dollars a month of 730 hours.
    pub usd_per_month: Option<f64>,
    /// Dollars per million output tokens of the whole run or its busiest stretch, while it lasts.
    pub usd_per_mtoken: Option<f64>,
    /// What came of each promise: `TTFT p99 1.40 s ≤ 2 s`.
    pub kept: Vec<String>,
    /// Output tokens per second and GPU.
    pub tokens_per_s_per_gpu: Option<f64>,
    /// Tokens per second that a user sees: one over the median time per output token.
    pub tokens_per_s_per_user: Option<f64>,
}

/// What a fleet draws while requests are judged [kW].
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Power {
    /// Mean of its GPUs alone.
    pub gpus_mean_kw: f64,
    /// Mean of its servers.
    pub servers_mean_kw: f64,
    /// The highest reading of its servers together.
    pub servers_peak_kw: f64,
    /// Mean of the facility, where its overhead is known.
    pub facility_mean_kw: Option<f64>,
    /// The facility at the servers' highest reading.
    pub facility_peak_kw: Option<f64>,
}

/// Shares of the time of its steps on the device, by what binds it; they add up to 1.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Binds {
    /// Arithmetic.
    pub compute: f64,
    /// The GPUs' memory.
    pub memory: f64,
    /// Links between GPUs.
    pub link: f64,
    /// Launches, drawing of tokens and the host: no physical limit.
    pub host: f64,
}

/// What a stage looked at, and what it left.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Fleets that it ruled out.
    pub ruled_out: u64,
    /// What it did, in words.
    pub text: String,
}

/// How much more load a fleet holds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Headroom {
    /// Short name of what "more" is.
    pub growth: String,
    /// What twice the load is, in words.
    pub twice: String,
    /// Multiple of the load that it holds.
    pub factor: f64,
    /// The 95 % interval of the seeds.
    pub seeds_low: f64,
    /// Its other end.
    pub seeds_high: f64,
    /// The same joined with the measured error of the simulation, where there is one.
    pub low: f64,
    /// Its other end.
    pub high: f64,
    /// The multiple of each seed.
    pub seeds: Vec<f64>,
}

/// The fleet for a larger load.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Grown {
    /// Multiple of today's load.
    pub factor: f64,
    /// What "more" is.
    pub growth: String,
    /// Replicas; none if no fleet within the limit holds it.
    pub replicas: Option<String>,
    /// GPUs.
    pub gpus: Option<u32>,
    /// Dollars a month.
    pub usd_per_month: Option<f64>,
}

/// A shape that lost.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Alternative {
    /// Its shape in words.
    pub shape: String,
    /// Its smallest fleet that holds, or the least that it may have.
    pub replicas: String,
    /// GPUs of that.
    pub gpus: u32,
    /// Dollars a month.
    pub usd_per_month: Option<f64>,
    /// The highest reading of its servers [kW], where it was tried and watts are counted.
    pub kw_peak: Option<f64>,
    /// What binds its steps, where it was tried to the end.
    pub binds: Option<Binds>,
    /// Why it lost.
    pub why: String,
}

/// Latencies at a multiple of the load [s].
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LoadPoint {
    /// Multiple of today's load.
    pub factor: f64,
    /// Requests per second.
    pub requests_per_s: f64,
    /// Median time to first token.
    pub ttft_p50: Option<f64>,
    /// 99th percentile.
    pub ttft_p99: Option<f64>,
    /// Median time per output token.
    pub tpot_p50: Option<f64>,
    /// 99th percentile.
    pub tpot_p99: Option<f64>,
    /// Whether the promises are kept.
    pub kept: bool,
}

/// A fleet whose trial came to its end.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Tried {
    /// Its shape in words.
    pub shape: String,
    /// Replicas.
    pub replicas: String,
    /// GPUs.
    pub gpus: u32,
    /// Dollars an hour.
    pub usd_per_hour: Option<f64>,
    /// Mean draw of its servers [kW].
    pub kw_mean: Option<f64>,
    /// The figure that comes nearest to its bound, over that bound: 1 at the limit.
    pub nearest_to_bound: f64,
    /// Output tokens per second and GPU.
    pub tokens_per_s_per_gpu: Option<f64>,
    /// Tokens per second that a user sees.
    pub tokens_per_s_per_user: Option<f64>,
    /// Whether the promises are kept.
    pub kept: bool,
}

/// A candidate, or several that lost for one reason.
#[derive(Clone, PartialEq, Debug)]
pub struct LedgerRow {
    /// Its shape in words.
    pub shape: String,
    /// Its GPU.
    pub gpu: String,
    /// GPUs that split a copy.
    pub tensor_parallel: u32,
    /// The GPU of the replicas that decode, where they are of another kind.
    pub decode_gpu: Option<String>,
    /// GPUs that split a copy of theirs.
    pub decode_tensor_parallel: Option<u32>,
    /// `together` or `apart`.
    pub mode: String,
    /// Replicas: `11`, `8 + 3`, `1 to 6`.
    pub replicas: String,
    /// Fleets that the row is about.
    pub fleets: u64,
    /// GPUs, of a single fleet.
    pub gpus: Option<u32>,
    /// Servers, of a single fleet of which they are known.
    pub servers: Option<u32>,
    /// Dollars an hour, of a single fleet with a price.
    pub usd_per_hour: Option<f64>,
    /// Mean draw of its servers over its trial [kW], where watts are counted.
    pub kw_mean: Option<f64>,
    /// Their highest reading [kW].
    pub kw_peak: Option<f64>,
    /// The figure of its trial that comes nearest to its bound, over that bound; none if it was stopped before its end.
    pub nearest_to_bound: Option<f64>,
    /// What binds its steps, of the answer and of the next best.
    pub binds: Option<Binds>,
    /// What decided: `build`, `bounds`, `window`, `whole`, `order` or `price`.
    pub stage: &'static str,
    /// `answer`, `held`, `lost` or `open`.
    pub outcome: &'static str,
    /// Why, with numbers.
    pub reason: String,
}

impl Plan {
    /// The plan without its ledger as one JSON document.
    pub fn json(&self) -> String {
        json::document(self)
    }

    /// What a terminal shows: the answer first.
    pub fn terminal(&self) -> String {
        text::terminal(self)
    }

    /// One self-contained page.
    ///
    /// # Errors
    /// The template fails, which no input should make it do.
    pub fn html(&self) -> Result<String, ReportError> {
        page::html(self)
    }
}

#[cfg(test)]
mod tests;
