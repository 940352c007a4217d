//! What a study says in a sentence: the fewest GPUs that keep all targets, at each load.

use super::{Study, StudyPoint};
use crate::tornado::{Bar, Tornado};

/// Ends of the paths of settings that are the load: what is enough is told for each.
const LOADS: [&str; 7] = ["rate", "load", "clients", "compress", "superpose", "spread", "requests"];

/// Settings that are named before the rest is counted.
const NAMED: usize = 3;

/// Loads that get a line.
const LINES: usize = 12;

/// Metrics whose bars are drawn where no target says what matters.
const METRICS: [&str; 3] = ["ttft_p99", "tpot_p99", "output_throughput"];

/// Figures that get bars, at most.
const TORNADOES: usize = 4;

/// The answer of a study.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Answer {
    /// `good`, `bad` or `plain`.
    pub(super) tone: &'static str,
    pub(super) headline: String,
    pub(super) lines: Vec<String>,
}

impl StudyPoint {
    fn keeps_targets(&self) -> bool {
        self.targets.iter().all(|target| target.met)
    }
}

impl Study {
    /// What is enough. Of a study with seeds, of the means: a setting keeps a target if all its seeds do.
    pub(super) fn answer(&self) -> Answer {
        let judged = || self.points.iter().filter(|point| !point.targets.is_empty());
        let of = judged().count();
        if of == 0 {
            let headline = "No target was set".to_owned();
            let line = "State one under slo: to have the points judged here.".to_owned();
            return Answer { tone: "plain", headline, lines: vec![line] };
        }
        let kept = judged().filter(|point| point.keeps_targets()).count();
        let points = if of == 1 { "point" } else { "points" };
        let counted = format!("{kept} of {of} {points} {} all targets.", if kept == 1 { "keeps" } else { "keep" });
        let tone = if kept > 0 { "good" } else { "bad" };
        let loads: Vec<usize> = self.varied().into_iter().filter(|&axis| is_load(&self.axes[axis])).collect();
        let mut groups: Vec<(Vec<&str>, Vec<&StudyPoint>)> = Vec::new();
        for point in judged() {
            let load: Vec<&str> = loads.iter().map(|&axis| point.coordinates[axis].as_str()).collect();
            match groups.iter_mut().find(|(other, _)| *other == load) {
                Some((_, points)) => points.push(point),
                None => groups.push((load, vec![point])),
            }
        }
        let without = self.points.iter().filter(|point| point.values.iter().all(Option::is_none)).count();
        if without > 0 {
            let all = self.points.len();
            let line = format!("{without} of {all} points have no results: nothing is said of what is enough.");
            return Answer {
                tone,
                headline: format!("Incomplete: {}", crate::report::lower_first(&counted)),
                lines: vec![line],
            };
        }
        if let [(_, points)] = groups.as_slice() {
            return Answer { tone, headline: self.enough(points, &loads), lines: vec![counted] };
        }
        let names = self.names();
        let line = |(load, points): &(Vec<&str>, Vec<&StudyPoint>)| {
            let place: Vec<String> =
                loads.iter().zip(load).map(|(&axis, value)| format!("{} {value}", names[axis])).collect();
            format!("{}: {}", place.join(", "), self.enough(points, &loads))
        };
        let mut lines: Vec<String> = groups.iter().take(LINES).map(line).collect();
        if groups.len() > LINES {
            lines.push(format!("{} more loads stand in the table.", groups.len() - LINES));
        }
        Answer { tone, headline: counted, lines }
    }

    /// The fewest GPUs that keep all targets, among points of one load.
    fn enough(&self, points: &[&StudyPoint], loads: &[usize]) -> String {
        let mut kept: Vec<&StudyPoint> = points.iter().copied().filter(|point| point.keeps_targets()).collect();
        let gpus = |point: &StudyPoint| self.value(point, "gpus_mean");
        if kept.is_empty() {
            let most = points.iter().filter_map(|point| gpus(point)).fold(0.0, f64::max);
            let with =
                if most > 0.0 { format!(", with up to {} GPUs", crate::format::number(most)) } else { String::new() };
            return format!("no point keeps all targets{with}");
        }
        let place = |point: &&StudyPoint| {
            let names = self.names();
            let varied = self.varied().into_iter().filter(|axis| !loads.contains(axis));
            let words: Vec<String> =
                varied.map(|axis| format!("{} {}", names[axis], point.coordinates[axis])).collect();
            words.join(", ")
        };
        let differ = points.iter().any(|point| self.gpus(point) != self.gpus(points[0]));
        let Some(least) = kept.iter().filter_map(|point| gpus(point)).min_by(f64::total_cmp).filter(|_| differ) else {
            return format!("all targets are kept with {}", some(kept.iter().map(place).collect()));
        };
        kept.retain(|point| gpus(point).is_some_and(|gpus| gpus <= least * 1.000_001));
        let gpus = crate::format::number(least);
        let fewest =
            if gpus == "1" { "1 GPU is enough to".to_owned() } else { format!("{gpus} GPUs are the fewest that") };
        format!("{fewest} keep all targets: {}", some(kept.iter().map(place).collect()))
    }

    /// What the figures with targets hang on: around the first point, one axis after the other.
    pub(super) fn tornadoes(&self) -> String {
        let mut metrics: Vec<&str> = Vec::new();
        let targets = self.points.iter().flat_map(|point| &point.targets).map(|target| target.metric.as_str());
        for metric in targets.chain(METRICS) {
            if metrics.len() < TORNADOES && !metrics.contains(&metric) {
                metrics.push(metric);
            }
        }
        metrics.into_iter().filter_map(|metric| self.tornado(metric)).map(Tornado::html).collect()
    }

    fn tornado(&self, metric: &str) -> Option<Tornado> {
        let (names, varied) = (self.names(), self.varied());
        let first = self.points.first()?;
        let base = self.value(first, metric)?;
        let show = |value: f64| crate::format::Unit::of(metric).show(value);
        let bar = |&axis: &usize| {
            let alone = |point: &&StudyPoint| {
                let same = |other: &usize| *other == axis || point.coordinates[*other] == first.coordinates[*other];
                varied.iter().all(same)
            };
            let mut values: Vec<(f64, &str)> = self
                .points
                .iter()
                .filter(alone)
                .filter_map(|point| Some((self.value(point, metric)?, point.coordinates[axis].as_str())))
                .collect();
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (low, high) = (values.first()?, values.last()?);
            let told = |(value, place): &(f64, &str)| format!("{} ({place})", show(*value));
            (values.len() > 1).then(|| Bar {
                name: names[axis].clone(),
                ends: (low.0, high.0),
                told: (told(low), told(high)),
            })
        };
        let bars: Vec<Bar> = varied.iter().filter_map(bar).collect();
        let place: Vec<String> =
            varied.iter().map(|&axis| format!("{} {}", names[axis], first.coordinates[axis])).collect();
        (bars.len() > 1).then(|| Tornado {
            title: crate::format::label(metric),
            base,
            told: format!(
                "Around {} at {}: one axis changes at a time, the widest first.",
                show(base),
                place.join(", ")
            ),
            bars,
        })
    }
}

fn is_load(path: &str) -> bool {
    LOADS.contains(&path.rsplit('.').next().unwrap_or(path))
}

/// The first of some settings, and how many more there are.
fn some(mut places: Vec<String>) -> String {
    let more = places.len().saturating_sub(NAMED);
    places.truncate(NAMED);
    let named = places.join("; or ");
    if more > 0 { format!("{named}; or {more} more") } else { named }
}
