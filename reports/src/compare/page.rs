//! The comparison as a page.

use askama::Template;

use super::{Change, GROUPS, Metric, check, curves, differing, letter, names, trust, warnings};
use crate::ReportError;
use crate::figure::Figure;
use crate::read::RunData;

/// Differing assumptions that stand beside the name of a run.
const FACTS: usize = 3;

struct RunRow {
    letter: char,
    color: usize,
    name: String,
    title: String,
    command: String,
}

struct Cell {
    value: String,
    change: Option<Change>,
}

impl Cell {
    /// Class of the change: `better`, `worse`, or none.
    fn class(&self) -> &'static str {
        match self.change.as_ref().and_then(|change| change.good) {
            Some(true) => "better",
            Some(false) => "worse",
            None => "soft",
        }
    }
}

struct Group {
    name: &'static str,
    rows: Vec<(&'static str, Vec<Cell>)>,
}

#[derive(Template)]
#[template(path = "compare.html")]
struct Page {
    tool: String,
    runs: Vec<RunRow>,
    headline: String,
    sentences: Vec<String>,
    warnings: Vec<String>,
    groups: Vec<Group>,
    figures: String,
    without_rows: Vec<char>,
    /// How far the runs are to be trusted.
    trust: Vec<(String, String)>,
    differing: Vec<(String, Vec<String>)>,
}

/// The comparison as one self-contained page.
///
/// # Errors
/// There are fewer than two runs or more than [`super::RUNS_MAX`], or their rows cannot be read.
pub fn compare_html(runs: &[RunData]) -> Result<String, ReportError> {
    check(runs)?;
    let names = names(runs);
    let row = |(index, run): (usize, &RunData)| RunRow {
        letter: letter(index),
        color: index + 1,
        name: names[index].clone(),
        title: own_words(runs, index),
        command: command(run),
    };
    let versions: Vec<&str> = runs.iter().filter_map(|run| run.manifest()["tool_version"].as_str()).collect();
    let figures = curves::figures(runs, &names)?;
    let page = Page {
        tool: versions.first().map_or_else(|| "overbook".to_owned(), |version| format!("overbook {version}")),
        runs: runs.iter().enumerate().map(row).collect(),
        headline: headline(runs, &names),
        sentences: sentences(runs),
        warnings: warnings(runs),
        groups: GROUPS.iter().map(|&(name, metrics)| Group { name, rows: rows(metrics, runs) }).collect(),
        figures: figures.iter().map(Figure::html).collect(),
        without_rows: runs.iter().enumerate().filter(|(_, run)| !run.has_requests()).map(|(i, _)| letter(i)).collect(),
        trust: trust(runs)
            .into_iter()
            .map(|(letter, text)| {
                (letter.map_or_else(|| "Trust".to_owned(), |letter| format!("Trust, {letter}")), text)
            })
            .collect(),
        differing: differing(runs),
    };
    Ok(page.render()?)
}

/// What is told of a run beside its name: its title or, where others have the same one, what it assumes otherwise than they do.
fn own_words(runs: &[RunData], index: usize) -> String {
    let title = runs[index].title();
    let twice = runs.iter().filter(|run| run.title() == title).count() > 1;
    let own: Vec<String> = if twice {
        differing(runs)
            .into_iter()
            .filter(|(what, _)| what != "Trust")
            .take(FACTS)
            .map(|(what, values)| format!("{what}: {}", values[index]))
            .collect()
    } else {
        Vec::new()
    };
    if own.is_empty() { title.to_owned() } else { format!("{title} – {}", own.join("; ")) }
}

fn headline(runs: &[RunData], names: &[String]) -> String {
    if runs.len() == 2 {
        format!("{} against {}", names[1], names[0])
    } else {
        format!("{} runs side by side", runs.len())
    }
}

/// What matters most, in one sentence per further run.
fn sentences(runs: &[RunData]) -> Vec<String> {
    let metrics = || GROUPS.iter().flat_map(|group| group.1);
    let sentence = |index: usize| {
        let parts = ["goodput_fraction", "p99_ttft_ms", "p99_tpot_ms", "output_throughput"].iter().filter_map(|key| {
            let metric: &Metric = metrics().find(|metric| metric.0 == *key)?;
            let (from, to) = (metric.value(&runs[0])?, metric.value(&runs[index])?);
            let change = metric.change(Some(from), Some(to)).text;
            let change = if change == "=" { "unchanged".to_owned() } else { change };
            let words = [metric.1.to_owned(), metric.show(Some(to)), format!("({change})")].join(" ");
            // A number and its unit stay on one line.
            Some(words.replace(' ', "\u{a0}"))
        });
        format!("{}: {}.", letter(index), parts.collect::<Vec<_>>().join(", "))
    };
    (1..runs.len()).map(sentence).collect()
}

fn rows(metrics: &'static [Metric], runs: &[RunData]) -> Vec<(&'static str, Vec<Cell>)> {
    let row = |metric: &'static Metric| {
        let values: Vec<Option<f64>> = runs.iter().map(|run| metric.value(run)).collect();
        let cell = |(index, &value): (usize, &Option<f64>)| Cell {
            value: metric.show(value),
            change: (index > 0).then(|| metric.change(values[0], value)),
        };
        let known = values.iter().any(Option::is_some);
        known.then(|| (metric.1, values.iter().enumerate().map(cell).collect()))
    };
    metrics.iter().filter_map(row).collect()
}

/// The command line that made a run, as its manifest has it.
fn command(run: &RunData) -> String {
    let words = run.manifest()["command"].as_array().cloned().unwrap_or_default();
    let word = |word: &serde_json::Value| {
        let word = word.as_str().unwrap_or_default().to_owned();
        if word.contains([' ', '"', '$']) { format!("'{word}'") } else { word }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}
