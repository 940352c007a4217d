//! How much more load a fleet holds: the largest multiple of its requests, by bisection, for several seeds and several meanings of
//! "more".

use overbook_scenarios::Point;
use overbook_sim::results::interval::Interval;
use overbook_traces::Growth;

use super::judge::Promises;
use super::trial::{Bench, Load};
use crate::{Error, pool};

/// Bisection ends when the load that holds and the one that does not are this near to each other.
pub(crate) const RESOLUTION: f64 = 1.02;

/// Multiples of the load that are looked at.
const LEAST: f64 = 0.1;
const MOST: f64 = 16.0;

/// More seeds are run until the interval of their mean is this narrow on either side, beside what bisection leaves open: a share.
const HALF: f64 = 0.025;

/// Seeds at most, unless more are asked for.
const SEEDS_MOST: usize = 24;

/// A load with a seed of its own, and the fleet with that seed: as it is, and with each loss that it must survive.
pub(crate) struct Seeded {
    pub(crate) seed: u64,
    /// One for each loss that the fleet must survive.
    pub(crate) points: Vec<Point>,
    pub(crate) load: Load,
}

/// How much more load a fleet holds.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Headroom {
    pub(crate) growth: Growth,
    /// The largest multiple of each seed.
    pub(crate) factors: Vec<f64>,
    /// Their geometric mean, and the ends of the 95 % interval of that mean, with what bisection leaves open.
    pub(crate) factor: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Headroom {
    /// Of these factors, whose spread was known from the first `known` of them when their number was chosen (Stein 1945): then the interval
    /// is that of their mean by Student's t of the first ones, however many there are.
    fn of(growth: Growth, factors: Vec<f64>, known: usize) -> Headroom {
        let logs: Vec<f64> = factors.iter().map(|factor| factor.ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        let half = spread(&factors[..known]) / (factors.len() as f64).sqrt() + RESOLUTION.ln() / 2.0;
        Headroom { growth, factors, factor: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp() }
    }

    /// The interval joined with a relative error of the simulation, which is independent of the draws.
    pub(crate) fn joined(&self, error: f64) -> (f64, f64) {
        let half = |end: f64| ((end / self.factor).ln().powi(2) + error.ln_1p().powi(2)).sqrt();
        (self.factor * (-half(self.low)).exp(), self.factor * half(self.high).exp())
    }
}

/// Seeds behind a headroom.
pub(crate) struct Seeds<'a> {
    /// Makes the load of a seed by its number, long enough to be looked at near such a multiple of it: 0 is the seed that the answer was found
    /// with. `None` if the user has stopped it.
    pub(crate) load: &'a (dyn Fn(u64, f64) -> Result<Option<Seeded>, Error> + Sync),
    /// Seeds, as long as their interval is narrow enough, 2 or more.
    pub(crate) least: usize,
}

/// Measures the headroom of a fleet. `None` if the user has stopped it.
///
/// The seed that the answer was found with does not count: the fleet was chosen because it holds there. It says where the others
/// begin. The first of them say how many are needed.
pub(crate) fn headroom(
    bench: &Bench<'_>,
    seeds: &Seeds<'_>,
    growths: &[Growth],
    promises: &Promises,
) -> Result<Option<Vec<Headroom>>, Error> {
    let options = bench.options;
    let threads = |pieces: usize| pool::threads(options.jobs, pieces);
    let Some(deciding) = (seeds.load)(0, 1.0)? else { return Ok(None) };
    let first = pool::each(growths, threads(growths.len()), &options.cancel, |_, &growth| {
        largest(bench, &deciding, growth, promises, 1.0)
    });
    drop(deciding);
    let Some(first) = whole(first)? else { return Ok(None) };
    let near = first.iter().copied().fold(1.0, f64::max);
    // Each seed is read once for all growths that need it, and no seed waits for another.
    let of_seeds = |numbers: std::ops::RangeInclusive<usize>, needed: &[usize]| {
        let numbers: Vec<usize> = numbers.collect();
        let found = pool::each(&numbers, threads(numbers.len()), &options.cancel, |_, &number| {
            let Some(seeded) = (seeds.load)(number as u64, near)? else { return Ok(None) };
            let wanted = growths.iter().zip(&first).zip(needed).filter(|(_, needed)| number <= **needed);
            wanted.map(|((&growth, &near), _)| largest(bench, &seeded, growth, promises, near)).collect()
        });
        whole::<Vec<f64>>(found)
    };
    let Some(known) = of_seeds(1..=seeds.least, &vec![seeds.least; growths.len()])? else { return Ok(None) };
    let mut factors: Vec<Vec<f64>> =
        (0..growths.len()).map(|at| known.iter().map(|of_seed| of_seed[at]).collect()).collect();
    let needed: Vec<usize> = factors.iter().map(|known| enough(known)).collect();
    let most = needed.iter().copied().max().unwrap_or(0);
    let Some(more) = of_seeds(seeds.least + 1..=most, &needed)? else { return Ok(None) };
    for (before, of_seed) in more.into_iter().enumerate() {
        let number = seeds.least + 1 + before;
        let wanted = factors.iter_mut().zip(&needed).filter(|(_, needed)| number <= **needed);
        wanted.zip(of_seed).for_each(|((factors, _), factor)| factors.push(factor));
    }
    let all = growths.iter().zip(factors).map(|(&growth, factors)| Headroom::of(growth, factors, seeds.least));
    Ok(Some(all.collect()))
}

