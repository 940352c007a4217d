//! `overbook compare`: one scenario with several policies, under several loads.

use std::path::Path;

use crate::check;
use crate::cli::{CompareArgs, Globals};
use crate::output::Failure;
use crate::run::{command, dry_run, quote};
use crate::sweep::{self, Asked};
use crate::watch::catch_interrupts;

/// Metrics in the table and the figures of a comparison.
const METRICS: [&str; 18] = [
    "goodput_fraction",
    "request_goodput",
    "ttft_p50",
    "ttft_p90",
    "ttft_p99",
    "tpot_p50",
    "tpot_p90",
    "tpot_p99",
    "e2el_p50",
    "e2el_p99",
    "request_throughput",
    "output_throughput",
    "kv_usage_mean",
    "running_mean",
    "waiting_mean",
    "preemptions",
    "recompute_tax",
    "prefix_hit_rate",
];

pub(crate) fn run(args: &CompareArgs, globals: &Globals) -> Result<u8, Failure> {
    let mut source = check::source(&args.run.scenario, globals)?;
    source.forget_expectations();
    for over in &args.over {
        let Some((path, values)) = over.split_once('=') else {
            return Err(Failure::Input(format!(
                "--over {over}: expected PATH=VALUES, e.g. --over scheduler=vllm,orca"
            )));
        };
        source.vary(path.trim(), values);
    }
    if !args.load.is_empty() {
        source.vary_load(&args.load).map_err(Failure::input)?;
    }
    let study = check::resolved(&source, globals)?;
    if args.run.dry_run {
        return dry_run(&study, &args.run);
    }
    catch_interrupts();
    let over = args.over.iter().map(|over| format!(" --over {}", quote(Path::new(over))));
    let load = (!args.load.is_empty()).then(|| format!(" --load {}", args.load.join(",")));
    let words: String = over.chain(load).collect();
    let asked = Asked {
        metrics: &METRICS,
        command: command(&args.run).replacen("overbook run", "overbook compare", 1) + &words,
        by_load: !args.load.is_empty(),
    };
    sweep::run(&study, &asked, &args.run, globals)
}
