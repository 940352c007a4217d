//! What an engine's steps cost on a machine, as it was measured: the file that `engine.cost.steps` names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HullRange;
use super::profiled_power::ProfiledPower;
use super::steps::StepErrors;
use crate::cost::jitter::{Jitter, Jittered};
use crate::cost::steps::{StepForm, Steps};
use crate::cost::table::{Grid, Table, TableError};
use crate::cost::{CostModel, HostCost};
use crate::hardware::gpu::OriginKind;
use crate::units::Duration;

/// A calibration profile of whole steps.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepProfile {
    /// Version of the profile format: 1.
    pub version: u32,
    /// Name, for messages and reports.
    pub name: String,
    /// Measured on an engine's own steps, or inferred from outside of it.
    pub kind: OriginKind,
    /// The model, as the scenario called it.
    pub model: String,
    /// The engine and its settings that matter to its speed.
    pub engine: ProfiledEngine,
    /// The machine.
    pub hardware: Hardware,
    /// Day of the measurement.
    pub measured: String,
    /// The measured steps.
    pub samples: SampleFile,
    /// Differences below this are not significant.
    pub noise: Noise,
    /// Shapes that were repeated, to check later whether the machine is as fast as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anchors: Vec<AnchorTime>,
    /// Ranges of the shapes that were measured.
    pub hull: Vec<HullRange>,
    /// Host time per step, where steps do not overlap.
    pub host: HostCost,
    /// Time between a client and the engine that is no step's: for `workload.client_time.base`. Only of profiles inferred from
    /// outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_time: Option<Duration>,
    /// The closed form.
    pub form: StepForm,
    /// Its errors on steps held out.
    pub form_errors: Vec<StepErrors>,
    /// The same steps as grids, linear in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<StepTable>,
    /// Errors of the grids on steps that are no points of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub table_errors: Vec<StepErrors>,
    /// How far steps of one shape lay apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Jitter>,
    /// What the GPU draws; absent where no watts were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Box<ProfiledPower>>,
    /// What the measurements do not identify, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unidentified: Vec<String>,
}

/// The engine that was measured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfiledEngine {
    /// Name and version.
    pub name: String,
    /// What ran the steps, e.g. `cpu`.
    pub executor: String,
    /// Its compute threads, if it is a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Number format of the weights.
    pub weights: String,
    /// Tokens per KV block.
    pub block_tokens: u32,
}

/// The machine that was measured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// The processor or GPU, as the system calls it.
    pub device: String,
    /// How many: cores of a CPU, or GPUs.
    pub count: u32,
    /// Operating system and architecture.
    pub system: String,
}

/// The file of the measured steps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleFile {
    /// Its name, beside the profile.
    pub file: String,
    /// BLAKE3 of its content, in hex.
    pub blake3: String,
    /// Shapes in it.
    pub shapes: u64,
    /// Seed of their order.
    pub seed: u64,
}

/// Differences below this are not significant [%].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Median over the shapes of the interquartile range of repeats.
    pub repeats_percent: f64,
    /// Largest range of an anchor's times over the measurement; the steps are those of the machine as it was in the mean.
    /// Absent if none was measured more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_percent: Option<f64>,
    /// Time that the process waited for a CPU; absent where the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_delay_percent: Option<f64>,
    /// Time that other machines took of the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal_percent: Option<f64>,
}

/// The time of an anchor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchorTime {
    /// Its shape in words.
    pub name: String,
    /// Its mean over the measurement [µs].
    pub us: f64,
}

/// Grids of step times.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepTable {
    /// Decode: rows are sequences, columns the mean context.
    pub decode: StepGrid,
    /// Prefill of one sequence: rows are new tokens, columns tokens present.
    pub prefill: StepGrid,
}

/// Measured times over two axes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepGrid {
    /// First axis.
    pub rows: Vec<u32>,
    /// Second axis.
    pub columns: Vec<u32>,
    /// Times, a list per row [µs].
    pub device_us: Vec<Vec<f64>>,
}

impl StepGrid {
    /// The grid as a list of rows.
    pub fn of(grid: &Grid) -> Self {
        let device_us = grid.device_us.chunks(grid.columns.len().max(1)).map(<[f64]>::to_vec).collect();
        StepGrid { rows: grid.rows.clone(), columns: grid.columns.clone(), device_us }
    }

