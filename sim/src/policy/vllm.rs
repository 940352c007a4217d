//! vLLM v1's scheduler.

use serde::{Deserialize, Serialize};

/// Order of the waiting queue, and the choice of the preemption victim that goes with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueueOrder {
    /// First come, first served; the victim is the last of the running list.
    #[default]
    Fcfs,
    /// (priority, arrival, id); the victim is the running request with the largest (priority, arrival).
    Priority,
}

/// Settings of vLLM's v1 scheduler, with vLLM's names and the defaults of its server on a large GPU.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VllmSpec {
    /// Waiting-queue order (vLLM's `--scheduling-policy`).
    pub policy: QueueOrder,
    /// Token budget of one step.
    pub max_num_batched_tokens: u32,
    /// Cap on scheduled tokens per step, if lower than the budget.
    pub max_num_scheduled_tokens: Option<u32>,
    /// Running requests at most.
    pub max_num_seqs: u32,
    /// Cap on running requests for admission; default `max_num_seqs`.
    pub max_num_active_seqs: Option<u32>,
    /// Chunks of prompts longer than this are capped to it; 0 is off.
    pub long_prefill_token_threshold: u32,
    /// Raise the threshold to an equal share of the budget when few requests are present.
    pub long_prefill_token_threshold_adaptive: bool,
    /// Split prompts over steps.
    pub enable_chunked_prefill: bool,
    /// Admit only if the blocks of the whole prompt are free (vLLM's `scheduler_reserve_full_isl`).
    pub scheduler_reserve_full_isl: bool,
    /// Share of the pool kept free when admitting beside running requests.
    pub watermark: f64,
    /// Carry prefill only in every n-th step while requests decode; 1 is off.
    pub prefill_schedule_interval: u32,
    /// Plan step t+1 while step t runs (lane depth 2).
    pub async_scheduling: bool,
    /// Keep and share the KV blocks of equal prefixes.
    pub enable_prefix_caching: bool,
}

impl Default for VllmSpec {
    fn default() -> Self {
        VllmSpec {
            policy: QueueOrder::Fcfs,
            max_num_batched_tokens: 8192,
            max_num_scheduled_tokens: None,
            max_num_seqs: 256,
            max_num_active_seqs: None,
            long_prefill_token_threshold: 0,
            long_prefill_token_threshold_adaptive: false,
            enable_chunked_prefill: true,
            scheduler_reserve_full_isl: true,
            watermark: 0.0,
            prefill_schedule_interval: 1,
            async_scheduling: true,
            enable_prefix_caching: true,
        }
    }
}
