//! `overbook trace`: what is in a trace, requests as a trace file, generators fitted to a trace.

mod aside;
mod columns;
mod fit;
mod source;
mod table;

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use overbook_sim::workload::arrival::Workload;
use overbook_traces::{Bounded, ExportError, Layout, burstiness, write_requests};

use crate::cli::{Globals, TraceArgs, TraceCommand};
use crate::output::{DONE, Failure, note, print};
use crate::place;
use source::Requests;

pub(crate) fn run(command: &TraceCommand, globals: &Globals) -> Result<u8, Failure> {
    match command {
        TraceCommand::Stats { source, by } if by.is_empty() => stats(source, globals)?,
        TraceCommand::Stats { source, by } => table::groups(Requests::open(source, globals)?, by)?,
        TraceCommand::Fit(args) => fit::run(args, globals)?,
        TraceCommand::Convert { source, out, requests, duration, force } => {
            let layout = Layout::of(out).ok_or_else(|| {
                Failure::Input(format!("{}: the name must end in .csv, .jsonl or .parquet", out.display()))
            })?;
            place::file(out, *force)?;
            let duration = duration.map(|duration| duration.0);
            let workload = source::bounded(source, (*requests, duration), globals)?;
            let mut workload = Bounded::new(workload, *requests, duration);
            let written = aside::write(out, |path| write(&mut workload, layout, path))?;
            note(&format!("{written} requests written to {}", out.display()));
        }
    }
    Ok(DONE)
}

fn stats(source: &TraceArgs, globals: &Globals) -> Result<(), Failure> {
    let mut workload = Requests::open(source, globals)?.into_workload();
    let stats = burstiness(&mut *workload).map_err(Failure::input)?;
    let Some(mut recorded) = source::recorded(source, globals)? else { return print(&stats.to_string()) };
    let before = burstiness(&mut *recorded).map_err(Failure::input)?;
    print(&format!("as recorded\n{before}\nas played\n{stats}"))
}

fn write(workload: &mut dyn Workload, layout: Layout, path: &Path) -> Result<u64, Failure> {
    let about = || format!("cannot write {}", path.display());
    let file = File::create(path).with_context(about)?;
    write_requests(workload, layout, file).map_err(|error| match error {
        ExportError::Workload(error) => Failure::input(error),
        error => Failure::Run(anyhow::Error::new(error).context(about())),
    })
}
