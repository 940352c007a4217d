//! Policies: the seven kinds of decision a user may swap. This file holds the specifications (what a scenario says);
//! each policy lives in its own file below.

pub mod static_batch;
pub mod vllm;

use serde::{Deserialize, Serialize};

pub use static_batch::StaticSpec;
pub use vllm::{QueueOrder, VllmSpec};

/// Which scheduler plans the steps of a replica.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SchedulerSpec {
    /// vLLM v1 (0.33): unified token budget, chunked prefill, recompute preemption.
    Vllm(VllmSpec),
    /// Whole batches: form one, run it until all its requests have finished, form the next.
    Static(StaticSpec),
}

impl Default for SchedulerSpec {
    fn default() -> Self {
        SchedulerSpec::Vllm(VllmSpec::default())
    }
}

/// How the router chooses a replica for an arriving request. Ties go to the lowest replica number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RouterSpec {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Uniformly at random.
    Random,
    /// Fewest unfinished requests (waiting and running).
    LeastOutstanding,
    /// Shortest queue: fewest waiting requests, then fewest unfinished.
    JoinShortestQueue,
    /// The one of two random replicas with fewer unfinished requests.
    PowerOfTwo,
}
