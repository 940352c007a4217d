//! The command line's grammar.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use overbook_sim::units::Duration;

use crate::ask::AskArgs;
use crate::calibrate::CalibrateArgs;
use crate::gpu_check::GpuCheckArgs;
use crate::init::InitArgs;
use crate::kv::KvCommand;
use crate::plan::PlanArgs;
use crate::report::ReportArgs;

/// Trace-driven simulation and capacity planning of LLM serving.
///
/// Exit codes: 0 done, 1 failed, 2 invalid input, 3 a gate failed, 130 interrupted (partial results are kept and marked).
#[derive(Parser, Debug)]
#[command(name = "overbook", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) globals: Globals,
}

/// Flags that every command understands.
#[derive(Args, Debug)]
pub(crate) struct Globals {
    /// When to colour the output.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
    /// Print results and errors only.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// When to colour the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Write a scenario from what you have, a server's command and a log of requests, and print today's figures.
    Init(InitArgs),
    /// Simulate a scenario, write a run directory, print the summary.
    Run(RunArgs),
    /// Run a scenario with several policies (or other settings) under several loads, and put them side by side.
    Compare(CompareArgs),
    /// Run the points of a study in shards, by several processes or machines, and put them together.
    #[command(subcommand)]
    Sweep(crate::sweep::SweepCommand),
    /// Find the cheapest fleet that keeps the promises of a scenario, and how much more load it holds.
    Plan(PlanArgs),
    /// Parse and check scenarios; run nothing.
    Check(CheckArgs),
    /// Replay recorded schedules of vLLM's or SGLang's own scheduler and compare every line.
    CheckGolden(GoldenArgs),
    /// Simulate measured runs of real engines and compare every published figure.
    Validate(ValidateArgs),
    /// Time to read or generate the workload alone: the floor below which no simulation of it can go.
    Floor(ScenarioArgs),
    /// Show a run directory, compare several, or write one for other tools.
    Report(ReportArgs),
    /// Look at a trace, or write the requests of a scenario as one.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Caches of KV blocks without a fleet around them.
    #[command(subcommand)]
    Kv(KvCommand),
    /// GPUs, models, links, servers and sites, with the source of every number.
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Turn measured kernel times into a cost profile for `engine.cost.profile`.
    Calibrate(CalibrateArgs),
    /// Turn what you have into a scenario.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Serve a scenario's model over HTTP, as OpenAI's API, with its scheduler. Its workload does not matter.
    Serve(ServeArgs),
    /// Send a scenario's requests to a running server (vLLM, SGLang, this one, ...) at their times, and record what it does.
    Replay(ReplayArgs),
    /// Check the GPU at hand in a quarter of an hour: its kernels, its ceilings, steps beside them, and how well they are predicted.
    GpuCheck(GpuCheckArgs),
    /// Train small models and retention gates from scratch, and measure how much is recalled when policies keep a few tokens.
    #[cfg(feature = "train")]
    TrainRetention(crate::train_retention::TrainArgs),
    /// Print the commands that serve a scenario for real.
    ServeFlags(ScenarioArgs),
    /// Print the JSON Schema of scenario files.
    Schema(crate::schema::SchemaArgs),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TraceCommand {
    /// Rates, burstiness and lengths of a trace file, or of the workload of a scenario (`.yaml`).
    Stats {
        #[command(flatten)]
        source: TraceArgs,
        /// Count and measure groups of requests instead; the whole trace is in memory then.
        #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
        by: Vec<StatsBy>,
    },
    /// Fit a generator to a trace: print how well it fits, and the workload for a scenario.
    Fit(FitArgs),
    /// Write the requests of a trace file or scenario as a trace: arrived_at, num_prefill_tokens, num_decode_tokens, class.
    ///
    /// A scenario that generates its requests is written just so: `generate` is another name of this command.
    #[command(visible_alias = "generate")]
    Convert {
        #[command(flatten)]
        source: TraceArgs,
        /// The file to write; its ending says how: .csv, .jsonl or .parquet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Requests to write; a generator makes so many, a trace is cut.
        #[arg(long, value_name = "N")]
        requests: Option<u64>,
        /// Time to write, e.g. `2h`; a generator runs so long, a trace is cut.
        #[arg(long, value_name = "TIME")]
        duration: Option<Duration>,
        /// What not to write, where the file has no columns for it (CSV): prefix ids, sessions, priorities, recorded times.
        #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
        drop: Vec<Drop>,
        /// Replace an existing file.
        #[arg(long)]
        force: bool,
    },
}

/// What `trace convert` may leave out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Drop {
    /// Ids of prefixes.
    Ids,
    /// Sessions.
    Sessions,
    /// Priorities.
    Priorities,
    /// How long the recorded service took.
    Elapsed,
}