    fn flat(&self) -> Grid {
        Grid { rows: self.rows.clone(), columns: self.columns.clone(), device_us: self.device_us.concat() }
    }
}

/// Which of a profile's two models is meant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepModel {
    /// The closed form.
    #[default]
    Fitted,
    /// The grids.
    Table,
}

/// A profile cannot be used.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum StepProfileError {
    /// It says nothing of how far steps lie apart.
    #[error("the profile has no `jitter`; calibrate again, or leave out `jitter: true`")]
    NoJitter,
    /// Its `jitter` is broken.
    #[error("`jitter`: {0}")]
    Jitter(&'static str),
    /// It has no grids.
    #[error("the profile has no table; use `model: fitted`")]
    NoTable,
    /// Its grids are broken.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A coefficient that is not a number of at least zero.
    #[error("`form.{0}` is not a number of at least 0")]
    Form(&'static str),
}

impl StepProfile {
    /// The cost model; `host` outranks the profile's.
    ///
    /// # Errors
    /// It has no such model, or its numbers are none.
    pub fn cost(&self, model: StepModel, host: Option<HostCost>) -> Result<Box<dyn CostModel>, StepProfileError> {
        let host = host.unwrap_or(self.host);
        match model {
            StepModel::Fitted => {
                let form = &self.form;
                let numbers = [
                    ("step_us", form.step_us),
                    ("row_us", form.row_us),
                    ("chunk_us", form.chunk_us),
                    ("kv_ns", form.kv_ns),
                    ("pair_ns", form.pair_ns),
                ];
                let slopes = form.tokens.iter().map(|slope| ("tokens", slope.us));
                let bad = numbers.into_iter().chain(slopes).find(|(_, number)| !(number.is_finite() && *number >= 0.0));
                match bad {
                    Some((name, _)) => Err(StepProfileError::Form(name)),
                    None => Ok(Box::new(Steps::new(form.clone(), host))),
                }
            }
            StepModel::Table => {
                let table = self.table.as_ref().ok_or(StepProfileError::NoTable)?;
                Ok(Box::new(Table::new(&table.decode.flat(), &table.prefill.flat(), host)?))
            }
        }
    }

    /// The cost model with steps that lie as far apart as its repeats did.
    ///
    /// # Errors
    /// As [`StepProfile::cost`]; the profile does not say how far.
    pub fn jittered(&self, model: StepModel, host: Option<HostCost>) -> Result<Box<dyn CostModel>, StepProfileError> {
        let jitter = self.jitter.clone().ok_or(StepProfileError::NoJitter)?;
        jitter.check().map_err(StepProfileError::Jitter)?;
        Ok(Box::new(Jittered::new(self.cost(model, host)?, jitter)))
    }

    /// How much longer the anchors take now than when the profile was measured: the geometric mean of their ratios, less one.
    /// `None` if none of them is the profile's.
    pub fn slower(&self, now: &[AnchorTime]) -> Option<f64> {
        let then = |name: &str| self.anchors.iter().find(|anchor| anchor.name == name);
        let ratios: Vec<f64> =
            now.iter().filter_map(|anchor| Some((anchor.us / then(&anchor.name)?.us).ln())).collect();
        (!ratios.is_empty()).then(|| (ratios.iter().sum::<f64>() / ratios.len() as f64).exp() - 1.0)
    }

    /// What a replica may ask of it that was not measured: `axis value (measured low to high)`.
    pub fn outside(&self, seqs: u32, tokens: u32, longest: u32) -> Vec<String> {
        // The last token of the longest sequence is never attended to.
        let asked = [("sequences", seqs), ("tokens", tokens), ("context", longest.saturating_sub(1))];
        let range = |axis: &str| self.hull.iter().find_map(|range| range.axes.get(axis)).copied();
        let outside = asked.into_iter().filter_map(|(axis, value)| {
            let [low, high] = range(axis)?;
            (u64::from(value) > high).then(|| format!("{axis} {value} (measured {low} to {high})"))
        });
        outside.collect()
    }
}
