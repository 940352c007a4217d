//! `overbook train-retention`: trains small models and retention gates, and measures policies on them.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use overbook_engine::recall::table::margins_csv;
use overbook_engine::recall::trials::LEAST_BUDGET;
use overbook_engine::recall::{TASKS, Task};
use overbook_engine::train::TrainError;
use overbook_engine::train::study::{StudySettings, study};

use crate::cli::Globals;
use crate::output::{DONE, Failure, INTERRUPTED, note, print, shows_progress};
use crate::watch::{catch_interrupts, interrupted};

/// What to train and measure.
#[derive(Args, Debug)]
pub(crate) struct TrainArgs {
    /// Folder for models, gates and tables: seed-N/, runs.csv, table.csv, margins.csv. What a folder of the same settings has is not
    /// trained again.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Seeds, from 0 on; each trains a model and gates of its own [default: 5, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) seeds: Option<u64>,
    /// Tasks [default: all, with --quick pairs]: pairs, decoys, marked, copy, updates, incompressible, preview.
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    pub(crate) task: Vec<String>,
    /// Slots in each layer and KV head.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub(crate) budget: Vec<u32>,
    /// M of the capacity loss: slots that gates are trained for.
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u16>,
    /// First value of the gates' last bias.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) bias: Option<f64>,
    /// Steps in which gates are trained.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) gate_steps: Option<u32>,
    /// One seed, one task, three budgets, fewer sequences: to see that it works.
    #[arg(long)]
    pub(crate) quick: bool,
}

pub(crate) fn run(args: &TrainArgs, globals: &Globals) -> Result<u8, Failure> {
    let settings = settings(args)?;
    catch_interrupts();
    let bar = ProgressBar::hidden();
    if shows_progress() && !globals.quiet {
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }
    let start = Instant::now();
    let done = study(&settings, &args.out, &mut |progress| {
        let right = 100.0 * progress.accuracy;
        bar.set_message(format!("{}: {} of {}, {right:.0} % right", progress.what, progress.step, progress.of));
        bar.tick();
        !interrupted()
    });
    bar.finish_and_clear();
    match done {
        Ok(runs) => {
            print(&margins_csv(&runs))?;
            note(&format!("{} measurements in {:.0} s", runs.len(), start.elapsed().as_secs_f64()));
            Ok(DONE)
        }
        Err(TrainError::Interrupted) => {
            note(&format!("interrupted: what was finished is in {}", args.out.display()));
            Ok(INTERRUPTED)
        }
        Err(error @ TrainError::OtherStudy { .. }) => Err(Failure::Input(error.to_string())),
        Err(error) => Err(Failure::Run(anyhow::Error::new(error))),
    }
}

fn settings(args: &TrainArgs) -> Result<StudySettings, Failure> {
    let mut settings = if args.quick { StudySettings::quick() } else { StudySettings::default() };
    if let Some(seeds) = args.seeds {
        settings.seeds = (0..seeds).collect();
    }
    if !args.task.is_empty() {
        settings.tasks.clear();
        for name in &args.task {
            let found = TASKS.into_iter().find(|task| task.name() == name);
            let names = TASKS.map(Task::name).join(", ");
            let task = found.ok_or_else(|| Failure::Input(format!("--task: no task `{name}`; there are: {names}")))?;
            if settings.tasks.contains(&task) {
                return Err(Failure::Input(format!("--task: `{name}` is named twice")));
            }
            settings.tasks.push(task);
        }
    }
    if !args.budget.is_empty() {
        settings.budgets.clone_from(&args.budget);
        settings.budgets.sort_unstable();
        settings.budgets.dedup();
        if settings.budgets[0] < LEAST_BUDGET {
            let told = format!(
                "--budget: {} slots; {LEAST_BUDGET} at least, so that every policy has a setting",
                settings.budgets[0]
            );
            return Err(Failure::Input(told));
        }
    }
    if let Some(slots) = args.slots {
        settings.gates.slots = f32::from(slots);
    }
    if let Some(steps) = args.gate_steps {
        settings.gates.steps = steps as usize;
    }
    if let Some(bias) = args.bias {
        if !bias.is_finite() {
            return Err(Failure::Input(format!("--bias: {bias} is no number to begin with")));
        }
        settings.gates.bias = bias;
    }
    Ok(settings)
}
