//! The row that a point's servers stand in, with everything looked up.

use overbook_sim::fleet::{Brake, DeviceSpec, FleetPower, GpuLimiter, RowServer};
use overbook_sim::hardware::gpu::{GpuSpec, Origin, OriginKind};
use overbook_sim::hardware::memory::MemoryError;
use overbook_sim::hardware::power::ClockSpec;
use overbook_sim::power::policies::{ClockRange, Delays};
use overbook_sim::power::row::Feed;
use overbook_sim::power::server::Server;
use overbook_sim::power::{MilliWatts, PowerError, PowerLaw, StepWork};
use overbook_sim::time::{Span, Time};
use overbook_sim::units::{Duration, Watts};
use overbook_traces::Keeps;

use super::WorldError;
use crate::catalog::{Catalog, SiteSpec};
use crate::point::Point;
use crate::scenario::{ResponseSpec, RowSpec};

/// Why a point's power cannot be simulated, and where.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{told}")]
pub struct RowError {
    /// The setting, as a dotted path.
    pub path: &'static str,
    /// What is wrong.
    pub told: String,
}

pub(super) fn wrong<T>(path: &'static str, told: impl Into<String>) -> Result<T, RowError> {
    Err(RowError { path, told: told.into() })
}

/// POLCA's brake, as a share of an A100's highest clock.
const BRAKE: (u64, u64) = (288, 1410);

/// Time constants of a limiter after which it has taken all but a hundredth of an excess.
const REACTIONS: u64 = 5;

/// Loads are planned for this share of a breaker's rating.
const CONTINUOUS: f64 = 0.8;

impl Point {
    /// Whether watts are counted.
    pub fn has_power(&self) -> bool {
        self.scenario.power.is_some() || self.scenario.fleet.row.is_some()
    }

    /// Whether anything must be known of what GPUs draw.
    pub(crate) fn looks_at_gpus(&self) -> bool {
        self.has_power() || self.scenario.fleet.limiter.is_some()
    }

    /// The row, as the scenario has it.
    fn row(&self) -> RowSpec {
        self.scenario.fleet.row.clone().unwrap_or_default()
    }

    /// The GPU, with the power law that was measured beside its steps, if there is one, and with what the row says of its clocks. Watts that were
    /// made up for an emulated GPU are none.
    fn powered_gpu(&self) -> GpuSpec {
        let profile = self.step_profile().ok().flatten();
        let measured = profile.and_then(|profile| profile.power).filter(|power| !power.emulated);
        let mut gpu = measured.map_or_else(|| self.gpu.clone(), |power| power.of(&self.gpu));
        if let (Some(power), Some(response)) = (&mut gpu.power, self.row().response) {
            let ResponseSpec { exponent, memory_fixed, knee } = response;
            let origin = Origin { kind: OriginKind::Inferred, source: "the scenario: fleet.row.response".to_owned() };
            power.clock = ClockSpec { response: origin, exponent, memory_fixed, knee, ..power.clock.clone() };
        }
        gpu
    }

    /// What a fleet must know of its GPUs where their watts are looked at, for each kind of replica; else nothing.
    ///
    /// # Errors
    /// The power of a part is not known.
    pub(super) fn devices(&self) -> Result<Vec<DeviceSpec>, WorldError> {
        if !self.looks_at_gpus() {
            return Ok(Vec::new());
        }
        let device = |kind: &Point| -> Result<DeviceSpec, WorldError> {
            let engine = &kind.scenario.engine;
            let spread = kind.scenario.spread(kind.topology.as_ref());
            let work = StepWork::new(&kind.model, spread, engine.weights, engine.kv).map_err(MemoryError::from)?;
            let law = PowerLaw::of(&kind.powered_gpu());
            let law = law.or_else(|error| wrong("gpu", error.to_string()))?;
            Ok(DeviceSpec { clock: law.spec().clock.clone(), work })
        };
        self.kinds().iter().map(device).collect()
    }

    /// The servers of the row: who stands on them, and which are of low priority. Shares are spread evenly, so that a server keeps its
    /// priority when others are added.
    fn row_servers(&self) -> Result<Vec<RowServer>, RowError> {
        let share = self.row().low_priority;
        let mut servers = Vec::new();
        let mut first = 0;
        for (pool, kind) in (0..).zip(self.kinds()) {
            let fleet = &kind.scenario.fleet;
            let Some(topology) = &kind.topology else {
                return wrong(
                    "fleet.row",
                    "needs `fleet.server` (or a server for each pool): what do the GPUs stand in?",
                );
            };
            let row = kind.row();
            let Some(power) = row.server else {
                let told = format!(
                    "has no `server`, and the catalog does not know what {} draws beside its GPUs; state it, or choose a server with \
                     `power` (overbook catalog list)",
                    topology.server
                );
                return wrong("fleet.row", told);
            };
            let (gpus, per_server) = (fleet.gpus_per_replica(), topology.gpus);
            let mut add = |replicas: Vec<(u32, u32)>| {
                let number = servers.len() as f64;
                let low = ((number + 1.0) * share + 1e-9).floor() > (number * share + 1e-9).floor();
                let used: u32 = replicas.iter().map(|&(_, gpus)| gpus).sum();
                servers.push(RowServer { power: power.clone(), low, replicas, spare: per_server - used, pool });
            };
            let numbers = first..first + fleet.replicas;
            if gpus > per_server {
                for replica in numbers {
                    let parts = (0..gpus).step_by(per_server as usize).map(|from| (gpus - from).min(per_server));
                    parts.for_each(|part| add(vec![(replica, part)]));
                }
            } else {
                let numbers: Vec<u32> = numbers.collect();
                let each = (per_server / gpus.max(1)).max(1) as usize;
                numbers.chunks(each).for_each(|on_it| add(on_it.iter().map(|&replica| (replica, gpus)).collect()));
            }
            first += fleet.replicas;
        }
        Ok(servers)
    }

