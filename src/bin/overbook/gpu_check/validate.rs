//! Part *validate*: a profile of step costs on this GPU, and loads that it has never seen, for real and simulated.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use overbook::{Experiment, Options, Point, Study};
use overbook_engine::calibrate::{CalibrateError, calibrate};
use overbook_engine::device::CudaDevice;
use overbook_engine::executor::BuildError;
use overbook_reports::fidelity::Trial;

use super::Check;
use super::book::Book;
use super::rows::{Figure, Load, Profile, Row, finite};
use crate::device::Device;
use crate::fidelity::once_each;
use crate::output::Failure;
use crate::profile::{keep_profile, plan_of};
use crate::watch::interrupted;

/// Loads, by what is wanted most: scenario, and share of its capacity.
const LOADS: [(usize, f64); 4] = [(0, 0.6), (1, 0.6), (0, 0.9), (1, 0.9)];

/// BurstGPT-like and Azure-like.
const SCENARIOS: [(&str, &str); 2] = [
    ("gpu-burstgpt", include_str!("../../../../scenarios/engine/gpu-burstgpt.yaml")),
    ("gpu-azure", include_str!("../../../../scenarios/engine/gpu-azure.yaml")),
];

/// What makes a small scenario of one for a GPU.
const SMALL: [(&str, &str); 6] = [
    ("model", "tiny"),
    ("engine.kv_tokens", "256"),
    ("engine.max_model_len", "32"),
    ("scheduler.vllm", "{ max_num_seqs: 2, max_num_batched_tokens: 16 }"),
    ("workload.generate.lengths.independent.prompt", "{ log-normal: { median: 8, sigma: 0.3, max: 12 } }"),
    ("workload.generate.lengths.independent.output", "{ log-normal: { median: 3, sigma: 0.3, max: 4 } }"),
];

/// Requests of the simulation that tells a capacity: the end, when fewer and fewer run, is a small part of it.
const SATURATED: u64 = 3000;

pub(crate) fn run(check: &mut Check, book: &mut Book) -> Result<(), Failure> {
    let profile = check.dir.join(format!("{}-profile.yaml", check.main_model()));
    let loads = check.scaled(&LOADS[..], &LOADS[..1]);
    let name = |(scenario, share): (usize, f64)| format!("{} at {share}", SCENARIOS[scenario].0);
    let items: Vec<String> = loads.iter().copied().map(name).collect();
    if book.has("profile") && items.iter().all(|item| book.has(item)) {
        return Ok(());
    }
    check.prepare(0);
    if book.wants("profile", check.scaled(Duration::from_secs(90), Duration::ZERO))? {
        let rows = measured(check, &profile, book.left());
        if matches!(rows, Ok(None)) {
            let why = if interrupted() { "interrupted" } else { "no time" };
            book.put("profile", vec![Row::Left { why: why.to_owned() }])?;
        } else {
            book.take("profile", rows.map(Option::unwrap_or_default))?;
        }
    }
    for (&(scenario, share), item) in loads.iter().zip(&items) {
        if !book.has("profile") {
            book.put(item, vec![Row::Left { why: "no profile".to_owned() }])?;
        } else if book.wants(item, check.scaled(Duration::from_secs(35), Duration::ZERO))? {
            let row = load(check, &profile, scenario, share).map_err(|failure| anyhow::anyhow!(told(failure)));
            book.take(item, row)?;
        }
    }
    Ok(())
}

/// What went wrong, in words.
fn told(failure: Failure) -> String {
    match failure {
        Failure::Input(text) | Failure::Scenario(text) => text,
        Failure::Run(error) => format!("{error:#}"),
        Failure::Interrupted => "interrupted".to_owned(),
    }
}

fn experiment(check: &Check, scenario: usize) -> Experiment {
    let (name, text) = SCENARIOS[scenario];
    let changes = check.scaled(&[][..], &SMALL[..]);
    changes.iter().fold(Experiment::from_text(name, text), |made, (path, value)| made.set_yaml(path, value))
}

fn study(check: &Check, experiment: &Experiment) -> Result<Study, Failure> {
    experiment.study().map_err(|error| Failure::of(error, check.globals))
}

/// The GPU with the model that it has already.
fn device(check: &mut Check, point: &Point) -> Result<Device, Failure> {
    let model = check.model(check.main_model())?.0;
    Device::with(point, Box::new(CudaDevice::of(model).map_err(anyhow::Error::new)?), check.globals)
}

