//! The summary on the terminal: verdict first, lines of 80 columns, 30 or a few more (pools, what a trace leaves out, words of trust), the same bytes for the same run.

mod paint;

use overbook_sim::results::histogram::Histogram;
use overbook_sim::results::rows::Outcome;
use overbook_sim::results::summary::Summary;

use crate::format::{Unit, count, number, seconds};
use crate::manifest::Status;
use crate::report::{Report, Verdict};
use paint::Paint;

pub(crate) use paint::folded;

/// Verdict lines that are shown before the rest is only counted.
const VERDICTS_SHOWN: usize = 8;

/// The summary, with a newline at its end. With `color`, ANSI escapes mark verdicts and headings.
pub fn summary(report: &Report, color: bool) -> String {
    let paint = Paint { color };
    let mut lines = vec![paint.bold(&paint::cut(&report.title, 80)), headline(report, paint)];
    lines.extend(verdicts(&report.verdicts, paint));
    lines.push(String::new());
    lines.push(paint.dim(&latency_header()));
    for name in ["ttft", "first_turn_ttft", "later_turn_ttft", "tpot", "itl", "e2el", "client_ttft", "client_e2el"] {
        if let Some(histogram) = report.summary.latency(name) {
            lines.push(latency_row(short(name), histogram));
        }
    }
    lines.push(String::new());
    lines.extend(figures(report).into_iter().map(|(what, text)| format!("  {what:<12}{text}")));
    lines.push(String::new());
    lines.extend(report.remarks.iter().flat_map(|remark| folded(&format!("Note: {remark}."), 80)));
    if let Some(trust) = &report.trust {
        lines.extend(folded(&trust.to_string(), 80));
    }
    lines.extend(folded(&report.calibration, 80).iter().map(|line| paint.dim(line)));
    lines.push(format!("results: {}", report.directory));
    lines.join("\n") + "\n"
}

fn headline(report: &Report, paint: Paint) -> String {
    let text = report.headline();
    match report.status {
        Status::Complete if report.verdicts.is_empty() => text,
        Status::Complete if report.all_met() => paint.good(&text),
        _ => paint.bad(&text),
    }
}

fn verdicts(verdicts: &[Verdict], paint: Paint) -> Vec<String> {
    // What is missed is shown before what is met, should there be too many.
    let mut order: Vec<&Verdict> = verdicts.iter().collect();
    if order.len() > VERDICTS_SHOWN {
        order.sort_by_key(|v| v.met());
    }
    let line = |v: &&Verdict| {
        let mark = if v.met() { paint.good("✓") } else { paint.bad("✗") };
        format!("  {mark} {:<28}{:>14}   target {}", v.label(), v.value_text(), v.target_text())
    };
    let mut lines: Vec<String> = order.iter().take(VERDICTS_SHOWN).map(line).collect();
    if order.len() > VERDICTS_SHOWN {
        let rest = &order[VERDICTS_SHOWN..];
        let missed = rest.iter().filter(|v| !v.met()).count();
        lines.push(format!("    and {} more, {missed} of them missed", rest.len()));
    }
    lines
}

/// The name of a latency, no longer than its column.
fn short(name: &str) -> &str {
    match name {
        "first_turn_ttft" => "  first turn",
        "later_turn_ttft" => "  later",
        name => name,
    }
}

fn latency_header() -> String {
    columns("latency", ["mean", "p50", "p90", "p99", "max"].map(str::to_owned))
}

fn latency_row(name: &str, histogram: &Histogram) -> String {
    let quantile = |p| histogram.quantile(p).map(|ns| ns as f64);
    let max = histogram.max().map(|ns| ns as f64);
    let statistics = [histogram.mean(), quantile(0.5), quantile(0.9), quantile(0.99), max];
    columns(name, statistics.map(|ns| ns.map_or_else(|| "–".to_owned(), |ns| seconds(ns / 1e9))))
}

fn columns(name: &str, [mean, p50, p90, p99, max]: [String; 5]) -> String {
    format!("  {name:<12}{mean:>12}{p50:>12}{p90:>12}{p99:>12}{max:>12}")
}

