//! The inference engine: number formats, memory, and what a step costs.

use std::path::PathBuf;

use overbook_sim::calibrate::StepModel;
use overbook_sim::cost::HostCost;
use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::units::{Bandwidth, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The inference engine on each replica.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSpec {
    /// Number format of the weights.
    pub weights: WeightDtype,
    /// Number format of keys and values.
    pub kv: KvDtype,
    /// Tokens per KV block, 1 to 512.
    pub block_tokens: u32,
    /// Share of the GPU's memory that the engine may use, above 0 and up to 1.
    pub gpu_memory_utilization: f64,
    /// Size of the KV pool of one replica [tokens]; by default what the memory leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<u64>,
    /// Longest sequence, prompt and output [tokens]; by default the model's context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u32>,
    /// What a step costs.
    pub cost: CostSpec,
    /// What copies between a GPU and its host's memory get, one direction, for schedulers that swap.
    pub host_link: Bandwidth,
    /// Host time per step; by default what the cost model says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostCost>,
}

impl Default for EngineSpec {
    fn default() -> Self {
        EngineSpec {
            weights: WeightDtype::default(),
            kv: KvDtype::default(),
            block_tokens: 16,
            gpu_memory_utilization: 0.9,
            kv_tokens: None,
            max_model_len: None,
            cost: CostSpec::default(),
            // What is left of PCIe 4.0 x16 in the catalog: 31.5 GB/s, of which large messages get 0.64.
            host_link: Bandwidth(20e9),
            host: None,
        }
    }
}

/// What a step costs.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CostSpec {
    /// Roofline over the model's kernels, with the GPU's measured efficiencies.
    #[default]
    Roofline,
    /// The same for every step.
    Constant(ConstantCost),
    /// Interpolated from measured steps.
    Table(TableCost),
    /// Whole steps as an engine was measured to take them: a calibration profile.
    Steps(StepsCost),
    /// The roofline with the kernel constants of a profile, where it has them, in place of the catalog's.
    Profile(ProfileCost),
}

/// Kernel constants, as `overbook calibrate` writes them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileCost {
    /// The file, relative to the scenario's folder.
    pub path: PathBuf,
}

/// The same cost for every step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstantCost {
    /// Time on the device.
    pub device: Duration,
    /// Host time to plan, launch and read back.
    #[serde(default = "no_time")]
    pub host: Duration,
}

fn no_time() -> Duration {
    Duration(overbook_sim::time::Span::ZERO)
}

/// A calibration profile of whole steps, as `overbook calibrate SCENARIO --on …` or `--url …` writes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepsCost {
    /// The file, relative to the scenario's folder.
    pub path: PathBuf,
    /// Which of its two models.
    #[serde(default)]
    pub model: StepModel,
    /// Whether steps of one shape lie as far apart as the profile's repeats did. Every step is simulated by itself then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub jitter: bool,
}

/// A table of measured steps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableCost {
    /// The file, relative to the scenario's folder.
    pub path: PathBuf,
}
