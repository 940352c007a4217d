//! `overbook validate SCENARIO --on`: the scenario for real, again and again, and simulated; how far the two are apart.

mod power;
mod served;

use std::path::Path;
use std::time::SystemTime;

use overbook::{Point, Study, TOOL};
use overbook_engine::calibrate::anchors;
use overbook_engine::priced::{Priced, errors, hash, priced};
use overbook_reports::RunDir;
use overbook_reports::fidelity::{
    Calibrated, Drawn, FIGURES, Fidelity, FidelityPoint, Finding, Power, Trial, fidelity_html, fidelity_json,
    fidelity_text,
};
use overbook_reports::manifest::{Start, hash_file, utc};
use overbook_scenarios::facts::calibration;
use overbook_scenarios::scenario::CostSpec;
use overbook_sim::calibrate::StepProfile;
use overbook_sim::fleet::{Cluster, ClusterSpec, RunResult};
use overbook_sim::hardware::gpu::OriginKind;
use overbook_sim::results::rows::Discard;
use overbook_sim::results::summary::Summary;
use overbook_sim::time::Time;

use crate::check::load;
use crate::cli::{Globals, ScenarioArgs, ValidateArgs};
use crate::device::Device;
use crate::facts;
use crate::measure::{on_device, parity};
use crate::output::{DONE, Failure, GATE_FAILED, INTERRUPTED, note, print, shows_progress};
use crate::place;
use crate::profile::plan_of;
use crate::run::quote;
use crate::watch::{Display, catch_interrupts, interrupted};
use power::Wattage;

pub(crate) use power::bare;

/// A load and what its runs gave.
struct Load<'a> {
    point: &'a Point,
    spec: ClusterSpec,
    void: Vec<String>,
    again: usize,
    replayed: [usize; 3],
    summaries: Vec<Summary>,
    /// Hashes of the runs' steps.
    runs: Vec<String>,
    steps: Vec<Priced>,
    /// What its runs drew, where that was read.
    drawn: Vec<Option<Drawn>>,
}

/// What reads watts, and the law that they are compared with; or why they are not.
type Watts = Result<Wattage, String>;

/// Loads that have run, and how much slower than its profile the machine was at each look; `None`: it was interrupted.
type Ran<T> = Option<(Vec<T>, Vec<f64>)>;

pub(crate) fn run(args: &ValidateArgs, scenario: &Path, globals: &Globals) -> Result<u8, Failure> {
    match &args.url {
        Some(url) => served::run(args, scenario, url, globals),
        None => on_engine(args, scenario, globals),
    }
}

fn on_engine(args: &ValidateArgs, scenario: &Path, globals: &Globals) -> Result<u8, Failure> {
    let start = Start::now();
    let asked = ScenarioArgs { scenario: scenario.to_owned(), set: args.set.clone(), seed: None };
    let study = load(&asked, globals)?;
    let dir = args.out.as_ref().map(|out| place::run_dir(out, args.force)).transpose()?;
    let repeats = if args.replay { 1 } else { args.repeats.get() };
    catch_interrupts();
    // Before anything has a context on the GPU.
    let bare = if args.replay { Err("not asked for".to_owned()) } else { bare(args.device.on) };
    let mut device = Device::open(&study.points()[0], &args.device, globals)?;
    let watts = if args.replay {
        Err("a replay looks at no times".to_owned())
    } else {
        Wattage::new(&study.points()[0], &mut device, bare)?
    };
    let Some((loads, slower)) = measured(&study, (&device, &watts), (repeats, AGAIN), args.replay, globals)? else {
        note("interrupted: a comparison needs all its runs");
        return Ok(INTERRUPTED);
    };
    if args.replay {
        return told_replay(&loads, &study);
    }
    let fidelity = fidelity(args, scenario, &study, (&device, &watts), loads, slower)?;
    let failed = args.gate && fidelity.finding() != Finding::Passed;
    let code = if failed { GATE_FAILED } else { DONE };
    let kept = dir.map_or(Ok(()), |dir| {
        write(&dir, &study, &fidelity)?;
        let point = &study.points()[0];
        let traces = point.scenario.workload.files();
        let plan = (study.plan().plan_hash(), point.scenario.seed);
        let manifest =
            start.manifest(&facts::BUILD, facts::command(), plan, &traces, (overbook_reports::Status::Complete, code));
        dir.finish(&manifest).map(drop).map_err(|error| Failure::Run(anyhow::Error::new(error)))
    });
    // Printed even if it cannot be written: it took a while.
    print(&if args.json { fidelity_json(&fidelity) } else { fidelity_text(&fidelity) })?;
    kept.map(|()| code)
}

