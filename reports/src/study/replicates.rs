//! Runs that differ in their seed alone, put together: means with their 95 % intervals, and what depends on the seed.

use overbook_sim::results::trust::Standing;

use super::{PointTarget, Study, StudyPoint, quoted};
use crate::format::Unit;
use overbook_sim::results::interval::Interval;

/// File name of the means over seeds.
pub const REPLICATES: &str = "replicates.csv";

/// A study with one point for each setting, and the intervals behind its values.
pub(super) struct Means {
    /// The means, without the axis of seeds.
    pub(super) study: Study,
    /// By point and metric; `None` where no run has the figure.
    intervals: Vec<Vec<Option<Interval>>>,
    /// Seeds of each setting.
    seeds: Vec<usize>,
}

impl Study {
    /// The settings, each with the means over its seeds; `None` without seeds.
    pub(super) fn means(&self) -> Option<Means> {
        let axes = self.axes.len().checked_sub(1).filter(|_| self.replicated)?;
        let mut groups: Vec<Vec<&StudyPoint>> = Vec::new();
        for point in &self.points {
            match groups.iter_mut().find(|group| group[0].coordinates[..axes] == point.coordinates[..axes]) {
                // Equal settings that were drawn twice have equal runs: a seed counts once.
                Some(group) if group.iter().any(|other| other.coordinates == point.coordinates) => {}
                Some(group) => group.push(point),
                None => groups.push(vec![point]),
            }
        }
        let figure = |group: &[&StudyPoint], metric: usize| {
            let values: Vec<f64> =
                group.iter().filter_map(|point| point.values.get(metric).copied().flatten()).collect();
            Interval::of(&values)
        };
        let intervals: Vec<Vec<Option<Interval>>> =
            groups.iter().map(|group| (0..self.metrics.len()).map(|metric| figure(group, metric)).collect()).collect();
        let points = groups.iter().zip(&intervals).map(|(group, intervals)| StudyPoint {
            coordinates: group[0].coordinates[..axes].to_vec(),
            values: intervals.iter().map(|interval| interval.map(|one| one.mean)).collect(),
            // The mean is trusted as the run that is trusted least.
            trust: group.iter().filter_map(|point| point.trust.clone()).max_by_key(|trust| doubt(&trust.standing)),
            remarks: Vec::new(),
            kept: group.iter().map(|point| point.kept).try_fold(true, |all, kept| Some(all && kept?)),
            targets: kept_by_all(group),
        });
        let study =
            Study { axes: self.axes[..axes].to_vec(), points: points.collect(), replicated: false, ..self.clone() };
        Some(Means { study, intervals, seeds: groups.iter().map(Vec::len).collect() })
    }

    /// One line per setting: for every metric the mean, and the ends of its 95 % interval in columns `_low` and `_high`, in SI units.
    /// `None` without seeds.
    pub fn replicates_csv(&self) -> Option<String> {
        let means = self.means()?;
        let columns = means.study.columns();
        let axes = columns.iter().map(|(head, _)| quoted(head)).chain(["seeds".to_owned()]);
        let of = |metric: &String| [metric.clone(), format!("{metric}_low"), format!("{metric}_high")];
        let mut csv = axes.chain(self.metrics.iter().flat_map(of)).collect::<Vec<_>>().join(",") + "\n";
        for at in 0..means.study.points.len() {
            let places = columns.iter().map(|(_, cells)| quoted(&cells[at])).chain([means.seeds[at].to_string()]);
            let cells = means.intervals[at].iter().flat_map(|interval| match interval {
                None => [String::new(), String::new(), String::new()],
                Some(Interval { mean, half, .. }) => {
                    let end = |sign: f64| half.map_or_else(String::new, |half| (mean + sign * half).to_string());
                    [mean.to_string(), end(-1.0), end(1.0)]
                }
            });
            csv += &places.chain(cells).collect::<Vec<_>>().join(",");
            csv.push('\n');
        }
        Some(csv)
    }
}

impl Means {
    /// What the table says above it.
    pub(super) fn heading(&self) -> String {
        let seeds = self.seeds.iter().max().copied().unwrap_or(0);
        format!("Means over {seeds} seeds, ± half of their 95 % interval (Student's t)")
    }

    /// Header and rows of the table.
    pub(super) fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut rows = self.study.rows();
        let axes = self.study.axes.len();
        for ((row, intervals), seeds) in rows.iter_mut().zip(&self.intervals).zip(&self.seeds) {
            for ((cell, interval), metric) in row[axes..].iter_mut().zip(intervals).zip(&self.study.metrics) {
                let Some(Interval { half, of, .. }) = interval else { continue };
                if let Some(half) = half.filter(|half| *half > 0.0) {
                    *cell = format!("{cell} ± {}", Unit::of(metric).show(half));
                }
                if of < seeds {
                    *cell = format!("{cell} ({of} of {seeds} seeds)");
                }
            }
        }
        (self.study.header(), rows)
    }
}

/// The targets of a setting: met where every seed meets them.
fn kept_by_all(group: &[&StudyPoint]) -> Vec<PointTarget> {
    let met = |at: usize| group.iter().all(|point| point.targets.get(at).is_some_and(|target| target.met));
    let of = |(at, target): (usize, &PointTarget)| PointTarget { met: met(at), ..target.clone() };
    group[0].targets.iter().enumerate().map(of).collect()
}

/// The less is known, the more.
fn doubt(standing: &Standing) -> u8 {
    match standing {
        Standing::Validated => 0,
        Standing::Extrapolated(_) => 1,
        Standing::Prior(_) => 2,
    }
}
