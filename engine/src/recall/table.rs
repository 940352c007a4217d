//! Accuracy of policies over budgets and seeds: settings chosen on sequences of their own, then measured, then put into tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};
use overbook_sim::results::interval::Interval;
use overbook_sim::streams::Purpose;

use super::evaluate::{Knowledge, Subject};
use super::tasks::Task;
use super::trials::{is_heuristic, knobs, trials};
use crate::executor::BuildError;

/// One measurement.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Policy, or a variant of one.
    pub policy: String,
    /// The task.
    pub task: Task,
    /// Slots in each layer and KV head.
    pub budget: u32,
    /// The model's seed.
    pub seed: u64,
    /// Share of right answers.
    pub accuracy: f64,
    /// The settings it was measured with.
    pub spec: RetentionSpec,
}

/// Of what a policy may try, the settings with most right answers on tuning sequences; ties the first.
///
/// # Errors
/// The budget is too small, or the policy needs something that is not known.
pub fn tune(
    subject: &Subject,
    known: &Knowledge,
    task: Task,
    policy: &RetentionPolicy,
    budget: u32,
    sequences: usize,
) -> Result<RetentionSpec, BuildError> {
    let mut trials = trials(task, policy, budget);
    if trials.len() < 2 {
        let none = || BuildError::Unfit(format!("a budget of {budget} is too small for `{}`", policy.name()));
        return trials.pop().ok_or_else(none);
    }
    let layout = task.layout();
    let samples = layout.draw(known.seed, Purpose::Tuning, 0, sequences);
    let mut best = (f64::NEG_INFINITY, 0);
    for (place, spec) in trials.iter().enumerate() {
        let accuracy = subject.accuracy(&layout, &samples, spec, known)?;
        if accuracy > best.0 {
            best = (accuracy, place);
        }
    }
    Ok(trials.swap_remove(best.1))
}

/// Cells of the table: runs that differ in nothing but the seed.
fn cells(runs: &[Run]) -> BTreeMap<(Task, u32, &str), Vec<&Run>> {
    let mut cells: BTreeMap<(Task, u32, &str), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        cells.entry((run.task, run.budget, run.policy.as_str())).or_default().push(run);
    }
    cells
}

/// All measurements, a line each.
pub fn runs_csv(runs: &[Run]) -> String {
    let mut text = "policy,task,context,budget,seed,accuracy,knobs\n".to_owned();
    for run in runs {
        let Run { policy, task, budget, seed, accuracy, spec, .. } = run;
        let context = task.layout().context;
        let _ = writeln!(text, "{policy},{},{context},{budget},{seed},{accuracy:.4},{}", task.name(), knobs(spec));
    }
    text
}

/// Means over seeds with their 95 % intervals (Student's t), a line a cell. A single seed has no interval: its fields are empty.
pub fn table_csv(runs: &[Run]) -> String {
    let mut text = "policy,task,context,budget,seeds,mean,low,high,knobs,kind\n".to_owned();
    for ((task, budget, policy), cell) in cells(runs) {
        let Some(found) = Interval::of(&cell.iter().map(|run| run.accuracy).collect::<Vec<f64>>()) else { continue };
        let (seeds, context) = (cell.len(), task.layout().context);
        let ends = ends(found.mean, found.half);
        let (task, knobs) = (task.name(), knobs(&cell[0].spec));
        let _ = writeln!(text, "{policy},{task},{context},{budget},{seeds},{:.4},{ends},{knobs},own-run", found.mean);
    }
    text
}

