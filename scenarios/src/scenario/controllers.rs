//! The controllers around the replicas: what the router sees, roles, refusals, failures, scaling.

use overbook_sim::units::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The controllers of a fleet. What is left out is not there.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControllersSpec {
    /// Some of the replicas compute prompts only, the others decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disaggregation: Option<DisaggregationSpec>,
    /// What requests must be likely to get, or they are refused on arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_rejection: Option<EarlyRejectionSpec>,
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

impl ControllersSpec {
    pub(super) fn is_empty(&self) -> bool {
        *self == ControllersSpec::default()
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

/// How old the router's view of the replicas is. It adds what it has decided itself since the last report was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterViewSpec {
    /// Time between two reports of a replica: its queue, blocks and cached prefixes. At least 1 ms.
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

/// An autoscaler as Kubernetes' (HPA): at every interval it wants load ÷ target replicas, rounded up, unless the load is within a tolerance of what the
/// replicas that it has should carry. It grows by at most four or by its double within 15 s, and shrinks to the most that it wanted within the cool-down.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoscaleSpec {
    /// Replicas at least, and at the start.
    pub min: u32,
    /// What a replica should have.
    pub target: ScaleTargetSpec,
    /// Time from the decision until a replica takes requests: a machine, an image, weights. It is paid for.
    pub start_up: Duration,
    /// Time between two decisions, at least 1 ms (HPA: 15 s).
    #[serde(default = "hpa_interval")]
    pub interval: Duration,
    /// For how long a lower load must have lasted before replicas leave (HPA: 5 min). A replica that leaves first ends what it has.
    #[serde(default = "hpa_cool_down")]
    pub cool_down: Duration,
    /// Share by which the load may be off the target before anything changes (HPA: 0.1).
    #[serde(default = "hpa_tolerance")]
    pub tolerance: f64,
    /// How fast replicas are added at most; `unlimited`, or as HPA's `behavior.scaleUp`.
    #[serde(default)]
    pub growth: GrowthSpec,
}

/// How fast an autoscaler grows.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GrowthSpec {
    /// By as many as are wanted, at once.
    Unlimited,
    /// Within any `per` by so many replicas, or by so many percent of those that there were, whichever is more.
    Limited {
        /// Replicas (HPA: 4).
        replicas: u32,
        /// Percent (HPA: 100).
        percent: f64,
        /// The time that is looked back upon (HPA: 15 s).
        per: Duration,
    },
}

impl Default for GrowthSpec {
    fn default() -> Self {
        GrowthSpec::Limited { replicas: 4, percent: 100.0, per: hpa_interval() }
    }
}

/// What the number of replicas follows.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleTargetSpec {
    /// Waiting and running requests of a replica.
    Outstanding(f64),
    /// Share of its KV blocks in use, up to 1.
    KvUse(f64),
    /// Waiting requests of a replica: for those that compute prompts, where decodes are elsewhere.
    Waiting(f64),
    /// How long the next request of its queue has waited, the mean over the replicas.
    QueueTime(Duration),
}

fn hpa_tolerance() -> f64 {
    0.1
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