/// All loads of a study for real, so many times, void runs so many times again.
fn measured<'a>(
    study: &'a Study,
    (device, watts): (&Device, &Watts),
    (repeats, again): (usize, usize),
    replay: bool,
    globals: &Globals,
) -> Result<Ran<Load<'a>>, Failure> {
    let mut loads = study.points().iter().map(begin).collect::<Result<Vec<_>, _>>()?;
    for load in &loads {
        same_engine(load.point, device)?;
    }
    calibrated(&study.points()[0])?;
    // Round by round, so that what changes on the machine meanwhile changes all loads alike.
    let mut gauge = Gauge::new(&study.points()[0], device, replay)?;
    for round in 0..repeats {
        for load in &mut loads {
            if !globals.quiet {
                note(&format!("run {} of {repeats}: {}", round + 1, name(load.point, study)));
            }
            once(load, (device, watts), &mut gauge, again, globals)?;
            if interrupted() {
                return Ok(None);
            }
        }
    }
    Ok(Some((loads, gauge.slower)))
}

/// What one real run of each load of a study gave, beside its simulation. Void runs are kept as they are.
pub(crate) fn once_each(study: &Study, device: &Device, globals: &Globals) -> Result<Ran<FidelityPoint>, Failure> {
    let watts = Err("gpu-check's own part has the watts".to_owned());
    let Some((loads, slower)) = measured(study, (device, &watts), (1, 0), false, globals)? else { return Ok(None) };
    Ok(Some((loads.into_iter().map(|load| compared(load, study, &watts)).collect::<Result<_, _>>()?, slower)))
}

/// How fast the machine is, by the anchors of the profile, looked at before every run.
struct Gauge<'a> {
    point: &'a Point,
    device: &'a Device,
    /// Whether times do not matter.
    idle: bool,
    /// `None` without a profile that has anchors, or if times do not matter.
    profile: Option<StepProfile>,
    /// How much slower it was than when the profile was measured, look by look.
    slower: Vec<f64>,
    /// Whether it was said that nothing can be told.
    told: bool,
}

impl<'a> Gauge<'a> {
    fn new(point: &'a Point, device: &'a Device, idle: bool) -> Result<Self, Failure> {
        let profile = if idle { None } else { point.step_profile().map_err(Failure::input)? };
        let profile = profile.filter(|profile| !profile.anchors.is_empty());
        Ok(Gauge { point, device, idle, profile, slower: Vec::new(), told: false })
    }

    fn look(&mut self) -> Result<(), Failure> {
        let Some(profile) = &self.profile else { return Ok(()) };
        let limits = self.point.limits().map_err(Failure::input)?.0;
        let executor = self.device.bench(&limits)?;
        let now = anchors(&plan_of(self.point)?, executor).map_err(|error| Failure::Run(anyhow::Error::new(error)))?;
        let looked = profile.slower(&now);
        if looked.is_none() && self.slower.is_empty() && !self.told {
            self.told = true;
            note(&format!(
                "warning: whether the machine is as fast as when {} was measured cannot be told: its anchors are steps of another \
                 size than this scenario's limits allow; calibrate with this scenario",
                profile.name
            ));
        }
        self.slower.extend(looked);
        Ok(())
    }
}

