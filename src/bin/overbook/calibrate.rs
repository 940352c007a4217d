//! `overbook calibrate`: steps of a device, of a server or of other tools' tables to a profile.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use overbook_reports::manifest::utc;
use overbook_scenarios::import::{Tool, import_profile};
use overbook_sim::calibrate::{Profile, StepProfile};
use overbook_sim::units::Duration;

use crate::aside::Aside;
use crate::ask::AskArgs;
use crate::cli::{DeviceArgs, Globals};
use crate::output::{DONE, Failure, GATE_FAILED, note, print};
use crate::{infer, place, profile};

/// What is measured, or taken from other tools, and where the profile goes.
#[derive(Args, Debug)]
pub(crate) struct CalibrateArgs {
    /// A scenario, whose model and engine are measured; with --import a folder (AIConfigurator: of systems/data; Vidur:
    /// data/profiling).
    #[arg(value_name = "SCENARIO|DIR")]
    pub(crate) source: PathBuf,
    /// Import another tool's tables of kernel times instead of measuring.
    #[arg(long, value_enum, value_name = "TOOL", conflicts_with_all = ["on", "url"])]
    pub(crate) import: Option<TableTool>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Probe a running server from outside, e.g. http://127.0.0.1:8000; of the scenario count the model and the limits.
    #[arg(long, value_name = "URL", conflicts_with = "on")]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Time for probes; each is repeated up to three times [default: 5min].
    #[arg(long, value_name = "TIME", requires = "url", conflicts_with_all = ["on", "import"])]
    pub(crate) budget: Option<Duration>,
    /// Set a value of the scenario.
    #[arg(long, value_name = "PATH=VALUE", conflicts_with = "import")]
    pub(crate) set: Vec<String>,
    /// Seed of the order of the measurements, and of the mixed shapes.
    #[arg(long, value_name = "N", conflicts_with = "import", default_value_t = 0)]
    pub(crate) seed: u64,
    /// How long each shape is repeated [default: 300ms].
    #[arg(long, value_name = "TIME", requires = "on", conflicts_with_all = ["url", "import"])]
    pub(crate) repeat_for: Option<Duration>,
    /// On a GPU: how long each operating point is held whose watts are measured [default: 6s; 0s: no watts].
    #[arg(long, value_name = "TIME", requires = "on", conflicts_with_all = ["url", "import"])]
    pub(crate) power_for: Option<Duration>,
    /// The GPU's name in the catalog [default: as the tables say].
    #[arg(long, value_name = "NAME", requires = "import", conflicts_with_all = ["on", "url"])]
    pub(crate) gpu: Option<String>,
    /// Where there are several tables of a kind: a part of the path of the one that is meant.
    #[arg(long, value_name = "TEXT", requires = "import", conflicts_with_all = ["on", "url"])]
    pub(crate) select: Option<String>,
    /// The profile [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Replace an existing file.
    #[arg(long)]
    pub(crate) force: bool,
    /// Exit with 3 if the steps held out or the spread of repeats are off by more than 10 %, the machine's speed drifted by more than 5 % or nothing
    /// shows its drift, or probes are missing.
    #[arg(long, conflicts_with = "import")]
    pub(crate) gate: bool,
}

/// A tool with public kernel tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum TableTool {
    /// NVIDIA's AIConfigurator: `*_perf.txt`, `.csv` or `.parquet`.
    Aiconfigurator,
    /// Microsoft's Vidur: `compute/**/mlp.csv`, `attention.csv`, `network/*/all_reduce.csv`.
    Vidur,
}

