//! `overbook validate SCENARIO --on`: the scenario for real, again and again, and simulated; how far the two are apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use overbook_engine::calibrate::anchors;
use overbook_engine::driver::StepLog;
use overbook_engine::run::Measured;
use overbook_reports::RunDir;
use overbook_reports::fidelity::{
    Calibrated, FIGURES, Fidelity, FidelityPoint, Finding, Trial, fidelity_html, fidelity_json, fidelity_text,
};
use overbook_reports::manifest::utc;
use overbook_scenarios::scenario::CostSpec;
use overbook_scenarios::{Point, Study};
use overbook_sim::calibrate::steps::StepErrors;
use overbook_sim::cluster::{Cluster, ClusterSpec};
use overbook_sim::cost::{CostModel, StepShape};
use overbook_sim::rows::Discard;
use overbook_sim::summary::Summary;

use crate::check::load;
use crate::cli::{Globals, ScenarioArgs, ValidateArgs};
use crate::device::Device;
use crate::facts::{self, Start};
use crate::measure::{on_device, parity};
use crate::output::{DONE, Failure, GATE_FAILED, INTERRUPTED, note, print, shows_progress};
use crate::profile::plan_of;
use crate::run::quote;
use crate::watch::{Display, catch_interrupts, interrupted};

/// A load and what its runs gave.
struct Load<'a> {
    point: &'a Point,
    spec: ClusterSpec,
    void: Vec<String>,
    replayed: [usize; 3],
    summaries: Vec<Summary>,
    /// Predicted and measured time of every step, on the device and whole [ns], by kind.
    steps: BTreeMap<&'static str, Vec<(f64, f64)>>,
}

pub(crate) fn run(args: &ValidateArgs, scenario: &Path, globals: &Globals) -> Result<u8, Failure> {
    let start = Start::now();
    let asked = ScenarioArgs { scenario: scenario.to_owned(), set: args.change.clone(), seed: None };
    let study = load(&asked, globals)?;
    let dir = args.out.as_ref().map(|out| RunDir::create(out, args.force)).transpose()?;
    let repeats = if args.replay { 1 } else { args.repeats.get() };
    catch_interrupts();
    let mut loads = study.points().iter().map(begin).collect::<Result<Vec<_>, _>>()?;
    let device = Device::open(&study.points()[0], &args.device)?;
    // Round by round, so that what changes on the machine meanwhile changes all loads alike.
    let mut speeds = Vec::new();
    for round in 0..repeats {
        speeds.extend(slower(&study.points()[0], &device)?);
        for load in &mut loads {
            if !globals.quiet {
                note(&format!("run {} of {repeats}: {}", round + 1, name(load.point, &study)));
            }
            once(load, &device, globals)?;
            if interrupted() {
                note("interrupted: a comparison needs all its runs");
                return Ok(INTERRUPTED);
            }
        }
    }
    if args.replay {
        return told_replay(&loads, &study);
    }
    let mut fidelity = fidelity(args, scenario, &study, &device, loads, repeats)?;
    fidelity.slower = speeds;
    let failed = args.gate && fidelity.finding() != Finding::Passed;
    let code = if failed { GATE_FAILED } else { DONE };
    if let Some(dir) = dir {
        write(&dir, &study, &fidelity)?;
        let point = &study.points()[0];
        let traces = point.scenario.workload.files();
        let manifest =
            start.manifest(study.plan_hash(), point.scenario.seed, &traces, (overbook_reports::Status::Complete, code));
        dir.finish(&manifest).map_err(anyhow::Error::new)?;
    }
    print(&if args.json { fidelity_json(&fidelity) } else { fidelity_text(&fidelity) })?;
    Ok(code)
}

/// How much slower the machine is at the moment than when the profile was measured; nothing without a profile of its anchors.
fn slower(point: &Point, device: &Device) -> Result<Option<f64>, Failure> {
    let Some(profile) = point.step_profile().map_err(Failure::input)? else { return Ok(None) };
    if profile.anchors.is_empty() {
        return Ok(None);
    }
    let limits = point.limits().map_err(Failure::input)?.0;
    let executor = device.executor(&limits).map_err(Failure::input)?;
    let now = anchors(&plan_of(point)?, executor).map_err(|error| Failure::Run(anyhow::Error::new(error)))?;
    Ok(profile.slower(&now))
}

fn begin(point: &Point) -> Result<Load<'_>, Failure> {
    let spec = point.cluster().map_err(Failure::input)?;
    Ok(Load { point, spec, void: Vec::new(), replayed: [0; 3], summaries: Vec::new(), steps: BTreeMap::new() })
}

fn name(point: &Point, study: &Study) -> String {
    let coordinates: Vec<String> = point.coordinates.iter().map(|(_, value)| value.clone()).collect();
    if coordinates.is_empty() { study.name().to_owned() } else { coordinates.join(", ") }
}

/// One real run of a load.
fn once(load: &mut Load<'_>, device: &Device, globals: &Globals) -> Result<(), Failure> {
    let display = Display::new(!globals.quiet && shows_progress(), load.point.scenario.workload.requests());
    let measured = on_device(load.point, device, &load.spec, &display)?;
    display.finish();
    if measured.result.interrupted {
        return Ok(());
    }
    for reason in measured.void() {
        if !load.void.contains(&reason) {
            load.void.push(reason);
        }
    }
    let parity = parity(&load.spec, &measured)?;
    load.replayed[0] += parity.steps;
    load.replayed[1] += parity.requests;
    load.replayed[2] += parity.differences + usize::from(!parity.digest && parity.differences == 0);
    let mut cost = load.point.cost().map_err(Failure::input)?;
    forced(&measured, &mut *cost, load.spec.limits.depth, &mut load.steps);
    load.summaries.push(measured.result.summary);
    Ok(())
}

