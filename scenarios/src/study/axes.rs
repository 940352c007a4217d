//! The points of a sweep.

use std::borrow::Cow;

use serde::Deserialize as _;

use super::draw::{self, Design};
use crate::diagnostics::Problems;
use crate::scenario::{Coordinate, SweepSpec};
use crate::source::renamed::canonical;
use crate::yaml::{self, Entry, Node, NodeKind, Span};

/// Points beyond this are refused.
pub(super) const POINTS_MAX: usize = 10_000;

/// Seeds of replicates: fewer give no interval.
const SEEDS: std::ops::RangeInclusive<usize> = 2..=1000;

/// One axis: the steps along it.
pub(super) struct Axis {
    pub(super) steps: Vec<Step>,
    pub(super) kind: Kind,
}

/// Where the steps of an axis come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Listed,
    Drawn,
    /// Seeds: what differs along it is chance.
    Seeds,
}

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

/// The settings that are swept already.
#[derive(Default)]
pub(super) struct Taken(Vec<String>);

impl Taken {
    /// The path that an entry is about, if it may be swept.
    pub(super) fn path(&mut self, entry: &Entry, problems: &mut Problems) -> Option<String> {
        let path = entry.key.split('.').map(str::trim).collect::<Vec<_>>().join(".");
        let root = path.split('.').next().unwrap_or("");
        if matches!(root, "sweep" | "expect" | "plan" | "version" | "name") {
            problems.add(&entry.value.path, entry.key_span, format!("`{root}` cannot be swept"), None);
            return None;
        }
        let known: Cow<'_, str> = canonical(&path);
        if self.0.iter().any(|other| *other == known) {
            let (message, help) = (format!("`{}` is swept twice", entry.key), "leave one of the two out".to_owned());
            problems.add(&entry.value.path, entry.key_span, message, Some(help));
            return None;
        }
        let inside = format!("{known}.");
        if let Some(other) = self.0.iter().find(|other| other.starts_with(&inside)) {
            let message = format!("`{}` replaces `{other}`, which is swept before it", entry.key);
            let help = format!("write `{}` first, so that `{other}` is set in each of its values", entry.key);
            problems.add(&entry.value.path, entry.key_span, message, Some(help));
            return None;
        }
        self.0.push(known.into_owned());
        Some(path)
    }
}

/// Reads `sweep:` of a scenario with this seed. What is wrong with it is added to the problems, and left out of the axes.
pub(super) fn read(sweep: &Node, seed: u64, problems: &mut Problems) -> Vec<Axis> {
    let decoded = yaml::decode::<SweepSpec>(sweep);
    problems.extend(decoded.faults.clone());
    let spec = decoded.value.unwrap_or_default();
    let mut taken = Taken::default();
    let mut axes: Vec<Axis> = lists(sweep, "axes", &mut taken, problems)
        .into_iter()
        .map(|settings| settings.into_iter().map(|setting| Step(vec![setting])).collect())
        .map(|steps| Axis { steps, kind: Kind::Listed })
        .collect();
    axes.extend(zip(sweep, lists(sweep, "zip", &mut taken, problems), problems));
    for (key, drawn, design) in [("random", &spec.random, Design::Random), ("lhs", &spec.lhs, Design::LatinHypercube)] {
        if let (Some(drawn), Some(entry)) = (drawn, sweep.entry(key)) {
            let steps = draw::steps(&entry.value, drawn, design, &mut taken, problems);
            axes.extend(steps.map(|steps| Axis { steps, kind: Kind::Drawn }));
        }
    }
    if let Some(entry) = sweep.entry("seeds") {
        axes.extend(seeds(entry, seed, &mut taken, problems).map(|steps| Axis { steps, kind: Kind::Seeds }));
    }
    let points = axes.iter().try_fold(1usize, |points, axis| points.checked_mul(axis.steps.len()));
    if points.is_none_or(|points| points > POINTS_MAX) {
        let help = "fewer values, or `lhs` over their ranges".to_owned();
        problems.add("sweep", sweep.span, format!("the sweep has more than {POINTS_MAX} points"), Some(help));
        return Vec::new();
    }
    axes
}

/// The lists of `axes` or `zip`.
fn lists(sweep: &Node, key: &str, taken: &mut Taken, problems: &mut Problems) -> Vec<Vec<Setting>> {
    let node = sweep.entry(key).map(|entry| &entry.value.kind);
    let entries = if let Some(NodeKind::Map(entries)) = node { entries.as_slice() } else { &[] };
    let mut lists = Vec::new();
    for entry in entries {
        let Some(path) = taken.path(entry, problems) else { continue };
        lists.extend(settings(&path, entry.key_span, &entry.value, problems));
    }
    lists
}

