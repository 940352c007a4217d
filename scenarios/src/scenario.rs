//! What a scenario file says, as types. The doc comments are the descriptions in the JSON Schema.

mod engine;
mod expect;
mod model;
mod problems;
mod slo;
mod sweep;
mod workload;

use overbook_sim::policy::{RouterSpec, SchedulerSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use engine::{ConstantCost, CostSpec, EngineSpec, TableCost};
pub use expect::{Coordinate, ExpectSpec, OverSpec};
pub use model::ModelChoice;
pub(crate) use problems::key_of;
pub use slo::{GoodputSpec, Slo};
pub use sweep::SweepSpec;
pub use workload::{Clients, Limits, MaxNewTokens, WorkloadSpec};

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
    /// The GPU: a name in the catalog.
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
    /// Promises to the users; a run states whether it kept them.
    #[serde(default)]
    pub slo: Slo,
    /// Check every invariant after every step (slow).
    #[serde(default)]
    pub audit: bool,
    /// Values to vary: makes the scenario a study of many runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepSpec>,
    /// Figures that the results must meet, each with its source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<ExpectSpec>,
}

/// Replicas and how requests reach them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FleetSpec {
    /// Copies of the model, 1 to 4096.
    pub replicas: u32,
    /// GPUs that share one copy, 1 to 64.
    pub tensor_parallel: u32,
    /// How the router chooses a replica.
    pub router: RouterSpec,
}

impl Default for FleetSpec {
    fn default() -> Self {
        FleetSpec { replicas: 1, tensor_parallel: 1, router: RouterSpec::default() }
    }
}
