//! Arguments of `overbook init`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use overbook_sim::units::Rate;
use overbook_traces::TimeUnit;

const EXAMPLE: &str =
    "Example: overbook init --vllm 'vllm serve Qwen/Qwen3-8B --max-num-seqs 64' --gpu h100 --log requests.csv";

/// What one has: the command of a server, and a log of its requests.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct InitArgs {
    /// The command that starts vLLM, in quotes. Every flag becomes a setting, or is named with the reason why it does not.
    #[arg(long, value_name = "COMMAND", conflicts_with = "sglang")]
    pub(crate) vllm: Option<String>,
    /// The command that starts SGLang, in quotes.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) sglang: Option<String>,
    /// The model, by its name in the catalog or on Hugging Face, where no command names one that is known.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// The GPU, by its name in the catalog (`overbook catalog list`).
    #[arg(long, value_name = "NAME")]
    pub(crate) gpu: String,
    /// Requests: CSV, JSON lines, a JSON document or Parquet; plain, gzip or Zstandard.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Column of the log with the time of arrival; `outer.inner` is a key of a nested object.
    #[arg(long, value_name = "COLUMN", requires = "log")]
    pub(crate) arrival: Option<String>,
    /// Column of the log with the tokens of the prompt.
    #[arg(long, value_name = "COLUMN", requires = "log")]
    pub(crate) prompt: Option<String>,
    /// Column of the log with the tokens of the answer.
    #[arg(long, value_name = "COLUMN", requires = "log")]
    pub(crate) output: Option<String>,
    /// Column of the log with the session.
    #[arg(long, value_name = "COLUMN", requires = "log")]
    pub(crate) session: Option<String>,
    /// Column of the log with the class of a request, such as its model.
    #[arg(long, value_name = "COLUMN", requires = "log")]
    pub(crate) class: Option<String>,
    /// Unit of the times.
    #[arg(long, value_enum, value_name = "UNIT", requires = "log")]
    pub(crate) unit: Option<Unit>,
    /// Where a JSON document has its requests, e.g. `runs.*.requests`.
    #[arg(long, value_name = "PATH", requires = "log")]
    pub(crate) records: Option<String>,
    /// Poisson arrivals at this rate in place of the log's times, for a log that has none.
    #[arg(long, value_name = "RATE", requires = "log")]
    pub(crate) rate: Option<Rate>,
    /// Classes of the log that go to this fleet, or `all` [default: the model that is served, where the log names it].
    #[arg(long, value_name = "NAME", requires = "log", value_delimiter = ',')]
    pub(crate) keep: Vec<String>,
    /// The scenario to write.
    #[arg(long, value_name = "FILE", default_value = "scenario.yaml")]
    pub(crate) out: PathBuf,
    /// Replace an existing file.
    #[arg(long)]
    pub(crate) force: bool,
    /// Write the scenario, and do not run it.
    #[arg(long)]
    pub(crate) no_run: bool,
}

/// Unit of a column of times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
    /// Dates with the year first.
    Datetime,
    /// Dates with the month first, as in 11/28/2026.
    Mdy,
    /// Dates with the day first, as in 28/11/2026.
    Dmy,
}

impl From<Unit> for TimeUnit {
    fn from(unit: Unit) -> TimeUnit {
        match unit {
            Unit::S => TimeUnit::S,
            Unit::Ms => TimeUnit::Ms,
            Unit::Us => TimeUnit::Us,
            Unit::Ns => TimeUnit::Ns,
            Unit::Datetime => TimeUnit::Datetime,
            Unit::Mdy => TimeUnit::Mdy,
            Unit::Dmy => TimeUnit::Dmy,
        }
    }
}
