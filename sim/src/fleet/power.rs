//! The row that a fleet's servers stand in, and what keeps it within its budget.

use crate::hardware::server_power::ServerPowerSpec;
use crate::power::PowerLaw;
use crate::power::meter::MilliWatts;
use crate::power::policies::{ClockRange, Delays, PowerPolicySpec};
use crate::power::row::Feed;
use crate::time::Span;
use crate::units::Watts;

/// The power of a fleet. It needs [`ClusterSpec::devices`](super::ClusterSpec::devices): clocks change, and work is counted.
#[derive(Clone, PartialEq, Debug)]
pub struct FleetPower {
    /// The law of the GPUs of each pool.
    pub laws: Vec<PowerLaw>,
    /// The servers of the row, rack by rack.
    pub servers: Vec<RowServer>,
    /// What they hang on.
    pub feed: Feed,
    /// What all servers are rated for.
    pub rated: MilliWatts,
    /// Which clocks they keep.
    pub policy: PowerPolicySpec,
    /// The clocks that there are, for all GPUs of the row.
    pub clocks: ClockRange,
    /// How late the row hears and acts.
    pub delays: Delays,
    /// Share of a command's time by which one may land earlier, at random, server by server.
    pub spread: f64,
    /// The row's own protection.
    pub brake: Brake,
    /// Spans over which the law makes watts of work; a whole part of the telemetry period.
    pub resolution: Span,
    /// Factor of the GPUs' power above idle: the error band of the law.
    pub factor: f64,
    /// Requests go to servers of their own priority.
    pub dedicated: bool,
}

/// The GPUs' own limiters, where they slow steps down. They need [`ClusterSpec::devices`](super::ClusterSpec::devices).
#[derive(Clone, PartialEq, Debug)]
pub struct GpuLimiter {
    /// The law of the GPUs of each pool.
    pub laws: Vec<PowerLaw>,
    /// What a GPU may draw for long, if that is not its thermal design power.
    pub limit: Option<Watts>,
    /// Time between two looks; a telemetry resolution of a row is a whole number of them.
    pub every: Span,
}

/// A server of a row.
#[derive(Clone, PartialEq, Debug)]
pub struct RowServer {
    /// What it draws beside its GPUs.
    pub power: ServerPowerSpec,
    /// Its requests are those of low priority, and it slows down first.
    pub low: bool,
    /// Replicas with GPUs on it, and how many.
    pub replicas: Vec<(u32, u32)>,
    /// GPUs on which no replica is.
    pub spare: u32,
    /// The pool that it belongs to, by the law of its GPUs.
    pub pool: u32,
}

/// All GPUs of a row at their lowest, until the row has come down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Brake {
    /// The clock [MHz].
    pub clock: u32,
    /// For how long.
    pub hold: Span,
}

/// A request of this priority or a less urgent one is of low priority.
pub const LOW_PRIORITY: i32 = 1;

impl FleetPower {
    /// Which replicas are on servers of low priority.
    pub fn low_replicas(&self, replicas: usize) -> Vec<bool> {
        let mut low = vec![false; replicas];
        for (replica, _) in self.servers.iter().filter(|server| server.low).flat_map(|server| &server.replicas) {
            if let Some(low) = low.get_mut(*replica as usize) {
                *low = true;
            }
        }
        low
    }
}
