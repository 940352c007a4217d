//! Figures of a plan.

use super::{LoadPoint, Plan, Tried};
use crate::figure::{Axis, Figure, Limit, Mark, Series, Style};
use crate::format::number;

/// Lines of a figure at most.
const LINES: usize = 6;

/// Latency against load with the bounds, and cost against promise.
pub(super) fn figures(plan: &Plan) -> Vec<Figure> {
    let mut all = Vec::new();
    all.extend(latency(plan, "ttft-load", "Time to first token against load", "ttft", |p| (p.ttft_p50, p.ttft_p99)));
    all.extend(latency(plan, "tpot-load", "Time per output token against load", "tpot", |p| (p.tpot_p50, p.tpot_p99)));
    all.extend(super::split::figure(plan));
    all.extend(pareto(plan));
    all.extend(watts(plan));
    all.extend(speeds(plan));
    all
}

/// The bounds of a metric among the promises, as the answer's lines say them: `TTFT p99 ≤ 2 s` has 2.
fn bounds(plan: &Plan, metric: &str) -> Vec<Limit> {
    let lines = plan.promises.iter().filter(|line| line.to_lowercase().starts_with(metric));
    let limit = |line: &String| {
        let (_, value) = line.rsplit_once("≤ ")?;
        let (number, unit) = value.trim().split_once(' ')?;
        let scale = match unit {
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" => 1e-6,
            "min" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        Some(Limit { y: number.replace(',', "").parse::<f64>().ok()? * scale, label: line.clone() })
    };
    lines.filter_map(limit).collect()
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
    let series = vec![
        Series { label: "median".to_owned(), color: 1, style: Style::Dots, points: median },
        Series { label: "99th percentile".to_owned(), color: 2, style: Style::Dots, points: tail },
    ];
    let limits = bounds(plan, metric);
    let top = limits.iter().map(|limit| limit.y).fold(most, f64::max);
    let note = |point: &LoadPoint| {
        let kept = if point.kept { "" } else { ", promises missed" };
        format!("{} requests/s{kept}", number(point.requests_per_s))
    };
    // A point without a value is not drawn.
    let notes =
        |pick: fn(Latencies) -> Option<f64>| plan.curve.iter().filter(|p| pick(of(p)).is_some()).map(note).collect();
    let notes = vec![notes(|pair| pair.0), notes(|pair| pair.1)];
    let today = Mark { x: 1.0, label: "today".to_owned(), color: 3 };
    let knee = plan.headroom.first().map(|one| Mark {
        x: one.factor,
        label: format!("holds until {:.2}×", one.factor),
        color: 4,
    });
    let y = Axis::log_time("logarithmic", least.min(top), top);
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
        limits,
        notes,
    })
}

/// Fleets whose trial ended, by what they cost and how near they come to the promise.
fn pareto(plan: &Plan) -> Option<Figure> {
    let priced = !plan.tried.is_empty() && plan.tried.iter().all(|one| one.usd_per_hour.is_some());
    let cost = |one: &Tried| one.usd_per_hour.filter(|_| priced).unwrap_or(f64::from(one.gpus));
    let axis = if priced { "dollars an hour" } else { "GPUs" };
    against(plan, ("cost-promise", "Cost against promise", axis), &cost)
}

/// The same by what their servers draw.
fn watts(plan: &Plan) -> Option<Figure> {
    let counted = !plan.tried.is_empty() && plan.tried.iter().all(|one| one.kw_mean.is_some());
    let draw = |one: &Tried| one.kw_mean.unwrap_or(0.0);
    let names = ("watts-promise", "Watts against promise", "kW of the servers, mean");
    counted.then(|| against(plan, names, &draw))?
}

