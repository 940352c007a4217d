//! Figures that the results must meet, tied to the points of the study.

use std::collections::BTreeMap;

use crate::amount::Amount;
use crate::metric::{Dimension, Metric};
use crate::nearest::suggestion;
use crate::scenario::{Basis, Coordinate, ExpectSpec};
use crate::source::renamed::canonical;

/// (path inside the expectation, message, help)
type Found = (String, String, Option<String>);

/// A figure that the results must meet.
#[derive(Clone, PartialEq, Debug)]
pub struct Expectation {
    /// As the scenario says it.
    pub spec: ExpectSpec,
    /// Indices of the points over which the figure is a mean: one, unless the scenario says otherwise.
    pub points: Vec<usize>,
    /// Indices of the points and the metric to divide by, for a ratio.
    pub over: Option<(Vec<usize>, Metric)>,
}

/// What became of an expectation.
#[derive(Clone, PartialEq, Debug)]
pub struct Judgement {
    /// What was looked at: `ttft_p99 at fleet.replicas=2`.
    pub subject: String,
    /// What it had to be: `≤ 2s`, `1.9 ± 5%`.
    pub target: String,
    /// What it was, in SI units; `None` if the run does not define it.
    pub got: Option<f64>,
    /// What `got` is measured in.
    pub dimension: Dimension,
    /// Whether it met the target.
    pub passed: bool,
    /// What the target stands on.
    pub basis: Basis,
    /// Where the target comes from.
    pub source: String,
}

impl Judgement {
    /// What it was, in words: four digits and the unit.
    pub fn got_text(&self) -> String {
        match (self.got, self.dimension) {
            (None, _) => "no value".to_owned(),
            (Some(got), Dimension::Time) if got < 1.0 => format!("{:.4} ms", got * 1e3),
            (Some(got), Dimension::Time) => format!("{got:.4} s"),
            (Some(got), Dimension::Rate) => format!("{got:.4}/s"),
            (Some(got), Dimension::Plain) => format!("{got:.4}"),
        }
    }
}

impl Expectation {
    /// Judges the results; `lookup` gives a metric of a point in SI units.
    pub fn judge(&self, lookup: &dyn Fn(usize, &str) -> Option<f64>) -> Judgement {
        let mean = |points: &[usize], metric: Metric| {
            let figures: Option<Vec<f64>> = points.iter().map(|&point| lookup(point, metric.name())).collect();
            figures.map(|figures| figures.iter().sum::<f64>() / figures.len() as f64)
        };
        let figure = mean(&self.points, self.spec.metric);
        let got = match &self.over {
            None => figure,
            Some((points, metric)) => {
                let base = mean(points, *metric).filter(|&base| base != 0.0);
                figure.zip(base).map(|(figure, base)| figure / base)
            }
        };
        let got = got.filter(|got| got.is_finite());
        Judgement {
            subject: self.subject(),
            target: self.target(),
            got,
            dimension: dimension(&self.spec),
            passed: got.is_some_and(|got| self.meets(got)),
            basis: self.spec.basis,
            source: self.spec.source.clone(),
        }
    }

    fn meets(&self, got: f64) -> bool {
        let spec = &self.spec;
        let near = spec.value.as_ref().is_none_or(|value| {
            let tolerance = spec.tolerance.as_ref().map_or(0.0, |tolerance| {
                if tolerance.percent { tolerance.value * value.value.abs() } else { tolerance.value }
            });
            (got - value.value).abs() <= tolerance
        });
        let above = spec.min.as_ref().is_none_or(|min| got >= min.value);
        let below = spec.max.as_ref().is_none_or(|max| got <= max.value);
        near && above && below
    }

    fn subject(&self) -> String {
        let mut text = format!("{}{}", self.spec.metric, place(&self.spec.at));
        if let (Some((_, metric)), Some(over)) = (&self.over, &self.spec.over) {
            text = format!("{text} over {metric}{}", place(&over.at));
        }
        if self.points.len() > 1 {
            text = format!("{text}, mean over {} values of {}", self.points.len(), self.spec.mean_over.join(", "));
        }
        text
    }

