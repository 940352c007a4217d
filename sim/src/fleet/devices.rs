//! What a fleet knows of its GPUs beside what their steps cost: how clocks change that, and what steps execute.

use std::ops::Sub;

use crate::cost::{CostModel, OperatingPoint, Slowdown};
use crate::hardware::power::ClockSpec;
use crate::power::work::{StepWork, Work};
use crate::time::{Span, Time};

/// The GPUs of a pool, where clocks can change and work is counted.
#[derive(Clone, Debug)]
pub struct DeviceSpec {
    /// Their clocks.
    pub clock: ClockSpec,
    /// What their steps execute.
    pub work: StepWork,
}

/// What a lane has done since the start of the run. The work of a step is spread evenly over its time; of a step in flight the part up to now
/// counts. So what is read at a moment does not depend on how steps were grouped, and a span's work is the difference of two readings, exactly.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Time with a step in flight.
    pub busy: Span,
    /// Executed on the mean GPU of the replica.
    pub work: Work,
}

impl Sub for Usage {
    type Output = Usage;
    fn sub(self, before: Usage) -> Usage {
        Usage { busy: Span(self.busy.0.saturating_sub(before.busy.0)), work: self.work - before.work }
    }
}

/// What a lane has done by a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// When.
    pub at: Time,
    /// The replica.
    pub replica: u32,
    /// Its lane.
    pub lane: u32,
    /// At which point it has run since it changed last; what is read when it changes is at the one before.
    pub point: OperatingPoint,
    /// What it has done since the start of the run.
    pub usage: Usage,
}

/// How steps are priced: by which model, at which pace, and whether their parts and their work are wanted.
pub(crate) struct Pricing<'p> {
    pub(crate) cost: &'p mut dyn CostModel,
    pub(crate) pace: Slowdown,
    pub(crate) device: Option<&'p DeviceSpec>,
}
