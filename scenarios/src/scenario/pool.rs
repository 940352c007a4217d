//! Replicas of several kinds in one fleet.

use overbook_sim::cost::HostCost;
use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::hardware::parallel::ExpertParallel;
use overbook_sim::units::Bandwidth;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AutoscaleSpec, CostSpec, EngineSpec, EngineVersion, FrontendSpec, MaxModelLen, PipelineSpec, Scenario};
use crate::yaml::join;

/// Replicas of one kind. What a pool does not say is what the scenario says above it; a pool that names a GPU or a server takes
/// neither from there. All pools have the same model and scheduler.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Copies of the model in this pool, 1 or more.
    pub replicas: u32,
    /// What load on one of them counts for routers that weigh, from 1: at twice the weight half as much.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// The GPU: a name in the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// The server: a name in the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// GPUs that split every layer of a copy, 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_parallel: Option<u32>,
    /// Groups of such GPUs, each with a run of the layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PipelineSpec>,
    /// Whole experts on each GPU of a group instead of a share of every expert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert_parallel: Option<ExpertParallel>,
    /// Parts of such a group that divide the requests among them (data-parallel attention).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dp_attention: Option<u32>,
    /// Replicas of this pool come and go with its load; `replicas` is the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<AutoscaleSpec>,
    /// What is different about the inference engine.
    #[serde(default, skip_serializing_if = "PoolEngineSpec::is_empty")]
    pub engine: PoolEngineSpec,
}

/// What may be different about the inference engine of a pool.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolEngineSpec {
    /// Number format of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightDtype>,
    /// Number format of keys and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvDtype>,
    /// Share of the GPU's memory that the engine may use, above 0 and up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory_utilization: Option<f64>,
    /// Size of the KV pool of one replica [tokens].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<u64>,
    /// Longest sequence, prompt and output [tokens].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<MaxModelLen>,
    /// Version of vLLM, where its defaults depend on it. The pools share a scheduler: they get the least of their limits, and plan
    /// ahead if all do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<EngineVersion>,
    /// Whether steps run without CUDA graphs, each kernel launched by the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_eager: Option<bool>,
    /// Whether groups of GPUs do without the engine's own all-reduce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_custom_all_reduce: Option<bool>,
    /// What a step costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostSpec>,
    /// What copies between a GPU and its host's memory get, one direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_link: Option<Bandwidth>,
    /// Host time per step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostCost>,
    /// What the server's front end adds to the latencies of every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontend: Option<FrontendSpec>,
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

impl PoolEngineSpec {
    fn is_empty(&self) -> bool {
        *self == PoolEngineSpec::default()
    }

    fn over(&self, engine: &EngineSpec) -> EngineSpec {
        EngineSpec {
            weights: self.weights.unwrap_or(engine.weights),
            kv: self.kv.unwrap_or(engine.kv),
            block_tokens: engine.block_tokens,
            gpu_memory_utilization: self.gpu_memory_utilization.unwrap_or(engine.gpu_memory_utilization),
            kv_tokens: self.kv_tokens.or(engine.kv_tokens),
            max_model_len: self.max_model_len.or(engine.max_model_len),
            cost: self.cost.as_ref().unwrap_or(&engine.cost).clone(),
            host_link: self.host_link.unwrap_or(engine.host_link),
            prefix_cache: engine.prefix_cache.clone(),
            retention: engine.retention.clone(),
            speculation: engine.speculation.clone(),
            host: self.host.or(engine.host),
            version: self.version.clone().or_else(|| engine.version.clone()),
            enforce_eager: self.enforce_eager.unwrap_or(engine.enforce_eager),
            disable_custom_all_reduce: self.disable_custom_all_reduce.unwrap_or(engine.disable_custom_all_reduce),
            frontend: self.frontend.or(engine.frontend),
        }
    }

    pub(crate) fn says(&self, key: &str) -> bool {
        match key {
            "weights" => self.weights.is_some(),
            "kv" => self.kv.is_some(),
            "gpu_memory_utilization" => self.gpu_memory_utilization.is_some(),
            "kv_tokens" => self.kv_tokens.is_some(),
            "max_model_len" => self.max_model_len.is_some(),
            "cost" => self.cost.is_some(),
            "host_link" => self.host_link.is_some(),
            "host" => self.host.is_some(),
            "version" => self.version.is_some(),
            "enforce_eager" => self.enforce_eager.is_some(),
            "disable_custom_all_reduce" => self.disable_custom_all_reduce.is_some(),
            "frontend" => self.frontend.is_some(),
            _ => false,
        }
    }
}

impl PoolSpec {
    /// The pool as a fleet of its own: all that it says, and for the rest what the scenario says.
    pub(crate) fn alone(&self, scenario: &Scenario) -> Scenario {
        let mut own = scenario.clone();
        own.engine = self.engine.over(&scenario.engine);
        if self.gpu.is_some() || self.server.is_some() {
            own.gpu = self.gpu.clone().unwrap_or_default();
            own.fleet.server.clone_from(&self.server);
        }
        let fleet = &mut own.fleet;
        fleet.pools.clear();
        fleet.controllers.autoscale = self.autoscale;
        fleet.replicas = self.replicas;
        fleet.tensor_parallel = self.tensor_parallel.unwrap_or(fleet.tensor_parallel);
        fleet.pipeline = self.pipeline.or(fleet.pipeline);
        fleet.expert_parallel = self.expert_parallel.or(fleet.expert_parallel);
        fleet.dp_attention = self.dp_attention.unwrap_or(fleet.dp_attention);
        own
    }

    /// Where the setting that a fleet of this pool alone would have at `path` is stated: in the pool with this number, or
    /// above it.
    pub(crate) fn place(&self, number: usize, path: &str) -> String {
        if let (Some(rest), Some(_)) = (path.strip_prefix("fleet.controllers.autoscale"), self.autoscale) {
            return format!("fleet.pools.{number}.autoscale{rest}");
        }
        let (root, rest) = path.split_once('.').unwrap_or(("", path));
        let key = rest.split('.').next().unwrap_or(rest);
        let own = match (root, key) {
            ("", "gpu") => self.gpu.is_some() || self.server.is_some(),
            ("fleet", "server") => self.server.is_some(),
            ("fleet", "tensor_parallel") => self.tensor_parallel.is_some(),
            ("fleet", "pipeline") => self.pipeline.is_some(),
            ("fleet", "expert_parallel") => self.expert_parallel.is_some(),
            ("fleet", "dp_attention") => self.dp_attention.is_some(),
            ("engine", key) => self.engine.says(key),
            _ => false,
        };
        if !own {
            return path.to_owned();
        }
        join(&format!("fleet.pools.{number}"), path.strip_prefix("fleet.").unwrap_or(path))
    }
}