    fn target(&self) -> String {
        let ExpectSpec { value, tolerance, min, max, .. } = &self.spec;
        match (value, tolerance, min, max) {
            (Some(value), Some(tolerance), ..) => format!("{value} ± {tolerance}"),
            (Some(value), None, ..) => value.to_string(),
            (_, _, Some(min), Some(max)) => format!("{min} to {max}"),
            (_, _, Some(min), None) => format!("≥ {min}"),
            (_, _, None, Some(max)) => format!("≤ {max}"),
            _ => String::new(),
        }
    }
}

fn place(at: &BTreeMap<String, Coordinate>) -> String {
    let pairs: Vec<String> = at.iter().map(|(path, value)| format!("{path}={value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(" at {}", pairs.join(", ")) }
}

/// What the figure is measured in: a ratio is a plain number.
fn dimension(spec: &ExpectSpec) -> Dimension {
    if spec.over.is_some() { Dimension::Plain } else { spec.metric.dimension() }
}

/// Ties an expectation to points, given the coordinates of all points.
pub(super) fn resolve(spec: &ExpectSpec, points: &[Vec<(&str, &str)>]) -> Result<Expectation, Vec<Found>> {
    let mut found = targets(spec);
    let selected = find(&spec.at, &spec.mean_over, points, "at").map_err(|problem| found.push(problem)).ok();
    let mut over = None;
    if let Some(base) = &spec.over {
        let metric = base.metric.unwrap_or(spec.metric);
        if metric.dimension() != spec.metric.dimension() {
            let message = format!("`{}` and `{metric}` are not measured in the same unit", spec.metric);
            found.push(("over.metric".to_owned(), message, None));
        }
        let mut at = spec.at.clone();
        at.extend(base.at.clone());
        match find(&at, &spec.mean_over, points, "over.at") {
            Ok(points) => over = Some((points, metric)),
            Err(problem) => found.push(problem),
        }
    }
    match selected {
        Some(points) if found.is_empty() => Ok(Expectation { spec: spec.clone(), points, over }),
        _ => Err(found),
    }
}

/// Problems with `value`, `tolerance`, `min`, `max` and `source`.
fn targets(spec: &ExpectSpec) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut add = |path: &str, message: String| found.push((path.to_owned(), message, None));
    let ranged = spec.min.is_some() || spec.max.is_some();
    match (&spec.value, &spec.tolerance) {
        (Some(_), _) if ranged => {
            add("value", "give `value` with `tolerance`, or `min` and `max`, not both".to_owned());
        }
        (Some(_), None) => add("value", "`value` needs a `tolerance`, e.g. 5% (0% for exactly)".to_owned()),
        (None, Some(_)) => add("tolerance", "`tolerance` needs a `value` to be around".to_owned()),
        (None, None) if !ranged => {
            add("metric", "expects nothing: give `value` with `tolerance`, `min` or `max`".to_owned());
        }
        _ => {}
    }
    let wanted = dimension(spec);
    let amounts = [("value", &spec.value), ("min", &spec.min), ("max", &spec.max), ("tolerance", &spec.tolerance)];
    for (key, amount) in amounts.into_iter().filter_map(|(key, amount)| Some((key, amount.as_ref()?))) {
        let relative = key == "tolerance" && amount.percent;
        if amount.dimension != wanted && !relative {
            add(key, mismatch(key, amount, spec, wanted));
        }
        if key == "tolerance" && amount.value < 0.0 {
            add(key, "`tolerance` is negative".to_owned());
        }
    }
    if let (Some(min), Some(max)) = (&spec.min, &spec.max)
        && min.dimension == max.dimension
        && min.value > max.value
    {
        add("min", format!("`min` is {min}, above `max`, {max}"));
    }
    if spec.source.trim().is_empty() {
        add("source", "`source` is empty; say where the figure comes from".to_owned());
    }
    found
}

fn mismatch(key: &str, amount: &Amount, spec: &ExpectSpec, wanted: Dimension) -> String {
    let what = if spec.over.is_some() { "a ratio" } else { spec.metric.name() };
    let wanted = match wanted {
        Dimension::Time => "is a time, e.g. 250ms",
        Dimension::Rate => "is per second, e.g. 30/s",
        Dimension::Plain => "is a plain number, e.g. 0.95 or 95%",
    };
    format!("`{key}` is {amount}, but {what} {wanted}")
}

/// The one point that these coordinates select, or those that differ only in the paths of `mean_over`.
fn find(
    at: &BTreeMap<String, Coordinate>,
    mean_over: &[String],
    points: &[Vec<(&str, &str)>],
    path: &str,
) -> Result<Vec<usize>, Found> {
    let swept: Vec<&str> = points.first().map_or_else(Vec::new, |point| point.iter().map(|(path, _)| *path).collect());
    // The sweep may name a setting by its old path, and the expectation by its new one.
    let as_swept = |key: &String| {
        let same = swept.iter().find(|path| canonical(path) == canonical(key));
        same.map_or_else(|| key.clone(), |&path| path.to_owned())
    };
    let at = &at.iter().map(|(key, value)| (as_swept(key), value.clone())).collect::<BTreeMap<_, _>>();
    let mean_over = &mean_over.iter().map(as_swept).collect::<Vec<_>>();
    if let Some(unknown) = at.keys().find(|key| !swept.contains(&key.as_str())) {
        let help = if swept.is_empty() { "there is no sweep".to_owned() } else { suggestion(unknown, swept) };
        return Err((format!("{path}.{unknown}"), format!("`{unknown}` is not swept"), Some(help)));
    }
    if let Some((i, unknown)) = mean_over.iter().enumerate().find(|(_, path)| !swept.contains(&path.as_str())) {
        let help = if swept.is_empty() { "there is no sweep".to_owned() } else { suggestion(unknown, swept) };
        return Err((format!("mean_over.{i}"), format!("`{unknown}` is not swept"), Some(help)));
    }
    if let Some((i, both)) = mean_over.iter().enumerate().find(|(_, path)| at.contains_key(*path)) {
        let message = format!("`{both}` has one value in `at`: there is nothing to take the mean over");
        return Err((format!("mean_over.{i}"), message, None));
    }
    let matches = |point: &Vec<(&str, &str)>| {
        point.iter().all(|(path, value)| at.get(*path).is_none_or(|wanted| wanted.0 == *value))
    };
    let selected: Vec<usize> = (0..points.len()).filter(|&point| matches(&points[point])).collect();
    let averaged = |path: &str| mean_over.iter().any(|averaged| averaged == path);
    let place = |point: usize| points[point].iter().filter(|(path, _)| !averaged(path)).collect::<Vec<_>>();
    match selected.as_slice() {
        [] => Err(no_point(at, points, path)),
        [first, others @ ..]
            if others.iter().all(|&other| place(other) == place(*first))
                && (others.is_empty() || !mean_over.is_empty()) =>
        {
            Ok(selected)
        }
        several => {
            let open: Vec<&str> = swept.into_iter().filter(|path| !at.contains_key(*path) && !averaged(path)).collect();
            let message = format!("{} points of the sweep match", several.len());
            Err((path.to_owned(), message, Some(format!("say which `{}` is meant", open.join("`, `")))))
        }
    }
}

fn no_point(at: &BTreeMap<String, Coordinate>, points: &[Vec<(&str, &str)>], path: &str) -> Found {
    for (key, value) in at {
        let mut known: Vec<&str> =
            points.iter().flatten().filter(|(path, _)| path == key).map(|(_, value)| *value).collect();
        known.dedup();
        if !known.contains(&value.0.as_str()) {
            known.sort_unstable();
            known.dedup();
            let message = format!("`{key}` is never {value} in the sweep");
            return (format!("{path}.{key}"), message, Some(format!("it is {}", known.join(", "))));
        }
    }
    (path.to_owned(), "no point of the sweep has all of these values".to_owned(), None)
}
