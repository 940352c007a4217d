//! A scenario with `sweep:`: many runs, one study.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use overbook_reports::points::{POINTS, Points};
use overbook_reports::summary_json::summary_json;
use overbook_reports::{RunDir, Status, study as reports};
use overbook_scenarios::{Point, Study, Verdict};
use overbook_sim::results::rows::Discard;

use crate::cli::{Globals, RunArgs};
use crate::facts::{self, Start};
use crate::output::{DONE, Failure, GATE_FAILED, INTERRUPTED, note, print};
use crate::run::{Ended, command, simulate, target};
use crate::watch::{Display, interrupted};

/// Metrics in the table of a scenario's own sweep.
const METRICS: [&str; 12] = [
    "goodput_fraction",
    "ttft_p50",
    "ttft_p99",
    "tpot_p50",
    "tpot_p99",
    "e2el_p99",
    "request_throughput",
    "output_throughput",
    "kv_usage_mean",
    "running_mean",
    "waiting_mean",
    "preemptions",
];

/// What a study was made for.
pub(crate) struct Asked<'a> {
    /// Metrics of its table and figures, besides those that `expect:` names.
    pub(crate) metrics: &'a [&'a str],
    /// The command that makes it again.
    pub(crate) command: String,
    /// Whether the first axis is the load: then it is told up to where the promise is kept, and not each point that misses it.
    pub(crate) by_load: bool,
}

impl Asked<'_> {
    /// By a scenario's `sweep:`.
    pub(crate) fn of(args: &RunArgs) -> Asked<'static> {
        Asked { metrics: &METRICS, command: command(args), by_load: false }
    }
}

/// Metrics that a study's table has where any point has some.
const RARE: [&str; 5] = ["recompute_tax", "expired", "cancelled", "rejected", "failed"];

/// Missed targets of `slo:` that are shown before the rest is only counted.
const MISSED_SHOWN: usize = 20;

/// Points that run at once.
pub(crate) fn jobs(args: &RunArgs, points: usize) -> usize {
    args.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, usize::from).min(points)
}

pub(crate) fn run(study: &Study, asked: &Asked<'_>, args: &RunArgs, globals: &Globals) -> Result<u8, Failure> {
    let start = Start::now();
    let (out, force) = target(study, args);
    let dir = RunDir::create(&out, force)?;
    let points = study.points();
    let jobs = jobs(args, points.len());
    let ended = run_points(study, args, globals, jobs)?;
    let complete = ended.iter().all(|e| e.as_ref().is_some_and(|e| e.report.status == Status::Complete));

    let lookup = |point: usize, metric: &str| ended[point].as_ref()?.report.summary.metric(metric);
    let verdicts: Vec<_> = study.expectations().iter().map(|e| e.judge(&lookup)).collect();
    // Points that miss a target are what a study looks for; its gate is what it expects. Without expectations it is the targets.
    let kept = || ended.iter().flatten().all(|e| e.report.all_met());
    let passed = if verdicts.is_empty() { kept() } else { verdicts.iter().all(|v| v.passed) };
    let table = table(study, asked, &ended, &verdicts);
    let mut side_by_side = Points::new(table.axes.clone());
    for (index, ended) in ended.iter().enumerate() {
        let Some(ended) = ended else { continue };
        let summary = summary_json(&ended.report);
        side_by_side.push(table.points[index].coordinates.clone(), &summary).map_err(anyhow::Error::new)?;
        dir.write(&format!("point-{index:04}.summary.json"), summary).map_err(anyhow::Error::new)?;
        let scenario = study.points()[index].scenario.to_yaml();
        dir.write(&format!("point-{index:04}.resolved.yaml"), scenario).map_err(anyhow::Error::new)?;
    }
    dir.write("study.csv", table.csv()).map_err(anyhow::Error::new)?;
    dir.write(POINTS, side_by_side.parquet().map_err(anyhow::Error::new)?).map_err(anyhow::Error::new)?;
    if !args.no_report {
        dir.write("report.html", table.html().map_err(anyhow::Error::new)?).map_err(anyhow::Error::new)?;
    }
    let (status, code) = match (complete, args.gate && !passed) {
        (false, _) => (Status::Interrupted, INTERRUPTED),
        (true, true) => (Status::Complete, GATE_FAILED),
        (true, false) => (Status::Complete, DONE),
    };
    let first = &points[0].scenario;
    let traces = first.workload.files();
    let manifest = start.manifest(study.plan_hash(), first.seed, &traces, (status, code));
    dir.finish(&manifest).map_err(anyhow::Error::new)?;
    if args.json {
        print(&json(study, &ended)?)?;
    } else {
        print(&table.terminal())?;
    }
    // A comparison says up to which load each keeps its promise; a gate that fails says where.
    if !asked.by_load || args.json || args.gate {
        tell_missed(study, &ended, args.json)?;
    }
    tell_verdicts(&verdicts, args.json)?;
    if !args.json {
        print(&format!("results: {}", out.display()))?;
    }
    if !globals.quiet {
        let cpu = start.cpu_s().unwrap_or(f64::NAN);
        note(&format!("{} runs in {cpu:.2} CPU s on {jobs} thread(s)", points.len()));
    }
    Ok(code)
}

