//! Whom to preempt when blocks run out.

use serde::{Deserialize, Serialize};

use crate::step::{Infeasible, RequestView, StepBuilder};

/// Which running request is preempted (by recompute) when the next step of the others does not fit. Ties go to the one
/// admitted last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Victim {
    /// The one that arrived last: first come, first served also in memory.
    #[default]
    LatestArrival,
    /// The one admitted last, the end of the running list.
    LastAdmitted,
    /// The one with the fewest tokens in the cache: the least work is lost.
    LeastComputed,
    /// The one with the most tokens in the cache: the most memory is won.
    MostComputed,
}

impl Victim {
    /// The request to preempt; somebody must be running.
    pub(crate) fn choose(self, step: &StepBuilder<'_>) -> RequestView {
        let last = step.running_at(step.running() - 1);
        if self == Victim::LastAdmitted {
            return last;
        }
        // Larger is worse.
        let rank = |request: &RequestView| match self {
            Victim::LatestArrival => (request.arrival_key, request.id),
            Victim::LeastComputed => (u64::MAX - u64::from(request.computed), 0),
            Victim::LastAdmitted | Victim::MostComputed => (u64::from(request.computed), 0),
        };
        (0..step.running())
            .rev()
            .map(|at| step.running_at(at))
            .fold(last, |worst, request| if rank(&request) > rank(&worst) { request } else { worst })
    }
}

/// Preempts until the next step of the standing set fits into the blocks that are free and not promised to a prompt in
/// prefill. Returns whether anybody had to go.
///
/// # Errors
/// Never, unless the state is broken.
pub(crate) fn make_room(step: &mut StepBuilder<'_>, victim: Victim) -> Result<bool, Infeasible> {
    let mut preempted = false;
    while step.member_blocks() + step.owed_blocks() > step.free_blocks() {
        let slot = victim.choose(step).slot;
        step.preempt(slot)?;
        preempted = true;
    }
    Ok(preempted)
}

/// Share of the pool that stays free when a request is admitted beside running ones [blocks].
pub(crate) fn watermark_blocks(step: &StepBuilder<'_>, watermark: f64) -> u64 {
    if step.running() == 0 { 0 } else { (watermark * step.limits().blocks as f64) as u64 }
}
