//! `overbook run`: simulate a scenario, write a run directory, print the summary.

use std::path::{Path, PathBuf};

use overbook_reports::parquet::ParquetRecorder;
use overbook_reports::summary_json::summary_json;
use overbook_reports::{Report, RunDir, Status, Traffic, TrafficScale, html, terminal};
use overbook_scenarios::{Point, Study};
use overbook_sim::cost::CostModel;
use overbook_sim::fleet::{Cluster, RunError, RunResult};
use overbook_sim::results::rows::{Discard, Outcome, Recorder};
use overbook_traces::{BurstStats, Tapped, burstiness};

use crate::check::load;
use crate::cli::{Globals, RunArgs};
use crate::device::Device;
use crate::estimate;
use crate::facts::{self, Start};
use crate::measure::measure;
use crate::output::{DONE, Failure, GATE_FAILED, INTERRUPTED, color_stdout, note, print, shows_progress};
use crate::sweep::{self, Asked};
use crate::watch::{Display, catch_interrupts};

/// A run that has ended, and what its recorder wrote.
pub(crate) struct Ended {
    pub(crate) report: Report,
    pub(crate) result: RunResult,
    /// Rates and burstiness of the requests as they arrived, and as recorded if that is another thing.
    pub(crate) traffic: Option<BurstStats>,
    pub(crate) recorded: Option<BurstStats>,
    /// Whether it was measured under conditions that make it void.
    pub(crate) void: bool,
    /// Whether all rows could be recorded. What was measured cannot be had again: its figures are told even if not.
    pub(crate) rows: Result<(), Failure>,
}

pub(crate) fn run(args: &RunArgs, globals: &Globals) -> Result<u8, Failure> {
    let study = load(&args.scenario, globals)?;
    if args.dry_run {
        return dry_run(&study, args);
    }
    if args.device.on.is_some() && study.is_sweep() {
        let runs = study.points().len();
        return Err(Failure::Input(format!(
            "--on runs one scenario, this is a study of {runs}: set a value with --set and leave `sweep:` out; `overbook validate --on` takes \
             them one by one"
        )));
    }
    catch_interrupts();
    if study.is_sweep() { sweep::run(&study, &Asked::of(args), args, globals) } else { single(&study, args, globals) }
}

/// Prints what would be run.
pub(crate) fn dry_run(study: &Study, args: &RunArgs) -> Result<u8, Failure> {
    for (index, point) in study.points().iter().enumerate() {
        if index > 0 {
            print("---")?;
        }
        print(&point.scenario.to_yaml())?;
        for (what, value) in facts::assumptions(point).map_err(Failure::input)? {
            note(&format!("{what}: {value}"));
        }
    }
    let runs = study.points().len();
    note(&estimate::estimate(study, args, sweep::jobs(args, runs))?);
    note(&format!("{runs} run{}; nothing was run (--dry-run)", if runs == 1 { "" } else { "s" }));
    Ok(DONE)
}

/// Where the results go, and whether something that is there may be replaced. The default directory carries the hash of the
/// plan in its name, so what it replaces was made from the same plan; unless its trace had another content.
pub(crate) fn target(study: &Study, args: &RunArgs) -> (PathBuf, bool) {
    if let Some(out) = &args.out {
        return (out.clone(), args.force);
    }
    let out = PathBuf::from(format!("runs/{}-{}", study.name(), &study.plan_hash()[..8]));
    let other = facts::made_from_another_trace(&out, &study.points()[0].scenario.workload.files());
    (out, args.force || !other)
}

