//! The figures of a run: gathered while it goes ([`Tally`]), stated at its end ([`Summary`]).
//!
//! Names and definitions are those of `vllm bench serve`. Latencies are those of *finished* requests; throughputs count
//! finished requests and their tokens over the makespan; percentiles are nearest-rank, within 0.05 %.

mod metric;
mod money;
mod outages;
mod pool;
mod power;
mod quality;
mod sessions;
mod tally;

pub use metric::{LATENCIES, QUANTILES};
pub use money::{Money, Sensitivity};
pub use outages::{Hit, Outage, Outages};
pub use pool::PoolSummary;
pub use power::{PowerSummary, Served};
pub use quality::Quality;
pub use sessions::SessionFigures;
pub use tally::Tally;

use crate::kv::KvTraffic;
use crate::kv::retention::RetentionFigures;
use crate::power::figures::LimiterFigures;
use crate::results::economics::Economics;
use crate::results::histogram::Histogram;
use crate::results::rows::Outcome;
use crate::results::speculation::SpeculationFigures;
use crate::time::{Span, Time};

/// Latency promises per request. A request is *good* when it finished and met every promise that is set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Slo {
    /// Longest time to first token.
    pub ttft: Option<Span>,
    /// Longest mean time per output token after the first; one-token outputs meet it.
    pub tpot: Option<Span>,
    /// Longest gap between two tokens of a request; one-token outputs meet it.
    pub mtpot: Option<Span>,
    /// Longest end-to-end latency.
    pub e2el: Option<Span>,
}

impl Slo {
    /// Whether anything is promised at all.
    pub fn is_set(&self) -> bool {
        self.ttft.is_some() || self.tpot.is_some() || self.mtpot.is_some() || self.e2el.is_some()
    }
}

/// What a run was made on: the denominators of means and shares.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fleet {
    /// Replicas.
    pub replicas: u32,
    /// Lanes of all replicas together.
    pub lanes: u32,
    /// KV blocks of all replicas together.
    pub blocks: u64,
    /// Time that replicas were there, summed, if they came and went; without, all were there all the time.
    pub served: Option<Span>,
    /// Time that GPUs were there, summed, if it is known how many a replica has.
    pub gpu_time: Option<Span>,
}

impl Fleet {
    /// Time that replicas were there, summed [s].
    pub fn replica_seconds(&self, makespan: Span) -> f64 {
        self.served.map_or(makespan.as_secs_f64() * f64::from(self.replicas), Span::as_secs_f64)
    }
}

/// Tokens of all ended requests, whatever their end.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tokens {
    /// Prompt tokens of the requests that were started.
    pub prompt: u64,
    /// Tokens delivered.
    pub output: u64,
    /// Prompt tokens served from the prefix cache.
    pub cached: u64,
    /// Tokens computed again because of preemptions.
    pub recomputed: u64,
    /// Tokens whose KV was copied to the host by preemptions.
    pub swapped: u64,
    /// Tokens that went through a forward pass (prefill and decode, recomputation included).
    pub computed: u64,
    /// Prompt tokens of finished requests.
    pub finished_prompt: u64,
    /// Tokens delivered to finished requests.
    pub finished_output: u64,
    /// Prompt and output tokens of good requests.
    pub good: u64,
}

/// Latencies of finished requests [ns].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Latencies {
    /// First token - arrival.
    pub ttft: Histogram,
    /// (Last token - first token) / (output tokens - 1); undefined for one-token outputs, which are left out.
    pub tpot: Histogram,
    /// Longest gap between two tokens of a request; undefined for one-token outputs, which are left out.
    pub mtpot: Histogram,
    /// Last token - arrival.
    pub e2el: Histogram,
}

/// What the client sees of finished requests [ns]: the engine's latency, and the client's own time.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ClientLatencies {
    /// First token at the client - sent.
    pub ttft: Histogram,
    /// Last token at the client - sent.
    pub e2el: Histogram,
}

/// One request class.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Class {
    /// Its name in the trace.
    pub name: String,
    /// Requests per outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Finished requests that met the [`Slo`].
    pub good: u64,
    /// Its latencies.
    pub latencies: Latencies,
}

