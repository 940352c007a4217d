//! `overbook validate`: simulate measured runs of real engines, and compare every published figure.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use overbook_reports::validation::{
    Curve, JudgedRun, MissedRun, Observed, Validation, validation_csv, validation_html, validation_json,
    validation_text,
};
use overbook_scenarios::Source;
use overbook_scenarios::measured::{Imitation, MeasuredRun};
use overbook_sim::cluster::Cluster;
use overbook_sim::rows::{Outcome, RecordError, Recorder, RequestRow, StepRow};

use crate::cli::{Globals, ValidateArgs};
use crate::facts;
use crate::fidelity;
use crate::output::{DONE, Failure, note, print};
use crate::run::quote;

/// A run, simulated or not.
enum Judged {
    Run(Box<JudgedRun>, String),
    Missed(MissedRun),
}

pub(crate) fn run(args: &ValidateArgs, globals: &Globals) -> Result<u8, Failure> {
    let measured = match (&args.scenario, &args.measured) {
        (Some(scenario), _) => return fidelity::run(args, scenario, globals),
        (None, Some(measured)) => measured,
        (None, None) => return Err(Failure::Input("name a scenario, or a folder with --measured".into())),
    };
    let mut runs = MeasuredRun::read(measured).map_err(Failure::input)?;
    let wanted = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|one| one == value);
    runs.retain(|run| wanted(&args.set, run.text("set")) && wanted(&args.run, run.id()));
    runs.retain(|run| wanted(&args.quality, run.text("quality")));
    if runs.is_empty() {
        return Err(Failure::Input(format!("{}: no such runs", measured.display())));
    }
    let training = args.training.as_ref().map(|path| training(path, &runs)).transpose()?;
    let judged = judge_all(&runs, &changes(&args.change)?);
    let mut validation = Validation { tool: facts::TOOL.to_owned(), command: command(args), ..Validation::default() };
    let mut scenarios = Vec::new();
    for judged in judged {
        match judged {
            Judged::Run(mut run, scenario) => {
                run.training = training.as_ref().map(|training| training.contains(&run.id));
                scenarios.push((run.id.clone(), scenario));
                validation.runs.push(*run);
            }
            Judged::Missed(run) => validation.missed.push(run),
        }
    }
    if let Some(out) = &args.out {
        write(out, &validation, &scenarios)?;
        if !globals.quiet {
            note(&format!("results: {}", out.display()));
        }
    }
    print(&if args.json { validation_json(&validation) } else { validation_text(&validation) })?;
    Ok(DONE)
}

/// Changes to every scenario: path and value.
fn changes(args: &[String]) -> Result<Vec<(&str, &str)>, Failure> {
    let split = |change: &String| Failure::Input(format!("--change {change}: expected PATH=VALUE"));
    args.iter().map(|change| change.split_once('=').ok_or_else(|| split(change))).collect()
}

/// Ids of the training runs.
fn training(path: &Path, runs: &[MeasuredRun]) -> Result<Vec<String>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim()).filter(|line| !line.is_empty());
    let ids: Vec<String> = lines.map(str::to_owned).collect();
    if !ids.is_empty() && !runs.iter().any(|run| ids.iter().any(|id| id == run.id())) {
        note(&format!("{}: none of these runs is among those simulated", path.display()));
    }
    Ok(ids)
}

fn command(args: &ValidateArgs) -> String {
    let mut words = vec!["overbook validate".to_owned()];
    words.extend(args.measured.iter().map(|measured| format!("--measured {}", quote(measured))));
    for (flag, values) in
        [("--set", &args.set), ("--run", &args.run), ("--quality", &args.quality), ("--change", &args.change)]
    {
        words.extend(values.iter().map(|value| format!("{flag} {}", quote(Path::new(value)))));
    }
    words.extend(args.training.iter().map(|path| format!("--training {}", quote(path))));
    words.join(" ")
}

