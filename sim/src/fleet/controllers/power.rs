//! Power: meters of the servers, the row's telemetry, the policy that reads it, its commands and the brake.
//!
//! ```text
//! work ──law──► watts ──servers──► row ──period──► reading ──delay──► policy ──command──► clocks
//!                                                     └────────────► brake ──────────────┘
//! ```
//!
//! Everything hangs on ticks: they cut no jump, and keep no run from its end.

mod clocks;

use std::collections::VecDeque;

use super::gpus::{Gpus, Kind};
use super::limiter;
use crate::cost::OperatingPoint;
use crate::fleet::controller::{Action, Controller, Event, Tick, Topics};
use crate::fleet::kernel::Kernel;
use crate::fleet::pools::Pools;
use crate::fleet::power::{FleetPower, RowServer};
use crate::fleet::{ClusterSpec, DeviceSpec, RunError};
use crate::power::curve::Curve;
use crate::power::figures::{Control as Controlled, PowerFigures};
use crate::power::policies::{Clocks, PowerPolicy, RowReading};
use crate::power::row::Row;
use crate::power::server::{GpuPeriod, Server};
use crate::power::share::Share;
use crate::power::{Energy, MilliWatts};
use crate::results::summary::{PowerSummary, Served};
use crate::streams::{Purpose, keyed};
use crate::time::{Span, Time};
use clocks::ServerClocks;

#[derive(Debug)]
pub(super) struct Control {
    spec: FleetPower,
    seed: u64,
    /// Time between two looks of the GPUs' own limiters, if they are simulated.
    limiter: Option<Span>,
    policy: Box<dyn PowerPolicy>,
    kinds: Vec<Kind>,
    /// By replica.
    gpus: Vec<Gpus>,
    /// The servers of each replica.
    homes: Vec<Vec<u32>>,
    row: Row,
    /// When the row was closed last.
    closed: Time,
    clocks: ServerClocks,
    /// Readings on their way.
    sent: VecDeque<RowReading>,
    /// What the policy wants.
    wanted: Clocks,
    controlled: Controlled,
    /// When it first began to slow servers down, and last.
    cycles: Option<(Time, Time)>,
    /// Since when the brake holds, if it does, or is on its way.
    braking: Option<Time>,
    curve: Curve,
    /// Which replicas are on servers of low priority, and what requests on them and on the others got.
    low: Vec<bool>,
    served: (Served, Served),
}

impl Control {
    /// None where power is off.
    ///
    /// # Panics
    /// The fleet's devices are not described.
    pub(super) fn new(spec: &ClusterSpec, pools: &Pools) -> Option<Control> {
        let power = spec.power.clone()?;
        assert_eq!(power.laws.len(), spec.devices.len(), "power needs `devices`, and a law for each");
        let replicas = pools.replicas();
        let cap = power.policy.cap();
        let kind =
            |(law, device): (_, &DeviceSpec)| Kind::new(law, &device.work, power.factor, cap, spec.limiter.as_ref());
        let kinds: Vec<Kind> = power.laws.iter().zip(&spec.devices).map(kind).collect();
        let mut homes = vec![Vec::new(); replicas as usize];
        for (at, server) in (0..).zip(&power.servers) {
            server.replicas.iter().for_each(|&(replica, _)| homes[replica as usize].push(at));
        }
        let delays = power.policy.delays(power.delays);
        let (max, brake) = (power.clocks.max, power.brake.clock);
        let server = |server: &RowServer| {
            let gpus: u32 = server.spare + server.replicas.iter().map(|&(_, gpus)| gpus).sum::<u32>();
            Server::new(&server.power, kinds[server.pool as usize].idle() * f64::from(gpus))
        };
        Some(Control {
            seed: spec.seed,
            policy: power.policy.build(power.clocks, delays),
            limiter: spec.limiter.as_ref().map(|limiter| limiter.every),
            gpus: (0..replicas as usize).map(|at| Gpus::new(pools.of(at), &kinds)).collect(),
            homes,
            row: Row::new(power.feed.clone(), power.servers.iter().map(server).collect()),
            closed: Time::ZERO,
            clocks: ServerClocks::new(power.servers.iter().map(|server| server.low), max, brake),
            sent: VecDeque::new(),
            wanted: Clocks { low: max, high: max },
            controlled: Controlled::default(),
            cycles: None,
            braking: None,
            curve: Curve::new(power.delays.period),
            low: power.low_replicas(replicas as usize),
            served: (Served::default(), Served::default()),
            kinds,
            spec: FleetPower { delays, ..power },
        })
    }

