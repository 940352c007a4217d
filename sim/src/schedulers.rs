//! Policies: the seven kinds of decision a user may swap. This file holds the specifications (what a scenario says);
//! each policy lives in its own file below.

pub mod aggressive;
pub mod chunked;
pub mod conservative;
pub mod edf;
pub mod fastserve;
pub mod future_peak;
pub(crate) mod idle;
pub mod lightllm;
pub mod lightllm_main;
pub mod ltr;
pub mod orca;
pub(crate) mod pace;
pub mod past_future;
pub(crate) mod ranked;
pub mod sarathi;
pub mod semi_pd;
pub mod sglang;
pub mod sjf;
pub mod static_batch;
pub mod trtllm;
pub mod victim;
pub mod vllm;
pub mod vllm_v0;
pub mod vtc;

use serde::{Deserialize, Serialize};

use self::lightllm::{Gate, Router};
use crate::lengths::LengthSpec;
use crate::partitioners::Sharing;
use crate::serving::replica::Lanes;
use crate::units::Bytes;

pub use crate::serving::{Horizon, QueueOrder, Scheduler};
pub use aggressive::AggressiveSpec;
pub use chunked::BatchSpec;
pub use conservative::ConservativeSpec;
pub use edf::{EdfSpec, OnLate};
pub use fastserve::FastserveSpec;
pub use lightllm_main::LightllmMainSpec;
pub use ltr::LtrSpec;
pub use orca::OrcaSpec;
pub use past_future::PastFutureSpec;
pub use sarathi::SarathiSpec;
pub use semi_pd::SemiPdSpec;
pub use sglang::{SchedulePolicy, SglangSpec};
pub use sjf::SjfSpec;
pub use static_batch::StaticSpec;
pub use trtllm::{Capacity, TrtllmSpec};
pub use victim::{PreemptionMode, Victim};
pub use vllm::VllmSpec;
pub use vllm_v0::VllmV0Spec;
pub use vtc::{FairSpec, VtcSpec};

/// Which scheduler plans the steps of a replica.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SchedulerSpec {
    /// vLLM v1 (0.33): unified token budget, chunked prefill, recompute preemption.
    Vllm(VllmSpec),
    /// vLLM v0 (0.4 to 0.6): prefill first, whole prompts, preemption by recompute or swap.
    VllmV0(VllmV0Spec),
    /// SGLang (0.4.4): prefill first, admission by expected output, retraction.
    Sglang(SglangSpec),
    /// TensorRT-LLM: in-flight batching, with memory reserved or used to the full.
    Trtllm(TrtllmSpec),
    /// Sarathi-Serve: decodes first, then chunks of prompts, within one token budget.
    Sarathi(SarathiSpec),
    /// Orca: iteration-level batching, memory reserved for the whole output limit.
    Orca(OrcaSpec),
    /// semi-PD: prompts and decodes on two lanes that share the SMs and the KV pool.
    SemiPd(SemiPdSpec),
    /// Whole batches: form one, run it until all its requests have finished, form the next.
    Static(StaticSpec),
    /// Past-Future: admission by the peak of memory that the batch will reach, with lengths drawn from the past.
    PastFuture(PastFutureSpec),
    /// Aggressive admission: who fits now may enter.
    Aggressive(AggressiveSpec),
    /// Conservative admission: memory for the whole output limit, overcommitted if wished.
    Conservative(ConservativeSpec),
    /// LightLLM's own admission: the peak of memory that the batch will reach, with output limits.
    LightllmMain(LightllmMainSpec),
    /// Earliest deadline first, with admission that knows what cannot be met.
    Edf(EdfSpec),
    /// Virtual Token Counter: fair shares between tenants (classes).
    Vtc(VtcSpec),
    /// Shortest job first by predicted output length, without preemption for a shorter one.
    Sjf(SjfSpec),
    /// LTR: preemptive shortest job first by a predicted rank, with a guard against starvation.
    Ltr(LtrSpec),
    /// FastServe: skip-join multi-level feedback queue, preemptive, by service received.
    Fastserve(FastserveSpec),
}

