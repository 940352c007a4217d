//! The points of a sweep.

use std::borrow::Cow;

use serde::Deserialize as _;

use crate::diagnostics::Problems;
use crate::scenario::{Coordinate, SweepSpec};
use crate::source::renamed::canonical;
use crate::yaml::{self, Entry, Node, NodeKind, Span};

/// Points beyond this are refused.
const POINTS_MAX: usize = 10_000;

/// One axis: the steps along it.
pub(super) struct Axis(pub(super) Vec<Step>);

/// One step along an axis: the settings that change together (one, or all those of `zip`).
pub(super) struct Step(pub(super) Vec<Setting>);

/// A value for a path.
pub(super) struct Setting {
    pub(super) path: String,
    pub(super) key_span: Span,
    pub(super) value: Node,
    /// The value as coordinates show it.
    pub(super) text: String,
}

/// Reads `sweep:`. What is wrong with it is added to the problems, and left out of the axes.
pub(super) fn read(sweep: &Node, problems: &mut Problems) -> Vec<Axis> {
    problems.extend(yaml::decode::<SweepSpec>(sweep).faults);
    let mut seen: Vec<Cow<'_, str>> = Vec::new();
    let mut lists = |key: &str| {
        let node = sweep.entry(key).map(|entry| &entry.value.kind);
        let entries = if let Some(NodeKind::Map(entries)) = node { entries.as_slice() } else { &[] };
        let mut lists = Vec::new();
        for entry in entries {
            if seen.contains(&canonical(&entry.key)) {
                let message = format!("`{}` is swept twice", entry.key);
                problems.add(&entry.value.path, entry.key_span, message, None);
            } else if let Some(settings) = settings(entry, problems) {
                seen.push(canonical(&entry.key));
                lists.push(settings);
            }
        }
        lists
    };
    let single = |setting| Step(vec![setting]);
    let mut axes: Vec<Axis> =
        lists("axes").into_iter().map(|settings| Axis(settings.into_iter().map(single).collect())).collect();
    let zipped = lists("zip");
    if let Some(first) = zipped.first() {
        let uneven = zipped.iter().find(|list| list.len() != first.len());
        if let (Some(list), Some(entry)) = (uneven, sweep.entry("zip")) {
            let (name, other) = (&list[0].path, &first[0].path);
            let message = format!(
                "zipped lists must be of equal length: `{other}` has {}, `{name}` has {}",
                first.len(),
                list.len()
            );
            problems.add(&entry.value.path, list[0].key_span, message, None);
        } else {
            axes.push(zip(zipped));
        }
    }
    let points = axes.iter().try_fold(1usize, |points, axis| points.checked_mul(axis.0.len()));
    if points.is_none_or(|points| points > POINTS_MAX) {
        problems.add("sweep", sweep.span, format!("the sweep has more than {POINTS_MAX} points"), None);
        return Vec::new();
    }
    axes
}

fn settings(entry: &Entry, problems: &mut Problems) -> Option<Vec<Setting>> {
    let path = entry.key.split('.').map(str::trim).collect::<Vec<_>>().join(".");
    let root = path.split('.').next().unwrap_or("");
    if matches!(root, "sweep" | "expect" | "plan" | "version" | "name") {
        problems.add(&entry.value.path, entry.key_span, format!("`{root}` cannot be swept"), None);
        return None;
    }
    let labelled: Vec<(Option<&str>, &Node)> = match &entry.value.kind {
        NodeKind::List(items) => items.iter().map(|item| (None, item)).collect(),
        NodeKind::Map(entries) => entries.iter().map(|entry| (Some(entry.key.as_str()), &entry.value)).collect(),
        _ => Vec::new(),
    };
    if labelled.is_empty() {
        let message = format!("`{path}` needs a list of at least one value, e.g. [1, 2, 4]");
        problems.add(&entry.value.path, entry.value.span, message, None);
        return None;
    }
    let as_written = |item: &Node| Coordinate::deserialize(item).map_or_else(|_| String::new(), |place| place.0);
    let setting = |(label, item): (Option<&str>, &Node)| Setting {
        path: path.clone(),
        key_span: entry.key_span,
        value: item.clone(),
        text: label.map_or_else(|| as_written(item), str::to_owned),
    };
    Some(labelled.into_iter().map(setting).collect())
}

/// Turns lists of equal length into one axis.
fn zip(lists: Vec<Vec<Setting>>) -> Axis {
    let length = lists.first().map_or(0, Vec::len);
    let mut steps: Vec<Step> = (0..length).map(|_| Step(Vec::new())).collect();
    for list in lists {
        for (step, setting) in steps.iter_mut().zip(list) {
            step.0.push(setting);
        }
    }
    Axis(steps)
}

/// Every combination of steps, the last axis varying fastest; one empty combination without axes.
pub(super) fn product(axes: &[Axis]) -> impl Iterator<Item = Vec<&Step>> {
    let points: usize = axes.iter().map(|axis| axis.0.len()).product();
    (0..points).map(|point| {
        let mut rest = point;
        let mut steps: Vec<&Step> = axes
            .iter()
            .rev()
            .map(|axis| {
                let step = &axis.0[rest % axis.0.len()];
                rest /= axis.0.len();
                step
            })
            .collect();
        steps.reverse();
        steps
    })
}
