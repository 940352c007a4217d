//! The prefix cache of a replica: which block goes, and the memories below that of the GPUs.

use overbook_sim::check::Check;
use overbook_sim::kv::WriteRule;
use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::serving::QueueOrder;
use overbook_sim::serving::replica::CacheKind;
use overbook_sim::units::{Bandwidth, Bytes, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of KV that no request holds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixCacheSpec {
    /// Which cached block of the GPUs goes when room is needed.
    pub eviction: EvictionSpec,
    /// Memories below that of the GPUs, from the nearest to the farthest: each keeps copies of blocks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<CacheTierSpec>,
    /// When KV is loaded from a tier, and not computed again.
    pub load: LoadSpec,
    /// Whether blocks in the second tier and below move to the first one as soon as a request arrives that needs them.
    pub prefetch: bool,
    /// Whether the report says how many blocks Belady's policy, which knows the accesses to come, would have found in the same order of
    /// accesses. Needs 12 bytes an access.
    pub bound: bool,
}

/// A memory below that of the GPUs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheTierSpec {
    /// Its name in reports.
    pub name: String,
    /// How much KV of a replica it keeps.
    pub size: Bytes,
    /// What a replica gets between this tier and the one above, in one direction. By default, for the first tier, `engine.host_link` of
    /// each of its GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Time of an empty move.
    #[serde(default = "no_time")]
    pub latency: Duration,
    /// When blocks are copied into it.
    #[serde(default)]
    pub write: WriteSpec,
    /// Which block goes when room is needed.
    #[serde(default)]
    pub eviction: EvictionSpec,
    /// It is reached by the replica's link to other replicas, which both directions and transfers of `disaggregation` share.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over_network: bool,
}

/// When blocks are copied into a tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WriteSpec {
    /// As soon as they are in the memory above (vLLM's offloading; SGLang's `write_through`).
    #[default]
    Through,
    /// When the memory above drops them (SGLang's `write_back`).
    Back,
}

impl From<WriteSpec> for WriteRule {
    fn from(write: WriteSpec) -> WriteRule {
        match write {
            WriteSpec::Through => WriteRule::Through,
            WriteSpec::Back => WriteRule::Back,
        }
    }
}

/// When KV is loaded from a tier, and not computed again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoadSpec {
    /// Always (vLLM).
    #[default]
    Always,
    /// From so many tokens on (SGLang's `load_back_threshold`).
    AtLeast(#[schemars(range(min = 1))] u32),
    /// When unused links bring it sooner than the GPUs compute it, at the rate of a lone prompt of 2,048 tokens.
    WhenFaster,
}

const fn no_time() -> Duration {
    Duration(overbook_sim::time::Span::ZERO)
}

impl PrefixCacheSpec {
    /// The rules on it, for a scheduler.
    pub(super) fn check(&self, scheduler: &SchedulerSpec, uniform: bool, engine: &mut Check<'_>) {
        let needs = scheduler.needs();
        let caches = needs.prefix_caching;
        let told = "has no effect: the scheduler keeps no prefix cache (vllm with `enable_prefix_caching: true` and sglang do)";
        engine.that(caches, "prefix_cache", told);
        let told = "cannot be combined with SGLang 0.5.23: its cache is a tree that evicts whole leaves by age, and what lies below it is not \
                    modelled; leave `version` out for blocks and any order of eviction";
        engine.that(needs.cache != CacheKind::Tree, "prefix_cache", told);
        let check = &mut engine.below("prefix_cache");
        let told = "knows all accesses to come, which a live cache does not: `overbook kv replay` runs it, and `bound: true` reports it";
        let live = |eviction: &EvictionSpec| !eviction.needs().next_uses;
        check.that(live(&self.eviction), "eviction", told);
        self.eviction.check(&mut check.below("eviction"));
        if let LoadSpec::AtLeast(tokens) = self.load {
            check.positive("load.at-least", tokens);
        }
        let told = "needs two `tiers`: blocks move from the second one and below to the first";
        check.that(!self.prefetch || self.tiers.len() > 1, "prefetch", told);
        if self.tiers.is_empty() {
            check.that(self.load == LoadSpec::default(), "load", "has no effect without `tiers`");
            return;
        }
        let told = "cannot be combined with `fleet.pools`: a block has another size on each kind of replica";
        check.that(uniform, "tiers", told);
        let told = "needs a scheduler that takes requests in the order of its queue: this one ranks them, and would not see what is below";
        check.that(needs.order != QueueOrder::Keyed, "tiers", told);
        check.that(self.tiers.len() <= 8, "tiers", format!("are {}; at most 8", self.tiers.len()));
        for (number, tier) in self.tiers.iter().enumerate() {
            let mut check = check.below(&format!("tiers.{number}"));
            check.that(!tier.name.trim().is_empty(), "name", "is empty");
            let twice = self.tiers[..number].iter().any(|other| other.name == tier.name);
            check.that(!twice, "name", format!("is `{}`, as that of another tier", tier.name));
            check.that(tier.size.0 > 0, "size", "is 0; leave the tier out");
            let told = "is missing; only the first tier has one by default, `engine.host_link` of each GPU";
            check.that(tier.bandwidth.is_some() || (number == 0 && !tier.over_network), "bandwidth", told);
            check.that(tier.bandwidth.is_none_or(|b| b.0 >= 1e6), "bandwidth", "is below 1MB/s, which no tier has");
            check.that(live(&tier.eviction), "eviction", "is `belady`, which no live cache can have");
            tier.eviction.check(&mut check.below("eviction"));
        }
    }
}