fn against(plan: &Plan, (id, title, axis): (&str, &str, &str), cost: &dyn Fn(&Tried) -> f64) -> Option<Figure> {
    let mut series: Vec<Series> = Vec::new();
    let mut notes: Vec<Vec<String>> = Vec::new();
    let mut tried: Vec<&Tried> = plan.tried.iter().collect();
    tried.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    for one in tried {
        let point = (cost(one), one.nearest_to_bound.min(3.0));
        let known = series.iter().position(|line| line.label == one.shape);
        match known {
            Some(at) => {
                series[at].points.push(point);
                notes[at].push(fleet(one));
            }
            None if series.len() < LINES => {
                let (color, points) = (series.len() as u8 + 1, vec![point]);
                series.push(Series { label: one.shape.clone(), color, style: Style::Marks, points });
                notes.push(vec![fleet(one)]);
            }
            None => {}
        }
    }
    let most = plan.tried.iter().map(cost).fold(0.0, f64::max);
    if series.iter().map(|line| line.points.len()).sum::<usize>() < 2 {
        return None;
    }
    let top = plan.tried.iter().map(|one| one.nearest_to_bound.min(3.0)).fold(1.0, f64::max);
    Some(Figure {
        id: id.to_owned(),
        title: title.to_owned(),
        description: "What fleets take, and their figure nearest to its bound over that bound: below 1 the promises are kept; the ledger \
                      has the numbers"
            .to_owned(),
        x: Axis::linear(axis, most),
        y: Axis::linear("figure ÷ bound, at most 3 shown", top),
        series,
        marks: Vec::new(),
        rug: None,
        shades: None,
        limits: vec![Limit { y: 1.0, label: "the promise".to_owned() }],
        notes,
    })
}

/// What a pointer reads of a fleet.
fn fleet(one: &Tried) -> String {
    let price = one.usd_per_hour.map_or_else(String::new, |usd| format!(", ${} an hour", number(usd)));
    format!("{}: {} GPUs, replicas {}{price}", one.shape, one.gpus, one.replicas)
}

/// Dollars of a million output tokens of a fleet while the load lasts.
fn per_mtoken(one: &Tried) -> Option<f64> {
    let tokens = one.tokens_per_s_per_gpu? * f64::from(one.gpus) * 3600.0;
    (tokens > 0.0).then(|| one.usd_per_hour.map(|usd| usd / tokens * 1e6))?
}

/// Energy of a fleet's servers for a thousand output tokens [kJ].
fn kilojoules(one: &Tried) -> Option<f64> {
    let tokens = one.tokens_per_s_per_gpu? * f64::from(one.gpus);
    (tokens > 0.0).then(|| one.kw_mean.map(|kw| kw * 1e3 / tokens))?
}

/// What a user sees against what a GPU gives, and against what a million tokens cost.
fn speeds(plan: &Plan) -> Vec<Figure> {
    let gpu =
        speed(plan, "user-gpu", ("Tokens per second: a user's against a GPU's", "output tokens/s per GPU"), |one| {
            one.tokens_per_s_per_gpu
        });
    let usd = speed(
        plan,
        "user-dollar",
        ("A user's tokens per second against money", "$ per million output tokens"),
        per_mtoken,
    );
    let watt = speed(
        plan,
        "user-watt",
        ("A user's tokens per second against energy", "kJ of the servers per 1,000 output tokens"),
        kilojoules,
    );
    gpu.into_iter().chain(usd).chain(watt).collect()
}

fn speed(plan: &Plan, id: &str, (title, label): (&str, &str), of: fn(&Tried) -> Option<f64>) -> Option<Figure> {
    let group = |kept: bool| {
        let mut found: Vec<(f64, f64, String)> = plan
            .tried
            .iter()
            .filter(|one| one.kept == kept)
            .filter_map(|one| Some((one.tokens_per_s_per_user?, of(one)?, fleet(one))))
            .collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        found
    };
    let groups = [("keep the promises", 1, group(true)), ("miss a promise", 2, group(false))];
    let all = || groups.iter().flat_map(|(.., found)| found);
    if all().count() < 2 {
        return None;
    }
    let (x, y) = all().fold((0.0, 0.0), |(x, y): (f64, f64), point| (x.max(point.0), y.max(point.1)));
    let filled = || groups.iter().filter(|(.., found)| !found.is_empty());
    let series = filled().map(|(label, color, found)| Series {
        label: (*label).to_owned(),
        color: *color,
        style: Style::Marks,
        points: found.iter().map(|point| (point.0, point.1)).collect(),
    });
    Some(Figure {
        id: id.to_owned(),
        title: title.to_owned(),
        description: format!("Fleets by the median speed that a user sees, and {label}"),
        x: Axis::linear("tokens/s that the median user sees", x),
        y: Axis::linear(label, y),
        series: series.collect(),
        marks: Vec::new(),
        rug: None,
        shades: None,
        limits: vec![],
        notes: filled().map(|(.., found)| found.iter().map(|point| point.2.clone()).collect()).collect(),
    })
}
