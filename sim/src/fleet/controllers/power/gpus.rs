//! What the GPUs of each replica draw: work counted by their lanes, turned into watts over fixed spans.
//!
//! The GPUs of a replica draw the same, so one is looked at. A span ends with every tick of the row's resolution, and where a clock changes
//! within. Both are moments that no jump and no settling moves, and the counters are exact there (law 13).

use crate::cost::OperatingPoint;
use crate::fleet::Usage;
use crate::fleet::kernel::Kernel;
use crate::hardware::power::ClockSpec;
use crate::power::PowerLaw;
use crate::power::meter::{Energy, MilliWatts};
use crate::power::work::StepWork;
use crate::time::{Span, Time};
use crate::units::Watts;

/// The GPUs of one kind of replica.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) law: PowerLaw,
    pub(super) work: StepWork,
    /// Factor of the power above idle.
    pub(super) factor: f64,
    /// What the law's limit is, or a cap below it [W].
    pub(super) limit: f64,
}

impl Kind {
    pub(super) fn new(law: &PowerLaw, work: &StepWork, factor: f64, cap: Option<f64>) -> Kind {
        let tdp = law.limit(None);
        let limit = law.limit(cap.map(|share| Watts(share * tdp)));
        Kind { law: law.clone(), work: work.clone(), factor, limit }
    }

    pub(super) fn idle(&self) -> f64 {
        self.law.spec().idle.0
    }

    fn clock(&self) -> &ClockSpec {
        &self.law.spec().clock
    }

    /// What a GPU would draw that did this in a span, if nothing limited it [W].
    fn demand(&self, done: Usage, span: Span, clock: f64) -> f64 {
        if done.busy == Span::ZERO {
            return self.idle();
        }
        let mut activity = self.law.activity(&self.work, done.work, span.as_secs_f64());
        activity.busy *= (done.busy.0.min(span.0)) as f64 / span.0 as f64;
        self.idle() + (self.law.demand(&activity, clock) - self.idle()) * self.factor
    }

    /// The clock at which such a GPU would draw what its limit is [MHz], by its power above idle; at most `asked`.
    fn governed(&self, demand: f64, clock: f64, asked: u32) -> u32 {
        let spec = self.clock();
        let room = (self.limit - self.idle()).max(1.0) / (demand - self.idle()).max(1.0);
        let mhz = clock * f64::from(spec.max_mhz) * room.powf(1.0 / spec.exponent);
        ((mhz / f64::from(CLOCK_STEP)).floor() as u32 * CLOCK_STEP).clamp(spec.min_mhz, asked)
    }
}

/// Steps in which clocks can be set [MHz].
const CLOCK_STEP: u32 = 15;

/// One replica's GPUs.
#[derive(Clone, Debug)]
pub(super) struct Gpus {
    kind: usize,
    before: Usage,
    since: Time,
    /// Of one GPU, since the row was closed.
    energy: Energy,
    busy: Span,
    /// Demand of the last span [W].
    demand: f64,
    /// Time in which the law gave more than the limit, and time with steps.
    pub(super) limited: Span,
    pub(super) running: Span,
}

/// What a replica has done, over its lanes.
fn usage(kernel: &Kernel<'_>, replica: usize) -> Usage {
    let lanes = (1..kernel.lanes(replica)).map(|lane| kernel.usage(replica, lane));
    lanes.fold(kernel.usage(replica, 0), |sum, lane| Usage { busy: sum.busy + lane.busy, work: sum.work + lane.work })
}

impl Gpus {
    pub(super) fn new(kind: usize) -> Gpus {
        Gpus {
            kind,
            before: Usage::default(),
            since: Time::ZERO,
            energy: Energy::default(),
            busy: Span::ZERO,
            demand: 0.0,
            limited: Span::ZERO,
            running: Span::ZERO,
        }
    }

    /// The span up to now is over, at that clock.
    pub(super) fn advance(&mut self, replica: usize, kinds: &[Kind], point: OperatingPoint, kernel: &Kernel<'_>) {
        let span = kernel.now.since(self.since);
        if span == Span::ZERO {
            return;
        }
        let kind = &kinds[self.kind];
        let usage = usage(kernel, replica);
        let done = usage - self.before;
        (self.before, self.since) = (usage, kernel.now);
        self.demand = kind.demand(done, span, point.clock());
        self.energy += MilliWatts::from_watts(self.demand.min(kind.limit)).over(span);
        let busy = Span(done.busy.0.min(span.0));
        self.busy = self.busy + busy;
        if busy > Span::ZERO {
            self.running = self.running + span;
            if self.demand > kind.limit {
                self.limited = self.limited + span;
            }
        }
    }

    /// The clock that its limiter would set now [MHz], at most `asked`. Idle GPUs boost.
    pub(super) fn governed(&self, kinds: &[Kind], point: OperatingPoint, asked: u32) -> u32 {
        let kind = &kinds[self.kind];
        if self.demand <= kind.idle() { asked } else { kind.governed(self.demand, point.clock(), asked) }
    }

    /// Energy and time with steps of one GPU since the last call.
    pub(super) fn take(&mut self) -> (Energy, Span) {
        (std::mem::take(&mut self.energy), std::mem::take(&mut self.busy))
    }
}
