//! What the GPUs of each replica draw: work counted by their lanes, turned into watts over fixed spans.
//!
//! The GPUs of a replica draw the same, so one is looked at. A span ends with every tick of the row's resolution, and where a clock changes
//! within. Both are moments that no jump and no settling moves, and the counters are exact there (law 13).

use crate::cost::OperatingPoint;
use crate::fleet::kernel::Kernel;
use crate::fleet::{GpuLimiter, Usage};
use crate::power::PowerLaw;
use crate::power::figures::LimiterFigures;
use crate::power::law::Standing;
use crate::power::meter::{Energy, MilliWatts};
use crate::power::sustained::{SustainedClock, fitting, settable};
use crate::power::work::StepWork;
use crate::time::{Span, Time};
use crate::units::Watts;

/// The GPUs of one kind of replica.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) law: PowerLaw,
    standing: Standing,
    /// Factor of the power above idle.
    pub(super) factor: f64,
    /// What the law's limit is, or a cap below it [W].
    pub(super) limit: f64,
    /// Watts above the limit are cut off, since no limiter slows the steps that draw them.
    cut: bool,
}

impl Kind {
    /// `cap`: a share of the thermal design power that a policy allows; `limiter`: that of the device, if it is simulated.
    pub(super) fn new(
        law: &PowerLaw,
        work: &StepWork,
        factor: f64,
        cap: Option<f64>,
        limiter: Option<&GpuLimiter>,
    ) -> Kind {
        let tdp = law.limit(None);
        let limit = law.limit(cap.map(|share| Watts(share * tdp)));
        let own = limiter.and_then(|limiter| limiter.limit);
        let limit = own.map_or(limit, |own| cap.map_or(own.0, |_| own.0.min(limit)));
        Kind { standing: law.standing(work), law: law.clone(), factor, limit, cut: limiter.is_none() }
    }

    pub(super) fn idle(&self) -> f64 {
        self.law.spec().idle.0
    }

    /// What a GPU would draw that did this in a span, if nothing limited it [W].
    fn demand(&self, done: Usage, span: Span, clock: f64) -> f64 {
        if done.busy == Span::ZERO {
            return self.idle();
        }
        let demand = self.law.over_standing(self.standing, (done.work, done.busy), span, clock);
        self.idle() + (demand - self.idle()) * self.factor
    }

    /// The clock at which such a GPU would draw what its limit is [MHz], by its power above idle; at most `asked`.
    fn governed(&self, demand: f64, clock: f64, asked: u32) -> u32 {
        let spec = self.law.spec();
        settable(spec, fitting(spec, demand, self.limit, clock)).min(asked)
    }
}

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
    /// The limiter, when it looked last, and the energy since then.
    held: SustainedClock,
    held_mhz: u32,
    looked: Time,
    drawn: Energy,
    /// Over the run. `limited`: the law gave more than the limit, or the limiter held the clock down. Without limiters `running` and `limited`
    /// alone.
    pub(super) figures: LimiterFigures,
}

/// What a replica has done, over its lanes.
fn usage(kernel: &Kernel<'_>, replica: usize) -> Usage {
    let lanes = (1..kernel.lanes(replica)).map(|lane| kernel.usage(replica, lane));
    lanes.fold(kernel.usage(replica, 0), |sum, lane| Usage { busy: sum.busy + lane.busy, work: sum.work + lane.work })
}

impl Gpus {
    pub(super) fn new(kind: usize, kinds: &[Kind]) -> Gpus {
        Gpus {
            kind,
            held: SustainedClock::FULL,
            held_mhz: kinds[kind].law.spec().clock.max_mhz,
            looked: Time::ZERO,
            drawn: Energy::default(),
            figures: LimiterFigures::default(),
            before: Usage::default(),
            since: Time::ZERO,
            energy: Energy::default(),
            busy: Span::ZERO,
            demand: 0.0,
        }
    }

    /// Its kind.
    pub(super) fn kind<'k>(&self, kinds: &'k [Kind]) -> &'k Kind {
        &kinds[self.kind]
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
        let watts = MilliWatts::from_watts(if kind.cut { self.demand.min(kind.limit) } else { self.demand });
        let (energy, busy) = (watts.over(span), Span(done.busy.0.min(span.0)));
        self.energy += energy;
        self.busy = self.busy + busy;
        let max = kind.law.spec().clock.max_mhz;
        if kind.cut {
            // Without limiters only how often watts were cut is told.
            if busy > Span::ZERO {
                let limited = if self.demand > kind.limit { span } else { Span::ZERO };
                self.figures.running = self.figures.running + span;
                self.figures.limited = self.figures.limited + limited;
            }
            return;
        }
        self.drawn += energy;
        let mut figures = LimiterFigures { span, energy, peak: watts, ..LimiterFigures::default() };
        if busy > Span::ZERO {
            let mhz = point.mhz(max);
            figures.running = span;
            figures.clock = u128::from(mhz) * u128::from(span.0);
            figures.limited = if self.held_mhz < max && mhz == self.held_mhz { span } else { Span::ZERO };
        }
        self.figures += figures;
    }

    /// The limiter looks at what was drawn since it looked last, up to now, at that clock. Returns the clock that it holds [MHz].
    pub(super) fn look(&mut self, kinds: &[Kind], point: OperatingPoint, now: Time) -> u32 {
        let kind = &kinds[self.kind];
        let span = now.since(self.looked);
        if span > Span::ZERO {
            let watts = std::mem::take(&mut self.drawn).mean_over(span).as_watts_f64();
            self.looked = now;
            self.held_mhz = self.held.look(kind.law.spec(), (watts, kind.limit), point.clock(), span);
        }
        self.held_mhz
    }

    /// The clock that the limiter holds [MHz].
    pub(super) fn held(&self) -> u32 {
        self.held_mhz
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