/// A profile of another engine than the one at hand would be judged for what it does not say.
fn same_engine(point: &Point, device: &Device) -> Result<(), Failure> {
    let Some(profile) = point.step_profile().map_err(Failure::input)? else { return Ok(()) };
    let block_tokens = point.limits().map_err(Failure::input)?.0.block_tokens;
    let ours = |what: &str, theirs: String, ours: String| {
        let message = format!("the profile {} was measured with {what} {theirs}, this is {ours}", profile.name);
        if theirs == ours { Ok(()) } else { Err(Failure::Input(message)) }
    };
    if profile.kind == OriginKind::Measured {
        ours("the engine on", profile.engine.executor.clone(), device.name().to_owned())?;
        match (profile.engine.threads, device.threads()) {
            (None, Some(ours)) => {
                return Err(Failure::Input(format!(
                    "the profile {} does not say with how many compute threads it was measured, this is --threads {ours}; \
                     calibrate again",
                    profile.name
                )));
            }
            (Some(theirs), Some(threads)) => ours("--threads", theirs.to_string(), threads.to_string())?,
            // A GPU has none.
            (_, None) => {}
        }
        ours("engine.block_tokens:", profile.engine.block_tokens.to_string(), block_tokens.to_string())?;
        if device.eager() {
            return Err(Failure::Input(format!(
                "the profile {} was measured with graphs, this is without; set `engine.enforce_eager: false`",
                profile.name
            )));
        }
        ours("the processor", profile.hardware.device.clone(), device.processor())?;
    }
    ours("the model", profile.model.clone(), point.model.name.clone())
}

fn begin(point: &Point) -> Result<Load<'_>, Failure> {
    let spec = point.cluster().map_err(Failure::input)?;
    let (void, summaries, runs, steps, drawn) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    Ok(Load { point, spec, void, again: 0, replayed: [0; 3], summaries, runs, steps, drawn })
}

fn name(point: &Point, study: &Study) -> String {
    let coordinates: Vec<String> = point.coordinates.iter().map(|(_, value)| value.clone()).collect();
    if coordinates.is_empty() { study.plan().name().to_owned() } else { coordinates.join(", ") }
}

/// Times that a void run is made again.
const AGAIN: usize = 2;

