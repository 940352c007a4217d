//! Where the requests come from and what clients do with them.

use std::path::{Path, PathBuf};

use overbook_sim::time::Span;
use overbook_sim::units::Duration;
use overbook_traces::{GenerateSpec, PopulationSpec, TraceSpec};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The requests: generated, from a trace, or from a population of clients.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Synthetic requests. Exactly one of `generate`, `trace` and `population` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateSpec>,
    /// Recorded requests. Exactly one of `generate`, `trace` and `population` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceSpec>,
    /// Requests of many clients, each with its own rates and lengths (ServeGen). Exactly one of `generate`, `trace` and
    /// `population` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub population: Option<PopulationSpec>,
    /// Every replica has its own clients: `generate` is made once for each replica, with draws of its own, and its requests go there
    /// without being routed; `requests` and rates count per replica. What a replica gets does not depend on how many there are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_replica: bool,
    /// Closed loop: so many clients, each sending its next request when the last one has ended. The lengths come from
    /// the workload; its arrival times are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Clients>,
    /// Requests under way at once at most, as `vllm bench serve --max-concurrency`: further ones wait at the client until
    /// one has ended, and their latencies count from when they are sent. Not together with `clients`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// The time between client and engine. The engine's latencies stay as they are; those of the client come beside them, as
    /// `client_ttft` and `client_e2el`, and clients of a closed loop send their next request that much later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_time: Option<ClientTimeSpec>,
    /// Temperature that clients state; by default they state none, and the model's own `generation_config` holds. At 0 tokens are
    /// taken greedily, which costs less time than drawing them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Whether the run goes on until the last request has ended. If not, it ends when no request is left to arrive or to wait, and
    /// requests that still run then are in no figure of requests.
    #[serde(default = "yes")]
    pub drain: bool,
    /// The output limit that policies see.
    #[serde(default)]
    pub max_new_tokens: MaxNewTokens,
    /// Clients ignore the end of sequence, as most benchmarks do: outputs end at their limits, and SGLang 0.5.23 counts on that when it
    /// admits. Needs `max_new_tokens: true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_eos: bool,
    /// How long clients wait.
    #[serde(default)]
    pub limits: Limits,
    /// Whether clients send requests again that have come to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetrySpec>,
}

impl WorkloadSpec {
    /// The files that the requests come from.
    pub fn files(&self) -> Vec<&Path> {
        let trace = self.trace.iter().map(|trace| trace.path.as_path());
        let population = self.population.iter().flat_map(|p| [Some(&p.rates), p.lengths.as_ref()]);
        trace.chain(population.flatten().map(PathBuf::as_path)).collect()
    }

    /// Requests that the workload makes, if it says so.
    pub fn requests(&self) -> Option<u64> {
        let generated = self.generate.as_ref().and_then(|generate| generate.requests);
        let recorded = || self.trace.as_ref().and_then(|trace| trace.requests);
        generated.or_else(recorded).or_else(|| self.population.as_ref().and_then(|population| population.requests))
    }
}

/// A closed loop of clients.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// Clients, 1 or more.
    pub count: u32,
    /// Pause between the end of a request and the next one of the same client.
    #[serde(default = "no_pause")]
    pub think_time: Duration,
}

/// What a client sees beyond the engine's own clock: HTTP, tokeniser, detokeniser, its own loop.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTimeSpec {
    /// Of every request.
    pub base: Duration,
    /// For each request that is under way when it is sent, itself included: a client of one thread that reads many streams.
    #[serde(default = "no_pause")]
    pub per_concurrent: Duration,
}

fn yes() -> bool {
    true
}

fn no_pause() -> Duration {
    Duration(overbook_sim::time::Span::ZERO)
}

/// When clients send a request again. The defaults are those of the OpenAI Python client: two retries, after half a second and a
/// second, each cut by up to a quarter at random.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySpec {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles from one to the next.
    pub backoff: Duration,
    /// Longest pause.
    pub max_backoff: Duration,
    /// Share of a pause that is left out at random, at most.
    pub jitter: f64,
    /// The outcomes after which a request is sent again.
    pub on: Vec<RetryOn>,
}

impl Default for RetrySpec {
    fn default() -> Self {
        RetrySpec {
            attempts: 3,
            backoff: Duration(Span(500_000_000)),
            max_backoff: Duration(Span(8_000_000_000)),
            jitter: 0.25,
            on: vec![RetryOn::Failed, RetryOn::Expired],
        }
    }
}

/// An outcome after which a client may send its request again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// The replica has lost it, or none is up.
    Failed,
    /// The client's patience (`max_wait`, `deadline`) has ended; it waits as long again.
    Expired,
    /// It was refused.
    Rejected,
}

/// The output limit that policies see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaxNewTokens {
    /// Up to the context length, as clients that set no limit.
    #[default]
    Context,
    /// The true output length: an oracle, and reported as one.
    True,
    /// The same limit for all requests [tokens]; longer outputs are cut to it.
    Fixed(u32),
}

impl JsonSchema for MaxNewTokens {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MaxNewTokens".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The output limit that policies see",
            "oneOf": [
                { "description": "Up to the context length, as clients that set no limit", "const": "context" },
                { "description": "The true output length: an oracle, and reported as one", "enum": [true, "true"] },
                {
                    "description": "The same limit for all requests [tokens]; longer outputs are cut to it",
                    "type": "object",
                    "properties": { "fixed": { "type": "integer", "minimum": 1, "maximum": u32::MAX } },
                    "required": ["fixed"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// How long clients wait. What is not given is unlimited.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The client gives up if its request has not started this long after arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Duration>,
    /// The client gives up if its request has not finished this long after arrival. All three count by the engine's clock: what the server's front end
    /// takes comes on top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// The client disconnects this long after arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_after: Option<Duration>,
}
