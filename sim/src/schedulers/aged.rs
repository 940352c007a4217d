//! First come, first served in priority classes that age: a request that waits long enough overtakes the classes above its own.

use serde::{Deserialize, Serialize};

use super::chunked::{BatchSpec, Order};
use super::edf::last_by_key;
use super::{Horizon, Nearest, Needs, QueueOrder, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::kv::Seat;
use crate::serving::step::{Head, Infeasible, RequestView, StepBuilder};
use crate::time::Span;
use crate::units::Duration;

/// Settings of priority classes that age.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgedSpec {
    /// Waiting time that is worth a priority class.
    pub age_every: Duration,
    /// Limits of a batch.
    pub batch: BatchSpec,
}

impl Default for AgedSpec {
    fn default() -> Self {
        AgedSpec { age_every: Duration(Span(10_000_000_000)), batch: BatchSpec::default() }
    }
}

impl SchedulerPolicy for AgedSpec {
    fn needs(&self) -> Needs {
        Needs { order: QueueOrder::Keyed, ..self.batch.needs() }
    }

    fn nearest(&self) -> Nearest {
        Nearest::by_priority_but(
            "aged has no flag: vLLM's priority classes do not age, so the least urgent may wait for ever",
        )
    }

    fn check(&self, check: &mut Check<'_>) {
        check.time("age_every", self.age_every);
        self.batch.check(&mut check.below("batch"));
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(Aged { spec: self.clone() })
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = AgedSpec::default();
        let few = BatchSpec { max_num_seqs: 4, max_num_batched_tokens: 48, watermark: 0.0 };
        let quick = AgedSpec { age_every: Duration(Span(30_000_000)), batch: few };
        vec![("", plain), ("quick, few places", quick)]
    }
}

/// Ageing (Silberschatz et al., *Operating System Concepts*, "Priority Scheduling") over chunked prefill. The next request is the one
/// with the least `priority - waited / age_every`; when memory runs out, the one with the most goes.
#[derive(Clone, Debug)]
pub struct Aged {
    spec: AgedSpec,
}

/// The key of priority 0 at time zero: priorities may be negative, keys may not.
const ZERO: i128 = 1 << 62;

impl Aged {
    /// All waiting requests age alike, so their order never changes: `priority - (now - arrival) / age_every` sorts as `priority · age_every +
    /// arrival` does.
    fn key(&self, request: &RequestView) -> u64 {
        rank(request.priority, request.arrival_key, self.spec.age_every.0)
    }
}

fn rank(priority: i32, arrival: u64, age_every: Span) -> u64 {
    let rank = ZERO + i128::from(priority) * i128::from(age_every.0) + i128::from(arrival);
    // The largest key is that of requests which have not been looked at.
    rank.clamp(0, i128::from(u64::MAX - 1)) as u64
}

impl Order for Aged {
    fn next(&mut self, step: &mut StepBuilder<'_>) -> Result<Option<Head>, Infeasible> {
        Ok(step.head())
    }

    fn victim(&self, step: &StepBuilder<'_>) -> Seat {
        last_by_key(step)
    }
}

impl Scheduler for Aged {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        while let Some(request) = step.newcomer() {
            step.rank(request.seat, self.key(&request));
        }
        let limits = self.spec.batch;
        let batch = limits.plan(self, step)?;
        if !batch.pure {
            return Ok(Horizon::ONE);
        }
        // An arrival may pass a blocked head.
        let blocked = step.waiting() > 0;
        Ok(Horizon { repeats: u64::MAX, wake_on_arrival: batch.room, wake_on_end: blocked || !batch.room })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// Ten seconds are worth a class: a request of class 1 goes after one of class 0 that comes 9 s later, before one that
    /// comes 11 s later, and a very urgent one of class -3 waits for it from 40 s on.
    #[test]
    fn ten_seconds_are_worth_a_class() {
        let at = |priority, seconds: u64| rank(priority, seconds * S, Span(10 * S));
        assert!(at(0, 9) < at(1, 0) && at(1, 0) < at(0, 11));
        assert!(at(-3, 39) < at(1, 0) && at(1, 0) < at(-3, 41));
        assert!(at(0, 1) < at(0, 2), "first come, first served within a class");
        assert_eq!((rank(i32::MIN, 0, Span(u64::MAX)), rank(i32::MAX, 0, Span(u64::MAX))), (0, u64::MAX - 1));
    }
}
