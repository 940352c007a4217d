//! Points that are drawn: independently of each other, or as a Latin hypercube.
//!
//! A draw is a function of the seed, the setting and the number of the point alone: another setting beside it changes none, and more
//! points keep those that were there (in a Latin hypercube they cannot: its parts become narrower).

use overbook_sim::streams::{Purpose, keyed};

use super::axes::{POINTS_MAX, Setting, Step, Taken, settings};
use crate::diagnostics::Problems;
use crate::nearest::suggestion;
use crate::scenario::DrawSpec;
use crate::yaml::{Entry, Node, NodeKind, Span};

/// How points lie in their ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Design {
    /// Independently of each other.
    Random,
    /// One in each of as many equal parts of every range.
    LatinHypercube,
}

/// What values may be drawn from.
const KINDS: [&str; 3] = ["uniform", "log-uniform", "choice"];

/// Digits of a drawn number: what tables show is what is run.
const DIGITS: i32 = 4;

/// How a range is written.
const HELP: &str = "give the lowest and the highest value with one unit, e.g. [1, 8] or [250ms, 2000ms]";

/// What a setting is drawn from.
enum Draw {
    Between(Range),
    Choice(Vec<Setting>),
}

/// A range of numbers with a unit.
struct Range {
    low: f64,
    high: f64,
    unit: String,
    /// Whether only whole numbers are meant.
    whole: bool,
    logarithmic: bool,
}

