//! What a run says of the power of its row.

use std::ops::AddAssign;

use crate::power::curve::Curve;
use crate::power::meter::{Energy, MilliWatts};
use crate::power::row::RowFigures;
use crate::power::share::Share;
use crate::time::Span;

/// Servers of one priority.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Priority {
    /// How many.
    pub servers: u32,
    /// Time below the highest clock, summed over them.
    pub capped: Span,
}

impl Priority {
    /// Share of its servers' time below the highest clock.
    pub fn capped_share(&self, span: Span) -> Option<f64> {
        let all = f64::from(self.servers) * span.as_secs_f64();
        (all > 0.0).then(|| self.capped.as_secs_f64() / all)
    }
}

/// What the policy and the brake did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Control {
    /// Changes of what the policy wanted.
    pub decisions: u64,
    /// Clocks that were set, one for each server and change.
    pub commands: u64,
    /// Times that it began to slow servers down.
    pub cycles: u64,
    /// Mean time from one beginning to the next, where there are two.
    pub cycle: Option<Span>,
    /// Brakes.
    pub brakes: u64,
    /// Time under the brake.
    pub braked: Span,
}

/// The power of a row over a run.
#[derive(Clone, PartialEq, Debug)]
pub struct PowerFigures {
    /// The policy.
    pub policy: &'static str,
    /// Thresholds that it went by at the end, the lowest first.
    pub thresholds: Vec<Share>,
    /// What the row may draw.
    pub budget: MilliWatts,
    /// What all its servers are rated for.
    pub rated: MilliWatts,
    /// What the row drew.
    pub row: RowFigures,
    /// Servers of low priority.
    pub low: Priority,
    /// Servers of high priority.
    pub high: Priority,
    /// Policy and brake.
    pub control: Control,
    /// Share of the spans of running replicas in which the law gave more than the GPU's limit, and the limit was taken; with a limiter, in which it
    /// held the clock down.
    pub limited: f64,
    /// Over time.
    pub curve: Curve,
}

/// What the GPUs' own limiters did over a run. Times and energies are of one GPU of each replica, summed over replicas.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LimiterFigures {
    /// Time that they were looked at.
    pub span: Span,
    /// Energy.
    pub energy: Energy,
    /// The highest mean over a span between two looks or changes of the clock.
    pub peak: MilliWatts,
    /// Spans with a step.
    pub running: Span,
    /// Of these, those at a clock that the limiter held below the highest.
    pub limited: Span,
    /// Clock times `running` [MHz ns].
    pub clock: u128,
}

impl LimiterFigures {
    /// Mean draw of a GPU [W].
    pub fn mean_watts(&self) -> f64 {
        self.energy.mean_over(self.span).as_watts_f64()
    }

    /// Mean SM clock of the spans with a step [MHz]; none without any.
    pub fn mean_clock(&self) -> Option<f64> {
        (self.running > Span::ZERO).then(|| self.clock as f64 / self.running.0 as f64)
    }

    /// Share of the spans with a step in which the limiter held the clock down; none without any.
    pub fn limited_share(&self) -> Option<f64> {
        (self.running > Span::ZERO).then(|| self.limited.as_secs_f64() / self.running.as_secs_f64())
    }
}

impl AddAssign for LimiterFigures {
    fn add_assign(&mut self, other: LimiterFigures) {
        self.span = self.span + other.span;
        self.energy += other.energy;
        self.peak = self.peak.max(other.peak);
        self.running = self.running + other.running;
        self.limited = self.limited + other.limited;
        self.clock += other.clock;
    }
}

impl PowerFigures {
    /// Energy of the GPUs alone [J].
    pub fn gpu_joules(&self) -> f64 {
        self.row.parts.gpus.as_joules_f64()
    }

    /// Energy of the servers, from the row's feed [J].
    pub fn server_joules(&self) -> f64 {
        self.row.parts.total().as_joules_f64()
    }
}
