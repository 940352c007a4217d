//! Sends the requests of a workload at their times, whatever the engine does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use overbook_sim::counter::mix;
use overbook_sim::fleet::{ClusterSpec, Progress};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Unsorted, Workload};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout_at;

use super::EngineError;
use crate::driver::{Clock, Message, Stop, Submission};
use crate::executor::{Bans, Sampling};
use crate::prompt::prompt_tokens;

/// Longest pause between two looks at the watcher.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Tokio's timers are this coarse: the rest is slept by the thread.
const TIMER: Duration = Duration::from_millis(2);

/// Sends requests and counts what comes back.
pub(super) struct Pacer<'a> {
    pub(super) spec: &'a ClusterSpec,
    pub(super) clock: Clock,
    pub(super) vocab: u32,
    /// Of the draws; 0 takes the likeliest tokens.
    pub(super) temperature: f32,
    pub(super) out: Sender<Message>,
    pub(super) ended: UnboundedReceiver<u64>,
    pub(super) watch: &'a mut dyn FnMut(Progress) -> bool,
    pub(super) gauge: &'a mut dyn FnMut(),
    /// When the watcher was last asked.
    pub(super) looked: Instant,
    /// What was sent, by number.
    pub(super) sent: Vec<Arrival>,
    pub(super) back: u64,
    /// How late each request was sent [ns].
    pub(super) lateness: Vec<u64>,
    /// When closed-loop clients send their next requests.
    pub(super) due: BinaryHeap<Reverse<Time>>,
}

impl Pacer<'_> {
    /// Sends everything, then waits for the last end. Returns whether it was interrupted.
    pub(super) async fn run(&mut self, workload: &mut dyn Workload) -> Result<bool, EngineError> {
        if let Some(clients) = self.spec.traffic.clients {
            self.due.extend((0..clients.count).map(|_| Reverse(Time::ZERO)));
        }
        let mut before = Time::ZERO;
        while let Some(mut arrival) = workload.next_arrival().map_err(EngineError::Workload)? {
            if arrival.failed_in_trace {
                // No server ever saw it.
                continue;
            }
            if self.spec.traffic.clients.is_some() {
                let Some(at) = self.next_client().await else { return Ok(true) };
                arrival.at = at;
            } else {
                if arrival.at < before {
                    return Err(Unsorted { request: self.sent.len() as u64, at: arrival.at, before }.into());
                }
                before = arrival.at;
                if !self.until_free(&mut arrival).await {
                    return Ok(true);
                }
            }
            if !self.until(arrival.at).await || !self.glance() {
                return Ok(true);
            }
            self.send(arrival);
        }
        while self.back < self.sent.len() as u64 {
            if !self.pause(Instant::now() + LOOK_EVERY).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// When the next closed-loop client sends; `None` on interruption.
    async fn next_client(&mut self) -> Option<Time> {
        loop {
            if let Some(Reverse(at)) = self.due.pop() {
                return Some(at);
            }
            if !self.pause(Instant::now() + LOOK_EVERY).await {
                return None;
            }
        }
    }

    /// Waits until the client may have another request under way: it is sent then. `false` on interruption.
    async fn until_free(&mut self, arrival: &mut Arrival) -> bool {
        let Some(most) = self.spec.traffic.max_concurrency else { return true };
        if !self.until(arrival.at).await {
            return false;
        }
        while self.sent.len() as u64 - self.back >= u64::from(most) {
            if !self.pause(Instant::now() + LOOK_EVERY).await {
                return false;
            }
            arrival.at = arrival.at.max(self.clock.now());
        }
        true
    }

    /// Waits until a time of the run. `false` on interruption.
    async fn until(&mut self, at: Time) -> bool {
        let due = self.clock.instant(at);
        loop {
            let now = Instant::now();
            if now >= due {
                return true;
            }
            if due - now <= TIMER {
                std::thread::sleep(due - now);
                return true;
            }
            if !self.pause((now + LOOK_EVERY).min(due.checked_sub(TIMER).unwrap_or(now))).await {
                return false;
            }
        }
    }

    /// What a pause does besides waiting, if there was none for a while: requests may follow each other so closely that nothing waits.
    fn glance(&mut self) -> bool {
        if self.looked.elapsed() < LOOK_EVERY {
            return true;
        }
        while self.ended.try_recv().is_ok() {
            self.count_end();
        }
        self.look()
    }

    fn count_end(&mut self) {
        self.back += 1;
        if let Some(clients) = self.spec.traffic.clients {
            self.due.push(Reverse(self.clock.now() + clients.think_time.max(Span(1))));
        }
    }

    /// Looks at the pressure and asks the watcher. `false` on interruption.
    fn look(&mut self) -> bool {
        self.looked = Instant::now();
        (self.gauge)();
        let goes_on =
            (self.watch)(Progress { now: self.clock.now(), arrived: self.sent.len() as u64, ended: self.back });
        if !goes_on {
            let _ = self.out.send(Message::Halt);
        }
        goes_on
    }

    /// Waits for an end, at most until `until`. `false` on interruption, or if the driver is gone.
    async fn pause(&mut self, until: Instant) -> bool {
        match timeout_at(until.into(), self.ended.recv()).await {
            Ok(Some(_)) => self.count_end(),
            Ok(None) => return false,
            Err(_) => {}
        }
        self.look()
    }

    fn send(&mut self, mut arrival: Arrival) {
        self.spec.traffic.output_limit.apply(&mut arrival);
        self.spec.controllers.patience.apply(&mut arrival);
        let prompt = prompt_tokens(&arrival, self.sent.len() as u64, self.spec.seed, self.vocab);
        self.lateness.push(self.clock.now().since(arrival.at).0);
        let seed = mix(self.spec.seed, self.sent.len() as u64);
        let sampling = Sampling { temperature: self.temperature, seed, ..Sampling::GREEDY };
        self.sent.push(arrival.clone());
        let (bans, stop) = (Bans::default(), Stop::default());
        let submission = Submission { arrival, prompt, sampling, bans, stop, client: None };
        // A driver that is gone has an error, which the caller gets from it.
        let _ = self.out.send(Message::Submit(Box::new(submission)));
    }
}
