//! The policies that scenarios can name.

use serde::{Deserialize, Serialize};

use super::gdsf::GdsfSpec;
use super::lfu::LfuSpec;
use super::s3_fifo::S3FifoSpec;
use super::sglang::{LeafOrder, SglangSpec};
use super::trtllm::{RetainSpec, TrtllmSpec};
use super::workload_aware::WorkloadAwareSpec;
use super::{BlockEviction, arc, belady, fifo, length_aware, lru, random};
use crate::check::Check;
use crate::time::Span;
use crate::units::Duration;

/// Which cached block goes when room is needed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EvictionSpec {
    /// vLLM: least recently used, of a request's blocks the last one first.
    #[default]
    Lru,
    /// In the order in which they came.
    Fifo,
    /// Least frequently used, with dynamic aging.
    Lfu(LfuSpec),
    /// Three queues: new blocks, blocks used again, and a memory of those that went.
    S3Fifo(S3FifoSpec),
    /// Balances recency and frequency by what it threw away wrongly.
    Arc,
    /// Frequency times the work to compute a block anew, with aging.
    Gdsf(GdsfSpec),
    /// SGLang: leaves of the prefix tree only, in one of seven orders.
    Sglang(SglangSpec),
    /// TensorRT-LLM: leaves only, by priority and duration, then least recently used.
    Trtllm(TrtllmSpec),
    /// Mooncake: least frequently used, of those the deepest in their prompts.
    LengthAware,
    /// Alibaba: least likely to be used again soon, by what is known of its category of requests.
    WorkloadAware(WorkloadAwareSpec),
    /// Any, with equal probability.
    Random,
    /// Furthest next use: needs the future, and is a bound.
    Belady,
}

/// What a policy goes by that a cache may not know.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EvictionNeeds {
    /// The order of all accesses to come: refused where it is not known.
    pub next_uses: bool,
    /// Classes of requests, or their turns.
    pub categories: bool,
    /// Priorities of requests.
    pub priorities: bool,
    /// The time: a live cache then plans every step by itself.
    pub clock: bool,
}

/// The settings of a policy: they check themselves, and build it.
pub trait EvictionPolicy {
    /// What it goes by.
    fn needs(&self) -> EvictionNeeds {
        EvictionNeeds::default()
    }

    /// What it assumes or leaves out, in a sentence for users.
    fn about(&self) -> &'static str;

    /// The rules on its settings.
    fn check(&self, _: &mut Check<'_>) {}

    /// The policy of a cache of `capacity` blocks.
    fn build(&self, capacity: u32, seed: u64) -> Box<dyn BlockEviction>;
}

impl EvictionSpec {
    /// Its name in scenarios, and its settings.
    fn policy(&self) -> (&'static str, &dyn EvictionPolicy) {
        match self {
            EvictionSpec::Lru => ("lru", &lru::LruSpec),
            EvictionSpec::Fifo => ("fifo", &fifo::FifoSpec),
            EvictionSpec::Lfu(settings) => ("lfu", settings),
            EvictionSpec::S3Fifo(settings) => ("s3-fifo", settings),
            EvictionSpec::Arc => ("arc", &arc::ArcSpec),
            EvictionSpec::Gdsf(settings) => ("gdsf", settings),
            EvictionSpec::Sglang(settings) => ("sglang", settings),
            EvictionSpec::Trtllm(settings) => ("trtllm", settings),
            EvictionSpec::LengthAware => ("length-aware", &length_aware::LengthAwareSpec),
            EvictionSpec::WorkloadAware(settings) => ("workload-aware", settings),
            EvictionSpec::Random => ("random", &random::RandomSpec),
            EvictionSpec::Belady => ("belady", &belady::BeladySpec),
        }
    }

    /// Every policy with its own settings, one after the other, and SGLang's with every order: what is compared by default.
    pub fn defaults() -> Vec<EvictionSpec> {
        let sglang = LeafOrder::ALL.map(|order| EvictionSpec::Sglang(SglangSpec { order }));
        let mut all = vec![
            EvictionSpec::Lru,
            EvictionSpec::Fifo,
            EvictionSpec::Lfu(LfuSpec::default()),
            EvictionSpec::S3Fifo(S3FifoSpec::default()),
            EvictionSpec::Arc,
            EvictionSpec::Gdsf(GdsfSpec::default()),
        ];
        all.extend(sglang);
        all.extend([
            EvictionSpec::Trtllm(TrtllmSpec::default()),
            EvictionSpec::LengthAware,
            EvictionSpec::WorkloadAware(WorkloadAwareSpec::default()),
            EvictionSpec::Random,
            EvictionSpec::Belady,
        ]);
        all
    }

    /// Every policy, with settings that between them reach all of its code, and what to call it.
    pub fn every() -> Vec<(&'static str, EvictionSpec)> {
        let retain = |from, to, priority, ms: Option<u64>| {
            let duration = ms.map(|ms| Duration(Span(ms * 1_000_000)));
            RetainSpec { from, to, priority, duration }
        };
        let mut all = EvictionSpec::defaults();
        all.extend([
            EvictionSpec::Lfu(LfuSpec { aging: false }),
            EvictionSpec::S3Fifo(S3FifoSpec { small: 0.5, ghost: 0.1 }),
            EvictionSpec::Gdsf(GdsfSpec { frequency: false }),
            EvictionSpec::Trtllm(TrtllmSpec {
                retain: vec![
                    retain(0, Some(64), 80, Some(40)),
                    retain(64, Some(96), 100, None),
                    retain(96, None, 10, None),
                ],
            }),
            EvictionSpec::WorkloadAware(WorkloadAwareSpec { turns: 1 }),
        ]);
        all.into_iter().map(|spec| (spec.policy().0, spec)).collect()
    }

    /// Its name in scenarios.
    pub fn name(&self) -> &'static str {
        self.policy().0
    }

    /// Its name, with the setting that makes another policy of it.
    pub fn label(&self) -> String {
        match self {
            EvictionSpec::Sglang(SglangSpec { order }) => format!("sglang {}", order.name()),
            other => other.name().to_owned(),
        }
    }

    /// What it goes by.
    pub fn needs(&self) -> EvictionNeeds {
        self.policy().1.needs()
    }

    /// What it assumes or leaves out.
    pub fn about(&self) -> &'static str {
        self.policy().1.about()
    }

    /// The rules on its settings, below its name.
    pub fn check(&self, check: &mut Check<'_>) {
        let (name, policy) = self.policy();
        policy.check(&mut check.below(name));
    }

    /// The policy of a cache of `capacity` blocks.
    pub fn build(&self, capacity: u32, seed: u64) -> Box<dyn BlockEviction> {
        self.policy().1.build(capacity, seed)
    }
}
