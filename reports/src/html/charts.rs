//! The figures of a run's page.

use overbook_sim::results::histogram::Histogram;
use overbook_sim::results::summary::Batches;
use overbook_sim::results::timeline::Bin;
use overbook_sim::time::Span;

use crate::figure::{Axis, Figure, Limit, Mark, Rug, Series, Shown, Style};
use crate::format::{self, Unit, count, number};
use crate::report::{Report, Side};

/// Points of a curve over time: more cannot be distinguished on the page.
const POINTS: usize = 240;
/// Points of a rate: fewer, since a bin with few arrivals shows noise.
const RATE_POINTS: usize = 96;
/// Points of a distribution function.
const ECDF_POINTS: f64 = 400.0;
/// Bars of a distribution of sizes, at most.
const BATCH_BARS: u64 = 64;

/// Load over time: rates, queue, KV use. Empty if nothing happened.
pub(super) fn over_time(report: &Report) -> Vec<Figure> {
    let bins: Vec<Bin> = report.timeline.bins(report.summary.last_end).collect();
    if bins.is_empty() {
        return Vec::new();
    }
    let mut figures: Vec<Figure> =
        [Some(rates(&bins)), first_tokens(report, &bins), Some(queue(&bins)), Some(kv(report, &bins))]
            .into_iter()
            .flatten()
            .collect();
    figures.extend(crate::power::over_time(&report.summary));
    let shades = crate::outages::shades(&report.summary);
    for figure in &mut figures {
        if let Some((shades, words)) = &shades {
            figure.shades = Some(shades.clone());
            figure.description = format!("{} {words}", figure.description);
        }
        if let Some(zero) = report.clock {
            figure.x = Axis::clock(zero, figure.x.to);
        }
    }
    figures
}

/// A curve over time: the value of every group of about `bins / points` bins, held until the next.
fn over_bins(bins: &[Bin], points: usize, value: impl Fn(&[Bin]) -> f64) -> Vec<(f64, f64)> {
    let groups = bins.chunks(bins.len().div_ceil(points));
    let mut curve: Vec<(f64, f64)> = groups.map(|group| (group[0].from.as_secs_f64(), value(group))).collect();
    if let (Some(bin), Some(&(_, last))) = (bins.last(), curve.last()) {
        curve.push((bin.to.as_secs_f64(), last));
    }
    curve
}

fn length(group: &[Bin]) -> f64 {
    group.iter().map(Bin::seconds).sum()
}

fn mean(group: &[Bin], level: impl Fn(&Bin) -> f64) -> f64 {
    group.iter().map(|bin| level(bin) * bin.seconds()).sum::<f64>() / length(group)
}

fn highest(series: &[Series]) -> f64 {
    series.iter().flat_map(|s| &s.points).map(|&(_, y)| y).fold(0.0, f64::max)
}

fn time_axis(bins: &[Bin]) -> Axis {
    Axis::time(bins.last().map_or(0.0, |bin| bin.to.as_secs_f64()))
}

fn series(label: &str, color: u8, style: Style, points: Vec<(f64, f64)>) -> Series {
    Series { label: label.to_owned(), color, style, points }
}

/// Where the curve is highest, in words.
fn peak(series: &Series) -> String {
    let top = series.points.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    top.map_or_else(String::new, |&(x, y)| {
        format!("{} peaks at {} at {}.", series.label, number(y), format::seconds(x))
    })
}

fn rates(bins: &[Bin]) -> Figure {
    let rate = |n: fn(&Bin) -> u64| {
        over_bins(bins, RATE_POINTS, |group| group.iter().map(n).sum::<u64>() as f64 / length(group))
    };
    let curves = vec![
        series("arriving", 1, Style::Area, rate(|bin| bin.arrivals)),
        series("ending", 2, Style::Steps, rate(|bin| bin.finished)),
    ];
    Figure {
        id: "rates".into(),
        title: "Requests per second".into(),
        description: format!("Rates over time. {} {}", peak(&curves[0]), peak(&curves[1])),
        x: time_axis(bins),
        y: Axis::linear("requests/s", highest(&curves)),
        series: curves,
        marks: vec![],
        rug: None,
        shades: None,
        limits: vec![],
        notes: vec![],
    }
}

