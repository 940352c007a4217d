//! What a scenario file says, as types. The doc comments are the descriptions in the JSON Schema.

mod engine;
mod expect;
mod model;
mod pool;
mod problems;
mod slo;
mod sweep;
mod workload;

use overbook_sim::hardware::parallel::ExpertParallel;
use overbook_sim::routers::RouterSpec;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::units::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use engine::{ConstantCost, CostSpec, EngineSpec, ProfileCost, StepsCost, TableCost};
pub use expect::{Coordinate, ExpectSpec, OverSpec};
pub use model::ModelChoice;
pub use pool::{PoolEngineSpec, PoolSpec};
pub(crate) use problems::key_of;
pub use slo::{GoodputSpec, Slo};
pub use sweep::SweepSpec;
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
    /// Some of the replicas compute prompts only, the others decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disaggregation: Option<DisaggregationSpec>,
    /// What requests must be likely to get, or they are refused on arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_rejection: Option<EarlyRejectionSpec>,
    /// How the router chooses a replica; among those for prompts, where some are.
    pub router: RouterSpec,
    /// How old the router's view of the replicas is; without, it sees them live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_view: Option<RouterViewSpec>,
    /// Replicas that fail at given moments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureSpec>,
    /// Replicas that fail at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultsSpec>,
    /// Replicas come and go with the load; `replicas` is the most. Without, all are there all the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<AutoscaleSpec>,
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
            disaggregation: None,
            early_rejection: None,
            router: RouterSpec::default(),
            router_view: None,
            failures: Vec::new(),
            faults: None,
            autoscale: None,
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

/// Prompts on some replicas, decodes on the others (DistServe, Splitwise, vLLM and SGLang with KV connectors).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DisaggregationSpec {
    /// Replicas that compute prompts, from 1 to all but one.
    pub prefill: u32,
    /// The link that carries KV between replicas, one port for each GPU: a name in the catalog. Left out, that of
    /// `fleet.server`: inside a server that holds the whole fleet, else between servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Prompt tokens that wait at every replica for prompts, above which the next request is served whole by a decoding
    /// replica (Splitwise's mixed pool, 8192 there); by default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow_tokens: Option<u32>,
    /// Send each layer as soon as it is computed, instead of all when the prompt is done.
    #[serde(default)]
    pub layerwise: bool,
}

/// Promises that a request must be likely to get, judged by what waits and runs when it arrives (Mooncake's early rejection).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyRejectionSpec {
    /// Time to first token at most: the prompts that wait at the chosen replica and its own, less what is cached there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<Duration>,
    /// Length of a decode step at most, with the request in it, as full as the decoding replica is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tbt: Option<Duration>,
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

/// How old the router's view of the replicas is. It adds what it has decided itself since the last report was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterViewSpec {
    /// Time between two reports of a replica: its queue, blocks and cached prefixes.
    pub interval: Duration,
    /// Time that a report takes to the router.
    #[serde(default = "at_once")]
    pub delay: Duration,
}

/// A replica fails, or all replicas on a server: all that they had is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailureSpec {
    /// When, from the start.
    pub at: Duration,
    /// Which replica, from 0; or `server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u32>,
    /// Which server, from 0, with all replicas on it. Replicas fill the servers of their pool in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<u32>,
    /// For how long no request is sent there; then it is back, empty.
    #[serde(default = "at_once")]
    pub down_for: Duration,
}

/// Replicas, or servers with all replicas on them, fail at random, independently of each other; times up and down are exponential.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultsSpec {
    /// Mean time between coming up and failing.
    pub mtbf: Duration,
    /// Mean time until it is back.
    pub mttr: Duration,
    /// What fails.
    #[serde(default, skip_serializing_if = "FaultDomain::is_replica")]
    pub of: FaultDomain,
}

/// What fails at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultDomain {
    /// Each replica alone.
    #[default]
    Replica,
    /// All replicas on a server.
    Server,
}

impl FaultDomain {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_replica(&self) -> bool {
        *self == FaultDomain::Replica
    }
}

/// An autoscaler as Kubernetes' (HPA): at every interval it wants load ÷ target replicas, rounded up. It grows at once and shrinks to
/// the most that it wanted within the cool-down.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoscaleSpec {
    /// Replicas at least, and at the start.
    pub min: u32,
    /// What a replica should have.
    pub target: ScaleTargetSpec,
    /// Time from the decision until a replica takes requests: a machine, an image, weights. It is paid for.
    pub start_up: Duration,
    /// Time between two decisions (HPA: 15 s).
    #[serde(default = "hpa_interval")]
    pub interval: Duration,
    /// For how long a lower load must have lasted before replicas leave (HPA: 5 min). Who leaves first ends what it has.
    #[serde(default = "hpa_cool_down")]
    pub cool_down: Duration,
}

/// What the number of replicas follows.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleTargetSpec {
    /// Waiting and running requests of a replica.
    Outstanding(f64),
    /// Share of its KV blocks in use, up to 1.
    KvUse(f64),
}

fn hpa_interval() -> Duration {
    Duration(overbook_sim::time::Span(15_000_000_000))
}

fn hpa_cool_down() -> Duration {
    Duration(overbook_sim::time::Span(300_000_000_000))
}

fn at_once() -> Duration {
    Duration(overbook_sim::time::Span::ZERO)
}
