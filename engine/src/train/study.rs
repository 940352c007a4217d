//! Models, gates and measurements over several seeds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use overbook_sim::streams::Purpose;

use super::backbone::{self, BackboneSettings};
use super::files::{write_config, write_weights};
use super::gates::{self, GateSettings};
use super::net::{Vars, config};
use super::{Progress, TrainError, Watch};
use crate::config::Config;
use crate::recall::evaluate::{Cut, Judge};
use crate::recall::gates::Gates;
use crate::recall::policies::{Knowledge, RULES, Rule, Setting};
use crate::recall::reference::Reference;
use crate::recall::regress::Regressors;
use crate::recall::table::{Run, margins_csv, runs_csv, table_csv, tune};
use crate::recall::tasks::{Layout, TASKS, Task};
use crate::weights::Files;

/// What is trained and measured.
#[derive(Clone, PartialEq, Debug)]
pub struct StudySettings {
    /// Seeds; each trains a model and gates of its own.
    pub seeds: Vec<u64>,
    /// Tasks, each with gates of its own.
    pub tasks: Vec<Task>,
    /// Slots in each layer and KV head.
    pub budgets: Vec<usize>,
    /// How models are trained.
    pub backbone: BackboneSettings,
    /// How gates are trained.
    pub gates: GateSettings,
    /// Sequences of a measurement.
    pub sequences: usize,
    /// Sequences on which a setting is tried, with the first seed's model.
    pub tuning: usize,
    /// Sequences to which the learned linear score is fitted.
    pub fitting: usize,
    /// Whether gates without the capacity loss are measured on pairs, too.
    pub ablation: bool,
}

impl Default for StudySettings {
    fn default() -> Self {
        StudySettings {
            seeds: (0..5).collect(),
            tasks: TASKS.to_vec(),
            budgets: vec![8, 16, 24, 32, 48],
            backbone: BackboneSettings::default(),
            gates: GateSettings::default(),
            sequences: 64,
            tuning: 16,
            fitting: 32,
            ablation: true,
        }
    }
}

impl StudySettings {
    /// A few minutes: one seed, one task, three budgets.
    pub fn quick() -> StudySettings {
        StudySettings {
            seeds: vec![0],
            tasks: vec![Task::Pairs],
            budgets: vec![8, 24, 48],
            sequences: 32,
            tuning: 8,
            ..StudySettings::default()
        }
    }
}

/// Sequences of the linear score begin here: neither the model nor its gates have seen them.
const FITTING: u64 = 1 << 40;
/// Name of the ablation in tables.
const WITHOUT_CAPACITY: &str = "trim-kv-without-capacity-loss";

/// A trained model, ready to be measured.
struct Trained<'a> {
    settings: &'a StudySettings,
    config: Config,
    model: Reference,
    vars: Vars,
    seed: u64,
    folder: &'a Path,
}

/// Trains and measures everything into a folder: `seed-N/` with model and gates, `runs.csv`, `table.csv` and `margins.csv`, which are
/// written anew after each task, so that what is finished stays when the caller stops.
///
/// # Errors
/// The caller wants to stop, a file cannot be written, or a loss is no number any more.
pub fn study(settings: &StudySettings, folder: &Path, watch: Watch<'_>) -> Result<Vec<Run>, TrainError> {
    let (mut runs, mut tuned) = (Vec::new(), BTreeMap::new());
    for seed in settings.seeds.iter().copied() {
        let place = folder.join(format!("seed-{seed}"));
        let failed = |error: std::io::Error| TrainError::Write { path: place.clone(), detail: error.to_string() };
        std::fs::create_dir_all(&place).map_err(failed)?;
        let config = config();
        let vars = backbone::train(&config, &settings.backbone, seed, watch)?.vars;
        write_config(&config, &place)?;
        write_weights(&vars, &place.join("model.safetensors"))?;
        // What is measured is what the files say.
        let model = Reference::new(Config::load(&place)?, &Files::open(&place)?)?;
        let trained = Trained { settings, config, model, vars, seed, folder: &place };
        for task in settings.tasks.iter().copied() {
            runs.extend(trained.measure(task, &mut tuned, watch)?);
            write_tables(&runs, folder)?;
        }
    }
    Ok(runs)
}

