//! One figure per metric, against the first axis.

use super::{Point, Study};
use crate::figure::{Axis, Figure, Series, Style};
use crate::format::{self, Unit};

/// Lines of one figure: more cannot be told apart by colour.
const LINES: usize = 6;

/// The number at the start of a coordinate: 4 of `4/s`, 0.5 of `0.5`. `None` if there is none.
fn leading_number(coordinate: &str) -> Option<f64> {
    let end = coordinate.find(|c: char| !(c.is_ascii_digit() || ".-+".contains(c))).unwrap_or(coordinate.len());
    coordinate[..end].parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)
}

/// What follows the number: `/s` of `4/s`.
fn unit_after(coordinate: &str) -> &str {
    coordinate.trim_start_matches(|c: char| c.is_ascii_digit() || ".-+".contains(c))
}

/// The first axis' numbers, if it has only numbers, all of the same unit.
fn places(study: &Study) -> Option<Vec<f64>> {
    let first: Vec<&str> = study.points.iter().filter_map(|p| p.coordinates.first()).map(String::as_str).collect();
    let unit = unit_after(first.first()?);
    let same = first.iter().all(|c| unit_after(c) == unit);
    first.iter().map(|c| leading_number(c).filter(|_| same)).collect()
}

/// A figure per metric; none if the first axis is not numeric or has a single value.
pub(super) fn figures(study: &Study) -> Vec<Figure> {
    let Some(places) = places(study) else { return Vec::new() };
    let (low, high) = places.iter().fold((f64::INFINITY, 0.0f64), |(l, h), &x| (l.min(x), h.max(x)));
    if low >= high {
        return Vec::new();
    }
    (0..study.metrics.len()).filter_map(|m| figure(study, &places, m, high)).collect()
}

fn figure(study: &Study, places: &[f64], metric: usize, high: f64) -> Option<Figure> {
    let name = &study.metrics[metric];
    let unit = Unit::of(name);
    let scale = if unit == Unit::Share { 100.0 } else { 1.0 };
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for (point, &x) in study.points.iter().zip(places) {
        let Some(value) = point.values.get(metric).copied().flatten() else { continue };
        let label = line_of(study, point);
        let known = lines.iter().position(|(other, _)| *other == label);
        let line = known.unwrap_or_else(|| {
            lines.push((label, Vec::new()));
            lines.len() - 1
        });
        lines[line].1.push((x, value * scale));
    }
    let top = lines.iter().flat_map(|(_, points)| points).map(|&(_, y)| y).fold(0.0, f64::max);
    let left_out = lines.len().saturating_sub(LINES);
    let series: Vec<Series> = lines
        .into_iter()
        .take(LINES)
        .zip(1..)
        .map(|((label, mut points), color)| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series { label, color, style: Style::Dots, points }
        })
        .collect();
    let more = if left_out > 0 { format!(" ({left_out} more lines only in the table)") } else { String::new() };
    let axis = &study.axes[0];
    let x_unit = unit_after(study.points.first()?.coordinates.first()?);
    let x_label = if x_unit.is_empty() { axis.clone() } else { format!("{axis} [{x_unit}]") };
    (!series.is_empty()).then(|| Figure {
        id: format!("metric-{metric}"),
        title: format!("{}{more}", format::label(name)),
        description: format!("{} against {axis}; the table below has every value.", format::label(name)),
        x: Axis::linear(&x_label, high),
        y: Axis::linear(if unit.sign().is_empty() { "number" } else { unit.sign() }, top),
        series,
        marks: vec![],
        rug: None,
    })
}

/// The line that a point lies on: its coordinates but the first.
fn line_of(study: &Study, point: &Point) -> String {
    let others = study.axes.iter().zip(&point.coordinates).skip(1);
    let words: Vec<String> = others.map(|(axis, place)| format!("{axis} = {place}")).collect();
    if words.is_empty() { "all points".to_owned() } else { words.join(", ") }
}
