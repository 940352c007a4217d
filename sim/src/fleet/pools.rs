//! Replicas of several kinds in one fleet: how many of each, their limits, their step costs, what a router weighs them with.

use super::{Cluster, ClusterSpec, RunError};
use crate::cost::CostModel;
use crate::results::rows::RequestRow;
use crate::results::summary::PoolSummary;
use crate::serving::replica::Limits;
use crate::time::Span;

/// Replicas of one kind. All pools of a fleet have the same model and the same scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaPool {
    /// How many.
    pub replicas: u32,
    /// Limits of each. Only blocks, the longest sequence and the swap space may differ between pools.
    pub limits: Limits,
    /// What load on one of them counts for a router that weighs: at twice the weight half as much. At least 1.
    pub weight: u32,
}

/// What steps cost, by pool.
pub(super) type Costs<'c> = [&'c mut dyn CostModel];

impl ClusterSpec {
    /// The pools of the fleet; a uniform fleet is one.
    pub(super) fn replica_pools(&self) -> Vec<ReplicaPool> {
        if self.pools.is_empty() {
            vec![ReplicaPool { replicas: self.replicas, limits: self.limits, weight: 1 }]
        } else {
            self.pools.clone()
        }
    }
}

impl ReplicaPool {
    /// Its figures, before anything has happened.
    pub(super) fn begin(&self) -> PoolSummary {
        PoolSummary {
            replicas: self.replicas,
            lanes: self.replicas * self.limits.lanes.work().len() as u32,
            blocks: u64::from(self.replicas) * self.limits.blocks,
            ..PoolSummary::default()
        }
    }

    /// Whether the KV pool of a replica holds a request of the maximal length.
    pub(super) fn holds_the_longest(&self) -> Result<(), RunError> {
        let Limits { max_model_len, block_tokens, blocks, .. } = self.limits;
        let needed = u64::from(max_model_len).div_ceil(u64::from(block_tokens));
        if needed <= blocks {
            return Ok(());
        }
        Err(RunError::PoolTooSmall { max_model_len, needed, blocks, fits: blocks * u64::from(block_tokens) })
    }
}

impl Cluster {
    /// A request has ended: where replicas differ, it counts for the pool of its replica.
    pub(super) fn book_in_pool(&mut self, row: &RequestRow) {
        if !self.by_pool.is_empty() {
            let pool = self.pool_of[row.replica as usize];
            self.by_pool[pool as usize].request(row, &self.spec.slo);
        }
    }

    /// The figures of each pool at the end.
    pub(super) fn finish_pools(&mut self) -> Vec<PoolSummary> {
        let mut pools = std::mem::take(&mut self.by_pool);
        if !pools.is_empty() {
            for drive in &self.drives {
                let busy = &mut pools[self.pool_of[drive.replica] as usize].busy;
                *busy = *busy + Span(drive.busy_ns());
            }
        }
        pools
    }

    /// What the steps of a replica cost.
    pub(super) fn cost_of<'a>(&self, at: usize, costs: &'a mut Costs<'_>) -> &'a mut dyn CostModel {
        &mut *costs[self.pool_of[at] as usize]
    }

    /// What load on a replica counts.
    pub(super) fn weight_of(&self, at: usize) -> u64 {
        u64::from(self.weights.get(at).copied().unwrap_or(1))
    }
}
