//! The server as a client on a socket sees it; the engine is a [`Rehearsal`], which checks every step.

mod api;
mod faults;
mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use overbook_sim::kv::StoreSpec;
use overbook_sim::results::rows::RequestRow;
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::serving::replica::Happened;

use super::*;
use crate::executor::{Capacity, Rehearsal};
use wire::{Answered, call, get, post};

const BLOCKS: u32 = 512;
const BLOCK: u32 = 16;
const CONTEXT: u32 = 8192;
pub(crate) const VOCAB: u32 = 300;

/// What the server left behind.
pub(crate) struct Left {
    /// Requests that had not ended.
    pub(crate) unfinished: usize,
    pub(crate) rows: Vec<RequestRow>,
    /// Most blocks in use between two turns, and most of them while there was no request.
    used_max: u64,
    leaked: u64,
}

#[derive(Default)]
struct Book {
    rows: Vec<RequestRow>,
    used_max: u64,
    leaked: u64,
}

impl Observer for Book {
    fn arrived(&mut self, _: u64, _: Time, _: Time) {}
    fn held(&mut self, _: Time, _: Time, levels: Levels) {
        self.used_max = self.used_max.max(levels.used_blocks);
        if levels.running + levels.waiting == 0 {
            self.leaked = self.leaked.max(levels.used_blocks);
        }
    }
    fn step(&mut self, _: &StepLog, _: u64, _: u64) {}
    fn happened(&mut self, _: Time, what: &Happened, _: u64, _: u64) {
        if let Happened::Ended(row) = what {
            self.rows.push(row.clone());
        }
    }
}

/// A server on a thread of its own.
pub(crate) struct Running {
    pub(crate) at: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Left>,
}

impl Running {
    /// A server whose steps take `step`, with some settings changed.
    pub(crate) fn start(step: Duration, change: impl FnOnce(&mut Settings)) -> Running {
        Running::with((step, Duration::ZERO), SchedulerSpec::default(), change)
    }

    /// A server whose steps take a time, and more for every token.
    pub(crate) fn with(
        (step, token): (Duration, Duration),
        scheduler: SchedulerSpec,
        change: impl FnOnce(&mut Settings),
    ) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address");
        let limits = scheduler.needs().limits(u64::from(BLOCKS), BLOCK, CONTEXT);
        let mut settings = Settings::new("rehearsal", limits, VOCAB);
        change(&mut settings);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let capacity = Capacity::unbounded(BLOCKS, BLOCK, CONTEXT, VOCAB);
            let executor = Box::new(Rehearsal::new(capacity, step, token));
            let mut driver = Driver::new(limits, scheduler.build(0, 0), executor).expect("it fits");
            let clock = Clock::new(std::time::Instant::now());
            let mut book = Book::default();
            let stop = move || stopped.load(Ordering::Acquire);
            let unfinished = serve(settings, listener, &mut driver, clock, &mut book, stop).expect("it serves");
            let Book { rows, used_max, leaked } = book;
            Left { unfinished, rows, used_max, leaked }
        });
        Running { at, stop, thread }
    }

    /// A server of vLLM's scheduler with prefix caching, whose pool has so many blocks above a store.
    fn over_store(blocks: u32, context: u32, store: &StoreSpec) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address");
        let scheduler = SchedulerSpec::Vllm(VllmSpec { enable_prefix_caching: true, ..VllmSpec::default() });
        let limits = scheduler.needs().limits(u64::from(blocks), BLOCK, context);
        let host_blocks = store.tiers.iter().map(|tier| tier.blocks).sum();
        let capacity = Capacity { host_blocks, ..Capacity::unbounded(blocks, BLOCK, context, VOCAB) };
        let (store, stop) = (store.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let executor = Box::new(Rehearsal::new(capacity, Duration::ZERO, Duration::ZERO));
            let mut driver = Driver::with_store(limits, &store, scheduler.build(0, 0), executor).expect("it fits");
            let (settings, clock) = (Settings::new("rehearsal", limits, VOCAB), Clock::new(std::time::Instant::now()));
            let mut book = Book::default();
            let stop = move || stopped.load(Ordering::Acquire);
            let unfinished = serve(settings, listener, &mut driver, clock, &mut book, stop).expect("it serves");
            let Book { rows, used_max, leaked } = book;
            Left { unfinished, rows, used_max, leaked }
        });
        Running { at, stop, thread }
    }

    fn quick() -> Running {
        Running::start(Duration::ZERO, |_| {})
    }

    /// Stops it, as SIGTERM does.
    pub(crate) fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Stops it, as SIGTERM does, and waits for its end.
    pub(crate) fn stop(self) -> Left {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("no panic")
    }

    /// Waits until a figure of `/metrics` satisfies a condition.
    fn wait_for(&self, name: &str, fine: impl Fn(f64) -> bool) {
        let begun = std::time::Instant::now();
        loop {
            let value = figure(&get(self.at, "/metrics").body, name);
            if fine(value) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{name} stays at {value}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The first sample of a metric whose line begins so.
fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}
