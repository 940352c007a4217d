//! The cheapest fleet: the shape that could be the cheapest is tried first, until none can be cheaper than one that holds.
//!
//! Rounds have the same members whatever the number of threads, so that the answer and its ledger do, too.

use overbook_scenarios::Point;

use super::candidate::Candidate;
use super::search::Side;
use super::space::Size;
use super::trial::{Bench, Load, Trial};
use crate::{Cancel, Error, Experiment, pool};

/// Fleets that are tried side by side.
const ABREAST: usize = 4;

/// Shapes beside the answer that are searched to their end.
const ALTERNATIVES: usize = 3;

/// Cost of an alternative at most, over that of the answer.
const DEAR: f64 = 2.0;

/// Where a fleet was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The busiest stretch.
    Window,
    /// All requests.
    Whole,
}

/// Which replicas a failure is about, where prompts and decodes are apart.
pub(crate) fn side(trial: &Trial) -> Side {
    let missed = trial.verdict.kept.iter().filter(|kept| kept.met == Some(false));
    let mut sides = missed.map(|kept| match kept.metric.split('_').next() {
        Some("ttft") => Side::Prefill,
        Some("tpot" | "itl") => Side::Decode,
        Some("goodput") => match trial.verdict.misses {
            (late, slow) if late > 2 * slow => Side::Prefill,
            (late, slow) if slow > 2 * late => Side::Decode,
            _ => Side::Both,
        },
        _ => Side::Both,
    });
    let Some(first) = sides.next().filter(|_| trial.failed.is_none() && trial.verdict.lost == 0) else {
        return Side::Both;
    };
    if sides.all(|side| side == first) { first } else { Side::Both }
}

/// All shapes under search, and what they are tried on.
pub(crate) struct Hunt<'a> {
    pub(crate) base: &'a Experiment,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) bench: Bench<'a>,
    pub(crate) load: &'a Load,
    /// When a replica fails in the window, if the fleet must survive that.
    pub(crate) fails_at: Option<String>,
    pub(crate) interrupted: bool,
}

