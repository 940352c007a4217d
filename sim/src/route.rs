//! Routers: which replica takes an arriving request, and what they may see of the fleet.

mod prefix_aware;
mod view;

use rand::RngExt as _;
use rand::rngs::ChaCha8Rng;

use crate::arrival::Arrival;
use crate::policy::RouterSpec;
use crate::streams::{Purpose, stream};

pub use prefix_aware::PrefixAwareSpec;
pub(crate) use view::Reports;
pub use view::{FleetView, ReplicaView, RouterView};

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
            RouterSpec::RoundRobin => Box::new(RoundRobin { next: 0 }),
            RouterSpec::Random => Box::new(Random { rng: stream(seed, Purpose::Routing) }),
            RouterSpec::LeastOutstanding => Box::new(Smallest { key: |r| (u64::from(r.outstanding), 0) }),
            RouterSpec::JoinShortestQueue => Box::new(Smallest { key: |r| (u64::from(r.waiting), r.outstanding) }),
            RouterSpec::PowerOfTwo => Box::new(PowerOfTwo { rng: stream(seed, Purpose::Routing) }),
            RouterSpec::TokenJsq => Box::new(Smallest { key: |r| (r.pending_tokens, r.outstanding) }),
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
}

impl Router for RoundRobin {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
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
        self.rng.random_range(0..fleet.len())
    }
}

/// The replica with the smallest key, the first on ties.
#[derive(Debug)]
struct Smallest {
    key: fn(ReplicaView) -> (u64, u32),
}

impl Router for Smallest {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        (0..fleet.len()).min_by_key(|&i| (self.key)(fleet.replica(i))).unwrap_or(0)
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
        if fleet.replica(high).outstanding < fleet.replica(low).outstanding { high } else { low }
    }
}