/// What each step of the engine would cost by the model: errors that no other error has led to.
fn forced(
    measured: &Measured,
    cost: &mut dyn CostModel,
    depth: u32,
    kinds: &mut BTreeMap<&'static str, Vec<(f64, f64)>>,
) {
    let mut before = None;
    for StepLog { row, parts, prefill_ends, planned, device, .. } in &measured.steps {
        let shape = StepShape {
            decode_seqs: row.decode_seqs,
            decode_context: row.decode_context,
            prefill: parts,
            prefill_ends: *prefill_ends,
        };
        let price = cost.step(&shape);
        let (on_device, host) = (price.device.as_ns_f64(), price.host.as_ns_f64());
        // As the simulator's lanes do it: host time hides behind the device, except at the start of a busy time.
        let idle = before.is_none_or(|end| *planned > end);
        let whole = if depth == 1 || idle { on_device + host } else { on_device.max(host) };
        before = Some(row.end);
        let kind = if parts.is_empty() { "decode, on the device" } else { "with prompts, on the device" };
        kinds.entry(kind).or_default().push((on_device, (device.1 - device.0).0 as f64));
        let kind = if parts.is_empty() { "decode, whole" } else { "with prompts, whole" };
        kinds.entry(kind).or_default().push((whole, (row.end - row.start).0 as f64));
    }
}

fn told_replay(loads: &[Load<'_>], study: &Study) -> Result<u8, Failure> {
    let mut differ = false;
    for load in loads {
        let [steps, requests, differences] = load.replayed;
        differ |= differences > 0;
        print(&format!("{}: {steps} steps, {requests} requests, {differences} differences", name(load.point, study)))?;
    }
    print("a determinism check: it says nothing of how well steps are predicted")?;
    Ok(if differ { GATE_FAILED } else { DONE })
}

/// The load as the simulator sees it, with its own step costs.
fn simulated(load: &Load<'_>) -> Result<Summary, Failure> {
    let mut workload = load.point.workload().map_err(Failure::input)?;
    let mut cost = load.point.cost().map_err(Failure::input)?;
    let cluster = Cluster::new(load.spec.clone()).map_err(Failure::input)?;
    let result = cluster.run(&mut *workload, &mut *cost, &mut Discard, &mut |_| true);
    Ok(result.map_err(|error| Failure::Run(anyhow::Error::new(error)))?.summary)
}

fn fidelity(
    args: &ValidateArgs,
    scenario: &Path,
    study: &Study,
    device: &Device,
    loads: Vec<Load<'_>>,
    repeats: usize,
) -> Result<Fidelity, Failure> {
    let first = &study.points()[0];
    let mut points = Vec::new();
    for load in loads {
        let summary = simulated(&load)?;
        let trial = |(metric, bar): (&'static str, _)| {
            let measured = load.summaries.iter().map(|summary| summary.metric(metric)).collect::<Option<Vec<_>>>()?;
            Some(Trial { metric, bar, measured, simulated: summary.metric(metric)? })
        };
        points.push(FidelityPoint {
            name: name(load.point, study),
            plan: load.point.plan_hash(),
            seed: load.point.scenario.seed,
            trials: FIGURES.into_iter().filter_map(trial).collect(),
            steps: load.steps.iter().map(|(kind, pairs)| StepErrors::new(kind, pairs)).collect(),
            void: load.void,
            replayed: load.replayed,
        });
    }
    let mut command =
        format!("overbook validate {} --on cpu --threads {} --repeats {repeats}", quote(scenario), device.threads());
    if let Some(weights) = &args.device.weights {
        command.extend([" --weights ", &quote(weights)]);
    }
    for change in &args.change {
        command.extend([" --change ", &quote(Path::new(change))]);
    }
    let title = first.scenario.description.clone().unwrap_or_else(|| study.name().to_owned());
    Ok(Fidelity {
        title,
        device: device.describe(),
        cost: facts::calibration(first, None),
        calibrated: calibrated(first)?,
        slower: Vec::new(),
        points,
        repeats,
        command,
        tool: facts::TOOL.to_owned(),
        measured: utc(SystemTime::now()),
    })
}

/// What the step costs were fitted to, by hash.
fn calibrated(point: &Point) -> Result<Option<Calibrated>, Failure> {
    let CostSpec::Steps(steps) = &point.scenario.engine.cost else { return Ok(None) };
    let Some(profile) = point.step_profile().map_err(Failure::input)? else { return Ok(None) };
    let content = fs::read(&steps.path).map_err(|error| Failure::Run(anyhow::Error::new(error)))?;
    let scheduler = &point.scenario.scheduler;
    let longest = point.limits().map_err(Failure::input)?.0.max_model_len;
    Ok(Some(Calibrated {
        profile: profile.name.clone(),
        profile_blake3: blake3::hash(&content).to_hex().to_string(),
        samples_blake3: profile.samples.blake3.clone(),
        seed: profile.samples.seed,
        outside: profile.outside(scheduler.max_seqs(), scheduler.max_batched_tokens(longest), longest),
    }))
}

fn write(dir: &RunDir, study: &Study, fidelity: &Fidelity) -> Result<(), Failure> {
    dir.write("fidelity.json", fidelity_json(fidelity)).map_err(anyhow::Error::new)?;
    dir.write("fidelity.html", fidelity_html(fidelity).map_err(anyhow::Error::new)?).map_err(anyhow::Error::new)?;
    for (number, point) in study.points().iter().enumerate() {
        let name = format!("point-{number}.resolved.yaml");
        dir.write(&name, point.scenario.to_yaml()).map_err(anyhow::Error::new)?;
    }
    Ok(())
}
