//! What a server draws from its feed: GPUs, processors, fans, network, boards, and what the supplies lose.
//!
//! ```text
//! P = (base + network + cpu + fans + Σ GPU) / η        cpu = idle + (busy − idle) · share of the time with steps
//! fans → least + per_watt · max(0, Σ GPU − above),  with a lag of first order
//! ```
//!
//! A server is looked at once a period. Its GPUs' energy over the period is exact; its fans stand still within one and follow the mean of
//! the one before, as a fan controller does that samples. All parts are whole picojoules, and the whole is their sum (law 10).

use std::ops::{Add, AddAssign};

use crate::hardware::server_power::ServerPowerSpec;
use crate::power::meter::{Energy, MilliWatts};
use crate::time::Span;

/// Parts per million.
const MILLION: u128 = 1_000_000;

/// Energy by where it goes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Parts {
    /// GPUs.
    pub gpus: Energy,
    /// Processors.
    pub cpu: Energy,
    /// Fans.
    pub fans: Energy,
    /// Boards, memory, storage, switches and network adapters.
    pub boards: Energy,
    /// Lost in the supplies.
    pub supplies: Energy,
}

impl Parts {
    /// What comes out of the feed.
    pub fn total(&self) -> Energy {
        self.gpus + self.cpu + self.fans + self.boards + self.supplies
    }
}

impl Add for Parts {
    type Output = Parts;
    fn add(self, other: Parts) -> Parts {
        Parts {
            gpus: self.gpus + other.gpus,
            cpu: self.cpu + other.cpu,
            fans: self.fans + other.fans,
            boards: self.boards + other.boards,
            supplies: self.supplies + other.supplies,
        }
    }
}

impl AddAssign for Parts {
    fn add_assign(&mut self, other: Parts) {
        *self = *self + other;
    }
}

/// What the GPUs of a server did in a period.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GpuPeriod {
    /// Energy of all of them.
    pub energy: Energy,
    /// Time in which they ran steps, the mean over the GPUs.
    pub busy: Span,
}

/// The power of a server whose fans turn.
#[derive(Clone, PartialEq, Debug)]
pub struct Server {
    spec: ServerPowerSpec,
    boards: MilliWatts,
    /// Processors without steps, and with steps all the time.
    cpu: (MilliWatts, MilliWatts),
    /// What the supplies lose for a million units that they give.
    loss_ppm: u128,
    /// Draw of the fans now [W].
    fans: f64,
    /// The part of their way that fans have left after a span. Spans are alike.
    left: (Span, f64),
}

impl Server {
    /// A server that has been idle for long, whose GPUs draw `idle` [W] together.
    pub fn new(spec: &ServerPowerSpec, idle: f64) -> Server {
        let boards = MilliWatts::from_watts(spec.base.0 + spec.network.0);
        let loss_ppm = ((1.0 / spec.supply_efficiency - 1.0) * 1e6).round() as u128;
        let cpu = (MilliWatts::from_watts(spec.cpu.idle.0), MilliWatts::from_watts(spec.cpu.busy.0));
        let mut server = Server { spec: spec.clone(), boards, cpu, loss_ppm, fans: 0.0, left: (Span::ZERO, 1.0) };
        server.fans = server.fans_for(idle);
        server
    }

    /// Draw of the fans in the end, for GPUs that draw so much together [W].
    fn fans_for(&self, gpus: f64) -> f64 {
        let fans = &self.spec.fans;
        fans.least.0 + fans.per_watt * (gpus - fans.above.0).max(0.0)
    }

    /// What it draws in the end at constant load [W]: GPUs at `gpus` together, running steps for a share of the time.
    pub fn settled(&self, gpus: f64, busy: f64) -> f64 {
        let cpu = &self.spec.cpu;
        let inside = self.boards.as_watts_f64()
            + cpu.idle.0
            + (cpu.busy.0 - cpu.idle.0) * busy.clamp(0.0, 1.0)
            + self.fans_for(gpus)
            + gpus;
        inside * (1.0 + self.loss_ppm as f64 / 1e6)
    }

    /// The part of their way that fans have left after a span.
    fn left_after(&mut self, span: Span) -> f64 {
        if self.left.0 != span {
            let lag = self.spec.fans.lag.0.as_secs_f64();
            self.left = (span, if lag > 0.0 { (-span.as_secs_f64() / lag).exp() } else { 0.0 });
        }
        self.left.1
    }

