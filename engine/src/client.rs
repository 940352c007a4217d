//! Replays a workload against any OpenAI-compatible server, in open loop.
//!
//! Latencies count from the times at which requests were *to be* sent, on this client's clock; how late they really were is
//! part of the result.

mod books;
mod events;
mod pace;
mod payload;
mod pool;
pub mod probe;
mod reply;
mod scrape;
mod target;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use overbook_sim::fleet::{ClusterSpec, Progress, RunResult};
use overbook_sim::results::rows::RequestRow;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Unsorted, Workload, WorkloadError};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::driver::Clock;
use crate::prompt::unseen;
use crate::run::{Lateness, Pressure, PressureGauge};
use books::Books;
use pace::Pacer;
use payload::Payloads;
use pool::Pool;

pub use payload::Asking;
pub use scrape::Scrape;
pub use target::{Target, TargetError};

/// Time between the first preparations and time zero of the workload.
const LEAD: Duration = Duration::from_millis(500);
/// Time that a server has to answer a question of ours.
const ANSWER: Duration = Duration::from_secs(60);
/// Time between two looks at the pressure on the client's CPU.
const LOOK: Duration = Duration::from_millis(200);
/// Threads for connections.
const THREADS: usize = 2;

/// The server to ask, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Where it is.
    pub target: Target,
    /// Its key, if it asks for one.
    pub api_key: Option<String>,
    /// The model [default: the first that it lists].
    pub model: Option<String>,
    /// Token ids of prompts are below it.
    pub vocab: u32,
    /// What every request states beside its prompt and its length, e.g. a temperature.
    pub body: Map<String, Value>,
}

/// What a server says of itself, and how it takes prompts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The model that is asked.
    pub model: String,
    /// Version of the server, if it states one.
    pub version: Option<String>,
    /// Longest sequence [tokens], if it states one.
    pub max_model_len: Option<u64>,
    /// Form of the requests that it takes.
    pub asking: Asking,
}

/// What a replay gives.
#[derive(Debug)]
pub struct Replayed {
    /// Its figures.
    pub result: RunResult,
    /// Its requests, as they ended.
    pub rows: Vec<RequestRow>,
    /// What the server says of itself.
    pub found: Found,
    /// How late requests were sent.
    pub lateness: Lateness,
    /// What others took of the client's CPU; `None` where the system does not say.
    pub pressure: Option<Pressure>,
    /// Whether the server runs on the client's machine, where it is itself what the client waits for.
    pub shared: bool,
    /// The server's own view; empty if it has no metrics.
    pub scrapes: Vec<Scrape>,
    /// What went wrong, and how often.
    pub errors: Vec<(String, u64)>,
    /// Finished requests that got another number of tokens than they asked for.
    pub other_length: u64,
}

impl Replayed {
    /// Why the run must not be compared with anything; empty if it may.
    pub fn void(&self) -> Vec<String> {
        let gap = Books::median_gap(&self.result);
        let allowed = Span((gap.0 / 10).max(1_000_000));
        let mut reasons = Vec::new();
        if self.lateness.p99 > allowed {
            let (late, allowed) = (self.lateness.p99.as_millis_f64(), allowed.as_millis_f64());
            reasons.push(format!("requests were sent late: p99 {late:.2} ms, at most {allowed:.2} ms is fair"));
        }
        if !self.shared {
            reasons.extend(self.pressure.iter().flat_map(Pressure::unfair));
        }
        reasons
    }

    /// What took the client's CPU beyond what is fair, where the server shares its machine; no reason to call a run void whose requests were sent in
    /// time.
    pub fn crowded(&self) -> Vec<String> {
        let pressure = self.pressure.iter().filter(|_| self.shared);
        pressure.flat_map(Pressure::unfair).collect()
    }
}

