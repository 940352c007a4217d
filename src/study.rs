//! Many runs: the points of a sweep on a pool of threads.

mod record;
mod table;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use overbook_reports::Status;
use overbook_scenarios::{self as scenarios, Judgement, Point};
use overbook_sim::fleet::Progress;
use overbook_sim::results::rows::{Discard, Keep, Recorder};
use overbook_sim::workload::arrival::Workload;

use crate::policies::Policies;
use crate::shared::Shared;
use crate::simulate::simulate;
use crate::{Cancel, Error, Options, Outcome, pool};

pub use record::{Record, Records};
pub use table::{Asked, LOADS, judged_all, place};

/// The runs that an experiment stands for, checked and complete.
///
/// ```
/// use overbook::{Experiment, Options};
///
/// # fn main() -> Result<(), overbook::Error> {
/// let scenario = "
/// version: 1
/// name: how-many
/// model: llama-3.1-8b
/// gpu: h100
/// workload:
///   generate: { arrivals: { poisson: { rate: 20/s } }, lengths: { fixed: { prompt: 500, output: 100 } }, requests: 200 }
/// sweep: { axes: { fleet.replicas: [1, 2, 4] } }
/// ";
/// let study = Experiment::from_text("how-many", scenario).study()?;
/// let outcome = study.run(&Options::default(), &|done| eprintln!("{} of {}", done.finished, done.of))?;
/// assert!(outcome.is_complete());
/// assert_eq!(outcome.workloads_opened, 1, "the three points play the same requests");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Study {
    plan: scenarios::Study,
    policies: Policies,
}

/// A point of a study has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PointDone {
    /// Its index among the points of the study.
    pub point: usize,
    /// Points that have ended, this one included.
    pub finished: usize,
    /// Points of the study.
    pub of: usize,
}

/// What a study gives.
#[derive(Clone, Debug)]
pub struct StudyOutcome {
    /// The outcomes of the points, in their order. Those that could not be run have none. If the study was cancelled, neither have
    /// those that had not been begun, and those that were under way say that they were interrupted.
    pub points: Vec<Option<Outcome>>,
    /// The figures of `expect:`, judged.
    pub expected: Vec<Judgement>,
    /// Times that requests were opened: points with the same requests open them once, as long as they fit into memory.
    pub workloads_opened: u64,
}

/// What has become of points beside their outcomes.
#[derive(Debug)]
pub struct Each {
    /// Points that could not be run, by their indices, in their order.
    pub refused: Vec<(usize, Error)>,
    /// Times that requests were opened.
    pub workloads_opened: u64,
}

impl Study {
    pub(crate) fn new(plan: scenarios::Study, policies: Policies) -> Result<Study, Error> {
        // A cost table that cannot be used should not come to light after the runs before it.
        for point in plan.points() {
            policies.costs(point)?;
        }
        Ok(Study { plan, policies })
    }

    /// What is run, resolved.
    pub fn plan(&self) -> &scenarios::Study {
        &self.plan
    }

    /// The runs, the last axis varying fastest; at least one.
    pub fn points(&self) -> &[Point] {
        self.plan.points()
    }

    /// Reads the requests as far as is needed to see that they have what the prefix caches go by. Every run begins with it.
    ///
    /// # Errors
    /// They lack it: each problem with its place.
    pub fn check_requests(&self, cancel: &Cancel) -> Result<(), Error> {
        Ok(self.plan.check_requests(&|| !cancel.is_cancelled())?)
    }

    /// Points that these options run at once.
    pub fn jobs(&self, options: &Options) -> usize {
        pool::threads(options.jobs, self.points().len())
    }

    /// Runs all points. `on_done` is called on the thread that ran a point, whenever one has ended. The outcome is the same for any
    /// number of threads.
    ///
    /// # Errors
    /// The first point, in their order, that could not be run. The others are run nevertheless: [`Error::take_finished`] has them.
    pub fn run(&self, options: &Options, on_done: &(dyn Fn(PointDone) + Sync)) -> Result<StudyOutcome, Error> {
        let of = self.points().len();
        let all: Vec<usize> = (0..of).collect();
        let kept: Vec<Mutex<Option<Outcome>>> = all.iter().map(|_| Mutex::new(None)).collect();
        let finished = AtomicUsize::new(0);
        let each = self.each(&all, options, &|point, outcome| {
            *kept[point].lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            on_done(PointDone { point, finished: 1 + finished.fetch_add(1, Ordering::Relaxed), of });
        })?;
        let finished: Vec<Option<Outcome>> =
            kept.into_iter().map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        let lookup = |at: usize, metric: &str| finished[at].as_ref()?.metric(metric);
        let expected = self.plan.expectations().iter().map(|expected| expected.judge(&lookup)).collect();
        let any = finished.iter().any(Option::is_some);
        let outcome = StudyOutcome { expected, workloads_opened: each.workloads_opened, points: finished };
        match each.refused {
            refused if refused.is_empty() => Ok(outcome),
            refused => Err(self.refused(refused, any.then(|| Box::new(outcome)))),
        }
    }

