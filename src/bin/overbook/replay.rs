//! `overbook replay`: a scenario's requests against a running server.

use std::fmt::Write as _;
use std::path::PathBuf;

use overbook::{TOOL, verdicts};
use overbook_engine::client::{ReplayError, Replayed, Scrape, Server, Target, replay};
use overbook_reports::manifest::Start;
use overbook_reports::parquet::ParquetRecorder;
use overbook_reports::summary_json::summary_json;
use overbook_reports::{Report, Status, html, manifest, terminal};
use overbook_scenarios::Point;
use overbook_scenarios::facts::assumptions;
use overbook_sim::fleet::ClusterSpec;
use overbook_sim::results::rows::{Outcome, Recorder as _};

use crate::ask::stated;
use crate::check::load;
use crate::cli::{Globals, ReplayArgs};
use crate::facts;
use crate::output::{
    DONE, Failure, GATE_FAILED, INTERRUPTED, color_stdout, note, print, print_painted, shows_progress,
};
use crate::place;
use crate::study;
use crate::watch::{Display, catch_interrupts};

/// Kinds of errors that are printed.
const ERRORS_SHOWN: usize = 5;

pub(crate) fn run(args: &ReplayArgs, globals: &Globals) -> Result<u8, Failure> {
    let start = Start::now();
    Target::parse(&args.url).map_err(|error| Failure::Input(format!("--url {error}")))?;
    let study = load(&args.scenario, globals)?;
    if study.plan().is_sweep() {
        return Err(Failure::Input("replay takes one scenario, this is a study; choose a point with --set".into()));
    }
    let point = &study.points()[0];
    let spec = point.cluster().map_err(Failure::input)?;
    let default = || PathBuf::from(format!("runs/{}-replay-{}", study.plan().name(), &study.plan().plan_hash()[..8]));
    let (out, force) = (args.out.clone().unwrap_or_else(default), args.force || args.out.is_none());
    let dir = place::run_dir(&out, force)?;
    let server = args.ask.server(&args.url, point)?;
    catch_interrupts();
    let visible = !globals.quiet && !args.no_progress && shows_progress();
    let display = Display::new(visible, point.scenario.workload.requests());
    let replayed = replayed(point, &server, &spec, &display)?;
    display.finish();
    let mut recorder = ParquetRecorder::create(dir.path(), false).map_err(anyhow::Error::new)?;
    let keep = |error| Failure::Run(anyhow::Error::from_boxed(error));
    replayed.rows.iter().try_for_each(|row| recorder.request(row)).map_err(keep)?;
    let classes: Vec<_> = replayed.result.summary.classes.iter().map(|class| class.name.clone()).collect();
    recorder.finish(&classes).map_err(anyhow::Error::new)?;
    dir.write("server.csv", csv(&replayed.scrapes)).map_err(anyhow::Error::new)?;
    let report = report(point, &server, &replayed, out.display().to_string());
    let verdicts: Vec<_> =
        study.plan().expectations().iter().map(|e| e.judge(&|_, metric| report.summary.metric(metric))).collect();
    let void = replayed.void();
    let passed = report.all_met() && verdicts.iter().all(|v| v.passed) && void.is_empty();
    let code = match (report.status, args.gate && !passed) {
        (Status::Interrupted, _) => INTERRUPTED,
        (_, true) => GATE_FAILED,
        _ => DONE,
    };
    let page = html::report_html_with(&report, &[]).map_err(anyhow::Error::new)?;
    for (name, text) in [
        ("scenario.resolved.yaml", point.scenario.to_yaml()),
        ("summary.json", summary_json(&report)),
        ("report.html", page),
    ] {
        dir.write(name, text).map_err(anyhow::Error::new)?;
    }
    let traces = point.scenario.workload.files();
    let plan = (point.plan_hash(), point.scenario.seed);
    let mut manifest = start.manifest(&facts::BUILD, facts::open_command(), plan, &traces, (report.status, code));
    manifest.server = Some(asked(&server, &replayed));
    dir.finish(&manifest).map_err(anyhow::Error::new)?;
    if args.json {
        print(&summary_json(&report))?;
    } else {
        print_painted(&terminal::summary(&report, color_stdout(globals)))?;
    }
    study::tell_verdicts(&verdicts, args.json)?;
    warn(&replayed, &void, globals);
    Ok(code)
}

pub(crate) fn replayed(
    point: &Point,
    server: &Server,
    spec: &ClusterSpec,
    display: &Display,
) -> Result<Replayed, Failure> {
    let mut workload = point.workload().map_err(Failure::input)?;
    replay(server, spec, &mut *workload, &mut |progress| display.show(progress)).map_err(|error| match error {
        ReplayError::Start(_) | ReplayError::Server { .. } => Failure::Run(anyhow::Error::new(error)),
        error => Failure::input(error),
    })
}

fn asked(server: &Server, replayed: &Replayed) -> manifest::Server {
    manifest::Server {
        url: server.target.to_string(),
        model: replayed.found.model.clone(),
        version: replayed.found.version.clone(),
        asked: replayed.found.asking.describe().to_owned(),
    }
}

