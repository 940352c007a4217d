//! What has gone through the KV stores of a run.

use super::record::Bound;
use super::spec::StoreSpec;
use super::tiers::TierTraffic;

/// What has gone through the KV stores of all replicas.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KvTraffic {
    /// Tokens per block.
    pub block_tokens: u32,
    /// Cached blocks dropped from the memory of the GPUs to make room.
    pub evicted: u64,
    /// The tiers below, from the nearest to the farthest.
    pub tiers: Vec<NamedTraffic>,
    /// What was found of what was asked for, and what could have been, where that was recorded.
    pub bound: Option<Bound>,
}

/// What has gone through a tier.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NamedTraffic {
    /// Its name.
    pub name: String,
    /// Its blocks, of one replica.
    pub blocks: u32,
    /// What has gone through it.
    pub traffic: TierTraffic,
}

impl KvTraffic {
    /// Nothing yet.
    pub(crate) fn new(spec: &StoreSpec, block_tokens: u32) -> KvTraffic {
        let named = |tier: &super::spec::TierSpec| NamedTraffic {
            name: tier.name.clone(),
            blocks: tier.blocks,
            traffic: TierTraffic::default(),
        };
        KvTraffic { block_tokens, tiers: spec.tiers.iter().map(named).collect(), ..KvTraffic::default() }
    }
}