    /// Runs some of the points, by their indices. `keep` gets the outcome of each on the thread that made it, whenever one has ended; if
    /// the study was cancelled, the outcomes that were under way say that they were interrupted.
    ///
    /// # Errors
    /// The requests lack what the prefix caches go by: no point is run.
    pub fn each(
        &self,
        chosen: &[usize],
        options: &Options,
        keep: &(dyn Fn(usize, Outcome) + Sync),
    ) -> Result<Each, Error> {
        self.check_requests(&options.cancel)?;
        let points: Vec<Point> = chosen.iter().map(|&at| self.points()[at].clone()).collect();
        let shared = Shared::new(&points, options.shared_bytes_max, &options.cancel);
        let threads = pool::threads(options.jobs, points.len());
        let refused = pool::each(&points, threads, &options.cancel, |at, point| {
            let outcome = self.point(point, options, || Ok(shared.open(at)?));
            shared.ended(at);
            outcome.map(|outcome| keep(chosen[at], outcome)).err()
        });
        let refused = refused.into_iter().zip(chosen).filter_map(|(error, &at)| Some((at, error??))).collect();
        Ok(Each { refused, workloads_opened: shared.opened() })
    }

    /// What is told of points that could not be run: the first of them, and how many more.
    pub fn refused(&self, refused: Vec<(usize, Error)>, finished: Option<Box<StudyOutcome>>) -> Error {
        let more = refused.len().saturating_sub(1);
        match refused.into_iter().next() {
            None => Error::Sweep { runs: self.points().len() },
            Some((at, error)) => Error::Point {
                number: at + 1,
                place: place(&self.points()[at]),
                source: Box::new(error),
                more,
                finished,
            },
        }
    }

    fn point(
        &self,
        point: &Point,
        options: &Options,
        open: impl FnOnce() -> Result<Box<dyn Workload>, Error>,
    ) -> Result<Outcome, Error> {
        let mut go_on = |_: Progress| true;
        if !options.rows {
            return simulate(point, &self.policies, options, open, &mut Discard, &mut go_on);
        }
        let mut rows = Keep::default();
        let outcome = simulate(point, &self.policies, options, open, &mut rows, &mut go_on)?;
        Ok(Outcome { rows: Some(rows), ..outcome })
    }

    /// Runs a study of one point.
    ///
    /// # Errors
    /// It has several; or the run stopped on the way.
    pub fn run_single(&self, options: &Options) -> Result<Outcome, Error> {
        let point = self.single()?;
        self.check_requests(&options.cancel)?;
        let outcome = self.point(point, options, || Ok(point.workload()?))?;
        Ok(self.judged(outcome))
    }

    /// Runs a study of one point; rows go to a recorder, and `watch` is called now and then: it returns `false` to stop early.
    ///
    /// # Errors
    /// It has several; or the run stopped on the way.
    pub fn record<R: Recorder>(
        &self,
        options: &Options,
        recorder: &mut R,
        watch: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Outcome, Error> {
        let point = self.single()?;
        self.check_requests(&options.cancel)?;
        let outcome = simulate(point, &self.policies, options, || Ok(point.workload()?), recorder, watch)?;
        Ok(self.judged(outcome))
    }

    fn single(&self) -> Result<&Point, Error> {
        match self.points() {
            [point] if !self.plan.is_sweep() => Ok(point),
            points => Err(Error::Sweep { runs: points.len() }),
        }
    }

    /// With the figures of `expect:` judged.
    pub fn judged(&self, outcome: Outcome) -> Outcome {
        let lookup = |_: usize, metric: &str| outcome.metric(metric);
        let expected = self.plan.expectations().iter().map(|expected| expected.judge(&lookup)).collect();
        Outcome { expected, ..outcome }
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }
}

impl StudyOutcome {
    /// Whether every point has come to its end.
    pub fn is_complete(&self) -> bool {
        self.points.iter().all(|outcome| outcome.as_ref().is_some_and(|outcome| outcome.status == Status::Complete))
    }

    /// Whether the study shows what it should. Points that miss a target of `slo:` are what a study looks for; it is judged by what
    /// it expects. Without expectations it is judged by the targets.
    pub fn passes(&self) -> bool {
        if self.expected.is_empty() {
            self.points.iter().flatten().all(Outcome::keeps_targets)
        } else {
            self.expected.iter().all(|verdict| verdict.passed)
        }
    }

    /// What the study keeps of its points.
    pub fn records(&self, study: &Study) -> Records {
        Records::new(study, self.points.iter().map(|outcome| outcome.as_ref().map(Record::of)).collect())
    }

    /// The points side by side.
    pub fn table(&self, study: &Study, asked: &Asked<'_>) -> overbook_reports::study::Study {
        self.records(study).table(study, asked)
    }
}

#[cfg(test)]
mod tests;
