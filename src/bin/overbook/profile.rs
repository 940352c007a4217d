//! `overbook calibrate SCENARIO --on`: measures the engine's steps, writes a calibration profile.

mod power;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use overbook_engine::calibrate::{CalibrateError, Calibration, Described, ShapePlan, calibrate};
use overbook_engine::executor::BuildError;
use overbook_reports::manifest::{hash_file, utc};
use overbook_reports::parquet::write_step_samples;
use overbook_scenarios::Point;
use overbook_sim::calibrate::steps::{StepErrors, StepSample};
use overbook_sim::calibrate::{ProfiledPower, SampleFile, StepProfile};

use crate::aside::Aside;
use crate::calibrate::{CalibrateArgs, passed};
use crate::check::load;
use crate::cli::{Globals, ScenarioArgs};
use crate::device::Device;
use crate::fidelity::bare;
use crate::output::{Failure, INTERRUPTED, note, print, shows_progress};
use crate::place;
use crate::watch::{catch_interrupts, interrupted};

pub(crate) use power::NOISE;

pub(crate) fn run(args: &CalibrateArgs, globals: &Globals) -> Result<u8, Failure> {
    let (out, samples) = target(args)?;
    let scenario = ScenarioArgs { scenario: args.source.clone(), set: args.set.clone(), seed: None };
    let study = load(&scenario, globals)?;
    let point = &study.points()[0];
    catch_interrupts();
    let bare = bare(args.device.on).ok();
    let mut device = Device::open(point, &args.device, globals)?;
    if device.eager() {
        return Err(Failure::Input(
            "a profile is of steps with graphs, and does not say otherwise; set `engine.enforce_eager: false`".into(),
        ));
    }
    let limits = point.limits().map_err(Failure::input)?.0;
    let plan = plan(point, args)?;
    let bar = progress(!globals.quiet && shows_progress(), "{bar:28} {pos}/{len} shapes  {elapsed}  about {eta} left");
    let measured = calibrate(&plan, &mut || device.bench(&limits), &mut |at| {
        bar.set_length(at.of as u64);
        bar.set_position(at.done as u64);
        !interrupted()
    });
    bar.finish_and_clear();
    let calibration = match measured {
        Ok(calibration) => calibration,
        Err(CalibrateError::Interrupted | CalibrateError::Build(BuildError::Interrupted)) => {
            note("interrupted: a profile needs the whole plan; nothing was written");
            return Ok(INTERRUPTED);
        }
        Err(CalibrateError::Build(error)) => return Err(error.into()),
        Err(error) => return Err(Failure::Run(anyhow::Error::new(error))),
    };
    let watts = watts(args, point, &mut device, (&plan, &calibration), bare)?;
    if interrupted() {
        note("interrupted: a profile needs the whole plan; nothing was written");
        return Ok(INTERRUPTED);
    }
    let (watts, why) = match watts {
        Ok(watts) => (Some(Box::new(watts)), None),
        Err(why) => (None, why),
    };
    let profile = keep_profile(out, point, &device, (&plan, &calibration), watts)?;
    let power = power::text(&profile, why.as_deref());
    print(&format!("{}{power}\nwritten to {} and {}", text(&profile), out.display(), samples.display()))?;
    Ok(passed(args, &profile, 0))
}

/// The power law beside the steps; or why there is none, if there is anything to say.
fn watts(
    args: &CalibrateArgs,
    point: &Point,
    device: &mut Device,
    measured: (&ShapePlan, &Calibration),
    bare: Option<f64>,
) -> Result<Result<ProfiledPower, Option<String>>, Failure> {
    let asked = args.power_for.map(|time| std::time::Duration::from_nanos(time.0.0));
    if device.threads().is_some() {
        return match asked {
            Some(_) => Err(Failure::Input("--power-for is for --on cuda: a CPU has no meter here".into())),
            None => Ok(Err(None)),
        };
    }
    let emulated = device.meter().facts().emulated;
    match asked {
        Some(time) if time.is_zero() => Ok(Err(None)),
        None if emulated => Ok(Err(Some("the GPU is emulated; --power-for makes watts up".to_owned()))),
        asked => {
            let hold = asked.unwrap_or(power::HOLD);
            Ok(power::measure(point, device, measured, (hold, bare))?.map_err(Some))
        }
    }
}

