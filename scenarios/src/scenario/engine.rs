//! The inference engine: number formats, memory, and what a step costs.

use std::path::PathBuf;

use overbook_sim::calibrate::StepModel;
use overbook_sim::cost::HostCost;
use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::kv::retention::RetentionSpec;
use overbook_sim::units::{Bandwidth, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EngineVersion, MaxModelLen, PrefixCacheSpec, SpeculationSpec};

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
    /// Size of the KV pool of one replica [tokens], of all ranks together; by default what the memory leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<u64>,
    /// Longest sequence, prompt and output [tokens]; by default the model's context, with which vLLM does not start if the pool
    /// cannot hold it. `auto`: what the pool holds of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<MaxModelLen>,
    /// Version of vLLM, where its defaults depend on it: planning ahead since 0.14, larger steps on the largest GPUs since 0.28.
    /// By default the newest known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<EngineVersion>,
    /// Whether steps run without CUDA graphs, each kernel launched by the host.
    pub enforce_eager: bool,
    /// Whether groups of GPUs do without the engine's own all-reduce (`--disable-custom-all-reduce`): NCCL's takes longer in
    /// small steps. Links with collectives of their own have NCCL's in any case.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_custom_all_reduce: bool,
    /// What a step costs.
    pub cost: CostSpec,
    /// What copies between a GPU and its host's memory get, one direction, for schedulers that swap.
    pub host_link: Bandwidth,
    /// What becomes of KV that no request holds; by default vLLM's prefix cache on the GPUs, where the scheduler has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_cache: Option<PrefixCacheSpec>,
    /// Which tokens of a request keep their keys and values; by default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
    /// Speculative decoding; by default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculation: Option<SpeculationSpec>,
    /// Host time per step, and the time to draw tokens; by default what published runs of the engine show, or what the cost
    /// table says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostCost>,
    /// What the server's front end adds to the latencies of every request; by default what published runs of vLLM show. Where
    /// step costs are a table, a profile of whole steps or constant, by default nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontend: Option<FrontendSpec>,
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
            version: None,
            enforce_eager: false,
            disable_custom_all_reduce: false,
            cost: CostSpec::default(),
            // What is left of PCIe 4.0 x16 in the catalog: 31.5 GB/s, of which large messages get 0.64.
            host_link: Bandwidth(20e9),
            prefix_cache: None,
            retention: None,
            speculation: None,
            host: None,
            frontend: None,
        }
    }
}

impl EngineSpec {
    /// Whether step costs come from the roofline, with the constants of the catalog or of a profile.
    pub fn has_roofline(&self) -> bool {
        matches!(self.cost, CostSpec::Roofline | CostSpec::Profile(_))
    }
}

/// What the server's front end adds to the latencies of a request: HTTP, tokeniser, detokeniser, streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FrontendSpec {
    /// Of every request.
    pub base: Duration,
    /// For each request that the replica runs, itself included: one process serves all streams.
    #[serde(default = "no_time")]
    pub per_running: Duration,
    /// For each token of the prompt: the tokeniser.
    #[serde(default = "no_time")]
    pub per_prompt_token: Duration,
}

impl FrontendSpec {
    /// Nothing between client and engine.
    pub const NONE: FrontendSpec =
        FrontendSpec { base: no_time(), per_running: no_time(), per_prompt_token: no_time() };
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

const fn no_time() -> Duration {
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
