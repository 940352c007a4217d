//! The power of the row: lines on the terminal, charts and a table of the page, an entry of `summary.json`. All are empty where watts are
//! not counted.

use overbook_sim::power::curve::CurveBin;
use overbook_sim::power::figures::{PowerFigures, Priority};
use overbook_sim::power::share::Share;
use overbook_sim::power::{Energy, MilliWatts};
use overbook_sim::results::economics::KWH;
use overbook_sim::results::summary::{PowerSummary, Served, Summary};
use overbook_sim::time::Span;

use crate::figure::{Axis, Figure, Series, Style};
use crate::format::{Unit, count, number, seconds};
use crate::json::Json;
use crate::table::Table;

fn kilowatts(power: MilliWatts) -> String {
    format!("{} kW", number(power.as_watts_f64() / 1e3))
}

fn kwh(energy: Energy) -> String {
    format!("{} kWh", number(energy.as_joules_f64() / KWH))
}

fn share(share: f64) -> String {
    Unit::Share.show(share)
}

fn times(n: u64) -> String {
    if n == 1 { "once".to_owned() } else { format!("{} times", count(n as f64)) }
}

fn load(figures: &PowerFigures, power: MilliWatts) -> String {
    share(Share::of(power, figures.budget).as_f64())
}

/// The lines on the terminal: (heading, text).
pub(crate) fn lines(summary: &Summary) -> Vec<(&'static str, String)> {
    let Some(PowerSummary { figures, .. }) = summary.power.as_deref() else { return Vec::new() };
    let row = &figures.row;
    let mut lines = vec![(
        "power",
        format!(
            "mean {} of {}, peak {} ({} of the budget); policy {}",
            kilowatts(row.mean()),
            kilowatts(figures.budget),
            kilowatts(row.peak),
            load(figures, row.peak),
            figures.policy
        ),
    )];
    let control = &figures.control;
    let capped = |name: &str, priority: &Priority| {
        priority
            .capped_share(row.span)
            .map(|part| format!("{name} priority {} of the time below full clock", share(part)))
    };
    let capped: Vec<String> =
        [capped("low", &figures.low), capped("high", &figures.high)].into_iter().flatten().collect();
    let limited = if figures.limited > 0.0 {
        format!("; GPUs at their power limit {} of the time", share(figures.limited))
    } else {
        String::new()
    };
    lines.push((
        "clocks",
        format!("{}; {} commands, {}{limited}", capped.join(", "), count(control.commands as f64), cycles(figures)),
    ));
    let over = &row.excursions;
    let brakes = format!("braked {}", times(control.brakes));
    let told = if over.count == 0 {
        format!("{brakes}, never above the budget")
    } else {
        format!(
            "{brakes}; above the budget {}, {} in all, longest {}, at most {} over",
            times(over.count),
            seconds(over.all.span.as_secs_f64()),
            seconds(over.longest.as_secs_f64()),
            kilowatts(over.all.most)
        )
    };
    lines.push(("brakes", told));
    if row.breaker.1 > 0 {
        lines.push(("breaker", format!("would have tripped {}: the run went on", times(row.breaker.1))));
    }
    if let Some(overloads) = row.overloads.filter(|overloads| *overloads > 0) {
        lines.push(("supply", format!("overloaded {}: the run went on", times(overloads))));
    }
    if figures.thresholds.is_empty() && !["none", "power-cap"].contains(&figures.policy) {
        lines.push((
            "thresholds",
            "none: the run ended while `auto` still watched, and nothing but the brake acted".to_owned(),
        ));
    }
    lines
}

fn cycles(figures: &PowerFigures) -> String {
    let control = &figures.control;
    let each = control.cycle.map_or(String::new(), |cycle| format!(", one every {}", seconds(cycle.as_secs_f64())));
    format!("slowed down {}{each}", times(control.cycles))
}

