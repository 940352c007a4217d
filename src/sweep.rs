//! A scenario with `sweep:`: many runs, one study.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use overbook_reports::summary_json::summary_json;
use overbook_reports::{RunDir, Status, study as reports};
use overbook_scenarios::{Study, Verdict};
use overbook_sim::rows::Discard;

use crate::cli::{Globals, RunArgs};
use crate::facts::{self, Start};
use crate::output::{DONE, Failure, GATE_FAILED, INTERRUPTED, note, print};
use crate::run::{Ended, command, simulate, target};
use crate::watch::{Display, interrupted};

/// Metrics in every study's table, besides those that `expect:` names.
const METRICS: [&str; 12] = [
    "ttft_p50",
    "ttft_p99",
    "tpot_p50",
    "tpot_p99",
    "e2el_p99",
    "request_throughput",
    "output_throughput",
    "goodput_fraction",
    "kv_usage_mean",
    "running_mean",
    "waiting_mean",
    "preemptions",
];

pub(crate) fn run(study: &Study, args: &RunArgs, globals: &Globals) -> Result<u8, Failure> {
    let start = Start::now();
    let (out, force) = target(study, args);
    let dir = RunDir::create(&out, force).map_err(Failure::input)?;
    let points = study.points();
    let jobs = args.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let ended = run_points(study, args, globals, jobs.clamp(1, points.len()))?;
    let complete = ended.iter().all(|e| e.as_ref().is_some_and(|e| e.report.status == Status::Complete));

    let lookup = |point: usize, metric: &str| ended[point].as_ref()?.report.summary.metric(metric);
    let verdicts: Vec<_> = study.expectations().iter().map(|e| e.judge(&lookup)).collect();
    let kept = ended.iter().flatten().all(|e| e.report.all_met());
    let passed = kept && verdicts.iter().all(|v| v.passed);
    let table = table(study, args, &ended);
    for (index, ended) in ended.iter().enumerate() {
        let Some(ended) = ended else { continue };
        dir.write(&format!("point-{index:04}.summary.json"), summary_json(&ended.report)).map_err(anyhow::Error::new)?;
        let scenario = study.points()[index].scenario.to_yaml();
        dir.write(&format!("point-{index:04}.resolved.yaml"), scenario).map_err(anyhow::Error::new)?;
    }
    dir.write("study.csv", table.csv()).map_err(anyhow::Error::new)?;
    if !args.no_report {
        dir.write("report.html", table.html().map_err(anyhow::Error::new)?).map_err(anyhow::Error::new)?;
    }
    let (status, code) = match (complete, args.gate && !passed) {
        (false, _) => (Status::Interrupted, INTERRUPTED),
        (true, true) => (Status::Complete, GATE_FAILED),
        (true, false) => (Status::Complete, DONE),
    };
    let first = &points[0].scenario;
    let trace = first.workload.trace.as_ref().map(|t| t.path.as_path());
    let manifest = start.manifest(study.plan_hash(), first.seed, trace, (status, code));
    dir.finish(&manifest).map_err(anyhow::Error::new)?;
    if args.json {
        print(&json(study, &ended)?)?;
    } else {
        print(&table.terminal())?;
        print_verdicts(&verdicts)?;
        print(&format!("results in {}", out.display()))?;
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
                    let ended = simulate(&points[index], args, &mut Discard, &Display::new(false, None));
                    if !globals.quiet && !args.no_progress {
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

fn table(study: &Study, args: &RunArgs, ended: &[Option<Ended>]) -> reports::Study {
    let mut metrics: Vec<String> = METRICS.map(str::to_owned).to_vec();
    for expectation in study.expectations() {
        let name = expectation.spec.metric.to_string();
        if !metrics.contains(&name) {
            metrics.push(name);
        }
    }
    let points = study.points().iter().zip(ended).map(|(point, ended)| reports::Point {
        coordinates: point.coordinates.iter().map(|(_, value)| value.clone()).collect(),
        values: metrics.iter().map(|m| ended.as_ref().and_then(|e| e.report.summary.metric(m))).collect(),
    });
    let first = &study.points()[0];
    reports::Study {
        title: first.scenario.description.clone().unwrap_or_else(|| study.name().to_owned()),
        axes: first.coordinates.iter().map(|(path, _)| path.clone()).collect(),
        points: points.collect(),
        metrics,
        calibration: facts::calibration(&first.scenario),
        command: command(args),
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

/// Prints target, got and verdict of every expectation.
pub(crate) fn print_verdicts(verdicts: &[Verdict]) -> Result<(), Failure> {
    for verdict in verdicts {
        let mark = if verdict.passed { "✓" } else { "✗" };
        let (subject, target, got) = (&verdict.subject, &verdict.target, verdict.got_text());
        print(&format!("{mark} {subject}: {target}, got {got} ({})", verdict.source))?;
    }
    Ok(())
}
