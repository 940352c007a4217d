//! Accuracy of policies over budgets and seeds: settings chosen on sequences of their own, then measured, then put into tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use overbook_sim::streams::Purpose;

use super::evaluate::{Cut, Judge};
use super::policies::{Lacking, Rule, Setting};
use super::statistics::estimate;
use super::tasks::{Layout, Task};

/// One measurement.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Policy, or a variant of one.
    pub policy: String,
    /// How tokens are scored.
    pub rule: Rule,
    /// The task.
    pub task: Task,
    /// Slots in each layer and KV head.
    pub budget: usize,
    /// The model's seed.
    pub seed: u64,
    /// Share of right answers.
    pub accuracy: f64,
    /// The knobs it was measured with.
    pub setting: Setting,
}

/// The setting of a rule that has most right answers on tuning sequences; ties the first.
///
/// # Errors
/// The policy needs something that is not known.
pub fn tune(
    judge: &Judge<'_>,
    layout: &Layout,
    rule: Rule,
    budget: usize,
    sequences: usize,
) -> Result<Setting, Lacking> {
    let trials = rule.trials(budget);
    let mut best = (f64::NEG_INFINITY, trials[0]);
    if trials.len() > 1 {
        let samples = layout.draw(judge.knowledge.seed, Purpose::Tuning, 0, sequences);
        for setting in trials {
            let accuracy = judge.accuracy(layout, &samples, Cut { setting, budget, phase: layout.task.phase() })?;
            if accuracy > best.0 {
                best = (accuracy, setting);
            }
        }
    }
    Ok(best.1)
}

/// Cells of the table: runs that differ in nothing but the seed.
fn cells(runs: &[Run]) -> BTreeMap<(Task, usize, &str), Vec<&Run>> {
    let mut cells: BTreeMap<(Task, usize, &str), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        cells.entry((run.task, run.budget, run.policy.as_str())).or_default().push(run);
    }
    cells
}

/// All measurements, a line each.
pub fn runs_csv(runs: &[Run]) -> String {
    let mut text = "policy,task,context,budget,seed,accuracy,knobs\n".to_owned();
    for run in runs {
        let Run { policy, task, budget, seed, accuracy, setting, .. } = run;
        let context = task.layout().context;
        let _ = writeln!(text, "{policy},{},{context},{budget},{seed},{accuracy:.4},{setting}", task.name());
    }
    text
}

/// Means over seeds with their 95 % intervals (Student's t), a line a cell. A single seed has no interval: its fields are empty.
pub fn table_csv(runs: &[Run]) -> String {
    let mut text = "policy,task,context,budget,seeds,mean,low,high,knobs,kind\n".to_owned();
    for ((task, budget, policy), cell) in cells(runs) {
        let found = estimate(&cell.iter().map(|run| run.accuracy).collect::<Vec<f64>>());
        let (seeds, context) = (cell.len(), task.layout().context);
        let ends = ends(found.mean, found.half);
        let (task, knobs) = (task.name(), cell[0].setting);
        let _ = writeln!(text, "{policy},{task},{context},{budget},{seeds},{:.4},{ends},{knobs},own-run", found.mean);
    }
    text
}

/// How far TRIM-KV lies above the heuristic with the best mean, seed by seed, a line a task and budget.
pub fn margins_csv(runs: &[Run]) -> String {
    let mut text = "task,context,budget,seeds,trim_kv,best_heuristic,best_mean,margin,low,high\n".to_owned();
    let cells = cells(runs);
    let mean = |cell: &[&Run]| cell.iter().map(|run| run.accuracy).sum::<f64>() / cell.len() as f64;
    for ((task, budget, _), trim) in cells.iter().filter(|((_, _, policy), _)| *policy == Rule::Trim.name()) {
        let same = cells.iter().filter(|((t, b, _), cell)| (t, b) == (task, budget) && cell.len() == trim.len());
        let rivals = same.filter(|(_, cell)| cell[0].rule.is_heuristic());
        let Some((best, rival)) = rivals.max_by(|a, b| mean(a.1).total_cmp(&mean(b.1))) else { continue };
        let differences: Vec<f64> =
            trim.iter().zip(rival).map(|(trim, rival)| trim.accuracy - rival.accuracy).collect();
        let found = estimate(&differences);
        let (context, name, seeds, ours) = (task.layout().context, task.name(), trim.len(), mean(trim));
        let (ends, theirs) = (ends(found.mean, found.half), mean(rival));
        let _ = writeln!(
            text,
            "{name},{context},{budget},{seeds},{ours:.4},{},{theirs:.4},{:.4},{ends}",
            best.2, found.mean
        );
    }
    text
}

fn ends(mean: f64, half: f64) -> String {
    if half.is_nan() { ",".to_owned() } else { format!("{:.4},{:.4}", mean - half, mean + half) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_line_a_cell() {
        let run = |policy: &str, rule: Rule, seed: u64, accuracy: f64| Run {
            policy: policy.to_owned(),
            rule,
            task: Task::Pairs,
            budget: 24,
            seed,
            accuracy,
            setting: Setting { rule, sinks: 0, recent: 2 },
        };
        let runs = [
            run("trim-kv", Rule::Trim, 0, 0.9),
            run("trim-kv", Rule::Trim, 1, 0.8),
            run("knorm", Rule::Knorm, 0, 0.5),
            run("knorm", Rule::Knorm, 1, 0.6),
            run("window", Rule::Window, 0, 0.1),
            run("window", Rule::Window, 1, 0.2),
        ];
        let table = table_csv(&runs);
        assert!(table.contains("\ntrim-kv,pairs,128,24,2,0.8500,0.2147,1.4853,sinks=0 recent=2,own-run\n"), "{table}");
        assert!(table_csv(&runs[..1]).contains(",1,0.9000,,,"), "a single seed has no interval");
        let margins = margins_csv(&runs);
        assert!(margins.contains("\npairs,128,24,2,0.8500,knorm,0.5500,0.3000,"), "{margins}");
        assert_eq!(runs_csv(&runs).lines().count(), 7);
    }
}