/// Mean times to first token over time, with the targets and the worst stretches; `None` if no token came.
fn first_tokens(report: &Report, bins: &[Bin]) -> Option<Figure> {
    // Where no first token came, nothing is known: the curve has no point.
    let group = |group: &[Bin]| {
        let tokens: u64 = group.iter().map(|bin| bin.first_tokens).sum();
        let seconds: f64 = group.iter().filter_map(|bin| Some(bin.ttft_mean? * bin.first_tokens as f64)).sum();
        let middle = f64::midpoint(group[0].from.as_secs_f64(), group[group.len() - 1].to.as_secs_f64());
        (tokens > 0).then(|| (middle, seconds / tokens as f64))
    };
    let points: Vec<(f64, f64)> = bins.chunks(bins.len().div_ceil(POINTS)).filter_map(group).collect();
    let top = points.iter().map(|point| point.1).fold(0.0, f64::max);
    if points.is_empty() || top <= 0.0 {
        return None;
    }
    let targets = report.verdicts.iter().filter(|verdict| verdict.metric.starts_with("ttft_"));
    let mut limits: Vec<Limit> = targets
        .map(|verdict| Limit { y: verdict.target, label: format!("{} {}", verdict.label(), verdict.target_text()) })
        .collect();
    if let Some(promise) = report.summary.slo.ttft {
        let limit = promise.as_secs_f64();
        limits.push(Limit { y: limit, label: format!("TTFT ≤ {}", Unit::Seconds.short(limit)) });
    }
    let worst = crate::worst::of(&report.timeline, report.summary.last_end);
    let marks = worst.first().map(|one| Mark {
        x: f64::midpoint(one.from, one.to),
        label: format!("worst: {}, mean {}", crate::worst::when(one, report.clock), format::seconds(one.ttft)),
        color: 2,
    });
    let low = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let top = limits.iter().map(|limit| limit.y).fold(top, f64::max);
    let curve = series("mean of the first tokens that came then", 2, Style::Line, points);
    // Bursts and targets lie far above quiet hours.
    let y = if top > 20.0 * low && low > 0.0 {
        Axis::log_time("logarithmic", low, top)
    } else {
        Axis::linear("s", top).shown(Shown::Seconds)
    };
    Some(Figure {
        id: "first-tokens".into(),
        title: "Time to first token".into(),
        description: format!("Mean over time, without the front end's share. {}", peak(&curve)),
        x: time_axis(bins),
        y,
        series: vec![curve],
        marks: marks.into_iter().collect(),
        rug: None,
        shades: None,
        limits,
        notes: vec![],
    })
}

fn queue(bins: &[Bin]) -> Figure {
    let level = |level: fn(&Bin) -> f64| over_bins(bins, POINTS, |group| mean(group, level));
    let curves = vec![
        series("running", 1, Style::Area, level(|bin| bin.running)),
        series("waiting", 2, Style::Steps, level(|bin| bin.waiting)),
    ];
    Figure {
        id: "queue".into(),
        title: "Running and waiting requests".into(),
        description: format!("All replicas together. {} {}", peak(&curves[0]), peak(&curves[1])),
        x: time_axis(bins),
        y: Axis::linear("requests", highest(&curves)),
        series: curves,
        marks: vec![],
        rug: None,
        shades: None,
        limits: vec![],
        notes: vec![],
    }
}

