//! Where step costs come from, and how far they are to be trusted.

use overbook_sim::calibrate::{Hardware, ProfiledEngine, StepModel};
use overbook_sim::results::summary::Summary;
use overbook_sim::results::trust::{Standing, Trust};

use crate::hull::{Case, ErrorTable, Figure, FigureError, Hull};
use crate::point::Point;
use crate::scenario::CostSpec;

/// How far measured runs are off in these figures: each once, those alone that were measured. None where the step costs are not those with which measured
/// runs were compared.
pub fn figure_errors(point: &Point, figures: &[Figure]) -> Vec<FigureError> {
    if point.kinds().iter().any(|kind| kind.scenario.engine.cost != CostSpec::Roofline) {
        return Vec::new();
    }
    let mut figures = figures.to_vec();
    figures.sort_by_key(|figure| *figure as usize);
    figures.dedup();
    let (table, case) = (ErrorTable::embedded(), Case::planned(point));
    figures.into_iter().filter_map(|figure| table.nearest(&case, figure)).collect()
}

/// How far the figures of a point are to be trusted; without a summary, of a point that is not simulated yet.
pub fn trust(point: &Point, summary: Option<&Summary>) -> Trust {
    let kinds = point.kinds();
    if kinds.iter().all(|kind| kind.scenario.engine.cost == CostSpec::Roofline) {
        return Hull::embedded().judge(&summary.map_or_else(|| Case::planned(point), |run| Case::of(point, run)));
    }
    // Whole runs were compared with the built-in costs alone.
    let outside: Vec<String> = kinds.iter().flat_map(outside).collect();
    if !outside.is_empty() {
        return Trust { standing: Standing::Extrapolated(outside), runs: None };
    }
    let own = kinds.iter().find(|kind| kind.scenario.engine.cost != CostSpec::Roofline).unwrap_or(point);
    Trust::prior(match own.scenario.engine.cost {
        CostSpec::Constant(_) => "a constant step cost models no hardware",
        _ => "no measured run was compared with these step costs",
    })
}

/// What of a point lies outside the measurements of its profile.
fn outside(point: &Point) -> Vec<String> {
    match &point.scenario.engine.cost {
        CostSpec::Profile(_) => point.outside_profile(),
        CostSpec::Steps(_) => outside_steps(point),
        CostSpec::Roofline | CostSpec::Constant(_) | CostSpec::Table(_) => Vec::new(),
    }
}

fn outside_steps(point: &Point) -> Vec<String> {
    let Ok(Some(profile)) = point.step_profile() else { return Vec::new() };
    let longest = point.limits().map_or(point.model.context, |(limits, _)| limits.max_model_len);
    let needs = point.scenario.scheduler.needs();
    profile.outside(needs.max_seqs, needs.step_tokens.at(longest), longest)
}

/// Where the costs come from.
pub fn calibration(point: &Point) -> String {
    if point.kinds().iter().all(|kind| kind.scenario.engine.cost == CostSpec::Roofline) {
        // What is inferred in any of the pools.
        return roofline_status(point);
    }
    let names = point.pool_names();
    let status: Vec<String> = point.kinds().iter().map(kind_calibration).collect();
    if status.iter().all(|other| *other == status[0]) {
        return status[0].clone();
    }
    names.iter().zip(status).map(|(name, status)| format!("{name}: {status}")).collect::<Vec<_>>().join("; ")
}

fn roofline_status(point: &Point) -> String {
    format!(
        "not calibrated on this machine; roofline from public kernel tables; inferred: {}",
        point.inferred_parts().join(", ")
    )
}

fn kind_calibration(point: &Point) -> String {
    match &point.scenario.engine.cost {
        CostSpec::Roofline => roofline_status(point),
        CostSpec::Constant(_) => "constant step cost, given by the scenario; no hardware is modelled".into(),
        CostSpec::Profile(_) => profile_status(point),
        CostSpec::Steps(_) => steps_status(point),
        CostSpec::Table(table) => {
            format!("measured table {}; its hull is that file's grid", table.path.display())
        }
    }
}

/// Source, errors and hull of a profile of whole steps.
fn steps_status(point: &Point) -> String {
    let Ok(Some(profile)) = point.step_profile() else { return String::new() };
    let scenario = &point.scenario;
    let outside = outside_steps(point);
    let mut parts = vec![match outside.as_slice() {
        [] => "inside the range of its steps".to_owned(),
        outside => format!("EXTRAPOLATED: {}", outside.join("; ")),
    }];
    if point.model.name != profile.model {
        parts.push(format!("of ANOTHER MODEL, {}", profile.model));
    }
    if matches!(&scenario.engine.cost, CostSpec::Steps(steps) if steps.jitter) {
        parts.push("steps drawn with the spread of its repeats".to_owned());
    }
    let table = matches!(&scenario.engine.cost, CostSpec::Steps(steps) if steps.model == StepModel::Table);
    let (which, errors) =
        if table { ("steps beside its grid", &profile.table_errors) } else { ("steps held out", &profile.form_errors) };
    if let Some(all) = errors.last() {
        parts.push(format!("{which} {:.1} % off (p95 {:.1} %)", all.mape_percent, all.p95_percent));
    }
    let ProfiledEngine { name, executor, .. } = &profile.engine;
    let Hardware { device, count, .. } = &profile.hardware;
    format!(
        "{} on {name} ({executor}) on {count} × {device}, {}, profile {}: {}",
        profile.kind,
        profile.measured,
        profile.name,
        parts.join("; ")
    )
}

/// Source, errors and hull of a profile, and what of the cost model is not from it.
fn profile_status(point: &Point) -> String {
    let Some(profile) = &point.profile else { return String::new() };
    let outside = point.outside_profile();
    let hull = if outside.is_empty() {
        "inside the ranges of its tables".to_owned()
    } else {
        format!("EXTRAPOLATED: {}", outside.join("; "))
    };
    let source = &profile.source;
    let absent = profile.absent();
    let absent = if absent.is_empty() { String::new() } else { format!("; from the catalog: {}", absent.join(", ")) };
    format!(
        "{} profile {} ({}), {hull}{absent}; inferred: {}; not calibrated on this machine; licence {}",
        profile.kind,
        profile.name,
        source.engine,
        point.inferred_parts().join(", "),
        source.licence
    )
}
