//! An OpenAI-compatible server around a [`Driver`].
//!
//! ```text
//!   connection ──ask──► service ──Submission──► driver (the caller's thread)
//!        ▲                                        │
//!        └──── pieces ◄──── generation ◄──events──┘
//! ```
//!
//! The driver runs on the thread that calls [`serve`]; connections and the tasks of requests run on a few others.

mod answer;
mod ask;
mod books;
mod connections;
mod error;
mod generation;
mod hosts;
mod metrics;
mod prefix;
mod routes;
mod service;
mod stops;
mod stream;
pub mod tokenizer;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use overbook_sim::kv::{TierSpec, TierTraffic};
use overbook_sim::serving::replica::{Happened, Limits};
use overbook_sim::time::Time;
use tokio::sync::watch;

use crate::driver::{Clock, DriveError, Driver, Levels, Message, Observer, StepLog};
use connections::Bounds;
use hosts::Hosts;
use service::Service;
use tokenizer::Tokenizer;

pub use books::Books;

/// What `/version` says.
const VERSION: &str = concat!("overbook ", env!("CARGO_PKG_VERSION"));
/// Threads for connections and requests.
const THREADS: usize = 2;
/// How long connections have to write what they have when the driver has stopped.
const FLUSH: Duration = Duration::from_secs(2);
/// How often the server looks whether it is to stop, and then whether it is done.
const LOOK: Duration = Duration::from_millis(20);

/// What the operator chooses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name that clients use.
    pub model: String,
    /// Those of the driver.
    pub limits: Limits,
    /// Size of the vocabulary.
    pub vocab: u32,
    /// Between the clients' text and the model's tokens.
    pub tokenizer: Arc<Tokenizer>,
    /// If set, `/v1/` asks for it.
    pub api_key: Option<String>,
    /// Requests that may wait for their first token; more get 429.
    pub max_waiting: usize,
    /// Largest body [bytes]; more gets 413.
    pub max_body: usize,
    /// Bodies at once, that are arriving or waiting to be read [bytes], at least `max_body`; more get 429.
    pub max_bodies: usize,
    /// Time for a body to arrive; more gets 408.
    pub body_timeout: Duration,
    /// Connections at once; more wait until one closes.
    pub max_connections: usize,
    /// Time for a head to arrive on a connection, new or idle, and for a reader to take nothing; then it is closed.
    pub idle_timeout: Duration,
    /// Names by which clients may call a server on the loopback that asks for no key, beside those of the loopback itself: a page
    /// in a browser of this machine can send requests under a name of its own.
    pub allowed_hosts: Vec<String>,
    /// Time for a request to finish; more gets 504, or an error event in a stream.
    pub request_timeout: Duration,
    /// Time for running requests to finish when the server is stopped.
    pub drain_timeout: Duration,
    /// Seed of requests that bring none.
    pub seed: u64,
}

impl Settings {
    /// The defaults, for a model and its driver: text is bytes.
    pub fn new(model: &str, limits: Limits, vocab: u32) -> Self {
        Settings {
            model: model.to_owned(),
            limits,
            vocab,
            tokenizer: Arc::new(Tokenizer::bytes()),
            api_key: None,
            max_waiting: 512,
            max_body: 8 << 20,
            max_bodies: 128 << 20,
            body_timeout: Duration::from_secs(30),
            max_connections: 4096,
            idle_timeout: Duration::from_secs(30),
            allowed_hosts: Vec::new(),
            request_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
            seed: 0,
        }
    }
}

/// Why a server stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The operating system refused something.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The driver stopped.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The model has no room for text.
    #[error("the vocabulary has {vocab} tokens; text needs {min}")]
    Vocabulary {
        /// What the model has.
        vocab: u32,
        /// What its text needs.
        min: u32,
    },
}

/// Serves until `stop` says so, which it is asked now and then; then takes no new requests, lets those that run finish, and returns how many did not.
/// `observer` gets the driver's reports.
///
/// # Errors
/// The listener does not work, or the driver failed: clients have got an error by then.
pub fn serve(
    settings: Settings,
    listener: TcpListener,
    driver: &mut Driver,
    clock: Clock,
    observer: &mut dyn Observer,
    stop: impl Fn() -> bool + Send + 'static,
) -> Result<usize, ServeError> {
    let (vocab, min) = (settings.vocab, settings.tokenizer.vocab_min());
    if vocab < min {
        return Err(ServeError::Vocabulary { vocab, min });
    }
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let metrics = metrics::Shared::new(&settings.model, settings.limits);
    let (inbox, messages) = mpsc::channel();
    let is_private = settings.api_key.is_none() && listener.local_addr()?.ip().is_loopback();
    let hosts = if is_private { Hosts::Loopback(settings.allowed_hosts.clone()) } else { Hosts::Any };
    let bounds = Bounds { connections: settings.max_connections, patience: settings.idle_timeout };
    let service = Arc::new(Service::new(settings, hosts, clock, inbox, metrics.clone()));
    let (close, closed) = watch::channel(false);
    let router = routes::router(Arc::clone(&service));
    let connections = runtime.spawn(connections::listen(listener, router, bounds, closed));
    let left = runtime.spawn(drain(Arc::clone(&service), stop));
    let driven = driver.run(&messages, clock, &mut Both(metrics, observer));
    if driven.is_err() {
        service.die();
    }
    // Requests that are submitted from now on get an error.
    drop(messages);
    service.drain();
    // The receiver is gone only if the listener has failed.
    let _ = close.send(true);
    let listened = runtime.block_on(async { tokio::time::timeout(FLUSH, connections).await });
    driven?;
    if let Ok(Ok(listened)) = listened {
        listened?;
    }
    let left = runtime.block_on(left).unwrap_or(0);
    runtime.shutdown_timeout(FLUSH);
    Ok(left)
}

/// Waits until the server is to stop, then until its requests have ended or their time is up, and stops the driver.
/// Returns how many requests were left.
async fn drain(service: Arc<Service>, stop: impl Fn() -> bool) -> usize {
    while !stop() {
        tokio::time::sleep(LOOK).await;
    }
    service.drain();
    let deadline = tokio::time::Instant::now() + service.settings.drain_timeout;
    while service.active() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
    let left = service.active();
    // A driver that has stopped already needs no telling.
    let _ = service.inbox.send(Message::Halt);
    left
}

/// Reports to two observers.
struct Both<'a>(metrics::Shared, &'a mut dyn Observer);

impl Observer for Both<'_> {
    fn arrived(&mut self, id: u64, scheduled: Time, now: Time) {
        self.0.arrived(id, scheduled, now);
        self.1.arrived(id, scheduled, now);
    }

    fn held(&mut self, from: Time, to: Time, levels: Levels) {
        self.0.held(from, to, levels);
        self.1.held(from, to, levels);
    }

    fn step(&mut self, step: &StepLog, gaps: u64, plans: u64) {
        self.0.step(step, gaps, plans);
        self.1.step(step, gaps, plans);
    }

    fn happened(&mut self, now: Time, what: &Happened, steps: u64, busy: u64) {
        self.0.happened(now, what, steps, busy);
        self.1.happened(now, what, steps, busy);
    }

    fn stored(&mut self, tier: &TierSpec, traffic: &TierTraffic) {
        self.0.stored(tier, traffic);
        self.1.stored(tier, traffic);
    }
}

#[cfg(test)]
pub(crate) mod tests;
