//! Schedulers: what plans the steps of a replica. This file is the list of those that a scenario can name; each lives in its own
//! file, with its settings, what it needs of a replica ([`Needs`]) and the rules on its settings.

pub mod aged;
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
mod needs;
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

use crate::check::Check;

pub use crate::serving::{Horizon, QueueOrder, Scheduler};
pub use aged::AgedSpec;
pub use aggressive::AggressiveSpec;
pub use chunked::BatchSpec;
pub use conservative::ConservativeSpec;
pub use edf::{EdfSpec, OnLate};
pub use fastserve::FastserveSpec;
pub use lightllm_main::LightllmMainSpec;
pub use ltr::LtrSpec;
pub use needs::{Nearest, Needs, Prompts, Reserve, StepTokens};
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

/// The settings of a scheduler: they say what it needs, check themselves, and build it.
pub trait SchedulerPolicy: std::fmt::Debug {
    /// What it needs of its replica.
    fn needs(&self) -> Needs;

    /// How near the engines' own flags come to it.
    fn nearest(&self) -> Nearest;

    /// The rules on its settings.
    fn check(&self, check: &mut Check<'_>);

    /// The scheduler of one replica; `seed` is that of its length model, if it has one.
    fn build(&self, seed: u64, replica: u32) -> Box<dyn Scheduler>;

    /// Settings that between them reach all of its code, each with what is different about it; the defaults come first, under no
    /// name. Every test over all schedulers runs over these.
    fn examples() -> Vec<(&'static str, Self)>
    where
        Self: Sized;
}

/// Makes the specification of schedulers from a list: documentation, variant, settings, name in scenarios.
macro_rules! schedulers {
    ($($(#[$doc:meta])* $variant:ident($settings:ty) = $name:literal,)+) => {
        /// Which scheduler plans the steps of a replica.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub enum SchedulerSpec {
            $($(#[$doc])* #[serde(rename = $name)] $variant($settings),)+
        }

        impl SchedulerSpec {
            /// Its name in scenarios.
            pub fn name(&self) -> &'static str {
                match self {
                    $(SchedulerSpec::$variant(_) => $name,)+
                }
            }

            fn policy(&self) -> &dyn SchedulerPolicy {
                match self {
                    $(SchedulerSpec::$variant(settings) => settings,)+
                }
            }

            /// Every scheduler with each of its examples, and what to call it.
            pub fn every() -> Vec<(String, SchedulerSpec)> {
                let mut every = Vec::new();
                $(for (what, settings) in <$settings>::examples() {
                    let name = if what.is_empty() { $name.to_owned() } else { format!("{}, {what}", $name) };
                    every.push((name, SchedulerSpec::$variant(settings)));
                })+
                every
            }
        }
    };
}

schedulers! {
    /// vLLM v1 (0.33): unified token budget, chunked prefill, recompute preemption.
    Vllm(VllmSpec) = "vllm",
    /// vLLM v0 (0.4 to 0.6): prefill first, whole prompts, preemption by recompute or swap.
    VllmV0(VllmV0Spec) = "vllm-v0",
    /// SGLang (0.4.4 or 0.5.23): prefill first, admission by expected output, retraction.
    Sglang(SglangSpec) = "sglang",
    /// TensorRT-LLM: in-flight batching, with memory reserved or used to the full.
    Trtllm(TrtllmSpec) = "trtllm",
    /// Sarathi-Serve: decodes first, then chunks of prompts, within one token budget.
    Sarathi(SarathiSpec) = "sarathi",
    /// Orca: iteration-level batching, memory reserved for the whole output limit.
    Orca(OrcaSpec) = "orca",
    /// semi-PD: prompts and decodes on two lanes that share the SMs and the KV pool.
    SemiPd(SemiPdSpec) = "semi-pd",
    /// Whole batches: form one, run it until all its requests have finished, form the next.
    Static(StaticSpec) = "static",
    /// Past-Future: admission by the peak of memory that the batch will reach, with lengths drawn from the past.
    PastFuture(PastFutureSpec) = "past-future",
    /// Aggressive admission: a request that fits now may enter.
    Aggressive(AggressiveSpec) = "aggressive",
    /// Conservative admission: memory for the whole output limit, overcommitted if wished.
    Conservative(ConservativeSpec) = "conservative",
    /// LightLLM's own admission: the peak of memory that the batch will reach, with output limits.
    LightllmMain(LightllmMainSpec) = "lightllm-main",
    /// Earliest deadline first, with admission that knows what cannot be met.
    Edf(EdfSpec) = "edf",
    /// Virtual Token Counter: fair shares between tenants (classes).
    Vtc(VtcSpec) = "vtc",
    /// Shortest job first by predicted output length, without preemption for a shorter one.
    Sjf(SjfSpec) = "sjf",
    /// LTR: preemptive shortest job first by a predicted rank, with a guard against starvation.
    Ltr(LtrSpec) = "ltr",
    /// FastServe: skip-join multi-level feedback queue, preemptive, by service received.
    Fastserve(FastserveSpec) = "fastserve",
    /// Priority classes that age: first come, first served within a class, and waiting is worth classes.
    Aged(AgedSpec) = "aged",
}

impl SchedulerSpec {
    /// What it needs of its replica.
    pub fn needs(&self) -> Needs {
        self.policy().needs()
    }

    /// How near the engines' own flags come to it.
    pub fn nearest(&self) -> Nearest {
        self.policy().nearest()
    }

    /// The rules on its settings, below its name.
    pub fn check(&self, check: &mut Check<'_>) {
        self.policy().check(&mut check.below(self.name()));
    }

    /// The scheduler of one replica; `seed` is that of its length model, if it has one.
    pub fn build(&self, seed: u64, replica: u32) -> Box<dyn Scheduler> {
        self.policy().build(seed, replica)
    }
}

impl Default for SchedulerSpec {
    fn default() -> Self {
        SchedulerSpec::Vllm(VllmSpec::default())
    }
}
