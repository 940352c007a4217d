//! `validation.html`: one self-contained page.

use askama::Template;

use super::{ErrorGroup, ErrorRow, GOALS, HEADLINE, JudgedRun, Level, MissedRun, Validation, percent, share};
use crate::ReportError;
use crate::figure::{Axis, Figure, Series, Style};
use crate::format::{Unit, label};

/// Runs whose state over time is drawn.
const DRAWN: usize = 8;

/// Cells of the goals: metric, runs, bias, median, p90, goal, whether it is met.
struct Goal {
    cells: [String; 6],
    met: bool,
}

/// A row of the table of sets: what it is, runs, and a cell per main figure with its standing.
struct Matrix {
    name: String,
    runs: usize,
    cells: Vec<(String, &'static str)>,
}

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
    simulated: usize,
    complete: usize,
    goals: Vec<Goal>,
    met: usize,
    heads: Vec<String>,
    matrix: Vec<Matrix>,
    /// Group, metric, runs, bias, median, p90.
    errors: Vec<[String; 6]>,
    runs: Vec<RunRow>,
    gaps: Vec<(&'a str, Vec<&'a MissedRun>)>,
    figures: String,
}

/// The page: what is good and what is not, errors by group, all runs from the worst on, their state over time, and what was not
/// simulated.
///
/// # Errors
/// The template fails, which no input should make it do.
pub fn validation_html(validation: &Validation) -> Result<String, ReportError> {
    let worst = validation.worst_first();
    let drawn = worst.iter().filter(|run| !run.levels.is_empty()).take(DRAWN);
    let figures: Vec<Figure> = drawn.flat_map(|run| run.levels.iter().map(|level| timeline(run, level))).collect();
    let (groups, complete) = (validation.groups(), validation.complete());
    let goals: Vec<Goal> = GOALS.iter().filter_map(|goal| reached(&complete, goal)).collect();
    let of_sets =
        |group: &&ErrorGroup| ["set ", "training", "held-out", "refitted"].iter().any(|p| group.name.starts_with(p));
    let page = Page {
        validation,
        simulated: validation.simulated(),
        complete: complete.runs,
        met: goals.iter().filter(|goal| goal.met).count(),
        goals,
        heads: HEADLINE.iter().map(|metric| label(metric)).collect(),
        matrix: groups.iter().filter(of_sets).map(matrix).collect(),
        errors: groups.iter().flat_map(errors).collect(),
        runs: worst.into_iter().map(row).collect(),
        gaps: validation.gaps(),
        figures: figures.iter().map(Figure::html).collect(),
    };
    Ok(page.render()?)
}

fn reached(group: &ErrorGroup, &(metric, median, p90): &(&str, f64, f64)) -> Option<Goal> {
    let row = group.rows.iter().find(|row| row.metric == metric)?;
    let goal = format!("{} ({})", share(median), share(p90));
    let cells = [label(metric), row.runs.to_string(), percent(row.bias), share(row.median), share(row.p90), goal];
    Some(Goal { cells, met: row.median <= median && row.p90 <= p90 })
}

fn matrix(group: &ErrorGroup) -> Matrix {
    let cell = |metric: &&str| {
        let Some(row) = group.rows.iter().find(|row| row.metric == **metric) else { return ("–".to_owned(), "soft") };
        let goal = GOALS.iter().find(|(known, ..)| known == metric);
        let met = goal.is_some_and(|(_, median, p90)| row.median <= *median && row.p90 <= *p90);
        (format!("{} ({})", share(row.median), share(row.p90)), if met { "better" } else { "worse" })
    };
    let name = group.name.strip_prefix("set ").unwrap_or(&group.name).to_owned();
    Matrix { name, runs: group.runs, cells: HEADLINE.iter().map(cell).collect() }
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

fn timeline(run: &JudgedRun, level: &Level) -> Figure {
    let places = || level.measured.iter().chain(&level.simulated);
    let x_max = places().map(|point| point.0).fold(0.0, f64::max);
    let y_max = places().map(|point| point.1).fold(1e-3, f64::max);
    let curve = |label: &str, color, points: &[(f64, f64)]| Series {
        label: label.to_owned(),
        color,
        style: Style::Line,
        points: points.iter().copied().filter(|point| point.0 >= 0.0).collect(),
    };
    let name = format!("{}-{}", level.label, run.id).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    Figure {
        id: name,
        title: format!("{}: {}", run.id, level.label),
        description: format!("{} over time in {}, as measured and as simulated.", level.label, run.id),
        x: Axis::time(x_max.max(1e-9)),
        y: Axis::linear(&level.label, y_max),
        series: vec![curve("measured", 1, &level.measured), curve("simulated", 2, &level.simulated)],
        marks: Vec::new(),
        rug: None,
        shades: None,
        limits: vec![],
        notes: vec![],
    }
}