fn write(out: &Path, validation: &Validation, scenarios: &[(String, String)]) -> Result<(), Failure> {
    let folder = out.join("scenarios");
    let context = |error| Failure::Run(anyhow::Error::new(error).context(format!("cannot write {}", out.display())));
    fs::create_dir_all(&folder).map_err(context)?;
    fs::write(out.join("validation.json"), validation_json(validation)).map_err(context)?;
    fs::write(out.join("validation.csv"), validation_csv(validation)).map_err(context)?;
    let page = validation_html(validation).map_err(anyhow::Error::new)?;
    fs::write(out.join("validation.html"), page).map_err(context)?;
    for (id, scenario) in scenarios {
        fs::write(folder.join(format!("{id}.yaml")), scenario).map_err(context)?;
    }
    Ok(())
}

/// All runs, in their order, on all processors.
fn judge_all(runs: &[MeasuredRun], changes: &[(&str, &str)]) -> Vec<Judged> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(run) = runs.get(index) else { break };
                    let judged = judge(run, changes);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, judged));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, judged)| judged).collect()
}

fn judge(run: &MeasuredRun, changes: &[(&str, &str)]) -> Judged {
    match imitated(run, changes) {
        Ok((judged, scenario)) => Judged::Run(Box::new(judged), scenario),
        Err(missing) => Judged::Missed(MissedRun {
            id: run.id().to_owned(),
            set: run.text("set").to_owned(),
            quality: run.text("quality").to_owned(),
            missing,
        }),
    }
}

/// Simulates a run by the scenario as it is written down, as a user would; or tells what is missing.
fn imitated(run: &MeasuredRun, changes: &[(&str, &str)]) -> Result<(JudgedRun, String), String> {
    let imitation = run.scenario().map_err(|gap| gap.to_string())?;
    let text = imitation.scenario.to_yaml();
    let mut source = Source::from_text(run.id(), &text);
    for (path, value) in changes {
        source.set(path.trim(), value);
    }
    let study = source.resolve().map_err(|problems| {
        let first = problems.list().first().map_or_else(String::new, |problem| problem.message.clone());
        format!("its scenario is refused: {first}")
    })?;
    let point = &study.points()[0];
    let cluster = Cluster::new(point.cluster().map_err(|error| error.to_string())?);
    let mut cost = point.cost().map_err(|error| error.to_string())?;
    let mut workload = point.workload().map_err(|error| error.to_string())?;
    let mut rows = Requests::default();
    let result = cluster
        .and_then(|cluster| cluster.run(&mut *workload, &mut *cost, &mut rows, &mut |_| true))
        .map_err(|error| error.to_string())?;
    let blocks = result.summary.fleet.blocks;
    let observed = Observed { result: &result, rows: &rows.0, blocks, steady: imitation.steady };
    Ok((compared(run, &imitation, &observed), point.scenario.to_yaml()))
}

fn compared(run: &MeasuredRun, imitation: &Imitation, observed: &Observed<'_>) -> JudgedRun {
    let text = |column: &str| run.text(column).to_owned();
    let overload = run.text("load_class").starts_with("overload");
    let arrivals = overload.then(|| run.ttft_by_arrival()).flatten();
    let measured: Option<Curve> = run.running_over_time();
    JudgedRun {
        id: run.id().to_owned(),
        set: text("set"),
        engine: format!("{} {}", run.text("engine"), run.text("engine_version")),
        gpu: text("gpu"),
        model: text("model"),
        load: text("load_class"),
        quality: text("quality"),
        training: None,
        assumptions: imitation.assumptions.clone(),
        pairs: observed.pairs(&|metric| run.figure(metric), arrivals.as_deref()),
        running: measured.map(|measured| (measured, observed.running())),
    }
}

/// Keeps the finished requests.
#[derive(Default)]
struct Requests(Vec<RequestRow>);

impl Recorder for Requests {
    fn request(&mut self, row: &RequestRow) -> Result<(), RecordError> {
        if row.outcome == Outcome::Finished {
            self.0.push(row.clone());
        }
        Ok(())
    }

    fn step(&mut self, _: &StepRow) -> Result<(), RecordError> {
        Ok(())
    }

    fn wants_steps(&self) -> bool {
        false
    }
}
