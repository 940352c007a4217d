//! Models, gates and measurements over several seeds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use overbook_sim::kv::retention::policies::TrimKv;
use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};
use overbook_sim::streams::Purpose;

use super::backbone::{self, BackboneSettings};
use super::files::{read_weights, write_config, write_weights};
use super::gates::{self, GateSettings};
use super::kv_zap;
use super::net::{Vars, config};
use super::{Progress, TrainError, Watch};
use crate::config::Config;
use crate::recall::evaluate::{Knowledge, Subject};
use crate::recall::table::{Run, margins_csv, quality_csv, runs_csv, table_csv, tune};
use crate::recall::tasks::{Layout, TASKS, Task};
use crate::retention::{GateKind, Gates};
use crate::weights::Files;

/// What is trained and measured.
#[derive(Clone, PartialEq, Debug)]
pub struct StudySettings {
    /// Seeds; each trains a model and gates of its own.
    pub seeds: Vec<u64>,
    /// Tasks, each with gates of its own.
    pub tasks: Vec<Task>,
    /// Slots in each layer and KV head.
    pub budgets: Vec<u32>,
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
    vars: Vars,
    subject: Subject,
    seed: u64,
    folder: &'a Path,
}

/// Trains and measures everything into a folder: `settings.txt`, `seed-N/` with model and networks, `runs.csv`, `table.csv`, `margins.csv` and `quality.csv`,
/// which are written anew after each task, so that what is finished stays when the caller stops. What a folder of the same settings
/// already has is not trained again.
///
/// # Errors
/// The caller wants to stop, the folder holds another study, a file cannot be written or read, a budget is too small for a policy, or a
/// loss is no number any more.
pub fn study(settings: &StudySettings, folder: &Path, watch: Watch<'_>) -> Result<Vec<Run>, TrainError> {
    claim(settings, folder)?;
    let (mut runs, mut tuned) = (Vec::new(), BTreeMap::new());
    for seed in settings.seeds.iter().copied() {
        let place = folder.join(format!("seed-{seed}"));
        make(&place)?;
        let weights = place.join("model.safetensors");
        if !weights.exists() {
            let config = config();
            write_config(&config, &place)?;
            write_weights(&backbone::train(&config, &settings.backbone, seed, watch)?.vars, &weights)?;
        }
        // What is measured is what the files say.
        let subject = Subject::load(&place)?;
        let vars = read_weights(subject.config(), &Files::open(&place)?)?;
        let trained = Trained { settings, vars, subject, seed, folder: &place };
        for task in settings.tasks.iter().copied() {
            runs.extend(trained.measure(task, &mut tuned, watch)?);
            write_tables(&runs, folder)?;
        }
    }
    Ok(runs)
}

fn make(folder: &Path) -> Result<(), TrainError> {
    let failed = |error: std::io::Error| TrainError::Write { path: folder.to_owned(), detail: error.to_string() };
    std::fs::create_dir_all(folder).map_err(failed)
}

/// Writes the settings into a new folder, or finds the same ones in an old one. Seeds, tasks and budgets may differ: they only add to it.
fn claim(settings: &StudySettings, folder: &Path) -> Result<(), TrainError> {
    make(folder)?;
    let path = folder.join("settings.txt");
    let said = format!("{:#?}\n{:#?}\nfitting: {}\n", settings.backbone, settings.gates, settings.fitting);
    match std::fs::read_to_string(&path) {
        Ok(found) if found == said => Ok(()),
        Ok(_) => Err(TrainError::OtherStudy { path }),
        Err(_) => std::fs::write(&path, said).map_err(|error| TrainError::Write { path, detail: error.to_string() }),
    }
}

