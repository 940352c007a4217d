//! Watts beside the steps of a profile: operating points held for some seconds, and the power law that they make.
//!
//! The recipe: the GPU with the model and nothing running; then decodes and prompts in turn, each held and its first seconds not counted, since readings
//! are means of a second and boards take their time. Nothing is set, so clocks differ only where the GPU's own limits hold them down.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use overbook_engine::calibrate::{Bench, Calibration, Shape, ShapePlan};
use overbook_engine::nvml::{Meter, Seen, StandIn};
use overbook_scenarios::import::catalog_gpu;
use overbook_scenarios::{Catalog, Point};
use overbook_sim::calibrate::{
    ClockExponent, PowerErrors, PowerFit, PowerPoint, PowerSample, ProfiledPower, StepProfile, fit_power,
};
use overbook_sim::cost::StepShape;
use overbook_sim::hardware::gpu::{GpuSpec, Origin, OriginKind};
use overbook_sim::hardware::power::PowerSpec;
use overbook_sim::power::{Activity, PowerLaw, StepWork};
use overbook_sim::units::{Bandwidth, Bytes, Flops, Watts};

use super::today;
use crate::device::{Device, step_work};
use crate::output::Failure;
use crate::watch::interrupted;

/// How long an operating point is held, unless it is said.
pub(crate) const HOLD: Duration = Duration::from_secs(6);

/// Not counted at the start of a point: so much, and a third of it at most.
const SETTLING: Duration = Duration::from_secs(2);

/// What an emulated GPU's steps and readings lie apart by.
pub(crate) const NOISE: f64 = 0.02;

/// What the fastest steps of an emulated GPU reach of its made-up peak and bandwidth, and weights of its memory; no limit holds it down.
const REACHED: (f64, f64, f64) = (0.25, 0.5, 0.4);

/// What is measured on.
struct Rig {
    meter: Meter,
    gpu: GpuSpec,
    law: PowerLaw,
    /// What the law is believed to be before anything is measured; its clocks, limiter and meter stay.
    prior: PowerSpec,
    steps: StepWork,
    emulated: bool,
}

/// Measures the power law of a device; or why it has none.
pub(crate) fn measure(
    point: &Point,
    device: &mut Device,
    (plan, calibration): (&ShapePlan, &Calibration),
    (hold, bare): (Duration, Option<f64>),
) -> Result<Result<ProfiledPower, String>, Failure> {
    let rig = match rig(point, device, calibration)? {
        Ok(rig) => rig,
        Err(why) => return Ok(Err(why)),
    };
    let limits = point.limits().map_err(Failure::input)?.0;
    let failed = |error: &dyn std::fmt::Display| Failure::Run(anyhow::anyhow!("{error}"));
    let mut bench = Bench::new(device.bench(&limits)?, plan.seed).map_err(|error| failed(&error))?;
    let settling = SETTLING.min(hold / 3).as_secs_f64();
    let watch = rig.meter.watch();
    std::thread::sleep(hold);
    let idle = watts(&watch.see(), settling);
    let Some(idle) = idle else {
        return Ok(Err("no watts of the idle GPU were read".to_owned()));
    };
    let mut points = Vec::new();
    for shape in plan.held() {
        if interrupted() {
            return Ok(Err("interrupted".to_owned()));
        }
        match held(&rig, &mut bench, &shape, (hold, settling)).map_err(|error| failed(&error))? {
            Some(point) => points.push(point),
            None => return Ok(Err(format!("no watts were read beside {}", shape.name()))),
        }
    }
    Ok(law(&rig, idle, points, bare))
}

/// Mean watts from a moment on: by the counter of energy, else of the instantaneous readings, else of the averaged ones.
fn watts(seen: &Seen, from: f64) -> Option<f64> {
    let window = seen.window(from);
    window.power_w.or(window.instant_w).or(window.average_w)
}

