//! What the terminal and the page are made of.

use overbook_sim::results::summary::Summary;
use overbook_sim::results::timeline::Timeline;
use overbook_sim::results::trust::Trust;

use crate::format::{self, Unit};
use crate::manifest::Status;

/// Which side of its target a figure must be on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The figure must not exceed its target.
    AtMost,
    /// The figure must reach its target.
    AtLeast,
}

/// A target and what the run made of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// Name of the metric, as in [`Summary::metric`].
    pub metric: String,
    /// Which side of the target is good.
    pub side: Side,
    /// The target [SI units].
    pub target: f64,
    /// What the run has, by [`Summary::judged`]; `None` (nothing to measure, or too many requests came to nothing) does not meet any target.
    pub value: Option<f64>,
}

impl Verdict {
    /// The figure must not exceed `target`.
    pub fn at_most(metric: &str, target: f64, summary: &Summary) -> Verdict {
        Verdict { metric: metric.to_owned(), side: Side::AtMost, target, value: summary.judged(metric) }
    }

    /// The figure must reach `target`.
    pub fn at_least(metric: &str, target: f64, summary: &Summary) -> Verdict {
        Verdict { side: Side::AtLeast, ..Verdict::at_most(metric, target, summary) }
    }

    /// Whether the target is met.
    pub fn met(&self) -> bool {
        self.value.is_some_and(|value| match self.side {
            Side::AtMost => value <= self.target,
            Side::AtLeast => value >= self.target,
        })
    }

    /// How much of its limit the figure uses: 1 at the limit, more beyond it.
    pub fn strain(&self) -> f64 {
        match (self.value, self.side) {
            (None, _) => f64::INFINITY,
            (Some(value), Side::AtMost) => value / self.target,
            (Some(value), Side::AtLeast) => self.target / value,
        }
    }

    /// The metric in words: "TTFT p99".
    pub fn label(&self) -> String {
        format::label(&self.metric)
    }

    /// The target in words: "≤ 2.00 s".
    pub fn target_text(&self) -> String {
        let sign = if self.side == Side::AtMost { '≤' } else { '≥' };
        format!("{sign} {}", Unit::of(&self.metric).show(self.target))
    }

    /// The value in words, a dash if there is none.
    pub fn value_text(&self) -> String {
        self.value.map_or_else(|| "–".to_owned(), |value| Unit::of(&self.metric).show(value))
    }
}

/// How bursty the requests arrive. Rates in requests/s; the index of dispersion is 1 for a Poisson process.
#[derive(Clone, PartialEq, Debug)]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// Requests over the time between the first and the last; `None` where there is no time between them.
    pub mean_rate: Option<f64>,
    /// Counts in cells of one second, one minute, one hour.
    pub scales: [TrafficScale; 3],
}

/// Requests counted in cells of one length.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TrafficScale {
    /// Rate in the fullest cell; `None` where a cell is longer than the traffic, or too few are whole.
    pub peak_rate: Option<f64>,
    /// The same over the mean rate; `None` where a cell is longer than the traffic.
    pub peak_over_mean: Option<f64>,
    /// Variance over mean of the counts; `None` with fewer than two whole cells.
    pub dispersion: Option<f64>,
}

/// A run as it is reported. The caller knows the scenario; the figures are the simulation's.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// What was asked, in a few words: the scenario's title.
    pub title: String,
    /// Whether the run came to its end.
    pub status: Status,
    /// The figures.
    pub summary: Summary,
    /// Load over time.
    pub timeline: Timeline,
    /// The requests as they arrived here; `None` where they were not counted (studies, closed loops).
    pub traffic: Option<Traffic>,
    /// The same requests as the trace has them, if the scenario scales or spreads them.
    pub recorded_traffic: Option<Traffic>,
    /// When the run began, by the clock of the trace: seconds after 1970. `None` where the trace has no dates, or was played faster or slower.
    pub clock: Option<i64>,
    /// Targets, in the order in which the scenario states them.
    pub verdicts: Vec<Verdict>,
    /// The main facts of the resolved scenario: what, and its value with unit.
    pub assumptions: Vec<(String, String)>,
    /// What the figures alone do not say, a sentence each.
    pub remarks: Vec<String>,
    /// How far the figures are to be trusted, by measured runs of real engines; `None` for a run that was itself measured.
    pub trust: Option<Trust>,
    /// Where the cost model comes from: one line.
    pub calibration: String,
    /// What became of the rows of the trace, by [`Workload::rows`](overbook_sim::Workload::rows): none of generated requests.
    pub trace_rows: Vec<(&'static str, u64)>,
    /// The command that makes this run again.
    pub command: String,
    /// Tool and version, as in `overbook 0.1.0`.
    pub tool: String,
    /// The run directory as the user should read it.
    pub directory: String,
}

impl Report {
    /// Whether no target is missed (a run without targets misses none).
    pub fn all_met(&self) -> bool {
        self.verdicts.iter().all(Verdict::met)
    }

    /// Rows of the trace: left out and why, or that all of them are played.
    pub fn rows_text(&self) -> String {
        let left_out = self.left_out();
        let played = if left_out.is_empty() {
            "all that were read are played".to_owned()
        } else {
            format!("left out: {left_out}")
        };
        let sorted = self.put_in_order();
        if sorted.is_empty() { played } else { format!("{played}; sorted: {sorted}") }
    }

    /// Rows of the trace that `sort` has moved; empty if it has moved none.
    pub fn put_in_order(&self) -> String {
        put_in_order(&self.trace_rows)
    }

