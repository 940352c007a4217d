//! Routing by what a replica has cached of the prompt: one cost that covers Dynamo's KV router and llm-d's scorers.

use serde::{Deserialize, Serialize};

use super::{FleetView, ReplicaView, RequestInfo, Router, RouterNeeds, RouterPolicy};
use crate::check::Check;
use crate::streams::{Purpose, keyed};

/// Weights of the cost of a replica; the least costs takes the request.
///
/// With `relative: false` (Dynamo's KV router, whose defaults these are) the cost is
/// `prefill` × blocks of prompts that the replica would have to compute, this one's after its hits included,
/// + `decode` × blocks in use there, this one's included, + `queue` × waiting requests.
///
/// With `relative: true` (llm-d's scorers; its defaults are `prefill: 3, decode: 0, queue: 2`) each part lies between 0 and 1:
/// the share of this prompt's blocks that is not cached, the share of the pool in use, and where the queue lies between
/// the shortest (0) and the longest (1).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixAwareSpec {
    /// Weight of what is left to compute (Dynamo: 1; llm-d's prefix-cache scorer: 3).
    #[schemars(range(min = 0))]
    pub prefill: f64,
    /// Weight of the KV blocks in use (Dynamo: 1; llm-d: 0, or its kv-cache-utilization scorer).
    #[schemars(range(min = 0))]
    pub decode: f64,
    /// Weight of the waiting requests (Dynamo: 0; llm-d's queue scorer: 2).
    #[schemars(range(min = 0))]
    pub queue: f64,
    /// Shares from 0 to 1 in place of blocks and requests.
    pub relative: bool,
    /// 0 takes the least cost; above it, costs (scaled to lie between 0 and 1) are drawn by softmax: the higher, the more evenly
    /// (Dynamo: `router_temperature`, 0).
    #[schemars(range(min = 0))]
    pub temperature: f64,
}

impl Default for PrefixAwareSpec {
    fn default() -> Self {
        PrefixAwareSpec { prefill: 1.0, decode: 1.0, queue: 0.0, relative: false, temperature: 0.0 }
    }
}

impl RouterPolicy for PrefixAwareSpec {
    fn check(&self, check: &mut Check<'_>) {
        let weights = [("prefill", self.prefill), ("decode", self.decode), ("queue", self.queue)];
        for (key, value) in weights.into_iter().chain([("temperature", self.temperature)]) {
            let message = format!("is {value}; it must be a number from 0");
            check.that(value.is_finite() && value >= 0.0, key, message);
        }
    }

    fn build(&self, seed: u64) -> Box<dyn Router> {
        Box::new(PrefixAware { spec: *self, seed, decisions: 0 })
    }
}

#[derive(Debug)]
struct PrefixAware {
    spec: PrefixAwareSpec,
    seed: u64,
    decisions: u64,
}

impl PrefixAware {
    fn cost(&self, request: RequestInfo<'_>, view: ReplicaView, hits: u64, queues: (u32, u32)) -> f64 {
        let PrefixAwareSpec { prefill, decode, queue, relative, .. } = self.spec;
        let whole = u64::from(request.prompt_tokens).div_ceil(u64::from(view.block_tokens));
        let left = whole - hits.min(whole);
        if !relative {
            let pending = view.pending_tokens.div_ceil(u64::from(view.block_tokens));
            return prefill * (pending + left) as f64
                + decode * (view.used_blocks + left) as f64
                + queue * f64::from(view.waiting);
        }
        let (shortest, longest) = queues;
        let place = f64::from(view.waiting - shortest) / f64::from((longest - shortest).max(1));
        prefill * left as f64 / whole.max(1) as f64
            + decode * view.used_blocks as f64 / view.blocks as f64
            + queue * place
    }

    /// Draws by softmax over the costs, scaled to lie between 0 and 1.
    fn draw(&self, costs: &[f64]) -> usize {
        let (low, high) = costs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &c| (l.min(c), h.max(c)));
        let span = if high > low { high - low } else { 1.0 };
        let weights = costs.iter().map(|cost| ((low - cost) / span / self.spec.temperature).exp());
        let weights: Vec<f64> = weights.collect();
        let mut left = keyed(self.seed, Purpose::Routing, &[self.decisions]) * weights.iter().sum::<f64>();
        for (at, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return at;
            }
        }
        weights.len() - 1
    }
}

impl Router for PrefixAware {
    fn route(&mut self, request: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        self.decisions += 1;
        let waiting = |at| fleet.replica(at).waiting;
        let shortest = (0..fleet.len()).map(waiting).min().unwrap_or(0);
        let longest = (0..fleet.len()).map(waiting).max().unwrap_or(0);
        let cost = |at| {
            let hits = u64::from(fleet.hits(at, request.prefix));
            self.cost(request, fleet.replica(at), hits, (shortest, longest))
        };
        let costs: Vec<f64> = (0..fleet.len()).map(cost).collect();
        if self.spec.temperature > 0.0 {
            return self.draw(&costs);
        }
        (0..costs.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0)
    }

    fn needs(&self) -> RouterNeeds {
        RouterNeeds { blocks: true, prefixes: true, own_weights: true }
    }
}