fn single(study: &Study, args: &RunArgs, globals: &Globals) -> Result<u8, Failure> {
    let start = Start::now();
    let point = &study.points()[0];
    let device = args.device.on.map(|_| Device::open(point, &args.device)).transpose()?;
    let (out, force) = target(study, args);
    let dir = RunDir::create(&out, force)?;
    let visible = !globals.quiet && !args.no_progress && shows_progress();
    let display = Display::new(visible, point.scenario.workload.requests());
    let ended = if args.no_rows {
        run_one(point, args, device.as_ref(), &mut Discard, &display)?
    } else {
        let mut recorder = ParquetRecorder::create(dir.path(), true).map_err(anyhow::Error::new)?;
        let mut ended = run_one(point, args, device.as_ref(), &mut recorder, &display)?;
        let classes: Vec<_> = ended.result.summary.classes.iter().map(|class| class.name.clone()).collect();
        let finished = recorder.finish(&classes).map(drop).map_err(|error| Failure::Run(anyhow::Error::new(error)));
        ended.rows = ended.rows.and(finished);
        ended
    };
    display.finish();
    let Ended { mut report, result, traffic, recorded, void, rows } = ended;
    report.directory = out.display().to_string();
    report.command = command(args);
    let verdicts: Vec<_> =
        study.expectations().iter().map(|e| e.judge(&|_, metric| report.summary.metric(metric))).collect();
    // A void run has shown nothing.
    let passed = !void && report.all_met() && verdicts.iter().all(|v| v.passed);
    let code = match (report.status, args.gate && !passed) {
        (Status::Interrupted, _) => INTERRUPTED,
        (_, true) => GATE_FAILED,
        _ => DONE,
    };
    let table = traffic_table(traffic.as_ref(), recorded.as_ref());
    let kept = rows.and_then(|()| write_files(&dir, point, &report, table, args)).and_then(|()| {
        let traces = point.scenario.workload.files();
        let manifest = start.manifest(point.plan_hash(), point.scenario.seed, &traces, (report.status, code));
        dir.finish(&manifest).map(drop).map_err(|error| Failure::Run(anyhow::Error::new(error)))
    });
    if kept.is_err() {
        "nowhere: they could not be written".clone_into(&mut report.directory);
    }
    if kept.is_ok() || device.is_some() {
        let text = if args.json { summary_json(&report) } else { terminal::summary(&report, color_stdout(globals)) };
        print(&text)?;
    }
    kept?;
    sweep::tell_verdicts(&verdicts, args.json)?;
    if !globals.quiet {
        warn_of_rejections(point, &result);
        note(&effort(&result, &start));
    }
    Ok(code)
}

/// Simulates a point, or runs it for real.
fn run_one<R: Recorder>(
    point: &Point,
    args: &RunArgs,
    device: Option<&Device>,
    recorder: &mut R,
    display: &Display,
) -> Result<Ended, Failure> {
    match device {
        Some(device) => measure(point, device, recorder, display),
        None => simulate(point, args, recorder, display),
    }
}

