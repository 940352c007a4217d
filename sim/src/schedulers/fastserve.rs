//! FastServe: a skip-join multi-level feedback queue.

use serde::{Deserialize, Serialize};

use super::chunked::BatchSpec;
use super::idle::Idle;
use super::pace::Pace;
use super::victim::PreemptionMode;
use super::{Horizon, Nearest, Needs, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::kv::Seat;
use crate::serving::step::{Infeasible, RequestView, StepBuilder};
use crate::time::{Span, Time};
use crate::units::{Bytes, Duration};

/// Settings of FastServe, with the defaults of its code.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FastserveSpec {
    /// Service after which a request leaves the first queue.
    pub base_quantum: Duration,
    /// Each queue's quantum over that of the queue before.
    #[schemars(range(min = 2, max = 100))]
    pub quantum_ratio: u32,
    /// Join the first queue whose quantum covers the prompt's time; else the first of all.
    pub skip_join: bool,
    /// Time without a turn after which a request is promoted to the first queue.
    pub starvation_threshold: Duration,
    /// What becomes of the KV of a request that loses its memory.
    pub preemption_mode: PreemptionMode,
    /// Memory of the host for KV that was swapped out, per GPU.
    pub swap_space: Bytes,
    /// Limits of a batch.
    pub batch: BatchSpec,
}

impl Default for FastserveSpec {
    fn default() -> Self {
        FastserveSpec {
            base_quantum: Duration(Span(10_000_000)),
            quantum_ratio: 2,
            skip_join: true,
            starvation_threshold: Duration(Span(3_000_000_000)),
            preemption_mode: PreemptionMode::Swap,
            swap_space: Bytes(16 << 30),
            batch: BatchSpec::default(),
        }
    }
}

impl SchedulerPolicy for FastserveSpec {
    fn needs(&self) -> Needs {
        Needs { swap_space: self.preemption_mode.swap_space(self.swap_space), ..self.batch.needs_by_rank() }
    }

    fn nearest(&self) -> Nearest {
        Nearest::but("fastserve has no flag: the engines do not stop requests by the service they had")
    }

    fn check(&self, check: &mut Check<'_>) {
        self.batch.check(&mut check.below("batch"));
        check.time("base_quantum", self.base_quantum);
        check.range("quantum_ratio", self.quantum_ratio, 2, 100);
        check.time("starvation_threshold", self.starvation_threshold);
        self.preemption_mode.check(self.swap_space, check);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(Fastserve::new(self.clone()))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = FastserveSpec::default();
        let few = BatchSpec { max_num_seqs: 4, max_num_batched_tokens: 48, watermark: 0.0 };
        let starved = Duration(Span(200_000_000));
        let guarded = FastserveSpec { starvation_threshold: starved, batch: few, ..plain.clone() };
        let roomy = BatchSpec { watermark: 0.0, ..BatchSpec::default() };
        let naive = FastserveSpec { skip_join: false, quantum_ratio: 4, batch: roomy, ..plain.clone() };
        let dropped = FastserveSpec { preemption_mode: PreemptionMode::Recompute, ..naive.clone() };
        vec![("", plain), ("few places, starvation", guarded), ("naive", naive), ("recompute", dropped)]
    }
}

/// Bits of a key for the arrival, below those for the queue.
const ARRIVAL: u32 = 56;
/// The last queue.
const LAST: u64 = (1 << (64 - ARRIVAL)) - 2;

/// A request in its queue.
#[derive(Clone, Copy, Debug)]
struct Job {
    id: u64,
    queue: u64,
    /// Service in this queue [ns].
    served: u64,
}

/// FastServe (Wu et al., NSDI '26, arXiv 2305.05920; `LLMServe/FastServe`, `scheduler.py`, `MLFQ`): every step serves the first queues first, by arrival within a
/// queue. Service beyond a quantum counts in the next queue.
#[derive(Clone, Debug)]
pub struct Fastserve {
    spec: FastserveSpec,
    pace: Pace,
    idle: Idle,
    /// By seat.
    jobs: Vec<Job>,
    /// When the last step was planned, and the requests in it.
    planned: Time,
    served: Vec<Seat>,
}

