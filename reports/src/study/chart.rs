//! One figure per metric, against an axis; and what users get against what it costs.

use super::{Study, StudyPoint};
use crate::axes::{self, Quantities};
use crate::figure::{Axis, Figure, Limit, Series, Shown, Style};
use crate::format::{self, Unit};

/// Lines of one figure: more cannot be distinguished by colour and dashes.
const LINES: usize = 12;

/// Times that differ by more than this are drawn on a logarithmic axis.
const SPREAD: f64 = 20.0;

/// Longest names that stand side by side below a figure, together [characters]: what a phone has room for.
const NAMES: usize = 40;

/// Most distinct targets of a metric that are drawn.
const LIMITS: usize = 3;

/// Longest set of figures against further axes [bytes]: a page must stay one that mail takes.
const FURTHER: usize = 1_200_000;

/// Figures against one axis.
pub(super) struct Set {
    /// The axis, in words.
    pub(super) name: String,
    /// The figures.
    pub(super) html: String,
}

impl Study {
    /// The axes in words.
    pub(super) fn names(&self) -> Vec<String> {
        axes::names(&self.axes)
    }

    /// The values along an axis, point by point.
    pub(super) fn along(&self, axis: usize) -> impl Iterator<Item = &str> + Clone {
        self.points.iter().filter_map(move |point| point.coordinates.get(axis)).map(String::as_str)
    }

    /// The different values of an axis, in their order.
    pub(super) fn values_of(&self, axis: usize) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        self.along(axis).for_each(|name| {
            if !names.contains(&name) {
                names.push(name);
            }
        });
        names
    }

    /// Axes with more than one value.
    pub(super) fn varied(&self) -> Vec<usize> {
        (0..self.axes.len()).filter(|&axis| self.values_of(axis).len() > 1).collect()
    }

    /// A figure of a point, by its name.
    pub(super) fn value(&self, point: &StudyPoint, metric: &str) -> Option<f64> {
        let at = self.metrics.iter().position(|name| name == metric)?;
        point.values.get(at).copied().flatten()
    }

    /// How many GPUs a point has, on average over its run, in words.
    pub(super) fn gpus(&self, point: &StudyPoint) -> Option<String> {
        self.value(point, "gpus_mean").map(format::number)
    }
}

/// The values of an axis in their order, if they are names that are too long to stand below a figure: it has their numbers, and the table
/// of the page too.
pub(super) fn numbered(study: &Study, axis: usize) -> Option<Vec<&str>> {
    if Quantities::of(study.along(axis)).is_some() {
        return None;
    }
    let names = study.values_of(axis);
    let needed: usize = names.iter().map(|name| name.chars().count() + 2).sum();
    (needed > NAMES && names.iter().any(|name| name.chars().count() > NAMES / 2)).then_some(names)
}

/// Where the points lie on an axis, and the axis: numbers, if it has only quantities, or names. `None` if all lie at the same place.
fn places(study: &Study, axis: usize) -> Option<(Vec<f64>, Axis)> {
    let names = study.values_of(axis);
    if names.len() < 2 {
        return None;
    }
    let (path, name) = (&study.axes[axis], &study.names()[axis]);
    let (places, mut drawn) = if let Some(found) = Quantities::of(study.along(axis)) {
        let high = found.numbers.iter().copied().fold(0.0, f64::max);
        let axis = Axis::linear(&found.label(name, path), high);
        (found.numbers, axis)
    } else {
        let place = |value: &str| names.iter().position(|&known| known == value).unwrap_or(0) as f64;
        let places = study.along(axis).map(place).collect();
        if numbered(study, axis).is_some() {
            let numbers: Vec<String> = (1..=names.len()).map(|number| number.to_string()).collect();
            let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
            (places, Axis::names(&format!("{name}, numbered as in the table"), &numbers))
        } else {
            (places, Axis::names(name, &names))
        }
    };
    drawn.below = gpus_below(study, &places);
    Some((places, drawn))
}

