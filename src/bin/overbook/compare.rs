//! `overbook compare`: one scenario with several policies, under several loads.

use std::path::Path;

use overbook::study::{Asked, LOADS};

use crate::check;
use crate::cli::{CompareArgs, Globals};
use crate::output::{Failure, note};
use crate::run::{command, dry_run, options, quote};
use crate::study;

pub(crate) fn run(args: &CompareArgs, globals: &Globals) -> Result<u8, Failure> {
    if args.run.device.on.is_some() {
        return Err(Failure::Input("compare simulates: leave out --on, or use `overbook validate --on`".into()));
    }
    let mut experiment = check::experiment(&args.run.scenario, globals)?;
    for over in &args.over {
        let Some((path, values)) = over.split_once('=') else {
            return Err(Failure::Input(format!(
                "--over {over}: expected PATH=VALUES, e.g. --over scheduler=vllm,orca"
            )));
        };
        experiment = experiment.vary(path.trim(), values);
    }
    if !args.load.is_empty() {
        experiment = experiment.vary_load(&args.load).map_err(|error| Failure::of(error, globals))?;
    }
    let study = check::resolved(&experiment, globals)?;
    check::requests(&study, globals)?;
    if args.run.dry_run {
        return dry_run(&study, &args.run, globals);
    }
    let on_trace = study.points()[0].coordinates.first().is_some_and(|(path, _)| path == "workload.trace.scale");
    if !args.load.is_empty() && on_trace && !globals.quiet {
        note(&format!("loads: {LOADS}"));
    }
    let over = args.over.iter().map(|over| format!(" --over {}", quote(Path::new(over))));
    let load = (!args.load.is_empty()).then(|| format!(" --load {}", args.load.join(",")));
    let words: String = over.chain(load).collect();
    let asked = Asked {
        metrics: &Asked::COMPARISON,
        command: command(&args.run).replacen("overbook run", "overbook compare", 1) + &words,
        by_load: !args.load.is_empty(),
    };
    study::run(&study, &asked, &options(&args.run), &args.run, globals)
}
