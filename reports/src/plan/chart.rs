//! Figures of a plan.

use super::{LoadPoint, Plan};
use crate::figure::{Axis, Figure, Mark, Series, Style};

/// Lines of a figure at most.
const LINES: usize = 6;

/// Latency against load with the bounds, and cost against promise.
pub(super) fn figures(plan: &Plan) -> Vec<Figure> {
    let mut all = Vec::new();
    all.extend(latency(plan, "ttft-load", "Time to first token against load", "ttft", |p| (p.ttft_p50, p.ttft_p99)));
    all.extend(latency(plan, "tpot-load", "Time per output token against load", "tpot", |p| (p.tpot_p50, p.tpot_p99)));
    all.extend(pareto(plan));
    all.extend(speeds(plan));
    all
}

/// The bound of a metric among the promises, as the answer's lines say it: `TTFT p99 1.40 s ≤ 2 s` has 2.
fn bound(plan: &Plan, metric: &str) -> Option<(String, f64)> {
    let line = plan.promises.iter().find(|line| line.to_lowercase().starts_with(metric))?;
    let (name, value) = line.rsplit_once("≤ ")?;
    let (number, unit) = value.trim().split_once(' ')?;
    let scale = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "min" => 60.0,
        _ => return None,
    };
    Some((format!("{}≤ {value}", name.trim_start()), number.replace(',', "").parse::<f64>().ok()? * scale))
}

/// A median and a 99th percentile.
type Latencies = (Option<f64>, Option<f64>);

fn latency(plan: &Plan, id: &str, title: &str, metric: &str, of: fn(&LoadPoint) -> Latencies) -> Option<Figure> {
    let points = |pick: fn(Latencies) -> Option<f64>| -> Vec<(f64, f64)> {
        plan.curve.iter().filter_map(|point| Some((point.factor, pick(of(point))?))).collect()
    };
    let (median, tail) = (points(|pair| pair.0), points(|pair| pair.1));
    let most = tail.iter().map(|point| point.1).fold(0.0, f64::max);
    let least = median.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    if tail.len() < 2 || most <= 0.0 {
        return None;
    }
    let to = plan.curve.iter().map(|point| point.factor).fold(0.0, f64::max);
    let mut series = vec![
        Series { label: "median".to_owned(), color: 1, style: Style::Dots, points: median },
        Series { label: "99th percentile".to_owned(), color: 2, style: Style::Dots, points: tail },
    ];
    let mut top = most;
    if let Some((label, value)) = bound(plan, metric) {
        top = top.max(value);
        series.push(Series {
            label: format!("promised: {label}"),
            color: 9,
            style: Style::Line,
            points: vec![(0.0, value), (to, value)],
        });
    }
    let today = Mark { x: 1.0, label: "today".to_owned(), color: 3 };
    let knee = plan.headroom.first().map(|one| Mark {
        x: one.factor,
        label: format!("holds until {:.2}×", one.factor),
        color: 4,
    });
    let y = Axis::log_time("seconds", least.min(top), top);
    let described = plan.curve.iter().filter_map(|point| Some(format!("{:.2}×: {:.4} s", point.factor, of(point).1?)));
    Some(Figure {
        id: id.to_owned(),
        title: title.to_owned(),
        description: format!("99th percentile by load: {}", described.collect::<Vec<_>>().join("; ")),
        x: Axis::linear("multiple of today's load", to),
        y,
        series,
        marks: std::iter::once(today).chain(knee).collect(),
        rug: None,
        shades: None,
    })
}

/// Fleets whose trial ended, by what they cost and how near they come to the promise.
fn pareto(plan: &Plan) -> Option<Figure> {
    let priced = !plan.tried.is_empty() && plan.tried.iter().all(|one| one.usd_per_hour.is_some());
    let cost = |one: &super::Tried| one.usd_per_hour.filter(|_| priced).unwrap_or(f64::from(one.gpus));
    let mut series: Vec<Series> = Vec::new();
    for one in &plan.tried {
        let point = (cost(one), one.nearest_to_bound.min(3.0));
        let known = series.iter().position(|line| line.label == one.shape);
        match known {
            Some(at) => series[at].points.push(point),
            None if series.len() < LINES => series.push(Series {
                label: one.shape.clone(),
                color: series.len() as u8 + 1,
                style: Style::Marks,
                points: vec![point],
            }),
            None => {}
        }
    }
    for line in &mut series {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let most = plan.tried.iter().map(cost).fold(0.0, f64::max);
    if series.iter().map(|line| line.points.len()).sum::<usize>() < 2 {
        return None;
    }
    series.push(Series {
        label: "the promise".to_owned(),
        color: 9,
        style: Style::Line,
        points: vec![(0.0, 1.0), (most, 1.0)],
    });
    let top = plan.tried.iter().map(|one| one.nearest_to_bound.min(3.0)).fold(1.0, f64::max);
    Some(Figure {
        id: "cost-promise".to_owned(),
        title: "Cost against promise".to_owned(),
        description: "What fleets cost, and their figure nearest to its bound over that bound: below 1 the promises are kept; the ledger \
                      has the numbers"
            .to_owned(),
        x: Axis::linear(if priced { "dollars an hour" } else { "GPUs" }, most),
        y: Axis::linear("figure ÷ bound, at most 3 shown", top),
        series,
        marks: Vec::new(),
        rug: None,
        shades: None,
    })
}

/// What a user sees against what a GPU gives.
fn speeds(plan: &Plan) -> Option<Figure> {
    let mut points: Vec<(f64, f64)> = plan
        .tried
        .iter()
        .filter(|one| one.kept)
        .filter_map(|one| Some((one.tokens_per_s_per_user?, one.tokens_per_s_per_gpu?)))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    if points.len() < 2 {
        return None;
    }
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y): (f64, f64), point| (x.max(point.0), y.max(point.1)));
    Some(Figure {
        id: "user-gpu".to_owned(),
        title: "Tokens per second: a user's against a GPU's".to_owned(),
        description: "Fleets that keep the promises, by the median speed that a user sees and the output of a GPU"
            .to_owned(),
        x: Axis::linear("tokens/s that a user sees", x),
        y: Axis::linear("output tokens/s per GPU", y),
        series: vec![Series {
            label: "fleets that keep the promises".to_owned(),
            color: 1,
            style: Style::Marks,
            points,
        }],
        marks: Vec::new(),
        rug: None,
        shades: None,
    })
}
