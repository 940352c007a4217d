//! Why an experiment does not run.

use overbook_reports::ReportError;
use overbook_scenarios::world::WorldError;
use overbook_scenarios::{LoadError, Problems};
use overbook_sim::fleet::RunError;
use overbook_sim::workload::arrival::WorkloadError;

use crate::StudyOutcome;

/// Why an experiment cannot be run, or stopped on the way.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scenario is not valid: all that is wrong with it, each problem with its place.
    #[error(transparent)]
    Scenario(#[from] Problems),
    /// A load to compare is none.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A value cannot be written into the scenario.
    #[error("`{path}` cannot be set to this value: {source}")]
    Value {
        /// The dotted path.
        path: String,
        /// What is wrong with the value.
        source: serde_json::Error,
    },
    /// The scenario is valid, but cannot be run as it stands.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The fleet cannot be built, or the run stopped.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The requests cannot be counted.
    #[error("{0}")]
    Requests(#[source] WorkloadError),
    /// Nothing can be planned for the scenario: why, and what to do.
    #[error("{0}")]
    Plan(String),
    /// A single run was asked of a scenario that has a sweep.
    #[error("this is a study of {runs} runs; set a value in place of its sweep, or run it as a study")]
    Sweep {
        /// Its runs.
        runs: usize,
    },
    /// A file of results cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A folder for a short while cannot be made.
    #[error("cannot make a folder for rows: {0}")]
    Scratch(#[source] std::io::Error),
    /// A point of a study failed.
    #[error("point {number} ({place}): {source}{}", others(*.more))]
    Point {
        /// Its number, from 1.
        number: usize,
        /// Where it lies in the study: `fleet.replicas=2`.
        place: String,
        /// Why.
        source: Box<Error>,
        /// How many points after it could not be run either.
        more: usize,
        /// What the study gives without these points; none where it gives nothing.
        finished: Option<Box<StudyOutcome>>,
    },
}

fn others(more: usize) -> String {
    match more {
        0 => String::new(),
        1 => "; and another point could not be run".to_owned(),
        more => format!("; and {more} more points could not be run"),
    }
}

impl Error {
    /// Takes what a study gives though one of its points could not be run.
    pub fn take_finished(&mut self) -> Option<StudyOutcome> {
        match self {
            Error::Point { finished, .. } => finished.take().map(|outcome| *outcome),
            _ => None,
        }
    }

    /// Whether the input is to blame (the scenario, its files, the requests), and not the run.
    pub fn is_input(&self) -> bool {
        match self {
            Error::Scenario(_)
            | Error::Load(_)
            | Error::Value { .. }
            | Error::World(_)
            | Error::Requests(_)
            | Error::Plan(_)
            | Error::Sweep { .. } => true,
            Error::Run(error) => match error {
                RunError::Workload(_)
                | RunError::Unsorted(_)
                | RunError::SessionsHeldBack
                | RunError::Eviction(_)
                | RunError::Speculation(_)
                | RunError::PoolTooSmall { .. }
                | RunError::StepTooLong { .. }
                | RunError::EndOfTime { .. } => true,
                RunError::Record(_)
                | RunError::Route { .. }
                | RunError::Plan(_)
                | RunError::Halted(_)
                | RunError::Audit { .. } => false,
            },
            Error::Report(_) | Error::Scratch(_) => false,
            Error::Point { source, .. } => source.is_input(),
        }
    }
}

#[cfg(test)]
mod tests {
    use overbook_sim::serving::step::Infeasible;

    use super::*;

    #[test]
    fn input_and_runs_are_told_apart_also_inside_a_study() {
        let at = |source: Error| {
            let (place, source) = ("seed=3".into(), Box::new(source));
            Error::Point { number: 2, place, source, more: 0, finished: None }
        };
        let input = at(Error::Run(RunError::Workload("line 7 is broken".into())));
        assert!(input.is_input());
        assert_eq!(input.to_string(), "point 2 (seed=3): line 7 is broken");
        assert!(!at(Error::Run(RunError::Plan(Infeasible("x".into())))).is_input());
        assert!(Error::Sweep { runs: 3 }.is_input());
    }
}
