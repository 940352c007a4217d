//! Power policies: which clocks the servers of a row shall keep, by what the row's meter says.
//!
//! A policy hears a reading each telemetry period, late, and answers with clocks by priority; commands take their time to land. The
//! brake is no policy: it is the row's own protection and stands behind all of them.

mod ladder;
mod none;
mod one_threshold;
mod oracle;
mod polca;
mod power_cap;
mod thresholds;

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::hardware::power::ClockSpec;
use crate::power::share::Share;
use crate::time::{Span, Time};

pub use ladder::LadderClocks;
pub use none::NoneSpec;
pub use one_threshold::OneThresholdSpec;
pub use polca::PolcaSpec;
pub use power_cap::PowerCapSpec;
pub use thresholds::{LearnSpec, Rises, RisesSpec, ThresholdsSpec, TwoThresholdsSpec};

/// What keeps a row within its budget.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PowerPolicySpec {
    /// The brake alone.
    None(NoneSpec),
    /// Servers of low priority slow down above one threshold.
    OneThresholdLow(OneThresholdSpec),
    /// All servers slow down above one threshold.
    OneThresholdAll(OneThresholdSpec),
    /// Two thresholds and two priorities (POLCA, ASPLOS 2024).
    Polca(PolcaSpec),
    /// Every GPU has a cap of its own, all the time.
    PowerCap(PowerCapSpec),
    /// POLCA's ladder with telemetry, commands and brake that take no time: no system has that.
    Oracle(PolcaSpec),
}

impl Default for PowerPolicySpec {
    fn default() -> Self {
        PowerPolicySpec::None(NoneSpec {})
    }
}

/// The clocks of a GPU, as far as a policy needs them [MHz].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockRange {
    /// Highest.
    pub max: u32,
    /// Lowest.
    pub min: u32,
}

impl ClockRange {
    /// Those of a GPU.
    pub fn of(clock: &ClockSpec) -> ClockRange {
        ClockRange { max: clock.max_mhz, min: clock.min_mhz }
    }

    /// A clock that was published for the A100, at the same share of the highest.
    fn like_a100(self, mhz: u32) -> u32 {
        let scaled = u64::from(mhz) * u64::from(self.max) / u64::from(A100_MAX);
        (scaled as u32).clamp(self.min, self.max)
    }

    /// A clock that a scenario names must be one of the GPU.
    fn check(self, check: &mut Check<'_>, key: &str, mhz: Option<u32>) {
        let ClockRange { min, max } = self;
        let told = format!("is {} MHz; the GPU runs from {min} to {max} MHz", mhz.unwrap_or(0));
        check.that(mhz.is_none_or(|mhz| (min..=max).contains(&mhz)), key, told);
    }
}

/// The highest clock of an A100 [MHz], which the published clocks are below.
const A100_MAX: u32 = 1410;

/// How late a row hears and acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delays {
    /// Time between two readings, and what each is the mean of.
    pub period: Span,
    /// Time from the end of a period until its reading is known.
    pub telemetry: Span,
    /// Time from a command until its clock holds, at most.
    pub command: Span,
    /// Time from the reading above the budget until the brake holds.
    pub brake: Span,
    /// Rises of the power up to then do not count: they fill an empty fleet.
    pub warm: Time,
}

/// What the row's meter said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowReading {
    /// End of the period that it is the mean of.
    pub at: Time,
    /// Power of the row ÷ its budget.
    pub load: Share,
}

/// Clocks by priority [MHz].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clocks {
    /// Of servers of low priority.
    pub low: u32,
    /// Of servers of high priority.
    pub high: u32,
}

/// Decides on clocks.
pub trait PowerPolicy: std::fmt::Debug {
    /// A reading has come. Returns the clocks that shall hold from now on, which may be those that hold already.
    fn hear(&mut self, reading: RowReading, now: Time) -> Clocks;

    /// The thresholds that it goes by now, the lowest first; none where it has none, or has none yet.
    fn thresholds(&self) -> Vec<Share> {
        Vec::new()
    }
}

/// The settings of a power policy: they check themselves, and build it.
pub trait PowerPolicySettings {
    /// The rules on them, for a GPU with these clocks.
    fn check(&self, _: &mut Check<'_>, _: ClockRange) {}

    /// The policy.
    fn build(&self, clocks: ClockRange, delays: Delays) -> Box<dyn PowerPolicy>;

    /// The delays that it has, where the row has these.
    fn delays(&self, row: Delays) -> Delays {
        row
    }

    /// Share of its thermal design power that a GPU may draw, all the time.
    fn cap(&self) -> Option<f64> {
        None
    }
}

impl PowerPolicySpec {
    /// Its name in scenarios, and its settings.
    fn policy(&self) -> (&'static str, Box<dyn PowerPolicySettings>) {
        match *self {
            PowerPolicySpec::None(settings) => ("none", Box::new(settings)),
            PowerPolicySpec::OneThresholdLow(settings) => ("one-threshold-low", Box::new(one_threshold::Low(settings))),
            PowerPolicySpec::OneThresholdAll(settings) => ("one-threshold-all", Box::new(one_threshold::All(settings))),
            PowerPolicySpec::Polca(settings) => ("polca", Box::new(settings)),
            PowerPolicySpec::PowerCap(settings) => ("power-cap", Box::new(settings)),
            PowerPolicySpec::Oracle(settings) => ("oracle", Box::new(oracle::Oracle(settings))),
        }
    }

    /// Every policy with the settings that it has by itself.
    pub fn every() -> Vec<PowerPolicySpec> {
        vec![
            PowerPolicySpec::default(),
            PowerPolicySpec::OneThresholdLow(OneThresholdSpec::default()),
            PowerPolicySpec::OneThresholdAll(OneThresholdSpec::default()),
            PowerPolicySpec::Polca(PolcaSpec::default()),
            PowerPolicySpec::PowerCap(PowerCapSpec::default()),
            PowerPolicySpec::Oracle(PolcaSpec::default()),
        ]
    }

    /// Its name in scenarios.
    pub fn name(&self) -> &'static str {
        self.policy().0
    }

    /// The rules on its settings, below its name.
    pub fn check(&self, check: &mut Check<'_>, clocks: ClockRange) {
        let (name, policy) = self.policy();
        policy.check(&mut check.below(name), clocks);
    }

    /// The policy of a row.
    pub fn build(&self, clocks: ClockRange, delays: Delays) -> Box<dyn PowerPolicy> {
        self.policy().1.build(clocks, self.delays(delays))
    }

    /// The delays that it has, where the row has these.
    pub fn delays(&self, row: Delays) -> Delays {
        self.policy().1.delays(row)
    }

    /// Share of its thermal design power that a GPU may draw, all the time.
    pub fn cap(&self) -> Option<f64> {
        self.policy().1.cap()
    }
}

#[cfg(test)]
mod tests;
