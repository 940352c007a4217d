//! `validation.html`: one self-contained page.

use askama::Template;

use super::{ErrorGroup, ErrorRow, JudgedRun, MissedRun, Validation, percent, share};
use crate::ReportError;
use crate::figure::{Axis, Figure, Series, Style};
use crate::format::Unit;

/// Runs whose state over time is drawn.
const DRAWN: usize = 8;

struct RunRow {
    id: String,
    what: String,
    distance: String,
    figures: Vec<(String, String, String, String)>,
    assumptions: String,
}

#[derive(Template)]
#[template(path = "validation.html")]
struct Page<'a> {
    validation: &'a Validation,
    /// Group, metric, runs, bias, median, p90.
    errors: Vec<[String; 6]>,
    runs: Vec<RunRow>,
    gaps: Vec<(&'a str, Vec<&'a MissedRun>)>,
    figures: String,
}

/// The page: errors by group, all runs from the worst on, their state over time, and what was not simulated.
///
/// # Errors
/// The template fails, which no input should make it do.
pub fn validation_html(validation: &Validation) -> Result<String, ReportError> {
    let worst = validation.worst_first();
    let figures: Vec<Figure> = worst.iter().filter_map(|run| timeline(run)).take(DRAWN).collect();
    let page = Page {
        validation,
        errors: validation.groups().iter().flat_map(errors).collect(),
        runs: worst.into_iter().map(row).collect(),
        gaps: validation.gaps(),
        figures: figures.iter().map(Figure::html).collect(),
    };
    Ok(page.render()?)
}

fn errors(group: &ErrorGroup) -> Vec<[String; 6]> {
    let cells = |row: &ErrorRow| {
        let (name, metric) = (group.name.clone(), row.metric.clone());
        [name, metric, row.runs.to_string(), percent(row.bias), share(row.median), share(row.p90)]
    };
    group.rows.iter().map(cells).collect()
}

fn row(run: &JudgedRun) -> RunRow {
    let figures = run.pairs.iter().map(|pair| {
        let unit = Unit::of(&pair.metric);
        let error = pair.error().map_or_else(|| "–".to_owned(), percent);
        (pair.metric.clone(), unit.show(pair.measured), unit.show(pair.simulated), error)
    });
    RunRow {
        id: run.id.clone(),
        what: format!("{}, {}, {}; {}; quality {}", run.engine, run.model, run.gpu, run.load, run.quality),
        distance: run.distance().map_or_else(|| "–".to_owned(), share),
        figures: figures.collect(),
        assumptions: run.assumptions.join("; "),
    }
}

fn timeline(run: &JudgedRun) -> Option<Figure> {
    let (measured, simulated) = run.running.as_ref()?;
    let places = || measured.iter().chain(simulated);
    let x_max = places().map(|point| point.0).fold(0.0, f64::max);
    let y_max = places().map(|point| point.1).fold(1.0, f64::max);
    let curve = |label: &str, color, points: &[(f64, f64)]| Series {
        label: label.to_owned(),
        color,
        style: Style::Line,
        points: points.iter().copied().filter(|point| point.0 >= 0.0).collect(),
    };
    Some(Figure {
        id: format!("running-{}", run.id.replace(|c: char| !c.is_ascii_alphanumeric(), "-")),
        title: format!("Running requests: {}", run.id),
        description: format!("Running requests over time in {}, as measured and as simulated.", run.id),
        x: Axis::time(x_max.max(1e-9)),
        y: Axis::linear("running requests", y_max),
        series: vec![curve("measured", 1, measured), curve("simulated", 2, simulated)],
        marks: Vec::new(),
        rug: None,
    })
}
