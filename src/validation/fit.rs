//! Constants fitted on the training runs alone, and again without each set.

use std::collections::HashMap;

use overbook_reports::validation::{ErrorGroup, JudgedRun, Part, Validation};
use overbook_scenarios::measured::{Constants, MeasuredRun};

use super::Training;
use super::simulation::{Simulation, point};

/// What was found.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Fitted on all training runs.
    pub constants: Constants,
    /// Errors of each set that has training runs, with constants fitted on those of the others.
    pub left_out: Vec<ErrorGroup>,
    /// A table of all constants: fitted on all, and without each of those sets.
    pub table: String,
}

/// Fits on all training runs, and once without each set of them.
pub fn fit(runs: &[MeasuredRun], training: &[Training]) -> Fit {
    let mut trained: Vec<Trained> = runs
        .iter()
        .filter_map(|run| Some(Trained::new(run, training.iter().find(|one| one.id == run.id())?.part)))
        .collect();
    let mut sets: Vec<&str> = Vec::new();
    for one in &trained {
        if !sets.contains(&one.run.text("set")) {
            sets.push(one.run.text("set"));
        }
    }
    let constants = Constants::fit(&mut |constants| loss(&mut trained, None, constants));
    let mut left_out = Vec::new();
    let mut columns = vec![("all", constants.clone())];
    for set in sets {
        let constants = Constants::fit(&mut |constants| loss(&mut trained, Some(set), constants));
        let of_set = runs.iter().filter(|run| run.text("set") == set);
        let judged = of_set.filter_map(|run| Some(Simulation::of(run, &constants, &[], 1.0).ok()?.compared(run)));
        let judged: Vec<JudgedRun> = judged.collect();
        columns.push((set, constants));
        left_out.push(Validation::group(format!("refitted without {set}"), &judged));
    }
    Fit { constants, left_out, table: table(&columns) }
}

/// A line per constant, a column per fit.
fn table(columns: &[(&str, Constants)]) -> String {
    let heads = columns.iter().map(|(set, _)| if *set == "all" { "all".to_owned() } else { format!("-{set}") });
    let heads: Vec<String> = heads.map(|head| format!("{:>14}", head.chars().take(13).collect::<String>())).collect();
    let mut lines = vec![format!("{:<44}{}", "constant, fitted without", heads.concat())];
    for fitted in &Constants::FITTED {
        let values = columns.iter().map(|(_, constants)| format!("{:>14}", constants.get(fitted.name)));
        lines.push(format!("{:<44}{}", fitted.name, values.collect::<Vec<_>>().concat()));
    }
    lines.join("\n")
}

/// Mean over the training runs, without those of a set, and the pull of the start.
fn loss(trained: &mut [Trained], without: Option<&str>, constants: &Constants) -> f64 {
    let used = trained.iter_mut().filter(|one| without != Some(one.run.text("set")));
    let losses: Vec<f64> = used.map(|one| one.loss(constants)).collect();
    losses.iter().sum::<f64>() / losses.len().max(1) as f64 + constants.pull()
}

/// A training run with the constants that it depends on, and its losses so far.
struct Trained<'a> {
    run: &'a MeasuredRun,
    part: bool,
    depends: Vec<&'static str>,
    known: HashMap<Vec<u64>, f64>,
}

impl<'a> Trained<'a> {
    fn new(run: &'a MeasuredRun, part: bool) -> Trained<'a> {
        let start = Constants::start();
        let of = |constants: &Constants| {
            point(run, constants, &[], 1.0).map(|(_, point)| (point.scenario.to_yaml(), point.gpu)).ok()
        };
        let plain = of(&start);
        let moves = |name: &&'static str| of(&start.with(name, start.get(name) * 0.9)) != plain;
        let depends = Constants::FITTED.iter().map(|fitted| fitted.name).filter(moves).collect();
        Trained { run, part, depends, known: HashMap::new() }
    }

    fn loss(&mut self, constants: &Constants) -> f64 {
        let key: Vec<u64> = self.depends.iter().map(|name| constants.get(name).to_bits()).collect();
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let simulated = Simulation::of(self.run, constants, &[], 1.0).ok();
        let judged = simulated.and_then(|simulation| {
            if self.part { simulation.part(self.run, Part::FirstThird) } else { Some(simulation.compared(self.run)) }
        });
        let loss = judged.map_or(0.0, |judged| judged.loss());
        self.known.insert(key, loss);
        loss
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_table_has_a_line_per_constant_and_a_column_per_fit() {
        let start = Constants::start();
        let moved = start.with("host.s-lora.base_us", 1234.0);
        let text = table(&[("all", start.clone()), ("a-set-with-a-long-name", moved)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + Constants::FITTED.len());
        assert!(lines[0].ends_with("           all -a-set-with-a"), "{}", lines[0]);
        let slora = lines.iter().find(|line| line.starts_with("host.s-lora.base_us")).unwrap();
        assert!(slora.ends_with(&format!("{:>14}{:>14}", start.get("host.s-lora.base_us"), 1234.0)), "{slora}");
    }

    #[test]
    fn without_training_runs_the_loss_is_the_pull_of_the_start_alone() {
        let start = Constants::start();
        assert!(loss(&mut [], None, &start).abs() < 1e-12);
        let far = start.with("host.s-lora.base_us", start.get("host.s-lora.base_us") * 10.0);
        assert!((loss(&mut [], None, &far) - far.pull()).abs() < 1e-12 && far.pull() > 0.0);
    }
}