pub(crate) fn run(args: &CalibrateArgs, globals: &Globals) -> Result<u8, Failure> {
    if let Some(flag) = args.ask.given().filter(|_| args.url.is_none()) {
        return Err(Failure::Input(format!("{flag} is for a server: add --url URL, or leave it out")));
    }
    let tool = match args.import {
        Some(TableTool::Aiconfigurator) => Tool::AiConfigurator,
        Some(TableTool::Vidur) => Tool::Vidur,
        None => match &args.url {
            // Conflicts on the command line hide what a flag requires.
            Some(_) if args.device.weights.is_some() || args.device.threads.is_some() => {
                return Err(Failure::Input(
                    "--weights and --threads are for --on; a server has its own: leave them out".into(),
                ));
            }
            Some(url) => return infer::run(args, url, globals),
            None if args.device.on.is_none() => {
                return Err(Failure::Input(
                    "calibrate measures the steps of a device or of a server: add --on cpu, --on cuda or --url URL; another tool's \
                     tables are taken with --import TOOL"
                        .into(),
                ));
            }
            None => return profile::run(args, globals),
        },
    };
    if let Some(out) = &args.out {
        place::file(out, args.force)?;
    }
    let now = utc(SystemTime::now());
    let today = now.get(..10).unwrap_or(&now);
    let imported = import_profile(tool, &args.source, args.gpu.as_deref(), args.select.as_deref(), today)
        .map_err(Failure::input)?;
    imported.notes.iter().for_each(|text| note(text));
    let Some(out) = &args.out else {
        // The profile is the result; its errors stand in it, and here for people.
        table(&imported.profile).lines().for_each(note);
        print(imported.to_yaml().trim_end())?;
        return Ok(DONE);
    };
    write(out, &imported.to_yaml(), args.force)?;
    print(&format!("{}\nwritten to {}", table(&imported.profile), out.display()))?;
    Ok(DONE)
}

/// Held-out errors and spread of repeats that `--gate` lets pass, and the drift [%].
const GATE: (f64, f64) = (10.0, 5.0);

/// What makes a profile of steps not worth using, a line each; the exit code with it if `--gate` asks.
pub(crate) fn passed(args: &CalibrateArgs, profile: &StepProfile, missing: usize) -> u8 {
    let (errors, drift) = GATE;
    let mut found = Vec::new();
    let best = if profile.table_errors.is_empty() { &profile.form_errors } else { &profile.table_errors };
    for error in best.iter().filter(|error| error.mape_percent > errors) {
        found.push(format!("{} steps held out: mean error {:.1} %, at most {errors} %", error.of, error.mape_percent));
    }
    if profile.noise.repeats_percent > errors {
        found.push(format!("repeats spread by {:.1} %, at most {errors} %", profile.noise.repeats_percent));
    }
    match profile.noise.drift_percent {
        None => found.push("nothing was measured in more than one round, so that drift is unknown".to_owned()),
        Some(percent) if percent > drift => found.push(format!("drift of {percent:.1} %, at most {drift} %")),
        Some(_) => {}
    }
    if missing > 0 {
        found.push(format!("{missing} probes did not fit into the budget"));
    }
    for what in &found {
        note(&format!("{}: {what}", if args.gate { "gate" } else { "doubtful" }));
    }
    if args.gate && !found.is_empty() { GATE_FAILED } else { DONE }
}

/// Errors on rows held out, a line each.
fn table(profile: &Profile) -> String {
    let width = profile.residuals.iter().map(|residual| residual.operation.len()).max().unwrap_or(0);
    let mut text =
        format!("{} for {}\n{:<width$}  fitted  held out  median     p90", profile.name, profile.gpu, "operation");
    for residual in &profile.residuals {
        let _ = write!(
            text,
            "\n{:<width$}  {:>6}  {:>8}  {:>4.1} %  {:>4.1} %",
            residual.operation, residual.fitted, residual.held_out, residual.median_percent, residual.p90_percent
        );
    }
    let absent = profile.absent();
    if !absent.is_empty() {
        let _ = write!(text, "\nnot in the tables, stays the catalog's: {}", absent.join(", "));
    }
    text
}

/// Writes aside and renames: a profile is whole or not there.
fn write(out: &Path, yaml: &str, force: bool) -> Result<(), Failure> {
    place::file(out, force)?;
    let mut files = Aside::default();
    files.write(out, yaml)?;
    files.keep()
}