impl Class {
    /// Requests that ended in any way.
    pub fn ended(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// As [`Summary::served`].
    pub fn served(&self) -> u64 {
        self.ended() - self.outcomes[Outcome::FailedInTrace as usize]
    }
}

/// How many finished requests met each promise, exactly; `None` where nothing is promised.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Attained {
    /// Met [`Slo::ttft`].
    pub ttft: Option<u64>,
    /// Met [`Slo::tpot`].
    pub tpot: Option<u64>,
    /// Met [`Slo::mtpot`].
    pub mtpot: Option<u64>,
    /// Met [`Slo::e2el`].
    pub e2el: Option<u64>,
    /// Met all of them.
    pub all: u64,
}

/// Work of the lanes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Work {
    /// Batched forward passes.
    pub steps: u64,
    /// Those of them that decode.
    pub decode_steps: u64,
    /// Times a scheduler was asked for a plan.
    pub plans: u64,
    /// Runs of steps with the same plan.
    pub segments: u64,
    /// Preemptions.
    pub preemptions: u64,
    /// Time in steps, summed over lanes.
    pub busy: Span,
}

/// What single steps were like; every histogram counts each step once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Batches {
    /// Sequences in a step: decoding and in prefill.
    pub seqs: Histogram,
    /// Tokens in a step: one per decoding sequence, and its prefill tokens.
    pub tokens: Histogram,
    /// Time that a step took [ns].
    pub time: Histogram,
}

/// Levels over time. Means are over the makespan and the whole fleet, maxima are of one replica.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Load {
    /// Mean number of running requests.
    pub running_mean: f64,
    /// Most running requests on one replica.
    pub running_max: u32,
    /// Mean number of waiting requests.
    pub waiting_mean: f64,
    /// Most waiting requests on one replica.
    pub waiting_max: u32,
    /// Mean share of KV blocks in use, 0 to 1.
    pub kv_usage_mean: f64,
    /// Largest share of KV blocks in use on one replica, 0 to 1.
    pub kv_usage_max: f64,
}

/// The figures of one run. Individual numbers are also known by name: [`Summary::metric`].
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// Promises that goodput counts.
    pub slo: Slo,
    /// How many requests met them.
    pub attained: Attained,
    /// What it ran on.
    pub fleet: Fleet,
    /// Requests per outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Times that clients sent the ended requests: each once, and once more for each retry.
    pub attempts: u64,
    /// Finished requests with one output token: they have no `tpot`.
    pub single_token: u64,
    /// Token counts.
    pub tokens: Tokens,
    /// The first arrival.
    pub first_arrival: Time,
    /// The last end of a request.
    pub last_end: Time,
    /// Latencies over all classes.
    pub latencies: Latencies,
    /// Gaps between consecutive tokens of a request, of all requests [ns].
    pub itl: Histogram,
    /// First step plan - arrival, of all requests that were started [ns].
    pub queue_time: Histogram,
    /// What clients see, where their own time is stated.
    pub client: Option<ClientLatencies>,
    /// Sessions whose requests follow on one another, if the workload has such.
    pub sessions: Option<Box<SessionFigures>>,
    /// Figures per class, in the order of the workload's classes.
    pub classes: Vec<Class>,
    /// Steps, plans, preemptions.
    pub work: Work,
    /// Batch sizes and step times.
    pub batches: Batches,
    /// Running, waiting, KV use.
    pub load: Load,
    /// Figures per pool, where replicas differ; empty for a uniform fleet.
    pub pools: Vec<PoolSummary>,
    /// What has gone through the KV stores, where another than vLLM's cache on the GPUs is asked for.
    pub kv: Option<KvTraffic>,
    /// What became of requests under a budget of slots, where there is one.
    pub retained: Option<RetentionFigures>,
    /// What became of drafted tokens, where replicas speculate.
    pub speculation: Option<SpeculationFigures>,
    /// What answers are worth, where a task is named.
    pub quality: Option<Quality>,
    /// The power of the row, where it is looked at.
    pub power: Option<Box<PowerSummary>>,
    /// What GPUs, energy and carbon cost, where prices are stated.
    pub economics: Option<Box<Economics>>,
    /// What the GPUs' own limiters did, where they are simulated.
    pub limiter: Option<Box<LimiterFigures>>,
    /// When replicas were down, and what requests lived through then.
    pub outages: Outages,
}

impl Summary {
    /// Requests that ended in any way.
    pub fn ended(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Requests that the fleet was asked to serve: all that ended, but for those that had failed in the trace.
    pub fn served(&self) -> u64 {
        self.ended() - self.count(Outcome::FailedInTrace)
    }

    /// Requests that ended in this way.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// From the first arrival to the last end.
    pub fn makespan(&self) -> Span {
        self.last_end.since(self.first_arrival)
    }
}

#[cfg(test)]
mod tests;
