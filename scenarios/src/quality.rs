//! What answers are worth when only some tokens are kept: measured rows, and nothing beyond them.
//!
//! A row is a model, a task, a policy and a budget, with the share of right answers and its source. Between the budgets of one policy
//! of one source scores are interpolated (monotone cubic in the logarithm of the budget); outside them, and for policies, models and
//! tasks that nobody measured, the quality is unknown.

use std::collections::BTreeMap;
use std::path::Path;

use overbook_sim::hardware::model::ModelSpec;
use overbook_sim::kv::retention::{OutputRule, PromptRule, Protect, RetentionPolicy, RetentionSpec};
use overbook_sim::results::summary::Quality;
use serde::Deserialize;

use crate::point::Point;
use crate::scenario::Scenario;

/// One measured score.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityRow {
    /// Model, as its source names it.
    pub model: String,
    /// Task.
    pub task: String,
    /// Policy; ours by their names in scenarios.
    pub policy: String,
    /// What was evicted.
    pub evicts: Evicts,
    /// Slots in each layer and KV head.
    pub budget: u32,
    /// Right answers [percent].
    pub score: f64,
    /// The same with all tokens kept.
    pub full: f64,
    /// Answers of each question, where the source says so.
    pub samples: Option<u32>,
    /// How the number came: published, digitised, independent, leaderboard, own-run.
    pub kind: String,
    /// Where it stands.
    pub source: String,
}

/// When tokens went in a measurement. Scores of one kind say nothing of the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evicts {
    /// Once, when the prompt was complete; all output was kept (`prompt: at-end`, `output: keep`).
    Prompt,
    /// While decoding too (`output: evict`).
    Throughout,
}

impl Evicts {
    /// The kind that settings are of, if measurements have it.
    fn of(retention: &RetentionSpec) -> Option<Evicts> {
        match (retention.prompt, retention.output) {
            (_, OutputRule::Evict) => Some(Evicts::Throughout),
            (PromptRule::AtEnd, OutputRule::Keep) => Some(Evicts::Prompt),
            (PromptRule::EachChunk, OutputRule::Keep) => None,
        }
    }
}

/// Why there is no quality.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QualityError {
    /// A table cannot be read, or a row of it is not right.
    #[error("cannot take the quality table {path}: {message}")]
    Table {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// Nobody measured the task.
    #[error("no row has the task `{task}`; known are {known}")]
    Task {
        /// What was asked for.
        task: String,
        /// Tasks.
        known: String,
    },
    /// Nobody measured the model at it.
    #[error("no row has `{task}` with the model `{model}`; it was measured with {known}: name one with `model`")]
    Model {
        /// The task.
        task: String,
        /// What was asked for.
        model: String,
        /// Models.
        known: String,
    },
}

const BUILT_IN: &str = include_str!("../catalog/quality.csv");

const KINDS: [&str; 5] = ["published", "digitised", "independent", "leaderboard", "own-run"];

/// The rows of the catalog.
pub fn catalog() -> Vec<QualityRow> {
    parse("the catalog's", BUILT_IN).unwrap_or_default()
}

/// Reads a table of the user's.
///
/// # Errors
/// It cannot be read, or has a row without a source, of an unknown kind, or with a score that is none.
pub fn read(path: &Path) -> Result<Vec<QualityRow>, QualityError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| QualityError::Table { path: name.clone(), message: error.to_string() })?;
    parse(&name, &text)
}