impl SchedulerSpec {
    /// The scheduler of one replica; `seed` is that of its length model, if it has one.
    pub fn build(&self, seed: u64, replica: u32) -> Box<dyn Scheduler> {
        let router = |pace, gate: Box<dyn Gate>| Box::new(Router::new(pace, gate));
        match self {
            SchedulerSpec::Vllm(spec) => Box::new(vllm::Vllm::new(spec.clone())),
            SchedulerSpec::VllmV0(spec) => Box::new(vllm_v0::VllmV0::new(spec.clone())),
            SchedulerSpec::Sglang(spec) => Box::new(sglang::Sglang::new(spec.clone())),
            SchedulerSpec::Trtllm(spec) => Box::new(trtllm::Trtllm::new(spec.clone())),
            SchedulerSpec::Sarathi(spec) => Box::new(sarathi::Sarathi::new(spec.clone())),
            SchedulerSpec::Orca(spec) => Box::new(orca::Orca::new(spec.clone())),
            SchedulerSpec::SemiPd(spec) => Box::new(semi_pd::SemiPd::new(spec.clone())),
            SchedulerSpec::Static(spec) => Box::new(static_batch::StaticBatch::new(spec.clone())),
            SchedulerSpec::PastFuture(spec) => {
                router(spec.intake(), Box::new(past_future::Peak::new(spec, seed, replica)))
            }
            SchedulerSpec::Aggressive(spec) => router(spec.intake(), Box::new(aggressive::Fill::new(spec))),
            SchedulerSpec::Conservative(spec) => router(spec.intake(), Box::new(conservative::Reserve::new(spec))),
            SchedulerSpec::LightllmMain(spec) => {
                let router = Router::new(spec.intake(), Box::new(lightllm_main::Main::new(spec)));
                Box::new(router.fair(spec.fair.clone().map(vtc::Vtc::sharing)))
            }
            SchedulerSpec::Edf(spec) => Box::new(edf::Edf::new(spec.clone())),
            SchedulerSpec::Vtc(spec) => Box::new(vtc::Vtc::new(spec.clone())),
            SchedulerSpec::Sjf(spec) => Box::new(sjf::Sjf::new(spec, seed, replica)),
            SchedulerSpec::Ltr(spec) => Box::new(ltr::Ltr::new(spec.clone(), seed, replica)),
            SchedulerSpec::Fastserve(spec) => Box::new(fastserve::Fastserve::new(spec.clone())),
        }
    }

    /// Where it takes its idea of output lengths from, if it has one. Reports print the oracles among them.
    pub fn lengths(&self) -> Option<&LengthSpec> {
        match self {
            SchedulerSpec::PastFuture(spec) => Some(&spec.lengths),
            SchedulerSpec::Sjf(spec) => Some(&spec.lengths),
            SchedulerSpec::Ltr(spec) => Some(&spec.lengths),
            _ => None,
        }
    }

    /// Order of the waiting queue that this scheduler wants.
    pub fn queue_order(&self) -> QueueOrder {
        match self {
            SchedulerSpec::Vllm(spec) => spec.policy,
            SchedulerSpec::Sglang(spec) if spec.order() == SchedulePolicy::Fcfs => QueueOrder::Fcfs,
            SchedulerSpec::LightllmMain(spec) if spec.fair.is_some() => QueueOrder::Keyed,
            SchedulerSpec::Sglang(_)
            | SchedulerSpec::Edf(_)
            | SchedulerSpec::Vtc(_)
            | SchedulerSpec::Sjf(_)
            | SchedulerSpec::Ltr(_)
            | SchedulerSpec::Fastserve(_) => QueueOrder::Keyed,
            _ => QueueOrder::Fcfs,
        }
    }

    /// Steps planned ahead (lane depth).
    pub fn depth(&self) -> u32 {
        match self {
            SchedulerSpec::Vllm(spec) => 1 + u32::from(spec.async_scheduling),
            SchedulerSpec::Sglang(spec) => 1 + u32::from(spec.enable_overlap_schedule),
            _ => 1,
        }
    }

    /// Lanes that a replica needs for it.
    pub fn lanes(&self) -> Lanes {
        match self {
            SchedulerSpec::SemiPd(_) => Lanes::Split,
            _ => Lanes::Unified,
        }
    }

    /// Whether it can serve where prompts and decodes are on different replicas: it admits by what is free, and reserves nothing.
    pub fn serves_apart(&self) -> bool {
        match self {
            SchedulerSpec::Vllm(_)
            | SchedulerSpec::VllmV0(_)
            | SchedulerSpec::Sglang(_)
            | SchedulerSpec::Sarathi(_) => true,
            SchedulerSpec::Trtllm(spec) => spec.capacity_scheduler_policy == Capacity::MaxUtilization,
            _ => false,
        }
    }