/// One real run of a load; made again if it is void, and taken as it is if it stays so.
fn once(
    load: &mut Load<'_>,
    (device, watts): (&Device, &Watts),
    gauge: &mut Gauge<'_>,
    again: usize,
    globals: &Globals,
) -> Result<(), Failure> {
    for attempt in 0..=again {
        gauge.look()?;
        let display = Display::new(!globals.quiet && shows_progress(), load.point.scenario.workload.requests());
        let watched = watts.as_ref().ok().map(|watts| (watts, watts.watch()));
        let measured = on_device(load.point, device, &load.spec, &display)?;
        display.finish();
        let drawn = watched.map(|(_, watch)| Wattage::drawn(watch, &measured));
        if measured.result.interrupted || interrupted() {
            return Ok(());
        }
        let parity = parity(&load.spec, &measured)?;
        load.replayed[0] += parity.steps;
        load.replayed[1] += parity.requests;
        load.replayed[2] += parity.differences + usize::from(!parity.digest && parity.differences == 0);
        let void = measured.void();
        if !void.is_empty() && attempt < again && !gauge.idle {
            load.again += 1;
            note(&format!("void, and made again: {}", void.join("; ")));
            continue;
        }
        load.void.extend(void);
        let mut cost = load.point.cost().map_err(Failure::input)?;
        load.steps.extend(priced(&measured.steps, &mut *cost, load.spec.limits.depth));
        load.runs.push(hash(&measured.steps));
        load.drawn.extend(drawn);
        load.summaries.push(measured.result.summary);
        return Ok(());
    }
    Ok(())
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

/// The load as the simulator sees it, with its own step costs: the figures, and when it ends.
fn simulated_summary(point: &Point, spec: &ClusterSpec) -> Result<(Summary, Time), Failure> {
    let mut workload = point.workload().map_err(Failure::input)?;
    let mut cost = point.cost().map_err(Failure::input)?;
    let cluster = Cluster::new(spec.clone()).map_err(Failure::input)?;
    let result = cluster.run(&mut *workload, &mut *cost, &mut Discard, &mut |_| true).and_then(RunResult::whole);
    let RunResult { summary, end, .. } = result.map_err(|error| Failure::Run(anyhow::Error::new(error)))?;
    Ok((summary, end))
}

/// A load beside its simulation.
fn compared(load: Load<'_>, study: &Study, watts: &Watts) -> Result<FidelityPoint, Failure> {
    let (summary, end) = simulated_summary(load.point, &load.spec)?;
    let power = match watts {
        Ok(watts) => watts.compared(&load.drawn, &watts.simulated(load.point, &load.spec, end)?),
        Err(why) => Power::NotMeasured(why.clone()),
    };
    Ok(FidelityPoint {
        name: name(load.point, study),
        plan: load.point.plan_hash(),
        seed: load.point.scenario.seed,
        trials: FIGURES.into_iter().filter_map(|figure| Trial::of(figure, &load.summaries, &summary)).collect(),
        steps: errors(&load.steps),
        void: load.void,
        again: load.again,
        runs: load.runs,
        replayed: load.replayed,
        power,
    })
}

fn fidelity(
    args: &ValidateArgs,
    scenario: &Path,
    study: &Study,
    (device, watts): (&Device, &Watts),
    loads: Vec<Load<'_>>,
    slower: Vec<f64>,
) -> Result<Fidelity, Failure> {
    let first = &study.points()[0];
    let repeats = args.repeats.get();
    let points = loads.into_iter().map(|load| compared(load, study, watts)).collect::<Result<_, _>>()?;
    let mut command = format!("overbook validate {} {} --repeats {repeats}", quote(scenario), device.flags());
    if let Some(weights) = &args.device.weights {
        command.extend([" --weights ", &quote(weights)]);
    }
    for change in &args.set {
        command.extend([" --set ", &quote(Path::new(change))]);
    }
    let title = first.scenario.description.clone().unwrap_or_else(|| study.plan().name().to_owned());
    Ok(Fidelity {
        title,
        device: device.describe(),
        cost: calibration(first),
        calibrated: calibrated(first)?,
        slower,
        points,
        repeats,
        command,
        tool: TOOL.to_owned(),
        measured: utc(SystemTime::now()),
    })
}

/// What the step costs were fitted to, by hash.
fn calibrated(point: &Point) -> Result<Option<Calibrated>, Failure> {
    let CostSpec::Steps(steps) = &point.scenario.engine.cost else { return Ok(None) };
    let Some(profile) = point.step_profile().map_err(Failure::input)? else { return Ok(None) };
    let profile_blake3 = hash_file(&steps.path).map_err(|error| Failure::Run(anyhow::Error::new(error)))?;
    // What it says of its steps is believed only of the very file.
    let samples = steps.path.with_file_name(&profile.samples.file);
    let found = hash_file(&samples)
        .map_err(|error| Failure::Input(format!("{}: {error}; a profile needs its steps", samples.display())))?;
    if found != profile.samples.blake3 {
        return Err(Failure::Input(format!(
            "{}: not the steps that {} was fitted to",
            samples.display(),
            profile.name
        )));
    }
    let needs = point.scenario.scheduler.needs();
    let longest = point.limits().map_err(Failure::input)?.0.max_model_len;
    Ok(Some(Calibrated {
        profile: profile.name.clone(),
        profile_blake3,
        samples_blake3: profile.samples.blake3.clone(),
        seed: profile.samples.seed,
        outside: profile.outside(needs.max_seqs, needs.step_tokens.at(longest), longest),
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
