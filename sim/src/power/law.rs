//! The power law: watts from achieved rates.
//!
//! ```text
//! P = P_ctx + c_w · d · w · x · s + c_c · d^(1-a) · u_c^a · s + c_m · d^(1-b) · u_m^b · (h + (1-h) · s)        s = x^(k-1)
//! ```
//!
//! `u_c` and `u_m` are operations and bytes over time × peak, achieved, over the whole span; `d` is the share of the span in which the
//! GPU was busy, `w` the share of the memory that weights fill, `x` the clock over the highest. A lower clock takes longer over the same
//! work, so `u_c` already falls with it; `s` is the energy of an operation at the lower voltage. The published form has `a = 1` and
//! `b = 1/2`: only memory is concave (powertrace-sim, dense surface).
//!
//! Whole steps are the natural span. Their time contains what the host needs between them, as in the fits. A span of several steps is as good
//! as its steps are alike.

use crate::hardware::gpu::GpuSpec;
use crate::hardware::power::PowerSpec;
use crate::power::work::{StepWork, Work};
use crate::time::Span;
use crate::units::Watts;

/// Why nothing can be said of the power of a GPU.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PowerError {
    /// There are no coefficients.
    #[error(
        "{gpu} has no known power law: its catalog entry has no `power` section; choose a GPU that has one, or add its coefficients \
         (docs/power.md)"
    )]
    Unknown {
        /// The GPU.
        gpu: String,
    },
}

/// How busy a GPU was over a span of time.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Activity {
    /// Share of the span in which it ran steps, `d`.
    pub busy: f64,
    /// Share of its memory that weights fill, `w`.
    pub resident: f64,
    /// Achieved operations per second over the peak, `u_c`.
    pub compute: f64,
    /// Achieved bytes per second over the bandwidth, `u_m`.
    pub memory: f64,
}

impl Activity {
    /// Nothing runs.
    pub const IDLE: Activity = Activity { busy: 0.0, resident: 0.0, compute: 0.0, memory: 0.0 };

    /// The same work over `times` as long a span, busy all along.
    #[must_use]
    pub fn stretched(&self, times: f64) -> Activity {
        Activity { compute: self.compute / times, memory: self.memory / times, ..*self }
    }
}

/// What of an activity does not change with work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    stages: f64,
    busy: f64,
    resident: f64,
}

/// The power law of one GPU.
#[derive(Clone, PartialEq, Debug)]
pub struct PowerLaw {
    spec: PowerSpec,
    peak_bf16: f64,
    peak_fp8: f64,
    bandwidth: f64,
    capacity: f64,
    tdp: f64,
}

/// `base^exponent`. Most exponents of the published form are 0, 1/2 and 1, and most steps run without a pause at full clock: a power of floats
/// is then as much work as all the rest of a reading.
fn raised(base: f64, exponent: f64) -> f64 {
    const ONE: u64 = 1.0_f64.to_bits();
    const HALF: u64 = 0.5_f64.to_bits();
    match (base.to_bits(), exponent.to_bits()) {
        (_, ONE) => base,
        (ONE, _) | (_, 0) => 1.0,
        (_, HALF) => base.sqrt(),
        _ => base.powf(exponent),
    }
}

impl PowerLaw {
    /// The law of a GPU.
    ///
    /// # Errors
    /// Its power is not known.
    pub fn of(gpu: &GpuSpec) -> Result<PowerLaw, PowerError> {
        let spec = gpu.power.clone().ok_or_else(|| PowerError::Unknown { gpu: gpu.name.clone() })?;
        Ok(PowerLaw {
            spec,
            peak_bf16: gpu.peak_bf16.0,
            // Without fp8 arithmetic such weights are multiplied in bf16.
            peak_fp8: gpu.peak_fp8.unwrap_or(gpu.peak_bf16).0,
            bandwidth: gpu.bandwidth.0,
            capacity: gpu.memory.0 as f64,
            tdp: gpu.tdp.0,
        })
    }

    /// The coefficients.
    pub fn spec(&self) -> &PowerSpec {
        &self.spec
    }

    /// The mean GPU of a replica that did `work` in `seconds`, one step after the other without a pause.
    pub fn activity(&self, steps: &StepWork, work: Work, seconds: f64) -> Activity {
        self.rates(self.standing(steps), work, seconds)
    }

    /// What does not change with work: the share of a span in which a GPU of the replica runs steps, and of its memory that weights fill.
    pub(crate) fn standing(&self, steps: &StepWork) -> Standing {
        let stages = f64::from(steps.stages());
        Standing { stages, busy: 1.0 / stages, resident: (steps.resident_bytes() / self.capacity).min(1.0) }
    }

    fn rates(&self, Standing { stages, busy, resident }: Standing, work: Work, seconds: f64) -> Activity {
        let span = seconds * stages;
        let fp8 = if work.fp8_flops == 0 { 0.0 } else { work.fp8_flops as f64 / self.peak_fp8 };
        let compute = work.bf16_flops as f64 / self.peak_bf16 + fp8;
        Activity { busy, resident, compute: compute / span, memory: work.bytes() as f64 / (self.bandwidth * span) }
    }

    /// What the GPU would draw if nothing limited it [W], at a clock that is a share of the highest.
    pub fn demand(&self, activity: &Activity, clock: f64) -> f64 {
        let PowerSpec { idle, resident, compute, memory, compute_exponent, memory_exponent, .. } = &self.spec;
        let Activity { busy, resident: filled, .. } = *activity;
        if busy <= 0.0 {
            return idle.0;
        }
        let per_operation = raised(clock, self.spec.clock.exponent - 1.0);
        let fixed = self.spec.clock.memory_fixed;
        let rate = |achieved: f64, exponent: f64| raised(busy, 1.0 - exponent) * raised(achieved, exponent);
        idle.0
            + resident.0 * busy * filled * clock * per_operation
            + compute.0 * rate(activity.compute, *compute_exponent) * per_operation
            + memory.0 * rate(activity.memory, *memory_exponent) * (fixed + (1.0 - fixed) * per_operation)
    }

    /// What the GPU would draw over a span in which it did that work and ran steps for `busy` of it, if nothing limited it [W].
    pub fn over(&self, steps: &StepWork, done: (Work, Span), span: Span, clock: f64) -> f64 {
        self.over_standing(self.standing(steps), done, span, clock)
    }

    /// The same, where what does not change is known.
    pub(crate) fn over_standing(&self, standing: Standing, (work, busy): (Work, Span), span: Span, clock: f64) -> f64 {
        if busy == Span::ZERO || span == Span::ZERO {
            return self.spec.idle.0;
        }
        let mut activity = self.rates(standing, work, span.as_secs_f64());
        if busy < span {
            activity.busy *= busy.0 as f64 / span.0 as f64;
        }
        self.demand(&activity, clock)
    }

    /// The most that the GPU may draw for long [W]: its thermal design power, or a cap below it.
    pub fn limit(&self, cap: Option<Watts>) -> f64 {
        cap.map_or(self.tdp, |cap| cap.0.min(self.tdp))
    }

    /// What the GPU draws once its limiter has settled, with times as they were at full clock [W].
    pub fn settled(&self, activity: &Activity, cap: Option<Watts>) -> f64 {
        self.demand(activity, 1.0).min(self.limit(cap))
    }
}