    /// Rows of the trace that are not played, by reason; empty if all are.
    pub fn left_out(&self) -> String {
        left_out(&self.trace_rows)
    }

    /// The verdict in a few words.
    pub fn headline(&self) -> String {
        let missed = self.verdicts.iter().filter(|v| !v.met()).count();
        let result = match (self.verdicts.len(), missed) {
            (0, _) => "No target was set".to_owned(),
            (1, 0) => "The target is met".to_owned(),
            (1, _) => "The target is missed".to_owned(),
            (n, 0) => format!("All {n} targets are met"),
            (n, m) if n == m => format!("All {n} targets are missed"),
            (n, m) => format!("{m} of {n} targets {} missed", if m == 1 { "is" } else { "are" }),
        };
        match self.status {
            Status::Complete => result,
            Status::Interrupted => format!("Interrupted, partial results: {}", lower_first(&result)),
            Status::Failed => format!("Failed, partial results: {}", lower_first(&result)),
        }
    }

    /// The verdict in one plain sentence: the target that is strained most.
    pub fn sentence(&self) -> String {
        let worst = self.verdicts.iter().max_by(|a, b| a.strain().total_cmp(&b.strain()));
        let Some(worst) = worst else {
            return "State one under slo: to have it judged here.".to_owned();
        };
        let (label, value, target) = (worst.label(), worst.value_text(), worst.target_text());
        if worst.value.is_none() {
            return format!(
                "{label} ({target}) has no value: too many requests came to nothing, or none got that far."
            );
        }
        let strain = worst.strain();
        match (worst.met(), worst.side) {
            (true, _) if self.verdicts.len() == 1 => format!("{label} is {value}, target {target}."),
            (true, _) => format!("The tightest is {label}: {value}, target {target}."),
            (false, Side::AtMost) if strain.is_finite() && strain >= 1.1 => {
                format!("{label} is {value}, {} times its limit of {}.", format::number(strain), &target[4..])
            }
            (false, _) => format!("{label} is {value}, target {target}."),
        }
    }
}

/// Rows that are not played, as [`Workload::rows`](overbook_sim::Workload::rows) names them, and why, in words.
const LEFT_OUT: [(&str, &str); 8] = [
    ("failed_left_out", "failed (no tokens)"),
    ("empty", "with empty cells"),
    ("invalid", "not readable"),
    ("no_request", "no requests to an engine"),
    ("filtered", "not in `keep`"),
    ("outside_window", "outside `window`"),
    ("skipped", "by `skip`"),
    ("cut_off", "with or behind a prompt above `max_prompt_tokens`"),
];

/// Rows of a trace that are not played, by reason: "1,684 of 199,000 rows: 1,684 failed (no tokens)". Empty if all are.
pub fn left_out(rows: &[(&'static str, u64)]) -> String {
    let named = |name: &str| rows.iter().find(|(row, _)| *row == name).map_or(0, |(_, rows)| *rows);
    let lost: Vec<(&str, u64)> = LEFT_OUT.iter().map(|(name, words)| (*words, named(name))).collect();
    let all: u64 = lost.iter().map(|(_, rows)| rows).sum();
    if all == 0 {
        return String::new();
    }
    let lost = lost.into_iter().filter(|(_, rows)| *rows > 0);
    let parts: Vec<String> = lost.map(|(words, rows)| format!("{} {words}", format::count(rows as f64))).collect();
    format!("{} of {} rows: {}", format::count(all as f64), format::count(named("read") as f64), parts.join(", "))
}

/// Rows of a trace that `sort` has moved: "2 of 6 rows were earlier than a row above them". Empty if it has moved none.
pub fn put_in_order(rows: &[(&'static str, u64)]) -> String {
    let named = |name: &str| rows.iter().find(|(row, _)| *row == name).map_or(0, |(_, rows)| *rows);
    match named("out_of_order") {
        0 => String::new(),
        1 => format!("1 of {} rows was earlier than a row above it", format::count(named("read") as f64)),
        moved => {
            let (moved, read) = (format::count(moved as f64), format::count(named("read") as f64));
            format!("{moved} of {read} rows were earlier than a row above them")
        }
    }
}

pub(crate) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn headline_and_sentence_follow_the_verdicts() {
        let mut report = sample::report();
        let verdict = |value, target| Verdict { metric: "ttft_p99".to_owned(), side: Side::AtMost, target, value };
        report.verdicts = vec![];
        assert_eq!(report.headline(), "No target was set");
        assert!(report.all_met());
        report.verdicts = vec![verdict(Some(1.0), 2.0)];
        assert_eq!(report.headline(), "The target is met");
        assert_eq!(report.sentence(), "TTFT p99 is 1.00 s, target ≤ 2.00 s.");
        report.verdicts.push(verdict(Some(5.0), 2.0));
        assert_eq!(report.headline(), "1 of 2 targets is missed");
        assert_eq!(report.sentence(), "TTFT p99 is 5.00 s, 2.50 times its limit of 2.00 s.");
        report.verdicts = vec![verdict(None, 2.0)];
        report.status = Status::Interrupted;
        assert_eq!(report.headline(), "Interrupted, partial results: the target is missed");
        assert!(report.sentence().contains("none got that far"));
    }

    #[test]
    fn a_figure_at_its_target_meets_it() {
        let verdict = |side| Verdict { metric: "finished".into(), side, target: 3.0, value: Some(3.0) };
        assert!(verdict(Side::AtMost).met() && verdict(Side::AtLeast).met());
    }
}
