//! `overbook check`: parse, resolve and validate; run nothing.

use std::path::Path;

use overbook_scenarios::{Source, Study};

use crate::cli::{CheckArgs, Globals, ScenarioArgs};
use crate::output::{DONE, Failure, note, print};

/// Loads and resolves a scenario, with the changes of the command line.
pub(crate) fn load(args: &ScenarioArgs, globals: &Globals) -> Result<Study, Failure> {
    resolved(&source(args, globals)?, globals)
}

/// Loads a scenario, with the changes of the command line.
pub(crate) fn source(args: &ScenarioArgs, globals: &Globals) -> Result<Source, Failure> {
    let mut set = args.set.clone();
    set.extend(args.seed.map(|seed| format!("seed={seed}")));
    changed(&args.scenario, &set, globals)
}

fn changed(path: &Path, set: &[String], globals: &Globals) -> Result<Source, Failure> {
    let mut source = Source::load(path).map_err(|problems| Failure::problems(&problems, globals))?;
    for change in set {
        let Some((path, value)) = change.split_once('=') else {
            return Err(Failure::Input(format!("--set {change}: expected PATH=VALUE, e.g. --set fleet.replicas=8")));
        };
        source.set(path.trim(), value);
    }
    Ok(source)
}

/// Checks and expands a scenario.
pub(crate) fn resolved(source: &Source, globals: &Globals) -> Result<Study, Failure> {
    let study = source.resolve().map_err(|problems| Failure::problems(&problems, globals))?;
    // A cost table that cannot be used should not come to light after the runs before it.
    for point in study.points() {
        point.costs().map_err(Failure::input)?;
    }
    Ok(study)
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
                print(&format!("{}: valid, {runs} run{plural}, plan {}", path.display(), &study.plan_hash()[..16]))?;
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
