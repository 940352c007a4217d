//! `overbook report`: run directories shown, compared or written for other tools; studies merged.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use overbook::TOOL;
use overbook_reports::{Dialect, ReportError, RunData, compare, dialect, perfetto, study};
use overbook_scenarios::metric::Metric;
use overbook_sim::time::Time;
use overbook_sim::units::Duration;

use crate::cli::Globals;
use crate::output::{DONE, Failure, color_stdout, note, print, print_painted};
use crate::{open, place};

/// What to do with run directories.
#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// Run directories: the figures of one, or two to six compared; or studies, put together.
    #[arg(required = true, value_name = "DIR")]
    pub(crate) runs: Vec<PathBuf>,
    /// Print the figures with another tool's names and definitions.
    #[arg(long = "as", value_name = "TOOL", value_parser = ["vllm", "guidellm", "aiperf"])]
    pub(crate) dialect: Option<String>,
    /// Write a window of virtual time for Perfetto (ui.perfetto.dev), e.g. `60s..90s`.
    #[arg(long, value_name = "FROM..TO")]
    pub(crate) perfetto: Option<String>,
    /// Where the page (of studies also `.csv`, `.md`) or the Perfetto trace goes.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Replace an existing file.
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
    /// Show the page in a browser: that of the run, study or plan, or what `--out` writes.
    #[arg(long)]
    pub(crate) open: bool,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Events of a Perfetto trace at most: about 150 MB of JSON before packing, which the viewer still opens.
const PERFETTO_EVENTS: usize = 1_000_000;

pub(crate) fn run(args: &ReportArgs, globals: &Globals) -> Result<u8, Failure> {
    let page = page(args)?;
    let code = told(args, globals)?;
    if let Some(page) = page {
        open::page(&page)?;
    }
    Ok(code)
}

/// The page that `--open` is to show: what `--out` writes, or that of the only directory.
fn page(args: &ReportArgs) -> Result<Option<PathBuf>, Failure> {
    if !args.open {
        return Ok(None);
    }
    if args.perfetto.is_some() || args.dialect.is_some() {
        return Err(Failure::Input("--open shows a page, and --as and --perfetto write none: leave it out".into()));
    }
    let page = match (&args.out, args.runs.as_slice()) {
        (Some(out), _) if out.extension().is_some_and(|ending| ending == "csv" || ending == "md") => {
            return Err(Failure::Input(format!("--open shows a page, and {} is none: end it in .html", out.display())));
        }
        (Some(out), _) => return Ok(Some(out.clone())),
        (None, [dir]) => dir.join("report.html"),
        (None, _) => {
            return Err(Failure::Input(
                "--open of several directories needs --out FILE.html: where the page goes".into(),
            ));
        }
    };
    if page.is_file() {
        return Ok(Some(page));
    }
    let message =
        format!("{} is not there: the run was made with --no-report, or the directory is another", page.display());
    Err(Failure::Input(message))
}

/// Whether a directory is that of a plan.
fn is_plan(dir: &Path) -> bool {
    dir.join("plan.json").is_file()
}

fn told(args: &ReportArgs, globals: &Globals) -> Result<u8, Failure> {
    if let Some(dir) = args.runs.iter().find(|dir| is_plan(dir)) {
        if args.runs.len() == 1 && args.open && !args.json {
            return Ok(DONE);
        }
        let page = dir.join("report.html");
        return Err(Failure::Input(format!(
            "{} is a plan: its page is {} (--open shows it), its figures are in plan.json",
            dir.display(),
            page.display()
        )));
    }
    if args.runs.iter().all(|dir| study::is_study(dir)) {
        return studies(args);
    }
    if let Some(dir) = args.runs.iter().find(|dir| study::is_study(dir)) {
        let message = format!("{} is a study and others are single runs; give either studies or runs", dir.display());
        return Err(Failure::Input(message));
    }
    let runs: Vec<RunData> =
        args.runs.iter().map(|dir| RunData::open(dir)).collect::<Result<_, ReportError>>().map_err(Failure::input)?;
    match (runs.as_slice(), &args.dialect, &args.perfetto) {
        ([run], Some(name), None) => {
            let wanted = Dialect::ALL.into_iter().find(|d| d.name() == name).unwrap_or(Dialect::Vllm);
            print(&dialect::export(run, wanted).map_err(Failure::input)?)?;
        }
        ([run], None, Some(window)) => export(run, window, args)?,
        ([run], None, None) => one(run, args, globals)?,
        (_, None, None) => comparison(&runs, args, globals)?,
        _ => return Err(Failure::Input("--as and --perfetto take a single run, and not both".into())),
    }
    Ok(DONE)
}

