//! The pictures of docs/oversubscribe-a-row.md, from a study that has run:
//! `cargo run --example oversubscribe -- STUDY FACTORS OUT`, where `STUDY` is the run directory of `scenarios/study/oversubscribe.yaml` (or several
//! with commas, one for each seed), `FACTORS` that of `scenarios/study/oversubscribe-factors.yaml`, and `OUT` gets an SVG and a CSV file for each picture. Curves over time and the
//! distribution of loads are of one working day, which it simulates itself.

#![allow(clippy::print_stdout, reason = "a program prints")]

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use overbook::{Experiment, Options};
use overbook_reports::figure::{Axis, Figure, Series, Shown, Style};
use overbook_reports::study::{self, Study};
use overbook_scenarios::metric::Metric;
use overbook_sim::power::figures::PowerFigures;

/// Servers of the row as it was planned.
const PLANNED: f64 = 40.0;

/// The policies, as the study names them, in the order of their figures.
const POLICIES: [&str; 4] = ["none", "one-threshold-all", "one-threshold-low", "polca"];

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [study, factors, out] = args.as_slice() else {
        return Err("usage: oversubscribe STUDY FACTORS OUT".into());
    };
    let (study, factors) = (read(study)?, read(factors)?);
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    let days = days()?;
    let figures = [
        distribution(&days),
        day(&days[1].1),
        brakes(&study),
        latencies(&study),
        throughput(&study),
        thresholds(&factors),
        peaks(&study),
    ];
    for figure in figures {
        let name = out.join(&figure.id);
        fs::write(name.with_extension("svg"), figure.svg())?;
        fs::write(name.with_extension("csv"), figure.csv())?;
        println!("{}.svg", name.display());
    }
    Ok(())
}

/// A study, or several as one.
fn read(dirs: &str) -> Result<Study, Failure> {
    let one = |dir| study::read(Path::new(dir), |name| Metric::named(name).is_some());
    let mut studies = dirs.split(',').map(one).collect::<Result<Vec<Study>, _>>()?;
    Ok(if studies.len() == 1 { studies.remove(0) } else { study::merge(&studies)? })
}

/// One working day of the row: 52 servers without a policy and with POLCA, and 40 without.
fn days() -> Result<Vec<(&'static str, PowerFigures)>, Failure> {
    let runs = [("52 servers, none", "none", 52), ("52 servers, polca", "polca", 52), ("40 servers, none", "none", 40)];
    let text = fs::read_to_string("scenarios/study/oversubscribe.yaml")?;
    let single = text.split("\nsweep:").next().unwrap_or_default();
    let run = |(name, policy, servers): (&'static str, &str, u32)| {
        let experiment = Experiment::from_text("oversubscribe", single)
            .set_yaml("workload.generate.duration", "24h")
            .set_yaml("power", policy)
            .set("fleet.replicas", servers)?;
        let outcome = experiment.run(&Options::default())?;
        let power = outcome.summary.power.ok_or("the scenario counts no watts")?;
        Ok((name, power.figures))
    };
    runs.into_iter().map(run).collect()
}

fn figure(id: &str, title: &str, (x, y): (Axis, Axis), series: Vec<Series>) -> Figure {
    let description = series.iter().map(|series| series.label.clone()).collect::<Vec<_>>().join("; ");
    Figure {
        id: id.to_owned(),
        title: title.to_owned(),
        description,
        x,
        y,
        series,
        marks: vec![],
        rug: None,
        shades: None,
        limits: vec![],
        notes: vec![],
    }
}

fn series(label: &str, color: usize, style: Style, points: Vec<(f64, f64)>) -> Series {
    Series { label: label.to_owned(), color: color as u8, style, points }
}

/// A share of the budget in percent.
fn percent_axis(label: &str, from: f64, to: f64) -> Axis {
    let ticks = (0..=((to - from) / 10.0) as u32).map(|n| from + 10.0 * f64::from(n));
    let ticks = ticks.map(|value| (value, format!("{value:.0} %"))).collect();
    Axis { label: label.to_owned(), from, to, log: false, ticks, below: None, shown: Shown::Number }
}

/// Share of the day below each load.
fn distribution(days: &[(&str, PowerFigures)]) -> Figure {
    let curve = |(at, (name, figures)): (usize, &(&str, PowerFigures))| {
        let points = (300..=1150).map(|load| {
            let load = f64::from(load) / 1000.0;
            let above = figures.row.above(overbook_sim::power::share::Share::from_f64(load)).as_secs_f64();
            (100.0 * load, 1.0 - above / figures.row.span.as_secs_f64())
        });
        let points: Vec<(f64, f64)> = points.step_by(5).collect();
        series(name, [2, 1, 6][at], Style::Steps, points)
    };
    let series = days.iter().enumerate().map(curve).collect();
    let axes = (percent_axis("load, of the row's budget", 30.0, 115.0), Axis::share("of the day below that load"));
    figure("load-distribution", "Load of the row over a working day", axes, series)
}

