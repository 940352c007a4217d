//! `overbook calibrate`: kernel tables to a cost profile.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use overbook_reports::manifest::utc;
use overbook_scenarios::import::{Tool, import_profile};
use overbook_sim::calibrate::Profile;

use crate::aside::Aside;
use crate::cli::{CalibrateArgs, Globals, TableTool};
use crate::output::{DONE, Failure, note, print};
use crate::{infer, place, profile};

pub(crate) fn run(args: &CalibrateArgs, globals: &Globals) -> Result<u8, Failure> {
    let tool = match args.import {
        Some(TableTool::Aiconfigurator) => Tool::AiConfigurator,
        Some(TableTool::Vidur) => Tool::Vidur,
        None => match &args.url {
            // Conflicts on the command line hide what a flag requires.
            Some(_) if args.device.weights.is_some() || args.device.threads.is_some() => {
                return Err(Failure::Input(
                    "--weights and --threads are for --on; a server has its own: leave them out".into(),
                ));
            }
            Some(url) => return infer::run(args, url, globals),
            None if args.device.on.is_none() => {
                return Err(Failure::Input(
                    "calibrate measures the steps of a device or of a server: add --on cpu, --on cuda or --url URL; another tool's \
                     tables are taken with --import TOOL"
                        .into(),
                ));
            }
            None => return profile::run(args, globals),
        },
    };
    if let Some(out) = &args.out {
        place::file(out, args.force)?;
    }
    let now = utc(SystemTime::now());
    let today = now.get(..10).unwrap_or(&now);
    let imported = import_profile(tool, &args.source, args.gpu.as_deref(), args.select.as_deref(), today)
        .map_err(Failure::input)?;
    imported.notes.iter().for_each(|text| note(text));
    let Some(out) = &args.out else {
        // The profile is the result; its errors stand in it, and here for people.
        table(&imported.profile).lines().for_each(note);
        print(imported.to_yaml().trim_end())?;
        return Ok(DONE);
    };
    write(out, &imported.to_yaml(), args.force)?;
    print(&format!("{}\nwritten to {}", table(&imported.profile), out.display()))?;
    Ok(DONE)
}

/// Errors on rows held out, a line each.
fn table(profile: &Profile) -> String {
    let width = profile.residuals.iter().map(|residual| residual.operation.len()).max().unwrap_or(0);
    let mut text =
        format!("{} for {}\n{:<width$}  fitted  held out  median     p90", profile.name, profile.gpu, "operation");
    for residual in &profile.residuals {
        let _ = write!(
            text,
            "\n{:<width$}  {:>6}  {:>8}  {:>4.1} %  {:>4.1} %",
            residual.operation, residual.fitted, residual.held_out, residual.median_percent, residual.p90_percent
        );
    }
    let absent = profile.absent();
    if !absent.is_empty() {
        let _ = write!(text, "\nnot in the tables, stays the catalog's: {}", absent.join(", "));
    }
    text
}

/// Writes aside and renames: a profile is whole or not there.
fn write(out: &Path, yaml: &str, force: bool) -> Result<(), Failure> {
    place::file(out, force)?;
    let mut files = Aside::default();
    files.write(out, yaml)?;
    files.keep()
}
