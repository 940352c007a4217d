//! A scenario on the real engine: its requests at their times, its scheduler around real steps, its figures as measured.

mod books;
mod pace;
mod pressure;

use std::collections::BinaryHeap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use overbook_sim::fleet::{ClusterSpec, Halt, Progress, RunResult};
use overbook_sim::results::rows::RequestRow;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Unsorted, Workload, WorkloadError};

use crate::driver::{Clock, DriveError, Driver, StepLog, unfit_store};
use crate::executor::{Copied, Executor};
use books::Books;
use pace::Pacer;

pub use pressure::{Pressure, PressureGauge};

/// How late requests were sent, nearest rank.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lateness {
    /// Half of them were sent at most this late.
    pub p50: Span,
    /// 99 of 100.
    pub p99: Span,
    /// All.
    pub max: Span,
}

impl Lateness {
    pub(crate) fn of(mut late: Vec<u64>) -> Self {
        late.sort_unstable();
        let rank = |share: f64| match late.len() {
            0 => Span(0),
            n => Span(late[((n as f64 * share).ceil() as usize).clamp(1, n) - 1]),
        };
        Lateness { p50: rank(0.5), p99: rank(0.99), max: rank(1.0) }
    }
}

/// What a real run gives.
#[derive(Debug)]
pub struct Measured {
    /// The machine's clock at its time zero.
    pub began: Instant,
    /// Its figures; latencies count from the times at which requests were to be sent.
    pub result: RunResult,
    /// Its requests as they were sent, by number.
    pub sent: Vec<Arrival>,
    /// Its requests, as they ended.
    pub rows: Vec<RequestRow>,
    /// The same as the replica saw them: they arrive with the turn that took them in.
    pub seen: Vec<RequestRow>,
    /// When each request was to be sent, and the turn that took it in, by number.
    pub arrivals: Vec<(Time, Time)>,
    /// Its steps.
    pub steps: Vec<StepLog>,
    /// How late requests were sent.
    pub lateness: Lateness,
    /// What others took of the CPU; `None` where the system does not say.
    pub pressure: Option<Pressure>,
    /// What was copied between the pool and the tier below it; `None` without a tier.
    pub copied: Option<Copied>,
}

impl Measured {
    /// Why the run must not be compared with anything; empty if it may.
    pub fn void(&self) -> Vec<String> {
        let mut steps: Vec<u64> = self.steps.iter().map(|step| (step.row.end - step.row.start).0).collect();
        steps.sort_unstable();
        let median = steps.get(steps.len() / 2).copied().unwrap_or(0);
        let allowed = (median / 10).max(1_000_000);
        let mut reasons = Vec::new();
        if self.lateness.p99.0 > allowed {
            let (late, allowed) = (self.lateness.p99.as_millis_f64(), allowed as f64 / 1e6);
            reasons.push(format!("requests were sent late: p99 {late:.2} ms, at most {allowed:.2} ms is fair"));
        }
        reasons.extend(self.pressure.iter().flat_map(Pressure::unfair));
        reasons
    }
}