/// Runs the points on `jobs` threads. Results stand at their index, whoever made them.
fn run_points(study: &Study, args: &RunArgs, globals: &Globals, jobs: usize) -> Result<Vec<Option<Ended>>, Failure> {
    let points = study.points();
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Ended, Failure>>>> = points.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= points.len() || interrupted() {
                        return;
                    }
                    let ended = simulate(&points[index], args, &mut Discard, &Display::new(false, None))
                        .map_err(|failure| failure.at(&format!("point {} ({})", index + 1, place(&points[index]))));
                    if ended.is_ok() && !globals.quiet && !args.no_progress {
                        note(&format!("point {} of {} done", index + 1, points.len()));
                    }
                    if let Ok(mut place) = results[index].lock() {
                        *place = Some(ended);
                    }
                }
            });
        }
    });
    results.into_iter().map(|place| place.into_inner().ok().flatten().transpose()).collect()
}

fn table(study: &Study, asked: &Asked<'_>, ended: &[Option<Ended>], verdicts: &[Verdict]) -> reports::Study {
    let value = |ended: &Option<Ended>, metric: &str| ended.as_ref().and_then(|e| e.report.summary.metric(metric));
    let any = |metric: &str| ended.iter().any(|ended| value(ended, metric).is_some_and(|value| value > 0.0));
    let asked_for = asked.metrics.iter().copied();
    let rare = RARE.into_iter().filter(|metric| any(metric) && !asked.metrics.contains(metric));
    let mut metrics: Vec<String> = asked_for.chain(rare).map(str::to_owned).collect();
    for expectation in study.expectations() {
        let name = expectation.spec.metric.to_string();
        if !metrics.contains(&name) {
            metrics.push(name);
        }
    }
    let points = study.points().iter().zip(ended).map(|(point, ended)| reports::Point {
        coordinates: point.coordinates.iter().map(|(_, value)| value.clone()).collect(),
        values: metrics.iter().map(|metric| value(ended, metric)).collect(),
        kept: ended.as_ref().filter(|e| asked.by_load && !e.report.verdicts.is_empty()).map(|e| e.report.all_met()),
    });
    let first = &study.points()[0];
    reports::Study {
        title: first.scenario.description.clone().unwrap_or_else(|| study.name().to_owned()),
        axes: first.coordinates.iter().map(|(path, _)| path.clone()).collect(),
        points: points.collect(),
        metrics,
        verdicts: verdicts.iter().map(judged).collect(),
        calibration: facts::calibration(first, None),
        command: asked.command.clone(),
        tool: facts::TOOL.to_owned(),
    }
}

fn json(study: &Study, ended: &[Option<Ended>]) -> Result<String, Failure> {
    let mut list = Vec::new();
    for (point, ended) in study.points().iter().zip(ended) {
        let Some(ended) = ended else { continue };
        let summary: serde_json::Value =
            serde_json::from_str(&summary_json(&ended.report)).map_err(anyhow::Error::new)?;
        let coordinates: serde_json::Map<_, _> =
            point.coordinates.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        list.push(serde_json::json!({ "coordinates": coordinates, "summary": summary }));
    }
    Ok(serde_json::to_string_pretty(&list).map_err(anyhow::Error::new)?)
}

/// Where a point lies in its study.
fn place(point: &Point) -> String {
    let pairs: Vec<_> = point.coordinates.iter().map(|(path, value)| format!("{path}={value}")).collect();
    pairs.join(", ")
}

/// Tells which points miss a target of `slo:`, on stderr if stdout holds a JSON document.
fn tell_missed(study: &Study, ended: &[Option<Ended>], json: bool) -> Result<(), Failure> {
    let points = study.points().iter().zip(ended).filter_map(|(point, ended)| Some((point, ended.as_ref()?)));
    let missed = points.flat_map(|(point, ended)| {
        let missed = ended.report.verdicts.iter().filter(|verdict| !verdict.met());
        missed.map(|v| format!("✗ {} at {}: {}, got {}", v.label(), place(point), v.target_text(), v.value_text()))
    });
    let missed: Vec<_> = missed.collect();
    for line in missed.iter().take(MISSED_SHOWN) {
        tell(line, json)?;
    }
    if missed.len() > MISSED_SHOWN {
        tell(&format!("  and {} more targets missed", missed.len() - MISSED_SHOWN), json)?;
    }
    Ok(())
}

fn judged(verdict: &Verdict) -> reports::Judged {
    let Verdict { subject, target, source, passed, .. } = verdict;
    reports::Judged { met: *passed, text: format!("{subject}: {target}, got {} ({source})", verdict.got_text()) }
}

/// Tells target, got and verdict of every expectation, on stderr if stdout holds a JSON document.
pub(crate) fn tell_verdicts(verdicts: &[Verdict], json: bool) -> Result<(), Failure> {
    for judged in verdicts.iter().map(judged) {
        tell(&format!("{} {}", if judged.met { "✓" } else { "✗" }, judged.text), json)?;
    }
    Ok(())
}

fn tell(line: &str, json: bool) -> Result<(), Failure> {
    if json {
        note(line);
        return Ok(());
    }
    print(line)
}
