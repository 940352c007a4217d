//! Measured runs of real engines, each simulated as a user would and compared; constants fitted on some of them.

mod fit;
mod simulation;
mod training;

use std::num::NonZeroUsize;

use overbook_reports::validation::{JudgedRun, MissedRun, Part};
use overbook_scenarios::hull::Case;
use overbook_scenarios::measured::{Constants, MeasuredRun};

use crate::{Cancel, pool};

pub use fit::{Fit, fit};
pub use training::{Training, TrainingError};

use simulation::Simulation;

/// How the class ends of a run whose lengths are those that others counted of the data set it names. Such runs are a class of their own.
pub const ASSUMED_LENGTHS: &str = ", lengths of the data set";

/// What every run is judged by.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// The fitted constants.
    pub constants: Constants,
    /// Changes to every scenario: path and value.
    pub changes: Vec<(&'a str, &'a str)>,
    /// What lengths of prompts are multiplied with, where they are those of a data set that a run only names; else 1.
    pub prompts: f64,
    /// The runs that constants were fitted on, if there is a list of them.
    pub training: Option<&'a [Training]>,
    /// All runs of the folder, also those that are not judged.
    pub all: &'a [MeasuredRun],
}

/// A run, simulated or not.
#[derive(Clone, Debug)]
pub enum Judged {
    /// It was simulated.
    Run(Box<Simulated>),
    /// Something is missing.
    Missed(MissedRun),
}

/// What is kept of a run that was simulated.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Its figures beside the measured ones.
    pub run: JudgedRun,
    /// The part of it that nothing was fitted on, if only a part was trained on.
    pub rest: Option<JudgedRun>,
    /// Where it stands, for the hull of what was validated.
    pub case: Case,
    /// Its scenario, resolved, as YAML.
    pub scenario: String,
}

/// Judges all runs, in their order, on so many threads; by default one per processor.
pub fn judge(runs: &[MeasuredRun], terms: &Terms<'_>, jobs: Option<NonZeroUsize>) -> Vec<Judged> {
    let threads = pool::threads(jobs, runs.len());
    pool::each(runs, threads, &Cancel::new(), |_, run| judge_one(run, terms)).into_iter().flatten().collect()
}

fn judge_one(run: &MeasuredRun, terms: &Terms<'_>) -> Judged {
    // A result that is another run's says nothing of this one.
    let copied = run.copied_from(terms.all).map(|_| "its results are another run's, to the digit".to_owned());
    let simulation = copied.map_or_else(|| Simulation::of(run, &terms.constants, &terms.changes, terms.prompts), Err);
    match simulation {
        Ok(simulation) => {
            let listed = terms.training.map(|training| training.iter().find(|one| one.id == run.id()));
            let training = listed.map(|listed| listed.is_some());
            let part = listed.flatten().filter(|one| one.part).and_then(|_| simulation.part(run, Part::Rest));
            Judged::Run(Box::new(Simulated {
                run: JudgedRun { training, ..simulation.compared(run) },
                rest: part.map(|part| JudgedRun { training: Some(false), ..part }),
                case: simulation.case(),
                scenario: simulation.point.scenario.to_yaml(),
            }))
        }
        Err(missing) => Judged::Missed(MissedRun {
            id: run.id().to_owned(),
            set: run.text("set").to_owned(),
            quality: run.text("quality").to_owned(),
            missing,
        }),
    }
}