/// One study again, or several as one.
fn studies(args: &ReportArgs) -> Result<u8, Failure> {
    if args.dialect.is_some() || args.perfetto.is_some() {
        return Err(Failure::Input("--as and --perfetto take a single run, and a study has many".into()));
    }
    if let Some(out) = &args.out {
        place::file(out, args.force)?;
    }
    let is_metric = |name: &str| Metric::named(name).is_some();
    let mut read = Vec::new();
    for dir in &args.runs {
        read.push(study::read(dir, is_metric).map_err(Failure::input)?);
    }
    let all = if read.len() == 1 { read.remove(0) } else { study::merge(&read).map_err(Failure::input)? };
    let names: Vec<String> = args.runs.iter().map(|dir| dir.display().to_string()).collect();
    let all = study::Study {
        command: format!("overbook report {}", names.join(" ")),
        calibration: "The summaries of the points say where step costs come from.".to_owned(),
        tool: TOOL.to_owned(),
        ..all
    };
    if let Some(out) = &args.out {
        let contents = match out.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => all.csv(),
            Some("md") => all.markdown(),
            _ => all.html().map_err(Failure::input)?,
        };
        fs::write(out, contents).with_context(|| format!("cannot write {}", out.display()))?;
        note(&format!("{} points in {}", all.points.len(), out.display()));
    }
    if args.json {
        let point = |point: &study::StudyPoint| {
            let named =
                |names: &[String], values: Vec<serde_json::Value>| -> serde_json::Map<String, serde_json::Value> {
                    names.iter().cloned().zip(values).collect()
                };
            let places = point.coordinates.iter().map(|place| place.as_str().into()).collect();
            let values = point.values.iter().map(|value| (*value).into()).collect();
            serde_json::json!({ "coordinates": named(&all.axes, places), "metrics": named(&all.metrics, values) })
        };
        let points: Vec<_> = all.points.iter().map(point).collect();
        print(&serde_json::to_string_pretty(&points).map_err(anyhow::Error::new)?)?;
    } else {
        print(all.terminal().trim_end())?;
    }
    Ok(DONE)
}

/// The figures of one run again.
fn one(run: &RunData, args: &ReportArgs, globals: &Globals) -> Result<(), Failure> {
    if args.out.is_some() {
        let page = run.dir().join("report.html");
        return Err(Failure::Input(format!(
            "the page of a single run is {}; --out is for --perfetto and comparisons",
            page.display()
        )));
    }
    if args.json {
        return print(&serde_json::to_string_pretty(run.summary()).map_err(anyhow::Error::new)?);
    }
    print_painted(&compare::compare_terminal(std::slice::from_ref(run), color_stdout(globals)).map_err(Failure::input)?)
}

fn comparison(runs: &[RunData], args: &ReportArgs, globals: &Globals) -> Result<(), Failure> {
    if let Some(out) = &args.out {
        place::file(out, args.force)?;
        let page = compare::compare_html(runs).map_err(Failure::input)?;
        fs::write(out, page).with_context(|| format!("cannot write {}", out.display()))?;
        note(&format!("comparison in {}", out.display()));
    }
    if args.json {
        return print(&compare::compare_json(runs).map_err(Failure::input)?);
    }
    print_painted(&compare::compare_terminal(runs, color_stdout(globals)).map_err(Failure::input)?)
}

fn export(run: &RunData, window: &str, args: &ReportArgs) -> Result<(), Failure> {
    let ends = window
        .split_once("..")
        .and_then(|(from, to)| Some((from.trim().parse::<Duration>().ok()?, to.trim().parse::<Duration>().ok()?)));
    let Some((from, to)) = ends else {
        return Err(Failure::Input(format!("--perfetto {window}: expected FROM..TO with units, e.g. 60s..90s")));
    };
    // The run directory's own file is Overbook's to replace.
    if let Some(out) = &args.out {
        place::file(out, args.force)?;
    }
    let out = args.out.clone().unwrap_or_else(|| run.dir().join("trace.json.gz"));
    let trace = perfetto::export(run, Time(from.0.0), Time(to.0.0), PERFETTO_EVENTS).map_err(Failure::input)?;
    let packed = out.extension().is_some_and(|ending| ending == "gz");
    let bytes = if packed { trace.gzip() } else { trace.json.clone().into_bytes() };
    fs::write(&out, bytes).with_context(|| format!("cannot write {}", out.display()))?;
    print(&format!("{} segments and {} requests in {}", trace.segments, trace.requests, out.display()))?;
    if trace.left_out > 0 {
        note(&format!("{} segments and requests had no room: choose a shorter window", trace.left_out));
    }
    Ok(())
}
