//! Earliest deadline first: the request whose first token is due soonest is admitted first. A request that would
//! be late is demoted, rejected or kept.

use serde::{Deserialize, Serialize};

use super::chunked::{BatchSpec, Order};
use super::pace::Pace;
use super::{Horizon, Nearest, Needs, QueueOrder, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::kv::Seat;
use crate::serving::step::{Head, Infeasible, RequestView, StepBuilder};
use crate::time::{Span, Time};
use crate::units::Duration;

/// What becomes of a request whose deadline cannot be met any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnLate {
    /// It keeps its place.
    Keep,
    /// It is served behind all others, first come, first served.
    #[default]
    Demote,
    /// It is rejected.
    Reject,
}

/// Settings of the deadline scheduler.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EdfSpec {
    /// Promised time to first token: the deadline of a request, unless its own is earlier.
    pub ttft: Duration,
    /// The promise to each class, in the order of the workload's classes; `ttft` for those that are not listed.
    pub class_ttft: Vec<Duration>,
    /// What becomes of a request that would be late.
    pub on_late: OnLate,
    /// Limits of a batch.
    pub batch: BatchSpec,
}

impl Default for EdfSpec {
    fn default() -> Self {
        EdfSpec {
            ttft: Duration(Span(2_000_000_000)),
            class_ttft: Vec::new(),
            on_late: OnLate::default(),
            batch: BatchSpec::default(),
        }
    }
}

impl SchedulerPolicy for EdfSpec {
    fn needs(&self) -> Needs {
        Needs { order: QueueOrder::Keyed, ..self.batch.needs() }
    }

    fn nearest(&self) -> Nearest {
        Nearest::by_priority_but(
            "edf has no flag: `--scheduling-policy priority` with deadlines as priorities is nearest",
        )
    }

    fn check(&self, check: &mut Check<'_>) {
        self.batch.check(&mut check.below("batch"));
        check.time("ttft", self.ttft);
        let all_above = self.class_ttft.iter().all(|promise| promise.0.0 > 0);
        check.that(all_above, "class_ttft", "has a 0; every promise must be above 0");
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(Edf::new(self.clone()))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let ms = |ms: u64| Duration(Span(ms * 1_000_000));
        let plain = EdfSpec::default();
        let tight = EdfSpec { ttft: ms(40), ..plain.clone() };
        let few = BatchSpec { max_num_seqs: 5, max_num_batched_tokens: 64, watermark: 0.0 };
        let strict = EdfSpec { on_late: OnLate::Reject, batch: few, ..tight.clone() };
        let kept = EdfSpec { on_late: OnLate::Keep, class_ttft: vec![ms(300), ms(1)], ..plain.clone() };
        vec![("", plain), ("tight", tight), ("late rejected, few places", strict), ("kept", kept)]
    }
}

/// Keys from here on are of requests that were demoted.
const DEMOTED: u64 = 1 << 63;

/// Earliest deadline first (Liu and Layland, 1973) over chunked prefill; a request is *late* if even the fastest prefill seen
/// so far would end after its deadline. A running request is not stopped for an earlier deadline, but is preempted latest deadline first
/// when memory runs out.
#[derive(Clone, Debug)]
pub struct Edf {
    spec: EdfSpec,
    pace: Pace,
}

impl Edf {
    /// A scheduler for one replica.
    pub fn new(spec: EdfSpec) -> Self {
        Edf { spec, pace: Pace::default() }
    }

    fn due(&self, request: &RequestView) -> Time {
        let promise = self.spec.class_ttft.get(usize::from(request.class.0)).unwrap_or(&self.spec.ttft);
        (Time(request.arrival_key) + promise.0).min(request.deadline)
    }

    /// From when on a waiting request is late; never, if it is no longer asked.
    fn late_from(&self, step: &StepBuilder<'_>, head: &Head) -> Time {
        let key = step.key(head.request.seat);
        let asked = self.spec.on_late != OnLate::Keep && key < DEMOTED && head.request.preemptions == 0;
        if !asked {
            return Time::MAX;
        }
        Time(key.saturating_sub(self.pace.least(head.tokens - head.cached).0).saturating_add(1))
    }
}

impl Order for Edf {
    fn next(&mut self, step: &mut StepBuilder<'_>) -> Result<Option<Head>, Infeasible> {
        while let Some(head) = step.head() {
            if step.now() < self.late_from(step, &head) {
                return Ok(Some(head));
            }
            if self.spec.on_late == OnLate::Reject {
                step.reject(head.request.seat)?;
            } else {
                step.rank(head.request.seat, DEMOTED | head.request.arrival_key);
            }
        }
        Ok(None)
    }

    fn victim(&self, step: &StepBuilder<'_>) -> Seat {
        last_by_key(step)
    }
}

/// The running request that is last in the order of keys.
pub(crate) fn last_by_key(step: &StepBuilder<'_>) -> Seat {
    let running = (0..step.running()).map(|at| step.running_at(at));
    let last = running.max_by_key(|r| (step.key(r.seat), r.arrival_key, r.id));
    last.expect("a request runs when memory runs out").seat
}

impl Scheduler for Edf {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        self.pace.begin(step);
        while let Some(request) = step.newcomer() {
            let due = self.due(&request);
            step.rank(request.seat, due.0.min(DEMOTED - 1));
        }
        let limits = self.spec.batch;
        let batch = limits.plan(self, step)?;
        self.pace.end(step);
        if !batch.pure {
            return Ok(Horizon::ONE);
        }
        let head = step.head();
        if let (true, Some(head)) = (batch.room, &head) {
            step.wake_at(self.late_from(step, head));
        }
        // An arrival may pass a blocked head.
        let blocked = head.is_some();
        Ok(Horizon { repeats: u64::MAX, wake_on_arrival: batch.room, wake_on_end: blocked || !batch.room })
    }
}