    /// A period is over.
    pub fn close(&mut self, gpus: GpuPeriod, span: Span) -> Parts {
        if span == Span::ZERO {
            return Parts::default();
        }
        let (idle, busy) = self.cpu;
        let cpu = idle.over(span) + (busy.over(gpus.busy.min(span)) - idle.over(gpus.busy.min(span)));
        let fans = MilliWatts::from_watts(self.fans).over(span);
        let boards = self.boards.over(span);
        let inside = gpus.energy + cpu + fans + boards;
        let supplies = Energy(millionths(inside.0, self.loss_ppm));
        let target = self.fans_for(gpus.energy.mean_over(span).as_watts_f64());
        self.fans = target + (self.fans - target) * self.left_after(span);
        Parts { gpus: gpus.energy, cpu, fans, boards, supplies }
    }
}

/// So many millionths of a whole, rounded down.
fn millionths(whole: u128, ppm: u128) -> u128 {
    // The energy of a period fits 64 bits, whose division is several times as fast as that of 128.
    let short = || {
        let million = MILLION as u64;
        let (whole, ppm) = (u64::try_from(whole).ok()?, u64::try_from(ppm).ok()?);
        Some(u128::from(whole / million) * u128::from(ppm) + u128::from((whole % million).checked_mul(ppm)? / million))
    };
    short().unwrap_or_else(|| whole / MILLION * ppm + whole % MILLION * ppm / MILLION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::gpu::{Origin, OriginKind};
    use crate::hardware::server_power::{CpuPower, FanPower};
    use crate::units::{Duration, Watts};

    const S: u64 = 1_000_000_000;

    fn spec() -> ServerPowerSpec {
        ServerPowerSpec {
            origin: Origin { kind: OriginKind::Inferred, source: "a test".to_owned() },
            base: Watts(400.0),
            cpu: CpuPower { idle: Watts(100.0), busy: Watts(300.0) },
            network: Watts(100.0),
            fans: FanPower { least: Watts(200.0), per_watt: 0.25, above: Watts(1000.0), lag: Duration(Span(20 * S)) },
            supply_efficiency: 0.95,
        }
    }

    fn at(watts: f64, busy: f64, seconds: u64) -> (GpuPeriod, Span) {
        let span = Span(seconds * S);
        let energy = MilliWatts::from_watts(watts).over(span);
        (GpuPeriod { energy, busy: Span((busy * span.0 as f64) as u64) }, span)
    }

    #[test]
    fn idle_and_full_draw_what_the_parts_say() {
        let mut server = Server::new(&spec(), 560.0);
        let (gpus, span) = at(560.0, 0.0, 2);
        let idle = server.close(gpus, span);
        assert_eq!(idle.gpus.mean_over(span), MilliWatts(560_000));
        assert_eq!((idle.cpu.mean_over(span).0, idle.fans.mean_over(span).0), (100_000, 200_000));
        assert_eq!(idle.boards.mean_over(span).0, 500_000);
        // 1,360 W out of the supplies are 1,431.6 W into them.
        assert!((idle.total().mean_over(span).as_watts_f64() - 1360.0 / 0.95).abs() < 0.01);
        assert!((server.settled(560.0, 0.0) - 1360.0 / 0.95).abs() < 0.01);
        let (gpus, span) = at(3200.0, 1.0, 2);
        let full = (0..200).map(|_| server.close(gpus, span)).last().expect("periods");
        // Fans: 200 + 0.25 · 2,200 = 750 W.
        assert_eq!(full.fans.mean_over(span).0, 750_000);
        assert!((full.total().mean_over(span).as_watts_f64() - (3200.0 + 750.0 + 300.0 + 500.0) / 0.95).abs() < 0.02);
        assert!((server.settled(3200.0, 1.0) - 5000.0).abs() < 0.02);
    }

    #[test]
    fn fans_follow_with_their_lag() {
        let mut server = Server::new(&spec(), 560.0);
        let (gpus, span) = at(3200.0, 1.0, 20);
        assert_eq!(server.close(gpus, span).fans.mean_over(span).0, 200_000, "they have not noticed yet");
        let after = server.close(gpus, span).fans.mean_over(span).as_watts_f64();
        assert!((after - (750.0 - 550.0 * (-1.0_f64).exp())).abs() < 0.01, "{after}");
    }

    /// Law 10: the whole is the sum of its parts, to the last picojoule, whatever the numbers.
    #[test]
    fn the_whole_is_the_sum_of_its_parts() {
        let mut server = Server::new(&spec(), 560.0);
        for step in 1..500_u64 {
            let span = Span(step * 7919 + 13);
            let gpus = GpuPeriod { energy: Energy(u128::from(step * step * 104_729)), busy: Span(step * 4001) };
            let parts = server.close(gpus, span);
            let inside = parts.gpus + parts.cpu + parts.fans + parts.boards;
            assert_eq!(parts.total(), inside + parts.supplies);
            assert_eq!(parts.supplies.0, inside.0 * server.loss_ppm / MILLION);
        }
    }
}