    /// The clock of a replica: the lowest of its servers' and its limiter's [MHz].
    fn clock(&self, replica: usize) -> u32 {
        let servers = self.homes[replica].iter().map(|&at| self.clocks.clock(at as usize)).min();
        servers.unwrap_or(self.spec.clocks.max).min(self.gpus[replica].held())
    }

    /// The GPUs' limiters look.
    fn look(&mut self, every: Span, kernel: &mut Kernel<'_>) -> Vec<Action> {
        limiter::look(&mut self.gpus, &self.kinds, kernel);
        kernel.tick(kernel.now + every, Tick::Limit);
        (0..self.gpus.len()).filter_map(|at| self.set(at, self.clock(at), kernel)).collect()
    }

    /// A span of the resolution is over. The row is closed where a period ends with it.
    fn span_ends(&mut self, kernel: &mut Kernel<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let governs = self.limiter.is_none() && self.spec.policy.cap().is_some();
        for at in 0..self.gpus.len() {
            let point = kernel.point(at, 0);
            self.gpus[at].advance(at, &self.kinds, point, kernel);
            if governs {
                let clock = self.gpus[at].governed(&self.kinds, point, self.clock(at));
                actions.extend(self.set(at, clock, kernel));
            }
        }
        let now = kernel.now;
        if now.since(self.closed) >= self.spec.delays.period {
            self.close(now);
            kernel.tick(now + self.spec.delays.telemetry, Tick::PowerReading);
        }
        kernel.tick(now + self.spec.resolution, Tick::Power);
        actions
    }

    /// Closes the row at this moment, all of whose GPUs have been looked at.
    fn close(&mut self, now: Time) {
        let of: Vec<_> = self.gpus.iter_mut().map(Gpus::take).collect();
        let span = now.since(self.closed);
        let server = |server: &RowServer| {
            let idle = self.kinds[server.pool as usize].idle();
            let spare = MilliWatts::from_watts(idle * f64::from(server.spare)).over(span);
            let mut period = GpuPeriod { energy: spare, busy: Span::ZERO };
            let (mut busy, mut gpus) = (0, u64::from(server.spare));
            for &(replica, count) in &server.replicas {
                let (energy, time) = of[replica as usize];
                period.energy += Energy(energy.0 * u128::from(count));
                busy += time.0 * u64::from(count);
                gpus += u64::from(count);
            }
            period.busy = Span(busy / gpus.max(1));
            period
        };
        let periods: Vec<GpuPeriod> = self.spec.servers.iter().map(server).collect();
        if let Some(power) = self.row.close(now, &periods) {
            self.curve.period(now, span, power, self.clocks.means());
            self.sent.push_back(RowReading { at: now, load: Share::of(power, self.spec.feed.budget) });
        }
        self.closed = now;
    }

    /// A reading has come: the policy decides, and the brake.
    fn hear(&mut self, kernel: &mut Kernel<'_>) {
        let Some(reading) = self.sent.pop_front() else { return };
        let now = kernel.now;
        if reading.load > Share::WHOLE && self.braking.is_none() {
            let at = now + brake_latency(self.spec.delays.brake, kernel);
            self.braking = Some(at);
            self.controlled.brakes += 1;
            kernel.tick(at, Tick::Brake);
        }
        let wanted = self.policy.hear(reading, now);
        if wanted == self.wanted {
            return;
        }
        self.wanted = wanted;
        let slowed = self.clocks.slowed();
        let (order, told) = self.clocks.order(wanted);
        if told.is_empty() {
            // No server has a priority whose clock would change.
            return;
        }
        self.controlled.decisions += 1;
        if self.clocks.slowed() && !slowed {
            self.controlled.cycles += 1;
            self.cycles = Some((self.cycles.map_or(now, |cycles| cycles.0), now));
        }
        for server in told {
            let early = self.spec.spread * keyed(self.seed, Purpose::Commands, &[u64::from(server), u64::from(order)]);
            let delay = Span((self.spec.delays.command.0 as f64 * (1.0 - early)).round() as u64);
            kernel.tick(now + delay, Tick::ClockLands { server, order });
        }
    }

    /// Sets the clocks of all replicas on a server.
    fn set_server(&self, server: usize, kernel: &Kernel<'_>) -> Vec<Action> {
        let replicas = &self.spec.servers[server].replicas;
        replicas.iter().filter_map(|&(at, _)| self.set(at as usize, self.clock(at as usize), kernel)).collect()
    }

