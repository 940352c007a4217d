//! `overbook trace`: what is in a trace, requests as a trace file, generators fitted to a trace.

pub(crate) mod again;
pub(crate) mod aside;
pub(crate) mod columns;
mod fit;
pub(crate) mod source;
mod table;

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use overbook_reports::report::{left_out, put_in_order};
use overbook_sim::workload::arrival::Workload;
use overbook_traces::{Bounded, ExportError, Extra, Layout, burstiness, write_requests};

use crate::cli::{Drop, Globals, TraceArgs, TraceCommand};
use crate::output::{DONE, Failure, note, print};
use crate::place;
use source::Requests;

pub(crate) fn run(command: &TraceCommand, globals: &Globals) -> Result<u8, Failure> {
    match command {
        TraceCommand::Stats { source, by } if by.is_empty() => stats(source, globals)?,
        TraceCommand::Stats { source, by } => table::groups(Requests::open(source, globals)?, by)?,
        TraceCommand::Fit(args) => fit::run(args, globals)?,
        TraceCommand::Convert { source, out, requests, duration, drop, force } => {
            let layout = Layout::of(out).ok_or_else(|| {
                Failure::Input(format!("{}: the name must end in .csv, .jsonl or .parquet", out.display()))
            })?;
            place::file(out, *force)?;
            let duration = duration.map(|duration| duration.0);
            let workload = source::bounded(source, (*requests, duration), globals)?;
            let mut workload = Bounded::new(workload, *requests, duration);
            let drop: Vec<Extra> = drop.iter().map(|&what| extra(what)).collect();
            let written = aside::write(out, |path| write(&mut workload, layout, &drop, path))?;
            note(&format!("{written} requests written to {}", out.display()));
            tell_left_out(&workload.rows());
        }
    }
    Ok(DONE)
}

fn stats(source: &TraceArgs, globals: &Globals) -> Result<(), Failure> {
    let mut workload = Requests::read_on(source, globals)?;
    let stats = burstiness(&mut *workload).map_err(Failure::input)?;
    tell_left_out(&workload.rows());
    let Some(mut recorded) = source::recorded(source, globals)? else { return print(&stats.to_string()) };
    let before = burstiness(&mut *recorded).map_err(Failure::input)?;
    print(&format!("as recorded\n{before}\nas played\n{stats}"))
}

fn extra(what: Drop) -> Extra {
    match what {
        Drop::Ids => Extra::Ids,
        Drop::Sessions => Extra::Sessions,
        Drop::Priorities => Extra::Priorities,
        Drop::Elapsed => Extra::Elapsed,
    }
}

/// Rows that are not among the requests.
fn tell_left_out(rows: &[(&'static str, u64)]) {
    let left_out = left_out(rows);
    if !left_out.is_empty() {
        note(&format!("left out of the trace: {left_out}"));
    }
    let sorted = put_in_order(rows);
    if !sorted.is_empty() {
        note(&format!("sorted: {sorted}"));
    }
}

fn write(workload: &mut dyn Workload, layout: Layout, drop: &[Extra], path: &Path) -> Result<u64, Failure> {
    let about = || format!("cannot write {}", path.display());
    let file = File::create(path).with_context(about)?;
    write_requests(workload, layout, drop, file).map_err(|error| match error {
        ExportError::Workload(error) => Failure::input(error),
        error @ (ExportError::Loses { .. } | ExportError::LineTooLong { .. }) => Failure::input(error),
        error => Failure::Run(anyhow::Error::new(error).context(about())),
    })
}
