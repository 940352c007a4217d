//! The capacity plan: the cheapest fleet that keeps the promises of a scenario, how much more load it holds, and why nothing cheaper
//! does.
//!
//! ```text
//! shapes ─bounds─► left ─busiest stretch─► fleets that hold ─all requests─► answer ─seeds, growths─► headroom
//!            └──────────────┴──── every candidate that lost, with its reason ────┴─► ledger
//! ```

mod answer;
mod binds;
mod bounds;
mod candidate;
mod headroom;
mod hours;
mod hunt;
mod judge;
mod ledger;
mod refuse;
mod requests;
mod search;
mod sides;
mod space;
mod trial;
mod uses;
mod weigh;

use overbook_reports::plan::{Grown, Plan};
use overbook_scenarios::Point;
use overbook_scenarios::scenario::{PlanObjective, PlanSpec};
use overbook_traces::Growth;

use crate::{Cancel, Error, Experiment, Options, pool};
use answer::Answer;
use candidate::Candidate;
use headroom::{Headroom, Seeded, Seeds, headroom, sooner};
use hunt::{Hunt, side};
use judge::Promises;
use requests::Requests;
use space::{Said, Shape, Size};
use trial::{Bench, Load, Trial};

/// What a plan gives.
#[derive(Clone, Debug)]
pub struct PlanOutcome {
    /// The answer, and all that it stands on.
    pub plan: Plan,
    /// The fleet that answers, complete.
    pub point: Option<Point>,
}

/// Multiples of the load at which the latencies of the answer are shown; between them the headroom and what is around it.
const SHOWN: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

/// Multiples of the headroom at which they are shown.
const AROUND: [f64; 4] = [0.9, 1.0, 1.08, 1.2];

impl Experiment {
    /// The cheapest fleet that keeps the promises of the scenario; `plan:` says what may be chosen. The outcome is the same for any
    /// number of threads. `command` is what makes the plan again; `on_news` hears how it goes, a line each.
    ///
    /// # Errors
    /// The scenario or its `plan:` is not valid, or nothing can be planned for it; no shape of fleet can be built at all; or a run
    /// stopped on the way.
    pub fn plan(&self, options: &Options, command: &str, on_news: &dyn Fn(&str)) -> Result<PlanOutcome, Error> {
        let (base, planned) = self.to_plan()?;
        refuse::what_cannot_be_planned(self, planned.spec.survive)?;
        let said = Said::by(base.source());
        let shapes = space::shapes(&planned, &said);
        let shapes = shapes.map_err(|why| base.source().refused("plan", &why, "fewer values make fewer shapes"))?;
        let candidates = candidates(&shapes, &base, &planned.spec, options);
        refuse::wrong_prices(&base, &planned.spec, &candidates)?;
        refuse::wrong_choices(&candidates, planned.axes.iter().flatten().map(|choice| choice.path.as_str()))?;
        let Some(first) = candidates.iter().find_map(|one| one.built.as_ref().ok()).cloned() else {
            // What is wrong is wrong with the scenario, or with all that may be chosen.
            let problems = candidates.into_iter().find_map(|one| one.problems);
            return Err(problems.map_or(Error::Plan("no shape of fleet is left to choose".to_owned()), Error::Scenario));
        };
        refuse::unknown_weights(&base, &planned.spec, &candidates)?;
        let promises = Promises::of(&first);
        if promises.is_empty() {
            let help = "say what users are promised, e.g. slo: { ttft_p99: 2s, tpot_p99: 50ms }";
            return Err(base.source().refused("slo", "a plan needs promises: which fleet is enough?", help).into());
        }
        let bench = Bench {
            promises: &promises,
            policies: base.policies(),
            options,
            power_most: planned.spec.power_most.map(|watts| watts.0),
        };
        let requests = Requests::read(&first, &planned.spec, &promises, options)?;
        let Some(requests) = requests else { return Ok(answer::stopped(&base, command)) };
        refuse::too_short_for_hours(&planned.spec, &requests)?;
        on_news(&requests.told());
        let fails_at = (planned.spec.survive > 0).then(|| requests.fails_at());
        let whole_fails_at = (planned.spec.survive > 0).then(|| requests.whole_fails_at());
        let mut hunt = Hunt { base: &base, candidates, bench, load: &requests.load, fails_at, interrupted: false };
        hunt.bound()?;
        let left = hunt.candidates.iter().filter(|one| one.search.is_some()).count();
        on_news(&format!("bounds leave {left} of {} shapes", hunt.candidates.len()));
        let found = cheapest(&mut hunt, &requests, whole_fails_at.as_deref(), on_news)?;
        hunt.alternatives()?;
        hunt.look_at_finalists()?;
        let mut answer = Answer {
            hunt: &hunt,
            requests: &requests,
            found,
            headroom: Vec::new(),
            growth: Vec::new(),
            curve: Vec::new(),
            split: None,
        };
        if let Some(found) = found.filter(|_| !hunt.interrupted) {
            let measured = Measured { hunt: &hunt, requests: &requests, found, seeds: planned.spec.seeds };
            if planned.spec.has_on_demand() {
                on_news("what each hour needs");
                answer.split = hours::split(&hunt, found)?;
            }
            on_news("headroom");
            answer.headroom = measured.headroom()?.unwrap_or_default();
            if let Some(most_cautious) = answer.headroom.first().cloned() {
                answer.curve = measured.curve(&most_cautious)?;
                answer.growth = measured.growth(&planned.spec.growth, most_cautious.growth)?;
            }
        }
        Ok(answer.outcome(&planned.spec, command))
    }
}