/// The means in the form of the catalog's quality table, in percent: what a scenario can state a bound on. Runs of [`Task::Preview`] are of
/// prompts that were cut once.
pub fn quality_csv(runs: &[Run]) -> String {
    let mut text = "model,task,policy,evicts,budget,score,full,samples,kind,source\n".to_owned();
    let cells = cells(runs);
    let mean = |cell: &[&Run]| 100.0 * cell.iter().map(|run| run.accuracy).sum::<f64>() / cell.len() as f64;
    for ((task, budget, policy), cell) in &cells {
        let Some(full) = cells.get(&(*task, *budget, "full")).filter(|_| *policy != "full") else { continue };
        let evicts = if *task == Task::Preview { "prompt" } else { "throughout" };
        let (name, seeds) = (task.name(), cell.len());
        // One source for all budgets of a policy, so that scores between them are interpolated.
        let source = format!("overbook train-retention; {seeds} seeds; settings of each budget in table.csv");
        let _ = writeln!(
            text,
            "{MODEL},recall-{name},{policy},{evicts},{budget},{:.2},{:.2},,own-run,{}",
            mean(cell),
            mean(full),
            source
        );
    }
    text
}

/// Name of the trained models in quality tables.
const MODEL: &str = "overbook-recall-2x64";

/// How far TRIM-KV lies above the heuristic with the best mean, seed by seed, a line a task and budget.
pub fn margins_csv(runs: &[Run]) -> String {
    let mut text = "task,context,budget,seeds,trim_kv,best_heuristic,best_mean,margin,low,high\n".to_owned();
    let cells = cells(runs);
    let mean = |cell: &[&Run]| cell.iter().map(|run| run.accuracy).sum::<f64>() / cell.len() as f64;
    for ((task, budget, _), trim) in cells.iter().filter(|((_, _, policy), _)| *policy == "trim-kv") {
        let same = cells.iter().filter(|((t, b, _), cell)| (t, b) == (task, budget) && cell.len() == trim.len());
        let rivals = same.filter(|(_, cell)| is_heuristic(&cell[0].spec.policy));
        let Some((best, rival)) = rivals.max_by(|a, b| mean(a.1).total_cmp(&mean(b.1))) else { continue };
        let differences: Vec<f64> =
            trim.iter().zip(rival).map(|(trim, rival)| trim.accuracy - rival.accuracy).collect();
        let Some(found) = Interval::of(&differences) else { continue };
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

fn ends(mean: f64, half: Option<f64>) -> String {
    half.map_or_else(|| ",".to_owned(), |half| format!("{:.4},{:.4}", mean - half, mean + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_line_a_cell() {
        let run = |name: &str, seed: u64, accuracy: f64| {
            let policy = RetentionPolicy::all().into_iter().find(|policy| policy.name() == name).expect("a policy");
            let mut spec = RetentionSpec::strict(policy, 24);
            spec.protect.latest = 2;
            Run { policy: name.to_owned(), task: Task::Pairs, budget: 24, seed, accuracy, spec }
        };
        let runs = [
            run("trim-kv", 0, 0.9),
            run("trim-kv", 1, 0.8),
            run("tova", 0, 0.5),
            run("tova", 1, 0.6),
            run("window", 0, 0.1),
            run("window", 1, 0.2),
        ];
        let table = table_csv(&runs);
        assert!(table.contains("\ntrim-kv,pairs,128,24,2,0.8500,0.2147,1.4853,window=0 latest=2,own-run\n"), "{table}");
        assert!(table_csv(&runs[..1]).contains(",1,0.9000,,,"), "a single seed has no interval");
        let margins = margins_csv(&runs);
        assert!(margins.contains("\npairs,128,24,2,0.8500,tova,0.5500,0.3000,"), "{margins}");
        assert_eq!(runs_csv(&runs).lines().count(), 7);
        assert_eq!(quality_csv(&runs).lines().count(), 1, "without full caches nothing is lost or kept");
        let with_full = [&runs[..], &[run("full", 0, 1.0), run("full", 1, 0.9)]].concat();
        let quality = quality_csv(&with_full);
        assert!(quality.contains(
            "\noverbook-recall-2x64,recall-pairs,tova,throughout,24,55.00,95.00,,own-run,overbook train-retention; 2 seeds; settings of each budget in table.csv\n"
        ), "{quality}");
    }
}