/// Power of one day against budget and thresholds, each stretch with its highest reading.
fn day(figures: &PowerFigures) -> Figure {
    let budget = figures.budget.as_watts_f64();
    let load = |watts: f64| 100.0 * watts / budget;
    let bins: Vec<_> = figures.curve.bins().collect();
    let end = figures.row.span.as_secs_f64();
    let curve = |value: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
        (0..bins.len()).map(|at| (bins[at].from.as_secs_f64(), value(at))).collect()
    };
    let level = |at: f64| vec![(0.0, at), (end, at)];
    let mut all = vec![
        series("mean", 1, Style::Area, curve(&|at| load(bins[at].mean.as_watts_f64()))),
        series("highest reading", 2, Style::Steps, curve(&|at| load(bins[at].peak.as_watts_f64()))),
        series("budget", 6, Style::Steps, level(100.0)),
    ];
    for threshold in &figures.thresholds {
        let at = 100.0 * threshold.as_f64();
        all.push(series(&format!("threshold {at:.0} %"), 4, Style::Steps, level(at)));
    }
    let axes = (Axis::time(end), percent_axis("load, of the row's budget", 30.0, 110.0));
    figure("day", "52 servers under POLCA, one working day", axes, all)
}

/// The mean over seeds of a metric at each number of servers, under one policy.
fn by_servers(study: &Study, policy: &str, metric: &str) -> Vec<(f64, f64)> {
    let axis = |name: &str| study.axes.iter().position(|axis| axis == name);
    let (Some(servers), Some(power)) = (axis("fleet.replicas"), axis("power")) else { return Vec::new() };
    let Some(column) = study.metrics.iter().position(|name| name == metric) else { return Vec::new() };
    let mut sums: Vec<(f64, f64, f64)> = Vec::new();
    for point in study.points.iter().filter(|point| point.coordinates[power] == policy) {
        let (Ok(at), Some(value)) = (point.coordinates[servers].parse::<f64>(), point.values[column]) else { continue };
        match sums.iter_mut().find(|sum| (sum.0 - at).abs() < 0.5) {
            Some(sum) => *sum = (at, sum.1 + value, sum.2 + 1.0),
            None => sums.push((at, value, 1.0)),
        }
    }
    sums.sort_by(|a, b| a.0.total_cmp(&b.0));
    sums.into_iter().map(|(at, sum, n)| (at, sum / n)).collect()
}

/// Added servers, of those planned [%].
fn added(servers: f64) -> f64 {
    (servers / PLANNED - 1.0) * 100.0
}

fn added_axis() -> Axis {
    let ticks = [0, 10, 20, 30, 35, 40].map(|n| (f64::from(n), format!("+{n} %")));
    Axis {
        label: "servers beyond the 40 of the plan".into(),
        from: -1.0,
        to: 41.0,
        log: false,
        ticks: ticks.into(),
        below: None,
        shown: Shown::Number,
    }
}

/// Values relative to those of the planned row without a policy.
fn relative(study: &Study, policy: &str, metric: &str, each: bool) -> Vec<(f64, f64)> {
    let base = by_servers(study, "none", metric).first().map_or(
        f64::NAN,
        |&(servers, value)| {
            if each { value / servers } else { value }
        },
    );
    let of = |(servers, value): (f64, f64)| (added(servers), if each { value / servers } else { value } / base);
    by_servers(study, policy, metric).into_iter().map(of).collect()
}

/// Brakes by policy; none is drawn at the foot.
fn brakes(study: &Study) -> Figure {
    const FOOT: f64 = 0.3;
    let curve = |(at, policy): (usize, &&str)| {
        let points = by_servers(study, policy, "power_brakes");
        let points = points.into_iter().map(|(servers, brakes)| (added(servers), brakes.max(FOOT))).collect();
        series(policy, [2, 4, 3, 1][at], Style::Dots, points)
    };
    let series: Vec<Series> = POLICIES.iter().enumerate().map(curve).collect();
    let ticks = [(FOOT, "0"), (1.0, "1"), (10.0, "10"), (100.0, "100"), (1000.0, "1,000"), (10_000.0, "10,000")];
    let ticks = ticks.map(|(value, text)| (value, text.to_owned())).into();
    let y = Axis {
        label: "brakes, mean over seeds".into(),
        from: FOOT,
        to: 10_000.0,
        log: true,
        ticks,
        below: None,
        shown: Shown::Number,
    };
    figure("brakes", "Power brakes by added servers", (added_axis(), y), series)
}