/// Student's t times the standard deviation of the logarithms: half the width of the interval of a single one.
fn spread(factors: &[f64]) -> f64 {
    let logs: Vec<f64> = factors.iter().map(|factor| factor.ln()).collect();
    Interval::of(&logs)
        .and_then(|interval| interval.half)
        .map_or(f64::INFINITY, |half| half * (logs.len() as f64).sqrt())
}

/// Seeds that make the interval narrow enough, given the factors of the first ones; not more than are worth their time.
fn enough(known: &[f64]) -> usize {
    let needed = (spread(known) / HALF).powi(2).ceil();
    (needed.min(SEEDS_MOST as f64) as usize).max(known.len())
}

/// All results, if none is missing.
fn whole<T>(results: Vec<Option<Result<Option<T>, Error>>>) -> Result<Option<Vec<T>>, Error> {
    let mut all = Vec::with_capacity(results.len());
    for result in results {
        match result.transpose()?.flatten() {
            Some(factor) => all.push(factor),
            None => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// The largest multiple of a load that a fleet holds: between the last that held and the first that did not. `None` if stopped.
fn largest(
    bench: &Bench<'_>,
    seeded: &Seeded,
    growth: Growth,
    promises: &Promises,
    near: f64,
) -> Result<Option<f64>, Error> {
    let holds = |factor: f64| -> Result<Option<bool>, Error> {
        let load = seeded.load.grown(growth, factor, seeded.seed, promises);
        for point in &seeded.points {
            let trial = bench.on(&sooner(point, growth, factor), &load, false)?;
            if trial.interrupted || !bench.holds(&trial) {
                return Ok((!trial.interrupted).then_some(false));
            }
        }
        Ok(Some(true))
    };
    bisected(near, holds)
}

/// A fleet whose replicas fail that much sooner, where the requests come in less time.
pub(crate) fn sooner(point: &Point, growth: Growth, factor: f64) -> Point {
    let mut point = point.clone();
    if growth == Growth::Faster {
        for failure in &mut point.scenario.fleet.controllers.failures {
            failure.at.0.0 = (failure.at.0.0 as f64 / factor) as u64;
        }
    }
    point
}

/// The boundary of a rule that holds below it, by steps from `near` and then by bisection.
fn bisected(near: f64, mut holds: impl FnMut(f64) -> Result<Option<bool>, Error>) -> Result<Option<f64>, Error> {
    let (mut low, mut high): (Option<f64>, Option<f64>) = (None, None);
    let (mut at, mut step) = (near, 1.06);
    loop {
        let Some(held) = holds(at)? else { return Ok(None) };
        if held {
            low = Some(at);
        } else {
            high = Some(at);
        }
        at = match (low, high) {
            (Some(low), Some(high)) if high / low <= RESOLUTION => return Ok(Some((low * high).sqrt())),
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) if low >= MOST => return Ok(Some(MOST)),
            (Some(low), None) => (low * step).min(MOST),
            (None, Some(high)) if high <= LEAST => return Ok(Some(LEAST)),
            (None, high) => (high.unwrap_or(near) / step).max(LEAST),
        };
        // Far from the boundary the steps become larger.
        step = step.powf(1.6).min(2.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_boundary_is_found_from_both_sides() {
        for boundary in [0.3, 0.99, 1.01, 1.7, 6.0] {
            for near in [1.0, boundary * 1.03, boundary / 1.03] {
                let mut tries = 0;
                let found = bisected(near, |at| {
                    tries += 1;
                    Ok(Some(at <= boundary))
                });
                let found = found.unwrap().unwrap();
                assert!(
                    (found / boundary).ln().abs() <= RESOLUTION.ln() / 2.0 + 1e-9,
                    "{boundary} from {near}: {found}"
                );
                assert!(tries <= 14, "{tries} tries");
            }
        }
        assert_eq!(bisected(1.0, |_| Ok(Some(true))).unwrap(), Some(MOST));
        assert_eq!(bisected(1.0, |_| Ok(None)).unwrap(), None);
    }

    #[test]
    fn as_many_seeds_are_run_as_the_width_asks_for() {
        // (2.776 · 0.0354 ÷ 0.025)² = 15.4.
        assert_eq!(enough(&[2.0, 2.1, 1.9, 2.0, 2.0]), 16);
        assert_eq!(enough(&[2.0, 2.01, 1.99]), 3);
        assert_eq!(enough(&[2.0, 3.0]), SEEDS_MOST);
        assert_eq!(enough(&[2.0; 40]), 40);
    }

    #[test]
    fn the_interval_is_that_of_the_mean_and_joins_the_error() {
        let one = Headroom::of(Growth::Faster, vec![2.0, 2.1, 1.9, 2.0, 2.0], 5);
        // Logarithms: mean 0.6921, standard deviation 0.0354; 2.776 · 0.0354 ÷ √5 = 0.0439; and half of 2 %.
        assert!((one.factor - 1.998).abs() < 0.001, "{one:?}");
        assert!(((one.high / one.factor).ln() - 0.0439 - 0.0099).abs() < 0.001, "{one:?}");
        let (low, high) = one.joined(0.1);
        // √(0.0538² + ln(1.1)²) = 0.1095.
        assert!(((high / one.factor).ln() - 0.1095).abs() < 0.001 && low < one.low && high > one.high);
        // The spread is that of the first ones, and more of them make the interval narrower.
        let more = Headroom::of(Growth::Faster, [2.0, 2.1, 1.9, 2.0, 2.0].repeat(4), 5);
        assert!(((more.high / more.factor).ln() - 0.0439 / 2.0 - 0.0099).abs() < 0.001, "{more:?}");
        let (low, high) = one.joined(0.0);
        assert!((low - one.low).abs() < 1e-9 && (high - one.high).abs() < 1e-9);
    }
}
