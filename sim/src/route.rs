//! Routers: which replica takes an arriving request.

use rand::RngExt as _;
use rand::rngs::ChaCha8Rng;

use crate::policy::RouterSpec;
use crate::replica::Replica;
use crate::streams::{Purpose, stream};

/// What a router may see of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaView {
    /// Waiting requests, preempted ones included.
    pub waiting: u32,
    /// Waiting and running requests.
    pub outstanding: u32,
}

/// The fleet as a router sees it: live, without delay.
#[derive(Clone, Copy, Debug)]
pub struct FleetView<'a> {
    replicas: &'a [Replica],
}

impl<'a> FleetView<'a> {
    /// A view of these replicas.
    pub fn new(replicas: &'a [Replica]) -> Self {
        FleetView { replicas }
    }

    /// Number of replicas.
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Whether there is no replica.
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// One replica.
    pub fn replica(&self, at: usize) -> ReplicaView {
        let replica = &self.replicas[at];
        ReplicaView { waiting: replica.waiting(), outstanding: replica.outstanding() }
    }
}

/// Chooses a replica for each arrival.
pub trait Router: std::fmt::Debug {
    /// Index of the replica that takes the request.
    fn route(&mut self, fleet: FleetView<'_>) -> usize;
}

impl RouterSpec {
    /// The router.
    pub fn build(self, seed: u64) -> Box<dyn Router> {
        match self {
            RouterSpec::RoundRobin => Box::new(RoundRobin { next: 0 }),
            RouterSpec::Random => Box::new(Random { rng: stream(seed, Purpose::Routing) }),
            RouterSpec::LeastOutstanding => Box::new(Smallest { key: |r| (r.outstanding, 0) }),
            RouterSpec::JoinShortestQueue => Box::new(Smallest { key: |r| (r.waiting, r.outstanding) }),
            RouterSpec::PowerOfTwo => Box::new(PowerOfTwo { rng: stream(seed, Purpose::Routing) }),
        }
    }
}

#[derive(Debug)]
struct RoundRobin {
    next: usize,
}

impl Router for RoundRobin {
    fn route(&mut self, fleet: FleetView<'_>) -> usize {
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
    fn route(&mut self, fleet: FleetView<'_>) -> usize {
        self.rng.random_range(0..fleet.len())
    }
}

/// The replica with the smallest key, the first on ties.
#[derive(Debug)]
struct Smallest {
    key: fn(ReplicaView) -> (u32, u32),
}

impl Router for Smallest {
    fn route(&mut self, fleet: FleetView<'_>) -> usize {
        (0..fleet.len()).min_by_key(|&i| (self.key)(fleet.replica(i))).unwrap_or(0)
    }
}

#[derive(Debug)]
struct PowerOfTwo {
    rng: ChaCha8Rng,
}

impl Router for PowerOfTwo {
    fn route(&mut self, fleet: FleetView<'_>) -> usize {
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
