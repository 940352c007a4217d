//! Which request to preempt when blocks run out.

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::kv::Seat;
use crate::serving::step::{Infeasible, RequestView, StepBuilder};
use crate::units::Bytes;

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

/// What preemption does with the KV of its victim.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PreemptionMode {
    /// It is dropped and computed again.
    #[default]
    Recompute,
    /// It is copied to the host and back; dropped where the host has no room.
    Swap,
}

impl PreemptionMode {
    /// Memory of the host that it swaps into, of the `space` that there is; `None` if it does not swap.
    pub(crate) fn swap_space(self, space: Bytes) -> Option<Bytes> {
        match self {
            PreemptionMode::Recompute => None,
            PreemptionMode::Swap => Some(space),
        }
    }

    /// Whether the setting `swap_space` fits it.
    pub(crate) fn check(self, space: Bytes, check: &mut Check<'_>) {
        let message = "is 0; `preemption_mode: swap` needs memory of the host";
        check.that(self.swap_space(space) != Some(Bytes(0)), "swap_space", message);
    }

    /// Preempts a running request.
    ///
    /// # Errors
    /// It is not running.
    pub(crate) fn preempt(self, step: &mut StepBuilder<'_>, seat: Seat) -> Result<(), Infeasible> {
        let swapped = match self {
            PreemptionMode::Recompute => false,
            PreemptionMode::Swap => step.swap_out(seat)?,
        };
        if !swapped {
            step.preempt(seat)?;
        }
        Ok(())
    }
}

impl Victim {
    /// The request to preempt. At least one must be preemptible.
    pub(crate) fn choose(self, step: &StepBuilder<'_>) -> Seat {
        self.choose_at(step).1
    }

    /// The request to preempt, and its place in the running list. At least one must be preemptible.
    pub(crate) fn choose_at(self, step: &StepBuilder<'_>) -> (usize, Seat) {
        let mut from_last = step.preemptible().rev();
        let last = from_last.next().expect("who lacks blocks may be preempted");
        if self == Victim::LastAdmitted {
            return (last.0, last.1.seat);
        }
        // Larger is worse.
        let rank = |request: &RequestView| match self {
            Victim::LatestArrival => (request.arrival_key, request.id),
            Victim::LeastComputed => (u64::MAX - u64::from(request.computed), 0),
            Victim::LastAdmitted | Victim::MostComputed => (u64::from(request.computed), 0),
        };
        let (at, worst) =
            from_last.fold(last, |worst, request| if rank(&request.1) > rank(&worst.1) { request } else { worst });
        (at, worst.seat)
    }
}

/// Preempts until the next step of the standing set fits into the blocks that are free and not promised to a prompt in
/// prefill. Returns whether a request was preempted.
///
/// # Errors
/// Never, unless the state is broken.
pub(crate) fn make_room(
    step: &mut StepBuilder<'_>,
    mode: PreemptionMode,
    victim: impl Fn(&StepBuilder<'_>) -> Seat,
) -> Result<bool, Infeasible> {
    let mut preempted = false;
    while step.member_blocks() + step.owed_blocks() > step.free_blocks() {
        if step.shrink() {
            continue;
        }
        let seat = victim(step);
        mode.preempt(step, seat)?;
        preempted = true;
    }
    Ok(preempted)
}

/// Share of the pool that stays free when a request is admitted beside running ones [blocks].
pub(crate) fn watermark_blocks(step: &StepBuilder<'_>, watermark: f64) -> u64 {
    if step.running() == 0 { 0 } else { (watermark * step.limits().blocks as f64) as u64 }
}