/// What requests are grouped by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum StatsBy {
    /// Class, e.g. `GPT-4/api`.
    Class,
    /// First part of the class: `GPT-4`.
    Model,
    /// Second part of the class: `api`.
    LogType,
    /// Hour of the day, by the clock of the file.
    HourOfDay,
}

/// What to fit, and how.
#[derive(Args, Debug)]
pub(crate) struct FitArgs {
    /// A trace file (format by its header), or a scenario whose workload is meant.
    #[arg(required_unless_present = "prometheus", conflicts_with = "prometheus")]
    pub(crate) source: Option<PathBuf>,
    /// Which column of a trace file holds what, as a scenario's `columns:` says it.
    #[arg(long, value_name = "COLUMNS", conflicts_with = "prometheus")]
    pub(crate) columns: Option<String>,
    /// Set a value of the scenario.
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Metrics of vLLM, SGLang or TGI instead of requests: scrapes of /metrics, or range queries of Prometheus; `-` is stdin.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) prometheus: Vec<PathBuf>,
    /// Time between scrapes that carry none.
    #[arg(long, value_name = "TIME", requires = "prometheus")]
    pub(crate) every: Option<Duration>,
    /// The model meant, if the metrics are of several.
    #[arg(long, value_name = "NAME", requires = "prometheus")]
    pub(crate) model: Option<String>,
    /// Length of the windows of the rate profile.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) window: Duration,
    /// Family of the gaps within windows [default: the likelier one].
    #[arg(long, value_enum, value_name = "FAMILY")]
    pub(crate) gaps: Option<Gaps>,
    /// Family of the lengths.
    #[arg(long, value_enum, value_name = "FAMILY", default_value_t = Lengths::Quantiles)]
    pub(crate) lengths: Lengths,
    /// Write a scenario with the fitted workload.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Replace an existing file.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Family of the gaps within windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Gaps {
    /// Gamma.
    Gamma,
    /// Weibull.
    Weibull,
}

/// Family of the lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Lengths {
    /// As they are: empirical quantiles.
    Quantiles,
    /// Log-normal.
    LogNormal,
    /// Zipf.
    Zipf,
    /// Log-normal with a Pareto tail.
    ParetoMixture,
}

