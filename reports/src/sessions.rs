//! Sessions in reports: a line on the terminal, a table on the page.

use overbook_sim::results::histogram::Histogram;
use overbook_sim::results::summary::{SessionFigures, Summary};

use crate::format::{Unit, count, number, seconds};
use crate::table::Table;

/// "237 of 237 over, 73 requests each; 8.9M prompt tokens each, 96 % cached"; empty without sessions.
pub(crate) fn line(summary: &Summary) -> String {
    let Some(figures) = &summary.sessions else { return String::new() };
    let mut parts = vec![format!("{} of {} over", count(figures.over as f64), count(figures.opened as f64))];
    if figures.finished < figures.over {
        parts.push(format!("{} with every request finished", count(figures.finished as f64)));
    }
    let each = |histogram: &Histogram| histogram.mean().map_or_else(|| "–".to_owned(), number);
    parts.push(format!("{} requests and {} prompt tokens each", each(&figures.requests), each(&figures.prompt)));
    parts.push(format!("{} of these computed", each(&figures.computed)));
    if let Some(cost) = summary.metric("session_gpu_seconds") {
        parts.push(format!("{} GPU-seconds each", number(cost)));
    }
    parts.join(", ")
}

/// What a session was like; empty without sessions.
pub(crate) fn table(summary: &Summary) -> Table {
    let text = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let rows = summary.sessions.as_ref().map(|figures| rows(figures)).unwrap_or_default();
    let cost = summary.metric("session_gpu_seconds").map(number);
    let cost = cost.map(|cost| format!(" The fleet's GPUs were there {cost} GPU-seconds per session."));
    Table {
        title: "Sessions".into(),
        header: text(&["Per session", "Mean", "p50", "p90", "p99", "Max"]),
        rows,
        note: format!(
            "Sessions that are over count, {} of them with every request finished.{}",
            summary.metric("sessions_finished").map_or_else(|| "–".to_owned(), |n| Unit::Count.show(n)),
            cost.unwrap_or_default()
        ),
    }
}

fn rows(figures: &SessionFigures) -> Vec<Vec<String>> {
    let time = |ns: f64| seconds(ns / 1e9);
    let row = |name: &str, histogram: &Histogram, show: &dyn Fn(f64) -> String| {
        let at = |p| histogram.quantile(p).map(|value| value as f64);
        let max = histogram.max().map(|value| value as f64);
        let cells = [histogram.mean(), at(0.5), at(0.9), at(0.99), max];
        let cells = cells.map(|value| value.map_or_else(|| "–".to_owned(), show));
        std::iter::once(name.to_owned()).chain(cells).collect()
    };
    vec![
        row("Duration", &figures.duration, &time),
        row("Waited for answers", &figures.waited, &time),
        row("Requests", &figures.requests, &count),
        row("Prompt tokens asked for", &figures.prompt, &count),
        row("Found in the prefix cache", &figures.cached, &count),
        row("Computed", &figures.computed, &count),
    ]
}
