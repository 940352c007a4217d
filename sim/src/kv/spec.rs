//! Settings of a KV store.

use super::eviction::EvictionSpec;
use crate::cost::{COST_PER_NS, Cost};
use crate::time::Span;

/// How a replica keeps KV that no request holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StoreSpec {
    /// Which cached block of the GPUs goes when room is needed.
    pub eviction: EvictionSpec,
    /// Memories below that of the GPUs, from the nearest to the farthest.
    pub tiers: Vec<TierSpec>,
    /// When KV is loaded from them.
    pub load: LoadRule,
    /// Whether blocks in the second tier and below are brought to the first one as soon as a request that needs them arrives.
    pub prefetch: bool,
    /// Whether the order of accesses is recorded, to say afterwards what the best policy would have found. Eight bytes an access.
    pub record: bool,
    /// Seed of the policies that draw.
    pub seed: u64,
    /// Whether copies between memories take no time: for a driver with real memory, which makes them in order before the step that
    /// follows, so that their time is part of what it measures. Rules still go by the times that the tiers state.
    pub instant: bool,
}

impl StoreSpec {
    /// The same store around real memory.
    #[must_use]
    pub fn instant(&self) -> StoreSpec {
        StoreSpec { instant: true, ..self.clone() }
    }
}

/// A memory below that of the GPUs: it keeps copies of blocks.
#[derive(Clone, PartialEq, Debug)]
pub struct TierSpec {
    /// What reports call it.
    pub name: String,
    /// Blocks that fit.
    pub blocks: u32,
    /// Time of an empty move between it and the memory above.
    pub latency: Span,
    /// Time that a block takes on the link to the memory above, up or down; the two ways do not disturb each other.
    pub block_cost: Cost,
    /// Whether it is reached by the replica's link to others, which transfers between replicas use too; then both ways share it.
    pub network: bool,
    /// When blocks are copied into it.
    pub write: WriteRule,
    /// Which block goes when room is needed.
    pub eviction: EvictionSpec,
}

impl TierSpec {
    /// Time that blocks take on the link, without the latency.
    pub(crate) fn length(&self, blocks: u32) -> Span {
        Span((self.block_cost * u64::from(blocks)).0 / COST_PER_NS)
    }
}

/// When blocks are copied into a tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteRule {
    /// As soon as they are in the memory above (vLLM's offloading, SGLang's `write_through`).
    #[default]
    Through,
    /// When the memory above drops them (SGLang's `write_back`).
    Back,
}

/// When KV below the GPUs is loaded, and not computed again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LoadRule {
    /// Whenever there is some (vLLM).
    #[default]
    Always,
    /// From so many tokens on (SGLang's `load_back_threshold`).
    AtLeast(u32),
    /// When an unused link brings it sooner than the GPUs compute it, at this time for a token.
    Faster(Cost),
}

impl LoadRule {
    /// Whether so many tokens that come in `time` are loaded.
    pub(crate) fn takes(self, tokens: u32, time: Span) -> bool {
        match self {
            LoadRule::Always => true,
            LoadRule::AtLeast(least) => tokens >= least,
            LoadRule::Faster(token) => {
                u128::from(time.0) * u128::from(COST_PER_NS) < u128::from(token.0) * u128::from(tokens)
            }
        }
    }
}