/// Where requests come from.
#[derive(Args, Debug)]
pub(crate) struct TraceArgs {
    /// A trace file (format by its header, or by `--columns`), or a scenario whose workload is meant.
    pub(crate) source: PathBuf,
    /// Which column of a trace file holds what, as a scenario's `columns:` says it: `arrival: NAME, prompt: NAME, output: NAME, unit: datetime`.
    #[arg(long, value_name = "COLUMNS")]
    pub(crate) columns: Option<String>,
    /// Set a value of the scenario.
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed of every random stream of the scenario.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum CatalogCommand {
    /// All entries, a line each.
    List,
    /// The measured scores of answers that keep only some tokens, a line for each model, task, policy and way of evicting.
    Quality,
    /// One entry with the source of every number.
    Show {
        /// Its name.
        name: String,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum ImportCommand {
    /// From a `vllm serve` command, in quotes, or from the log that it writes as it starts.
    Vllm {
        /// The command.
        #[arg(required_unless_present = "log", conflicts_with = "log")]
        command: Option<String>,
        /// The start-up log of a server: its KV pool, version and limits are taken as it states them.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
    },
    /// From a model's config.json (Hugging Face): prints the shape for `model:`.
    Config {
        /// The file.
        file: PathBuf,
    },
}

/// A scenario and changes to it.
#[derive(Args, Debug)]
pub(crate) struct ScenarioArgs {
    /// Scenario file (YAML).
    pub(crate) scenario: PathBuf,
    /// Set a value of the scenario, e.g. `--set fleet.replicas=8`; later ones win.
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed of every random stream.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// Run directory [default: runs/NAME-HASH].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Replace an existing run directory.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON document instead of the summary.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with 3 if a target of `slo:` or a figure of `expect:` is missed; in a study only `expect:` counts, if it is there.
    #[arg(long)]
    pub(crate) gate: bool,
    /// Write no Parquet rows.
    #[arg(long)]
    pub(crate) no_rows: bool,
    /// Write no report.html.
    #[arg(long)]
    pub(crate) no_report: bool,
    /// Show no progress.
    #[arg(long)]
    pub(crate) no_progress: bool,
    /// Points of a sweep to run at once [default: one per processor].
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Check the laws of the simulation at every event (slow).
    #[arg(long)]
    pub(crate) audit: bool,
    /// Simulate every step on its own (slow; the results are the same).
    #[arg(long)]
    pub(crate) step_by_step: bool,
    /// Print the resolved scenario and what would be run; run nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// The real engine.
#[derive(Args, Debug, Default)]
pub(crate) struct DeviceArgs {
    /// The real engine, in real time, on this device.
    #[arg(long, value_enum, value_name = "DEVICE")]
    pub(crate) on: Option<On>,
    /// Folder with config.json and safetensors weights [default: dummy weights for the engine's presets].
    #[arg(long, value_name = "DIR", requires = "on")]
    pub(crate) weights: Option<PathBuf>,
    /// Compute threads [default: one per core less one, which the driver and the clients get].
    #[arg(long, value_name = "N", requires = "on")]
    pub(crate) threads: Option<NonZeroUsize>,
}

/// A server, and its limits.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Address to listen on; any but the loopback lets other machines in.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port to listen on; 0 is any free one.
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub(crate) port: u16,
    /// Name of the model for clients [default: as the scenario says].
    #[arg(long, value_name = "NAME")]
    pub(crate) served_model_name: Option<String>,
    /// Key that clients must send [default: OVERBOOK_API_KEY, if set].
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
    /// A name by which clients may call a server on the loopback without a key, beside localhost; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,
    /// Requests that may wait for their first token; more get 429.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) max_waiting: usize,
    /// Largest request [MiB], up to 1024.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) max_body_mib: u32,
    /// Connections at once; more wait until one closes.
    #[arg(long, value_name = "N", default_value = "4096")]
    pub(crate) max_connections: NonZeroUsize,
    /// Time for a head to arrive on a connection, new or idle, and for a reader to take nothing.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) idle_timeout: Duration,
    /// Time for a request to finish.
    #[arg(long, value_name = "TIME", default_value = "10min")]
    pub(crate) request_timeout: Duration,
    /// Time for running requests to finish when the server is stopped.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) drain_timeout: Duration,
    /// Record what was served as a run directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Replace an existing run directory.
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
}

/// A running server, and what to send it.
#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// The server, e.g. http://127.0.0.1:8000.
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Run directory [default: runs/NAME-replay-HASH].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Replace an existing run directory.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON document instead of the summary.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with 3 if a target of `slo:` or a figure of `expect:` is missed, or the run is void.
    #[arg(long)]
    pub(crate) gate: bool,
    /// Show no progress.
    #[arg(long)]
    pub(crate) no_progress: bool,
}

/// A device of the real engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum On {
    /// The CPU of this machine.
    Cpu,
    /// The first NVIDIA GPU (A100 or newer); its driver, NVRTC and cuBLASLt are looked for when it is used.
    Cuda,
}

/// What to compare, and against what. All points have the same seed: the same requests.
#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Values to compare, e.g. `scheduler=vllm,sglang,orca`: a list, or a map from names to values as in `sweep:`. A policy
    /// that the scenario sets already keeps its settings.
    #[arg(long, required = true, value_name = "PATH=VALUES")]
    pub(crate) over: Vec<String>,
    /// Loads: rates (`2/s,4/s`), factors of the scenario's (`0.5x,1x,2x`), or clients of a closed loop (`8,16`). Traces are
    /// multiplied to a rate, and compressed by a factor.
    #[arg(long, value_delimiter = ',', value_name = "LOADS")]
    pub(crate) load: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Scenario files.
    #[arg(required = true)]
    pub(crate) scenarios: Vec<PathBuf>,
    /// Set a value in all of them.
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct GoldenArgs {
    /// Folder with workloads.jsonl.zst and steps.jsonl.zst (or the same without .zst).
    pub(crate) folder: PathBuf,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("real").args(["on", "url"]))]
