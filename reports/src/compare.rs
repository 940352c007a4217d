//! Two to six runs side by side: figures with their changes, latencies over each other, assumptions that differ.
//!
//! Figures are those of each run's `summary.json`; the distributions are exact, from `requests.parquet` where it is there. The
//! first run is the one that the others are measured against.

mod curves;
mod page;

use std::path::Path;

use crate::ReportError;
use crate::format::{Unit, number};
use crate::json::{self, Json};
use crate::read::RunData;
use crate::terminal::folded;

pub use page::compare_html;

/// Most runs that are compared: there are as many colours.
pub const RUNS_MAX: usize = 6;

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Better {
    Less,
    More,
    /// Neither: it says how the work was done.
    None,
}

/// A figure of `summary.json`: its key there, its name for people, the factor to SI units, its unit, and which way is better.
struct Metric(&'static str, &'static str, f64, Unit, Better);

/// Groups of rows.
const GROUPS: [(&str, &[Metric]); 3] = [
    (
        "Service",
        &[
            Metric("completed", "Finished requests", 1.0, Unit::Count, Better::More),
            Metric("duration_s", "Makespan", 1.0, Unit::Seconds, Better::Less),
            Metric("request_throughput", "Requests", 1.0, Unit::RequestsPerSecond, Better::More),
            Metric("output_throughput", "Output", 1.0, Unit::TokensPerSecond, Better::More),
            Metric("total_token_throughput", "Output and prompts", 1.0, Unit::TokensPerSecond, Better::More),
            Metric("goodput_fraction", "Good requests", 1.0, Unit::Share, Better::More),
            Metric("request_goodput", "Goodput", 1.0, Unit::RequestsPerSecond, Better::More),
        ],
    ),
    (
        "Latency",
        &[
            Metric("mean_ttft_ms", "TTFT mean", 1e-3, Unit::Seconds, Better::Less),
            Metric("p50_ttft_ms", "TTFT p50", 1e-3, Unit::Seconds, Better::Less),
            Metric("p99_ttft_ms", "TTFT p99", 1e-3, Unit::Seconds, Better::Less),
            Metric("mean_tpot_ms", "TPOT mean", 1e-3, Unit::Seconds, Better::Less),
            Metric("p50_tpot_ms", "TPOT p50", 1e-3, Unit::Seconds, Better::Less),
            Metric("p99_tpot_ms", "TPOT p99", 1e-3, Unit::Seconds, Better::Less),
            Metric("p99_itl_ms", "ITL p99", 1e-3, Unit::Seconds, Better::Less),
            Metric("mean_e2el_ms", "E2EL mean", 1e-3, Unit::Seconds, Better::Less),
            Metric("p50_e2el_ms", "E2EL p50", 1e-3, Unit::Seconds, Better::Less),
            Metric("p99_e2el_ms", "E2EL p99", 1e-3, Unit::Seconds, Better::Less),
            Metric("p99_queue_time_ms", "Queue time p99", 1e-3, Unit::Seconds, Better::Less),
        ],
    ),
    (
        "Work",
        &[
            Metric("running_mean", "Running, mean", 1.0, Unit::Count, Better::None),
            Metric("waiting_mean", "Waiting, mean", 1.0, Unit::Count, Better::Less),
            Metric("kv_usage_mean", "KV use, mean", 1.0, Unit::Share, Better::None),
            Metric("kv_usage_max", "KV use, fullest pool", 1.0, Unit::Share, Better::None),
            Metric("preemptions", "Preemptions", 1.0, Unit::Count, Better::Less),
            Metric("recompute_tax", "Recomputed tokens", 1.0, Unit::Share, Better::Less),
            Metric("prefix_hit_rate", "Prefix cache hits", 1.0, Unit::Share, Better::More),
            Metric("utilization", "Time in steps", 1.0, Unit::Share, Better::None),
            Metric("mean_batch_seqs", "Sequences per step, mean", 1.0, Unit::Count, Better::None),
            Metric("mean_step_time_ms", "Step time, mean", 1e-3, Unit::Seconds, Better::None),
        ],
    ),
];

