//! Distribution functions of several runs over each other, exactly from their rows.

use overbook_sim::results::rows::Outcome;

use super::letter;
use crate::ReportError;
use crate::figure::{Axis, Figure, Series, Style};
use crate::format::seconds;
use crate::read::RunData;

/// Points of a curve; the last [`TAIL`] of them lie in its last hundredth.
const POINTS: usize = 900;
const TAIL: usize = 200;

const METRICS: [(&str, &str, &str); 3] = [
    ("ttft", "TTFT", "Time to first token"),
    ("tpot", "TPOT", "Time per output token"),
    ("e2el", "E2EL", "End-to-end latency"),
];

/// Values [s] and the share of requests at or below them.
type Curve = Vec<(f64, f64)>;

/// A figure per latency, as far as there are rows.
pub(super) fn figures(runs: &[RunData], names: &[String]) -> Result<Vec<Figure>, ReportError> {
    let mut curves: Vec<(usize, [Curve; METRICS.len()])> = Vec::new();
    for (index, run) in runs.iter().enumerate().filter(|(_, run)| run.has_requests()) {
        curves.push((index, of_run(run)?));
    }
    Ok((0..METRICS.len()).filter_map(|metric| figure(metric, &curves, names)).collect())
}

fn figure(metric: usize, curves: &[(usize, [Curve; METRICS.len()])], names: &[String]) -> Option<Figure> {
    let (id, name, title) = METRICS[metric];
    let filled = || curves.iter().map(|(run, all)| (*run, &all[metric])).filter(|(_, curve)| !curve.is_empty());
    // One early straggler must not stretch the axis.
    let low = filled().filter_map(|(_, curve)| at(curve, 0.001)).filter(|&s| s > 0.0).fold(f64::INFINITY, f64::min);
    let high = filled().filter_map(|(_, curve)| curve.last()).map(|p| p.0).fold(0.0, f64::max);
    if !low.is_finite() {
        return None;
    }
    let axis = Axis::log_time(name, low, high);
    let line = |(run, curve): (usize, &Curve)| {
        let mut points = vec![(axis.from, 0.0)];
        points.extend(curve.iter().filter(|p| p.0 >= axis.from));
        Series { label: format!("{} {}", letter(run), names[run]), color: run as u8 + 1, style: Style::Steps, points }
    };
    let words = |(run, curve): (usize, &Curve)| {
        let at = |p| at(curve, p).map_or_else(String::new, seconds);
        format!("{}: half within {}, 99 % within {}.", letter(run), at(0.5), at(0.99))
    };
    Some(Figure {
        id: id.to_owned(),
        title: title.to_owned(),
        description: filled().map(words).collect::<Vec<_>>().join(" "),
        y: Axis::share("of finished requests"),
        series: filled().map(line).collect(),
        x: axis,
        marks: vec![],
        rug: None,
        shades: None,
        limits: vec![],
        notes: vec![],
    })
}

fn at(curve: &Curve, share: f64) -> Option<f64> {
    curve.iter().find(|p| p.1 >= share).map(|p| p.0)
}

fn of_run(run: &RunData) -> Result<[Curve; METRICS.len()], ReportError> {
    let mut values: [Vec<u64>; METRICS.len()] = Default::default();
    run.each_request(|row| {
        if row.outcome == Outcome::Finished {
            values[0].extend(row.ttft().map(|t| t.0));
            values[1].extend(row.tpot().map(|t| t.0));
            values[2].push(row.e2el().0);
        }
        true
    })?;
    Ok(values.map(curve))
}

/// The values at evenly spaced ranks, more of them in the tail.
fn curve(mut values: Vec<u64>) -> Curve {
    values.sort_unstable();
    let n = values.len();
    let even = (1..=POINTS).map(|i| (n * i).div_ceil(POINTS));
    let tail = (1..=TAIL).map(|i| n - n / 100 + (n / 100 * i).div_ceil(TAIL));
    let mut ranks: Vec<usize> = even.chain(tail).filter(|&rank| (1..=n).contains(&rank)).collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks.into_iter().map(|rank| (values[rank - 1] as f64 / 1e9, rank as f64 / n as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_exact_where_they_have_points() {
        let small = curve(vec![3_000_000_000, 1_000_000_000]);
        assert_eq!(small, [(1.0, 0.5), (3.0, 1.0)]);
        let large = curve((1..=1_000_000).rev().collect());
        assert!(large.len() <= POINTS + TAIL && large.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        for (value, share) in large {
            assert!((value * 1e9 - share * 1e6).abs() < 1e-3, "{value} {share}");
        }
        assert!(curve(vec![]).is_empty());
    }
}