pub(crate) struct ValidateArgs {
    /// A scenario to run for real and to simulate, with --on or --url; loads of a `sweep:` one by one.
    #[arg(
        value_name = "SCENARIO",
        required_unless_present = "measured",
        conflicts_with = "measured",
        requires = "real"
    )]
    pub(crate) scenario: Option<PathBuf>,
    /// Folder with runs.csv, and requests/ and series/ beside it: runs of others.
    #[arg(long, value_name = "DIR")]
    pub(crate) measured: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// A running server instead of the engine, e.g. http://127.0.0.1:8000: what its client hears is compared. The scenario's costs are a profile of
    /// that server (calibrate --url).
    #[arg(long, value_name = "URL", conflicts_with = "measured")]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Real runs of every load.
    #[arg(long, value_name = "N", requires = "real", default_value = "5")]
    pub(crate) repeats: NonZeroUsize,
    /// Only replay one real run on the simulator: its batches must be the engine's.
    #[arg(long, requires = "on")]
    pub(crate) replay: bool,
    /// Exit with 3 unless every figure has passed.
    #[arg(long, requires = "real")]
    pub(crate) gate: bool,
    /// Replace an existing directory.
    #[arg(long, requires = "real")]
    pub(crate) force: bool,
    /// Sets of measured runs to take [default: all]; may be given several times.
    #[arg(long, value_name = "SET", requires = "measured")]
    pub(crate) only: Vec<String>,
    /// Runs to take [default: all]; may be given several times.
    #[arg(long, value_name = "ID", requires = "measured")]
    pub(crate) run: Vec<String>,
    /// Grades of description to take [default: all]; may be given several times.
    #[arg(long, value_name = "A|B|C", requires = "measured")]
    pub(crate) quality: Vec<String>,
    /// Set a value in the scenario of every run, e.g. `--set engine.host.base=1ms`; may be given several times.
    #[arg(long, alias = "change", value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Make prompts so many times as long, in runs that name a data set and not their lengths: shows what hangs on that assumption.
    #[arg(long, value_name = "TIMES", requires = "measured")]
    pub(crate) prompts: Option<f64>,
    /// File with the ids of runs that constants are fitted on, one a line (`ID first third`: on that part of its arrivals): their
    /// errors are distinguished.
    #[arg(long, value_name = "FILE")]
    pub(crate) training: Option<PathBuf>,
    /// Fit the constants on the training runs, use them, and refit without each set of training runs in turn.
    #[arg(long, requires = "training", conflicts_with = "constants")]
    pub(crate) fit: bool,
    /// File with fitted constants [default: those of this version].
    #[arg(long, value_name = "FILE")]
    pub(crate) constants: Option<PathBuf>,
    /// Write validation.html, .json, .csv and .parquet, constants.yaml and hull.yaml there, and each run's scenario under
    /// scenarios/; with --on or --url fidelity.html and .json.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON document instead of the tables.
    #[arg(long)]
    pub(crate) json: bool,
}
