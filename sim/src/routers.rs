//! Routers: which replica takes an arriving request, and what they may see of the fleet.

mod prefix_aware;
mod view;
mod weighed;

use rand::RngExt as _;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::streams::{Purpose, stream};
use crate::workload::arrival::Arrival;
use weighed::Turns;

pub use prefix_aware::PrefixAwareSpec;
pub(crate) use view::Reports;
pub use view::{FleetView, ReplicaView, RouterView};
pub(crate) use weighed::Weighed;

/// How the router chooses a replica for an arriving request. Ties go to the lowest replica number. Where pools have weights, load
/// counts by them: this request included, divided by the weight of the replica.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RouterSpec {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Uniformly at random.
    Random,
    /// Fewest unfinished requests (waiting and running).
    LeastOutstanding,
    /// Shortest queue: fewest waiting requests, then fewest unfinished.
    JoinShortestQueue,
    /// The one of two random replicas with fewer unfinished requests.
    PowerOfTwo,
    /// Fewest prompt tokens not computed yet, waiting and running, then fewest unfinished requests (Splitwise).
    TokenJsq,
    /// Smallest share of the KV pool in use, then fewest unfinished requests (llm-d's scorer of KV use alone).
    LeastKv,
    /// Least cost of computing the prompt, less what the replica has cached of it, and of joining the load that is there.
    PrefixAware(PrefixAwareSpec),
}

/// What a router may see of an arriving request: never its output length (law 9).
#[derive(Clone, Copy, Debug)]
pub struct RequestInfo<'a> {
    /// Prompt length [tokens].
    pub prompt_tokens: u32,
    /// Contents of the full blocks of the prompt that a cache may hold; empty where the workload does not tell.
    pub prefix: &'a [u64],
}

impl<'a> RequestInfo<'a> {
    /// What may be seen of an arrival.
    pub fn of(arrival: &'a Arrival) -> Self {
        // A hit leaves at least one token to compute.
        let covered = arrival.prompt_tokens.saturating_sub(1);
        let prefix = arrival.content.as_deref().map_or(&[][..], |content| {
            let full = (covered / content.block_tokens) as usize;
            &content.ids[..full.min(content.ids.len())]
        });
        RequestInfo { prompt_tokens: arrival.prompt_tokens, prefix }
    }
}

/// Chooses a replica for each arrival.
pub trait Router: std::fmt::Debug {
    /// Which of the replicas in view takes the request; there is at least one.
    fn route(&mut self, request: RequestInfo<'_>, fleet: FleetView<'_>) -> usize;

    /// Whether it looks at blocks, which grow with every token, and not only at requests: then every replica is settled
    /// before it is asked.
    fn sees_blocks(&self) -> bool {
        false
    }
}

impl RouterSpec {
    /// The router.
    pub fn build(self, seed: u64) -> Box<dyn Router> {
        match self {
            RouterSpec::RoundRobin => Box::new(RoundRobin { next: 0, turns: Turns::default() }),
            RouterSpec::Random => Box::new(Random { rng: stream(seed, Purpose::Routing) }),
            RouterSpec::LeastOutstanding => Box::new(Smallest { key: |r, _| (u64::from(r.outstanding) + 1, 0) }),
            RouterSpec::JoinShortestQueue => {
                Box::new(Smallest { key: |r, _| (u64::from(r.waiting) + 1, u64::from(r.outstanding) + 1) })
            }
            RouterSpec::PowerOfTwo => Box::new(PowerOfTwo { rng: stream(seed, Purpose::Routing) }),
            RouterSpec::TokenJsq => Box::new(Smallest {
                key: |r, own| (r.pending_tokens + u64::from(own.prompt_tokens), u64::from(r.outstanding) + 1),
            }),
            RouterSpec::LeastKv => Box::new(LeastKv),
            RouterSpec::PrefixAware(spec) => Box::new(prefix_aware::PrefixAware::new(spec, seed)),
        }
    }

    /// Whether it asks which prefixes a replica has cached.
    pub fn is_prefix_aware(self) -> bool {
        matches!(self, RouterSpec::PrefixAware(_))
    }
}

#[derive(Debug)]
struct RoundRobin {
    next: usize,
    turns: Turns,
}

impl Router for RoundRobin {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        if fleet.is_weighted() {
            return self.turns.next(fleet);
        }
        let at = self.next % fleet.len();
        self.next = at + 1;
        at
    }
}

#[derive(Debug)]
struct Random {
    rng: ChaCha8Rng,
}

impl Router for Random {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        if !fleet.is_weighted() {
            return self.rng.random_range(0..fleet.len());
        }
        let total = (0..fleet.len()).map(|at| fleet.weight(at)).sum::<u64>();
        let mut left = self.rng.random_range(0..total);
        for at in 0..fleet.len() {
            match left.checked_sub(fleet.weight(at)) {
                None => return at,
                Some(rest) => left = rest,
            }
        }
        fleet.len() - 1
    }
}

/// The replica with the smallest load by weight, with the request in it: by the first number, then by the second; the first
/// replica on ties.
#[derive(Debug)]
struct Smallest {
    key: fn(ReplicaView, RequestInfo<'_>) -> (u64, u64),
}

impl Router for Smallest {
    fn route(&mut self, request: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        let load = |at| (self.key)(fleet.replica(at), request);
        if !fleet.is_weighted() {
            return (0..fleet.len()).min_by_key(|&at| load(at)).unwrap_or(0);
        }
        let weighed = |at: &usize| {
            let (weight, (first, second)) = (fleet.weight(*at), load(*at));
            (Weighed { load: first, weight }, Weighed { load: second, weight })
        };
        (0..fleet.len()).min_by_key(weighed).unwrap_or(0)
    }
}

/// The replica with the smallest share of its KV pool in use, the first on ties.
#[derive(Debug)]
struct LeastKv;

impl Router for LeastKv {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        let used = |at: &usize| {
            let ReplicaView { used_blocks, blocks, outstanding, .. } = fleet.replica(*at);
            (Weighed { load: used_blocks, weight: blocks }, outstanding)
        };
        (0..fleet.len()).min_by_key(used).unwrap_or(0)
    }

    fn sees_blocks(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct PowerOfTwo {
    rng: ChaCha8Rng,
}

impl Router for PowerOfTwo {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        let n = fleet.len();
        if n == 1 {
            return 0;
        }
        let first = self.rng.random_range(0..n);
        let second = (first + 1 + self.rng.random_range(0..n - 1)) % n;
        let (low, high) = (first.min(second), first.max(second));
        let load = |at| Weighed { load: u64::from(fleet.replica(at).outstanding) + 1, weight: fleet.weight(at) };
        if load(high) < load(low) { high } else { low }
    }
}