fn parse(path: &str, text: &str) -> Result<Vec<QualityRow>, QualityError> {
    let wrong = |message: String| QualityError::Table { path: path.to_owned(), message };
    let mut rows: Vec<QualityRow> = Vec::new();
    for row in csv::Reader::from_reader(text.as_bytes()).deserialize::<QualityRow>() {
        let row = row.map_err(|error| wrong(error.to_string()))?;
        let line = rows.len() + 2;
        if row.source.trim().is_empty() {
            return Err(wrong(format!("line {line} has no source: a score that nobody can look up is not taken")));
        }
        if !KINDS.contains(&row.kind.as_str()) {
            return Err(wrong(format!("line {line} is of the kind `{}`; there are {}", row.kind, KINDS.join(", "))));
        }
        let share = |score: f64| (0.0..=100.0).contains(&score);
        if !share(row.score) || !share(row.full) || row.full <= 0.0 || row.budget == 0 {
            return Err(wrong(format!("line {line}: scores are from 0 to 100 percent, `full` and `budget` above 0")));
        }
        let same = |other: &&QualityRow| {
            let key = |row: &QualityRow| {
                (row.model.clone(), row.task.clone(), row.policy.clone(), row.evicts, row.budget, row.source.clone())
            };
            key(other) == key(&row)
        };
        if rows.iter().any(|other| same(&other)) {
            return Err(wrong(format!(
                "line {line} has the model, task, policy, budget and source of a line before it"
            )));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(wrong("it has no rows".to_owned()));
    }
    Ok(rows)
}

/// A name as it is compared: without case, and without what says that a model follows instructions.
fn plain(name: &str) -> String {
    name.to_lowercase().trim_end_matches("-instruct").to_owned()
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Point {
    /// What the answers of this point are worth for the budgets that were used; `None` where the scenario names no task.
    ///
    /// # Errors
    /// The table cannot be read, or nobody measured the task with the model.
    pub fn quality(&self, budgets: impl Iterator<Item = u32>) -> Result<Option<Quality>, QualityError> {
        of(&self.scenario, &self.model, budgets)
    }
}

/// What the answers of a scenario are worth; see [`Point::quality`].
pub(crate) fn of(
    scenario: &Scenario,
    model: &ModelSpec,
    budgets: impl Iterator<Item = u32>,
) -> Result<Option<Quality>, QualityError> {
    let Some(spec) = &scenario.slo.quality else { return Ok(None) };
    let rows = spec.table.as_deref().map_or_else(|| Ok(catalog()), read)?;
    let scenario_model = model;
    let model = spec.model.as_deref().unwrap_or(&model.name);
    let retention = scenario.engine.retention.as_ref();
    let policy = retention.map_or(RetentionPolicy::Full, |retention| retention.policy);
    let mut quality = scores(&rows, (&spec.task, model), (&policy, retention.and_then(Evicts::of)), budgets)?;
    // The catalog's rows are of policies as their sources had them; what a table of the user's was measured with, the user knows.
    let changed = retention.filter(|retention| {
        let plain = RetentionPolicy::all().into_iter().find(|policy| policy.name() == retention.policy.name());
        spec.table.is_none() && (retention.protect != Protect::default() || plain != Some(retention.policy))
    });
    if changed.is_some() && !quality.by_budget.keys().all(|&budget| budget == 0) {
        quality.by_budget.iter_mut().filter(|(budget, _)| **budget > 0).for_each(|(_, score)| *score = None);
        quality.unknown = format!(
            "`{}` was not measured with these settings; `slo.quality.table` takes rows of your own",
            policy.name()
        );
    }
    if plain(model) != plain(&scenario_model.name) {
        quality.model = format!("{}, taken for {}", quality.model, scenario_model.name);
    }
    Ok(Some(quality))
}

/// Scores of a policy at a task with a model, for the budgets that were used.
///
/// # Errors
/// No row has the task, or the task with this model.
pub fn scores(
    rows: &[QualityRow],
    (task, model): (&str, &str),
    (policy, evicts): (&RetentionPolicy, Option<Evicts>),
    budgets: impl Iterator<Item = u32>,
) -> Result<Quality, QualityError> {
    let of_task: Vec<&QualityRow> = rows.iter().filter(|row| row.task.eq_ignore_ascii_case(task)).collect();
    if of_task.is_empty() {
        let known = list(rows.iter().map(|row| row.task.as_str()));
        return Err(QualityError::Task { task: task.to_owned(), known });
    }
    let of_model: Vec<&QualityRow> = of_task.iter().copied().filter(|row| plain(&row.model) == plain(model)).collect();
    let Some(first) = of_model.first() else {
        let known = list(of_task.iter().map(|row| row.model.as_str()));
        return Err(QualityError::Model { task: task.to_owned(), model: model.to_owned(), known });
    };
    let mine: Vec<&QualityRow> =
        of_model.iter().copied().filter(|row| row.policy == policy.name() && Some(row.evicts) == evicts).collect();
    let share = |row: &QualityRow| of_percent(row.score);
    let budgets: Vec<u32> = budgets.filter(|&budget| budget > 0).collect();
    let mut sources: Vec<&str> = Vec::new();
    for row in &mine {
        if !sources.contains(&row.source.as_str()) {
            sources.push(&row.source);
        }
    }
    // Scores of two sources are not compared: one is taken, that which knows most of the budgets.
    let curves = sources.into_iter().map(|source| {
        let mut grid: Vec<(f64, f64)> = Vec::new();
        for row in mine.iter().filter(|row| row.source == source) {
            grid.push((f64::from(row.budget).log2(), share(row)));
        }
        grid.sort_by(|a, b| a.0.total_cmp(&b.0));
        let curve: BTreeMap<u32, Option<f64>> =
            budgets.iter().map(|&budget| (budget, inside(&grid, f64::from(budget).log2()))).collect();
        (source, curve)
    });
    let known = |curve: &BTreeMap<u32, Option<f64>>| curve.values().flatten().count();
    let best = curves.reduce(|best, other| if known(&other.1) > known(&best.1) { other } else { best });
    let (source, mut by_budget) =
        best.unwrap_or_else(|| (first.source.as_str(), budgets.iter().map(|&budget| (budget, None)).collect()));
    let origin = of_model.iter().find(|row| row.source == source).unwrap_or(first);
    let unmeasured: Vec<u32> =
        by_budget.iter().filter(|(_, score)| score.is_none()).map(|(&budget, _)| budget).collect();
    let unknown =
        if unmeasured.is_empty() { String::new() } else { why_unknown(&of_model, &mine, policy.name(), &unmeasured) };
    let full = of_percent(origin.full);
    by_budget.insert(0, Some(full));
    Ok(Quality {
        task: origin.task.clone(),
        model: origin.model.clone(),
        policy: policy.name().to_owned(),
        source: format!("{} ({})", origin.source, origin.kind),
        full,
        by_budget,
        unknown,
    })
}

/// Why nothing is known of some budgets of a policy: `of_model` are the rows of task and model, `mine` those of policy and way of evicting.
fn why_unknown(of_model: &[&QualityRow], mine: &[&QualityRow], policy: &str, budgets: &[u32]) -> String {
    let budgets = budgets.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    if let (Some(low), Some(high)) = (mine.iter().map(|row| row.budget).min(), mine.iter().map(|row| row.budget).max())
    {
        return format!("`{policy}` was measured from {low} to {high} slots, and not with {budgets}");
    }
    if let Some(other) = of_model.iter().find(|row| row.policy == policy) {
        return match other.evicts {
            Evicts::Prompt => format!("`{policy}` was measured with `prompt: at-end` and `output: keep` alone"),
            Evicts::Throughout => format!("`{policy}` was measured with `output: evict` alone"),
        };
    }
    format!("nobody measured `{policy}`; there are {}", list(of_model.iter().map(|row| row.policy.as_str())))
}

/// A share with as many digits as its percentage was written with.
fn of_percent(percent: f64) -> f64 {
    (percent * 1e6).round() / 1e8
}

/// The value at `x` between the points of a grid (Fritsch and Carlson's monotone cubic); `None` outside.
fn inside(grid: &[(f64, f64)], x: f64) -> Option<f64> {
    if let Some(point) = grid.iter().find(|point| (point.0 - x).abs() < 1e-12) {
        return Some(point.1);
    }
    let at = grid.windows(2).position(|pair| pair[0].0 < x && x < pair[1].0)?;
    let slope = |i: usize| (grid[i + 1].1 - grid[i].1) / (grid[i + 1].0 - grid[i].0);
    let last = grid.len() - 2;
    let tangent = |i: usize| match i {
        0 => slope(0),
        i if i > last => slope(last),
        i => {
            let (before, after) = (slope(i - 1), slope(i));
            if before * after <= 0.0 {
                return 0.0;
            }
            let (left, right) = (grid[i].0 - grid[i - 1].0, grid[i + 1].0 - grid[i].0);
            let (a, b) = (2.0 * right + left, right + 2.0 * left);
            (a + b) / (a / before + b / after)
        }
    };
    let (width, secant) = (grid[at + 1].0 - grid[at].0, slope(at));
    // At the ends of the grid a tangent may be three times the secant at most, or the curve would turn.
    let bound = |tangent: f64| if secant == 0.0 { 0.0 } else { (tangent / secant).clamp(0.0, 3.0) * secant };
    let (m0, m1) = (bound(tangent(at)), bound(tangent(at + 1)));
    let t = (x - grid[at].0) / width;
    let (t2, t3) = (t * t, t * t * t);
    Some(
        (2.0 * t3 - 3.0 * t2 + 1.0) * grid[at].1
            + (t3 - 2.0 * t2 + t) * width * m0
            + (3.0 * t2 - 2.0 * t3) * grid[at + 1].1
            + (t3 - t2) * width * m1,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use overbook_sim::kv::retention::policies::{SnapKv, TrimKv};

    use super::*;

    const TRIM: RetentionPolicy = RetentionPolicy::TrimKv(TrimKv { window: 0 });

    fn at(policy: RetentionPolicy, task: &str, model: &str, budget: u32) -> Option<f64> {
        of(policy, Evicts::Throughout, task, model, budget)
    }

    fn of(policy: RetentionPolicy, evicts: Evicts, task: &str, model: &str, budget: u32) -> Option<f64> {
        let kind = (&policy, Some(evicts));
        scores(&catalog(), (task, model), kind, [budget].into_iter()).unwrap().by_budget[&budget]
    }

    #[test]
    fn every_row_of_the_catalog_is_right_and_the_kvpress_rows_are_among_them() {
        let rows = parse("catalog", BUILT_IN).unwrap();
        let of = |kind: &str| rows.iter().filter(|row| row.kind == kind).count();
        assert_eq!((of("leaderboard"), of("digitised")), (158, 60));
        let keys: std::collections::BTreeSet<_> =
            rows.iter().map(|row| (&row.model, &row.task, &row.policy, row.evicts as u8, row.budget)).collect();
        assert_eq!(keys.len(), rows.len(), "one score for each model, task, policy and budget");
    }

    #[test]
    fn scores_are_those_of_rows_between_them_monotone_and_beyond_them_unknown() {
        assert_eq!(at(TRIM, "MATH-500", "qwen3-4b", 512), Some(0.908));
        let grid: Vec<f64> = (128..=512).map(|budget| at(TRIM, "math-500", "Qwen3-4B", budget).unwrap()).collect();
        assert!(grid.windows(2).all(|pair| pair[0] <= pair[1]), "{grid:?}");
        assert_eq!(at(TRIM, "MATH-500", "qwen3-4b", 63), None);
        assert_eq!(at(TRIM, "MATH-500", "qwen3-4b", 2049), None);
        assert_eq!(at(RetentionPolicy::Tova, "MATH-500", "qwen3-4b", 512), None, "nobody measured it");
        let snap = RetentionPolicy::SnapKv(SnapKv::default());
        assert_eq!(of(snap, Evicts::Prompt, "RULER-4k", "qwen3-8b", 1024), Some(0.3306));
        assert_eq!(at(snap, "RULER-4k", "qwen3-8b", 1024), None, "measured with all output kept");
    }

    #[test]
    fn scores_of_two_sources_are_not_mixed() {
        let text = "model,task,policy,evicts,budget,score,full,samples,kind,source\n\
            m,t,trim-kv,throughout,64,45,50,,published,paper A\n\
            m,t,trim-kv,throughout,128,72,90,,published,paper B\n\
            m,t,trim-kv,throughout,512,81,90,,published,paper B\n";
        let rows = parse("two.csv", text).unwrap();
        let of = |budgets: &[u32]| {
            scores(&rows, ("t", "m"), (&TRIM, Some(Evicts::Throughout)), budgets.iter().copied()).unwrap()
        };
        let one = of(&[512]);
        assert_eq!((one.full, one.by_budget[&512], one.source.as_str()), (0.9, Some(0.81), "paper B (published)"));
        let more = of(&[64, 128, 512]);
        assert_eq!((more.full, more.by_budget[&64], more.by_budget[&512]), (0.9, None, Some(0.81)));
        assert!(more.unknown.contains("not with 64"), "{}", more.unknown);
        let twice = format!("{text}m,t,trim-kv,throughout,512,80,90,,published,paper B\n");
        assert!(parse("x.csv", &twice).unwrap_err().to_string().contains("line 5 has the model"));
    }

    #[test]
    fn what_is_not_known_is_told_with_what_is() {
        let rows = catalog();
        let told = |task, model| {
            let kind = (&TRIM, Some(Evicts::Throughout));
            scores(&rows, (task, model), kind, std::iter::empty()).unwrap_err().to_string()
        };
        assert!(told("MMLU", "qwen3-4b").contains("known are `AIME24`"), "{}", told("MMLU", "qwen3-4b"));
        assert!(told("GSM8K", "llama-3.1-8b").contains("measured with `Qwen3-4B`"));
        let bare = "model,task,policy,evicts,budget,score,full,samples,kind,source\nm,t,trim-kv,throughout,8,50,90,,own-run,\n";
        assert!(parse("x.csv", bare).unwrap_err().to_string().contains("line 2 has no source"));
    }
}