/// The GPU whose rates are shares of what, and what is known of its law.
fn rig(point: &Point, device: &mut Device, calibration: &Calibration) -> Result<Result<Rig, String>, Failure> {
    let meter = device.meter();
    if !meter.reads() {
        return Ok(Err("NVIDIA's management library gives no readings here".to_owned()));
    }
    let steps = step_work(point)?;
    let catalog = Catalog::embedded();
    let known = |name: &str| catalog.gpu(name).map_err(Failure::input);
    let h100 = known("h100")?;
    if meter.facts().emulated {
        let gpu = made_up(&h100, &steps, calibration);
        let Ok(law) = PowerLaw::of(&gpu) else { return Ok(Err("the catalog's H100 has no power law".to_owned())) };
        let instead = Arc::new(StandIn::new(law.clone()).with_noise(NOISE));
        device.draw_as(instead, steps.clone());
        let prior = law.spec().clone();
        return Ok(Ok(Rig { meter: device.meter(), gpu, law, prior, steps, emulated: true }));
    }
    let name = device.processor();
    let Some(entry) = catalog_gpu(&name) else {
        return Ok(Err(format!("the catalog has no {name}: its peaks are not known, which rates are shares of")));
    };
    let gpu = known(entry)?;
    let Some(prior) = gpu.power.clone().or(h100.power) else {
        return Ok(Err("the catalog's H100 has no power law".to_owned()));
    };
    let gpu = GpuSpec { power: Some(prior.clone()), ..gpu };
    match PowerLaw::of(&gpu) {
        Ok(law) => Ok(Ok(Rig { meter, gpu, law, prior, steps, emulated: false })),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// A GPU of which the steps that were measured reach a good part; it draws as an H100 does at its own rates.
fn made_up(h100: &GpuSpec, steps: &StepWork, calibration: &Calibration) -> GpuSpec {
    let most = |of: &dyn Fn(overbook_sim::power::Work) -> u64| {
        let rate = |sample: &overbook_sim::calibrate::steps::StepSample| {
            of(steps.of(&sample.shape())) as f64 / (sample.device_us / 1e6)
        };
        calibration.samples.iter().map(rate).fold(1.0, f64::max)
    };
    GpuSpec {
        name: "Emulated GPU".to_owned(),
        memory: Bytes((steps.resident_bytes() / REACHED.2) as u64),
        peak_bf16: Flops((most(&|work| work.flops()) / REACHED.0).round()),
        bandwidth: Bandwidth((most(&|work| work.bytes()) / REACHED.1).round()),
        ..h100.clone()
    }
}

/// Holds an operating point; `None` if no watts were read.
fn held(
    rig: &Rig,
    bench: &mut Bench,
    shape: &Shape,
    (hold, settling): (Duration, f64),
) -> Result<Option<PowerPoint>, overbook_engine::executor::ExecutorError> {
    let seqs = shape.decode_past.len() as u32;
    let context = shape.decode_past.iter().map(|past| u64::from(*past) + 1).sum();
    let step = StepShape {
        decode_seqs: seqs,
        decode_context: context,
        prefill: &shape.prefill,
        prefill_ends: shape.prefill_ends,
    };
    let (watch, began) = (rig.meter.watch(), Instant::now());
    let streamed = bench.stream(shape, hold, 1)?;
    // Never less than the settling takes, however fast the steps are.
    std::thread::sleep(Duration::from_secs_f64(settling).saturating_sub(began.elapsed()));
    let seen = watch.see();
    let activity = rig.law.activity(&rig.steps, rig.steps.of(&step), streamed.host_us / 1e6);
    let window = seen.window(settling);
    let top = rig.meter.facts().sm_mhz_max.unwrap_or(rig.prior.clock.max_mhz);
    let Activity { resident, compute, memory, .. } = activity;
    Ok(watts(&seen, settling).map(|watts| PowerPoint {
        steps: shape.name(),
        step_us: digits(streamed.host_us),
        watts: Watts(digits(watts)),
        clock: window.sm_mhz.map(|mhz| digits((mhz / f64::from(top)).min(1.0))),
        resident: digits(resident),
        compute: digits(compute),
        memory: digits(memory),
        held_back: window.throttled.unwrap_or_default().into_iter().collect(),
    }))
}

/// Five digits are more than was measured.
fn digits(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// The law that the points make; or why they make none.
fn law(rig: &Rig, idle: f64, points: Vec<PowerPoint>, bare: Option<f64>) -> Result<ProfiledPower, String> {
    let sample = |point: &PowerPoint| PowerSample {
        activity: Activity { busy: 1.0, resident: point.resident, compute: point.compute, memory: point.memory },
        watts: point.watts.0,
        clock: point.clock.unwrap_or(1.0),
    };
    let samples: Vec<PowerSample> = points.iter().map(sample).collect();
    let fit = fit_power(&rig.prior, digits(idle), &samples).map_err(|error| error.to_string())?;
    let facts = rig.meter.facts();
    let (resident, compute, memory) = fit.errors;
    Ok(ProfiledPower {
        law: named(rig, &fit, facts.driver.as_deref()),
        driver: facts.driver,
        emulated: rig.emulated,
        peak_bf16: rig.gpu.peak_bf16,
        bandwidth: rig.gpu.bandwidth,
        memory: rig.gpu.memory,
        limit: Watts(facts.power_w_max.unwrap_or(rig.gpu.tdp.0)),
        bare_idle: bare.map(|watts| Watts(digits(watts))),
        errors: PowerErrors {
            resident: resident.map(|watts| Watts(digits(watts))),
            compute: Watts(digits(compute)),
            memory: Watts(digits(memory)),
        },
        residual_percent: digits(fit.residual_percent),
        held_out_percent: digits(fit.held_out_mean_percent),
        exponent_error: if let ClockExponent::Fitted { error, .. } = fit.exponent { Some(digits(error)) } else { None },
        points,
    })
}

/// The fitted law with its origin: card, driver, day, residual, and what is not measured of it.
fn named(rig: &Rig, fit: &PowerFit, driver: Option<&str>) -> PowerSpec {
    let (kind, begin) =
        if rig.emulated { (OriginKind::Inferred, "EMULATED, no GPU: ") } else { (OriginKind::Measured, "") };
    let driver = driver.map_or_else(|| "driver not read".to_owned(), |driver| format!("driver {driver}"));
    let mut source = format!(
        "{begin}overbook calibrate on {}, {driver}, {}: {} operating points at full clock ({} held down), residual {:.1} %, {:.1} % off on a third of them that was \
         left out of a fit; over {:.4e} FLOP/s and {:.4e} B/s",
        rig.gpu.name,
        today(),
        fit.used,
        fit.held_down,
        fit.residual_percent,
        fit.held_out_mean_percent,
        rig.gpu.peak_bf16.0,
        rig.gpu.bandwidth.0
    );
    if let Some(why) = &fit.resident_kept {
        let _ = write!(source, "; `resident` as before: {why}");
    }
    let mut spec = fit.spec.clone();
    let response = match &fit.exponent {
        ClockExponent::Fitted { samples, error } => Origin {
            kind,
            source: format!(
                "{begin}exponent from {samples} operating points that were held below full clock, ± {error:.2}; memory_fixed and knee as before: {}",
                spec.clock.response.source
            ),
        },
        ClockExponent::Prior(_) => spec.clock.response.clone(),
    };
    spec.clock.response = response;
    for watts in [&mut spec.idle, &mut spec.resident, &mut spec.compute, &mut spec.memory] {
        *watts = Watts(digits(watts.0));
    }
    PowerSpec { origin: Origin { kind, source }, ..spec }
}

/// The law in a few lines, for people; or why there is none.
pub(crate) fn text(profile: &StepProfile, why: Option<&str>) -> String {
    let Some(power) = &profile.power else {
        return why.map_or_else(String::new, |why| format!("\npower: not measured: {why}"));
    };
    let spec = &power.law;
    let emulated = if power.emulated { " EMULATED," } else { "" };
    let error = |watts: &Watts| format!("± {:.0} W", watts.0);
    let mut text = format!(
        "\npower:{emulated} {} operating points; residual {:.1} %, {:.1} % on a third left out\n  idle {:.1} W, resident {:.1} W ({}), compute {:.1} W ({}), memory {:.1} W \
         ({}), exponents {} and {}",
        power.points.len(),
        power.residual_percent,
        power.held_out_percent,
        spec.idle.0,
        spec.resident.0,
        power.errors.resident.as_ref().map_or_else(|| "not measured".to_owned(), error),
        spec.compute.0,
        error(&power.errors.compute),
        spec.memory.0,
        error(&power.errors.memory),
        spec.compute_exponent,
        spec.memory_exponent
    );
    if let Some(bare) = power.bare_idle {
        let _ = write!(text, "; without a context {:.1} W", bare.0);
    }
    match power.exponent_error {
        Some(error) => {
            let _ = write!(text, "\n  exponent of the clock {:.2} ± {error:.2}", spec.clock.exponent);
        }
        None => text += "\n  the exponent of the clock is a prior: clocks did not differ enough",
    }
    text
}