    /// How its lanes share the SMs of a replica, if it has several.
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        match self {
            SchedulerSpec::SemiPd(spec) => Some(Sharing::new(&spec.partition, spec.scaling)),
            _ => None,
        }
    }

    /// Whether it may compute a prompt over several steps. Where it does not, a step must hold the longest sequence.
    pub fn splits_prompts(&self) -> bool {
        match self {
            SchedulerSpec::Vllm(spec) => spec.enable_chunked_prefill,
            SchedulerSpec::Sglang(spec) => spec.chunked_prefill_size.is_some(),
            SchedulerSpec::Trtllm(spec) => spec.enable_chunked_context,
            SchedulerSpec::SemiPd(spec) => spec.enable_chunked_prefill,
            SchedulerSpec::Sarathi(_)
            | SchedulerSpec::Edf(_)
            | SchedulerSpec::Vtc(_)
            | SchedulerSpec::Sjf(_)
            | SchedulerSpec::Ltr(_)
            | SchedulerSpec::Fastserve(_) => true,
            SchedulerSpec::VllmV0(_)
            | SchedulerSpec::PastFuture(_)
            | SchedulerSpec::Aggressive(_)
            | SchedulerSpec::Conservative(_)
            | SchedulerSpec::LightllmMain(_)
            | SchedulerSpec::Orca(_)
            | SchedulerSpec::Static(_) => false,
        }
    }

    /// Whether it keeps and shares blocks of equal prefixes.
    pub fn prefix_caching(&self) -> bool {
        match self {
            SchedulerSpec::Vllm(spec) => spec.enable_prefix_caching,
            SchedulerSpec::Sglang(spec) => spec.enable_radix_cache,
            _ => false,
        }
    }

    /// Memory of the host, per GPU, that it swaps preempted requests into; `None` if it never does.
    pub fn swap_space(&self) -> Option<Bytes> {
        let (mode, space) = match self {
            SchedulerSpec::VllmV0(spec) => (spec.preemption_mode, spec.swap_space),
            SchedulerSpec::Ltr(spec) => (spec.preemption_mode, spec.swap_space),
            SchedulerSpec::Fastserve(spec) => (spec.preemption_mode, spec.swap_space),
            _ => return None,
        };
        (mode == PreemptionMode::Swap).then_some(space)
    }

    /// Requests that it runs at once at most.
    pub fn max_seqs(&self) -> u32 {
        match self {
            SchedulerSpec::Vllm(spec) => spec.max_num_seqs,
            SchedulerSpec::VllmV0(spec) => spec.max_num_seqs,
            SchedulerSpec::Sglang(spec) => spec.max_running_requests,
            SchedulerSpec::Trtllm(spec) => spec.max_batch_size,
            SchedulerSpec::Sarathi(spec) => spec.max_num_seqs,
            SchedulerSpec::Orca(spec) => spec.max_batch_size,
            SchedulerSpec::SemiPd(spec) => spec.max_num_seqs,
            SchedulerSpec::Static(spec) => spec.batch_size,
            SchedulerSpec::PastFuture(spec) => spec.running_max_req_size,
            SchedulerSpec::Aggressive(spec) => spec.running_max_req_size,
            SchedulerSpec::Conservative(spec) => spec.running_max_req_size,
            SchedulerSpec::LightllmMain(spec) => spec.running_max_req_size,
            SchedulerSpec::Edf(spec) => spec.batch.max_num_seqs,
            SchedulerSpec::Vtc(spec) => spec.batch.max_num_seqs,
            SchedulerSpec::Sjf(spec) => spec.batch.max_num_seqs,
            SchedulerSpec::Ltr(spec) => spec.batch.max_num_seqs,
            SchedulerSpec::Fastserve(spec) => spec.batch.max_num_seqs,
        }
    }

    /// Tokens of one step for which activations must fit, where sequences have up to `max_model_len` tokens. Schedulers
    /// without a budget get that of vLLM's server.
    pub fn max_batched_tokens(&self, max_model_len: u32) -> u32 {
        match self {
            SchedulerSpec::Vllm(spec) => spec.max_num_batched_tokens,
            SchedulerSpec::VllmV0(spec) => spec.budget(max_model_len),
            SchedulerSpec::Sglang(spec) => spec.chunked_prefill_size.unwrap_or(spec.max_prefill_tokens),
            SchedulerSpec::Trtllm(spec) => spec.max_num_tokens,
            SchedulerSpec::Sarathi(spec) => spec.chunk_size.max(spec.max_num_seqs),
            SchedulerSpec::SemiPd(spec) => spec.max_prefill_tokens,
            SchedulerSpec::Edf(spec) => spec.batch.max_batched_tokens(),
            SchedulerSpec::Vtc(spec) => spec.batch.max_batched_tokens(),
            SchedulerSpec::Sjf(spec) => spec.batch.max_batched_tokens(),
            SchedulerSpec::Ltr(spec) => spec.batch.max_num_batched_tokens,
            SchedulerSpec::Fastserve(spec) => spec.batch.max_num_batched_tokens,
            SchedulerSpec::Orca(_) | SchedulerSpec::Static(_) => VllmSpec::default().max_num_batched_tokens,
            SchedulerSpec::PastFuture(spec) => spec.intake().budget(max_model_len),
            SchedulerSpec::Aggressive(spec) => spec.intake().budget(max_model_len),
            SchedulerSpec::Conservative(spec) => spec.intake().budget(max_model_len),
            SchedulerSpec::LightllmMain(spec) => spec.intake().budget(max_model_len),
        }
    }
}

impl Default for SchedulerSpec {
    fn default() -> Self {
        SchedulerSpec::Vllm(VllmSpec::default())
    }
}