/// The points of a section `random:` or `lhs:`; what is wrong with it is added to the problems.
pub(super) fn steps(
    node: &Node,
    spec: &DrawSpec,
    design: Design,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Vec<Step>> {
    let points = spec.points as usize;
    if !(1..=POINTS_MAX).contains(&points) {
        let path = format!("{}.points", node.path);
        let message = format!("`points` is {points}; it must be from 1 to {POINTS_MAX}");
        problems.add(&path, node.place(&path), message, Some("e.g. points: 50".to_owned()));
        return None;
    }
    let over = node.entry("over")?;
    let entries = match &over.value.kind {
        NodeKind::Map(entries) if !entries.is_empty() => entries.as_slice(),
        _ => {
            let help = "e.g. over: { fleet.replicas: { uniform: [1, 8] } }".to_owned();
            problems.add(&over.value.path, over.value.span, "there is nothing to draw", Some(help));
            return None;
        }
    };
    let mut steps: Vec<Step> = (0..points).map(|_| Step(Vec::new())).collect();
    for entry in entries {
        let Some(path) = taken.path(entry, problems) else { continue };
        let Some(draw) = draw(&path, entry, problems) else { continue };
        for (step, at) in steps.iter_mut().zip(places(spec.seed, &path, points, design)) {
            step.0.push(draw.at(at, &path, entry.key_span, entry.value.span));
        }
    }
    Some(steps)
}

/// Where the points lie in the range of a setting, each in [0, 1).
fn places(seed: u64, path: &str, points: usize, design: Design) -> Vec<f64> {
    let draw = |salt: u64, point: usize| {
        let key: Vec<u64> = path.bytes().map(u64::from).chain([salt, point as u64]).collect();
        keyed(seed, Purpose::Sweeping, &key)
    };
    if design == Design::Random {
        return (0..points).map(|point| draw(0, point)).collect();
    }
    let mut order: Vec<usize> = (0..points).collect();
    order.sort_by(|&a, &b| draw(1, a).total_cmp(&draw(1, b)).then(a.cmp(&b)));
    let mut places = vec![0.0; points];
    for (part, point) in order.into_iter().enumerate() {
        places[point] = (part as f64 + draw(2, point)) / points as f64;
    }
    places
}

/// `{ uniform: [1, 8] }`, `{ log-uniform: [1/s, 100/s] }` or `{ choice: [vllm, sglang] }`.
fn draw(path: &str, entry: &Entry, problems: &mut Problems) -> Option<Draw> {
    let node = &entry.value;
    let kind = match &node.kind {
        NodeKind::Map(kinds) if kinds.len() == 1 => &kinds[0],
        _ => {
            let help =
                "e.g. { uniform: [1, 8] }, { log-uniform: [1/s, 100/s] } or { choice: [vllm, sglang] }".to_owned();
            problems.add(&node.path, node.span, format!("say what `{path}` is drawn from"), Some(help));
            return None;
        }
    };
    if kind.key == "choice" {
        return settings(path, entry.key_span, &kind.value, problems).map(Draw::Choice);
    }
    if !KINDS.contains(&kind.key.as_str()) {
        let message = format!("nothing is drawn from `{}`", kind.key);
        problems.add(&kind.value.path, kind.key_span, message, Some(suggestion(&kind.key, KINDS)));
        return None;
    }
    match range(&kind.value, kind.key == "log-uniform") {
        Ok(range) => Some(Draw::Between(range)),
        Err((span, message, help)) => {
            problems.add(&kind.value.path, span, message, Some(help.to_owned()));
            None
        }
    }
}

/// Reads the two ends of a range, or says what is wrong with them and where.
fn range(node: &Node, logarithmic: bool) -> Result<Range, (Span, String, &'static str)> {
    let NodeKind::List(ends) = &node.kind else {
        return Err((node.span, "a range is a list of two numbers".to_owned(), HELP));
    };
    let [low, high] = ends.as_slice() else {
        return Err((node.span, format!("a range has two ends, and here are {}", ends.len()), HELP));
    };
    let ((from, unit, whole), (to, other, also_whole)) = (number(low)?, number(high)?);
    if unit != other {
        let message = format!("the ends have different units, `{unit}` and `{other}`");
        return Err((node.span, message, "write both ends with the same unit, e.g. [250ms, 2000ms]"));
    }
    if from >= to {
        let message = format!("the range is empty: {from}{unit} is not below {to}{unit}");
        return Err((node.span, message, "the lowest value comes first"));
    }
    if logarithmic && from <= 0.0 {
        let message = format!("a logarithmic range must begin above 0, and it begins at {from}{unit}");
        return Err((low.span, message, "take `uniform`, or a lowest value above 0"));
    }
    if !(to - from).is_finite() || logarithmic && !(to / from).is_finite() {
        let message = format!("the range from {from:e}{unit} to {to:e}{unit} is too wide to draw from");
        return Err((node.span, message, "take ends that are nearer to each other"));
    }
    let whole = whole && also_whole && unit.is_empty();
    Ok(Range { low: from, high: to, unit: unit.to_owned(), whole, logarithmic })
}

/// An end of a range, as [`split`] gives it.
fn number(end: &Node) -> Result<(f64, &str, bool), (Span, String, &'static str)> {
    match &end.kind {
        NodeKind::Scalar { text, .. } => {
            split(text).ok_or_else(|| (end.span, format!("`{text}` is not a number with a unit"), HELP))
        }
        _ => Err((end.span, "an end of a range is a number".to_owned(), HELP)),
    }
}

/// The number that a text begins with, its unit, and whether it is written as a whole number.
fn split(text: &str) -> Option<(f64, &str, bool)> {
    let text = text.trim();
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return None;
    }
    let mut ends = (1..=text.len()).rev().filter(|&end| text.is_char_boundary(end));
    let (end, number) = ends.find_map(|end| Some((end, text[..end].parse::<f64>().ok()?)))?;
    number.is_finite().then(|| (number, text[end..].trim(), text[..end].parse::<i64>().is_ok()))
}

impl Draw {
    /// The value at a place in [0, 1).
    fn at(&self, place: f64, path: &str, key_span: Span, span: Span) -> Setting {
        match self {
            Draw::Choice(values) => {
                let Setting { path, key_span, value, text } =
                    &values[((place * values.len() as f64) as usize).min(values.len() - 1)];
                Setting { path: path.clone(), key_span: *key_span, value: value.clone(), text: text.clone() }
            }
            Draw::Between(range) => {
                let text = range.text(place);
                let kind = NodeKind::Scalar { text: text.clone(), plain: true };
                Setting { path: path.to_owned(), key_span, value: Node { path: path.to_owned(), span, kind }, text }
            }
        }
    }
}

