//! The command line's grammar.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Simulate a scenario, write a run directory, print the summary.
    Run(RunArgs),
    /// Parse and check scenarios; run nothing.
    Check(CheckArgs),
    /// Replay recorded schedules of vLLM's own scheduler and compare every line.
    CheckGolden(GoldenArgs),
    /// Time to read or generate the workload alone: the floor below which no simulation of it can go.
    Floor(ScenarioArgs),
    /// Print the JSON Schema of scenario files.
    Schema,
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
    /// Run directory [default: runs/<name>-<hash>].
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
