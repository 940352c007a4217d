//! Lengths from the buckets of a histogram.
//!
//! Within a bucket the quantile curve has a knee in the middle. All knees stand at the same part of the width of their
//! buckets, which is chosen so that the mean is that of the histogram's `_sum`: one parameter, and the mean is exact
//! where the buckets allow it. What lies beyond the last bound goes up to the next step of the series 1, 2, 5, 10, ...:
//! vLLM's buckets end at the last step that is no longer than the context.

use super::{Metrics, MetricsError, MetricsOptions, Series};
use crate::number::TOKENS_MAX;
use crate::significant::significant;

/// Lengths read off a histogram.
#[derive(Clone, PartialEq, Debug)]
pub struct BucketFit {
    /// Points of the quantile curve: probability and tokens.
    pub points: Vec<(f64, u32)>,
    /// Requests counted.
    pub requests: f64,
    /// Their mean length, from the histogram's sum [tokens].
    pub mean: f64,
    /// The mean of the points [tokens].
    pub fitted_mean: f64,
    /// Where the knees stand in their buckets: 0 at the start, 0.5 even, 1 at the end.
    pub knee: f64,
    /// Share of requests beyond the last bound.
    pub beyond: f64,
}

/// A bucket: shortest and longest length, and requests.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    low: f64,
    high: f64,
    requests: f64,
}

pub(super) fn of(metrics: &Metrics, name: &'static str, options: &MetricsOptions) -> Result<BucketFit, MetricsError> {
    let series = metrics.needed(&format!("{name}_bucket"), options)?;
    let bounds = bounds(&series, name, metrics)?;
    let sums = metrics.needed(&format!("{name}_sum"), options)?;
    let sum: f64 = sums.iter().map(|series| series.increase().0).sum();
    let contradiction = |what: String| MetricsError::Buckets { name, what };
    let (Some(&(last, _)), Some(&(infinite, total))) = (bounds.iter().rev().nth(1), bounds.last()) else {
        return Err(contradiction("there are not two of them".to_owned()));
    };
    if infinite.is_finite() {
        return Err(contradiction("the one with le=\"+Inf\" is missing".to_owned()));
    }
    if total <= 0.0 {
        return Err(MetricsError::Idle);
    }
    let (mut low, mut below) = (1.0, 0.0);
    let mut buckets = Vec::new();
    for (bound, up_to) in bounds {
        // Counters of one scrape are not read at the same instant.
        let requests = up_to - below;
        if requests < -0.01 * total {
            return Err(contradiction(format!("fewer requests up to {bound} tokens than up to the bound before")));
        }
        let high = if bound.is_finite() { bound } else { next_step(last) }.clamp(low, f64::from(TOKENS_MAX));
        buckets.push(Bucket { low, high, requests: requests.max(0.0) });
        (low, below) = (high + 1.0, up_to.max(below));
    }
    let beyond = buckets.last().map_or(0.0, |bucket| bucket.requests) / total;
    buckets.retain(|bucket| bucket.requests > 0.0);
    Ok(fit(&buckets, sum, beyond))
}

/// Upper bounds and requests up to them, of all servers together, in order.
fn bounds(series: &[Series<'_>], name: &'static str, metrics: &Metrics) -> Result<Vec<(f64, f64)>, MetricsError> {
    let mut bounds: Vec<(f64, f64, u32)> = Vec::new();
    for series in series {
        let text = series.label("le").unwrap_or_default();
        let what = || format!("le=\"{text}\" is no number");
        let le: f64 = text.parse().map_err(|_| MetricsError::Buckets { name, what: what() })?;
        let gain = series.increase().0;
        match bounds.iter_mut().find(|(bound, ..)| bound.total_cmp(&le).is_eq()) {
            Some((_, sum, servers)) => (*sum, *servers) = (*sum + gain, *servers + 1),
            None => bounds.push((le, gain, 1)),
        }
    }
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    if bounds.iter().any(|(.., servers)| *servers != bounds[0].2) {
        return Err(MetricsError::OtherBuckets { name, models: metrics.models().join(", ") });
    }
    Ok(bounds.into_iter().map(|(bound, gain, _)| (bound, gain)).collect())
}

/// The next step of 1, 2, 5, 10, 20, 50, ...
fn next_step(bound: f64) -> f64 {
    let decade = 10f64.powf(bound.max(1.0).log10().floor());
    [2.0, 5.0, 10.0].map(|step| step * decade).into_iter().find(|step| *step > bound).unwrap_or(20.0 * decade)
}

fn fit(buckets: &[Bucket], sum: f64, beyond: f64) -> BucketFit {
    let total: f64 = buckets.iter().map(|bucket| bucket.requests).sum();
    let mean = sum / total;
    // The mean of a bucket with its knee at `low + t (high - low)` is `(3 low + high) / 4 + t (high - low) / 2`.
    let of = |value: &dyn Fn(&Bucket) -> f64| buckets.iter().map(|b| b.requests * value(b)).sum::<f64>() / total;
    let (least, width) = (of(&|b| (3.0 * b.low + b.high) / 4.0), of(&|b| (b.high - b.low) / 2.0));
    let knee = if width > 0.0 { ((mean - least) / width).clamp(0.0, 1.0) } else { 0.5 };
    let mut points = Vec::with_capacity(3 * buckets.len());
    let mut below = 0.0;
    for Bucket { low, high, requests } in buckets {
        let at = |part: f64| significant(((below + part * requests) / total).min(1.0), 7);
        let middle = low + knee * (high - low);
        points.extend([(at(0.0), *low as u32), (at(0.5), middle.round() as u32), (at(1.0), *high as u32)]);
        below += requests;
    }
    points.dedup();
    if let Some(last) = points.last_mut() {
        last.0 = 1.0;
    }
    BucketFit { requests: total, mean, fitted_mean: crate::quantile::mean(&points), knee, beyond, points }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        for (bound, next) in [(1.0, 2.0), (2.0, 5.0), (5.0, 10.0), (20_000.0, 50_000.0), (131_072.0, 200_000.0)] {
            assert!((next_step(bound) - next).abs() < 1e-6, "{bound}");
        }
    }

    #[test]
    fn the_mean_is_that_of_the_sum() {
        let bucket = |low, high, requests| Bucket { low, high, requests };
        let buckets = [bucket(1.0, 1.0, 5.0), bucket(101.0, 200.0, 60.0), bucket(201.0, 500.0, 35.0)];
        for (mean, reached) in [(180.0, true), (200.0, true), (240.0, true), (160.0, false), (400.0, false)] {
            let fit = fit(&buckets, mean * 100.0, 0.0);
            assert_eq!((fit.fitted_mean / mean - 1.0).abs() < 0.003, reached, "{fit:?}");
            assert!(crate::dist::points_problems("x", &fit.points).is_empty(), "{fit:?}");
        }
    }
}