/// Why a real run stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The scenario asks for what the engine does not have.
    #[error("the real engine cannot run this scenario: {0}")]
    Unfit(&'static str),
    /// The workload is broken at some point.
    #[error("{0}")]
    Workload(#[source] WorkloadError),
    /// The workload goes backwards in time.
    #[error(transparent)]
    Unsorted(#[from] Unsorted),
    /// The driver stopped.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The system refused a thread or a timer.
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
}

/// Whether a fleet can run on one executor.
///
/// # Errors
/// What it asks for that the engine does not have.
pub fn check(spec: &ClusterSpec) -> Result<(), EngineError> {
    unfit(spec).map_or(Ok(()), |why| Err(EngineError::Unfit(why)))
}

fn unfit(spec: &ClusterSpec) -> Option<&'static str> {
    if let Some(why) = unfit_store(&spec.store) {
        return Some(why);
    }
    let cases = [
        (!spec.pools.is_empty(), "its replicas are all alike; remove `fleet.pools`"),
        (spec.replicas != 1, "it has one replica; set `fleet.replicas: 1`"),
        (spec.limits.swap.blocks > 0, "it does not swap KV to the host; use `preemption_mode: recompute`"),
        (spec.controllers.disaggregation.is_some(), "it has no replicas of their own for prompts"),
        (spec.controllers.early_rejection.is_some(), "it has no early rejection"),
        (spec.controllers.autoscale.is_some(), "its replica does not come and go"),
        (
            spec.controllers.faults.is_some() || !spec.controllers.failures.is_empty(),
            "its replica does not fail on demand",
        ),
        (spec.controllers.retry.is_some(), "its clients do not retry"),
        (spec.power.is_some(), "it sets no clocks and belongs to no row; remove `power` and `fleet.row`"),
        (spec.limiter.is_some(), "its GPU has a limiter of its own; remove `fleet.limiter`"),
        (!spec.traffic.drain, "it runs until the last request has ended; remove `workload.drain`"),
    ];
    cases.into_iter().find(|(is, _)| *is).map(|(_, why)| why)
}

/// Whether requests of a workload follow on answers.
pub(crate) fn waits(workload: &mut dyn Workload) -> bool {
    workload.sessions().is_some_and(|sessions| sessions.waits())
}

/// What ends a run that keeps what it has: its scheduler does not get on.
fn halt(spec: &ClusterSpec, at: Time, error: DriveError) -> Result<Halt, DriveError> {
    let (policy, replica) = (spec.scheduler.name(), 0);
    match error {
        DriveError::Stalled { waiting } => Ok(Halt::Stalled { policy, replica, at, requests: waiting, waiting }),
        DriveError::NoProgress { requests, plans } => Ok(Halt::NoProgress { policy, replica, at, requests, plans }),
        other => Err(other),
    }
}

/// Time between the start of a run and its time zero: threads start, caches fill.
const LEAD: Duration = Duration::from_millis(50);

/// Runs a workload on an executor, its tokens the likeliest. `watch` is called now and then; it returns `false` to stop early.
///
/// # Errors
/// The scenario, the workload or the executor cannot, or there is a bug in a policy.
pub fn run(
    spec: &ClusterSpec,
    workload: &mut dyn Workload,
    executor: Box<dyn Executor>,
    watch: &mut dyn FnMut(Progress) -> bool,
) -> Result<Measured, EngineError> {
    run_drawing(spec, workload, executor, 0.0, watch)
}

/// Whether the requests come by themselves.
fn opens(workload: &mut dyn Workload) -> Result<(), EngineError> {
    let why = "its requests wait for answers within their sessions; set `workload.trace.sessions.pace: recorded`";
    if waits(workload) { Err(EngineError::Unfit(why)) } else { Ok(()) }
}

/// The same with tokens drawn at a temperature, from the scenario's seed and the number of the request. Which they are changes
/// no length, but the work of drawing them is done.
///
/// # Errors
/// As [`run`].
pub fn run_drawing(
    spec: &ClusterSpec,
    workload: &mut dyn Workload,
    executor: Box<dyn Executor>,
    temperature: f32,
    watch: &mut dyn FnMut(Progress) -> bool,
) -> Result<Measured, EngineError> {
    check(spec)?;
    opens(workload)?;
    let vocab = executor.capacity().vocab;
    let (limits, store, scheduler, seed) = (spec.limits, spec.store.clone(), spec.scheduler.clone(), spec.seed);
    let (out, inbox) = mpsc::channel();
    let (ended_out, ended) = tokio::sync::mpsc::unbounded_channel();
    let mut gauge = PressureGauge::start();
    let clock = Clock::new(Instant::now() + LEAD);
    let mut books = Books::new(spec.slo, ended_out);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(EngineError::Start)?;
    let (paced, sent, lateness, driven) = std::thread::scope(|scope| {
        // Built where it runs: a scheduler need not be `Send`.
        let driver = std::thread::Builder::new().name("driver".into()).spawn_scoped(scope, move || {
            let mut driver = match Driver::with_store(limits, &store, scheduler.build(seed, 0), executor) {
                Ok(driver) => driver,
                Err(error) => {
                    books.close();
                    return (Err(error), Ok(None), None, books);
                }
            };
            let driven = driver.run(&inbox, clock, &mut books).map(|()| None);
            books.close();
            (driven, driver.kv_traffic(), driver.retained(), books)
        });
        let driver = match driver {
            Ok(driver) => driver,
            Err(error) => return (Err(EngineError::Start(error)), Vec::new(), Vec::new(), None),
        };
        let mut look = || gauge.look();
        let mut pacer = Pacer {
            spec,
            clock,
            vocab,
            temperature,
            out,
            ended,
            watch,
            gauge: &mut look,
            looked: Instant::now(),
            sent: Vec::new(),
            back: 0,
            lateness: Vec::new(),
            due: BinaryHeap::new(),
        };
        let paced = runtime.block_on(pacer.run(workload));
        let (sent, lateness) = (std::mem::take(&mut pacer.sent), std::mem::take(&mut pacer.lateness));
        // Without a sender the driver ends when no request is left.
        drop(pacer);
        (paced, sent, lateness, driver.join().ok())
    });
    let interrupted = paced?;
    let Some((driven, traffic, retained, mut books)) = driven else {
        return Err(EngineError::Unfit("its driver panicked"));
    };
    let halted = driven.or_else(|error| halt(spec, books.end(), error).map(Some))?;
    let mut result = RunResult { halted, ..books.finish(&limits, workload.classes(), interrupted) };
    let (kv, copied) = traffic?.unzip();
    result.summary.kv = kv;
    result.summary.retained = retained;
    Ok(Measured {
        began: clock.instant(Time::ZERO),
        result,
        sent,
        rows: books.rows,
        seen: books.seen,
        arrivals: books.arrivals,
        steps: books.steps,
        lateness: Lateness::of(lateness),
        pressure: gauge.read(),
        copied: copied.filter(|_| !spec.store.tiers.is_empty()),
    })
}