/// Settings by task, budget and policy: chosen with the first model, used for all.
type Tuned = BTreeMap<(Task, u32, &'static str), RetentionSpec>;

impl Trained<'_> {
    fn measure(&self, task: Task, tuned: &mut Tuned, watch: Watch<'_>) -> Result<Vec<Run>, TrainError> {
        let layout = task.layout();
        let gates = self.gates(&layout, &self.settings.gates, &format!("gates-{}", task.name()), watch)?;
        let zap = self.network(&format!("zap-{}", task.name()), GateKind::Score, || {
            kv_zap::fit(&self.subject, &self.vars, &layout, self.seed, (FITTING, self.settings.fitting))
        })?;
        let gates = [(GateKind::Retention, gates), (GateKind::Score, zap)].into();
        let known = Knowledge { gates, seed: self.seed };
        let samples = layout.draw(self.seed, Purpose::Testing, 0, self.settings.sequences);
        let (mut runs, policies) = (Vec::new(), RetentionPolicy::all());
        let of = policies.len() * self.settings.budgets.len();
        let what = format!("measuring {}", task.name());
        for budget in self.settings.budgets.iter().copied() {
            for policy in &policies {
                let key = (task, budget, policy.name());
                let spec = match tuned.get(&key) {
                    Some(spec) => spec.clone(),
                    None => tune(&self.subject, &known, task, policy, budget, self.settings.tuning)?,
                };
                let accuracy = self.subject.accuracy(&layout, &samples, &spec, &known)?;
                tuned.insert(key, spec.clone());
                runs.push(self.run(policy.name(), task, accuracy, spec));
                let progress = Progress { what: &what, step: runs.len(), of, loss: 0.0, accuracy: accuracy as f32 };
                if !watch(progress) {
                    return Err(TrainError::Interrupted);
                }
            }
        }
        if self.settings.ablation && task == Task::Pairs {
            let settings = GateSettings { capacity: 0.0, ..self.settings.gates.clone() };
            let gates = self.gates(&layout, &settings, "gates-pairs-without-capacity-loss", watch)?;
            let known = Knowledge { gates: [(GateKind::Retention, gates)].into(), seed: self.seed };
            for budget in self.settings.budgets.iter().copied() {
                let spec = task.rules(RetentionPolicy::TrimKv(TrimKv::default()), budget);
                let accuracy = self.subject.accuracy(&layout, &samples, &spec, &known)?;
                runs.push(self.run(WITHOUT_CAPACITY, task, accuracy, spec));
            }
        }
        Ok(runs)
    }

    fn run(&self, policy: &str, task: Task, accuracy: f64, spec: RetentionSpec) -> Run {
        Run { policy: policy.to_owned(), task, budget: spec.budget, seed: self.seed, accuracy, spec }
    }

    /// Gates of a task, as their file says.
    fn gates(
        &self,
        layout: &Layout,
        settings: &GateSettings,
        name: &str,
        watch: Watch<'_>,
    ) -> Result<Arc<Gates>, TrainError> {
        let config: &Config = self.subject.config();
        self.network(name, GateKind::Retention, || gates::train(config, &self.vars, layout, settings, self.seed, watch))
    }

    /// A network from its file, which is made first if it is not there.
    fn network(
        &self,
        name: &str,
        kind: GateKind,
        train: impl FnOnce() -> Result<Vars, TrainError>,
    ) -> Result<Arc<Gates>, TrainError> {
        let path = self.folder.join(format!("{name}.safetensors"));
        if !path.exists() {
            write_weights(&train()?, &path)?;
        }
        Ok(Arc::new(Gates::load(self.subject.config(), &path, kind)?))
    }
}

fn write_tables(runs: &[Run], folder: &Path) -> Result<(), TrainError> {
    let tables = [
        ("runs.csv", runs_csv(runs)),
        ("table.csv", table_csv(runs)),
        ("margins.csv", margins_csv(runs)),
        ("quality.csv", quality_csv(runs)),
    ];
    for (name, text) in tables {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| TrainError::Write { path, detail: error.to_string() })?;
    }
    Ok(())
}