/// What goes on in words: (heading, text of at most 66 columns).
fn figures(report: &Report) -> Vec<(&'static str, String)> {
    let summary = &report.summary;
    let show = |metric: &str| summary.metric(metric).map_or("–".into(), |v| Unit::of(metric).show(v));
    let load = &summary.load;
    let mut figures =
        vec![("requests", format!("{} in {}", requests(summary, report.status == Status::Complete), show("makespan")))];
    for (what, rows) in [("left out", report.left_out()), ("sorted", report.put_in_order())] {
        let lines = folded(&rows, 66).into_iter().filter(|line| !line.is_empty());
        figures.extend(lines.enumerate().map(|(at, text)| ([what, ""][at.min(1)], text)));
    }
    figures.push((
        "throughput",
        format!(
            "{}, {} out, {} in all",
            show("request_throughput"),
            show("output_throughput"),
            show("total_token_throughput")
        ),
    ));
    if summary.slo.is_set() {
        let share = show("goodput_fraction");
        figures.push(("goodput", format!("{} ({share} of requests are good)", show("request_goodput"))));
    }
    for (at, text) in folded(&crate::sessions::line(summary), 66).into_iter().enumerate() {
        if !text.is_empty() {
            figures.push((["sessions", ""][at.min(1)], text));
        }
    }
    for (what, text) in crate::pools::lines(summary) {
        figures.extend(folded(&text, 66).into_iter().enumerate().map(|(at, line)| ([what, ""][at.min(1)], line)));
    }
    figures.extend([
        ("running", levels(summary, "running_mean", load.running_max)),
        ("waiting", levels(summary, "waiting_mean", load.waiting_max)),
        ("KV blocks", format!("mean {} used, fullest pool {}", show("kv_usage_mean"), show("kv_usage_max"))),
        (
            "preempted",
            format!("{} times, {} of computed tokens were recomputed", show("preemptions"), show("recompute_tax")),
        ),
    ]);
    if summary.fleet.served.is_some() {
        let mean = summary.fleet.replica_seconds(summary.makespan()) / summary.makespan().as_secs_f64().max(1e-9);
        let most = summary.fleet.replicas;
        figures.push(("replicas", format!("mean {} of {most}, {} replica hours", number(mean), show("replica_hours"))));
    }
    let kept = crate::retained::lines(summary).into_iter().chain(crate::speculation::line(summary));
    let power = crate::limiter::line(summary).into_iter().chain(crate::power::lines(summary));
    let power = power.chain(crate::economics::lines(summary));
    for (what, text) in crate::kv_traffic::lines(summary).into_iter().chain(kept).chain(power) {
        figures.extend(folded(&text, 66).into_iter().enumerate().map(|(at, line)| ([what, ""][at.min(1)], line)));
    }
    for (at, text) in folded(&crate::outages::line(summary), 66).into_iter().enumerate() {
        if !text.is_empty() {
            figures.push((["outages", ""][at.min(1)], text));
        }
    }
    if summary.attempts > summary.ended() {
        let each = number(summary.attempts as f64 / summary.ended().max(1) as f64);
        figures.push(("attempts", format!("{}, {each} a request", show("attempts"))));
    }
    if summary.tokens.cached > 0 {
        figures.push(("cached", format!("{} of prompt tokens, by prefix", show("prefix_hit_rate"))));
    }
    figures
}

/// "mean 31.0 in all, one replica at most 9": the mean is of the sum over replicas, the peak that of one.
fn levels(summary: &Summary, mean: &str, most: u32) -> String {
    let mean = summary.metric(mean).map_or("–".into(), |value| Unit::of(mean).show(value));
    let most = count(f64::from(most));
    if summary.fleet.replicas == 1 {
        format!("mean {mean}, at most {most}")
    } else {
        format!("mean {mean} on all replicas together; at most {most} on one")
    }
}

/// "98,700 of 100,000 finished, 1,300 expired"; of an interrupted run those that had ended.
pub(crate) fn requests(summary: &Summary, whole: bool) -> String {
    let shown = |n: u64| count(n as f64);
    let (finished, ended) = (shown(summary.count(Outcome::Finished)), shown(summary.ended()));
    let of = if whole { "" } else { " that had ended" };
    let mut parts = vec![format!("{finished} of {ended}{of} finished")];
    let others = Outcome::ALL[1..].iter().filter(|&&outcome| summary.count(outcome) > 0);
    parts.extend(others.map(|&outcome| format!("{} {}", shown(summary.count(outcome)), outcome.name())));
    parts.join(", ")
}

#[cfg(test)]
mod tests;
