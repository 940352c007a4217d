//! Watts of real runs beside those of their simulation.

use std::sync::Arc;
use std::time::Duration;

use overbook_engine::cuda::Found;
use overbook_engine::nvml::{Meter, Seen, StandIn, Watch};
use overbook_engine::run::Measured;
use overbook_reports::fidelity::{Drawn, Power, PowerTrial};
use overbook_scenarios::import::catalog_gpu;
use overbook_scenarios::{Catalog, Point};
use overbook_sim::fleet::{Cluster, ClusterSpec, DeviceSpec, RunResult, Usage};
use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::power::{PowerLaw, StepWork};
use overbook_sim::results::rows::Discard;
use overbook_sim::time::{Span, Time};

use crate::cli::On;
use crate::device::{Device, step_work};
use crate::output::Failure;
use crate::profile::NOISE;

/// How long an idle GPU is looked at.
const IDLE: Duration = Duration::from_secs(1);

/// Spans over which the law makes watts of simulated work, as meters renew their readings.
const SPAN: Span = Span(100_000_000);

/// Spans of a second.
const SPANS: usize = 10;

/// Draw of the GPU before this process has a context on it [W]; or why it was not read.
pub(crate) fn bare(on: Option<On>) -> Result<f64, String> {
    if on != Some(On::Cuda) {
        return Err("no GPU".to_owned());
    }
    let meter = Found::at(0).and_then(|found| found.uuid()).map_or_else(|_| Meter::none(), |uuid| Meter::of(&uuid));
    if !meter.reads() {
        return Err("NVIDIA's management library gives no readings here".to_owned());
    }
    let facts = meter.facts();
    if facts.emulated {
        return Err("the GPU is emulated".to_owned());
    }
    match facts.processes {
        Some(0) => idle(&meter).ok_or_else(|| "no watts were read".to_owned()),
        Some(others) => Err(format!("{others} other processes compute on the GPU")),
        None => Err("whether other processes compute on the GPU was not read".to_owned()),
    }
}

fn idle(meter: &Meter) -> Option<f64> {
    let watch = meter.watch();
    std::thread::sleep(IDLE);
    let window = watch.end();
    window.power_w.or(window.instant_w).or(window.average_w)
}

/// What watts are compared with.
pub(super) struct Wattage {
    meter: Meter,
    law: PowerLaw,
    steps: StepWork,
    /// Where the law is from, in words.
    origin: String,
    emulated: bool,
    bare: Result<f64, String>,
    idle: Option<f64>,
}

