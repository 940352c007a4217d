//! What a scenario file says, as types. The doc comments are the descriptions in the JSON Schema.

mod controllers;
mod economics;
mod engine;
mod expect;
mod limiter;
mod longest;
mod model;
mod plan;
mod pool;
mod prefix_cache;
mod price;
mod problems;
mod row;
mod slo;
mod sweep;
mod version;
mod workload;

use overbook_sim::hardware::parallel::ExpertParallel;
use overbook_sim::power::policies::PowerPolicySpec;
use overbook_sim::routers::RouterSpec;
use overbook_sim::schedulers::SchedulerSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use controllers::{
    AutoscaleSpec, ControllersSpec, DisaggregationSpec, EarlyRejectionSpec, FailureSpec, FaultDomain, FaultsSpec,
    GrowthSpec, RouterViewSpec, ScaleTargetSpec,
};
pub(crate) use economics::CARBON_MAX;
pub use economics::{CapexSpec, CarbonSpec, EconomicsSpec};
pub use engine::{ConstantCost, CostSpec, EngineSpec, FrontendSpec, ProfileCost, StepsCost, TableCost};
pub use expect::{Basis, Coordinate, ExpectSpec, OverSpec};
pub use limiter::LimiterSpec;
pub use longest::MaxModelLen;
pub use model::ModelChoice;
pub use plan::{PlanMode, PlanObjective, PlanSpec};
pub use pool::{PoolEngineSpec, PoolSpec};
pub use prefix_cache::{CacheTierSpec, LoadSpec, PrefixCacheSpec, WriteSpec};
pub use price::{EnergyPrice, Price};
pub(crate) use problems::key_of;
pub use row::{BrakeSpec, CommandSpec, ResponseSpec, RowSpec, TelemetrySpec};
pub use slo::{GoodputSpec, QualitySpec, Slo};
pub use sweep::{DrawSpec, SweepSpec};
pub use version::EngineVersion;
pub use workload::{ClientTimeSpec, Clients, Limits, MaxNewTokens, RetryOn, RetrySpec, WorkloadSpec};

/// The version of the scenario format.
pub const VERSION: u32 = 1;

/// An Overbook scenario: a workload, a model on a fleet of GPUs, a scheduler, and what is promised.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Overbook scenario")]
pub struct Scenario {
    /// Version of the scenario format: 1.
    pub version: u32,
    /// Short name; run directories are named after it. Letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What the scenario is about, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Seed of every random stream.
    #[serde(default)]
    pub seed: u64,
    /// The requests.
    pub workload: WorkloadSpec,
    /// The model: a name in the catalog, or its shape.
    pub model: ModelChoice,
    /// The GPU: a name in the catalog. Left out, the GPU of `fleet.server`. `none` where pool and step costs are given, as for
    /// an engine on a CPU.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gpu: String,
    /// Replicas and how requests reach them.
    #[serde(default)]
    pub fleet: FleetSpec,
    /// The inference engine on each replica.
    #[serde(default)]
    pub engine: EngineSpec,
    /// The scheduler of each replica.
    #[serde(default)]
    pub scheduler: SchedulerSpec,
    /// What keeps the row of servers within its power budget; with it, or with `fleet.row`, watts are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<PowerPolicySpec>,
    /// What GPUs, energy and carbon cost, for reports and plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub economics: Option<EconomicsSpec>,
    /// Promises to the users; a run states whether it kept them.
    #[serde(default)]
    pub slo: Slo,
    /// Check every invariant after every step (slow).
    #[serde(default)]
    pub audit: bool,
    /// Values to vary: makes the scenario a study of many runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepSpec>,
    /// What `overbook plan` may choose from, and what it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSpec>,
    /// Figures that the results must meet, each with its source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<ExpectSpec>,
}

/// Replicas and how requests reach them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FleetSpec {
    /// Copies of the model, 1 to 4096. With `pools` their sum.
    pub replicas: u32,
    /// Replicas of several kinds, numbered pool by pool. Without, all are alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolSpec>,
    /// GPUs that split every layer of a copy, 1 to 64.
    pub tensor_parallel: u32,
    /// Groups of such GPUs, each with a run of the layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PipelineSpec>,
    /// Whole experts on each GPU of a group instead of a share of every expert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expert_parallel: Option<ExpertParallel>,
    /// The server: a name in the catalog. It gives the GPU, and the links of whatever crosses stages or servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The row that the servers stand in: power budget, telemetry, brake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<RowSpec>,
    /// The GPUs' own power limiters, if they are to slow steps down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limiter: Option<LimiterSpec>,
    /// How the router chooses a replica; among those for prompts, where some are.
    pub router: RouterSpec,
    /// What stands around the replicas and the router: views, roles, refusals, failures, scaling.
    #[serde(skip_serializing_if = "ControllersSpec::is_empty")]
    pub controllers: ControllersSpec,
}

impl Default for FleetSpec {
    fn default() -> Self {
        FleetSpec {
            replicas: 1,
            pools: Vec::new(),
            tensor_parallel: 1,
            pipeline: None,
            expert_parallel: None,
            server: None,
            row: None,
            limiter: None,
            router: RouterSpec::default(),
            controllers: ControllersSpec::default(),
        }
    }
}

impl FleetSpec {
    /// Pipeline stages of a replica.
    pub fn stages(&self) -> u32 {
        self.pipeline.map_or(1, |pipeline| pipeline.stages)
    }

    /// GPUs of a replica.
    pub fn gpus_per_replica(&self) -> u32 {
        self.tensor_parallel.saturating_mul(self.stages())
    }
}

/// A pipeline over groups of GPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    /// Groups, each with a run of the layers, 1 to 64.
    pub stages: u32,
    /// Steps that the pipeline works on at once. Engines take as many as there are stages, each with its own share of the
    /// requests; only 1 is simulated: stages wait for each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_in_flight: Option<u32>,
}