    /// What a server of each kind is rated for [W], times their number.
    fn rated(&self, servers: &[RowServer]) -> Result<f64, RowError> {
        let mut sum = 0.0;
        for (pool, kind) in (0..).zip(self.kinds()) {
            let count = servers.iter().filter(|server| server.pool == pool).count() as f64;
            let Some(rated) = kind.row().rated else {
                let told = "has no `rated`, and the catalog does not know what the server is rated for; state it";
                return wrong("fleet.row", told);
            };
            sum += rated.0 * count;
        }
        Ok(sum)
    }

    /// The clocks of the row's GPUs, which are the same for all of them.
    fn row_clocks(laws: &[PowerLaw]) -> Result<ClockRange, RowError> {
        let range = |law: &PowerLaw| ClockRange::of(&law.spec().clock);
        let first = range(&laws[0]);
        if let Some(other) = laws.iter().map(range).find(|other| *other != first) {
            let told = format!(
                "has GPUs with clocks up to {} and up to {} MHz; a power policy sets one clock for all of a priority: give each kind a \
                 row of its own",
                first.max, other.max
            );
            return wrong("fleet.row", told);
        }
        Ok(first)
    }

    /// Whether spans are short enough to stand for a device that keeps its cap by itself.
    fn check_cap(&self, laws: &[PowerLaw]) -> Result<(), RowError> {
        let Some(policy) = self.scenario.power.filter(|policy| policy.cap().is_some()) else { return Ok(()) };
        let reaction = laws.iter().map(|law| law.spec().limiter.reaction).min().unwrap_or(Duration(Span::ZERO));
        let (resolution, most) = (self.row().resolution, Duration(Span(reaction.0.0 * REACTIONS)));
        // With limiters of their own GPUs keep their caps between spans.
        if resolution > most && self.scenario.fleet.limiter.is_none() {
            let told = format!(
                "is {resolution}, too long for `{}`: the GPU keeps its cap with a time constant of {reaction}, here once a span; make it \
                 at most {most}, a whole part of `telemetry.period`",
                policy.name()
            );
            return wrong("fleet.row.resolution", told);
        }
        let cap = policy.cap().unwrap_or(1.0);
        for law in laws {
            let (capped, idle) = (cap * law.limit(None), law.spec().idle.0);
            if capped <= idle {
                let told = format!(
                    "caps a GPU at {}, which draws {} with nothing to do; a cap must leave room for work",
                    Watts(capped.round()),
                    Watts(idle.round())
                );
                return wrong("power", told);
            }
        }
        Ok(())
    }

    /// Whether servers that are dedicated to a priority can serve both.
    fn check_dedicated(&self, servers: &[RowServer]) -> Result<(), RowError> {
        if !self.row().dedicated {
            return Ok(());
        }
        let low = servers.iter().filter(|server| server.low).count();
        if low == 0 || low == servers.len() {
            let (all, left) = if low == 0 { ("high", "low") } else { ("low", "high") };
            let told = format!(
                "leaves requests of {left} priority without a server: of {} all are of {all} priority; set `low_priority` between, or leave \
                 `dedicated` out",
                servers.len()
            );
            return wrong("fleet.row.dedicated", told);
        }
        if self.scenario.fleet.controllers.disaggregation.is_some() {
            let told = "does not go with `disaggregation`: a request computes its prompt on one server and decodes on another, of whatever priority";
            return wrong("fleet.row.dedicated", told);
        }
        Ok(())
    }

    /// The site, if the row names one.
    pub(super) fn site(&self) -> Result<Option<SiteSpec>, RowError> {
        let Some(name) = self.row().site else { return Ok(None) };
        match Catalog::embedded().site(&name) {
            Ok(site) => Ok(Some(site)),
            Err(error) => wrong("fleet.row.site", format!("names no site: {error}")),
        }
    }

    /// The power law of each kind of replica.
    fn laws(&self) -> Result<Vec<PowerLaw>, RowError> {
        let law = |kind: &Point| PowerLaw::of(&kind.powered_gpu());
        let laws = self.kinds().iter().map(law).collect::<Result<Vec<PowerLaw>, PowerError>>();
        laws.or_else(|error| wrong("gpu", error.to_string()))
    }

