//! The row that the servers stand in: what it may draw, how late it hears and acts.

use overbook_sim::check::Check;
use overbook_sim::hardware::server_power::ServerPowerSpec;
use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Watts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A row of servers on one feed. With it, or with `power`, watts are counted, and clocks change with them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RowSpec {
    /// What the row may draw; by default what all its servers are rated for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Watts>,
    /// What a server draws beside its GPUs; by default what the catalog knows of `fleet.server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerPowerSpec>,
    /// What a server is rated for; by default the most that its maker states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rated: Option<Watts>,
    /// Servers of a rack.
    #[schemars(range(min = 1))]
    pub rack: u32,
    /// Share of the servers that are of low priority, spread evenly: they slow down first.
    #[schemars(range(min = 0, max = 1))]
    pub low_priority: f64,
    /// Requests go to servers of their own priority: those with `priority` 1 or more to the low ones. By default to any.
    pub dedicated: bool,
    /// How the row's power is read.
    pub telemetry: TelemetrySpec,
    /// How clocks are set.
    pub command: CommandSpec,
    /// The row's own protection.
    pub brake: BrakeSpec,
    /// Spans over which the power law makes watts of work: short against requests, and a whole part of a telemetry period. Watts of
    /// longer spans are a little too high, since prompts and decodes are mixed in them.
    pub resolution: Duration,
    /// What the row's breaker is rated for; by default the budget ÷ 0.8, as continuous loads are planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Watts>,
    /// What the uninterruptible supply behind the row is rated for, the row's share of it; by default it is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ups: Option<Watts>,
    /// The site, for overhead, carbon and price of energy: a name in the catalog. Without, figures end at the servers' feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Factor of the GPUs' power above idle, to see what an error of the power law would change.
    pub gpu_factor: f64,
    /// What the clock does to power and time, in place of the catalog's priors: nobody has measured them here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseSpec>,
}

/// What the SM clock does to power and time. Symbols as in docs/power.md.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseSpec {
    /// Power of arithmetic goes with the clock to this power while its work keeps up with it, `k`; 1 to 4.
    pub exponent: f64,
    /// Share of the memory's power that does not follow the core's voltage, `h`.
    #[schemars(range(min = 0, max = 1))]
    pub memory_fixed: f64,
    /// Share of the highest clock below which memory is no longer kept busy.
    #[schemars(range(min = 0, max = 1))]
    pub knee: f64,
}

/// How the row's power is read. By default as in POLCA: the mean of 2 s, known 2 s later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySpec {
    /// Time between two readings, and what each is the mean of.
    pub period: Duration,
    /// Time from the end of a period until its reading is known.
    pub delay: Duration,
    /// Rises of the row's power in the first part of a run do not count, neither as figures nor for `auto` thresholds: they fill an empty
    /// fleet.
    pub warm_up: Duration,
}

/// How clocks are set. By default as in POLCA: out of band, within 40 s.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommandSpec {
    /// Time from a command until its clock holds, at most.
    pub latency: Duration,
    /// Share of that time by which a command may land earlier, at random, server by server.
    #[schemars(range(min = 0, max = 1))]
    pub spread: f64,
}

/// The power brake: above the budget all GPUs go to their lowest clocks. By default as in POLCA, and held for a minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BrakeSpec {
    /// Time from the reading above the budget until the brake holds.
    pub latency: Duration,
    /// The clock [MHz]; by default 288 of an A100's 1410, at the same share of other GPUs' highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<u32>,
    /// For how long it holds.
    pub hold: Duration,
}

const fn seconds(seconds: u64) -> Duration {
    Duration(Span(seconds * 1_000_000_000))
}

impl Default for RowSpec {
    fn default() -> Self {
        RowSpec {
            budget: None,
            server: None,
            rated: None,
            rack: 4,
            low_priority: 0.5,
            dedicated: false,
            telemetry: TelemetrySpec::default(),
            command: CommandSpec::default(),
            brake: BrakeSpec::default(),
            resolution: seconds(1),
            breaker: None,
            ups: None,
            site: None,
            gpu_factor: 1.0,
            response: None,
        }
    }
}

impl Default for TelemetrySpec {
    fn default() -> Self {
        TelemetrySpec { period: seconds(2), delay: seconds(2), warm_up: seconds(600) }
    }
}

impl Default for CommandSpec {
    fn default() -> Self {
        CommandSpec { latency: seconds(40), spread: 0.0 }
    }
}

impl Default for BrakeSpec {
    fn default() -> Self {
        BrakeSpec { latency: seconds(5), clock: None, hold: seconds(60) }
    }
}

/// Least time between two looks at the row: below it a run does little else.
const RESOLUTION_MIN: Span = Span(1_000_000);

impl RowSpec {
    /// The rules on it, as far as they need no other part of the scenario.
    pub(super) fn check(&self, check: &mut Check<'_>) {
        check.positive("rack", self.rack);
        check.share("low_priority", self.low_priority);
        check.time("telemetry.period", self.telemetry.period);
        check.share("command.spread", self.command.spread);
        check.time("brake.hold", self.brake.hold);
        let (period, resolution) = (self.telemetry.period.0, self.resolution.0);
        let told = format!("is {}; it must be at least {}", self.resolution, Duration(RESOLUTION_MIN));
        check.that(resolution >= RESOLUTION_MIN, "resolution", told);
        let fits = resolution.0 > 0 && period.0 > 0 && period.0.is_multiple_of(resolution.0);
        let told = format!(
            "is {}, of which no whole number makes a telemetry period of {}",
            self.resolution, self.telemetry.period
        );
        check.that(fits || resolution < RESOLUTION_MIN, "resolution", told);
        for (key, watts) in
            [("budget", self.budget), ("rated", self.rated), ("breaker", self.breaker), ("ups", self.ups)]
        {
            check.that(watts.is_none_or(|watts| watts.0 > 0.0), key, "is 0; it must be above 0");
        }
        let told = format!("is {}; it must be above 0 and at most 10", self.gpu_factor);
        check.that(self.gpu_factor > 0.0 && self.gpu_factor <= 10.0, "gpu_factor", told);
        if let Some(ResponseSpec { exponent, memory_fixed, knee }) = self.response {
            let told = format!("is {exponent}; it must be from 1 to 4: below 1, slower clocks would cost energy");
            check.that((1.0..=4.0).contains(&exponent), "response.exponent", told);
            check.share("response.memory_fixed", memory_fixed);
            check.share_above_zero("response.knee", knee);
        }
        if let Some(server) = &self.server {
            server.check(&mut check.below("server"));
        }
    }
}