impl Wattage {
    /// What reads a device, and the law of its GPU; or why watts are not compared.
    pub(super) fn new(
        point: &Point,
        device: &mut Device,
        bare: Result<f64, String>,
    ) -> Result<Result<Wattage, String>, Failure> {
        if device.threads().is_some() {
            return Ok(Err("a CPU has no meter here".to_owned()));
        }
        let meter = device.meter();
        if !meter.reads() {
            return Ok(Err("NVIDIA's management library gives no readings here".to_owned()));
        }
        let (gpu, emulated) = match gpu(point, device, meter.facts().emulated)? {
            Ok(gpu) => gpu,
            Err(why) => return Ok(Err(why)),
        };
        let law = match PowerLaw::of(&gpu) {
            Ok(law) => law,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let steps = step_work(point)?;
        if emulated {
            // It draws by the coefficients that watts were made up with when the profile was measured, whatever the profile says now.
            let known = Catalog::embedded().gpu("h100").map_err(Failure::input)?;
            let Ok(instead) = PowerLaw::of(&GpuSpec { power: known.power, ..gpu.clone() }) else {
                return Ok(Err("the catalog's H100 has no power law".to_owned()));
            };
            device.draw_as(Arc::new(StandIn::new(instead).with_noise(NOISE)), steps.clone());
        }
        let meter = device.meter();
        let origin = law.spec().origin.source.clone();
        let idle = idle(&meter);
        Ok(Ok(Wattage { meter, law, steps, origin, emulated, bare, idle }))
    }

    /// Watches a run.
    pub(super) fn watch(&self) -> Watch {
        self.meter.watch()
    }

    /// What a run drew from its first moment to the end of its last step; `None` if that was not read.
    pub(super) fn drawn(watch: Watch, measured: &Measured) -> Option<Drawn> {
        let began = measured.began.saturating_duration_since(watch.began()).as_secs_f64();
        let end = measured.steps.iter().map(|step| step.row.end.0).max()? as f64 / 1e9;
        let seen: Seen = watch.see().between(began, began + end);
        let window = seen.window(0.0);
        let (joules, counted) = match seen.joules() {
            Some(joules) => (joules, true),
            None => (window.instant_w.or(window.average_w)? * seen.seconds, false),
        };
        Some(Drawn { joules, counted, watts: seen.by_second() })
    }

    /// The same of the simulated run.
    pub(super) fn simulated(&self, point: &Point, spec: &ClusterSpec, end: Time) -> Result<Drawn, Failure> {
        let mut spec = spec.clone();
        spec.devices = vec![DeviceSpec { clock: self.law.spec().clock.clone(), work: self.steps.clone() }];
        spec.controllers.readings = (1..=end.0 / SPAN.0).map(|at| Time(at * SPAN.0)).collect();
        if !end.0.is_multiple_of(SPAN.0) {
            spec.controllers.readings.push(end);
        }
        let mut workload = point.workload().map_err(Failure::input)?;
        let mut cost = point.cost().map_err(Failure::input)?;
        let cluster = Cluster::new(spec).map_err(Failure::input)?;
        let result = cluster.run(&mut *workload, &mut *cost, &mut Discard, &mut |_| true).and_then(RunResult::whole);
        let result = result.map_err(|error| Failure::Run(anyhow::Error::new(error)))?;
        Ok(self.of_readings(&result))
    }

    fn of_readings(&self, result: &RunResult) -> Drawn {
        let (mut before, mut from, mut joules) = (Usage::default(), Time::ZERO, 0.0);
        let mut spans = Vec::new();
        for at in result.readings.chunk_by(|a, b| a.at == b.at) {
            let usage = at.iter().fold(Usage::default(), |sum, lane| Usage {
                busy: sum.busy + lane.usage.busy,
                work: sum.work + lane.usage.work,
            });
            let (done, span) = (usage - before, at[0].at.since(from));
            let watts = self.law.over(&self.steps, (done.work, done.busy), span, 1.0).min(self.law.limit(None));
            joules += watts * span.as_secs_f64();
            spans.push(watts);
            (before, from) = (usage, at[0].at);
        }
        let seconds = spans.chunks_exact(SPANS).map(|second| Some(second.iter().sum::<f64>() / SPANS as f64));
        Drawn { joules, counted: true, watts: seconds.collect() }
    }

    /// Runs of a load beside its simulation.
    pub(super) fn compared(&self, runs: &[Option<Drawn>], simulated: &Drawn) -> Power {
        let Some(runs) = runs.iter().cloned().collect::<Option<Vec<Drawn>>>() else {
            return Power::NotMeasured("some of its runs gave no watts".to_owned());
        };
        Power::Measured(Box::new(PowerTrial::new(&runs, simulated, self.law.spec().idle.0).told(
            self.origin.clone(),
            self.emulated,
            (self.bare.clone(), self.idle),
        )))
    }
}

/// The GPU by whose law watts are simulated, and whether it is made up; or why there is none.
fn gpu(point: &Point, device: &Device, emulated: bool) -> Result<Result<(GpuSpec, bool), String>, Failure> {
    let profile = point.step_profile().map_err(Failure::input)?;
    let measured = profile.and_then(|profile| Some((profile.name, profile.power?)));
    let name = device.processor();
    if let Some((profile, power)) = measured {
        if power.emulated != emulated {
            let what = if emulated { "of a GPU, and this one is emulated" } else { "made up, and this is a GPU" };
            return Ok(Err(format!("the watts in the profile {profile} are {what}; calibrate again")));
        }
        let base = Catalog::embedded().gpu("h100").map_err(Failure::input)?;
        return Ok(Ok((power.of(&GpuSpec { name, ..base }), emulated)));
    }
    if emulated {
        return Ok(Err("the GPU is emulated, and the profile has no `power` (calibrate --power-for 6s)".to_owned()));
    }
    let Some(entry) = catalog_gpu(&name) else {
        return Ok(Err(format!("the catalog has no {name}, and the profile has no `power`; calibrate again")));
    };
    Ok(Ok((Catalog::embedded().gpu(entry).map_err(Failure::input)?, false)))
}