/// Measures steps and writes the profile; `None` if there was no time for the whole plan.
fn measured(check: &mut Check, out: &Path, left: Duration) -> Result<Option<Vec<Row>>, anyhow::Error> {
    let said = |failure: Failure| anyhow::anyhow!(told(failure));
    let study = study(check, &experiment(check, 0)).map_err(said)?;
    let point = &study.points()[0];
    let device = device(check, point).map_err(said)?;
    let limits = point.limits()?.0;
    let mut plan = plan_of(point).map_err(said)?;
    // Errors of some per mille matter: steps vary by less, and the short plan leaves time for loads.
    plan.repeat_for = check.scaled(Duration::from_millis(80), Duration::ZERO);
    plan.repeats = check.scaled((5, 50), (1, 1));
    plan.host_for = check.scaled(Duration::from_secs(4), Duration::from_millis(1));
    let (until, watch) = (Instant::now() + left, check.meter.watch());
    let calibrated = calibrate(&plan, &mut || device.bench(&limits), &mut |_| !interrupted() && Instant::now() < until);
    let gpu = watch.end();
    let calibration = match calibrated {
        Err(CalibrateError::Interrupted | CalibrateError::Build(BuildError::Interrupted)) => return Ok(None),
        calibrated => calibrated?,
    };
    let profile = keep_profile(out, point, &device, (&plan, &calibration), None).map_err(said)?;
    Ok(Some(vec![Row::Profile(Profile {
        model: profile.model.clone(),
        file: out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        shapes: profile.samples.shapes,
        repeats_percent: profile.noise.repeats_percent,
        drift_percent: profile.noise.drift_percent,
        host_base_us: profile.host.base.0.as_secs_f64() * 1e6,
        form_errors: profile.form_errors,
        table_errors: profile.table_errors,
        gpu,
    })]))
}

/// A load at a share of its capacity, for real and simulated.
fn load(check: &mut Check, profile: &Path, scenario: usize, of_capacity: f64) -> Result<Vec<Row>, Failure> {
    let profile: PathBuf = std::path::absolute(profile).map_err(anyhow::Error::new)?;
    let quoted = serde_json::to_string(&profile.to_string_lossy()).map_err(anyhow::Error::new)?;
    let priced = experiment(check, scenario)
        .set_yaml("engine.cost", &format!("{{ steps: {{ path: {quoted}, model: table }} }}"));
    let rate = "workload.generate.arrivals.gamma.rate";
    let sized = |rate_: f64, requests: u64| {
        priced
            .clone()
            .set_yaml(rate, &format!("{rate_}/s"))
            .set_yaml("workload.generate.requests", &requests.to_string())
    };
    let failed = |error| Failure::of(error, check.globals);
    let all = sized(1e4, check.scaled(SATURATED, 50)).run(&Options::default()).map_err(failed)?;
    let capacity = all.summary.metric("request_throughput").unwrap_or(1.0);
    let wanted = of_capacity * capacity;
    // As many as come in the time that there is, and enough for a 99th percentile where that is.
    let requests = check.scaled((wanted * 22.0).clamp(100.0, 1500.0) as u64, 5);
    let study = study(check, &sized(wanted, requests))?;
    let device = device(check, &study.points()[0])?;
    let watch = check.meter.watch();
    let compared = once_each(&study, &device, check.globals)?;
    let gpu = watch.end();
    let Some((points, slower)) = compared else { return Ok(vec![Row::Left { why: "interrupted".to_owned() }]) };
    let rows = points.into_iter().map(|point| {
        let differences = point.replayed[2] as u64;
        Row::Load(Load {
            name: SCENARIOS[scenario].0.to_owned(),
            of_capacity,
            rate: wanted,
            requests,
            plan: point.plan,
            run: point.runs.join(" "),
            void: point.void,
            slower: slower.first().copied(),
            differences,
            passed: differences == 0,
            steps: point.steps,
            figures: point.trials.iter().map(figure).collect(),
            gpu: gpu.clone(),
        })
    });
    Ok(rows.collect())
}

fn figure(trial: &Trial) -> Figure {
    Figure {
        metric: trial.metric.to_owned(),
        measured: trial.mean(),
        simulated: trial.simulated,
        error_percent: finite(100.0 * trial.error()),
    }
}
