//! The CPU executor: f32 arithmetic over weights and a paged cache in f32 or bf16.
//!
//! Steps run on a thread of their own, one after the other, and use a fixed pool of threads. What a sequence gets depends
//! on nothing but its tokens, the weights and their number format: not on the batch around it, on how its prompt is cut, on where
//! its blocks lie, or on the number of threads.
#![allow(clippy::inline_always, reason = "what is not inlined into `dispatch!` loses the vector instructions")]
#![allow(clippy::needless_range_loop, reason = "indices over small arrays of registers")]

mod attention;
mod cache;
mod evict;
mod gate;
mod host;
mod math;
mod matmul;
mod model;
mod retained;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::config::Config;
use crate::executor::{Batch, BuildError, Capacity, Copied, Executor, ExecutorError, Output, Seat, TierCopy};
use crate::history::Histories;
use crate::retention::Retention;
use crate::weights::Weights;
use host::Host;
pub use model::Model;

/// Runs steps on the CPU.
pub struct CpuExecutor {
    capacity: Capacity,
    /// Dropped first, which ends the thread.
    work: Option<Sender<Work>>,
    outputs: Receiver<Result<Output, ExecutorError>>,
    /// A result that was fetched ahead of time.
    fetched: Option<Result<Output, ExecutorError>>,
    /// Steps submitted and not given back.
    out: usize,
    thread: Option<JoinHandle<()>>,
}

impl CpuExecutor {
    /// Starts an executor with that many compute threads. Keys and values are stored as the weights are.
    ///
    /// # Errors
    /// The capacity does not fit the model, there is no memory for its cache, or a thread cannot be started.
    pub fn new(
        config: Config,
        weights: Arc<Weights>,
        capacity: Capacity,
        threads: usize,
    ) -> Result<CpuExecutor, BuildError> {
        capacity.check(&config)?;
        let host = host(&config, &weights, &capacity)?;
        CpuExecutor::start(Model::new(config, weights, &capacity)?, host, capacity, threads)
    }

    /// [`CpuExecutor::new`] with sequences that keep only some of their tokens.
    ///
    /// # Errors
    /// As there, or the policy knows the future, which no run can.
    pub fn retaining(
        config: Config,
        weights: Arc<Weights>,
        capacity: Capacity,
        threads: usize,
        retention: Retention,
    ) -> Result<CpuExecutor, BuildError> {
        if retention.needed().future {
            return Err(BuildError::Unfit(format!(
                "`{}` knows attention to come: it can be evaluated on recorded sequences, and not run",
                retention.spec().policy.name()
            )));
        }
        capacity.check(&config)?;
        let host = host(&config, &weights, &capacity)?;
        CpuExecutor::start(Model::retaining(config, weights, &capacity, retention)?, host, capacity, threads)
    }

    fn start(model: Model, host: Host, capacity: Capacity, threads: usize) -> Result<CpuExecutor, BuildError> {
        let fault = |what: &str, error: &dyn std::fmt::Display| BuildError::Failed(format!("{what}: {error}"));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("compute-{index}"))
            .build()
            .map_err(|error| fault("cannot start compute threads", &error))?;
        let (work, queue) = channel();
        let (results, outputs) = channel();
        let mut worker = Worker { host, model, histories: Histories::new(capacity) };
        let thread = std::thread::Builder::new()
            .name("executor".to_owned())
            .spawn(move || worker.serve(&pool, &queue, &results))
            .map_err(|error| fault("cannot start the executor's thread", &error))?;
        Ok(CpuExecutor { capacity, work: Some(work), outputs, fetched: None, out: 0, thread: Some(thread) })
    }
}

/// The memory below the pool.
fn host(config: &Config, weights: &Weights, capacity: &Capacity) -> Result<Host, BuildError> {
    Host::new(config, capacity, weights.dtype).map_err(|ExecutorError(why)| BuildError::Unfit(why))
}