/// GPUs below the places of an axis, where each place has its own number of them.
fn gpus_below(study: &Study, places: &[f64]) -> Option<(String, Vec<(f64, String)>)> {
    let mut found: Vec<(f64, String)> = Vec::new();
    for (point, &place) in study.points.iter().zip(places) {
        let gpus = study.gpus(point)?;
        match found.iter().find(|(other, _)| other.total_cmp(&place).is_eq()) {
            Some((_, other)) if *other != gpus => return None,
            Some(_) => {}
            None => found.push((place, gpus)),
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.windows(2).any(|two| two[0].1 != two[1].1).then(|| ("GPUs".to_owned(), found))
}

/// The figures against each axis that varies, the first of them first, and the axes for which there is no room.
pub(super) fn sets(study: &Study) -> (Vec<Set>, Vec<String>) {
    let (mut sets, mut left_out, mut length) = (Vec::new(), Vec::new(), 0);
    for axis in study.varied() {
        let name = study.names()[axis].clone();
        let html: String = figures(study, axis).iter().map(Figure::html).collect();
        if html.is_empty() {
            continue;
        }
        if !sets.is_empty() {
            length += html.len();
            if length > FURTHER {
                left_out.push(name);
                continue;
            }
        }
        sets.push(Set { name, html });
    }
    (sets, left_out)
}

/// A figure per metric against an axis; none if it has a single value.
pub(super) fn figures(study: &Study, axis: usize) -> Vec<Figure> {
    let Some((places, drawn)) = places(study, axis) else { return Vec::new() };
    (0..study.metrics.len()).filter_map(|m| figure(study, (axis, &drawn), &places, m)).collect()
}

/// The name of a line, and its places, values and notes.
type Line = (String, Vec<(f64, f64, String)>);
type Lines = Vec<Line>;

fn figure(study: &Study, (axis, x): (usize, &Axis), places: &[f64], metric: usize) -> Option<Figure> {
    let name = &study.metrics[metric];
    let unit = Unit::of(name);
    let scale = if unit == Unit::Share { 100.0 } else { 1.0 };
    let mut lines: Lines = Vec::new();
    for (point, &place) in study.points.iter().zip(places) {
        let Some(value) = point.values.get(metric).copied().flatten() else { continue };
        let note = study.gpus(point).map_or_else(String::new, |gpus| format!("{gpus} GPUs"));
        on_line(&mut lines, line_of(study, point, axis), (place, value * scale, note));
    }
    let limits = limits(study, name, scale);
    let values = || lines.iter().flat_map(|(_, points)| points).map(|point| point.1);
    let shown = || values().chain(limits.iter().map(|limit| limit.y));
    let (low, top) = (values().fold(f64::INFINITY, f64::min), shown().fold(0.0, f64::max));
    let y = if unit == Unit::Seconds && low > 0.0 && top > SPREAD * low {
        Axis::log_time("logarithmic", low.min(shown().fold(f64::INFINITY, f64::min)), top)
    } else {
        Axis::linear(&unit_of(name), top).shown(match unit {
            Unit::Seconds => Shown::Seconds,
            Unit::Share => Shown::Percent,
            _ => Shown::Number,
        })
    };
    // Names have no order that a line could follow.
    let style = if x.is_named() { Style::Marks } else { Style::Dots };
    let left_out = lines.len().saturating_sub(LINES);
    let (series, notes) = drawn(lines, style);
    let more = if left_out > 0 { format!(" ({left_out} more lines only in the table)") } else { String::new() };
    let against = &study.names()[axis];
    // Figures against the first axis keep their names: links to them do not change with the number of axes.
    let id = if Some(&axis) == study.varied().first() { String::new() } else { format!("axis-{axis}-") };
    (!series.is_empty()).then(|| Figure {
        id: format!("{id}metric-{metric}"),
        title: format!("{}{more}", format::label(name)),
        description: format!("{} against {against}; the table below has every value.", format::label(name)),
        x: x.clone(),
        y,
        series,
        marks: vec![],
        rug: None,
        shades: None,
        limits,
        notes,
    })
}

fn on_line(lines: &mut Lines, label: String, point: (f64, f64, String)) {
    match lines.iter_mut().find(|(other, _)| *other == label) {
        Some((_, points)) => points.push(point),
        None => lines.push((label, vec![point])),
    }
}

/// The first lines as series from left to right, and what is said of their points.
fn drawn(lines: Lines, style: Style) -> (Vec<Series>, Vec<Vec<String>>) {
    let of = |((label, mut points), color): (Line, u8)| {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let notes = points.iter().map(|point| point.2.clone()).collect::<Vec<_>>();
        let points = points.into_iter().map(|(x, y, _)| (x, y)).collect();
        (Series { label, color, style, points }, notes)
    };
    let (series, mut notes): (Vec<Series>, Vec<Vec<String>>) = lines.into_iter().take(LINES).zip(1..).map(of).unzip();
    for notes in &mut notes {
        if notes.iter().all(String::is_empty) {
            notes.clear();
        }
    }
    (series, notes)
}

/// The targets of a metric: one line for each bound.
fn limits(study: &Study, metric: &str, scale: f64) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for target in study.points.iter().flat_map(|point| &point.targets).filter(|target| target.metric == metric) {
        let y = target.bound * scale;
        if limits.len() < LIMITS && !limits.iter().any(|limit| limit.y.total_cmp(&y).is_eq()) {
            limits.push(Limit { y, label: target.text() });
        }
    }
    limits
}

/// The unit of a metric, as it stands at an axis.
fn unit_of(metric: &str) -> String {
    let unit = match (Unit::of(metric).sign(), metric) {
        ("", "gpus_mean") => "GPUs",
        ("", "gpu_hours") => "GPU hours",
        ("", name) if name.starts_with("cost_") || name.starts_with("break_even_") || name == "energy_cost" => "$",
        ("", name) if name.starts_with("energy_") && name.ends_with("_per_token") => "J",
        ("", name) if name.starts_with("energy_") && name.ends_with("_kwh") => "kWh",
        ("", "power_mean" | "power_peak" | "gpu_power_mean" | "gpu_power_peak") => "W",
        ("", name) if name.ends_with("_per_gpu_second") => "per GPU second",
        ("", _) => "number",
        (sign, _) => sign,
    };
    unit.to_owned()
}

/// What users get against what a GPU gives, and against money and energy where they are known: a line for each setting of the other axes.
pub(super) fn trades(study: &Study) -> Vec<Figure> {
    let costs = [
        ("per-gpu", "tokens_per_s_per_gpu", "Speed of a user against output of a GPU", "output tokens/s per GPU"),
        ("per-dollar", "cost_per_mtoken_output", "Speed of a user against money", "$ per million output tokens"),
        ("per-joule", "energy_server_per_token", "Speed of a user against energy", "J per output token, servers"),
    ];
    costs.into_iter().filter_map(|(id, metric, title, label)| trade(study, id, metric, (title, label))).collect()
}

fn trade(study: &Study, id: &str, metric: &str, (title, label): (&str, &str)) -> Option<Figure> {
    let axis = *study.varied().first()?;
    let mut lines: Lines = Vec::new();
    for point in &study.points {
        let pair = study.value(point, "tokens_per_s_per_user").zip(study.value(point, metric));
        let Some((user, cost)) = pair else { continue };
        let place = format!("{} {}", study.names()[axis], point.coordinates[axis]);
        let gpus = study.gpus(point).map_or_else(String::new, |gpus| format!(", {gpus} GPUs"));
        let missed = if point.targets.iter().any(|target| !target.met) { ", misses a target" } else { "" };
        on_line(&mut lines, line_of(study, point, axis), (user, cost, format!("{place}{gpus}{missed}")));
    }
    let points = || lines.iter().flat_map(|(_, points)| points);
    let first = points().next()?;
    if points().all(|point| point.0.total_cmp(&first.0).is_eq() && point.1.total_cmp(&first.1).is_eq()) {
        return None;
    }
    let (right, top) = points().fold((0.0, 0.0), |(x, y): (f64, f64), point| (x.max(point.0), y.max(point.1)));
    let left_out = lines.len().saturating_sub(LINES);
    let more = if left_out > 0 { format!(" ({left_out} more lines only in the table)") } else { String::new() };
    let (series, notes) = drawn(lines, Style::Marks);
    Some(Figure {
        id: id.to_owned(),
        title: format!("{title}{more}"),
        description: format!(
            "Each point by the speed at which the median user reads, and {label}; the table below has every value."
        ),
        x: Axis::linear("tokens/s that the median user sees", right),
        y: Axis::linear(label, top),
        series,
        marks: vec![],
        rug: None,
        shades: None,
        limits: vec![],
        notes,
    })
}

/// The line that a point lies on against an axis: its other coordinates.
pub(super) fn line_of(study: &Study, point: &StudyPoint, axis: usize) -> String {
    let names = study.names();
    let others = names.iter().zip(&point.coordinates).enumerate().filter(|(at, _)| *at != axis);
    // What is the same everywhere says nothing.
    let others = others.filter(|(at, _)| study.along(*at).any(|value| value != point.coordinates[*at]));
    let words: Vec<String> = others.map(|(_, (name, place))| format!("{name} = {place}")).collect();
    if words.is_empty() { "all points".to_owned() } else { words.join(", ") }
}
