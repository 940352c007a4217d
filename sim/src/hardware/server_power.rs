//! What a server draws beside its GPUs, as plain data ([`crate::power::server`] makes watts of it).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::hardware::gpu::Origin;
use crate::time::Span;
use crate::units::{Duration, Watts};

/// The power of a server without its GPUs. What it is rated for stands apart: `power_max`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerPowerSpec {
    /// Origin of all of this.
    pub origin: Origin,
    /// Boards, memory, storage, and the switches between GPUs: the same at any load.
    pub base: Watts,
    /// Processors.
    pub cpu: CpuPower,
    /// Network adapters: the same at any load.
    pub network: Watts,
    /// Fans.
    pub fans: FanPower,
    /// Power out of the supplies ÷ power into them, above 0 and at most 1.
    #[schemars(range(max = 1))]
    pub supply_efficiency: f64,
}

/// Processors of a server. In between the draw follows the share of the time in which GPUs run steps.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CpuPower {
    /// While no GPU runs a step.
    pub idle: Watts,
    /// While all of them do.
    pub busy: Watts,
}

/// Fans: `least + per_watt · max(0, GPUs − above)`, reached with a lag.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FanPower {
    /// With cool GPUs.
    pub least: Watts,
    /// Watts of a fan for each watt of the GPUs above `above`.
    pub per_watt: f64,
    /// Draw of all GPUs up to which the fans need no more.
    pub above: Watts,
    /// Time constant with which they follow.
    pub lag: Duration,
}

/// A lag of more than this is no fan's.
const LAG_MAX: Span = Span(3_600_000_000_000);

impl ServerPowerSpec {
    /// The rules on it.
    pub fn check(&self, check: &mut Check<'_>) {
        let CpuPower { idle, busy } = self.cpu;
        let told = format!("is {busy}, below `idle`: {idle}");
        check.that(busy.0 >= idle.0, "cpu.busy", told);
        let told = format!("is {}; it must be from 0 to 10", self.fans.per_watt);
        check.that((0.0..=10.0).contains(&self.fans.per_watt), "fans.per_watt", told);
        let told = format!("is {}; it must be at most {}", self.fans.lag, Duration(LAG_MAX));
        check.that(self.fans.lag.0 <= LAG_MAX, "fans.lag", told);
        check.share_above_zero("supply_efficiency", self.supply_efficiency);
    }
}
