//! `overbook kv`: eviction policies on recorded accesses, beside their bound.

mod args;
mod table;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use overbook::kv::{CacheStudy, CacheTable, Candidate};
use overbook_scenarios::yaml::{self, SourceId};
use overbook_sim::check::Check;
use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::kv::replay::CacheReplayError;

use crate::cli::Globals;
use crate::output::{DONE, Failure, INTERRUPTED, note, print, shows_progress};
use crate::place;
use crate::trace::again::Again;
use crate::trace::aside;
use crate::watch::{Display, catch_interrupts};

pub(crate) use args::KvCommand;
use args::KvReplayArgs;

pub(crate) fn run(command: &KvCommand, globals: &Globals) -> Result<u8, Failure> {
    match command {
        KvCommand::Replay(args) => replay(args, globals),
    }
}

fn replay(args: &KvReplayArgs, globals: &Globals) -> Result<u8, Failure> {
    let policies = candidates(&args.policies)?;
    let seed = args.source.seed.unwrap_or(0);
    let study = CacheStudy { policies, sizes: args.sizes.clone(), seed, jobs: args.jobs };
    let cancel = catch_interrupts();
    let source = Again::new(&args.source, args.block_tokens, globals)?;
    // What is wrong with the source is said before anything is made.
    drop(source.open()?);
    let made = args.out.as_deref().map(|out| begin(out, args.force)).transpose()?;
    let display = Display::new(!globals.quiet && shows_progress(), None);
    let again = || source.open().map_err(|failure| CacheReplayError::Workload(told(failure).into()));
    let table = study.run(&again, &cancel, &mut |requests, of| display.read(requests, of));
    display.finish();
    let table = match table {
        Ok(Some(table)) => table,
        failed => {
            if let (Some(out), Some(true)) = (&args.out, made) {
                // It is empty: nothing was written yet.
                let _ = fs::remove_dir(out);
            }
            failed.map_err(|error| Failure::Input(source.told(&format!("{}{error}", place_of(args, &error)))))?;
            note("interrupted: a bound needs the whole trace; nothing was written");
            return Ok(INTERRUPTED);
        }
    };
    let document = table::json(&table);
    if let Some(out) = &args.out {
        write(out, &table, &document)?;
    }
    print(&if args.json { document } else { table::text(&table) })?;
    Ok(DONE)
}

/// Errors of readers name their file; the others are of the whole trace.
fn place_of(args: &KvReplayArgs, error: &CacheReplayError) -> String {
    match error {
        CacheReplayError::Workload(_) => String::new(),
        _ => format!("{}: ", args.source.source.display()),
    }
}

fn told(failure: Failure) -> String {
    match failure {
        Failure::Input(message) | Failure::Scenario(message) => message,
        Failure::Run(error) => format!("{error:#}"),
        Failure::Interrupted => "interrupted".to_owned(),
    }
}

/// The policies that are named, each once; all that suit the trace, if none is. Belady's is the bound, and needs no name.
fn candidates(named: &[String]) -> Result<Vec<Candidate>, Failure> {
    let all: Vec<EvictionSpec> =
        EvictionSpec::defaults().into_iter().filter(|policy| *policy != EvictionSpec::Belady).collect();
    if named.is_empty() {
        return Ok(all.into_iter().map(|policy| Candidate { policy, required: false }).collect());
    }
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut add = |policy: EvictionSpec, required: bool| match candidates.iter_mut().find(|one| one.policy == policy) {
        Some(there) => there.required |= required,
        None => candidates.push(Candidate { policy, required }),
    };
    for text in named {
        let meant: Vec<&EvictionSpec> =
            all.iter().filter(|policy| policy.name() == text || policy.label() == *text).collect();
        match meant.as_slice() {
            [] if text == EvictionSpec::Belady.name() => {}
            [] => add(policy(text)?, true),
            [one] => add((*one).clone(), true),
            // A name that stands for several: those that suit the trace are meant.
            several => several.iter().for_each(|&policy| add(policy.clone(), false)),
        }
    }
    Ok(candidates)
}

/// A policy with settings, as a scenario would say it.
fn policy(text: &str) -> Result<EvictionSpec, Failure> {
    let refused = |what: &str| Failure::Input(format!("--policy {text}: {what}"));
    let (tree, mut faults) = yaml::parse(SourceId::default(), text);
    let decoded = tree.map(|tree| yaml::decode::<EvictionSpec>(&tree));
    let mut policy = None;
    if let Some(decoded) = decoded {
        policy = decoded.value;
        faults.extend(decoded.faults);
    }
    if let Some(fault) = faults.first() {
        let help = fault.detail.help().map(|help| format!("; {help}")).unwrap_or_default();
        return Err(refused(&format!("{}{help}", fault.detail)));
    }
    let policy = policy.ok_or_else(|| refused("is empty; name a policy"))?;
    let mut problems = Vec::new();
    policy.check(&mut Check::new("", &mut problems));
    match problems.first() {
        None => Ok(policy),
        Some((path, message)) => Err(refused(&format!("`{path}` {message}"))),
    }
}

const FILES: [&str; 2] = ["kv-replay.csv", "kv-replay.json"];

/// Makes the folder for results, and refuses to replace any unless that is wanted. Whether the folder is new.
fn begin(out: &Path, force: bool) -> Result<bool, Failure> {
    let new = !out.exists();
    place::folder(out)?;
    for name in FILES {
        place::file(&out.join(name), force)?;
    }
    Ok(new)
}

fn write(out: &Path, table: &CacheTable, document: &str) -> Result<(), Failure> {
    for (name, text) in FILES.iter().zip([table::csv(table), format!("{document}\n")]) {
        let path = out.join(name);
        aside::write(&path, |aside| {
            fs::write(aside, &text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(())
        })?;
    }
    note(&format!("written to {}", out.display()));
    Ok(())
}