/// Settings by task, budget and place of the rule: chosen with the first model, used for all.
type Tuned = BTreeMap<(Task, usize, usize), Setting>;

impl Trained<'_> {
    fn measure(&self, task: Task, tuned: &mut Tuned, watch: Watch<'_>) -> Result<Vec<Run>, TrainError> {
        let layout = task.layout();
        let gates = self.gates(&layout, &self.settings.gates, &format!("gates-{}", task.name()), watch)?;
        let samples = layout.draw(self.seed, Purpose::Training, FITTING, self.settings.fitting);
        let regressors = Some(Arc::new(Regressors::fit(&self.model, &samples)));
        let knowledge = Knowledge { gates: Some(Arc::new(gates)), regressors, future: None, seed: self.seed };
        let judge = Judge { model: &self.model, knowledge };
        let mut cells = Vec::new();
        for budget in self.settings.budgets.iter().copied() {
            for (place, rule) in RULES.into_iter().enumerate() {
                cells.push((budget, place, rule));
            }
        }
        let samples = layout.draw(self.seed, Purpose::Testing, 0, self.settings.sequences);
        let (mut runs, of) = (Vec::new(), cells.len());
        let what = format!("measuring {}", task.name());
        for (done, (budget, place, rule)) in cells.into_iter().enumerate() {
            let setting = match tuned.get(&(task, budget, place)) {
                Some(setting) => *setting,
                None => tune(&judge, &layout, rule, budget, self.settings.tuning)?,
            };
            tuned.insert((task, budget, place), setting);
            let accuracy = judge.accuracy(&layout, &samples, Cut { setting, budget, phase: task.phase() })?;
            runs.push(self.run(rule.name(), task, budget, setting, accuracy));
            let progress = Progress { what: &what, step: done + 1, of, loss: 0.0, accuracy: accuracy as f32 };
            if !watch(progress) {
                return Err(TrainError::Interrupted);
            }
        }
        if self.settings.ablation && task == Task::Pairs {
            let settings = GateSettings { capacity: 0.0, ..self.settings.gates.clone() };
            let gates = self.gates(&layout, &settings, "gates-pairs-without-capacity-loss", watch)?;
            let knowledge = Knowledge { gates: Some(Arc::new(gates)), seed: self.seed, ..Knowledge::default() };
            let judge = Judge { model: &self.model, knowledge };
            for budget in self.settings.budgets.iter().copied() {
                let setting = Setting { rule: Rule::Trim, sinks: 0, recent: 0 };
                let accuracy = judge.accuracy(&layout, &samples, Cut { setting, budget, phase: task.phase() })?;
                runs.push(self.run(WITHOUT_CAPACITY, task, budget, setting, accuracy));
            }
        }
        Ok(runs)
    }

    fn run(&self, policy: &str, task: Task, budget: usize, setting: Setting, accuracy: f64) -> Run {
        Run { policy: policy.to_owned(), rule: setting.rule, task, budget, seed: self.seed, accuracy, setting }
    }

    /// Trains gates, writes them, and reads them back.
    fn gates(
        &self,
        layout: &Layout,
        settings: &GateSettings,
        name: &str,
        watch: Watch<'_>,
    ) -> Result<Gates, TrainError> {
        let vars = gates::train(&self.config, &self.vars, layout, settings, self.seed, watch)?;
        let path = self.folder.join(format!("{name}.safetensors"));
        write_weights(&vars, &path)?;
        Ok(Gates::load(self.model.config(), &path)?)
    }
}

fn write_tables(runs: &[Run], folder: &Path) -> Result<(), TrainError> {
    let tables = [("runs.csv", runs_csv(runs)), ("table.csv", table_csv(runs)), ("margins.csv", margins_csv(runs))];
    for (name, text) in tables {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| TrainError::Write { path, detail: error.to_string() })?;
    }
    Ok(())
}
