//! `overbook gpu-check`: all that a short session on a GPU must tell, in order of worth, each part with a time of its own.

mod book;
mod grids;
mod power;
mod rows;
mod shares;
mod table;
mod validate;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, ValueEnum};
use overbook::TOOL;
use overbook_engine::config::Config;
use overbook_engine::cuda::check::{Scope, compile};
use overbook_engine::cuda::compile::cache_folder;
use overbook_engine::cuda::{Gpu, Model};
use overbook_engine::nvml::Meter;
use overbook_engine::weights::Dummy;
use overbook_reports::manifest::utc;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::output::{DONE, FAILED, Failure, GATE_FAILED, INTERRUPTED, print};
use crate::place;
use crate::tuning::warn_unless_kept;
use crate::watch::{catch_interrupts, interrupted};
use book::Book;
use rows::{Line, Row};

/// What to check, and where results go.
#[derive(Args, Debug)]
pub(crate) struct GpuCheckArgs {
    /// Folder for the results: a file for each part, written as things are measured, summary.json, and a profile of step costs.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Parts to run [default: all, in order of worth]; may be given several times.
    #[arg(long, value_enum, value_name = "NAME")]
    part: Vec<Part>,
    /// Time for all parts together [default: the sum of their own].
    #[arg(long, value_name = "TIME")]
    budget: Option<overbook_sim::units::Duration>,
    /// Go on in a folder with results: what is measured is not measured again.
    #[arg(long)]
    resume: bool,
    /// How much of a GPU to ask for.
    #[arg(long, value_enum, value_name = "SCALE", default_value_t = Scale::Full)]
    scale: Scale,
}

/// A part of the check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub(crate) enum Part {
    /// Kernels against their references, models against the CPU engine, and the GPU's ceilings.
    Verify,
    /// Steps of public models beside their floors.
    Grids,
    /// A profile of step costs, and loads for real and simulated.
    Validate,
    /// Steps on parts of the GPU.
    Shares,
    /// Watts and clocks at rest and under steady work, and the power law that they make.
    Power,
}

/// Models and shapes for a real GPU, or for one that is slow because it is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Scale {
    /// Llama-3.1-8B and its smaller relatives.
    Full,
    /// The tiny model, a moment for each figure: for tests of the check itself.
    Small,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Verify => "verify",
            Part::Grids => "grids",
            Part::Validate => "validate",
            Part::Shares => "shares",
            Part::Power => "power",
        }
    }

    /// How long it may take. A check of the check itself is no matter of time: it also runs on machines that are busy with other things.
    fn budget(self, scale: Scale) -> Duration {
        let patience = if scale == Scale::Full { 1 } else { 10 };
        Duration::from_secs(match self {
            Part::Verify => 120,
            Part::Grids | Part::Power => 180,
            Part::Validate => 240,
            Part::Shares => 60,
        }) * patience
    }
}

/// What all parts share.
pub(crate) struct Check<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) scale: Scale,
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) meter: Meter,
    /// Where compiled kernels and tuned algorithms are kept.
    pub(crate) cache: Option<PathBuf>,
    pub(crate) globals: &'a Globals,
    /// Models that are on the GPU, with dummy weights.
    models: BTreeMap<String, Arc<Model>>,
    /// Shapes of the kernels' checks, and one, for which all is compiled.
    prepared: usize,
}

impl Check<'_> {
    /// A figure for a real GPU, or for the small scale.
    pub(crate) fn scaled<T>(&self, full: T, small: T) -> T {
        if self.scale == Scale::Full { full } else { small }
    }

    /// The model that most is measured with.
    pub(crate) fn main_model(&self) -> &'static str {
        self.scaled("llama-3.1-8b", "tiny")
    }

    /// Compiles what all models, and the checks of kernels for so many shapes, will need, side by side: one after the other they take
    /// longer than what is measured with them. What does not compile is said by whoever needs it.
    pub(crate) fn prepare(&mut self, shapes: usize) {
        let Some(cache) = self.cache.as_deref().filter(|_| self.prepared <= shapes) else { return };
        self.prepared = shapes.saturating_add(1);
        let mut configs: Vec<Config> = verify::models(self).into_iter().flatten().map(|(_, config)| config).collect();
        configs.extend(grids::models(self).iter().filter_map(|name| Config::preset(name).ok()));
        let scope = Scope { kernel: None, shapes };
        let _ = compile(&self.gpu, cache, scope, &configs.iter().collect::<Vec<_>>());
    }

    /// A model with dummy weights, and how long it took to load; it stays on the GPU until all is done, unless it is dropped.
    pub(crate) fn model(&mut self, name: &str) -> Result<(Arc<Model>, f64), anyhow::Error> {
        if let Some(model) = self.models.get(name) {
            return Ok((model.clone(), 0.0));
        }
        let began = Instant::now();
        let model = Model::load(0, Config::preset(name)?, &Dummy { seed: 0 })?;
        self.models.insert(name.to_owned(), model.clone());
        Ok((model, began.elapsed().as_secs_f64()))
    }

    /// A model that is not needed any more goes.
    pub(crate) fn unload(&mut self, name: &str) {
        self.models.remove(name);
    }
}