    /// The GPUs' own limiters, where they slow steps down.
    ///
    /// # Errors
    /// The power of a GPU is not known, or it draws as much as the limit with nothing to do.
    pub fn limiter(&self) -> Result<Option<GpuLimiter>, RowError> {
        let Some(limiter) = self.scenario.fleet.limiter else { return Ok(None) };
        let laws = self.laws()?;
        let idle = laws.iter().map(|law| law.spec().idle.0).fold(0.0, f64::max);
        if let Some(limit) = limiter.limit.filter(|limit| limit.0 <= idle) {
            let told =
                format!("is {limit}, and the GPU draws {} with nothing to do; it must be above that", Watts(idle));
            return wrong("fleet.limiter.limit", told);
        }
        Ok(Some(GpuLimiter { laws, limit: limiter.limit, every: limiter.every.0 }))
    }

    /// The row and what keeps it within its budget; `None` where watts are not counted.
    ///
    /// # Errors
    /// The power of a part is not known, or the row cannot be run like that.
    pub fn power(&self) -> Result<Option<FleetPower>, RowError> {
        if !self.has_power() {
            return Ok(None);
        }
        let row = self.row();
        let laws = self.laws()?;
        let clocks = Point::row_clocks(&laws)?;
        let servers = self.row_servers()?;
        self.check_dedicated(&servers)?;
        let rated = self.rated(&servers)?;
        let budget = row.budget.map_or(rated, |budget| budget.0);
        let idle: f64 = servers.iter().map(|server| idle_watts(server, &laws)).sum();
        if budget <= idle {
            let told = format!(
                "is {}, and the {} servers of the row draw {} with nothing to do; give the row more than that, or fewer servers",
                Watts(budget),
                servers.len(),
                Watts(idle.round())
            );
            return wrong("fleet.row.budget", told);
        }
        let brake = u64::from(clocks.max) * BRAKE.0 / BRAKE.1;
        let brake = row.brake.clock.unwrap_or_else(|| (brake as u32).clamp(clocks.min, clocks.max));
        if !(clocks.min..=clocks.max).contains(&brake) {
            let told = format!("is {brake} MHz; the GPU runs from {} to {} MHz", clocks.min, clocks.max);
            return wrong("fleet.row.brake.clock", told);
        }
        self.check_cap(&laws)?;
        let milli = |watts: f64| MilliWatts::from_watts(watts);
        Ok(Some(FleetPower {
            laws,
            servers,
            feed: Feed {
                budget: milli(budget),
                breaker: milli(row.breaker.map_or(budget / CONTINUOUS, |breaker| breaker.0)),
                ups: row.ups.map(|ups| milli(ups.0)),
                rack: row.rack as usize,
                rise: row.command.latency.0,
                warm: Time::ZERO + row.telemetry.warm_up.0,
            },
            rated: milli(rated),
            policy: self.scenario.power.unwrap_or_default(),
            clocks,
            delays: Delays {
                period: row.telemetry.period.0,
                telemetry: row.telemetry.delay.0,
                command: row.command.latency.0,
                brake: row.brake.latency.0,
                warm: Time::ZERO + row.telemetry.warm_up.0,
            },
            spread: row.command.spread,
            brake: Brake { clock: brake, hold: row.brake.hold.0 },
            resolution: row.resolution.0,
            factor: row.gpu_factor,
            dedicated: row.dedicated,
        }))
    }

    /// What a server of each kind of replica draws with nothing to do [W]; `None` where watts are not counted, or not known.
    pub fn idle_watts_of_servers(&self) -> Option<Vec<f64>> {
        let FleetPower { servers, laws, .. } = self.power().ok().flatten()?;
        let of = |number: usize| servers.iter().find(|server| server.pool as usize == number);
        (0..self.kinds().len()).map(|number| of(number).map(|server| idle_watts(server, &laws))).collect()
    }

    /// The clocks of the GPU, if its power is known: what policies' clocks are checked against.
    pub(crate) fn clock(&self) -> Option<&ClockSpec> {
        self.gpu.power.as_ref().map(|power| &power.clock)
    }

    /// Which requests each replica's own clients send: those of its server's priority, where servers are dedicated.
    ///
    /// # Errors
    /// As [`Point::power`].
    pub(super) fn kept_by_replica(&self) -> Result<Vec<Keeps>, WorldError> {
        let mut kept = vec![Keeps::All; self.scenario.fleet.replicas as usize];
        if self.row().dedicated {
            for server in self.row_servers()? {
                for (replica, _) in server.replicas {
                    kept[replica as usize] = if server.low { Keeps::Low } else { Keeps::High };
                }
            }
        }
        Ok(kept)
    }
}

/// What a server draws with nothing to do [W].
fn idle_watts(server: &RowServer, laws: &[PowerLaw]) -> f64 {
    let gpus: u32 = server.spare + server.replicas.iter().map(|&(_, gpus)| gpus).sum::<u32>();
    let idle = laws[server.pool as usize].spec().idle.0 * f64::from(gpus);
    Server::new(&server.power, idle).settled(idle, 0.0)
}
