//! `overbook sweep`: the points of a study in shards, by several processes or machines.

mod args;
mod launch;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use overbook::shards::{Origin, Plan, Shard, ShardError, Shards};
use overbook::study::Asked;
use overbook::{Options, Status, Study, estimate};
use overbook_reports::manifest::Start;

use crate::check;
use crate::cli::{Globals, ScenarioArgs};
use crate::output::{DONE, Failure, GATE_FAILED, INTERRUPTED, note, print};
use crate::place;
use crate::run::command_of;
use crate::study::{Told, finish};
use crate::watch::catch_interrupts;
use args::{MergeArgs, PlanArgs, RunArgs, ShardArg, StatusArgs};

pub(crate) use args::SweepCommand;

/// Variables in which clusters tell a task its number, and the number of the first one.
const NUMBERED: [(&str, usize); 2] = [("SLURM_ARRAY_TASK_ID", 1), ("JOB_COMPLETION_INDEX", 0)];

pub(crate) fn run(command: &SweepCommand, globals: &Globals) -> Result<u8, Failure> {
    match command {
        SweepCommand::Plan(args) => plan(args, globals),
        SweepCommand::Run(args) => shard(args, globals),
        SweepCommand::Status(args) => status(args),
        SweepCommand::Merge(args) => merge(args, globals),
        SweepCommand::Launch(args) => launch::run(args, globals),
    }
}

fn plan(args: &PlanArgs, globals: &Globals) -> Result<u8, Failure> {
    let study = check::load(&args.scenario, globals)?;
    check::requests(&study, globals)?;
    if !study.plan().is_sweep() {
        return Err(Failure::Input(
            "the scenario is a single run: give it a `sweep:`, or run it with `overbook run`".to_owned(),
        ));
    }
    let origin = Origin {
        folder: env::current_dir().map_err(anyhow::Error::new)?,
        scenario: args.scenario.scenario.clone(),
        set: args.scenario.set.clone(),
        seed: args.scenario.seed,
    };
    let plan = Plan::of(&study, origin, &binary()?).map_err(|error| failure(error, globals))?;
    let new = plan.write(&args.out).map_err(|error| failure(error, globals))?;
    for (number, point) in (1..).zip(&plan.points) {
        print(&format!("{number:>5}  {}  {}", &point.id[..16], point.at))?;
    }
    print(&format!("plan: {} ({} points)", args.out.display(), plan.points.len()))?;
    if !new && !globals.quiet {
        note("note: the same plan was there already; its parts stay");
    }
    if !args.no_estimate && !globals.quiet {
        let options = Options { jobs: std::num::NonZeroUsize::new(1), ..Options::default() };
        let estimate = estimate::estimate(&study, &options, false).map_err(|error| Failure::of(error, globals))?;
        note(&format!("all points, one after the other: {estimate}"));
    }
    Ok(DONE)
}

fn shard(args: &RunArgs, globals: &Globals) -> Result<u8, Failure> {
    let binary = binary()?;
    let dir = absolute(&args.dir)?;
    let shards = Shards::open(&dir, &binary).map_err(|error| failure(error, globals))?;
    let shard = match args.shard {
        None => Shard::All,
        Some(ShardArg::Given(shard)) => shard,
        Some(ShardArg::Auto(of)) => Shard::One { number: own_number()?, of },
    };
    // A wrong shard is told before the scenario is read.
    shards.chosen(shard).map_err(|error| failure(error, globals))?;
    let study = planned(&shards, globals)?;
    let start = Start::now();
    let options = Options { jobs: args.jobs, cancel: catch_interrupts(), ..Options::default() };
    let of = shards.plan().points.len();
    let ran = shards.run(&study, shard, &options, &|number| {
        if !globals.quiet && !args.no_progress {
            note(&format!("point {number} of {of} done"));
        }
    });
    let ran = ran.map_err(|error| failure(error, globals))?;
    ran.replaced.iter().for_each(|why| note(&format!("note: {why}: run again")));
    print(&format!("{} points: {} were done before, {} run", ran.points, ran.before, ran.now))?;
    if !globals.quiet {
        note(&format!("{:.2} CPU s", start.cpu_s().unwrap_or(f64::NAN)));
    }
    if !ran.refused.is_empty() {
        let failure = Failure::of(study.refused(ran.refused, None), globals);
        failure.tell();
        note("the other points are kept");
        return Ok(failure.code());
    }
    Ok(if options.cancel.is_cancelled() { INTERRUPTED } else { DONE })
}

fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let plan = Plan::read(&args.dir).map_err(Failure::input)?;
    // Whoever looks at a study may have another program than those that run it.
    let binary = plan.binary;
    let shards = Shards::open(&args.dir, &binary).map_err(Failure::input)?;
    let progress = shards.progress().map_err(Failure::input)?;
    if args.json {
        let corrupt: Vec<_> =
            progress.corrupt.iter().map(|(number, why)| serde_json::json!({ "point": number, "why": why })).collect();
        let document = serde_json::json!({
            "points": progress.points,
            "done": progress.done,
            "missing": progress.missing,
            "damaged": corrupt,
            "foreign": progress.foreign,
            "left_by_killed": progress.left,
        });
        print(&serde_json::to_string_pretty(&document).map_err(anyhow::Error::new)?)?;
    } else {
        print(&progress.to_string())?;
        if progress.left > 0 {
            note(&format!(
                "note: {} unfinished files of processes that run now or were killed; they count for nothing",
                progress.left
            ));
        }
    }
    Ok(if progress.is_complete() { DONE } else { GATE_FAILED })
}

fn merge(args: &MergeArgs, globals: &Globals) -> Result<u8, Failure> {
    let binary = binary()?;
    let dir = absolute(&args.dir)?;
    let out = match &args.out {
        Some(out) => absolute(out)?,
        None => dir.join("results"),
    };
    let shards = Shards::open(&dir, &binary).map_err(|error| failure(error, globals))?;
    let study = planned(&shards, globals)?;
    let start = Start::now();
    let records = match shards.merged(&study) {
        Err(ShardError::Incomplete(told)) => {
            note(&format!("error: {told}\nrun the missing points with `overbook sweep run {}`", args.dir.display()));
            return Ok(GATE_FAILED);
        }
        merged => merged.map_err(|error| failure(error, globals))?,
    };
    let run_dir = place::run_dir(&out, args.force)?;
    let asked = Asked { metrics: &Asked::SWEEP, command: command_of(&scenario(shards.plan())), by_load: false };
    let told = Told { json: args.json, gate: args.gate, no_report: args.no_report };
    debug_assert!(records.points.iter().flatten().all(|record| record.status != Status::Interrupted));
    finish(&study, &records, &asked, (run_dir, start), &told, None)
}

/// The study of a plan, from the scenario as it is now. Relative paths start where it was planned.
fn planned(shards: &Shards<'_>, globals: &Globals) -> Result<Study, Failure> {
    let folder = &shards.plan().folder;
    env::set_current_dir(folder).map_err(|error| {
        Failure::Input(format!(
            "the study was planned in {}, which cannot be entered here: {error}. Every machine needs the scenario under the same path",
            folder.display()
        ))
    })?;
    check::load(&scenario(shards.plan()), &Globals { quiet: true, ..*globals })
}

fn scenario(plan: &Plan) -> ScenarioArgs {
    ScenarioArgs { scenario: plan.scenario.clone(), set: plan.set.clone(), seed: plan.seed }
}

/// The number of this task, from 1, as the cluster tells it.
fn own_number() -> Result<usize, Failure> {
    let told = NUMBERED.iter().find_map(|(name, first)| Some((name, first, env::var(name).ok()?)));
    let Some((name, first, text)) = told else {
        let names = NUMBERED.map(|(name, _)| name).join(" nor ");
        return Err(Failure::Input(format!("--shard auto: neither {names} is set; say which shard, e.g. --shard 2/5")));
    };
    let number = text.parse::<usize>().ok().and_then(|number| number.checked_sub(*first)?.checked_add(1));
    number.ok_or_else(|| Failure::Input(format!("--shard auto: {name} is `{text}`, not a number from {first} on")))
}

/// BLAKE3 of this program, in hex.
fn binary() -> Result<String, Failure> {
    let path = env::current_exe().map_err(anyhow::Error::new)?;
    let mut hasher = blake3::Hasher::new();
    let read = File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    read.map_err(|error| anyhow::Error::new(error).context(format!("cannot read {}", path.display())))?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))
}

fn failure(error: ShardError, globals: &Globals) -> Failure {
    match error {
        ShardError::Study(error) => Failure::of(error, globals),
        ShardError::Refused(_) => Failure::input(error),
        error @ (ShardError::Io { .. } | ShardError::Incomplete(_)) => Failure::Run(anyhow::Error::new(error)),
    }
}

/// Writes a small file into a folder that is made.
fn written(path: &Path, text: &str) -> Result<(), Failure> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    made.map_err(|error| Failure::Run(anyhow::Error::new(error).context(format!("cannot write {}", path.display()))))
}
