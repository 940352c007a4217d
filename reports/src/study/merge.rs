//! Studies put together: their points in one table and their curves in one figure.

use std::fs;
use std::path::Path;

use super::trust::COLUMNS;
use serde_json::Value;

use super::{PointTarget, REPLICATES, Study, StudyPoint};
use crate::ReportError;
use crate::axes::path_and_unit;
use crate::report::Side;

/// File name of a study's points.
pub const STUDY: &str = "study.csv";

/// Name of the axis that distinguishes merged studies.
const AXIS: &str = "study";

/// Whether a directory is one that a study has left.
pub fn is_study(dir: &Path) -> bool {
    dir.join(STUDY).exists()
}

/// Reads the points of a study back. Columns for which `is_metric` holds are figures, the others are axes.
///
/// # Errors
/// There is no `study.csv`, or it is damaged: its line is named.
pub fn read(dir: &Path, is_metric: impl Fn(&str) -> bool) -> Result<Study, ReportError> {
    let path = dir.join(STUDY);
    let wrong = ReportError::unreadable(&path);
    let text = fs::read(&path).map_err(|error| wrong(error.to_string()))?;
    let mut csv = csv::Reader::from_reader(text.as_slice());
    let header = csv.headers().map_err(|error| wrong(error.to_string()))?.clone();
    let axes = header.iter().take_while(|name| !is_metric(name)).count();
    // The scenario writes quantities with their units, which stand in the head.
    let heads: Vec<(&str, &str)> = header.iter().take(axes).map(path_and_unit).collect();
    // Studies of earlier versions do not say how far their points are to be trusted.
    let metrics = header.iter().position(|name| name == COLUMNS[0]).unwrap_or(header.len());
    let mut points = Vec::new();
    for record in csv.records() {
        let record = record.map_err(|error| wrong(error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let value = |(name, text): (&str, &str)| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| wrong(format!("line {line}: {name} is {text:?}, not a number"))),
        };
        let values = header.iter().zip(record.iter()).take(metrics).skip(axes).map(value).collect::<Result<_, _>>()?;
        let written = |(text, (_, unit)): (&str, &(&str, &str))| format!("{text}{unit}");
        let coordinates = record.iter().zip(&heads).map(written).collect();
        let trust = super::trust::read(&record.iter().skip(metrics).collect::<Vec<_>>());
        let targets = targets(dir, points.len());
        points.push(StudyPoint { coordinates, values, trust, remarks: Vec::new(), kept: None, targets });
    }
    let names = |from: usize, to: usize| header.iter().take(to).skip(from).map(str::to_owned).collect();
    Ok(Study {
        title: dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        axes: heads.iter().map(|(path, _)| (*path).to_owned()).collect(),
        metrics: names(axes, metrics),
        points,
        verdicts: Vec::new(),
        missed: Vec::new(),
        replicated: axes > 0 && header.get(axes - 1) == Some("seed") && dir.join(REPLICATES).is_file(),
        depends_on_seed: Vec::new(),
        left_out: String::new(),
        sorted: String::new(),
        calibration: String::new(),
        assumptions: Vec::new(),
        plan_hash: String::new(),
        command: String::new(),
        tool: String::new(),
    })
}

/// The targets of a point, judged, as its summary has them; none where it was not run, or is of an earlier version.
fn targets(dir: &Path, point: usize) -> Vec<PointTarget> {
    let read = || -> Option<Vec<PointTarget>> {
        let text = fs::read_to_string(dir.join(format!("point-{point:04}.summary.json"))).ok()?;
        let summary: Value = serde_json::from_str(&text).ok()?;
        let target = |target: &Value| {
            let (side, bound) = match (target["at_most"].as_f64(), target["at_least"].as_f64()) {
                (Some(most), _) => (Side::AtMost, most),
                (None, least) => (Side::AtLeast, least?),
            };
            Some(PointTarget {
                metric: target["metric"].as_str()?.to_owned(),
                side,
                bound,
                met: target["met"].as_bool()?,
            })
        };
        summary["targets"].as_array()?.iter().map(target).collect()
    };
    read().unwrap_or_default()
}

/// One study of all points, with a last axis that says which study they are from. Figures that only some studies have are empty
/// for the others.
///
/// # Errors
/// The studies do not vary the same settings, or have the same name.
pub fn merge(studies: &[Study]) -> Result<Study, ReportError> {
    let Some(first) = studies.first().cloned() else {
        return Err(ReportError::Asked("there is no study to merge".to_owned()));
    };
    let mut metrics = first.metrics.clone();
    for (at, study) in studies.iter().enumerate() {
        if study.axes != first.axes {
            return Err(ReportError::Asked(format!(
                "{} varies {}, but {} varies {}; only studies of the same settings can be merged",
                first.title,
                first.axes.join(", "),
                study.title,
                study.axes.join(", ")
            )));
        }
        if studies[..at].iter().any(|other| other.title == study.title) {
            return Err(ReportError::Asked(format!(
                "two studies are called {}; rename one of the directories",
                study.title
            )));
        }
        let new = study.metrics.iter().filter(|name| !metrics.contains(name)).cloned().collect::<Vec<_>>();
        metrics.extend(new);
    }
    let names: Vec<&str> = studies.iter().map(|study| study.title.as_str()).collect();
    let title = names.join(" and ");
    let mut points = Vec::new();
    for study in studies {
        let of = |metric: &String| study.metrics.iter().position(|name| name == metric);
        let columns: Vec<Option<usize>> = metrics.iter().map(of).collect();
        points.extend(study.points.iter().map(|point| StudyPoint {
            coordinates: point.coordinates.iter().chain([&study.title]).cloned().collect(),
            values: columns.iter().map(|column| column.and_then(|at| point.values[at])).collect(),
            trust: point.trust.clone(),
            remarks: point.remarks.clone(),
            kept: point.kept,
            targets: point.targets.clone(),
        }));
    }
    // The same place of all studies side by side, in the order of the first.
    let order = |point: &StudyPoint| {
        let place = &point.coordinates[..first.axes.len()];
        first.points.iter().position(|other| other.coordinates == place).unwrap_or(usize::MAX)
    };
    points.sort_by_key(order);
    let axes = first.axes.iter().cloned().chain([AXIS.to_owned()]).collect();
    Ok(Study { title, axes, metrics, points, ..first })
}
