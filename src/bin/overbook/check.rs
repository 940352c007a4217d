//! `overbook check`: parse, resolve and validate; run nothing.

use std::path::Path;

use overbook::{Experiment, Point, Study};
use overbook_sim::time::Time;
use overbook_sim::units::Duration;

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

/// What to tell of a trace that ends within the time over which `spread` deals out its first requests.
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

/// Opens every workload up to its first request: a trace that is none should fail here.
fn opened(study: Study) -> Result<Study, Failure> {
    let points = study.points();
    for (index, point) in points.iter().enumerate() {
        let workload = &point.scenario.workload;
        if index == 0 || points[index - 1].scenario.workload != *workload {
            point.workload().map_err(Failure::input)?;
        }
    }
    Ok(study)
}

pub(crate) fn run(args: &CheckArgs, globals: &Globals) -> Result<u8, Failure> {
    let mut last = None;
    for path in &args.scenarios {
        let checked = changed(path, &args.set, globals).and_then(|source| resolved(&source, globals)).and_then(opened);
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