/// Writes what was measured as a profile, and the steps that it is fitted to beside it.
pub(crate) fn keep_profile(
    out: &Path,
    point: &Point,
    device: &Device,
    (plan, calibration): (&ShapePlan, &Calibration),
    power: Option<Box<ProfiledPower>>,
) -> Result<StepProfile, Failure> {
    let mut files = Aside::default();
    let described = Described {
        name: name(out),
        model: point.model.name.clone(),
        engine: device.profiled(plan.block_tokens),
        hardware: device.hardware(),
        measured: today(),
        samples: write_samples(&mut files, &out.with_extension("steps.parquet"), &calibration.samples, plan.seed)?,
    };
    let profile = calibration.profile(described).map_err(|error| Failure::Run(anyhow::Error::new(error)))?;
    let profile = StepProfile { power, ..profile };
    files.write(out, &Point::steps_yaml(&profile))?;
    files.keep()?;
    Ok(profile)
}

/// Where a profile goes, and the steps that it is fitted to; neither is replaced unasked.
pub(crate) fn target(args: &CalibrateArgs) -> Result<(&Path, PathBuf), Failure> {
    let Some(out) = &args.out else {
        return Err(Failure::Input("say where the profile goes: --out NAME.yaml".into()));
    };
    let samples = out.with_extension("steps.parquet");
    place::file(out, args.force)?;
    place::file(&samples, args.force)?;
    Ok((out, samples))
}

/// Writes the steps that a profile is fitted to; what the profile says of the file.
pub(crate) fn write_samples(
    files: &mut Aside,
    path: &Path,
    steps: &[StepSample],
    seed: u64,
) -> Result<SampleFile, Failure> {
    let aside = files.place(path);
    write_step_samples(&aside, steps).map_err(anyhow::Error::new)?;
    let blake3 = hash_file(&aside).map_err(|error| Failure::Run(anyhow::Error::new(error)))?;
    Ok(SampleFile {
        file: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        blake3,
        shapes: steps.len() as u64,
        seed,
    })
}

/// A profile's name: its file's.
pub(crate) fn name(out: &Path) -> String {
    out.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// The day on which something is measured.
pub(crate) fn today() -> String {
    let now = utc(SystemTime::now());
    now.get(..10).unwrap_or(&now).to_owned()
}

/// What the scenario's engine can be asked for.
fn plan(point: &Point, args: &CalibrateArgs) -> Result<ShapePlan, Failure> {
    let mut plan = plan_of(point)?;
    plan.seed = args.seed;
    if let Some(time) = args.repeat_for {
        plan.repeat_for = std::time::Duration::from_nanos(time.0.0);
    }
    Ok(plan)
}

/// The plan of a scenario, with the usual repeats.
pub(crate) fn plan_of(point: &Point) -> Result<ShapePlan, Failure> {
    let limits = point.limits().map_err(Failure::input)?.0;
    let needs = point.scenario.scheduler.needs();
    Ok(ShapePlan {
        max_seqs: needs.max_seqs.min(limits.blocks as u32),
        max_tokens: needs.step_tokens.at(limits.max_model_len),
        max_model_len: limits.max_model_len,
        blocks: limits.blocks as u32,
        block_tokens: limits.block_tokens,
        ..ShapePlan::default()
    })
}

pub(crate) fn progress(visible: bool, template: &str) -> ProgressBar {
    if !visible {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// What a person wants to know of a profile.
pub(crate) fn text(profile: &StepProfile) -> String {
    let noise = &profile.noise;
    let drift = noise
        .drift_percent
        .map_or("no anchors: drift unknown".to_owned(), |drift| format!("anchors drifted by {drift:.1} %"));
    let mut text = format!(
        "{}: {} on {} × {}\n{} shapes; repeats spread by {:.1} %, {drift}",
        profile.name,
        profile.model,
        profile.hardware.count,
        profile.hardware.device,
        profile.samples.shapes,
        noise.repeats_percent
    );
    if let Some(delay) = noise.run_delay_percent.filter(|delay| *delay > 2.0) {
        let _ = write!(text, "\nBUSY MACHINE: the engine waited {delay:.1} % of the time for a core");
    }
    for (model, of, errors) in [
        ("closed form", "steps held out", &profile.form_errors),
        ("table", "steps beside its grid", &profile.table_errors),
    ] {
        if errors.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{model}, {of}      mean error     p95    bias");
        for StepErrors { of, steps, mape_percent, p95_percent, bias_percent } in errors {
            let _ = write!(
                text,
                "\n  {of:<8} {steps:>5} {mape_percent:>23.1} % {p95_percent:>5.1} % {bias_percent:>+5.1} %"
            );
        }
    }
    let _ = match profile.client_time {
        Some(time) => write!(text, "\nclient: {time} a request beside its steps"),
        None => write!(text, "\nhost: {} a step and {} a sequence", profile.host.base, profile.host.per_seq),
    };
    text
}
