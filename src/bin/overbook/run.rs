//! `overbook run`: simulate a scenario, write a run directory, print the summary.

use std::path::{Path, PathBuf};

use overbook::study::Asked;
use overbook::{Options, Outcome, Point, Status, Study, estimate};
use overbook_reports::manifest::{Start, made_from_another_trace};
use overbook_reports::parquet::ParquetRecorder;
use overbook_reports::summary_json::summary_json;
use overbook_reports::{Report, RunDir, html, terminal};
use overbook_scenarios::facts::assumptions;
use overbook_sim::digest::Digest;
use overbook_sim::fleet::Effort;
use overbook_sim::results::rows::{self, Discard, Recorder};
use overbook_sim::results::summary::Summary;

use crate::check::{self, load};
use crate::cli::{Globals, RunArgs, ScenarioArgs};
use crate::device::Device;
use crate::facts;
use crate::measure::measure;
use crate::output::{
    DONE, FAILED, Failure, GATE_FAILED, INTERRUPTED, color_stdout, note, print, print_painted, shows_progress,
};
use crate::place;
use crate::study;
use crate::watch::{Display, catch_interrupts};

/// A run that has ended, and what its recorder wrote.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// Whether it was measured under conditions that make it void.
    pub(crate) void: bool,
    /// Whether all rows could be recorded. A measurement cannot be repeated: its figures are printed even if a row is lost.
    pub(crate) rows: Result<(), Failure>,
}

pub(crate) fn run(args: &RunArgs, globals: &Globals) -> Result<u8, Failure> {
    let study = load(&args.scenario, globals)?;
    check::requests(&study, globals)?;
    if args.dry_run {
        return dry_run(&study, args, globals);
    }
    let sweep = study.plan().is_sweep();
    only_simulated(args)?;
    if args.device.on.is_some() && sweep {
        let runs = study.points().len();
        return Err(Failure::Input(format!(
            "--on runs one scenario, this is a study of {runs}: set a value with --set and leave `sweep:` out; `overbook validate --on` takes \
             them one by one"
        )));
    }
    let options = options(args);
    if sweep {
        let asked = Asked { metrics: &Asked::SWEEP, command: command(args), by_load: false };
        study::run(&study, &asked, &options, args, globals)
    } else {
        single(&study, &options, args, globals)
    }
}

/// Refuses with `--on` what only a simulation has.
fn only_simulated(args: &RunArgs) -> Result<(), Failure> {
    let flags = [
        (
            args.audit,
            "--audit checks the laws of the simulation; a run with --on is replayed on the simulator in any case",
        ),
        (args.step_by_step, "--step-by-step is for the simulation; the real engine runs every step on its own"),
        (args.jobs.is_some(), "--jobs is for the points of a study; --on runs one scenario"),
    ];
    let given = flags.into_iter().find(|(is, _)| *is && args.device.on.is_some());
    given.map_or(Ok(()), |(_, why)| Err(Failure::Input(format!("{why}: leave it out"))))
}

/// How the command line wants runs to be made; Ctrl-C cancels them.
pub(crate) fn options(args: &RunArgs) -> Options {
    let (audit, step_by_step, jobs) = (args.audit, args.step_by_step, args.jobs);
    Options { audit, step_by_step, jobs, cancel: catch_interrupts(), ..Options::default() }
}

/// Prints what would be run.
pub(crate) fn dry_run(study: &Study, args: &RunArgs, globals: &Globals) -> Result<u8, Failure> {
    for (index, point) in study.points().iter().enumerate() {
        if index > 0 {
            print("---")?;
        }
        print(&point.scenario.to_yaml())?;
        for (what, value) in assumptions(point).map_err(Failure::input)? {
            note(&format!("{what}: {value}"));
        }
    }
    let options = Options { audit: args.audit, step_by_step: args.step_by_step, jobs: args.jobs, ..Options::default() };
    let rows = !study.plan().is_sweep() && !args.no_rows;
    let estimate = estimate::estimate(study, &options, rows).map_err(|error| Failure::of(error, globals))?;
    note(&estimate.to_string());
    let runs = study.points().len();
    note(&format!("{runs} run{}; nothing was run (--dry-run)", if runs == 1 { "" } else { "s" }));
    Ok(DONE)
}

/// Where the results go, and whether something that is there may be replaced. The default directory carries the hash of the
/// plan in its name, so what it replaces was made from the same plan; unless its trace had another content.
pub(crate) fn target(study: &Study, args: &RunArgs) -> (PathBuf, bool) {
    if let Some(out) = &args.out {
        return (out.clone(), args.force);
    }
    let plan = study.plan();
    let out = PathBuf::from(format!("runs/{}-{}", plan.name(), &plan.plan_hash()[..8]));
    let other = made_from_another_trace(&out, &study.points()[0].scenario.inputs());
    (out, args.force || !other)
}