/// An axis of values relative to a baseline that holds them all.
fn relative_axis(label: &str, all: &[Series]) -> Axis {
    let most = all.iter().flat_map(|series| &series.points).map(|point| point.1).fold(1.0, f64::max);
    let least = all.iter().flat_map(|series| &series.points).map(|point| point.1).fold(1.0, f64::min);
    if most > 3.0 {
        // A row that brakes without end: times, not percent.
        let ticks = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0].map(|value| (value, format!("{value:.0}"))).into();
        return Axis {
            label: label.to_owned(),
            from: least.min(0.95),
            to: most.max(100.0),
            log: true,
            ticks,
            below: None,
            shown: Shown::Number,
        };
    }
    let step = if most - least > 0.5 { 0.25 } else { 0.05 };
    let (from, to) = ((least / step).floor() * step, (most / step).ceil() * step);
    let ticks = (0..=((to - from) / step + 0.5) as u32).map(|n| from + step * f64::from(n));
    let ticks = ticks.map(|value| (value, format!("{value:.2}"))).collect();
    Axis { label: label.to_owned(), from, to, log: false, ticks, below: None, shown: Shown::Number }
}

/// Latencies of each priority under POLCA, by those of the planned row.
fn latencies(study: &Study) -> Figure {
    let of = [
        ("high priority, p50", "high_e2el_p50", 1),
        ("high priority, p99", "high_e2el_p99", 7),
        ("low priority, p50", "low_e2el_p50", 2),
        ("low priority, p99", "low_e2el_p99", 8),
    ];
    let series: Vec<Series> = of
        .into_iter()
        .map(|(label, metric, color)| series(label, color, Style::Dots, relative(study, "polca", metric, false)))
        .collect();
    let y = relative_axis("end-to-end latency ÷ that of 40 servers", &series);
    figure("latency", "Latencies under POLCA", (added_axis(), y), series)
}

/// Output tokens of each priority and server, by those of the planned row.
fn throughput(study: &Study) -> Figure {
    let mut all = Vec::new();
    for (at, policy) in POLICIES.iter().enumerate() {
        for (priority, metric, again) in [("high", "high_throughput", 0), ("low", "low_throughput", 6)] {
            let points = relative(study, policy, metric, true);
            all.push(series(&format!("{policy}, {priority}"), [2, 4, 3, 1][at] + again, Style::Dots, points));
        }
    }
    let y = relative_axis("output tokens per second and server ÷ those of 40 servers", &all);
    figure("throughput", "Throughput of each priority", (added_axis(), y), all)
}

/// What pairs of thresholds do at 30 % more servers.
fn thresholds(factors: &Study) -> Figure {
    let pairs = ["70/80", "75/85", "80/89", "85/95", "auto"];
    let column = |metric: &str| factors.metrics.iter().position(|name| name == metric);
    let value = |pair: &str, metric: &str| {
        let wanted = format!("thresholds {pair}");
        let wanted = if pair == "80/89" { "published".to_owned() } else { wanted };
        let point = factors.points.iter().find(|point| point.coordinates.contains(&wanted))?;
        point.values[column(metric)?]
    };
    let line = |label: &str, color: usize, metric: &str| {
        let points = (0u32..).zip(pairs).filter_map(|(at, pair)| Some((f64::from(at), value(pair, metric)?)));
        series(label, color, Style::Dots, points.collect())
    };
    let all = vec![
        line("low priority, share of the time below full clock", 2, "power_capped_low"),
        line("high priority", 1, "power_capped_high"),
        line("highest load ÷ budget", 6, "power_load_peak"),
    ];
    let most = all.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max);
    let axes = (Axis::names("thresholds, % of the budget", &pairs), Axis::linear("share", most));
    figure("thresholds", "Thresholds at 30 % more servers", axes, all)
}

/// The highest load by added servers.
fn peaks(study: &Study) -> Figure {
    let curve = |(at, policy): (usize, &&str)| {
        let points = by_servers(study, policy, "power_load_peak");
        let points = points.into_iter().map(|(servers, load)| (added(servers), 100.0 * load)).collect();
        series(policy, [2, 4, 3, 1][at], Style::Dots, points)
    };
    let series: Vec<Series> = POLICIES.iter().enumerate().map(curve).collect();
    let axes = (added_axis(), percent_axis("highest reading, of the budget", 70.0, 120.0));
    figure("peaks", "Peak of the row by added servers", axes, series)
}