pub(crate) fn run(args: &GpuCheckArgs, globals: &Globals) -> Result<u8, Failure> {
    let (began, started) = (Instant::now(), utc(SystemTime::now()));
    let mut parts = if args.part.is_empty() { Part::value_variants().to_vec() } else { args.part.clone() };
    parts.sort_unstable();
    parts.dedup();
    place::folder(&args.out)?;
    if !args.resume && Part::value_variants().iter().any(|part| book::path(&args.out, *part).exists()) {
        return Err(Failure::Input(format!(
            "{} has results already: go on with --resume, or name another folder",
            args.out.display()
        )));
    }
    catch_interrupts();
    let gpu = Gpu::open(0).map_err(anyhow::Error::new)?;
    warn_unless_kept();
    let meter = Meter::of(&gpu.uuid().map_err(anyhow::Error::new)?);
    let mut check = Check {
        dir: &args.out,
        scale: args.scale,
        gpu,
        meter,
        cache: cache_folder(),
        globals,
        models: BTreeMap::new(),
        prepared: 0,
    };
    let whole = args.budget.map(|time| Duration::from_nanos(time.0.0));
    for &part in &parts {
        if args.resume && book::is_complete(&book::read(&args.out, part)) {
            continue;
        }
        let own = part.budget(args.scale);
        let left = whole.map_or(own, |whole| own.min(whole.saturating_sub(began.elapsed())));
        let mut book = Book::open(&args.out, part, left, globals.quiet)?;
        match part {
            Part::Verify => verify::run(&mut check, &mut book)?,
            Part::Grids => grids::run(&mut check, &mut book)?,
            Part::Validate => validate::run(&mut check, &mut book)?,
            Part::Shares => shares::run(&mut check, &mut book)?,
            Part::Power => power::run(&mut check, &mut book)?,
        }
        book.end()?;
        // Now, not at the end: what comes after may stop the process.
        summarize(&check, &started, began.elapsed())?;
    }
    let results = results(&args.out);
    summarize(&check, &started, began.elapsed())?;
    print(&table::text(&results))?;
    Ok(code(&parts, &results))
}

/// All parts that have a file, with their lines.
fn results(dir: &Path) -> Vec<(Part, Vec<Line>)> {
    let lines = Part::value_variants().iter().map(|part| (*part, book::read(dir, *part)));
    lines.filter(|(_, lines)| !lines.is_empty()).collect()
}

/// The exit code: a check that failed counts more than what could not run, and that more than what there was no time for.
fn code(parts: &[Part], results: &[(Part, Vec<Line>)]) -> u8 {
    let mut asked = results.iter().filter(|(part, _)| parts.contains(part));
    if asked.clone().any(|(_, lines)| lines.iter().any(|line| line.row.is_wrong())) {
        GATE_FAILED
    } else if interrupted() {
        INTERRUPTED
    } else if asked.all(|(_, lines)| book::is_complete(lines)) {
        DONE
    } else {
        FAILED
    }
}

/// Writes what was done so far as one document.
fn summarize(check: &Check, started: &str, took: Duration) -> Result<(), Failure> {
    let results = results(check.dir);
    let part = |(part, lines): &(Part, Vec<Line>)| {
        let count = |of: &dyn Fn(&Row) -> bool| lines.iter().filter(|line| of(&line.row)).count();
        let seconds = lines.iter().find_map(|line| match line.row {
            Row::Ended { seconds, .. } => Some(seconds),
            _ => None,
        });
        json!({
            "part": part.name(),
            "complete": book::is_complete(lines),
            "seconds": seconds,
            "wrong": count(&Row::is_wrong),
            "failed": count(&|row| matches!(row, Row::Failed { .. })),
            "left": count(&|row| matches!(row, Row::Left { .. })),
            "skipped": count(&|row| matches!(row, Row::Skipped { .. })),
        })
    };
    let facts = check.gpu.facts();
    let summary = json!({
        "tool": TOOL,
        "scale": if check.scale == Scale::Full { "full" } else { "small" },
        "started": started,
        "seconds": took.as_secs_f64(),
        "gpu": {
            "name": facts.name,
            "compute_capability": facts.sm,
            "multiprocessors": facts.multiprocessors,
            "memory_bytes": facts.memory,
            "cuda_driver": facts.driver,
            "nvml": check.meter.reads().then(|| check.meter.facts()),
        },
        "parts": results.iter().map(part).collect::<Vec<Value>>(),
        "ceilings": table::ceilings(&results).into_iter().map(|row| (row.name.clone(), json!(row.value))).collect::<serde_json::Map<_, _>>(),
    });
    let text = serde_json::to_string_pretty(&summary).map_err(anyhow::Error::new)?;
    let path = check.dir.join("summary.json");
    std::fs::write(&path, text + "\n")
        .map_err(|error| Failure::Run(anyhow::anyhow!("cannot write {}: {error}", path.display())))
}
