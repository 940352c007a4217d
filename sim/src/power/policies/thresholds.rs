//! POLCA's two thresholds: given, or derived from how fast the row's power rises.
//!
//! ```text
//! upper = 1 / (1 + highest rise over the time of a command)      lower = upper − highest rise over a telemetry period
//! ```
//!
//! Above the upper one a command that is given now must land before the budget is reached. The published pair, 80 and 89 %, follows from
//! the published rises of 9 % in 2 s and 11.8 % in 40 s (an inference of ours: the paper searched the pair on its first week).

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delays, RowReading};
use crate::check::Check;
use crate::power::share::Share;
use crate::time::{Span, Time};
use crate::units::Duration;

/// Where the thresholds come from.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ThresholdsSpec {
    /// Stated.
    Given(TwoThresholdsSpec),
    /// From rises that are known of the row, shares of the budget.
    Rises(RisesSpec),
    /// From the rises of the first part of the run behind its warm-up, in which only the brake acts. Then they stand.
    Auto(LearnSpec),
}

impl Default for ThresholdsSpec {
    fn default() -> Self {
        ThresholdsSpec::Given(TwoThresholdsSpec { lower: 0.80, upper: 0.89 })
    }
}

/// Two thresholds, shares of the budget.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TwoThresholdsSpec {
    /// Above it servers of low priority stop boosting.
    #[schemars(range(max = 1))]
    pub lower: f64,
    /// Above it they slow down further, then the others slow down too.
    #[schemars(range(max = 1))]
    pub upper: f64,
}

/// Rises of a row's power, shares of the budget.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RisesSpec {
    /// From one telemetry period to the next, at most.
    #[schemars(range(max = 1))]
    pub period: f64,
    /// Over the time that a command takes, at most.
    #[schemars(range(max = 1))]
    pub command: f64,
}

/// How long the rises are watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LearnSpec {
    /// From the start of the run on.
    #[serde(rename = "for")]
    pub learn: Duration,
}

impl RisesSpec {
    /// The thresholds, rounded down to whole percents.
    pub fn thresholds(&self) -> TwoThresholdsSpec {
        let percent = |share: f64| ((share * 100.0 + 1e-9).floor() / 100.0).max(0.0);
        let upper = percent(1.0 / (1.0 + self.command));
        TwoThresholdsSpec { lower: percent(upper - self.period), upper }
    }
}

impl ThresholdsSpec {
    /// The thresholds, if they are known before the run.
    pub fn known(&self) -> Option<TwoThresholdsSpec> {
        match self {
            ThresholdsSpec::Given(two) => Some(*two),
            ThresholdsSpec::Rises(rises) => Some(rises.thresholds()),
            ThresholdsSpec::Auto(_) => None,
        }
    }

    /// The rules on them, and on the hysteresis beside them.
    pub fn check(&self, check: &mut Check<'_>, hysteresis: f64) {
        {
            let mut below = check.below("thresholds");
            match self {
                ThresholdsSpec::Given(TwoThresholdsSpec { lower, upper }) => {
                    below.share_above_zero("given.upper", *upper);
                    let told = format!("is {lower}; it must be above 0 and below `upper` ({upper})");
                    below.that(*lower > 0.0 && lower < upper, "given.lower", told);
                }
                ThresholdsSpec::Rises(rises) => {
                    below.share_above_zero("rises.period", rises.period);
                    below.share_above_zero("rises.command", rises.command);
                    let TwoThresholdsSpec { lower, upper } = rises.thresholds();
                    let told = format!(
                        "give a lower threshold of {lower} and an upper one of {upper}; no row can be run by that"
                    );
                    below.that(lower > 0.0 && lower < upper, "rises", told);
                }
                ThresholdsSpec::Auto(LearnSpec { learn }) => below.time("auto.for", *learn),
            }
        }
        let told = format!("is {hysteresis}; it must be at least 0 and below 1");
        check.that((0.0..1.0).contains(&hysteresis), "hysteresis", told);
        if let Some(TwoThresholdsSpec { lower, upper }) = self.known() {
            let gap = upper - lower;
            let told = format!(
                "is {hysteresis}, above the gap between the thresholds, {lower} and {upper}: a server that is let go at the upper one would \
                 be below the lower one; make it at most {gap:.3}"
            );
            check.that(lower >= upper || hysteresis <= gap + 1e-9, "hysteresis", told);
        }
    }
}

/// The highest rises of a row, as readings come.
#[derive(Clone, PartialEq, Debug)]
pub struct Rises {
    span: Span,
    /// Readings up to then do not count: the fleet fills.
    warm: Time,
    /// Readings within the time of a command, those that may still be the lowest: rising in load.
    lows: VecDeque<RowReading>,
    last: Option<Share>,
    /// Highest rise from one period to the next.
    pub period: Share,
    /// Highest rise within the time of a command.
    pub command: Share,
}

impl Rises {
    /// For commands that take so long, in a run whose fleet is filled by `warm`.
    pub fn new(command: Span, warm: Time) -> Rises {
        Rises {
            span: command,
            warm,
            lows: VecDeque::new(),
            last: None,
            period: Share::default(),
            command: Share::default(),
        }
    }

    /// The next reading.
    pub fn hear(&mut self, reading: RowReading) {
        if reading.at <= self.warm {
            return;
        }
        if let Some(last) = self.last {
            self.period = self.period.max(reading.load.less(last));
        }
        self.last = Some(reading.load);
        while self.lows.front().is_some_and(|low| reading.at.since(low.at) > self.span) {
            self.lows.pop_front();
        }
        while self.lows.back().is_some_and(|low| low.load >= reading.load) {
            self.lows.pop_back();
        }
        if let Some(low) = self.lows.front() {
            self.command = self.command.max(reading.load.less(low.load));
        }
        self.lows.push_back(reading);
    }
}

/// The thresholds of a policy that runs.
#[derive(Debug)]
pub(super) enum Thresholds {
    /// They stand: the lower one and the upper one.
    Stand(Share, Share),
    /// The rises are watched until then.
    Learning(Rises, Time),
}

impl Thresholds {
    pub(super) fn new(spec: &ThresholdsSpec, delays: Delays) -> Thresholds {
        match (spec, spec.known()) {
            (_, Some(two)) => Thresholds::stand(two),
            (ThresholdsSpec::Auto(LearnSpec { learn }), _) => {
                Thresholds::Learning(Rises::new(delays.command, delays.warm), delays.warm + learn.0)
            }
            (ThresholdsSpec::Given(_) | ThresholdsSpec::Rises(_), None) => unreachable!("these are known"),
        }
    }

    fn stand(two: TwoThresholdsSpec) -> Thresholds {
        Thresholds::Stand(Share::from_f64(two.lower), Share::from_f64(two.upper))
    }

    /// The thresholds at a reading; none as long as the rises are watched.
    pub(super) fn at(&mut self, reading: RowReading) -> Option<(Share, Share)> {
        if let Thresholds::Learning(rises, until) = self {
            if reading.at <= *until {
                rises.hear(reading);
                return None;
            }
            let rises = RisesSpec { period: rises.period.as_f64(), command: rises.command.as_f64() };
            *self = Thresholds::stand(rises.thresholds());
        }
        self.now()
    }

    /// The thresholds, if they stand.
    pub(super) fn now(&self) -> Option<(Share, Share)> {
        match self {
            Thresholds::Stand(lower, upper) => Some((*lower, *upper)),
            Thresholds::Learning(..) => None,
        }
    }
}
