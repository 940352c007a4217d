//! Replicas of several kinds in one fleet: how many of each, their limits, what a router weighs them with, what each pool has done.

use super::controllers::{Autoscale, Frontend};
use super::drive::Drive;
use super::{ClusterSpec, RunError};
use crate::kv::retention::Keep;
use crate::results::rows::RequestRow;
use crate::results::summary::{PoolSummary, Slo};
use crate::serving::replica::{Lanes, Limits};
use crate::serving::speculation::DRAFTS_MAX;
use crate::time::{Span, Time};

/// Replicas of one kind. All pools of a fleet have the same model and the same scheduler.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ReplicaPool {
    /// How many; with `autoscale` at most.
    pub replicas: u32,
    /// Limits of each. Only blocks, the longest sequence and the swap space may differ between pools.
    pub limits: Limits,
    /// GPUs of each, for the cost of a run.
    pub gpus: Option<u32>,
    /// What load on one of them counts for a router that weighs: at twice the weight half as much. At least 1.
    pub weight: u32,
    /// Replicas of this pool come and go with its load.
    pub autoscale: Option<Autoscale>,
    /// What the servers' front ends add to the engine's latencies, if there are some.
    pub frontend: Option<Frontend>,
}

impl ClusterSpec {
    /// Whether replicas of some pool have a front end.
    pub(super) fn has_frontend(&self) -> bool {
        self.replica_pools().iter().any(|pool| pool.frontend.is_some())
    }

    /// Replicas of all pools.
    pub(super) fn replicas_in_all(&self) -> u32 {
        self.replica_pools().iter().map(|pool| pool.replicas).sum()
    }

    /// The pools of the fleet; a uniform fleet is one.
    pub(super) fn replica_pools(&self) -> Vec<ReplicaPool> {
        if self.pools.is_empty() {
            let autoscale = self.controllers.autoscale;
            let frontend = self.traffic.frontend;
            let (replicas, limits, gpus) = (self.replicas, self.limits, self.gpus);
            vec![ReplicaPool { replicas, limits, gpus, weight: 1, autoscale, frontend }]
        } else {
            self.pools.clone()
        }
    }
}

impl ReplicaPool {
    /// Its figures, before anything has happened.
    fn begin(&self) -> PoolSummary {
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
        let needed = u64::from(self.limits.longest_slots()).div_ceil(u64::from(block_tokens));
        if needed <= blocks {
            return Ok(());
        }
        Err(RunError::PoolTooSmall { max_model_len, needed, blocks, fits: blocks * u64::from(block_tokens) })
    }

    /// Whether its replicas can speculate, if they are to.
    pub(super) fn can_speculate(&self, spec: &ClusterSpec) -> Result<(), RunError> {
        let Limits { drafts, depth, lanes, retention, .. } = self.limits;
        let told = match (drafts.are_on(), &spec.speculation) {
            (true, None) => "the limits have drafts, and nothing says which are accepted",
            (false, Some(_)) => "acceptance is given, and the limits have no drafts",
            (true, Some(_)) if drafts.tokens > DRAFTS_MAX => "a step verifies 16 drafts of a sequence at most",
            (true, Some(_)) if depth != 1 || lanes != Lanes::Unified || spec.controllers.disaggregation.is_some() => {
                "what a step brings is known when it is done: it needs lanes of depth 1, each for prompts and decodes"
            }
            (true, Some(_)) if retention != Keep::ALL => "it needs requests that keep all their tokens",
            (true, Some(_)) if !spec.devices.is_empty() => "the work of drafts is not known, and so no power",
            (false, None) | (true, Some(_)) => return Ok(()),
        };
        Err(RunError::Speculation(told))
    }
}

/// The pools of a fleet that runs.
#[derive(Debug)]
pub(super) struct Pools {
    kinds: Vec<ReplicaPool>,
    /// The pool of each replica.
    of: Vec<u32>,
    /// What load on each replica counts for a router; empty where all count the same.
    weights: Vec<u32>,
    /// What each pool has done; empty in a uniform fleet.
    done: Vec<PoolSummary>,
    slo: Slo,
}

impl Pools {
    pub(super) fn new(spec: &ClusterSpec) -> Pools {
        let pools = spec.replica_pools();
        let numbered = (0..).zip(&pools);
        let of: Vec<u32> = numbered.flat_map(|(at, pool)| (0..pool.replicas).map(move |_| at)).collect();
        let weighted = pools.iter().any(|pool| pool.weight != pools[0].weight);
        let weight = |&at: &u32| pools[at as usize].weight;
        Pools {
            weights: if weighted { of.iter().map(weight).collect() } else { Vec::new() },
            done: spec.pools.iter().map(ReplicaPool::begin).collect(),
            slo: spec.slo,
            kinds: pools,
            of,
        }
    }

    /// Replicas of the whole fleet.
    pub(super) fn replicas(&self) -> u32 {
        self.of.len() as u32
    }

    /// The pool of a replica.
    pub(super) fn of(&self, replica: usize) -> usize {
        self.of[replica] as usize
    }

    /// The limits of a replica, but for its role.
    pub(super) fn limits(&self, replica: usize) -> Limits {
        self.kinds[self.of(replica)].limits
    }

    /// GPUs of a replica, if that is known.
    pub(super) fn gpus(&self, replica: usize) -> Option<u32> {
        self.kinds[self.of(replica)].gpus
    }

    /// What the front end of a replica's server adds to latencies.
    pub(super) fn frontend(&self, replica: usize) -> Option<Frontend> {
        self.kinds[self.of(replica)].frontend
    }

    /// What the server's front end takes of a request on a replica where so many run, if it has one.
    pub(super) fn frontend_time(&self, replica: usize, running: u32, prompt: u32) -> Span {
        let Some(Frontend { base, per_running, per_prompt_token }) = self.frontend(replica) else { return Span::ZERO };
        let time = |each: Span, times: u32| Span(each.0.saturating_mul(u64::from(times)));
        base + time(per_running, running) + time(per_prompt_token, prompt)
    }

    /// Whether replicas of some pool come and go.
    pub(super) fn scale(&self) -> bool {
        self.kinds.iter().any(|pool| pool.autoscale.is_some())
    }

    /// What load on each replica counts; empty where all count the same.
    pub(super) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// What load on a replica counts.
    pub(super) fn weight(&self, replica: usize) -> u64 {
        u64::from(self.weights.get(replica).copied().unwrap_or(1))
    }

    /// A request has ended: where replicas differ, it counts for the pool of its replica.
    pub(super) fn book(&mut self, row: &RequestRow) {
        if !self.done.is_empty() {
            let pool = self.of(row.replica as usize);
            self.done[pool].request(row, &self.slo);
        }
    }

    /// The figures of each pool at the end.
    pub(super) fn finish(&mut self, drives: &[Drive], end: Time) -> Vec<PoolSummary> {
        let mut done = std::mem::take(&mut self.done);
        if !done.is_empty() {
            for drive in drives {
                let busy = &mut done[self.of(drive.replica)].busy;
                *busy = *busy + Span(drive.busy_ns().saturating_sub(drive.busy_after(end).0));
            }
        }
        done
    }
}
