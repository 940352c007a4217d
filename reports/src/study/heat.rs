//! A figure of a study over two of its axes, as a table whose cells are shaded; the script of the page chooses figure and axes.

use super::Study;
use crate::axes;
use crate::figure::{escaped, within_html};
use crate::format::{self, Unit};
use crate::json::{self, Json};

/// Most values of an axis that stand side by side.
const VALUES: usize = 40;

/// Most figures of all points that the page carries.
const CELLS: usize = 24_000;

/// The least and the most of a colour that a cell has [%].
const SHADE: (f64, f64) = (8.0, 60.0);

/// Axes that the table can have.
fn usable(study: &Study) -> Vec<usize> {
    study.varied().into_iter().filter(|&axis| study.values_of(axis).len() <= VALUES).collect()
}

/// The section; empty where no two axes span a table that is at least half full.
pub(super) fn html(study: &Study) -> String {
    let usable = usable(study);
    let (Some(&down), Some(&across)) = (usable.first(), usable.get(1)) else { return String::new() };
    let all: usize = usable.iter().map(|&axis| study.values_of(axis).len()).product();
    if 2 * study.points.len() < all || study.points.len() * study.metrics.len() > CELLS {
        return String::new();
    }
    let metric = main_metric(study);
    format!(
        "<div class=\"heat\" data-metric=\"{metric}\">\n<p class=\"soft still\">{}{}</p>\n<div class=\"scroll\"><table>\n{}</table></div>\n\
         <script type=\"application/json\">{}</script>\n</div>\n",
        escaped(&format::label(&study.metrics[metric])),
        escaped(&where_others(study, &usable[2..])),
        table(study, (down, across), &usable[2..], metric),
        within_html(&json::line(&data(study, &usable)))
    )
}

/// The figure that is shown at first: the first with a target, else goodput, else the first that there is.
fn main_metric(study: &Study) -> usize {
    let has = |metric: &str| {
        let at = study.metrics.iter().position(|name| name == metric)?;
        study.points.iter().any(|point| point.values[at].is_some()).then_some(at)
    };
    let targets = study.points.iter().flat_map(|point| &point.targets).map(|target| target.metric.as_str());
    targets.chain(["goodput_fraction", "ttft_p99"]).find_map(has).unwrap_or(0)
}

/// Where the other axes stand.
fn where_others(study: &Study, others: &[usize]) -> String {
    let names = study.names();
    let words: Vec<String> =
        others.iter().map(|&axis| format!("{} {}", names[axis], study.values_of(axis)[0])).collect();
    if words.is_empty() { String::new() } else { format!(", where {}", words.join(", ")) }
}

fn table(study: &Study, (down, across): (usize, usize), others: &[usize], metric: usize) -> String {
    let names = study.names();
    let (rows, columns) = (study.values_of(down), study.values_of(across));
    let at = |row: &str, column: &str| {
        study.points.iter().find(|point| {
            let there = |&axis: &usize| point.coordinates[axis] == study.values_of(axis)[0];
            point.coordinates[down] == row && point.coordinates[across] == column && others.iter().all(there)
        })
    };
    let values = || rows.iter().flat_map(|row| columns.iter().filter_map(|column| at(row, column)?.values[metric]));
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let cell = |row: &&str, column: &&str| {
        let point = at(row, column);
        let Some((point, value)) = point.and_then(|point| Some((point, point.values[metric]?))) else {
            return "<td>–</td>".to_owned();
        };
        let share = if most > least { (value - least) / (most - least) } else { 0.0 };
        let shade = (SHADE.0 + (SHADE.1 - SHADE.0) * share).round();
        let missed = if point.misses(&study.metrics[metric]) { " class=\"missed\"" } else { "" };
        format!("<td{missed} style=\"--heat:{shade}%\">{}</td>", escaped(&Unit::of(&study.metrics[metric]).show(value)))
    };
    let head: Vec<String> = columns.iter().map(|name| format!("<th scope=\"col\">{}</th>", escaped(name))).collect();
    let head = head.concat();
    let row = |row: &&str| {
        let cells: String = columns.iter().map(|column| cell(row, column)).collect();
        format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escaped(row))
    };
    format!(
        "<thead><tr><th scope=\"col\">{} ↓  {} →</th>{head}</tr></thead>\n<tbody>\n{}</tbody>\n",
        escaped(&names[down]),
        escaped(&names[across]),
        rows.iter().map(row).collect::<String>()
    )
}

/// All that the script needs to make any such table.
fn data(study: &Study, usable: &[usize]) -> Json {
    let names = axes::names(&study.axes);
    let text = |text: &str| Json::Text(text.to_owned());
    let object = |entries: Vec<(&str, Json)>| {
        Json::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let axes = usable.iter().map(|&axis| {
        let values = study.values_of(axis).into_iter().map(text).collect();
        object(vec![("name", text(&names[axis])), ("values", Json::List(values))])
    });
    let metrics = study.metrics.iter().map(|metric| Json::Text(format::label(metric)));
    let points = study.points.iter().map(|point| {
        let place = |&axis: &usize| {
            let at = study.values_of(axis).iter().position(|value| *value == point.coordinates[axis]);
            Json::Int(at.unwrap_or(0) as u64)
        };
        let show = |(value, metric): (&Option<f64>, &String)| {
            Json::Text(value.map_or_else(|| "–".to_owned(), |value| Unit::of(metric).show(value)))
        };
        let missed = study.metrics.iter().enumerate().filter(|(_, metric)| point.misses(metric));
        object(vec![
            ("at", Json::List(usable.iter().map(place).collect())),
            ("values", Json::List(point.values.iter().map(|&value| value.into()).collect())),
            ("texts", Json::List(point.values.iter().zip(&study.metrics).map(show).collect())),
            ("missed", Json::List(missed.map(|(at, _)| Json::Int(at as u64)).collect())),
        ])
    });
    object(vec![
        ("axes", Json::List(axes.collect())),
        ("metrics", Json::List(metrics.collect())),
        ("points", Json::List(points.collect())),
    ])
}