impl Executor for CpuExecutor {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn submit(&mut self, _: usize, batch: Batch) -> Result<(), ExecutorError> {
        let sent = self.work.as_ref().is_some_and(|work| work.send(Work::Step(batch)).is_ok());
        // A failure that is not yet fetched explains why nothing runs any more.
        if !sent {
            return self.wait(0).and(Err(stopped()));
        }
        self.out += 1;
        Ok(())
    }

    fn wait(&mut self, _: usize) -> Result<Output, ExecutorError> {
        if self.out == 0 {
            return Err(ExecutorError("waited for a step, and none is out".to_owned()));
        }
        self.out -= 1;
        let fetched = self.fetched.take();
        fetched.unwrap_or_else(|| self.outputs.recv().unwrap_or_else(|_| Err(stopped())))
    }

    fn copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        self.capacity.check_copies(copies)?;
        let sent = self.work.as_ref().is_some_and(|work| work.send(Work::Copies(copies.to_vec())).is_ok());
        if sent { Ok(()) } else { Err(stopped()) }
    }

    fn copied(&mut self) -> Result<Copied, ExecutorError> {
        let (reply, answer) = channel();
        let sent = self.work.as_ref().is_some_and(|work| work.send(Work::Tell(reply)).is_ok());
        answer.recv().ok().filter(|_| sent).ok_or_else(stopped)
    }

    /// The cache was written when it was made.
    fn give_contexts(&mut self) -> Result<(), ExecutorError> {
        Ok(())
    }

    fn ready(&mut self, _: usize) -> Result<bool, ExecutorError> {
        if self.out == 0 {
            return Err(ExecutorError("asked for a step, and none is out".to_owned()));
        }
        if self.fetched.is_none() {
            self.fetched = match self.outputs.try_recv() {
                Ok(output) => Some(output),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Err(stopped())),
            };
        }
        Ok(self.fetched.is_some())
    }
}

fn stopped() -> ExecutorError {
    ExecutorError("the executor has stopped after a failure".to_owned())
}

impl Drop for CpuExecutor {
    fn drop(&mut self) {
        self.work = None;
        // The step that runs is finished first; a panic was already reported as an error.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the executor's thread does, in order.
enum Work {
    Step(Batch),
    Copies(Vec<TierCopy>),
    /// Says what was copied.
    Tell(Sender<Copied>),
}

/// What the executor's thread owns.
struct Worker {
    model: Model,
    histories: Histories,
    host: Host,
}

impl Worker {
    /// Works until there is no more to do, or a batch fails.
    fn serve(
        &mut self,
        pool: &rayon::ThreadPool,
        queue: &Receiver<Work>,
        results: &Sender<Result<Output, ExecutorError>>,
    ) {
        for work in queue {
            let batch = match work {
                Work::Step(batch) => batch,
                Work::Copies(copies) => {
                    self.host.copy(self.model.pool(), &copies);
                    continue;
                }
                Work::Tell(reply) => {
                    // Who asked may have gone.
                    let _ = reply.send(self.host.copied());
                    continue;
                }
            };
            // What it takes to wake the threads is the device's time too: no step is without it.
            let start = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| pool.install(|| self.step(batch))));
            let result = result.unwrap_or_else(|panic| {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                Err(ExecutorError(format!("the CPU executor panicked: {message}")))
            });
            let result = result.map(|tokens| Output { tokens, start, end: Instant::now() });
            let failed = result.is_err();
            if results.send(result).is_err() || failed {
                return;
            }
        }
    }

    fn step(&mut self, batch: Batch) -> Result<Vec<(Seat, u32)>, ExecutorError> {
        let Batch { shrinks, ends, begins, tables, sequences } = batch;
        for shrink in shrinks {
            self.model.shrink(shrink, self.histories.table(shrink.seat))?;
        }
        for seat in &ends {
            self.model.forget(*seat);
        }
        self.histories.update(&ends, begins, &tables)?;
        let inputs = self.histories.inputs_in(&sequences, |sequence| self.model.slots(sequence))?;
        let tables = self.histories.tables(&sequences);
        let logits = if inputs.is_empty() { &mut [][..] } else { self.model.forward(&inputs, &sequences, &tables) };
        Ok(self.histories.sample(&sequences, logits))
    }
}