impl Range {
    fn text(&self, place: f64) -> String {
        let Range { low, high, unit, whole, logarithmic } = self;
        // A whole number stands for all down to it, so that both ends are as likely as the others.
        let high_end = if *whole { high + 1.0 } else { *high };
        let value = if *logarithmic { low * (high_end / low).powf(place) } else { low + place * (high_end - low) };
        let value = if *whole { value.floor() } else { rounded(value) };
        format!("{}{unit}", value.clamp(*low, *high))
    }
}

/// To a few significant digits.
fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let digits = DIGITS - 1 - value.abs().log10().floor() as i32;
    if digits >= 0 {
        let scale = 10_f64.powi(digits);
        (value * scale).round() / scale
    } else {
        let scale = 10_f64.powi(-digits);
        (value / scale).round() * scale
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_latin_hypercube_has_one_point_in_each_part_and_other_settings_change_nothing() {
        for points in [1, 2, 7, 50] {
            let places = places(3, "fleet.replicas", points, Design::LatinHypercube);
            let mut parts: Vec<usize> = places.iter().map(|place| (place * points as f64) as usize).collect();
            parts.sort_unstable();
            assert_eq!(parts, (0..points).collect::<Vec<_>>());
        }
        let (one, other) = (places(3, "a", 50, Design::LatinHypercube), places(3, "b", 50, Design::LatinHypercube));
        assert_ne!(one, other, "settings are drawn independently of each other");
        let correlation: f64 = one.iter().zip(&other).map(|(a, b)| (a - 0.5) * (b - 0.5)).sum::<f64>() * 12.0 / 50.0;
        assert!(correlation.abs() < 0.4, "{correlation}");
    }

    #[test]
    fn more_random_points_keep_those_that_were_there() {
        let (few, many) = (places(1, "x", 5, Design::Random), places(1, "x", 50, Design::Random));
        assert_eq!(few[..], many[..5]);
        assert_ne!(few, places(2, "x", 5, Design::Random));
        let mean = many.iter().sum::<f64>() / 50.0;
        assert!((mean - 0.5).abs() < 0.15, "{mean}");
    }

    #[test]
    fn values_lie_in_their_range_and_reach_both_ends() {
        let range = |low, high, whole, logarithmic| Range { low, high, unit: String::new(), whole, logarithmic };
        let all = |range: &Range| -> Vec<String> { (0..400).map(|at| range.text(f64::from(at) / 400.0)).collect() };
        let mut counts = std::collections::BTreeMap::new();
        for text in all(&range(1.0, 4.0, true, false)) {
            *counts.entry(text).or_insert(0) += 1;
        }
        assert_eq!(
            counts.into_iter().collect::<Vec<_>>(),
            [("1", 100), ("2", 100), ("3", 100), ("4", 100)].map(|(t, n)| (t.to_owned(), n))
        );
        let logs = all(&range(1.0, 10_000.0, false, true));
        assert_eq!((logs[0].as_str(), logs[100].as_str(), logs[200].as_str()), ("1", "10", "100"));
        assert!(logs.iter().all(|text| text.len() <= 6), "four digits: {logs:?}");
    }

    #[test]
    fn numbers_are_split_from_their_units() {
        assert_eq!(split("250ms"), Some((250.0, "ms", true)));
        assert_eq!(split("1.5/s"), Some((1.5, "/s", false)));
        assert_eq!(split("80 %"), Some((80.0, "%", true)));
        assert_eq!(split("1e3"), Some((1000.0, "", false)));
        assert_eq!((split("many"), split("inf"), split("")), (None, None, None));
        assert_eq!((rounded(0.123_456), rounded(98_765.4), rounded(-2.0)), (0.1235, 98_770.0, -2.0));
    }
}
