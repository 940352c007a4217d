//! One figure per metric, against the first axis.

use super::{Study, StudyPoint};
use crate::figure::{Axis, Figure, Series, Style};
use crate::format::{self, Unit};

/// Lines of one figure: more cannot be distinguished by colour and dashes.
const LINES: usize = 12;

/// Times that differ by more than this are drawn on a logarithmic axis.
const SPREAD: f64 = 20.0;

/// The number at the start of a coordinate: 4 of `4/s`, 0.5 of `0.5`. `None` if there is none.
pub(super) fn leading_number(coordinate: &str) -> Option<f64> {
    let end = coordinate.find(|c: char| !(c.is_ascii_digit() || ".-+".contains(c))).unwrap_or(coordinate.len());
    coordinate[..end].parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)
}

/// What follows the number: `/s` of `4/s`.
pub(super) fn unit_after(coordinate: &str) -> &str {
    coordinate.trim_start_matches(|c: char| c.is_ascii_digit() || ".-+".contains(c))
}

/// Longest names that stand side by side below a figure, together [characters]: what a phone has room for.
const NAMES: usize = 40;

/// The values of the first axis in their order, if they are names that are too long to stand below a figure: it has their numbers, and
/// the table of the page too.
pub(super) fn numbered(study: &Study) -> Option<Vec<&str>> {
    let first = || study.points.iter().filter_map(|point| point.coordinates.first()).map(String::as_str);
    let unit = unit_after(first().next()?);
    if first().all(|place| unit_after(place) == unit && leading_number(place).is_some()) {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    first().for_each(|name| {
        if !names.contains(&name) {
            names.push(name);
        }
    });
    let needed: usize = names.iter().map(|name| name.chars().count() + 2).sum();
    (needed > NAMES && names.iter().any(|name| name.chars().count() > NAMES / 2)).then_some(names)
}

/// Where the points lie on the first axis, and the axis: numbers, if it has only numbers of the same unit, or names.
/// `None` if all lie at the same place.
fn places(study: &Study) -> Option<(Vec<f64>, Axis)> {
    let first: Vec<&str> = study.points.iter().filter_map(|p| p.coordinates.first()).map(String::as_str).collect();
    let axis = study.axes.first()?;
    let unit = unit_after(first.first()?);
    let same = first.iter().all(|c| unit_after(c) == unit);
    let numbers: Option<Vec<f64>> = first.iter().map(|c| leading_number(c).filter(|_| same)).collect();
    let (places, axis) = if let Some(numbers) = numbers {
        let high = numbers.iter().copied().fold(0.0, f64::max);
        let label = if unit.is_empty() { axis.clone() } else { format!("{axis} [{unit}]") };
        (numbers, Axis::linear(&label, high))
    } else {
        let mut names: Vec<&str> = Vec::new();
        let mut place = |name| {
            names.iter().position(|&known| known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            })
        };
        let places = first.iter().map(|&name| place(name) as f64).collect();
        if numbered(study).is_some() {
            let numbers: Vec<String> = (1..=names.len()).map(|number| number.to_string()).collect();
            let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
            (places, Axis::names(&format!("{axis}, numbered as in the table"), &numbers))
        } else {
            (places, Axis::names(axis, &names))
        }
    };
    let varied = first.iter().any(|&name| name != first[0]);
    varied.then_some((places, axis))
}

/// A figure per metric; none if the first axis has a single value.
pub(super) fn figures(study: &Study) -> Vec<Figure> {
    let Some((places, axis)) = places(study) else { return Vec::new() };
    (0..study.metrics.len()).filter_map(|m| figure(study, &places, &axis, m)).collect()
}

fn figure(study: &Study, places: &[f64], x: &Axis, metric: usize) -> Option<Figure> {
    let name = &study.metrics[metric];
    let unit = Unit::of(name);
    let scale = if unit == Unit::Share { 100.0 } else { 1.0 };
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for (point, &place) in study.points.iter().zip(places) {
        let Some(value) = point.values.get(metric).copied().flatten() else { continue };
        let label = line_of(study, point);
        let known = lines.iter().position(|(other, _)| *other == label);
        let line = known.unwrap_or_else(|| {
            lines.push((label, Vec::new()));
            lines.len() - 1
        });
        lines[line].1.push((place, value * scale));
    }
    let values = || lines.iter().flat_map(|(_, points)| points).map(|&(_, y)| y);
    let (low, top) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let sign = unit.sign();
    let y_label = match (sign.is_empty(), name.ends_with("_per_gpu_second")) {
        (false, _) => sign,
        (true, true) => "per GPU second",
        (true, false) => "number",
    };
    let y = if unit == Unit::Seconds && low > 0.0 && top > SPREAD * low {
        Axis::log_time("logarithmic", low, top)
    } else {
        Axis::linear(y_label, top)
    };
    // Names have no order that a line could follow.
    let style = if x.is_named() { Style::Marks } else { Style::Dots };
    let left_out = lines.len().saturating_sub(LINES);
    let series: Vec<Series> = lines
        .into_iter()
        .take(LINES)
        .zip(1..)
        .map(|((label, mut points), color)| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series { label, color, style, points }
        })
        .collect();
    let more = if left_out > 0 { format!(" ({left_out} more lines only in the table)") } else { String::new() };
    let axis = &study.axes[0];
    (!series.is_empty()).then(|| Figure {
        id: format!("metric-{metric}"),
        title: format!("{}{more}", format::label(name)),
        description: format!("{} against {axis}; the table below has every value.", format::label(name)),
        x: x.clone(),
        y,
        series,
        marks: vec![],
        rug: None,
        shades: None,
    })
}

/// The line that a point lies on: its coordinates but the first.
pub(super) fn line_of(study: &Study, point: &StudyPoint) -> String {
    let others = study.axes.iter().zip(&point.coordinates).skip(1);
    let words: Vec<String> = others.map(|(axis, place)| format!("{} = {place}", short(study, axis))).collect();
    if words.is_empty() { "all points".to_owned() } else { words.join(", ") }
}

/// The last part of an axis' path, if no other axis ends the same.
fn short<'s>(study: &Study, axis: &'s str) -> &'s str {
    let last = |path: &'s str| path.rsplit('.').next().unwrap_or(path);
    let alike = study.axes.iter().filter(|other| other.rsplit('.').next() == Some(last(axis))).count();
    if alike > 1 { axis } else { last(axis) }
}
