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

#[cfg(test)]
mod tests {
    use overbook_sim::results::rows::SessionRow;
    use overbook_sim::results::summary::{Fleet, Slo, Tally};
    use overbook_sim::time::{Span, Time};
    use overbook_sim::workload::arrival::SessionId;
    use serde_json::Value;

    use crate::{html, sample, summary_json, terminal};

    fn row(number: u64, finished: u32) -> SessionRow {
        SessionRow {
            session: SessionId::new(number),
            start: Time::ZERO,
            end: Time(number * 60_000_000_000),
            requests: 10,
            finished,
            prompt_tokens: 1_000_000 * number,
            cached_tokens: 900_000 * number,
            computed_tokens: 100_000 * number,
            output_tokens: 3000,
            first_ttft: Some(Span(2_000_000_000)),
            waited: Span(20_000_000_000),
        }
    }

    #[test]
    fn sessions_are_told_on_terminal_page_and_in_json() {
        let mut report = sample::report();
        let plain = summary_json::summary_json(&report);
        assert!(
            !plain.contains("\"sessions\"") && !html::report_html(&report).expect("a page").contains("Per session")
        );
        let mut tally = Tally::new(Slo::default());
        for (number, finished) in [(1, 10), (2, 10), (3, 9)] {
            tally.session_opens();
            tally.session(&row(number, finished));
        }
        tally.session_opens();
        let fleet = Fleet { gpu_time: Some(Span(600_000_000_000)), ..Fleet::default() };
        let figures = tally.finish(fleet, &[]);
        (report.summary.sessions, report.summary.fleet.gpu_time) = (figures.sessions, figures.fleet.gpu_time);
        let text = terminal::summary(&report, false);
        let told = "  sessions    3 of 4 over, 2 with every request finished, 10 requests and\n              2,000,000 prompt tokens each, 200,000 of these computed, 200\n              GPU-seconds each\n";
        assert!(text.contains(told) && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let json: Value = serde_json::from_str(&summary_json::summary_json(&report)).expect("JSON");
        let sessions = &json["sessions"];
        assert_eq!((&sessions["opened"], &sessions["over"], &sessions["completed"]), (&4.into(), &3.into(), &2.into()));
        let number = |key: &str| sessions[key].as_f64().expect("a number");
        assert!((number("gpu_seconds_per_session") - 200.0).abs() < 1e-9);
        assert!((number("mean_cached_tokens") - 1_800_000.0).abs() < 1e-6);
        assert!((json["mean_session_duration_ms"].as_f64().expect("a number") - 120_000.0).abs() < 1e-6);
        let page = html::report_html(&report).expect("a page");
        assert!(page.contains("Per session") && page.contains("200 GPU-seconds per session"));
    }
}