/// What became of a figure against the first run.
struct Change {
    /// "−12.3 %", "+1.2 points".
    text: String,
    /// Whether that is good; `None` if it is neither, or too small to judge.
    good: Option<bool>,
}

impl Metric {
    fn value(&self, run: &RunData) -> Option<f64> {
        run.figure(self.0).map(|value| value * self.2)
    }

    fn show(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "–".to_owned(), |value| self.3.show(value))
    }

    /// Shares change by points, everything else in percent or, from ten times on, by a factor.
    fn change(&self, from: Option<f64>, to: Option<f64>) -> Change {
        let (Some(from), Some(to)) = (from, to) else { return Change { text: "–".to_owned(), good: None } };
        let (by, unit) = match self.3 {
            Unit::Share => ((to - from) * 100.0, "points"),
            _ if from == 0.0 => {
                let text = if to == 0.0 { "=" } else { "new" };
                return Change { text: text.to_owned(), good: self.good(to) };
            }
            // Percentages of four digits are read as factors.
            _ if to / from >= 10.0 => return Change { text: format!("×{}", number(to / from)), good: self.good(1.0) },
            _ => ((to / from - 1.0) * 100.0, "%"),
        };
        // What three digits do not show is no change.
        if by.abs() < 0.05 {
            return Change { text: "=".to_owned(), good: None };
        }
        let size = if by.abs() < 10.0 { format!("{:.1}", by.abs()) } else { number(by.abs().round()) };
        let sign = if by > 0.0 { '+' } else { '−' };
        Change { text: format!("{sign}{size} {unit}"), good: self.good(by) }
    }

    fn good(&self, by: f64) -> Option<bool> {
        match self.4 {
            Better::None => None,
            _ if by == 0.0 => None,
            Better::Less => Some(by < 0.0),
            Better::More => Some(by > 0.0),
        }
    }
}

/// A name for each run: that of its directory or, should two have the same, its whole path.
fn names(runs: &[RunData]) -> Vec<String> {
    let names: Vec<String> = runs.iter().map(RunData::name).collect();
    let twice = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
    let path = |run: &RunData| Path::new(run.dir()).display().to_string();
    names.iter().zip(runs).map(|(name, run)| if twice(name) { path(run) } else { name.clone() }).collect()
}

/// `A`, `B`, …
fn letter(index: usize) -> char {
    char::from(b'A' + index as u8)
}

fn check(runs: &[RunData]) -> Result<(), ReportError> {
    match runs.len() {
        2..=RUNS_MAX => Ok(()),
        n => Err(ReportError::Asked(format!("2 to {RUNS_MAX} runs can be compared, not {n}"))),
    }
}

/// Assumptions that are not the same in all runs: what, and its value per run.
fn differing(runs: &[RunData]) -> Vec<(String, Vec<String>)> {
    let facts: Vec<Vec<(String, String)>> = runs.iter().map(RunData::assumptions).collect();
    let mut names: Vec<&String> = Vec::new();
    for (what, _) in facts.iter().flatten() {
        if !names.contains(&what) {
            names.push(what);
        }
    }
    let value = |facts: &[(String, String)], what: &str| {
        facts.iter().find(|fact| fact.0 == what).map_or_else(|| "–".to_owned(), |fact| fact.1.clone())
    };
    let row = |what: &String| (what.clone(), facts.iter().map(|facts| value(facts, what)).collect::<Vec<_>>());
    let rows = names.into_iter().map(row).filter(|(_, values)| values.iter().any(|value| *value != values[0]));
    rows.map(|(what, values)| (what, without_common_parts(values))).collect()
}

