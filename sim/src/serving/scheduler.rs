//! What a replica asks a policy: the next step of a lane, and for how long that plan stands.

use super::step::{Infeasible, StepBuilder};

/// Plans the steps of one replica.
///
/// ```text
///   waiting queue ─head─► plan ─admit─► running list ─preempt─► waiting queue
///                           └─decode_all / decode / prefill─► the step
/// ```
pub trait Scheduler: std::fmt::Debug {
    /// Builds the next step of a lane and certifies for how long the same plan would be made again.
    ///
    /// # Errors
    /// It asked for something impossible (a bug in the policy).
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible>;
}

/// A certificate: *if none of the named events happens, the next `repeats` plans are this same plan.* Default: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Horizon {
    /// Plans after this one that would be the same.
    pub repeats: u64,
    /// Whether a new arrival in the queue ends the certificate.
    pub wake_on_arrival: bool,
    /// Whether the end of a request (blocks and seats become free) ends it.
    pub wake_on_end: bool,
}

impl Horizon {
    /// Promises nothing: always right, never fast.
    pub const ONE: Horizon = Horizon { repeats: 0, wake_on_arrival: true, wake_on_end: true };

    /// Of a step that only decodes, where the queue is first come, first served: the same until a request can be admitted.
    /// `room`: a request could join but for its blocks; `blocked`: the queue is not empty. Its requests keep waiting until a request
    /// ends, since free blocks only become fewer and arrivals queue up behind.
    pub fn until_admission(room: bool, blocked: bool) -> Horizon {
        Horizon { repeats: u64::MAX, wake_on_arrival: room && !blocked, wake_on_end: blocked || !room }
    }
}

impl Default for Horizon {
    fn default() -> Self {
        Horizon::ONE
    }
}