fn single(study: &Study, options: &Options, args: &RunArgs, globals: &Globals) -> Result<u8, Failure> {
    let start = Start::now();
    let point = &study.points()[0];
    let device = args.device.on.map(|_| Device::open(point, &args.device, globals)).transpose()?;
    let (out, force) = target(study, args);
    let dir = place::run_dir(&out, force)?;
    let visible = !globals.quiet && !args.no_progress && shows_progress();
    let display = Display::new(visible, point.scenario.workload.requests());
    let run = Run { study, options, device: device.as_ref(), display: &display, globals };
    let ended = if args.no_rows {
        run.on(&mut Discard)?
    } else {
        let mut recorder = ParquetRecorder::create(dir.path(), true).map_err(anyhow::Error::new)?;
        let mut ended = run.on(&mut recorder)?;
        let classes: Vec<_> = ended.outcome.summary.classes.iter().map(|class| class.name.clone()).collect();
        let finished = recorder.finish(&classes).map(drop).map_err(|error| Failure::Run(anyhow::Error::new(error)));
        ended.rows = ended.rows.and(finished);
        ended
    };
    display.finish();
    let Ended { outcome, void, rows } = ended;
    let mut report = outcome.report(&command(args), &out.display().to_string());
    // A void run has shown nothing.
    let passed = !void && outcome.passes();
    let code = match (outcome.status, args.gate && !passed) {
        (Status::Interrupted, _) => INTERRUPTED,
        (Status::Failed, _) => FAILED,
        (_, true) => GATE_FAILED,
        _ => DONE,
    };
    let kept = rows.and_then(|()| write_files(&dir, point, &report, outcome.traffic_table(), args)).and_then(|()| {
        let traces = point.scenario.inputs();
        let plan = (point.plan_hash(), point.scenario.seed);
        let mut manifest = start.manifest(&facts::BUILD, facts::command(), plan, &traces, (report.status, code));
        manifest.trace_rows = report.trace_rows.iter().map(|&(name, rows)| (name.to_owned(), rows)).collect();
        dir.finish(&manifest).map(drop).map_err(|error| Failure::Run(anyhow::Error::new(error)))
    });
    if kept.is_err() {
        "nowhere: they could not be written".clone_into(&mut report.directory);
    }
    if kept.is_ok() || device.is_some() {
        let text = if args.json { summary_json(&report) } else { terminal::summary(&report, color_stdout(globals)) };
        print_painted(&text)?;
    }
    kept?;
    study::tell_verdicts(&outcome.expected, args.json)?;
    if !globals.quiet {
        warn_of_rejections(point, &outcome.summary);
        note(&effort(&outcome.summary, &outcome.effort, outcome.digest, &start));
    }
    if let Some(halt) = &outcome.halted {
        note(&format!("error: {halt}; the results end there"));
    }
    Ok(code)
}

/// A single run, simulated or for real.
struct Run<'a> {
    study: &'a Study,
    options: &'a Options,
    device: Option<&'a Device>,
    display: &'a Display,
    globals: &'a Globals,
}

impl Run<'_> {
    fn on<R: Recorder>(&self, recorder: &mut R) -> Result<Ended, Failure> {
        let Some(device) = self.device else {
            let outcome = self.study.record(self.options, recorder, &mut |progress| self.display.show(progress));
            let outcome = outcome.map_err(|error| Failure::of(error, self.globals))?;
            return Ok(Ended { outcome, void: false, rows: Ok(()) });
        };
        let ended = measure(&self.study.points()[0], device, recorder, self.display)?;
        Ok(Ended { outcome: self.study.judged(ended.outcome), ..ended })
    }
}

/// Requests that no replica can ever hold are easily overlooked among the outcomes.
fn warn_of_rejections(point: &Point, summary: &Summary) {
    let rejected = summary.count(rows::Outcome::Rejected);
    let limits: Result<Vec<_>, _> = point.kinds().iter().map(Point::limits).collect();
    if let (1.., Ok(limits)) = (rejected, limits) {
        let mut longest: Vec<_> = limits.iter().map(|(limits, _)| limits.max_model_len).collect();
        longest.sort_unstable();
        longest.dedup();
        let of_pools = if longest.len() > 1 { ", by pool: no router looks at that" } else { "" };
        let longest = longest.iter().map(u32::to_string).collect::<Vec<_>>().join(" or ");
        let ended = summary.ended();
        note(&format!(
            "warning: {rejected} of {ended} requests rejected; a sequence has at most {longest} tokens here{of_pools}"
        ));
    }
}

fn write_files(
    dir: &RunDir,
    point: &Point,
    report: &Report,
    traffic: html::Table,
    args: &RunArgs,
) -> Result<(), Failure> {
    dir.write("scenario.resolved.yaml", point.scenario.to_yaml()).map_err(anyhow::Error::new)?;
    dir.write("summary.json", summary_json(report)).map_err(anyhow::Error::new)?;
    if !args.no_report {
        let page = html::report_html_with(report, &[traffic]).map_err(anyhow::Error::new)?;
        dir.write("report.html", page).map_err(anyhow::Error::new)?;
    }
    Ok(())
}

/// The command that makes the same results again; only what changes them.
pub(crate) fn command(args: &RunArgs) -> String {
    command_of(&args.scenario)
}

/// The command that runs a scenario with these changes.
pub(crate) fn command_of(args: &ScenarioArgs) -> String {
    let mut words = vec!["overbook run".to_owned(), quote(&args.scenario)];
    for change in &args.set {
        words.push(format!("--set {}", quote(Path::new(change))));
    }
    words.extend(args.seed.map(|seed| format!("--seed {seed}")));
    words.join(" ")
}

pub(crate) fn quote(word: &Path) -> String {
    let word = word.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,".contains(c);
    if word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// How much work the simulation was, for stderr: it is no part of the result.
fn effort(summary: &Summary, effort: &Effort, digest: Digest, start: &Start) -> String {
    let requests = summary.ended();
    let speed = start.cpu_s().map_or(String::new(), |cpu| format!(" in {cpu:.2} CPU s{}", speed(requests, cpu)));
    format!(
        "{requests} requests{speed}; {} steps from {} plans ({:.1} steps per plan, {:.1} possible), digest {digest}",
        effort.steps,
        effort.plans,
        effort.steps_per_plan(),
        effort.steps_per_unavoidable_plan(),
    )
}

/// Requests per CPU second, where the clock (10 ms) is fine enough to say.
pub(crate) fn speed(requests: u64, cpu_s: f64) -> String {
    if cpu_s < 0.1 { String::new() } else { format!(", {:.0} requests per CPU second", requests as f64 / cpu_s) }
}