/// Long lists of settings with only those that are not the same everywhere.
fn without_common_parts(values: Vec<String>) -> Vec<String> {
    let split: Vec<Vec<&str>> = values.iter().map(|value| value.split(", ").collect()).collect();
    let n = split[0].len();
    if n < 5 || split.iter().any(|parts| parts.len() != n) {
        return values;
    }
    let differs = |place: &usize| split.iter().any(|parts| parts[*place] != split[0][*place]);
    let places: Vec<usize> = (0..n).filter(differs).collect();
    let shown = |parts: &Vec<&str>| places.iter().map(|&place| parts[place]).collect::<Vec<_>>().join(", ");
    split.iter().map(|parts| shown(parts) + ", …").collect()
}

/// How far the runs are to be trusted: one sentence without a letter, or one per run if they differ. Runs of earlier versions do not say.
fn trust(runs: &[RunData]) -> Vec<(Option<char>, String)> {
    let told = |run: &RunData| run.summary()["trust"]["text"].as_str().unwrap_or("–").to_owned();
    let lines: Vec<String> = runs.iter().map(told).collect();
    match lines.first() {
        Some(first) if lines.iter().all(|line| line == first) => {
            if first == "–" {
                Vec::new()
            } else {
                vec![(None, first.clone())]
            }
        }
        _ => lines.into_iter().enumerate().map(|(run, line)| (Some(letter(run)), line)).collect(),
    }
}

/// The same for a terminal.
fn trust_lines(runs: &[RunData]) -> Vec<String> {
    let told = trust(runs);
    let heading = told.iter().any(|(letter, _)| letter.is_some()).then(|| "Trust".to_owned());
    let line = |(letter, text): &(Option<char>, String)| match letter {
        Some(letter) => hanging(&format!("  {letter}  "), 5, text),
        None => hanging("Trust: ", 7, text),
    };
    heading.into_iter().chain(told.iter().flat_map(line)).collect()
}

/// Runs that have not come to their end, or whose assumptions do not distinguish them, in words.
fn warnings(runs: &[RunData]) -> Vec<String> {
    let partial = runs.iter().enumerate().filter(|(_, run)| !run.is_complete());
    let partial = partial.map(|(i, run)| format!("{} is {}: its figures are partial.", letter(i), run.status()));
    let silent = runs.iter().enumerate().filter(|(_, run)| run.summary()["assumptions"].is_null());
    partial.chain(silent.map(|(i, _)| format!("{} does not state its assumptions.", letter(i)))).collect()
}

/// Longest line of text on the terminal [characters].
const WIDTH: usize = 100;

/// A text behind its heading, broken between words; what goes on stands so far from the left.
fn hanging(heading: &str, indent: usize, text: &str) -> Vec<String> {
    let lines = folded(text, WIDTH - heading.chars().count().max(indent));
    let place = |at: usize| if at == 0 { heading.to_owned() } else { " ".repeat(indent) };
    lines.iter().enumerate().map(|(at, line)| place(at) + line).collect()
}

