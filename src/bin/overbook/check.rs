//! `overbook check`: parse, resolve and validate; run nothing.

use std::path::Path;

use overbook::{Cancel, Experiment, Point, Study};
use overbook_sim::time::Time;
use overbook_sim::units::Duration;
use overbook_traces::{LeftOut, RowFault, TraceSpec};

use crate::cli::{CheckArgs, Globals, ScenarioArgs};
use crate::output::{DONE, Failure, note, print};

/// Loads and resolves a scenario, with the changes of the command line.
pub(crate) fn load(args: &ScenarioArgs, globals: &Globals) -> Result<Study, Failure> {
    resolved(&experiment(args, globals)?, globals)
}

/// Loads a scenario, with the changes of the command line.
pub(crate) fn experiment(args: &ScenarioArgs, globals: &Globals) -> Result<Experiment, Failure> {
    let mut set = args.set.clone();
    set.extend(args.seed.map(|seed| format!("seed={seed}")));
    changed(&args.scenario, &set, globals)
}

fn changed(path: &Path, set: &[String], globals: &Globals) -> Result<Experiment, Failure> {
    let mut experiment = Experiment::load(path).map_err(|error| Failure::of(error, globals))?;
    for change in set {
        let Some((path, value)) = change.split_once('=') else {
            return Err(Failure::Input(format!("--set {change}: expected PATH=VALUE, e.g. --set fleet.replicas=8")));
        };
        experiment = experiment.set_yaml(path.trim(), value);
    }
    Ok(experiment)
}

/// Checks and expands a scenario.
pub(crate) fn resolved(experiment: &Experiment, globals: &Globals) -> Result<Study, Failure> {
    let study = experiment.study().map_err(|error| Failure::of(error, globals))?;
    if !globals.quiet {
        study.plan().notes().iter().for_each(|text| note(&format!("note: {text}")));
        if let Some(text) = study.points().first().and_then(stretched) {
            note(&format!("note: {text}"));
        }
    }
    Ok(study)
}

/// Refuses a study whose requests lack what its prefix caches go by.
pub(crate) fn requests(study: &Study, globals: &Globals) -> Result<(), Failure> {
    study.check_requests(&Cancel::new()).map_err(|error| Failure::of(error, globals))
}

/// A remark on a trace that ends within the time over which `spread` deals out its first requests.
fn stretched(point: &Point) -> Option<String> {
    let trace = point.scenario.workload.trace.as_ref()?;
    let spread = trace.spread?;
    // What comes through a pipe comes once.
    let recorded = trace.recorded().filter(|_| trace.path.is_file())?;
    let mut requests = recorded.open().ok()?;
    let (mut count, mut last) = (0_u64, Time::ZERO);
    while let Some(arrival) = requests.next_arrival().ok()? {
        if arrival.at.since(Time::ZERO) >= spread.0 {
            return None;
        }
        (count, last) = (count + 1, arrival.at);
    }
    let lasts = Duration(last.since(Time::ZERO));
    let what = "it says how fine the clock of the file is, e.g. 1s or 1min";
    (count > 1).then(|| format!("`spread: {spread}` deals {count} requests out that came within {lasts}; {what}"))
}

/// Rows of a trace that are looked at: all of a small one.
const ROWS_MAX: u64 = 1_000_000;

/// Opens every workload, and reads its trace: what is wrong with it is reported here, all at once.
fn opened(study: Study, globals: &Globals) -> Result<Study, Failure> {
    let points = study.points();
    for (index, point) in points.iter().enumerate() {
        let workload = &point.scenario.workload;
        if index > 0 && points[index - 1].scenario.workload == *workload {
            continue;
        }
        match &workload.trace {
            // A pipe can be read only once, and that is the run's.
            Some(trace) if trace.path.is_file() => rows(&point.played(trace), globals)?,
            _ => {}
        }
        let mut requests = point.workload().map_err(Failure::input)?;
        // Sessions that no client opens must say themselves when they start.
        if let Some(sessions) = requests.sessions().filter(|_| workload.clients.is_none()) {
            sessions.next_start().map_err(Failure::input)?;
        }
    }
    requests(&study, globals)?;
    Ok(study)
}

/// Where the rows stand that are left out: `; empty cells: lines 4 and 5; …`.
fn places(left_out: &LeftOut) -> String {
    let no_request = format!("no requests, for {}", left_out.no_request_why);
    let kinds = [
        ("empty cells", &left_out.empty),
        ("not readable", &left_out.invalid),
        ("failed", &left_out.failed),
        (&no_request, &left_out.no_request),
    ];
    let told = kinds.into_iter().filter(|(_, lines)| !lines.is_empty());
    let told: Vec<String> = told.map(|(what, lines)| format!("; {what}: {lines}")).collect();
    told.concat()
}

/// Every kind of fault in the rows of a trace.
fn rows(trace: &TraceSpec, globals: &Globals) -> Result<(), Failure> {
    let found = trace.inspect(ROWS_MAX).map_err(Failure::input)?;
    let looked = if found.whole { "all" } else { "the first" };
    if !found.faults.is_empty() {
        let told = found.faults.iter().map(|RowFault { first, more, lines }| match more {
            0 => first.to_string(),
            more => format!("{first} (and {more} more rows like it: {lines})"),
        });
        let rows = found.counts.rows;
        let told: Vec<String> = std::iter::once(format!("in {looked} {rows} rows of the trace:")).chain(told).collect();
        return Err(Failure::Input(told.join("\n")));
    }
    let counts = &found.counts;
    let left_out =
        counts.empty + counts.invalid + counts.dropped + counts.cut_off + counts.no_request + counts.filtered;
    if left_out + counts.out_of_order > 0 && !globals.quiet {
        note(&format!(
            "note: {}: of {looked} {} rows {left_out} are left out: {counts}{}",
            trace.path.display(),
            counts.rows,
            places(&found.left_out),
        ));
    }
    Ok(())
}

pub(crate) fn run(args: &CheckArgs, globals: &Globals) -> Result<u8, Failure> {
    let mut last = None;
    for path in &args.scenarios {
        let checked = changed(path, &args.set, globals)
            .and_then(|source| resolved(&source, globals))
            .and_then(|study| opened(study, globals));
        match checked {
            Ok(study) => {
                let runs = study.points().len();
                let plural = if runs == 1 { "" } else { "s" };
                let plan = &study.plan().plan_hash()[..16];
                print(&format!("{}: valid, {runs} run{plural}, plan {plan}", path.display()))?;
            }
            Err(failure) => {
                failure.tell();
                last = Some(failure);
            }
        }
    }
    match last {
        None => Ok(DONE),
        Some(failure) => {
            let invalid = args.scenarios.len();
            if invalid > 1 {
                note("not all scenarios are valid");
            }
            Ok(failure.code())
        }
    }
}