/// The server's own view over time.
fn csv(scrapes: &[Scrape]) -> String {
    let mut text =
        "time_s,running,waiting,kv_usage,preemptions,prompt_tokens,generation_tokens,steps,step_tokens\n".to_owned();
    for s in scrapes {
        let _ = writeln!(
            text,
            "{:.6},{},{},{},{},{},{},{},{}",
            s.at.as_secs_f64(),
            s.running,
            s.waiting,
            s.kv_usage,
            s.preemptions,
            s.prompt_tokens,
            s.generation_tokens,
            s.steps,
            s.step_tokens
        );
    }
    text
}

fn report(point: &Point, server: &Server, replayed: &Replayed, directory: String) -> Report {
    let scenario = &point.scenario;
    let asked = asked(server, replayed);
    let version = asked.version.clone().unwrap_or_else(|| "of unknown version".to_owned());
    let title = scenario.description.as_deref().unwrap_or(&scenario.name);
    Report {
        title: format!("{title}, replayed against {}", asked.url),
        status: if replayed.result.interrupted { Status::Interrupted } else { Status::Complete },
        verdicts: verdicts(scenario, &replayed.result.summary),
        assumptions: conditions(point, server, replayed, &asked),
        remarks: Vec::new(),
        trust: None,
        trace_rows: Vec::new(),
        calibration: format!("measured by an HTTP client, not simulated: {}, {version}, {}", asked.model, asked.url),
        command: facts::open_command().join(" "),
        tool: TOOL.to_owned(),
        directory,
        summary: replayed.result.summary.clone(),
        timeline: replayed.result.timeline.clone(),
        traffic: None,
        recorded_traffic: None,
        clock: None,
    }
}

/// Under which conditions the replay was measured. Of the scenario only the requests count.
fn conditions(point: &Point, server: &Server, replayed: &Replayed, asked: &manifest::Server) -> Vec<(String, String)> {
    let ours = ["Workload", "Seed"];
    let mut facts = assumptions(point).unwrap_or_default();
    facts.retain(|(what, _)| ours.contains(&what.as_str()));
    let mut add = |what: &str, text: String| facts.push((what.to_owned(), text));
    add("Server", format!("{}, {}", asked.url, asked.version.as_deref().unwrap_or("which does not tell its version")));
    add("Model", asked.model.clone());
    add("Asked by", asked.asked.clone());
    add("Requests state", stated(server));
    let late = replayed.lateness;
    let (p50, p99, max) = (late.p50.as_millis_f64(), late.p99.as_millis_f64(), late.max.as_millis_f64());
    add("Requests sent late by", format!("p50 {p50:.3} ms, p99 {p99:.3} ms, at most {max:.3} ms"));
    if let Some(pressure) = replayed.pressure {
        let (steal, delay) = (pressure.steal * 100.0, pressure.run_delay * 100.0);
        add("CPU taken from the client", format!("{steal:.1} % stolen, {delay:.1} % waited for a core"));
    }
    match replayed.scrapes.last() {
        Some(last) if last.blocks > 0.0 => {
            let tokens = last.blocks * last.block_tokens;
            add(
                "Server's KV pool",
                format!("{} blocks of {} tokens = {tokens} tokens", last.blocks, last.block_tokens),
            );
        }
        Some(_) => {}
        None => add("Server's load", "unknown: it has no vLLM metrics; running is what is under way".to_owned()),
    }
    let (void, crowded) = (replayed.void(), replayed.crowded());
    if !crowded.is_empty() {
        add(
            "Shared machine",
            format!("{}; the server runs beside its client, whose requests were sent in time", crowded.join("; ")),
        );
    }
    if !void.is_empty() {
        add("VOID", void.join("; "));
    }
    facts
}

fn warn(replayed: &Replayed, void: &[String], globals: &Globals) {
    if !void.is_empty() {
        note(&format!("warning: this run is void as a measurement: {}", void.join("; ")));
    }
    let mut errors = replayed.errors.clone();
    errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (text, count) in errors.iter().take(ERRORS_SHOWN) {
        note(&format!("warning: {count} requests: {text}"));
    }
    if errors.len() > ERRORS_SHOWN {
        note(&format!("warning: and {} other errors", errors.len() - ERRORS_SHOWN));
    }
    if replayed.other_length > 0 {
        let finished = replayed.result.summary.count(Outcome::Finished);
        let other = replayed.other_length;
        note(&format!(
            "warning: {other} of {finished} answers are not as long as asked: the server does not know ignore_eos"
        ));
    }
    if !globals.quiet {
        let late = replayed.lateness;
        let (p50, p99, max) = (late.p50.as_millis_f64(), late.p99.as_millis_f64(), late.max.as_millis_f64());
        note(&format!(
            "{} requests sent, late by p50 {p50:.3} ms, p99 {p99:.3} ms, max {max:.3} ms",
            replayed.rows.len()
        ));
    }
}