/// What the answer is measured with.
struct Measured<'a> {
    hunt: &'a Hunt<'a>,
    requests: &'a Requests,
    found: (usize, Size),
    seeds: u32,
}

impl Measured<'_> {
    /// How much more it holds, by each meaning of "more" that differs; the most cautious first. `None` if the user has stopped it.
    fn headroom(&self) -> Result<Option<Vec<Headroom>>, Error> {
        let hunt = self.hunt;
        let (at, size) = self.found;
        let points: Vec<Point> = hunt.points(at, size, hunt.fails_at.as_deref()).into_iter().flatten().collect();
        let load = |number: u64, near: f64| {
            let mut points = points.clone();
            for point in &mut points {
                point.scenario.seed = point.scenario.seed.wrapping_add(number);
                self.requests.lengthen(point, near, hunt.bench.promises);
            }
            let Some(first) = points.first() else { return Ok(None) };
            let load = if number == 0 {
                Some(self.requests.load.clone())
            } else {
                self.requests.again(first, hunt.bench.promises, hunt.bench.options)?
            };
            let seed = first.scenario.seed;
            Ok(load.map(|load| Seeded { seed, points, load }))
        };
        let seeds = Seeds { load: &load, least: self.seeds as usize };
        let found = headroom(&hunt.bench, &seeds, self.requests.growths(), hunt.bench.promises)?;
        Ok(found.map(|mut all| {
            all.sort_by(|a, b| a.factor.total_cmp(&b.factor));
            all
        }))
    }

    /// The load of the answer's own seed, long enough to be looked at at so many times the load. `None` if the user has stopped it.
    fn long_load(&self, point: &Point, factor: f64) -> Result<Option<Load>, Error> {
        let mut long = point.clone();
        self.requests.lengthen(&mut long, factor, self.hunt.bench.promises);
        if long == *point {
            return Ok(Some(self.requests.load.clone()));
        }
        self.requests.again(&long, self.hunt.bench.promises, self.hunt.bench.options)
    }

    /// Trials at multiples of the load, each to its end.
    fn curve(&self, headroom: &Headroom) -> Result<Vec<(f64, Load, Trial)>, Error> {
        let hunt = self.hunt;
        let (at, size) = self.found;
        let Some(Ok(point)) = hunt.points(at, size, None).into_iter().next() else { return Ok(Vec::new()) };
        let mut factors: Vec<f64> = SHOWN.into_iter().chain(AROUND.map(|share| share * headroom.factor)).collect();
        factors.sort_by(f64::total_cmp);
        factors.dedup_by(|a, b| *a / *b < 1.02);
        let Some(long) = self.long_load(&point, headroom.factor)? else { return Ok(Vec::new()) };
        let threads = pool::threads(hunt.bench.options.jobs, factors.len());
        let trials = pool::each(&factors, threads, &hunt.bench.options.cancel, |_, &factor| {
            let load = long.grown(headroom.growth, factor, point.scenario.seed, hunt.bench.promises);
            let trial = hunt.bench.on(&point, &load, true)?;
            Ok::<_, Error>((factor, load, trial))
        });
        let trials: Vec<_> = trials.into_iter().flatten().collect::<Result<_, Error>>()?;
        Ok(trials.into_iter().filter(|(.., trial)| !trial.interrupted).collect())
    }

    /// The smallest fleets of the answer's shape for larger loads.
    fn growth(&self, factors: &[f64], growth: Growth) -> Result<Vec<Grown>, Error> {
        let threads = pool::threads(self.hunt.bench.options.jobs, factors.len());
        let fleets = pool::each(factors, threads, &self.hunt.bench.options.cancel, |_, &factor| {
            Ok::<_, Error>((factor, self.grown(factor, growth)?))
        });
        let fleets: Vec<(f64, Option<Size>)> = fleets.into_iter().flatten().collect::<Result<_, Error>>()?;
        let candidate = &self.hunt.candidates[self.found.0];
        let grown = fleets.into_iter().map(|(factor, size)| Grown {
            factor,
            growth: growth.name().to_owned(),
            replicas: size.map(|size| size.to_string()),
            gpus: size.map(|size| candidate.weight.gpus(size)),
            usd_per_month: size.and_then(|size| Some(candidate.weight.usd(size)? * answer::MONTH_H)),
        });
        Ok(grown.collect())
    }

    fn grown(&self, factor: f64, growth: Growth) -> Result<Option<Size>, Error> {
        let hunt = self.hunt;
        let (at, size) = self.found;
        let candidate = &hunt.candidates[at];
        if factor <= 1.0 {
            return Ok(Some(size));
        }
        let Ok(point) = &candidate.built else { return Ok(None) };
        let Some(long) = self.long_load(point, factor)? else { return Ok(None) };
        let load = long.grown(growth, factor, point.scenario.seed, hunt.bench.promises);
        // A larger load needs at least the fleet of today's.
        let least = match size {
            Size::Together(replicas) => (replicas, 1),
            Size::Apart(prefill, decode) => (prefill, decode),
        };
        let Some(mut search) = candidate.search_from(least) else { return Ok(None) };
        while let Some(size) = search.next() {
            let mut held = true;
            for point in hunt.points(at, size, hunt.fails_at.as_deref()) {
                let Ok(point) = point else { return Ok(None) };
                let trial = hunt.bench.on(&sooner(&point, growth, factor), &load, false)?;
                // Larger fleets draw more.
                if trial.interrupted || trial.held() && hunt.bench.too_many_watts(&trial).is_some() {
                    return Ok(None);
                }
                if !trial.held() {
                    search.failed(size, side(&trial), trial.came());
                    held = false;
                    break;
                }
            }
            if held {
                search.held(size);
            }
        }
        Ok(search.best())
    }
}