/// The page's table.
pub(crate) fn table(summary: &Summary) -> Table {
    let mut table = Table {
        title: "Power".to_owned(),
        header: ["Figure", "Value"].map(str::to_owned).into(),
        rows: Vec::new(),
        note: String::new(),
    };
    let Some(PowerSummary { figures, low, high }) = summary.power.as_deref() else { return table };
    let row = &figures.row;
    let mut add = |name: &str, value: String| table.rows.push(vec![name.to_owned(), value]);
    add("Budget; rated for", format!("{}; {}", kilowatts(figures.budget), kilowatts(figures.rated)));
    add("Mean, peak", format!("{}, {}", kilowatts(row.mean()), kilowatts(row.peak)));
    add(
        "Load: median, p99, peak",
        format!(
            "{}, {}, {}",
            share(row.load_at(0.5).as_f64()),
            share(row.load_at(0.99).as_f64()),
            load(figures, row.peak)
        ),
    );
    add(
        "Highest rise: from reading to reading, within a command's time",
        format!("{}, {}", share(row.rises.0.as_f64()), share(row.rises.1.as_f64())),
    );
    add("Highest rack, highest server", format!("{}, {}", kilowatts(row.rack_peak), kilowatts(row.server_peak)));
    let parts = &row.parts;
    for (name, energy) in [
        ("Energy: all servers", parts.total()),
        ("GPUs", parts.gpus),
        ("processors", parts.cpu),
        ("fans", parts.fans),
        ("boards and network", parts.boards),
        ("lost in supplies", parts.supplies),
    ] {
        let part = energy.as_joules_f64() / parts.total().as_joules_f64().max(f64::MIN_POSITIVE);
        add(name, format!("{} ({})", kwh(energy), share(part)));
    }
    let thresholds: Vec<String> = figures.thresholds.iter().map(|threshold| share(threshold.as_f64())).collect();
    if !thresholds.is_empty() {
        add("Thresholds", thresholds.join(", "));
    }
    let control = &figures.control;
    add("Decisions, commands", format!("{}, {}", count(control.decisions as f64), count(control.commands as f64)));
    add("Cycles", cycles(figures));
    add(
        "Brakes, time under them",
        format!("{}, {}", count(control.brakes as f64), seconds(control.braked.as_secs_f64())),
    );
    add("Breaker, nearest to tripping", format!("{} ({} trips)", share(row.breaker.0), row.breaker.1));
    if let Some(overloads) = row.overloads {
        add("Overloads of the supply", count(overloads as f64));
    }
    table.rows.extend(ends(figures, low, high));
    "Watts come from a power law fitted on other hardware's runs; watts and times at lower clocks are priors that nobody has \
                  measured here (docs/power.md)."
        .clone_into(&mut table.note);
    table
}

/// The rows of the table on priorities and on what went above the budget.
fn ends(figures: &PowerFigures, low: &Served, high: &Served) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut add = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    let row = &figures.row;
    let e2el = |served: &Served, p: f64| {
        served.latencies.e2el.quantile(p).map_or_else(|| "–".to_owned(), |ns| seconds(ns as f64 / 1e9))
    };
    for (name, priority, served) in [("Low", &figures.low, low), ("High", &figures.high, high)] {
        let Some(part) = priority.capped_share(row.span) else { continue };
        add(
            &format!("{name} priority: servers, time below full clock, E2EL p50, p99"),
            format!("{}, {}, {}, {}", priority.servers, share(part), e2el(served, 0.5), e2el(served, 0.99)),
        );
    }
    for excursion in &row.excursions.first {
        add(
            &format!("Above the budget at {}", seconds(excursion.at.as_secs_f64())),
            format!(
                "{}, at most {} over, {}",
                seconds(excursion.span.as_secs_f64()),
                kilowatts(excursion.most),
                kwh(excursion.energy)
            ),
        );
    }
    rows
}

fn series(label: &str, color: u8, style: Style, points: Vec<(f64, f64)>) -> Series {
    Series { label: label.to_owned(), color, style, points }
}

/// Power and budget, and clocks, over time.
pub(crate) fn over_time(summary: &Summary) -> Vec<Figure> {
    let Some(PowerSummary { figures, .. }) = summary.power.as_deref() else { return Vec::new() };
    let bins: Vec<CurveBin> = figures.curve.bins().collect();
    let (Some(first), Some(last)) = (bins.first(), bins.last()) else { return Vec::new() };
    let end = (last.from + figures.curve.width()).as_secs_f64();
    let curve = |value: fn(&CurveBin) -> f64| -> Vec<(f64, f64)> {
        let points = bins.iter().map(|bin| (bin.from.as_secs_f64(), value(bin)));
        points.chain([(end, value(last))]).collect()
    };
    let level = |watts: f64| vec![(first.from.as_secs_f64(), watts / 1e3), (end, watts / 1e3)];
    let budget = figures.budget.as_watts_f64();
    let mut power = vec![
        series("mean", 1, Style::Area, curve(|bin| bin.mean.as_watts_f64() / 1e3)),
        series("highest reading", 2, Style::Steps, curve(|bin| bin.peak.as_watts_f64() / 1e3)),
        series("budget", 6, Style::Steps, level(budget)),
    ];
    for (at, threshold) in figures.thresholds.iter().enumerate() {
        power.push(series(&format!("threshold {}", at + 1), 4, Style::Steps, level(budget * threshold.as_f64())));
    }
    let most = power.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max);
    let figure = |id: &str, title: &str, description: String, y: Axis, series: Vec<Series>| Figure {
        id: id.into(),
        title: title.into(),
        description,
        x: Axis::time(end),
        y,
        series,
        marks: vec![],
        rug: None,
        shades: None,
        limits: vec![],
        notes: vec![],
    };
    let row = &figures.row;
    let told = format!(
        "Power of the row: {} on average, {} at most, of a budget of {}.",
        kilowatts(row.mean()),
        kilowatts(row.peak),
        kilowatts(figures.budget)
    );
    let clocks = vec![
        series("low priority", 2, Style::Steps, curve(|bin| bin.low)),
        series("high priority", 1, Style::Steps, curve(|bin| bin.high)),
    ];
    let fastest = clocks.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max);
    vec![
        figure("power", "Power of the row", told, Axis::linear("kW", most), power),
        figure(
            "clocks",
            "SM clocks",
            "Mean clock of the servers of each priority.".to_owned(),
            Axis::linear("MHz", fastest),
            clocks,
        ),
    ]
}

