//! The lengths of a class of requests: empirical quantiles, and three families fitted to them.

use polars::prelude::*;

use super::FitError;
use crate::dist::LengthDist;
use crate::frame::{CLASS, TraceFrame};
use crate::quantile::{QuantileTable, mean};
use crate::significant::significant;

/// A family fitted to lengths, and how well.
#[derive(Clone, PartialEq, Debug)]
pub struct LengthFit {
    /// The distribution.
    pub dist: LengthDist,
    /// Its mean [tokens].
    pub mean: f64,
    /// Largest distance between its distribution function and that of the lengths (Kolmogorov-Smirnov).
    pub ks: f64,
}

/// How often each length occurs, in order of length.
#[derive(Clone, PartialEq, Debug)]
pub struct Counts {
    values: Vec<(u32, u64)>,
    total: u64,
}

/// Probabilities of the empirical quantiles: every percent, and finer at the ends.
fn probabilities() -> impl Iterator<Item = f64> {
    let ends = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005];
    let middle = (1..100).map(|percent| f64::from(percent) / 100.0);
    ends.into_iter().chain(middle).chain(ends.into_iter().rev().map(|p| 1.0 - p))
}

/// Quantiles of a fit that are compared with the lengths.
const STEPS: u32 = 20_000;

/// Lengths in a table of Zipf's distribution, at most.
const ZIPF_MAX: u32 = 1 << 17;

/// Where the tail may begin: shares of the requests that lie in it.
fn tails() -> impl Iterator<Item = f64> {
    std::iter::successors(Some(0.5), |share| Some(share * 0.97)).take_while(|share| *share > 0.005)
}

impl Counts {
    /// How long the requests of a class are, by the name of a column of the frame.
    pub(crate) fn of(frame: &TraceFrame, class: u32, column: &str) -> Result<Counts, FitError> {
        let table = frame.lazy().filter(col(CLASS).eq(lit(class))).group_by([col(column)]).agg([len().alias("n")]);
        let table = table.sort([column], SortMultipleOptions::default()).collect()?;
        let (values, counts) = (table.column(column)?.u32()?.clone(), table.column("n")?.cast(&DataType::Int64)?);
        let values = values.iter().zip(counts.i64()?.iter());
        Ok(Counts::new(values.filter_map(|(value, n)| Some((value?, n? as u64))).collect()))
    }

    pub(crate) fn from_values(values: impl Iterator<Item = u32>) -> Counts {
        let mut counts = std::collections::BTreeMap::new();
        for value in values {
            *counts.entry(value).or_insert(0) += 1;
        }
        Counts::new(counts.into_iter().collect())
    }

    fn new(values: Vec<(u32, u64)>) -> Counts {
        let total = values.iter().map(|(_, n)| n).sum();
        Counts { values, total }
    }

    /// Requests.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Mean length [tokens].
    pub fn mean(&self) -> f64 {
        self.sum(f64::from) / self.total as f64
    }

    fn sum(&self, of: impl Fn(u32) -> f64) -> f64 {
        self.values.iter().map(|(value, n)| of(*value) * *n as f64).sum()
    }

    fn max(&self) -> u32 {
        self.values.last().map_or(1, |(value, _)| *value)
    }

