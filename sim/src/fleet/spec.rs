//! What a fleet is made of, and the traffic rules around it.

use super::{Autoscale, ClientTime, Disaggregation, EarlyRejection, Failure, Faults, ReplicaPool, Retry, StopReason};
use crate::results::summary::Slo;
use crate::routers::RouterSpec;
use crate::routers::RouterView;
use crate::schedulers::SchedulerSpec;
use crate::serving::replica::Limits;
use crate::time::Span;
use crate::workload::arrival::Arrival;

/// What policies are told about a request's output length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OutputLimit {
    /// What the trace says, else the room left in the context.
    #[default]
    Context,
    /// The same number for all requests; longer outputs are cut.
    Fixed(u32),
    /// The true length: an oracle, and printed as one.
    True,
}

impl OutputLimit {
    /// Tells a request what policies may know of its output.
    pub fn apply(self, arrival: &mut Arrival) {
        match self {
            OutputLimit::Context => {}
            OutputLimit::Fixed(limit) => arrival.max_new_tokens = Some(limit),
            OutputLimit::True => arrival.max_new_tokens = Some(arrival.output_tokens),
        }
    }
}

/// How long clients wait; applies to arrivals that do not say so themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Patience {
    /// Until the first step.
    pub max_wait: Option<Span>,
    /// Until the last token.
    pub deadline: Option<Span>,
    /// Until the client disconnects anyway.
    pub cancel_after: Option<Span>,
}

impl Patience {
    /// Gives a request the patience that it does not have of its own.
    pub fn apply(self, arrival: &mut Arrival) {
        arrival.max_wait = arrival.max_wait.or(self.max_wait);
        arrival.deadline = arrival.deadline.or(self.deadline);
        arrival.cancel_after = arrival.cancel_after.or(self.cancel_after);
    }
}

/// Closed-loop clients: each sends its next request a think time after its last one has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clients {
    /// How many.
    pub count: u32,
    /// Time between an end and the next request; at least a nanosecond.
    pub think_time: Span,
}

/// A fleet of replicas and the traffic rules around it.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Number of replicas that are all alike; what it is does not matter if there are `pools`.
    pub replicas: u32,
    /// Limits of each; do not matter if there are `pools`.
    pub limits: Limits,
    /// Replicas of several kinds, numbered in this order, in place of equal ones. Not with `autoscale`.
    pub pools: Vec<ReplicaPool>,
    /// Scheduler of each.
    pub scheduler: SchedulerSpec,
    /// Replicas that only compute prompts, if some do.
    pub disaggregation: Option<Disaggregation>,
    /// What requests must be likely to get, or they are refused on arrival.
    pub early_rejection: Option<EarlyRejection>,
    /// Router before them.
    pub router: RouterSpec,
    /// How old its view of the replicas is; live without.
    pub router_view: Option<RouterView>,
    /// What policies see of output lengths.
    pub output_limit: OutputLimit,
    /// How long clients wait.
    pub patience: Patience,
    /// Closed loop, if any; arrival times of the workload are then ignored.
    pub clients: Option<Clients>,
    /// Requests that the client has under way at once at most, open loop: who finds it so waits at the client, and arrives when
    /// it is sent.
    pub max_concurrency: Option<u32>,
    /// What clients see beyond the engine's clock, if their latencies are wanted too.
    pub client_time: Option<ClientTime>,
    /// Whether the run goes on until the last request has ended. If not, it ends when nobody is left to arrive or to wait: who
    /// still runs then is cut off.
    pub drain: bool,
    /// Seed of the fleet's random streams.
    pub seed: u64,
    /// Promise that goodput is counted against.
    pub slo: Slo,
    /// Jump over equal steps (exact); off only to prove it.
    pub jumps: bool,
    /// Check the laws at every event (slow).
    pub audit: bool,
    /// Whether clients send requests again that have come to nothing.
    pub retry: Option<Retry>,
    /// Replicas that fail at given moments.
    pub failures: Vec<Failure>,
    /// Replicas that fail at random.
    pub faults: Option<Faults>,
    /// Replicas that come and go with the load; without, all are there from the start. Not with `disaggregation`.
    pub autoscale: Option<Autoscale>,
    /// Plants an off-by-one into a rule that ends jumps: only for tests that prove the laws have teeth.
    #[doc(hidden)]
    pub sabotage: Option<StopReason>,
}

impl Default for ClusterSpec {
    /// One replica of vLLM's defaults with a pool of 65,536 tokens.
    fn default() -> Self {
        let scheduler = SchedulerSpec::default();
        ClusterSpec {
            replicas: 1,
            limits: scheduler.needs().limits(4096, 16, 8192),
            pools: Vec::new(),
            scheduler,
            disaggregation: None,
            early_rejection: None,
            router: RouterSpec::default(),
            router_view: None,
            output_limit: OutputLimit::default(),
            patience: Patience::default(),
            clients: None,
            max_concurrency: None,
            client_time: None,
            drain: true,
            seed: 0,
            slo: Slo::default(),
            jumps: true,
            audit: false,
            retry: None,
            failures: Vec::new(),
            faults: None,
            autoscale: None,
            sabotage: None,
        }
    }
}
