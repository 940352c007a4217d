//! The GPUs' own limiters, where no row is looked at: they watch what their GPUs draw and slow the steps of those that draw too much.
//!
//! In a row the controller of its power has them, since a clock that was ordered stands beside theirs: the lowest holds.

use super::gpus::{Gpus, Kind};
use crate::cost::OperatingPoint;
use crate::fleet::controller::{Action, Controller, Event, Tick, Topics};
use crate::fleet::kernel::Kernel;
use crate::fleet::pools::Pools;
use crate::fleet::{ClusterSpec, RunError};
use crate::power::figures::LimiterFigures;
use crate::time::{Span, Time};

#[derive(Debug)]
pub(super) struct Control {
    every: Span,
    kinds: Vec<Kind>,
    /// By replica.
    gpus: Vec<Gpus>,
}

impl Control {
    /// None where there are no limiters, or a row has them.
    ///
    /// # Panics
    /// The fleet's devices are not described.
    pub(super) fn new(spec: &ClusterSpec, pools: &Pools) -> Option<Control> {
        let limiter = spec.limiter.as_ref().filter(|_| spec.power.is_none())?;
        assert_eq!(limiter.laws.len(), spec.devices.len(), "limiters need `devices`, and a law for each");
        let both = limiter.laws.iter().zip(&spec.devices);
        let kinds: Vec<Kind> =
            both.map(|(law, device)| Kind::new(law, &device.work, 1.0, None, Some(limiter))).collect();
        let gpus = (0..pools.replicas() as usize).map(|at| Gpus::new(pools.of(at), &kinds)).collect();
        Some(Control { every: limiter.every, kinds, gpus })
    }

    fn look(&mut self, kernel: &mut Kernel<'_>) -> Vec<Action> {
        look(&mut self.gpus, &self.kinds, kernel);
        kernel.tick(kernel.now + self.every, Tick::Limit);
        let set = |(replica, gpus): (usize, &Gpus)| {
            let before = kernel.point(replica, 0);
            let max = gpus.kind(&self.kinds).law.spec().clock.max_mhz;
            let point = OperatingPoint { sm_share: before.sm_share, ..OperatingPoint::at_clock(gpus.held(), max) };
            (point != before).then_some(Action::SetPoint { replica, lane: None, point, delay: Span::ZERO })
        };
        self.gpus.iter().enumerate().filter_map(set).collect()
    }
}

/// All limiters look at what their GPUs drew up to now.
pub(super) fn look(gpus: &mut [Gpus], kinds: &[Kind], kernel: &Kernel<'_>) {
    for (at, gpus) in gpus.iter_mut().enumerate() {
        let point = kernel.point(at, 0);
        gpus.advance(at, kinds, point, kernel);
        if !is_stuck(kernel) {
            gpus.look(kinds, point, kernel.now);
        }
    }
}

/// What all of them did.
pub(super) fn figures(gpus: &[Gpus]) -> LimiterFigures {
    let mut sum = LimiterFigures::default();
    for gpus in gpus {
        sum += gpus.figures;
    }
    sum
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        Topics::TICKS.and(Topics::POINTS)
    }

    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match event {
            Event::Start => kernel.tick(Time::ZERO + self.every, Tick::Limit),
            Event::Repointed { replica, before, .. } => {
                self.gpus[replica].advance(replica, &self.kinds, before, kernel);
            }
            Event::Tick(Tick::Limit) => return Ok(self.look(kernel)),
            _ => {}
        }
        Ok(Vec::new())
    }

    fn finish(&mut self, kernel: &mut Kernel<'_>) {
        for at in 0..self.gpus.len() {
            self.gpus[at].advance(at, &self.kinds, kernel.point(at, 0), kernel);
        }
        kernel.sink.limiter = Some(Box::new(figures(&self.gpus)));
    }
}

/// Whether limiters do nothing: never, unless a test has planted that.
#[cfg(not(feature = "planted-faults"))]
fn is_stuck(_: &Kernel<'_>) -> bool {
    false
}

#[cfg(feature = "planted-faults")]
fn is_stuck(kernel: &Kernel<'_>) -> bool {
    kernel.power_fault == Some(crate::fleet::PowerFault::StuckLimiter)
}