    /// Sets a replica's clock, if it is another one.
    fn set(&self, replica: usize, clock: u32, kernel: &Kernel<'_>) -> Option<Action> {
        let point = OperatingPoint::at_clock(clock, self.spec.clocks.max);
        let same = kernel.point(replica, 0).sm_clock == point.sm_clock;
        (!same).then_some(Action::SetPoint { replica, lane: None, point, delay: Span::ZERO })
    }

    fn brake(&mut self, on: bool, kernel: &mut Kernel<'_>) -> Vec<Action> {
        let now = kernel.now;
        self.clocks.brake(on, now);
        if on {
            kernel.tick(now + self.spec.brake.hold, Tick::Unbrake);
        } else if let Some(since) = self.braking.take() {
            self.controlled.braked = self.controlled.braked + now.since(since);
        }
        (0..self.spec.servers.len()).flat_map(|server| self.set_server(server, kernel)).collect()
    }
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        Topics::TICKS.and(Topics::POINTS).and(Topics::BOOKED)
    }

    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match event {
            Event::Start => {
                kernel.tick(Time::ZERO + self.spec.resolution, Tick::Power);
                if let Some(every) = self.limiter {
                    kernel.tick(Time::ZERO + every, Tick::Limit);
                }
            }
            Event::Booked { row } => {
                let low = self.low.get(row.replica as usize).copied().unwrap_or_default();
                let served = if low { &mut self.served.0 } else { &mut self.served.1 };
                served.request(row);
            }
            Event::Repointed { replica, before, .. } if !clock_blind(kernel) => {
                self.gpus[replica].advance(replica, &self.kinds, before, kernel);
            }
            Event::Tick(Tick::Limit) => {
                if let Some(every) = self.limiter {
                    return Ok(self.look(every, kernel));
                }
            }
            Event::Tick(Tick::Power) => return Ok(self.span_ends(kernel)),
            Event::Tick(Tick::PowerReading) => self.hear(kernel),
            Event::Tick(Tick::ClockLands { server, order }) if self.clocks.land(server as usize, order, kernel.now) => {
                return Ok(self.set_server(server as usize, kernel));
            }
            Event::Tick(Tick::Brake) => return Ok(self.brake(true, kernel)),
            Event::Tick(Tick::Unbrake) => return Ok(self.brake(false, kernel)),
            _ => {}
        }
        Ok(Vec::new())
    }

    fn finish(&mut self, kernel: &mut Kernel<'_>) {
        for at in 0..self.gpus.len() {
            self.gpus[at].advance(at, &self.kinds, kernel.point(at, 0), kernel);
        }
        let now = kernel.now;
        self.close(now);
        let (low, high) = self.clocks.finish(now);
        if let Some(since) = self.braking {
            self.controlled.braked = self.controlled.braked + now.since(since);
        }
        if let (Some((first, last)), 2..) = (self.cycles, self.controlled.cycles) {
            self.controlled.cycle = Some(Span(last.since(first).0 / (self.controlled.cycles - 1)));
        }
        self.controlled.commands = self.clocks.commands;
        let limiter = limiter::figures(&self.gpus);
        let figures = PowerFigures {
            policy: self.spec.policy.name(),
            thresholds: self.policy.thresholds(),
            budget: self.spec.feed.budget,
            rated: self.spec.rated,
            row: self.row.clone().finish(),
            low,
            high,
            control: self.controlled,
            limited: limiter.limited_share().unwrap_or(0.0),
            curve: self.curve.clone(),
        };
        let (low, high) = std::mem::take(&mut self.served);
        kernel.sink.limiter = self.limiter.map(|_| Box::new(limiter));
        kernel.sink.power = Some(Box::new(PowerSummary { figures, low, high }));
    }
}

/// The latency of the brake.
#[cfg(not(feature = "planted-faults"))]
fn brake_latency(latency: Span, _: &Kernel<'_>) -> Span {
    latency
}

#[cfg(feature = "planted-faults")]
fn brake_latency(latency: Span, kernel: &Kernel<'_>) -> Span {
    if kernel.power_fault == Some(crate::fleet::PowerFault::LateBrake) { Span(3 * latency.0) } else { latency }
}

/// Whether changes of clocks are not heard: never, unless a test has planted that.
#[cfg(not(feature = "planted-faults"))]
fn clock_blind(_: &Kernel<'_>) -> bool {
    false
}

#[cfg(feature = "planted-faults")]
fn clock_blind(kernel: &Kernel<'_>) -> bool {
    kernel.power_fault == Some(crate::fleet::PowerFault::ClockBlind)
}
