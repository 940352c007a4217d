//! What a GPU draws, as plain data: the coefficients of the power law ([`crate::power::law`]), its clocks, its limiter and
//! the meter that reads it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::hardware::gpu::Origin;
use crate::units::{Duration, Watts};

/// The power of one GPU. Symbols as in [`crate::power::law`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerSpec {
    /// Origin of the coefficients.
    pub origin: Origin,
    /// Draw with a context and a model resident, and nothing running, `P_ctx`.
    pub idle: Watts,
    /// Draw of a running step if weights filled the memory, `c_w`.
    pub resident: Watts,
    /// Draw of arithmetic at its peak, `c_c`.
    pub compute: Watts,
    /// Draw of memory at its datasheet bandwidth, `c_m`.
    pub memory: Watts,
    /// Exponent of the share of the peak, `a`.
    #[serde(default = "linear")]
    #[schemars(range(min = 0, max = 1))]
    pub compute_exponent: f64,
    /// Exponent of the share of the bandwidth, `b`.
    #[serde(default = "square_root")]
    #[schemars(range(min = 0, max = 1))]
    pub memory_exponent: f64,
    /// Clocks of the SMs, and what they do to power and time.
    pub clock: ClockSpec,
    /// How fast the device keeps a limit.
    pub limiter: LimiterSpec,
    /// What its driver reports.
    pub meter: MeterSpec,
}

/// Clocks of the SMs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockSpec {
    /// Origin of the range.
    pub origin: Origin,
    /// Highest clock [MHz]; the coefficients hold there.
    #[schemars(range(min = 1))]
    pub max_mhz: u32,
    /// Lowest clock [MHz].
    #[schemars(range(min = 1))]
    pub min_mhz: u32,
    /// Origin of the three numbers below.
    pub response: Origin,
    /// Power of arithmetic goes with the clock to this power while its work keeps up with the clock, `k`; at least 1.
    #[schemars(range(min = 1))]
    pub exponent: f64,
    /// Share of the memory's power that does not follow the core's voltage, `h`.
    #[schemars(range(min = 0, max = 1))]
    pub memory_fixed: f64,
    /// Share of the highest clock below which memory is no longer kept busy, `x_knee`.
    #[schemars(range(min = 0, max = 1))]
    pub knee: f64,
}

/// The device's own power limiter: it sees the excess and takes the clocks down.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimiterSpec {
    /// Origin of the time.
    pub origin: Origin,
    /// Time constant with which an excess over the limit goes, `tau_cap`.
    pub reaction: Duration,
}

/// What a driver reports of power: the mean over a window, renewed every period.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterSpec {
    /// Origin of both times.
    pub origin: Origin,
    /// Time that a reading is the mean of.
    pub window: Duration,
    /// Time between two readings.
    pub period: Duration,
}

const fn linear() -> f64 {
    1.0
}

const fn square_root() -> f64 {
    0.5
}

impl PowerSpec {
    /// The rules on it.
    pub fn check(&self, check: &mut Check<'_>) {
        let told = "is 0; a GPU in use draws something";
        check.that(self.idle.0 > 0.0, "idle", told);
        let told = "is 0, as is `memory`: no work would draw anything";
        check.that(self.compute.0 > 0.0 || self.memory.0 > 0.0, "compute", told);
        check.share_above_zero("compute_exponent", self.compute_exponent);
        check.share_above_zero("memory_exponent", self.memory_exponent);
        self.clock.check(&mut check.below("clock"));
        check.below("limiter").time("reaction", self.limiter.reaction);
        self.meter.check(&mut check.below("meter"));
    }
}

#[cfg(test)]
impl PowerSpec {
    /// The power of a made-up GPU with an H100's clocks, for tests.
    pub(crate) fn made_up(idle: f64, resident: f64, compute: f64, memory: f64) -> PowerSpec {
        let origin = Origin { kind: crate::hardware::gpu::OriginKind::Inferred, source: "a test".to_owned() };
        let ms = |ms: u64| Duration(crate::time::Span(ms * 1_000_000));
        PowerSpec {
            origin: origin.clone(),
            idle: Watts(idle),
            resident: Watts(resident),
            compute: Watts(compute),
            memory: Watts(memory),
            compute_exponent: 1.0,
            memory_exponent: 0.5,
            clock: ClockSpec {
                origin: origin.clone(),
                max_mhz: 1980,
                min_mhz: 345,
                response: origin.clone(),
                exponent: 1.7,
                memory_fixed: 0.6,
                knee: 0.6,
            },
            limiter: LimiterSpec { origin: origin.clone(), reaction: ms(50) },
            meter: MeterSpec { origin, window: ms(100), period: ms(100) },
        }
    }
}

impl ClockSpec {
    /// The rules on it.
    pub fn check(&self, check: &mut Check<'_>) {
        check.positive("max_mhz", self.max_mhz);
        check.positive("min_mhz", self.min_mhz);
        let told = format!("is {}, above max_mhz: {}", self.min_mhz, self.max_mhz);
        check.that(self.min_mhz <= self.max_mhz, "min_mhz", told);
        let told = format!("is {}; it must be from 1 to 4: below 1, slower clocks would cost energy", self.exponent);
        check.that((1.0..=4.0).contains(&self.exponent), "exponent", told);
        check.share("memory_fixed", self.memory_fixed);
        check.share_above_zero("knee", self.knee);
    }

    /// The lowest clock as a share of the highest.
    pub fn lowest(&self) -> f64 {
        f64::from(self.min_mhz) / f64::from(self.max_mhz)
    }
}

impl MeterSpec {
    /// The rules on it.
    pub fn check(&self, check: &mut Check<'_>) {
        check.time("window", self.window);
        check.time("period", self.period);
    }
}