fn object(entries: Vec<(&str, Json)>) -> Json {
    Json::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn float(value: Option<f64>) -> Json {
    value.map_or(Json::Null, Json::Float)
}

fn watts(power: MilliWatts) -> Json {
    Json::Float(power.as_watts_f64())
}

fn hours(energy: Energy) -> Json {
    Json::Float(energy.as_joules_f64() / KWH)
}

fn time(span: Span) -> Json {
    Json::Float(span.as_secs_f64())
}

/// Energy by part.
fn energy(summary: &Summary, figures: &PowerFigures) -> Json {
    let parts = &figures.row.parts;
    object(vec![
        ("servers", hours(parts.total())),
        ("gpus", hours(parts.gpus)),
        ("cpu", hours(parts.cpu)),
        ("fans", hours(parts.fans)),
        ("boards", hours(parts.boards)),
        ("supplies", hours(parts.supplies)),
        ("facility", float(summary.facility_joules().map(|joules| joules / KWH))),
    ])
}

/// What one priority of servers had, over a span.
fn priority(priority: &Priority, served: &Served, span: Span) -> Json {
    let at = |p: f64| float(served.latencies.e2el.quantile(p).map(|ns| ns as f64 / 1e6));
    object(vec![
        ("servers", u64::from(priority.servers).into()),
        ("capped_share", float(priority.capped_share(span))),
        ("capped_s", time(priority.capped)),
        ("finished", served.finished.into()),
        ("output_tokens", served.tokens.into()),
        ("p50_e2el_ms", at(0.5)),
        ("p99_e2el_ms", at(0.99)),
    ])
}

/// All times above the budget, and the first ones.
fn excursions(figures: &PowerFigures) -> Json {
    let over = &figures.row.excursions;
    let each = over.first.iter().map(|excursion| {
        object(vec![
            ("at_s", Json::Float(excursion.at.as_secs_f64())),
            ("duration_s", time(excursion.span)),
            ("most_w", watts(excursion.most)),
            ("kwh", hours(excursion.energy)),
        ])
    });
    object(vec![
        ("count", over.count.into()),
        ("duration_s", time(over.all.span)),
        ("longest_s", time(over.longest)),
        ("most_w", watts(over.all.most)),
        ("kwh", hours(over.all.energy)),
        ("each", Json::List(each.collect())),
    ])
}

/// The entry of `summary.json`.
pub(crate) fn entry(summary: &Summary) -> Option<Json> {
    let PowerSummary { figures, low, high } = summary.power.as_deref()?;
    let row = &figures.row;
    let per_token = summary.joules_per_token();
    let columns = |scale: f64| {
        object(vec![
            ("gpus", float(per_token.map(|of| of.0 / scale))),
            ("servers", float(per_token.map(|of| of.1 / scale))),
            ("facility", float(per_token.and_then(|of| of.2).map(|joules| joules / scale))),
        ])
    };
    let named = |names: &[&str]| {
        let of = names.iter().map(|&name| (name.rsplit('_').next().unwrap_or(name), float(summary.metric(name))));
        object(of.collect())
    };
    let thresholds = figures.thresholds.iter().map(|threshold| Json::Float(threshold.as_f64()));
    let control = &figures.control;
    Some(object(vec![
        ("policy", figures.policy.into()),
        ("thresholds", Json::List(thresholds.collect())),
        ("budget_w", watts(figures.budget)),
        ("rated_w", watts(figures.rated)),
        ("span_s", time(row.span)),
        ("mean_w", watts(row.mean())),
        ("peak_w", watts(row.peak)),
        ("rack_peak_w", watts(row.rack_peak)),
        ("server_peak_w", watts(row.server_peak)),
        ("load", named(&["power_load_mean", "power_load_p50", "power_load_p99", "power_load_peak"])),
        ("rise", named(&["power_rise_period", "power_rise_command"])),
        ("energy_kwh", energy(summary, figures)),
        ("joules_per_output_token", columns(1.0)),
        ("kwh_per_million_output_tokens", columns(3.6)),
        ("carbon_kg", float(summary.carbon_grams().map(|grams| grams / 1e3))),
        ("energy_cost_usd", float(summary.energy_cost())),
        ("limited_share", Json::Float(figures.limited)),
        ("decisions", control.decisions.into()),
        ("commands", control.commands.into()),
        ("cycles", control.cycles.into()),
        ("cycle_s", float(control.cycle.map(Span::as_secs_f64))),
        ("brakes", control.brakes.into()),
        ("braked_s", time(control.braked)),
        ("excursions", excursions(figures)),
        ("breaker_nearest", Json::Float(row.breaker.0)),
        ("breaker_trips", row.breaker.1.into()),
        ("supply_overloads", row.overloads.map_or(Json::Null, Json::from)),
        ("low_priority", priority(&figures.low, low, row.span)),
        ("high_priority", priority(&figures.high, high, row.span)),
    ]))
}