/// The values of a list, or of a map from names to values.
pub(super) fn settings(path: &str, key_span: Span, node: &Node, problems: &mut Problems) -> Option<Vec<Setting>> {
    let labelled: Vec<(Option<&str>, &Node)> = match &node.kind {
        NodeKind::List(items) => items.iter().map(|item| (None, item)).collect(),
        NodeKind::Map(entries) => entries.iter().map(|entry| (Some(entry.key.as_str()), &entry.value)).collect(),
        _ => Vec::new(),
    };
    if labelled.is_empty() {
        let message = format!("`{path}` needs a list of at least one value, e.g. [1, 2, 4]");
        problems.add(&node.path, node.span, message, None);
        return None;
    }
    let as_written = |item: &Node| Coordinate::deserialize(item).map_or_else(|_| String::new(), |place| place.0);
    let setting = |(label, item): (Option<&str>, &Node)| Setting {
        path: path.to_owned(),
        key_span,
        value: item.clone(),
        text: label.map_or_else(|| as_written(item), str::to_owned),
    };
    Some(labelled.into_iter().map(setting).collect())
}

/// Turns lists of equal length into one axis.
fn zip(sweep: &Node, zipped: Vec<Vec<Setting>>, problems: &mut Problems) -> Option<Axis> {
    let first = zipped.first()?;
    if let (Some(list), Some(entry)) = (zipped.iter().find(|list| list.len() != first.len()), sweep.entry("zip")) {
        let (name, other) = (&list[0].path, &first[0].path);
        let message =
            format!("zipped lists must be of equal length: `{other}` has {}, `{name}` has {}", first.len(), list.len());
        problems.add(&entry.value.path, list[0].key_span, message, None);
        return None;
    }
    let mut steps: Vec<Step> = (0..first.len()).map(|_| Step(Vec::new())).collect();
    for list in zipped {
        for (step, setting) in steps.iter_mut().zip(list) {
            step.0.push(setting);
        }
    }
    Some(Axis { steps, kind: Kind::Listed })
}

/// The seeds of replicates: so many from `first` on, or those of a list.
fn seeds(entry: &Entry, first: u64, taken: &mut Taken, problems: &mut Problems) -> Option<Vec<Step>> {
    let asked = Entry { key: "seed".to_owned(), ..entry.clone() };
    taken.path(&asked, problems)?;
    let whole = |node: &Node| match &node.kind {
        NodeKind::Scalar { text, .. } => text.parse::<u64>().ok(),
        _ => None,
    };
    let mut add = |span: Span, message: String, help: &str| {
        problems.add(&entry.value.path, span, message, Some(help.to_owned()));
    };
    let (from, to) = (SEEDS.start(), SEEDS.end());
    let numbers: Vec<u64> = if let NodeKind::List(items) = &entry.value.kind {
        let mut numbers = Vec::new();
        for item in items {
            match whole(item) {
                Some(number) if numbers.contains(&number) => {
                    add(item.span, format!("the seed {number} is there twice"), "equal seeds give equal runs");
                    return None;
                }
                Some(number) => numbers.push(number),
                None => {
                    add(item.span, "a seed is a whole number".to_owned(), "e.g. seeds: [1, 2, 3]");
                    return None;
                }
            }
        }
        numbers
    } else {
        let Some(count) = whole(&entry.value) else {
            add(entry.value.span, "expected a number of seeds, or a list of them".to_owned(), "e.g. seeds: 5");
            return None;
        };
        (0..count.min(1 + *to as u64)).map(|number| first.wrapping_add(number)).collect()
    };
    if !SEEDS.contains(&numbers.len()) {
        let message = format!("an interval needs from {from} to {to} seeds");
        add(entry.value.span, message, "leave `seeds` out to run every point once");
        return None;
    }
    let step = |number: u64| {
        let kind = NodeKind::Scalar { text: number.to_string(), plain: true };
        let value = Node { path: "seed".to_owned(), span: entry.value.span, kind };
        Step(vec![Setting { path: "seed".to_owned(), key_span: entry.key_span, value, text: number.to_string() }])
    };
    Some(numbers.into_iter().map(step).collect())
}

/// Every combination of steps, the last axis varying fastest; one empty combination without axes.
pub(super) fn product(axes: &[Axis]) -> impl Iterator<Item = Vec<&Step>> {
    let points: usize = axes.iter().map(|axis| axis.steps.len()).product();
    (0..points).map(|point| {
        let mut rest = point;
        let mut steps: Vec<&Step> = axes
            .iter()
            .rev()
            .map(|axis| {
                let step = &axis.steps[rest % axis.steps.len()];
                rest /= axis.steps.len();
                step
            })
            .collect();
        steps.reverse();
        steps
    })
}