fn kv(report: &Report, bins: &[Bin]) -> Figure {
    let blocks = report.summary.fleet.blocks.max(1) as f64;
    let used = over_bins(bins, POINTS, |group| mean(group, |bin| bin.used_blocks) / blocks);
    let most = bins.iter().map(|bin| bin.preempted).max().unwrap_or(0).max(1) as f64;
    let middle = |bin: &Bin| f64::midpoint(bin.from.as_secs_f64(), bin.to.as_secs_f64());
    let preempting = bins.iter().filter(|bin| bin.preempted > 0);
    let ticks = preempting.map(|bin| (middle(bin), 0.35 + 0.65 * bin.preempted as f64 / most)).collect();
    let preemptions = report.summary.work.preemptions;
    let load = &report.summary.load;
    Figure {
        id: "kv".into(),
        title: "KV blocks in use".into(),
        description: format!(
            "Share of {} KV blocks in use: {} on average, {} in the fullest pool. {} preemptions.",
            count(blocks),
            Unit::Share.show(load.kv_usage_mean),
            Unit::Share.show(load.kv_usage_max),
            count(preemptions as f64)
        ),
        x: time_axis(bins),
        y: Axis::share_up_to(&format!("of {} blocks", count(blocks)), used.iter().fold(0.0, |most, p| most.max(p.1))),
        series: vec![series("in use", 3, Style::Area, used)],
        marks: vec![],
        shades: None,
        limits: vec![],
        notes: vec![],
        rug: (preemptions > 0).then(|| Rug { label: format!("preemptions ({})", count(preemptions as f64)), ticks }),
    }
}

/// Latencies as distribution functions; `None` if there are none.
pub(super) fn distribution(report: &Report) -> Option<Figure> {
    let summary = &report.summary;
    let latencies = [
        ("TTFT", 1, &summary.latencies.ttft),
        ("TPOT", 2, &summary.latencies.tpot),
        ("ITL", 4, &summary.itl),
        ("E2EL", 3, &summary.latencies.e2el),
    ];
    let filled = || latencies.iter().filter(|(_, _, histogram)| histogram.count() > 0);
    // One early straggler must not stretch the axis: it starts where a thousandth of a curve lies.
    let low = filled().filter_map(|(_, _, h)| h.quantile(0.001)).filter(|&ns| ns > 0).min()?;
    let marks = marks(report);
    let furthest = marks.iter().map(|mark| mark.x).fold(0.0, f64::max);
    let nearest = marks.iter().map(|mark| mark.x).fold(f64::INFINITY, f64::min);
    let high = filled().filter_map(|(_, _, h)| h.max()).max()?;
    let axis = Axis::log_time("latency", (low as f64 / 1e9).min(nearest), (high as f64 / 1e9).max(furthest));
    let curve =
        |&(name, color, histogram): &(&str, u8, &Histogram)| series(name, color, Style::Steps, ecdf(histogram, &axis));
    let series: Vec<Series> = filled().map(curve).collect();
    let words = |(name, _, h): &(&str, u8, &Histogram)| {
        let at = |p| h.quantile(p).map_or_else(String::new, |ns| format::seconds(ns as f64 / 1e9));
        format!("{name}: half within {}, 99 % within {}.", at(0.5), at(0.99))
    };
    Some(Figure {
        id: "latency".into(),
        title: "Share served within a time".into(),
        description: filled().map(words).collect::<Vec<_>>().join(" "),
        y: Axis::share("of requests (ITL: of gaps)"),
        series,
        x: axis,
        marks,
        rug: None,
        shades: None,
        limits: vec![],
        notes: vec![],
    })
}

/// Batch sizes and step times. Empty if there was no step.
pub(super) fn steps(report: &Report) -> Vec<Figure> {
    let Batches { seqs, time, .. } = &report.summary.batches;
    batch_sizes(seqs).into_iter().chain(step_times(time)).collect()
}

