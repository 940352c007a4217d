//! Routers: which replica takes an arriving request, and what they may see of the fleet.

mod prefix_aware;
mod view;
mod weighed;

use rand::RngExt as _;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::check::Check;
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
    /// Contents of the full blocks of the prompt that a cache may hold; empty where the workload does not say.
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

    /// What it goes by.
    fn needs(&self) -> RouterNeeds {
        RouterNeeds::default()
    }
}

/// What a router goes by, beside the number and the weight of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouterNeeds {
    /// It looks at blocks, which grow with every token, and not only at requests: every replica is settled before it is asked.
    pub blocks: bool,
    /// It asks which prefixes a replica has cached.
    pub prefixes: bool,
    /// It weighs replicas by their own pools and blocks: weights that the fleet gives them have no effect.
    pub own_weights: bool,
}

/// The settings of a router: they check themselves, and build it.
pub trait RouterPolicy {
    /// The rules on its settings.
    fn check(&self, _: &mut Check<'_>) {}

    /// The router of a fleet.
    fn build(&self, seed: u64) -> Box<dyn Router>;
}

impl RouterSpec {
    /// Its name in scenarios, and its settings.
    fn policy(&self) -> (&'static str, &dyn RouterPolicy) {
        match self {
            RouterSpec::RoundRobin => ("round-robin", &RoundRobinSpec),
            RouterSpec::Random => ("random", &RandomSpec),
            RouterSpec::LeastOutstanding => ("least-outstanding", &LEAST_OUTSTANDING),
            RouterSpec::JoinShortestQueue => ("join-shortest-queue", &JOIN_SHORTEST_QUEUE),
            RouterSpec::PowerOfTwo => ("power-of-two", &PowerOfTwoSpec),
            RouterSpec::TokenJsq => ("token-jsq", &TOKEN_JSQ),
            RouterSpec::LeastKv => ("least-kv", &LeastKv),
            RouterSpec::PrefixAware(settings) => ("prefix-aware", settings),
        }
    }

    /// Every router, and what to call it.
    pub fn every() -> Vec<(&'static str, RouterSpec)> {
        let dynamo = PrefixAwareSpec::default();
        let llm_d = PrefixAwareSpec { prefill: 3.0, decode: 1.0, queue: 2.0, relative: true, temperature: 0.3 };
        let every = [
            RouterSpec::RoundRobin,
            RouterSpec::Random,
            RouterSpec::LeastOutstanding,
            RouterSpec::JoinShortestQueue,
            RouterSpec::PowerOfTwo,
            RouterSpec::TokenJsq,
            RouterSpec::LeastKv,
            RouterSpec::PrefixAware(dynamo),
            RouterSpec::PrefixAware(llm_d),
        ];
        every.map(|router| (router.policy().0, router)).into()
    }

    /// What it goes by.
    pub fn needs(&self) -> RouterNeeds {
        self.build(0).needs()
    }

    /// The rules on its settings, below its name.
    pub fn check(&self, check: &mut Check<'_>) {
        let (name, policy) = self.policy();
        policy.check(&mut check.below(name));
    }

    /// The router.
    pub fn build(&self, seed: u64) -> Box<dyn Router> {
        self.policy().1.build(seed)
    }
}

struct RoundRobinSpec;

impl RouterPolicy for RoundRobinSpec {
    fn build(&self, _: u64) -> Box<dyn Router> {
        Box::new(RoundRobin { next: 0, turns: Turns::default() })
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

struct RandomSpec;

impl RouterPolicy for RandomSpec {
    fn build(&self, seed: u64) -> Box<dyn Router> {
        Box::new(Random { rng: stream(seed, Purpose::Routing) })
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
#[derive(Clone, Copy, Debug)]
struct Smallest {
    key: fn(ReplicaView, RequestInfo<'_>) -> (u64, u64),
}

const LEAST_OUTSTANDING: Smallest = Smallest { key: |r, _| (u64::from(r.outstanding) + 1, 0) };
const JOIN_SHORTEST_QUEUE: Smallest = Smallest { key: |r, _| (u64::from(r.waiting) + 1, u64::from(r.outstanding) + 1) };
const TOKEN_JSQ: Smallest =
    Smallest { key: |r, own| (r.pending_tokens + u64::from(own.prompt_tokens), u64::from(r.outstanding) + 1) };

impl RouterPolicy for Smallest {
    fn build(&self, _: u64) -> Box<dyn Router> {
        Box::new(*self)
    }
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
#[derive(Clone, Copy, Debug)]
struct LeastKv;

impl RouterPolicy for LeastKv {
    fn build(&self, _: u64) -> Box<dyn Router> {
        Box::new(*self)
    }
}

impl Router for LeastKv {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        let used = |at: &usize| {
            let ReplicaView { used_blocks, blocks, outstanding, .. } = fleet.replica(*at);
            (Weighed { load: used_blocks, weight: blocks }, outstanding)
        };
        (0..fleet.len()).min_by_key(used).unwrap_or(0)
    }

    fn needs(&self) -> RouterNeeds {
        RouterNeeds { blocks: true, own_weights: true, ..RouterNeeds::default() }
    }
}

struct PowerOfTwoSpec;

impl RouterPolicy for PowerOfTwoSpec {
    fn build(&self, seed: u64) -> Box<dyn Router> {
        Box::new(PowerOfTwo { rng: stream(seed, Purpose::Routing) })
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
