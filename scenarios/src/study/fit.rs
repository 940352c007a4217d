//! Whether a model runs on a GPU at all: its heads divide, its weights fit, its kernels have known times.

use overbook_sim::cost::{CostError, HostCost, Roofline};
use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::memory::{self, Layout, MemoryError, PoolRule};
use overbook_sim::hardware::model::{ModelError, ModelSpec};
use overbook_sim::hardware::parallel::Parallelism;
use overbook_sim::hardware::server::Topology;
use overbook_sim::schedulers::SchedulerSpec;

use crate::scenario::{MaxModelLen, Scenario};

impl Scenario {
    /// How a replica of a model is laid out in memory.
    pub fn layout(&self, model: &ModelSpec) -> Layout {
        let longest = self.engine.max_model_len.and_then(MaxModelLen::tokens).unwrap_or(model.context);
        let needs = self.scheduler.needs();
        Layout {
            tensor_parallel: self.fleet.tensor_parallel,
            stages: self.fleet.stages(),
            ranks: self.fleet.dp_attention,
            experts: self.fleet.expert_parallel.map(|experts| experts.exchange),
            weights: self.engine.weights,
            kv: self.engine.kv,
            utilization: self.engine.gpu_memory_utilization,
            block_tokens: self.engine.block_tokens,
            slot_bytes: self.engine.retention.as_ref().map_or(0, |retention| retention.policy.work().slot_bytes),
            max_batched_tokens: needs.step_tokens.at(longest),
            max_seqs: needs.max_seqs,
            rule: match self.scheduler {
                SchedulerSpec::Sglang(_) => PoolRule::SetAside,
                SchedulerSpec::Trtllm(_) => PoolRule::Logits,
                _ => PoolRule::Profiled,
            },
        }
    }

    /// How a replica is spread over GPUs.
    pub fn spread(&self, topology: Option<&Topology>) -> Parallelism {
        Parallelism {
            tensor: self.fleet.tensor_parallel,
            stages: self.fleet.stages(),
            ranks: self.fleet.dp_attention,
            experts: self.fleet.expert_parallel,
            custom_all_reduce: !self.engine.disable_custom_all_reduce,
            topology: topology.cloned(),
        }
    }
}

/// The first thing that does not fit, as (path it is about, message with the arithmetic).
pub(super) fn check(
    scenario: &Scenario,
    model: &ModelSpec,
    gpu: &GpuSpec,
    topology: Option<&Topology>,
) -> Result<(), (&'static str, String)> {
    let given = !scenario.engine.has_roofline();
    if scenario.gpu == "none" && !(given && scenario.engine.kv_tokens.is_some()) {
        let message = "`gpu: none` says nothing of memory and speed: give `engine.kv_tokens`, and `engine.cost` as `steps`, \
                       `table` or `constant`";
        return Err(("gpu", message.to_owned()));
    }
    let layout = scenario.layout(model);
    let Layout { weights, kv, .. } = layout;
    model.shard_split(layout.split()).map_err(|error| (about_model(&error), error.to_string()))?;
    if scenario.engine.kv_tokens.is_none() {
        memory::plan(gpu, model, &layout).map_err(|error| (about_memory(&error), error.to_string()))?;
    }
    if !given {
        let spread = scenario.spread(topology);
        Roofline::new(gpu, model, spread, weights, kv, HostCost::ZERO, 0)
            .map_err(|error| (about_cost(&error), error.to_string()))?;
    }
    Ok(())
}

fn about_model(error: &ModelError) -> &'static str {
    match error {
        ModelError::Split { what: "experts", .. } | ModelError::NoExperts { .. } => "fleet.expert_parallel",
        ModelError::Ranks { .. } => "fleet.dp_attention",
        ModelError::Split { .. } => "fleet.tensor_parallel",
        ModelError::Stages { .. } => "fleet.pipeline.stages",
        ModelError::Zero { .. } | ModelError::Groups { .. } | ModelError::Parts { .. } => "model",
    }
}

fn about_memory(error: &MemoryError) -> &'static str {
    match error {
        MemoryError::Model(error) => about_model(error),
        MemoryError::Utilization(_) => "engine.gpu_memory_utilization",
        MemoryError::DoesNotFit(_) => "model",
    }
}

fn about_cost(error: &CostError) -> &'static str {
    match error {
        CostError::Model(error) => about_model(error),
        CostError::Weights { .. } | CostError::Experts { .. } => "engine.weights",
        CostError::Attention { .. } => "engine.kv",
        CostError::AllReduce { .. } | CostError::Group { .. } | CostError::NoNetwork { .. } => "fleet.tensor_parallel",
        CostError::AllToAll { .. } | CostError::Spread { .. } => "fleet.expert_parallel",
        CostError::NoNccl { .. } => "engine.disable_custom_all_reduce",
        CostError::RanksInStages => "fleet.dp_attention",
        CostError::Placeless => "fleet.pipeline",
    }
}
