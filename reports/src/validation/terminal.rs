//! The validation on the terminal.

use super::{ErrorGroup, HEADLINE, JudgedRun, Validation, percent, share};
use crate::format::Unit;

/// Worst runs that are shown.
const WORST: usize = 12;

/// Names of runs that are shown for one missing piece.
const NAMES: usize = 3;

/// Tables of errors, the worst runs, and what could not be simulated.
pub fn validation_text(validation: &Validation) -> String {
    let mut lines = vec![format!(
        "{} runs simulated, {} not; errors are simulated / measured - 1",
        validation.simulated(),
        validation.missed.len()
    )];
    lines.push(String::new());
    lines.push(format!("{:<34}{:>5}  {:<20}{:>9}{:>9}{:>9}", "group", "runs", "metric", "bias", "median", "p90"));
    let complete = validation.complete();
    for group in Some(complete).filter(|group| group.runs > 0).into_iter().chain(validation.groups()) {
        lines.extend(group_lines(&group));
    }
    lines.push(String::new());
    lines.push("worst runs".to_owned());
    for run in validation.worst_first().into_iter().take(WORST) {
        lines.push(run_line(run));
    }
    if !validation.missed.is_empty() {
        lines.push(String::new());
        lines.push("not simulated".to_owned());
    }
    for (missing, runs) in validation.gaps() {
        let names: Vec<&str> = runs.iter().take(NAMES).map(|run| run.id.as_str()).collect();
        let more = if runs.len() > NAMES { ", …" } else { "" };
        lines.push(format!("  {:>4}  {missing} ({}{more})", runs.len(), names.join(", ")));
    }
    lines.join("\n") + "\n"
}

fn group_lines(group: &ErrorGroup) -> Vec<String> {
    let rows = group.rows.iter().filter(|row| HEADLINE.contains(&row.metric.as_str()));
    rows.enumerate()
        .map(|(index, row)| {
            let name = if index == 0 { group.name.as_str() } else { "" };
            let name: String = name.chars().take(33).collect();
            let figures = [percent(row.bias), share(row.median), share(row.p90)];
            let [bias, median, p90] = figures;
            format!("{name:<34}{:>5}  {:<20}{bias:>9}{median:>9}{p90:>9}", row.runs, row.metric)
        })
        .collect()
}

fn run_line(run: &JudgedRun) -> String {
    let figures = run.headline().filter_map(|pair| {
        let unit = Unit::of(&pair.metric);
        Some(format!("{} {} ({})", pair.metric, unit.show(pair.measured), percent(pair.error()?)))
    });
    format!("  {}: {}", run.id, figures.collect::<Vec<_>>().join(", "))
}