/// Why there is no replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The scenario asks for what a client cannot do.
    #[error("cannot replay this scenario: {0}")]
    Unfit(&'static str),
    /// The server does not answer, or not as it should.
    #[error("{target}: {what}")]
    Server {
        /// Where.
        target: String,
        /// What it did.
        what: String,
    },
    /// The workload is broken at some point.
    #[error("{0}")]
    Workload(#[source] WorkloadError),
    /// The workload goes backwards in time.
    #[error(transparent)]
    Unsorted(#[from] Unsorted),
    /// The system refused a thread or a timer.
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
}

/// What of a scenario a client in open loop cannot do.
fn unfit(spec: &ClusterSpec) -> Option<&'static str> {
    let cases = [
        (spec.traffic.clients.is_some(), "it is a closed loop; a replay is open: remove `workload.clients`"),
        (spec.traffic.max_concurrency.is_some(), "a replay never waits for answers; remove `workload.max_concurrency`"),
        (spec.controllers.retry.is_some(), "a replay sends nothing again; remove `workload.retry`"),
        (!spec.traffic.drain, "a replay waits for the last answer; remove `workload.drain`"),
    ];
    cases.into_iter().find(|(is, _)| *is).map(|(_, why)| why)
}

/// Sends the requests of a workload to a server. Of `spec`, the promises, limits and seed count. `watch` is called now and then;
/// it returns `false` to stop early: what has ended by then is kept.
///
/// # Errors
/// The server does not answer at all, or the workload is broken. Errors of single requests are outcomes.
pub fn replay(
    server: &Server,
    spec: &ClusterSpec,
    workload: &mut dyn Workload,
    watch: &mut dyn FnMut(Progress) -> bool,
) -> Result<Replayed, ReplayError> {
    if let Some(why) = unfit(spec) {
        return Err(ReplayError::Unfit(why));
    }
    if crate::run::waits(workload) {
        return Err(ReplayError::Unfit(
            "its sessions wait for answers, and a replay never does; set `workload.trace.sessions.pace: recorded`",
        ));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.map_err(ReplayError::Start)?;
    let pool = Arc::new(Pool::new(server.target.clone(), server.api_key.clone()));
    let found = runtime.block_on(find(&pool, server))?;
    let mut gauge = PressureGauge::start();
    let clock = Clock::new(Instant::now() + LEAD);
    let (stop, stopped) = watch::channel(false);
    let scrapes = runtime.spawn(scrape::watch(Arc::clone(&pool), clock, stopped));
    let books = Arc::new(Mutex::new(Books::new(spec.slo)));
    let mut looked = Instant::now();
    let mut look = |progress| {
        // It reads a file per thread.
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            gauge.look();
        }
        watch(progress)
    };
    let pacer = Pacer {
        runtime: runtime.handle().clone(),
        pool,
        payloads: Payloads {
            asking: found.asking,
            model: found.model.clone(),
            vocab: server.vocab.max(1),
            seed: unseen(spec.seed),
            body: server.body.clone(),
        },
        clock,
        books: Arc::clone(&books),
        ended: Arc::new(AtomicU64::new(0)),
        sent: 0,
        watch: &mut look,
        spec,
    };
    let interrupted = pacer.run(workload)?;
    // The receiver is gone only if there is nothing to stop.
    let _ = stop.send(true);
    let scrapes = runtime.block_on(scrapes).unwrap_or_default();
    let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
    let result = books.finish(&scrapes, workload.classes(), interrupted);
    let replayed = Replayed {
        result,
        rows: std::mem::take(&mut books.rows),
        found,
        lateness: Lateness::of(std::mem::take(&mut books.late)),
        pressure: gauge.read(),
        shared: server.target.is_this_machine(),
        scrapes,
        errors: std::mem::take(&mut books.errors),
        other_length: books.other_length,
    };
    drop(books);
    // Requests that still run after an interruption are dropped: their connections close.
    runtime.shutdown_background();
    Ok(replayed)
}

/// Asks a server for its model and version, and tries how it takes prompts.
async fn find(pool: &Pool, server: &Server) -> Result<Found, ReplayError> {
    let failed = |what: String| ReplayError::Server { target: server.target.to_string(), what };
    let call = async |method, path, body: String| {
        let answer = tokio::time::timeout(ANSWER, pool.call(method, path, body.into())).await;
        answer.map_err(|_| failed(format!("no answer to {path} within {ANSWER:?}")))?.map_err(|e| failed(e.to_string()))
    };
    let (status, models) = call(Method::GET, "/v1/models", String::new()).await?;
    let models: Value = serde_json::from_slice(&models).map_err(|_| {
        failed(format!("HTTP {} to /v1/models, and no JSON: is it an OpenAI-compatible server?", status.as_u16()))
    })?;
    if !status.is_success() {
        let what = reply::message(models.to_string().as_bytes());
        return Err(failed(format!("HTTP {} to /v1/models: {what}", status.as_u16())));
    }
    let list = models["data"].as_array().map_or(&[][..], Vec::as_slice);
    let ids: Vec<&str> = list.iter().filter_map(|model| model["id"].as_str()).collect();
    let at = match &server.model {
        None => (!ids.is_empty()).then_some(0),
        Some(name) => ids.iter().position(|id| id == name),
    };
    let Some(at) = at else {
        let asked = server.model.as_deref().map_or("any model".to_owned(), |name| format!("the model `{name}`"));
        return Err(failed(format!("it does not have {asked}; it has: {}", ids.join(", "))));
    };
    let version = match call(Method::GET, "/version", String::new()).await {
        Ok((status, body)) if status.is_success() => {
            serde_json::from_slice::<Value>(&body).ok().and_then(|v| v["version"].as_str().map(str::to_owned))
        }
        _ => None,
    };
    let model = ids[at].to_owned();
    let mut refusals = Vec::new();
    for asking in Asking::ALL {
        let payloads = Payloads {
            asking,
            model: model.clone(),
            vocab: server.vocab.max(1),
            seed: u64::MAX,
            body: server.body.clone(),
        };
        let probe = payloads.body(&Arrival::new(Time::ZERO, 4, 1), u64::MAX - 2, 1);
        let (status, body) = call(Method::POST, asking.path(), String::from_utf8_lossy(&probe).into_owned()).await?;
        if status.is_success() {
            let max_model_len = list.get(at).and_then(|model| model["max_model_len"].as_u64());
            return Ok(Found { model, version, max_model_len, asking });
        }
        let told = reply::message(&body);
        refusals.push(format!("HTTP {} to {}: {told}", status.as_u16(), asking.describe()));
        if asking == Asking::Tokens && told.contains("vocab") {
            // Text would hide that the scenario is about another model.
            break;
        }
    }
    Err(failed(format!("it takes no prompts. {}", refusals.join(". "))))
}

#[cfg(test)]
mod tests;
