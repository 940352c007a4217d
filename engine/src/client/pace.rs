//! Sends requests at their times, whatever the server does: open loop.
//!
//! A thread of its own sleeps until each request is due. By then its body is written and its connection stands; the task that
//! sends it only waits for the word.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use overbook_sim::fleet::{ClusterSpec, OutputLimit, Progress};
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::{Arrival, Unsorted, Workload};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::ReplayError;
use super::books::Books;
use super::payload::Payloads;
use super::pool::Pool;
use super::reply::{Exchange, Job};
use crate::driver::Clock;

/// A request is made ready this long before it is due.
const AHEAD: Duration = Duration::from_millis(300);
/// Longest sleep: the watcher wants to be asked.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Pacer<'a> {
    pub(super) runtime: Handle,
    pub(super) pool: Arc<Pool>,
    pub(super) payloads: Payloads,
    pub(super) clock: Clock,
    pub(super) books: Arc<Mutex<Books>>,
    pub(super) ended: Arc<AtomicU64>,
    pub(super) sent: u64,
    pub(super) watch: &'a mut dyn FnMut(Progress) -> bool,
    pub(super) spec: &'a ClusterSpec,
}

type Ready = VecDeque<(Time, oneshot::Sender<()>)>;

impl Pacer<'_> {
    /// Sends everything, then waits for the last end. Returns whether it was interrupted.
    pub(super) fn run(mut self, workload: &mut dyn Workload) -> Result<bool, ReplayError> {
        let mut ready = Ready::new();
        let mut made = 0;
        let mut before = Time::ZERO;
        while let Some(mut arrival) = workload.next_arrival().map_err(ReplayError::Workload)? {
            if arrival.failed_in_trace {
                // No server ever saw it.
                continue;
            }
            if arrival.at < before {
                return Err(Unsorted { request: made, at: arrival.at, before }.into());
            }
            before = arrival.at;
            self.complete(&mut arrival);
            let early = self.clock.instant(arrival.at).checked_sub(AHEAD);
            if let Some(early) = early
                && !self.send_until(&mut ready, early)
            {
                return Ok(true);
            }
            ready.push_back(self.make_ready(made, arrival));
            made += 1;
            self.send_due(&mut ready);
        }
        while let Some(&(at, _)) = ready.front() {
            if !self.send_until(&mut ready, self.clock.instant(at)) {
                return Ok(true);
            }
        }
        while self.ended.load(Ordering::Acquire) < made {
            if !self.look() {
                return Ok(true);
            }
            std::thread::sleep(LOOK);
        }
        Ok(false)
    }

    fn make_ready(&self, number: u64, arrival: Arrival) -> (Time, oneshot::Sender<()>) {
        let at = arrival.at;
        let body = self.payloads.body(&arrival, number, arrival.output_tokens);
        let job = Job { number, arrival, path: self.payloads.asking.path(), body };
        let (word, due) = oneshot::channel();
        let exchange = Exchange { pool: Arc::clone(&self.pool), clock: self.clock, heard: Arc::default() };
        let (books, ended) = (Arc::clone(&self.books), Arc::clone(&self.ended));
        self.runtime.spawn(async move {
            if let Some(reply) = exchange.run(job, due).await {
                books.lock().unwrap_or_else(PoisonError::into_inner).reply(reply);
                ended.fetch_add(1, Ordering::Release);
            }
        });
        (at, word)
    }

    /// What the scenario says of all requests.
    fn complete(&self, arrival: &mut Arrival) {
        if let OutputLimit::Fixed(limit) = self.spec.traffic.output_limit {
            arrival.output_tokens = arrival.output_tokens.min(limit);
        }
        self.spec.controllers.patience.apply(arrival);
    }

    /// Gives the word to all requests that are due.
    fn send_due(&mut self, ready: &mut Ready) {
        // By the machine's clock: that of the run stands at zero until the workload begins.
        while ready.front().is_some_and(|&(at, _)| self.clock.instant(at) <= Instant::now()) {
            if let Some((_, word)) = ready.pop_front() {
                self.sent += 1;
                // A task that is gone has had the runtime taken away under it.
                let _ = word.send(());
            }
        }
    }

    /// Sends what is due until a moment has come. `false` on interruption.
    fn send_until(&mut self, ready: &mut Ready, until: Instant) -> bool {
        loop {
            self.send_due(ready);
            let now = Instant::now();
            if now >= until {
                return true;
            }
            if !self.look() {
                return false;
            }
            let next = ready.front().map_or(until, |&(at, _)| self.clock.instant(at).min(until));
            std::thread::sleep(next.min(now + LOOK).saturating_duration_since(Instant::now()));
        }
    }

    fn look(&mut self) -> bool {
        let ended = self.ended.load(Ordering::Acquire);
        (self.watch)(Progress { now: self.clock.now(), arrived: self.sent, ended })
    }
}
