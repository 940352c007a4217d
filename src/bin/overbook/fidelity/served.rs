//! `overbook validate SCENARIO --url`: the scenario's requests against a running server, again and again, and simulated with a profile of that server.

use std::path::Path;
use std::time::{Duration, SystemTime};

use overbook::{Point, Study, TOOL};
use overbook_engine::client::probe::{ProbeError, anchors};
use overbook_engine::client::{Replayed, Server};
use overbook_reports::fidelity::{
    Fidelity, FidelityPoint, Finding, Power, SERVED, Trial, fidelity_json, fidelity_text,
};
use overbook_reports::manifest::{Start, utc};
use overbook_scenarios::facts::calibration;
use overbook_sim::calibrate::StepProfile;
use overbook_sim::results::summary::Summary;

use super::{AGAIN, calibrated, name, simulated_summary, write};
use crate::check::load;
use crate::cli::{Globals, ScenarioArgs, ValidateArgs};
use crate::facts;
use crate::infer;
use crate::output::{DONE, Failure, GATE_FAILED, INTERRUPTED, note, print, shows_progress};
use crate::place;
use crate::replay::replayed;
use crate::run::quote;
use crate::watch::{Display, catch_interrupts, interrupted};

/// Times that the anchors are probed before every run.
const LOOKS: u32 = 2;

/// A load and what its runs gave.
struct Load<'a> {
    point: &'a Point,
    void: Vec<String>,
    again: usize,
    summaries: Vec<Summary>,
}

/// What the runs of all loads gave.
struct Judged<'a> {
    loads: Vec<Load<'a>>,
    version: String,
    /// How much slower the server was at each look.
    slower: Vec<f64>,
}

pub(crate) fn run(args: &ValidateArgs, scenario: &Path, url: &str, globals: &Globals) -> Result<u8, Failure> {
    let start = Start::now();
    let study = with_client_time(args, scenario, globals)?;
    let first = &study.points()[0];
    let profile = profile(first, scenario, url)?;
    let server = args.ask.server(url, first)?;
    let dir = args.out.as_ref().map(|out| place::run_dir(out, args.force)).transpose()?;
    catch_interrupts();
    let Some(Judged { loads, version, slower }) = measured(args, &study, &server, &profile, globals)? else {
        note("interrupted: a comparison needs all its runs");
        return Ok(INTERRUPTED);
    };
    let points = loads.into_iter().map(|load| compared(load, &study)).collect::<Result<_, _>>()?;
    let fidelity = Fidelity {
        title: first.scenario.description.clone().unwrap_or_else(|| study.plan().name().to_owned()),
        device: format!("{}, {version}, as its client hears it", server.target),
        cost: calibration(first),
        calibrated: calibrated(first)?,
        slower,
        points,
        repeats: args.repeats.get(),
        command: command(args, scenario, url),
        tool: TOOL.to_owned(),
        measured: utc(SystemTime::now()),
    };
    let failed = args.gate && fidelity.finding() != Finding::Passed;
    let code = if failed { GATE_FAILED } else { DONE };
    let kept = dir.map_or(Ok(()), |dir| {
        write(&dir, &study, &fidelity)?;
        let traces = first.scenario.workload.files();
        let plan = (study.plan().plan_hash(), first.scenario.seed);
        let complete = (overbook_reports::Status::Complete, code);
        let manifest = start.manifest(&facts::BUILD, facts::open_command(), plan, &traces, complete);
        dir.finish(&manifest).map(drop).map_err(|error| Failure::Run(anyhow::Error::new(error)))
    });
    print(&if args.json { fidelity_json(&fidelity) } else { fidelity_text(&fidelity) })?;
    kept.map(|()| code)
}

/// The scenario; where it states no time of the client, with the one that the profile found.
fn with_client_time(args: &ValidateArgs, scenario: &Path, globals: &Globals) -> Result<Study, Failure> {
    let mut asked = ScenarioArgs { scenario: scenario.to_owned(), set: args.set.clone(), seed: None };
    let study = load(&asked, globals)?;
    let first = &study.points()[0];
    let found = first.step_profile().map_err(Failure::input)?.and_then(|profile| profile.client_time);
    let (None, Some(time)) = (&first.scenario.workload.client_time, found) else { return Ok(study) };
    note(&format!("workload.client_time is the profile's, {time}"));
    asked.set.push(format!("workload.client_time={{ base: {time} }}"));
    load(&asked, globals)
}