/// The comparison for a terminal; two runs with their changes, more with their values alone. A single run is shown with what
/// it assumes.
///
/// # Errors
/// There are no runs or more than [`RUNS_MAX`].
pub fn compare_terminal(runs: &[RunData], color: bool) -> Result<String, ReportError> {
    if runs.len() != 1 {
        check(runs)?;
    }
    let paint = |code: &str, text: &str| if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let mut lines: Vec<String> = names(runs)
        .iter()
        .enumerate()
        .map(|(i, name)| format!("{}  {name}", paint("1", &letter(i).to_string())))
        .collect();
    lines.extend(warnings(runs).iter().map(|warning| paint("1;31", warning)));
    let two = runs.len() == 2;
    let widest = |metric: &Metric| runs.iter().map(|run| metric.show(metric.value(run)).chars().count()).max();
    let widest = GROUPS.iter().flat_map(|group| group.1).filter_map(widest).max().unwrap_or(0) + 2;
    let width = widest.max(if two { 16 } else { 11 });
    let aligned = |cells: &[String]| cells.iter().fold(String::new(), |line, cell| format!("{line}{cell:>width$}"));
    let letters: Vec<String> = (0..runs.len()).map(|i| letter(i).to_string()).collect();
    let heads = aligned(&letters);
    let change = if two { format!("{:>16}", "change") } else { String::new() };
    lines.push(String::new());
    lines.push(paint("2", &format!("  {:<26}{heads}{change}", "")));
    for (_, metrics) in GROUPS {
        for metric in metrics {
            let values: Vec<Option<f64>> = runs.iter().map(|run| metric.value(run)).collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            let shown: Vec<String> = values.iter().map(|&value| metric.show(value)).collect();
            let mut line = format!("  {:<26}{}", metric.1, aligned(&shown));
            if two {
                let change = metric.change(values[0], values[1]);
                let text = format!("{:>16}", change.text);
                line += &change.good.map_or(text.clone(), |good| paint(if good { "32" } else { "31" }, &text));
            }
            lines.push(line);
        }
        lines.push(String::new());
    }
    if let [run] = runs {
        lines.extend(run.assumptions().iter().flat_map(|(what, value)| hanging(&format!("{what}: "), 2, value)));
        return Ok(lines.join("\n") + "\n");
    }
    let mut differing = differing(runs);
    lines.extend(trust_lines(runs));
    differing.retain(|(what, _)| what != "Trust");
    if differing.is_empty() {
        lines.push("The runs assume the same.".to_owned());
    }
    for (what, values) in differing {
        lines.push(format!("{what} differs"));
        lines.extend(values.iter().enumerate().flat_map(|(i, value)| hanging(&format!("  {}  ", letter(i)), 5, value)));
    }
    Ok(lines.join("\n") + "\n")
}

/// The comparison as one JSON document: values in SI units, changes as shares of the first run's value.
///
/// # Errors
/// There are fewer than two runs or more than [`RUNS_MAX`].
pub fn compare_json(runs: &[RunData]) -> Result<String, ReportError> {
    check(runs)?;
    let text = |text: &str| Json::Text(text.to_owned());
    let run = |(run, name): (&RunData, String)| {
        let entries = [("name", text(&name)), ("title", text(run.title())), ("status", text(run.status()))];
        Json::Object(entries.map(|(key, value)| (key.to_owned(), value)).to_vec())
    };
    let metric = |metric: &Metric| {
        let values: Vec<Option<f64>> = runs.iter().map(|run| metric.value(run)).collect();
        let change = |to: &Option<f64>| match (values[0], to) {
            (Some(from), Some(to)) if from != 0.0 => Json::Float(to / from - 1.0),
            _ => Json::Null,
        };
        Json::Object(vec![
            ("metric".to_owned(), text(metric.0)),
            ("values".to_owned(), Json::List(values.iter().map(|&value| value.into()).collect())),
            ("changes".to_owned(), Json::List(values[1..].iter().map(change).collect())),
        ])
    };
    let differs = |(what, values): (String, Vec<String>)| {
        (what, Json::List(values.into_iter().map(Json::Text).collect::<Vec<_>>()))
    };
    let document = Json::Object(vec![
        ("runs".to_owned(), Json::List(runs.iter().zip(names(runs)).map(run).collect())),
        ("metrics".to_owned(), Json::List(GROUPS.iter().flat_map(|group| group.1).map(metric).collect())),
        (
            "trust".to_owned(),
            Json::List(
                runs.iter().map(|run| run.summary()["trust"]["text"].as_str().map_or(Json::Null, text)).collect(),
            ),
        ),
        ("differing".to_owned(), Json::Object(differing(runs).into_iter().map(differs).collect())),
    ]);
    Ok(json::document(&document))
}

#[cfg(test)]
mod tests;