/// Builds the smallest fleet of each shape.
fn candidates(shapes: &[Shape], base: &Experiment, spec: &PlanSpec, options: &Options) -> Vec<Candidate> {
    let threads = pool::threads(options.jobs, shapes.len());
    let new = |_, shape: &Shape| Candidate::new(shape.clone(), base, spec);
    pool::each(shapes, threads, &Cancel::new(), new).into_iter().flatten().collect()
}

/// Searches for the cheapest fleet that holds in the busiest stretch and over all requests. `None` if none does, or if the user has stopped it.
fn cheapest(
    hunt: &mut Hunt<'_>,
    requests: &Requests,
    whole_fails_at: Option<&str>,
    on_news: &dyn Fn(&str),
) -> Result<Option<(usize, Size)>, Error> {
    let objective = hunt.candidates.first().map_or(PlanObjective::Gpus, |one| one.weight.objective);
    loop {
        hunt.cheapest(&|tried, least| {
            on_news(&format!("{tried} fleets tried; the answer takes {} or more", amount(objective, least)));
        })?;
        let Some((at, size)) = hunt.answer().filter(|_| !hunt.interrupted) else { return Ok(None) };
        if requests.stretch.is_whole() {
            return Ok(Some((at, size)));
        }
        on_news(&format!("all requests on {} ({size} replicas)", hunt.candidates[at].shape.label));
        let trial = on_all_requests(hunt, requests, (at, size), whole_fails_at)?;
        if trial.interrupted {
            hunt.interrupted = true;
            return Ok(None);
        }
        let held = trial.held();
        hunt.tell_whole(at, size, trial);
        if held && hunt.candidates[at].too_many_watts(size).is_none() {
            return Ok(Some((at, size)));
        }
    }
}

/// Tries a fleet on all requests, with each loss that it must survive.
fn on_all_requests(
    hunt: &Hunt<'_>,
    requests: &Requests,
    (at, size): (usize, Size),
    fails_at: Option<&str>,
) -> Result<Trial, Error> {
    let mut last = None;
    for point in hunt.points(at, size, fails_at).into_iter().flatten() {
        let trial =
            hunt.bench.run(&point, &mut *point.workload()?, requests.judged_of_all(hunt.bench.promises), false)?;
        let go_on = trial.held() && !trial.interrupted;
        last = Some(trial);
        if !go_on {
            break;
        }
    }
    last.ok_or_else(|| Error::Plan("the answer cannot be built again".to_owned()))
}

/// So much of what a plan spares, in words.
fn amount(objective: PlanObjective, cost: f64) -> String {
    match objective {
        PlanObjective::Usd => format!("${cost} an hour"),
        PlanObjective::Gpus => format!("{cost} GPUs"),
        PlanObjective::Servers => format!("{cost} servers"),
        PlanObjective::Kw => format!("{cost} kW"),
    }
}

#[cfg(test)]
mod confidence;
#[cfg(test)]
mod tests;