impl Fastserve {
    /// A scheduler for one replica.
    pub fn new(spec: FastserveSpec) -> Self {
        Fastserve {
            spec,
            pace: Pace::default(),
            idle: Idle::default(),
            jobs: Vec::new(),
            planned: Time::ZERO,
            served: Vec::new(),
        }
    }

    /// Service that a queue grants [ns].
    fn quantum(&self, queue: u64) -> u64 {
        let times = u64::from(self.spec.quantum_ratio).saturating_pow(u32::try_from(queue).unwrap_or(u32::MAX));
        self.spec.base_quantum.0.0.saturating_mul(times)
    }

    /// Counts the service since the last plan, and demotes requests that have used up their quantum.
    fn count(&mut self, step: &mut StepBuilder<'_>) {
        let passed = (step.now() - self.planned).0;
        for at in 0..self.served.len() {
            let seat = self.served[at];
            let mut job = self.jobs[seat as usize];
            if !step.is_here(seat, job.id) {
                continue;
            }
            job.served += passed;
            while job.served > self.quantum(job.queue) && job.queue < LAST {
                job.served -= self.quantum(job.queue);
                job.queue += 1;
            }
            self.place(step, &step.view(seat), job);
        }
    }

    fn place(&mut self, step: &mut StepBuilder<'_>, request: &RequestView, job: Job) {
        let moved = self.jobs[request.seat as usize].queue != job.queue;
        self.jobs[request.seat as usize] = job;
        if moved {
            step.rank(request.seat, key(request, job.queue));
        }
    }

    fn join(&mut self, step: &mut StepBuilder<'_>, request: &RequestView) {
        let prompt = if self.spec.skip_join { self.pace.least(request.prompt_tokens).0 } else { 0 };
        let queue = (0..LAST).find(|&queue| self.quantum(queue) >= prompt).unwrap_or(LAST);
        let job = Job { id: request.id, queue, served: 0 };
        if self.jobs.len() <= request.seat as usize {
            self.jobs.resize(request.seat as usize + 1, job);
        }
        self.jobs[request.seat as usize] = job;
        step.rank(request.seat, key(request, queue));
        self.idle.begin(request.seat, request.id, request.arrival_key);
    }

    /// Promotes requests that have gone without a turn for too long to the first queue.
    fn promote(&mut self, step: &mut StepBuilder<'_>) {
        let now = step.now();
        while let Some((since, seat, id)) = self.idle.longest(step) {
            if Time(since) + self.spec.starvation_threshold.0 > now {
                break;
            }
            self.idle.end(seat);
            self.idle.begin(seat, id, now.0);
            self.place(step, &step.view(seat), Job { id, queue: 0, served: 0 });
        }
    }

    /// Plans again when a request is due for promotion, or has used up its quantum.
    fn wake(&mut self, step: &mut StepBuilder<'_>) {
        if let Some((since, ..)) = self.idle.longest(step) {
            step.wake_at(Time(since) + self.spec.starvation_threshold.0);
        }
        let jobs = self.served.iter().map(|&seat| self.jobs[seat as usize]);
        let left = jobs.map(|job| self.quantum(job.queue).saturating_sub(job.served)).min();
        step.wake_at(step.now() + Span(left.unwrap_or(0).saturating_add(1)));
    }
}

fn key(request: &RequestView, queue: u64) -> u64 {
    queue << ARRIVAL | request.arrival_key.min((1 << ARRIVAL) - 1)
}

impl Scheduler for Fastserve {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        self.pace.begin(step);
        self.count(step);
        while let Some(request) = step.newcomer() {
            self.join(step, &request);
        }
        self.promote(step);
        let turns = self.spec.batch.plan_by_rank(self.spec.preemption_mode, step)?;
        for &seat in &turns.served {
            self.idle.end(seat);
        }
        for &seat in &turns.stopped {
            self.idle.begin(seat, step.view(seat).id, step.now().0);
        }
        self.pace.end(step);
        (self.planned, self.served) = (step.now(), turns.served);
        if !turns.pure {
            return Ok(Horizon::ONE);
        }
        // With nothing waiting, queues are only counted.
        let blocked = step.waiting() > 0;
        if blocked {
            self.wake(step);
        }
        Ok(Horizon { repeats: u64::MAX, wake_on_arrival: true, wake_on_end: blocked })
    }
}