impl Hunt<'_> {
    fn cancel(&self) -> &Cancel {
        &self.bench.options.cancel
    }

    /// Takes the bounds of all shapes.
    pub(crate) fn bound(&mut self) -> Result<(), Error> {
        let threads = pool::threads(self.bench.options.jobs, self.candidates.len());
        let this = &*self;
        let bounded = |_, candidate: &Candidate| candidate.bounded(&this.bench, this.load);
        let found = pool::each(&this.candidates, threads, this.cancel(), bounded);
        for (candidate, found) in self.candidates.iter_mut().zip(found) {
            match found.transpose()? {
                Some((bounds, search)) => (candidate.bounds, candidate.search) = (bounds, search),
                None => self.interrupted = true,
            }
        }
        Ok(())
    }

    /// The cheapest fleet that is known to hold: shape and size.
    pub(crate) fn answer(&self) -> Option<(usize, Size)> {
        let costs = self.candidates.iter().enumerate().filter_map(|(at, one)| Some((at, one.best_cost()?)));
        let (at, _) = costs.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))?;
        Some((at, self.candidates[at].search.as_ref()?.best()?))
    }

    /// Searches until no shape can be cheaper than the answer. `on_trials` hears how many fleets were tried and what the answer costs
    /// at least.
    pub(crate) fn cheapest(&mut self, on_trials: &dyn Fn(usize, f64)) -> Result<(), Error> {
        while !self.interrupted {
            let beaten = self.answer().and_then(|(at, _)| Some((self.candidates[at].best_cost()?, at)));
            self.limit(|at, cost| beaten.is_none_or(|(least, other)| cost < least || (cost <= least && at <= other)));
            let mut open: Vec<(f64, usize)> = self.open().collect();
            open.retain(|(least, at)| {
                beaten.is_none_or(|(cost, other)| *least < cost || (*least <= cost && *at <= other))
            });
            open.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let Some(&(least, _)) = open.first() else { break };
            open.truncate(ABREAST);
            self.round(&open.iter().map(|(_, at)| *at).collect::<Vec<_>>())?;
            on_trials(self.candidates.iter().map(|one| one.trials.len()).sum(), least);
        }
        Ok(())
    }

    /// Goes on until the next-best shapes are known, and what the fleets just too small come to.
    pub(crate) fn alternatives(&mut self) -> Result<(), Error> {
        let Some((answer, cost)) = self.answer().and_then(|(at, _)| Some((at, self.candidates[at].best_cost()?)))
        else {
            self.limit(|_, _| true);
            return Ok(());
        };
        let dear = cost * DEAR;
        while !self.interrupted {
            let others = self.candidates.iter().enumerate().filter(|(at, _)| *at != answer);
            let mut known: Vec<f64> = others.filter_map(|(_, one)| one.best_cost()).collect();
            known.sort_by(f64::total_cmp);
            let most = known.get(ALTERNATIVES - 1).copied().unwrap_or(dear).min(dear);
            self.limit(|_, cost| cost < most);
            let mut open: Vec<(f64, usize)> =
                self.open().filter(|(least, at)| *at != answer && *least < most).collect();
            open.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            open.truncate(ABREAST);
            if open.is_empty() {
                break;
            }
            self.round(&open.iter().map(|(_, at)| *at).collect::<Vec<_>>())?;
        }
        // What is left open is open at any price.
        self.limit(|_, _| true);
        self.figures_of_the_nearest_failures()
    }

    /// Lets each shape try as many replicas as are worth their cost.
    fn limit(&mut self, worth: impl Fn(usize, f64) -> bool) {
        for (at, candidate) in self.candidates.iter_mut().enumerate() {
            candidate.within(|cost| worth(at, cost));
        }
    }

    /// Takes the largest fleets that fail, of the shapes that hold, to the end of their run: how far are they off?
    fn figures_of_the_nearest_failures(&mut self) -> Result<(), Error> {
        let mut holding: Vec<(f64, usize)> =
            self.candidates.iter().enumerate().filter_map(|(at, one)| Some((one.best_cost()?, at))).collect();
        holding.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let nearest = holding.into_iter().take(1 + ALTERNATIVES).filter_map(|(_, at)| {
            let failed = self.candidates[at].trials.iter().enumerate().filter(|(_, (_, stage, trial))| {
                *stage == Stage::Window && !trial.held() && trial.verdict.stopped.is_some()
            });
            let (number, (size, ..)) = failed.max_by_key(|(number, (size, ..))| (size.replicas(), *number))?;
            Some((at, number, *size))
        });
        let nearest: Vec<(usize, usize, Size)> = nearest.collect();
        let threads = pool::threads(self.bench.options.jobs, nearest.len());
        let this = &*self;
        let trials = pool::each(&nearest, threads, this.cancel(), |_, &(at, _, size)| {
            match this.points(at, size, None).into_iter().next() {
                Some(Ok(point)) => this.bench.on(&point, this.load, true).map(Some),
                _ => Ok(None),
            }
        });
        for ((at, number, _), trial) in nearest.into_iter().zip(trials) {
            // A fleet that fails only after a loss keeps the reason it has.
            if let Some(trial) = trial.transpose()?.flatten().filter(|trial| !trial.interrupted && !trial.held()) {
                self.candidates[at].trials[number].2 = trial;
            }
        }
        Ok(())
    }

    /// Looks at the steps of the answer and of the next best: what binds them?
    pub(crate) fn look_at_finalists(&mut self) -> Result<(), Error> {
        let mut holding: Vec<(f64, usize)> =
            self.candidates.iter().enumerate().filter_map(|(at, one)| Some((one.best_cost()?, at))).collect();
        holding.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let finalists = holding.into_iter().take(1 + ALTERNATIVES).filter_map(|(_, at)| {
            let best = self.candidates[at].search.as_ref()?.best()?;
            let of_best = |(size, stage, _): &(Size, Stage, Trial)| *stage == Stage::Window && *size == best;
            Some((at, self.candidates[at].trials.iter().rposition(of_best)?, best))
        });
        let finalists: Vec<(usize, usize, Size)> = finalists.collect();
        let threads = pool::threads(self.bench.options.jobs, finalists.len());
        let this = &*self;
        let found = pool::each(&finalists, threads, this.cancel(), |_, &(at, _, size)| {
            match this.points(at, size, None).into_iter().next() {
                Some(Ok(point)) => this.bench.binds(&point, this.load),
                _ => Ok(None),
            }
        });
        for ((at, number, _), binds) in finalists.into_iter().zip(found) {
            self.candidates[at].trials[number].2.binds = binds.transpose()?.flatten();
        }
        Ok(())
    }

    /// Shapes with something left to try, and the least that they cost.
    fn open(&self) -> impl Iterator<Item = (f64, usize)> {
        self.candidates.iter().enumerate().filter_map(|(at, one)| {
            one.search.as_ref()?.next()?;
            Some((one.least_cost()?, at))
        })
    }

    /// Tries the next size of each of these shapes.
    fn round(&mut self, members: &[usize]) -> Result<(), Error> {
        let tries: Vec<(usize, Size)> =
            members.iter().filter_map(|&at| Some((at, self.candidates[at].search.as_ref()?.next()?))).collect();
        let threads = pool::threads(self.bench.options.jobs, tries.len());
        let this = &*self;
        let trials = pool::each(&tries, threads, this.cancel(), |_, &(at, size)| this.attempt(at, size));
        for ((at, size), trial) in tries.into_iter().zip(trials) {
            match trial.transpose()? {
                Some(trial) if !trial.interrupted => self.candidates[at].tell(size, Stage::Window, trial),
                _ => self.interrupted = true,
            }
        }
        Ok(())
    }

    /// Tries a size in the window, with each loss that it must survive.
    pub(crate) fn attempt(&self, at: usize, size: Size) -> Result<Trial, Error> {
        let mut last = None;
        for point in self.points(at, size, self.fails_at.as_deref()) {
            let trial = match point {
                Ok(point) => self.bench.on(&point, self.load, false)?,
                Err(why) => unbuilt(why),
            };
            let held = trial.held();
            last = Some(trial);
            if !held {
                break;
            }
        }
        Ok(last.unwrap_or_else(|| unbuilt("there is no such fleet".to_owned())))
    }

    /// The fleet of a size as it is, and with each loss that it must survive.
    pub(crate) fn points(&self, at: usize, size: Size, fails_at: Option<&str>) -> Vec<Result<Point, String>> {
        let shape = &self.candidates[at].shape;
        let lost: Vec<Option<u32>> = match (fails_at, size) {
            (None, _) => vec![None],
            (Some(_), Size::Together(_)) => vec![None, Some(0)],
            (Some(_), Size::Apart(prefill, _)) => vec![None, Some(0), Some(prefill)],
        };
        let point = |lost: Option<u32>| {
            let base = match (lost, fails_at) {
                (Some(replica), Some(when)) => self.base.clone().set_yaml(
                    "fleet.controllers.failures",
                    &format!("[{{ at: {when}, replica: {replica}, down_for: 8760h }}]"),
                ),
                _ => self.base.clone(),
            };
            let found = shape.point(&base, size);
            found.map_err(|problems| problems.list().first().map_or_else(String::new, |one| one.message.clone()))
        };
        lost.into_iter().map(point).collect()
    }

    /// Says what came of a fleet on all requests.
    pub(crate) fn tell_whole(&mut self, at: usize, size: Size, trial: Trial) {
        self.candidates[at].tell(size, Stage::Whole, trial);
    }
}

/// A trial of what cannot be built.
fn unbuilt(why: String) -> Trial {
    let verdict = super::judge::Verdict {
        held: false,
        stopped: None,
        misses: (0, 0),
        seen: 0,
        lost: 0,
        rejected: 0,
        kept: Vec::new(),
    };
    Trial {
        verdict,
        summary: None,
        timeline: None,
        latencies: [None; 4],
        binds: None,
        failed: Some(why),
        interrupted: false,
    }
}
