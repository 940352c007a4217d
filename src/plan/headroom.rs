//! How much more load a fleet holds: the largest multiple of its requests, by bisection, for several seeds and several meanings of
//! "more".

use overbook_scenarios::Point;
use overbook_traces::Growth;

use super::judge::Promises;
use super::trial::{Bench, Load};
use crate::{Error, pool};

/// Bisection ends when the load that holds and the one that does not are this near to each other.
pub(crate) const RESOLUTION: f64 = 1.02;

/// Multiples of the load that are looked at.
const LEAST: f64 = 0.1;
const MOST: f64 = 16.0;

/// The t distribution's 97.5 % quantile for 1 to 30 degrees of freedom (any statistics table).
const T975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Beyond the table: the normal distribution's.
const Z975: f64 = 1.960;

/// A load with a seed of its own, and the fleet with that seed: as it is, and with each loss that it must survive.
pub(crate) struct Seeded {
    pub(crate) seed: u64,
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
    fn of(growth: Growth, factors: Vec<f64>) -> Headroom {
        let n = factors.len() as f64;
        let logs: Vec<f64> = factors.iter().map(|factor| factor.ln()).collect();
        let mean = logs.iter().sum::<f64>() / n;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let t = T975.get(factors.len().saturating_sub(2)).copied().unwrap_or(Z975);
        let half = t * (variance / n).sqrt() + RESOLUTION.ln() / 2.0;
        Headroom { growth, factors, factor: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp() }
    }

    /// The interval joined with a relative error of the simulation, which is independent of the draws.
    pub(crate) fn joined(&self, error: f64) -> (f64, f64) {
        let half = |end: f64| ((end / self.factor).ln().powi(2) + error.ln_1p().powi(2)).sqrt();
        (self.factor * (-half(self.low)).exp(), self.factor * half(self.high).exp())
    }
}

/// Measures the headroom of a fleet. `None` if the user has stopped it.
pub(crate) fn headroom(
    bench: &Bench<'_>,
    seeded: &[Seeded],
    growths: &[Growth],
    promises: &Promises,
) -> Result<Option<Vec<Headroom>>, Error> {
    let options = bench.options;
    // The first seed says where the others begin.
    let firsts: Vec<(Growth, usize)> = growths.iter().map(|&growth| (growth, 0)).collect();
    let threads = |pieces: usize| pool::threads(options.jobs, pieces);
    let one = |growth: Growth, seed: usize, near: f64| largest(bench, &seeded[seed], growth, promises, near);
    let first =
        pool::each(&firsts, threads(firsts.len()), &options.cancel, |_, &(growth, seed)| one(growth, seed, 1.0));
    let Some(first) = whole(first)? else { return Ok(None) };
    let rest: Vec<(usize, usize)> =
        (0..growths.len()).flat_map(|growth| (1..seeded.len()).map(move |seed| (growth, seed))).collect();
    let more = pool::each(&rest, threads(rest.len()), &options.cancel, |_, &(growth, seed)| {
        one(growths[growth], seed, first[growth])
    });
    let Some(more) = whole(more)? else { return Ok(None) };
    let per_growth = seeded.len() - 1;
    let all = growths.iter().enumerate().map(|(at, &growth)| {
        let rest = &more[at * per_growth..(at + 1) * per_growth];
        Headroom::of(growth, std::iter::once(first[at]).chain(rest.iter().copied()).collect())
    });
    Ok(Some(all.collect()))
}

/// All results, if none is missing.
fn whole(results: Vec<Option<Result<Option<f64>, Error>>>) -> Result<Option<Vec<f64>>, Error> {
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
            if trial.interrupted || !trial.held() {
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
    fn the_interval_is_that_of_the_mean_and_joins_the_error() {
        let one = Headroom::of(Growth::Faster, vec![2.0, 2.1, 1.9, 2.0, 2.0]);
        // Logarithms: mean 0.6921, standard deviation 0.0354; 2.776 · 0.0354 ÷ √5 = 0.0439; and half of 2 %.
        assert!((one.factor - 1.998).abs() < 0.001, "{one:?}");
        assert!(((one.high / one.factor).ln() - 0.0439 - 0.0099).abs() < 0.001, "{one:?}");
        let (low, high) = one.joined(0.1);
        // √(0.0538² + ln(1.1)²) = 0.1095.
        assert!(((high / one.factor).ln() - 0.1095).abs() < 0.001 && low < one.low && high > one.high);
        let (low, high) = one.joined(0.0);
        assert!((low - one.low).abs() < 1e-9 && (high - one.high).abs() < 1e-9);
    }
}
