//! What a fleet is made of, and the traffic rules around it.

use std::collections::BTreeMap;

use super::controllers::{
    Autoscale, ClientTime, Clients, Disaggregation, EarlyRejection, Failure, Faults, Frontend, Patience, PointChange,
    Retry,
};
use super::devices::DeviceSpec;
use super::pools::ReplicaPool;
use super::power::{FleetPower, GpuLimiter};
use crate::kv::StoreSpec;
use crate::results::economics::Economics;
use crate::results::summary::Slo;
use crate::routers::{RouterSpec, RouterView};
use crate::schedulers::SchedulerSpec;
use crate::serving::replica::Limits;
use crate::serving::speculation::Acceptance;
use crate::time::{Span, Time};
use crate::workload::arrival::Arrival;

/// What policies know of a request's output length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OutputLimit {
    /// What the trace says, else the room left in the context.
    #[default]
    Context,
    /// The same number for all requests; longer outputs are cut.
    Fixed(u32),
    /// The true length: an oracle, and printed as one.
    True,
    /// The true length, at which clients that ignore the end of sequence make the request end: schedulers may count on it.
    Exact,
}

impl OutputLimit {
    /// Sets what policies may know of a request's output.
    pub fn apply(self, arrival: &mut Arrival) {
        match self {
            OutputLimit::Context => {}
            OutputLimit::Fixed(limit) => arrival.max_new_tokens = Some(limit),
            OutputLimit::True => arrival.max_new_tokens = Some(arrival.output_tokens),
            OutputLimit::Exact => {
                arrival.max_new_tokens = Some(arrival.output_tokens);
                arrival.ignore_eos = true;
            }
        }
    }
}

/// The traffic, as far as the workload does not say it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traffic {
    /// What policies see of output lengths.
    pub output_limit: OutputLimit,
    /// Closed loop, if any; arrival times of the workload, and starts of its sessions, are then ignored.
    pub clients: Option<Clients>,
    /// Requests that the client has under way at once at most, open loop: a further one waits at the client, and arrives when it
    /// is sent.
    pub max_concurrency: Option<u32>,
    /// What the server's front end adds to the engine's latencies, if there is one; pools have their own.
    pub frontend: Option<Frontend>,
    /// What clients see beyond the server, if their latencies are wanted too.
    pub client_time: Option<ClientTime>,
    /// Whether the run goes on until the last request has ended. If not, it ends when no request is left to arrive or to wait:
    /// requests that still run then are cut off.
    pub drain: bool,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic {
            output_limit: OutputLimit::default(),
            clients: None,
            max_concurrency: None,
            frontend: None,
            client_time: None,
            drain: true,
        }
    }
}

/// The controllers around the replicas; by default there is only the router, which sees the replicas live.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Controllers {
    /// How old the router's view of the replicas is; live without.
    pub router_view: Option<RouterView>,
    /// Replicas that only compute prompts, if some do.
    pub disaggregation: Option<Disaggregation>,
    /// What requests must be likely to get, or they are refused on arrival.
    pub early_rejection: Option<EarlyRejection>,
    /// How long clients wait.
    pub patience: Patience,
    /// How long after their arrival clients gave up, by request, where that is known, as in a replay. Then it ends them, and what they
    /// say of their patience is only what policies see.
    pub gave_up: BTreeMap<u64, Span>,
    /// Whether clients send requests again that have come to nothing.
    pub retry: Option<Retry>,
    /// Replicas that fail at given moments.
    pub failures: Vec<Failure>,
    /// Replicas that fail at random.
    pub faults: Option<Faults>,
    /// Replicas that come and go with the load of the whole fleet; without, all are there from the start. Pools have their own.
    pub autoscale: Option<Autoscale>,
    /// Operating points set at given moments; they need [`ClusterSpec::devices`].
    pub points: Vec<PointChange>,
    /// When what the lanes have done is read ([`RunResult::readings`](super::RunResult::readings)); it needs [`ClusterSpec::devices`].
    pub readings: Vec<Time>,
}

/// A fleet of replicas, the traffic that it gets, and the controllers around it.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Number of replicas that are all alike; what it is does not matter if there are `pools`.
    pub replicas: u32,
    /// Limits of each; do not matter if there are `pools`.
    pub limits: Limits,
    /// GPUs of each, for the cost of a run; pools have their own.
    pub gpus: Option<u32>,
    /// Replicas of several kinds, numbered in this order, in place of equal ones.
    pub pools: Vec<ReplicaPool>,
    /// The GPUs of each pool, where clocks can change and work is counted. Empty: clocks stay, no work is counted, and neither costs time.
    pub devices: Vec<DeviceSpec>,
    /// Which drafts are accepted, where the replicas speculate: their limits say how many drafts there are. None: they do not.
    pub speculation: Option<Acceptance>,
    /// How each keeps KV that no request holds.
    pub store: StoreSpec,
    /// Scheduler of each.
    pub scheduler: SchedulerSpec,
    /// Router before them.
    pub router: RouterSpec,
    /// The traffic.
    pub traffic: Traffic,
    /// The controllers.
    pub controllers: Controllers,
    /// The power of the row that the servers stand in, if it is looked at.
    pub power: Option<FleetPower>,
    /// Prices of GPUs and energy, and carbon, if they are stated: they change no run, only what is said of it.
    pub economics: Option<Economics>,
    /// The GPUs' own limiters, where they slow steps down.
    pub limiter: Option<GpuLimiter>,
    /// Seed of the fleet's random streams.
    pub seed: u64,
    /// Promise that goodput is counted against.
    pub slo: Slo,
    /// Jump over equal steps (exact); off only to prove it.
    pub jumps: bool,
    /// Check the laws at every event (slow).
    pub audit: bool,
}

impl Default for ClusterSpec {
    /// One replica of vLLM's defaults with a pool of 65,536 tokens.
    fn default() -> Self {
        let scheduler = SchedulerSpec::default();
        ClusterSpec {
            replicas: 1,
            limits: scheduler.needs().limits(4096, 16, 8192),
            gpus: None,
            pools: Vec::new(),
            devices: Vec::new(),
            speculation: None,
            store: StoreSpec::default(),
            scheduler,
            router: RouterSpec::default(),
            traffic: Traffic::default(),
            controllers: Controllers::default(),
            power: None,
            economics: None,
            limiter: None,
            seed: 0,
            slo: Slo::default(),
            jumps: true,
            audit: false,
        }
    }
}