    /// Nearest-rank quantile.
    fn quantile(&self, p: f64) -> u32 {
        let rank = (p * self.total as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let reached = self.values.iter().find(|(_, n)| {
            below += n;
            below >= rank
        });
        reached.map_or_else(|| self.max(), |(value, _)| *value)
    }

    /// All families, the empirical quantiles first; a family that cannot be is left out.
    pub fn fits(&self) -> Vec<LengthFit> {
        // One length is no family.
        if let [(only, _)] = self.values[..] {
            return vec![self.judge(LengthDist::Fixed(only))];
        }
        let dists = [Some(self.quantiles()), Some(self.log_normal(self.max())), self.zipf(), self.pareto_mixture()];
        dists.into_iter().flatten().map(|dist| self.judge(dist)).collect()
    }

    /// How well a distribution describes the lengths.
    fn judge(&self, dist: LengthDist) -> LengthFit {
        let points = dist.points();
        let table = QuantileTable::new(&points);
        let mut drawn: Vec<u32> = (0..STEPS).map(|i| table.at((f64::from(i) + 0.5) / f64::from(STEPS))).collect();
        drawn.sort_unstable();
        let share = |limit: u32| drawn.partition_point(|value| *value <= limit) as f64 / f64::from(STEPS);
        let (mut below, mut ks) = (0, 0f64);
        for &(value, n) in &self.values {
            // Just below a length, and at it.
            let before = share(value.saturating_sub(1)) - below as f64 / self.total as f64;
            below += n;
            ks = ks.max(before.abs()).max((share(value) - below as f64 / self.total as f64).abs());
        }
        LengthFit { mean: mean(&points), ks, dist }
    }

    fn quantiles(&self) -> LengthDist {
        let mut points = vec![(0.0, self.values.first().map_or(1, |(value, _)| *value))];
        points.extend(probabilities().map(|p| (significant(p, 4), self.quantile(p))));
        points.push((1.0, self.max()));
        // Of a run of equal lengths, the ends say all.
        let ends = |at: usize| {
            let same = |other: Option<&(f64, u32)>| other.is_some_and(|(_, value)| *value == points[at].1);
            !(at > 0 && same(points.get(at - 1)) && same(points.get(at + 1)))
        };
        LengthDist::Quantiles((0..points.len()).filter(|at| ends(*at)).map(|at| points[at]).collect())
    }

    fn log_normal(&self, max: u32) -> LengthDist {
        let n = self.total as f64;
        let mu = self.sum(|value| f64::from(value).ln()) / n;
        let variance = self.sum(|value| (f64::from(value).ln() - mu).powi(2)) / n;
        let median = (mu.exp().round() as u32).clamp(1, max);
        LengthDist::LogNormal { median, sigma: significant(variance.sqrt(), 4), max }
    }

    /// Maximum likelihood over the exponent. The likelihood is concave.
    fn zipf(&self) -> Option<LengthDist> {
        let max = self.max();
        let mean_ln = self.sum(|value| f64::from(value).ln()) / self.total as f64;
        let slope = |exponent: f64| {
            let (mut weights, mut weighted) = (0.0, 0.0);
            for n in 1..=max {
                let ln = f64::from(n).ln();
                let weight = (-exponent * ln).exp();
                weights += weight;
                weighted += weight * ln;
            }
            weighted / weights - mean_ln
        };
        (2..=ZIPF_MAX).contains(&max).then(|| {
            let (mut low, mut high) = (0.0, 20.0);
            while high - low > 1e-4 {
                let middle = 0.5 * (low + high);
                if slope(middle) > 0.0 { low = middle } else { high = middle }
            }
            LengthDist::Zipf { exponent: significant(low, 4), max }
        })
    }

    /// A log-normal body below a Pareto tail; of several starts of the tail, the one that fits best.
    fn pareto_mixture(&self) -> Option<LengthDist> {
        let mixtures = tails().filter_map(|share| self.tail_of(share)).map(|dist| self.judge(dist));
        mixtures.min_by(|a, b| a.ks.total_cmp(&b.ks)).map(|fit| fit.dist)
    }

    fn tail_of(&self, share: f64) -> Option<LengthDist> {
        let (tail_min, max) = (self.quantile(1.0 - share), self.max());
        let cut = self.values.partition_point(|(value, _)| *value < tail_min);
        let (body, tail) = (Counts::new(self.values[..cut].to_vec()), Counts::new(self.values[cut..].to_vec()));
        // A tail from a length to itself is none.
        if body.total == 0 || tail.values.len() < 10 || max <= tail_min {
            return None;
        }
        let LengthDist::LogNormal { median, sigma, .. } = body.log_normal(tail_min) else { return None };
        let tail_alpha = significant(tail.alpha(tail_min, max), 4);
        let tail_share = significant(tail.total as f64 / self.total as f64, 4);
        Some(LengthDist::ParetoMixture { median, sigma, tail_share, tail_min, tail_alpha, max })
    }

    /// Exponent of a Pareto distribution between two lengths, by maximum likelihood.
    ///
    /// Solves `1/a + ln(r) r^a / (1 - r^a) = mean of ln(x / min)` with `r = min / max`; the left side falls.
    fn alpha(&self, min: u32, max: u32) -> f64 {
        let low_ln = f64::from(min).ln();
        let mean_ln = self.sum(|value| f64::from(value).ln() - low_ln) / self.total as f64;
        let ratio_ln = low_ln - f64::from(max).ln();
        let left = |alpha: f64| 1.0 / alpha - ratio_ln * (ratio_ln * alpha).exp() / (ratio_ln * alpha).exp_m1();
        let (mut low, mut high) = (0.01f64, 20.0);
        while high - low > 1e-5 {
            let middle = 0.5 * (low + high);
            if left(middle) > mean_ln { low = middle } else { high = middle }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths as a distribution draws them.
    fn drawn(dist: &LengthDist) -> Counts {
        let table = QuantileTable::new(&dist.points());
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..100_000 {
            *counts.entry(table.at((f64::from(i) + 0.5) / 1e5)).or_insert(0) += 1;
        }
        Counts::new(counts.into_iter().collect())
    }

    #[test]
    fn parameters_are_recovered() {
        let counts = drawn(&LengthDist::LogNormal { median: 300, sigma: 0.8, max: 20_000 });
        let fits = counts.fits();
        let LengthDist::LogNormal { median, sigma, .. } = fits[1].dist else { panic!("{fits:?}") };
        assert!(median.abs_diff(300) <= 3 && (sigma - 0.8).abs() < 0.01 && fits[1].ks < 0.01, "{fits:?}");
        let fits = drawn(&LengthDist::Zipf { exponent: 1.1, max: 1023 }).fits();
        let LengthDist::Zipf { exponent, max: 1023 } = fits[2].dist else { panic!("{fits:?}") };
        assert!((exponent - 1.1).abs() < 0.01 && fits[2].ks < 0.01, "{fits:?}");
        let (tail_share, tail_min, tail_alpha) = (0.1, 2000, 1.5);
        let mixture =
            LengthDist::ParetoMixture { median: 100, sigma: 0.5, tail_share, tail_min, tail_alpha, max: 100_000 };
        let fits = drawn(&mixture).fits();
        let LengthDist::ParetoMixture { median, sigma, tail_share, tail_alpha, .. } = fits[3].dist else {
            panic!("{fits:?}")
        };
        assert!(median.abs_diff(100) <= 2 && (sigma - 0.5).abs() < 0.02, "{fits:?}");
        assert!((tail_share - 0.1).abs() < 0.01 && (tail_alpha - 1.5).abs() < 0.05 && fits[3].ks < 0.02, "{fits:?}");
    }

    #[test]
    fn quantiles_keep_the_mean_and_single_lengths_are_fixed() {
        let counts = drawn(&LengthDist::LogNormal { median: 300, sigma: 1.2, max: 30_000 });
        let fit = &counts.fits()[0];
        assert!((fit.mean / counts.mean() - 1.0).abs() < 0.01 && fit.ks < 0.01, "{fit:?} {}", counts.mean());
        assert_eq!(fit.dist.problems("x"), []);
        let fits = Counts::new(vec![(7, 60)]).fits();
        assert_eq!((fits[0].dist.clone(), fits[0].ks), (LengthDist::Fixed(7), 0.0));
        // A spike among others is no slope.
        let spike = Counts::new(vec![(7, 900), (100, 50), (200, 50)]);
        let fit = &spike.fits()[0];
        assert!(fit.ks < 0.02 && (fit.mean / spike.mean() - 1.0).abs() < 0.05, "{fit:?}");
    }
}
