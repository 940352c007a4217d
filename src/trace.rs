//! `overbook trace`: what is in a trace, and requests as a trace file.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Context as _;
use overbook_scenarios::Study;
use overbook_sim::arrival::Workload;
use overbook_traces::{ExportError, Layout, TraceSpec, burstiness, write_requests};

use crate::check::load;
use crate::cli::{Globals, ScenarioArgs, TraceArgs, TraceCommand};
use crate::output::{DONE, Failure, note, print};

pub(crate) fn run(command: &TraceCommand, globals: &Globals) -> Result<u8, Failure> {
    match command {
        TraceCommand::Stats(args) => {
            let mut workload = open(args, globals)?;
            let stats = burstiness(&mut *workload).map_err(Failure::input)?;
            let Some(mut recorded) = recorded(args, globals)? else { return print(&stats.to_string()).map(|()| DONE) };
            let before = burstiness(&mut *recorded).map_err(Failure::input)?;
            print(&format!("as recorded\n{before}\nas played\n{stats}"))?;
        }
        TraceCommand::Convert { source, out, force } => {
            if out.exists() && !force {
                return Err(Failure::Input(format!("{} exists already; use --force to replace it", out.display())));
            }
            let layout = Layout::of(out).ok_or_else(|| {
                Failure::Input(format!("{}: the name must end in .csv, .jsonl or .parquet", out.display()))
            })?;
            let mut workload = open(source, globals)?;
            let requests = convert(&mut *workload, layout, out)?;
            note(&format!("{requests} requests written to {}", out.display()));
        }
    }
    Ok(DONE)
}

/// The requests of a trace file, or of a scenario's workload.
fn open(args: &TraceArgs, globals: &Globals) -> Result<Box<dyn Workload>, Failure> {
    if !is_scenario(&args.source) {
        return TraceSpec::new(&args.source).open().map_err(Failure::input);
    }
    study(args, globals)?.points()[0].workload().map_err(Failure::input)
}

fn is_scenario(source: &Path) -> bool {
    source.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
}

fn study(args: &TraceArgs, globals: &Globals) -> Result<Study, Failure> {
    load(&ScenarioArgs { scenario: args.source.clone(), set: args.set.clone(), seed: None }, globals)
}

/// The requests of a scenario's trace as the file has them, if the scenario plays them in another way.
fn recorded(args: &TraceArgs, globals: &Globals) -> Result<Option<Box<dyn Workload>>, Failure> {
    if !is_scenario(&args.source) {
        return Ok(None);
    }
    study(args, globals)?.points()[0].recorded().map_err(Failure::input)
}

/// Writes the requests aside and moves the file into place at the end.
fn convert(workload: &mut dyn Workload, layout: Layout, out: &Path) -> Result<u64, Failure> {
    let partial = out.with_extension(format!("partial-{}", std::process::id()));
    let written = write(workload, layout, &partial).and_then(|requests| {
        fs::rename(&partial, out).with_context(|| format!("cannot write {}", out.display()))?;
        Ok(requests)
    });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write(workload: &mut dyn Workload, layout: Layout, path: &Path) -> Result<u64, Failure> {
    let about = || format!("cannot write {}", path.display());
    let file = File::create(path).with_context(about)?;
    write_requests(workload, layout, file).map_err(|error| match error {
        ExportError::Workload(error) => Failure::input(error),
        error => Failure::Run(anyhow::Error::new(error).context(about())),
    })
}
