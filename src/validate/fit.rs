//! Constants fitted on the training runs alone, and again without each set.

use std::collections::HashMap;

use overbook_reports::validation::{ErrorGroup, JudgedRun, Part, Validation};
use overbook_scenarios::measured::{Constants, MeasuredRun};

use super::Training;
use super::imitate::{Simulation, point};

/// Logarithm of an error below which nearer is hardly better: no run can tell so little.
const BLUR: f64 = 0.03;

/// What was found.
pub(super) struct Fit {
    /// Fitted on all training runs.
    pub(super) constants: Constants,
    /// Errors of each set that has training runs, with constants fitted on those of the others.
    pub(super) left_out: Vec<ErrorGroup>,
    /// A table of all constants: fitted on all, and without each of those sets.
    pub(super) table: String,
}

/// Fits on all training runs, and once without each set of them.
pub(super) fn fit(runs: &[MeasuredRun], training: &[Training]) -> Fit {
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
        let judged = of_set.filter_map(|run| Some(Simulation::of(run, &constants, &[]).ok()?.compared(run)));
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

/// What a constant costs that is far from where its search began, per square of a logarithm: little, but more than a run gives that
/// it hardly touches.
const PULL: f64 = 0.001;

/// Mean over the training runs, without those of a set, and the pull of the start.
fn loss(trained: &mut [Trained], without: Option<&str>, constants: &Constants) -> f64 {
    let used = trained.iter_mut().filter(|one| without != Some(one.run.text("set")));
    let losses: Vec<f64> = used.map(|one| one.loss(constants)).collect();
    let far = |name: &str, start: f64| (constants.get(name) / start).ln().powi(2);
    let pull: f64 = Constants::FITTED.iter().map(|fitted| far(fitted.name, fitted.start)).sum();
    losses.iter().sum::<f64>() / losses.len().max(1) as f64 + PULL * pull
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
            point(run, constants, &[]).map(|(_, point)| (point.scenario.to_yaml(), point.gpu)).ok()
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
        let simulated = Simulation::of(self.run, constants, &[]).ok();
        let judged = simulated.and_then(|simulation| {
            if self.part { simulation.part(self.run, Part::FirstThird) } else { Some(simulation.compared(self.run)) }
        });
        let loss = judged.map_or(0.0, |judged| distance(&judged));
        self.known.insert(key, loss);
        loss
    }
}

/// What is fitted to: of each line the first figure that a run has.
const FIGURES: [&[&str]; 5] = [
    &["output_throughput", "request_throughput"],
    &["ttft_mean", "ttft_p50"],
    &["tpot_mean", "tpot_p50"],
    &["itl_mean", "itl_p50"],
    &["e2el_mean", "e2el_p50"],
];

/// Mean over the main figures of a run of |ln(simulated / measured)|, blurred.
fn distance(run: &JudgedRun) -> f64 {
    let error = |name: &&str| run.pairs.iter().find(|pair| pair.metric == **name)?.error();
    let first = |names: &&[&str]| names.iter().find_map(error);
    let logs = FIGURES.iter().filter_map(|names| Some((1.0 + first(names)?).max(1e-9).ln()));
    let losses: Vec<f64> = logs.map(|log| log.hypot(BLUR)).collect();
    losses.iter().sum::<f64>() / losses.len().max(1) as f64
}