/// The profile that the scenario's costs come from.
fn profile(point: &Point, scenario: &Path, url: &str) -> Result<StepProfile, Failure> {
    point.step_profile().map_err(Failure::input)?.ok_or_else(|| {
        let scenario = quote(scenario);
        Failure::Input(format!(
            "a server is compared with a profile of it, and the scenario has other costs: \
             `overbook calibrate {scenario} --url {url} --out steps.yaml`, then --set 'engine.cost={{ steps: {{ path: steps.yaml }} }}'"
        ))
    })
}

/// All loads of a study against the server, round by round, the anchors before each; `None` if it was interrupted.
fn measured<'a>(
    args: &ValidateArgs,
    study: &'a Study,
    server: &Server,
    profile: &StepProfile,
    globals: &Globals,
) -> Result<Option<Judged<'a>>, Failure> {
    let fresh = |point| Load { point, void: Vec::new(), again: 0, summaries: Vec::new() };
    let mut loads: Vec<Load<'_>> = study.points().iter().map(fresh).collect();
    let (mut slower, mut version) = (Vec::new(), None);
    let repeats = args.repeats.get();
    for round in 0..repeats {
        for load in &mut loads {
            if !globals.quiet {
                note(&format!("run {} of {repeats}: {}", round + 1, name(load.point, study)));
            }
            for attempt in 0..=AGAIN {
                let Some(speed) = look(load.point, server, profile)? else { return Ok(None) };
                slower.extend(speed);
                let Some(replayed) = once(load.point, server, globals)? else { return Ok(None) };
                version = replayed.found.version.clone().or(version);
                let void = replayed.void();
                if !void.is_empty() && attempt < AGAIN {
                    load.again += 1;
                    note(&format!("void, and made again: {}", void.join("; ")));
                    continue;
                }
                load.void.extend(void);
                load.summaries.push(replayed.result.summary);
                break;
            }
        }
    }
    if slower.is_empty() {
        note(&format!(
            "warning: whether the server is as fast as when {} was measured cannot be told: the profile has no anchors that this scenario's limits \
             allow; calibrate with this scenario",
            profile.name
        ));
    }
    let version = version.unwrap_or_else(|| "which does not tell its version".to_owned());
    Ok(Some(Judged { loads, version, slower }))
}

/// How much slower the server is than when it was measured; nothing if that cannot be told, `None` if it was interrupted.
fn look(point: &Point, server: &Server, profile: &StepProfile) -> Result<Option<Vec<f64>>, Failure> {
    if profile.anchors.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let plan = infer::plan(point, Duration::MAX, profile.samples.seed)?;
    match anchors(server, &plan, LOOKS, &mut || !interrupted()) {
        Ok(now) => Ok(Some(profile.slower(&now).into_iter().collect())),
        Err(ProbeError::Interrupted) => Ok(None),
        Err(error) => Err(Failure::Run(anyhow::Error::new(error))),
    }
}

/// One run of a load; `None` if it was interrupted.
fn once(point: &Point, server: &Server, globals: &Globals) -> Result<Option<Replayed>, Failure> {
    let spec = point.cluster().map_err(Failure::input)?;
    let display = Display::new(!globals.quiet && shows_progress(), point.scenario.workload.requests());
    let replayed = replayed(point, server, &spec, &display)?;
    display.finish();
    Ok((!replayed.result.interrupted && !interrupted()).then_some(replayed))
}

fn compared(load: Load<'_>, study: &Study) -> Result<FidelityPoint, Failure> {
    let spec = load.point.cluster().map_err(Failure::input)?;
    let (simulated, _) = simulated_summary(load.point, &spec)?;
    Ok(FidelityPoint {
        name: name(load.point, study),
        plan: load.point.plan_hash(),
        seed: load.point.scenario.seed,
        void: load.void,
        again: load.again,
        runs: Vec::new(),
        replayed: [0; 3],
        steps: Vec::new(),
        trials: SERVED.into_iter().filter_map(|figure| Trial::of(figure, &load.summaries, &simulated)).collect(),
        power: Power::NotMeasured("a server tells its client no watts".to_owned()),
    })
}

fn command(args: &ValidateArgs, scenario: &Path, url: &str) -> String {
    let mut command = format!("overbook validate {} --url {url} --repeats {}", quote(scenario), args.repeats);
    for (flag, value) in [("--model", &args.ask.model), ("--extra-body", &args.ask.extra_body)] {
        if let Some(value) = value {
            command.extend([" ", flag, " ", &quote(Path::new(value))]);
        }
    }
    for change in &args.set {
        command.extend([" --set ", &quote(Path::new(change))]);
    }
    command
}