/// Requests that no replica can ever hold are easily overlooked among the outcomes.
fn warn_of_rejections(point: &Point, result: &RunResult) {
    let rejected = result.summary.count(Outcome::Rejected);
    let limits: Result<Vec<_>, _> = point.kinds().iter().map(Point::limits).collect();
    if let (1.., Ok(limits)) = (rejected, limits) {
        let mut longest: Vec<_> = limits.iter().map(|(limits, _)| limits.max_model_len).collect();
        longest.sort_unstable();
        longest.dedup();
        let of_pools = if longest.len() > 1 { ", by pool: no router looks at that" } else { "" };
        let longest = longest.iter().map(u32::to_string).collect::<Vec<_>>().join(" or ");
        let ended = result.summary.ended();
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

/// The traffic as it arrived, beside the traffic as recorded where the scenario changes it.
fn traffic_table(played: Option<&BurstStats>, recorded: Option<&BurstStats>) -> html::Table {
    let played = played.map(BurstStats::describe).unwrap_or_default();
    let before = recorded.map(BurstStats::describe);
    let row = |(what, value): (String, String)| {
        let then = before.as_ref().map(|lines| {
            let line = lines.iter().find(|(name, _)| *name == what);
            line.map_or_else(|| "–".to_owned(), |(_, value)| value.clone())
        });
        [Some(what), then, Some(value)].into_iter().flatten().collect()
    };
    let columns = if before.is_some() { &["", "As recorded", "As played"][..] } else { &["", "As it arrived"] };
    html::Table {
        title: "Traffic".into(),
        header: columns.iter().map(|&name| name.to_owned()).collect(),
        rows: played.into_iter().map(row).collect(),
        note: "Peaks are the fullest second, minute and hour. The index of dispersion is variance ÷ mean of the counts: 1 \
               for Poisson traffic, more for bursts."
            .into(),
    }
}

fn traffic(stats: &BurstStats) -> Traffic {
    let scales = stats.scales().map(|(_, bins)| TrafficScale {
        peak_rate: bins.peak_rate(),
        peak_over_mean: stats.peak_over_mean(bins),
        dispersion: bins.dispersion(),
    });
    Traffic { requests: stats.requests, mean_rate: stats.mean_rate(), scales }
}

/// The fleet of a point and what steps cost on each kind of replica.
pub(crate) fn fleet(point: &Point, args: &RunArgs) -> Result<(Cluster, Vec<Box<dyn CostModel>>), Failure> {
    let mut spec = point.cluster().map_err(Failure::input)?;
    spec.audit |= args.audit;
    spec.jumps = !args.step_by_step;
    let costs = point.costs().map_err(Failure::input)?;
    Ok((Cluster::new(spec).map_err(Failure::input)?, costs))
}

/// Simulates one point.
pub(crate) fn simulate<R: Recorder>(
    point: &Point,
    args: &RunArgs,
    recorder: &mut R,
    display: &Display,
) -> Result<Ended, Failure> {
    let (cluster, mut costs) = fleet(point, args)?;
    let mut costs: Vec<_> = costs.iter_mut().map(|cost| &mut **cost as &mut dyn CostModel).collect();
    let mut workload = point.workload().map_err(Failure::input)?;
    let mut watch = |progress| display.show(progress);
    // In a closed loop the workload's own times are not those of the requests.
    let counted = point.coordinates.is_empty() && point.scenario.workload.clients.is_none();
    let (mut played, mut recorded) = (None, None);
    let ran = if counted {
        let mut tapped = Tapped::new(workload);
        let ran = cluster.run_pools(&mut tapped, &mut costs, recorder, &mut watch);
        played = Some(tapped.stats());
        if let Some(mut workload) = point.recorded().map_err(Failure::input)? {
            recorded = Some(burstiness(&mut *workload).map_err(Failure::input)?);
        }
        ran
    } else {
        cluster.run_pools(&mut *workload, &mut costs, recorder, &mut watch)
    };
    let mut result = ran.map_err(|error| match error {
        RunError::Workload(_) | RunError::Unsorted(_) => Failure::input(error),
        RunError::Record(error) => Failure::Run(anyhow::Error::from_boxed(error)),
        error => Failure::Run(anyhow::Error::new(error)),
    })?;
    for (pool, name) in result.summary.pools.iter_mut().zip(point.pool_names()) {
        pool.name = name;
    }
    let scenario = &point.scenario;
    let title = scenario.description.clone().unwrap_or_else(|| scenario.name.clone());
    let report = Report {
        title,
        status: if result.interrupted { Status::Interrupted } else { Status::Complete },
        verdicts: facts::verdicts(scenario, &result.summary),
        assumptions: facts::assumptions(point).map_err(Failure::input)?,
        calibration: facts::calibration(point, Some(&result.summary)),
        command: String::new(),
        tool: facts::TOOL.to_owned(),
        directory: String::new(),
        summary: result.summary.clone(),
        timeline: result.timeline.clone(),
        traffic: played.as_ref().map(traffic),
        recorded_traffic: recorded.as_ref().map(traffic),
    };
    Ok(Ended { report, result, traffic: played, recorded, void: false, rows: Ok(()) })
}

/// The command that makes the same results again; only what changes them.
pub(crate) fn command(args: &RunArgs) -> String {
    let mut words = vec!["overbook run".to_owned(), quote(&args.scenario.scenario)];
    for change in &args.scenario.set {
        words.push(format!("--set {}", quote(Path::new(change))));
    }
    words.extend(args.scenario.seed.map(|seed| format!("--seed {seed}")));
    words.join(" ")
}

pub(crate) fn quote(word: &Path) -> String {
    let word = word.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,".contains(c);
    if word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// How much work the simulation was, for stderr: it is no part of the result.
pub(crate) fn effort(result: &RunResult, start: &Start) -> String {
    let requests = result.summary.ended();
    let effort = &result.effort;
    let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
    let speed = start.cpu_s().map_or(String::new(), |cpu| format!(" in {cpu:.2} CPU s{}", speed(requests, cpu)));
    format!(
        "{requests} requests{speed}; {} steps from {} plans ({:.1} steps per plan, {:.1} possible), digest {}",
        effort.steps,
        effort.plans,
        ratio(effort.steps, effort.plans),
        ratio(effort.steps, effort.unavoidable),
        result.digest
    )
}

/// Requests per CPU second, where the clock (10 ms) is fine enough to say.
pub(crate) fn speed(requests: u64, cpu_s: f64) -> String {
    if cpu_s < 0.1 { String::new() } else { format!(", {:.0} requests per CPU second", requests as f64 / cpu_s) }
}