/// Share of the steps by their number of sequences.
fn batch_sizes(seqs: &Histogram) -> Option<Figure> {
    let (mean, most) = (seqs.mean()?, seqs.max()?);
    let axis = Axis::linear("sequences per step", most as f64);
    let width = (most + 1).div_ceil(BATCH_BARS).max(1);
    let mut bars = vec![0u64; (most / width + 1) as usize];
    for (size, n) in seqs.iter() {
        bars[(size / width) as usize] += n;
    }
    let total = seqs.count() as f64;
    let bar = |(i, &n): (usize, &u64)| ((i as u64 * width) as f64, n as f64 / total);
    let mut points: Vec<(f64, f64)> = bars.iter().enumerate().map(bar).collect();
    points.push(((bars.len() as u64 * width) as f64, 0.0));
    let highest = points.iter().fold(0.0f64, |most, p| most.max(p.1));
    let unit = if width == 1 { "of steps".to_owned() } else { format!("of steps, by {width} sequences") };
    let at = |p| seqs.quantile(p).map_or_else(String::new, |size| count(size as f64));
    Some(Figure {
        id: "batch".into(),
        title: "Batch size".into(),
        description: format!(
            "Sequences in a step: {} on average, {} in half of the steps or fewer, at most {}.",
            number(mean),
            at(0.5),
            count(most as f64)
        ),
        x: axis,
        y: Axis::share_up_to(&unit, highest),
        series: vec![series("steps", 1, Style::Area, points)],
        marks: vec![Mark { x: mean, label: format!("mean {}", number(mean)), color: 1 }],
        rug: None,
        shades: None,
        limits: vec![],
        notes: vec![],
    })
}

/// Share of the steps within a time.
fn step_times(time: &Histogram) -> Option<Figure> {
    let low = time.quantile(0.001).filter(|&ns| ns > 0)?;
    let axis = Axis::log_time("step time", low as f64 / 1e9, time.max()? as f64 / 1e9);
    let at = |p| time.quantile(p).map_or_else(String::new, |ns| format::seconds(ns as f64 / 1e9));
    let mark = |p: f64, name: &str| {
        let ns = time.quantile(p)?;
        Some(Mark { x: ns as f64 / 1e9, label: format!("{name} {}", at(p)), color: 6 })
    };
    Some(Figure {
        id: "step-time".into(),
        title: "Steps done within a time".into(),
        description: format!("Step times: half within {}, 99 % within {}.", at(0.5), at(0.99)),
        y: Axis::share("of steps"),
        series: vec![series("steps", 6, Style::Steps, ecdf(time, &axis))],
        x: axis,
        marks: [mark(0.5, "p50"), mark(0.99, "p99")].into_iter().flatten().collect(),
        rug: None,
        shades: None,
        limits: vec![],
        notes: vec![],
    })
}

/// Points of the distribution function that can be distinguished on the axis.
fn ecdf(histogram: &Histogram, axis: &Axis) -> Vec<(f64, f64)> {
    let total = histogram.count() as f64;
    let (mut points, mut seen, mut last) = (vec![(axis.from, 0.0)], 0u64, 0u32);
    for (ns, n) in histogram.iter() {
        seen += n;
        let (x, y) = (ns as f64 / 1e9, seen as f64 / total);
        let pixel = (axis.place(x) * ECDF_POINTS) as u32;
        match points.last_mut() {
            Some(point) if pixel == last => *point = (point.0, y),
            _ => points.push((x, y)),
        }
        last = pixel;
    }
    points
}

/// Limits on latencies: promises per request, and targets for percentiles.
fn marks(report: &Report) -> Vec<Mark> {
    let colors = [("ttft", "TTFT", 1), ("tpot", "TPOT", 2), ("itl", "ITL", 4), ("e2el", "E2EL", 3)];
    let slo = report.summary.slo;
    let promised = |name: &str| match name {
        "ttft" => slo.ttft,
        "tpot" => slo.tpot,
        "e2el" => slo.e2el,
        _ => None,
    };
    let mut marks = Vec::new();
    for (metric, name, color) in colors {
        let targets = report.verdicts.iter().filter(|v| v.side == Side::AtMost && v.metric.starts_with(metric));
        let mut limits: Vec<(f64, String)> =
            targets.map(|v| (v.target, format!("{} {}", v.label(), v.target_text()))).collect();
        let promise = promised(name.to_lowercase().as_str()).map(Span::as_secs_f64);
        // A promise at the same place as a target is one line, not two.
        if let Some(limit) = promise.filter(|limit| limits.iter().all(|(x, _)| (x - limit).abs() > 1e-9 * limit)) {
            limits.push((limit, format!("{name} ≤ {}", format::seconds(limit))));
        }
        marks.extend(limits.into_iter().map(|(x, label)| Mark { x, label, color }));
    }
    marks
}
