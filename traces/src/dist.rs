//! Distributions of a length, all brought into one form: points of the quantile curve, linear in between.

use serde::{Deserialize, Serialize};

use crate::error::Problem;
use crate::number::TOKENS_MAX;

/// How long prompts, or outputs, are.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LengthDist {
    /// All alike [tokens].
    Fixed(u32),
    /// Drawn from quantiles, linear in between: pairs of probability and tokens, from probability 0 to 1.
    Quantiles(Vec<(f64, u32)>),
    /// Log-normal, cut off at `max`.
    LogNormal {
        /// Half of the requests are shorter [tokens].
        median: u32,
        /// Standard deviation of the logarithm.
        sigma: f64,
        /// Longest [tokens]; longer draws are cut to it.
        max: u32,
    },
    /// Zipf: `n` tokens with probability proportional to `n^-exponent`, from 1 to `max` (BurstGPT-Perf: 1.1 and 1023).
    Zipf {
        /// Exponent; 0 is uniform.
        exponent: f64,
        /// Longest [tokens].
        max: u32,
    },
    /// A log-normal body and a Pareto tail (ServeGen's model of prompts).
    ParetoMixture {
        /// Median of the body [tokens].
        median: u32,
        /// Standard deviation of the body's logarithm.
        sigma: f64,
        /// Share of requests in the tail.
        tail_share: f64,
        /// Shortest request of the tail [tokens].
        tail_min: u32,
        /// Exponent of the tail: the share above `x` falls like `x^-alpha`.
        tail_alpha: f64,
        /// Longest [tokens]. The body is cut to it, the tail ends there.
        max: u32,
    },
}

/// Spread accepted: one standard deviation is a factor of e^8 at most.
const SIGMAS: std::ops::RangeInclusive<f64> = 0.0..=8.0;
/// Exponents accepted.
const EXPONENTS: std::ops::RangeInclusive<f64> = 0.0..=20.0;
/// A Zipf distribution is a table of this many lengths at most.
const ZIPF_MAX: u32 = 1 << 17;

impl LengthDist {
    /// Everything that is wrong with the values, as (path below `prefix`, message).
    pub(crate) fn problems(&self, prefix: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: Option<String>| {
            problems.extend(message.map(|message| (format!("{prefix}.{path}"), message)));
        };
        match self {
            LengthDist::Fixed(tokens) => add("fixed", tokens_problem(*tokens)),
            LengthDist::Quantiles(points) => problems = points_problems(&format!("{prefix}.quantiles"), points),
            LengthDist::LogNormal { median, sigma, max } => {
                add("log-normal.median", tokens_problem(*median));
                add("log-normal.sigma", range_problem(*sigma, &SIGMAS));
                add("log-normal.max", tokens_problem(*max).or_else(|| below_problem(*max, *median, "median")));
            }
            LengthDist::Zipf { exponent, max } => {
                add("zipf.exponent", range_problem(*exponent, &EXPONENTS));
                let large = *max > ZIPF_MAX;
                let large = large.then(|| format!("is {max}; it must be at most {ZIPF_MAX} tokens"));
                add("zipf.max", tokens_problem(*max).or(large));
            }
            LengthDist::ParetoMixture { median, sigma, tail_share, tail_min, tail_alpha, max } => {
                add("pareto-mixture.median", tokens_problem(*median));
                add("pareto-mixture.sigma", range_problem(*sigma, &SIGMAS));
                add("pareto-mixture.tail_share", range_problem(*tail_share, &(0.0..=1.0)));
                add("pareto-mixture.tail_min", tokens_problem(*tail_min));
                add("pareto-mixture.tail_alpha", range_problem(*tail_alpha, &(0.01..=20.0)));
                let least = *median.max(tail_min);
                let low = || below_problem(*max, least, "the median and the start of the tail");
                add("pareto-mixture.max", tokens_problem(*max).or_else(low));
            }
        }
        problems
    }

    /// How many [`points`](LengthDist::points) there are.
    pub(crate) fn size(&self) -> usize {
        const CURVE: usize = GRID + 2 * ENDS.len() + 1;
        match self {
            LengthDist::Fixed(_) => 2,
            LengthDist::Quantiles(points) => points.len(),
            LengthDist::LogNormal { .. } => CURVE,
            LengthDist::Zipf { max, .. } => 2 * *max as usize,
            LengthDist::ParetoMixture { .. } => 2 * CURVE,
        }
    }

    /// Points of the quantile curve, for [`QuantileTable`](crate::quantile::QuantileTable).
    pub(crate) fn points(&self) -> Vec<(f64, u32)> {
        match self {
            LengthDist::Fixed(tokens) => vec![(0.0, *tokens), (1.0, *tokens)],
            LengthDist::Quantiles(points) => points.clone(),
            LengthDist::LogNormal { median, sigma, max } => {
                curve(0.0, 1.0, |p| clip(log_normal(*median, *sigma, p), *max))
            }
            LengthDist::Zipf { exponent, max } => zipf(*exponent, *max),
            LengthDist::ParetoMixture { median, sigma, tail_share, tail_min, tail_alpha, max } => {
                let body = 1.0 - tail_share;
                let mut points = curve(0.0, body, |p| clip(log_normal(*median, *sigma, p), *max));
                points.extend(pareto(body, *tail_min, *tail_alpha, *max));
                points
            }
        }
    }
}

/// What is wrong with a number of tokens.
pub(crate) fn tokens_problem(tokens: u32) -> Option<String> {
    let good = (1..=TOKENS_MAX).contains(&tokens);
    (!good).then(|| format!("is {tokens}; it must be between 1 and {TOKENS_MAX} tokens"))
}

/// Everything that is wrong with the points of a quantile curve.
pub(crate) fn points_problems(path: &str, points: &[(f64, u32)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let ends = |p: f64, at: f64| p.total_cmp(&at).is_eq();
    let runs_from_0_to_1 = match points {
        [(first, _), .., (last, _)] => ends(*first, 0.0) && ends(*last, 1.0),
        _ => false,
    };
    if !runs_from_0_to_1 {
        problems
            .push((path.to_owned(), "must start at probability 0 and end at 1, like [[0, 8], [1, 900]]".to_owned()));
    }
    for (at, &(p, tokens)) in points.iter().enumerate() {
        let mut add = |message: String| problems.push((format!("{path}.{at}"), message));
        if !(0.0..=1.0).contains(&p) {
            add(format!("probability {p} must be between 0 and 1"));
        }
        if let Some(problem) = tokens_problem(tokens) {
            add(problem);
        }
        if at > 0 {
            let (p_before, tokens_before) = points[at - 1];
            if p < p_before {
                add(format!("probability {p} is below the one before, {p_before}; sort the points"));
            }
            if tokens < tokens_before {
                add(format!(
                    "{tokens} tokens are fewer than at the point before, {tokens_before}; quantiles never fall"
                ));
            }
        }
    }
    problems
}

fn range_problem(value: f64, range: &std::ops::RangeInclusive<f64>) -> Option<String> {
    let message = || format!("is {value}; it must be between {} and {}", range.start(), range.end());
    (!range.contains(&value)).then(message)
}

fn below_problem(max: u32, least: u32, what: &str) -> Option<String> {
    (max < least).then(|| format!("is {max}; it must be at least {what}, {least}"))
}

fn clip(tokens: f64, max: u32) -> u32 {
    (tokens + 0.5).clamp(1.0, f64::from(max.min(TOKENS_MAX))) as u32
}

/// Grid of probabilities: even in the middle, finer and finer to both ends, down to 10⁻⁷.
const GRID: usize = 2048;
const ENDS: [f64; 12] = [1e-7, 2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 3e-4];

/// The quantile function at the probabilities of the grid, laid into `[from, to]`.
fn curve(from: f64, to: f64, quantile: impl Fn(f64) -> u32) -> Vec<(f64, u32)> {
    let middle = (1..GRID).map(|i| i as f64 / GRID as f64);
    let inner = ENDS.into_iter().chain(middle).chain(ENDS.into_iter().rev().map(|p| 1.0 - p));
    let mut points: Vec<(f64, u32)> = inner.map(|p| (from + (to - from) * p, quantile(p))).collect();
    // The outermost points stand for the rest.
    if let (Some(&(_, low)), Some(&(_, high))) = (points.first(), points.last()) {
        points.insert(0, (from, low));
        points.push((to, high));
    }
    points
}

fn log_normal(median: u32, sigma: f64, p: f64) -> f64 {
    f64::from(median) * (sigma * normal_quantile(p)).exp()
}

/// A Pareto distribution from `min` to `max`, laid into `[from, 1]`.
pub(crate) fn pareto(from: f64, min: u32, alpha: f64, max: u32) -> Vec<(f64, u32)> {
    let (low, high) = (f64::from(min), f64::from(max));
    let beyond = (low / high).powf(alpha);
    curve(from, 1.0, |p| clip(low * (1.0 - p * (1.0 - beyond)).powf(-1.0 / alpha), max))
}

fn zipf(exponent: f64, max: u32) -> Vec<(f64, u32)> {
    let weight = |n: u32| f64::from(n).powf(-exponent);
    let total: f64 = (1..=max).map(weight).sum();
    let mut points = Vec::with_capacity(2 * max as usize);
    let mut below = 0.0;
    for n in 1..=max {
        points.push((below / total, n));
        below += weight(n);
        points.push((if n == max { 1.0 } else { below / total }, n));
    }
    points
}

/// Inverse of the normal distribution function, relative error below 1.2 · 10⁻⁹ (P. J. Acklam's approximation).
fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
        1.0,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] =
        [0.007_784_695_709_041_462, 0.322_467_129_070_039_8, 2.445_134_137_142_996, 3.754_408_661_907_416, 1.0];
    const LOW: f64 = 0.02425;
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if p < LOW {
        tail(p)
    } else if p > 1.0 - LOW {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        polynomial(&A, q * q) * q / polynomial(&B, q * q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantile::mean;

    #[test]
    fn normal_quantiles() {
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_963_985), (0.99, 2.326_347_874), (1e-7, -5.199_337_582)] {
            assert!((normal_quantile(p) - z).abs() < 1e-7, "{p}");
        }
    }

    #[test]
    fn means_are_those_of_the_distributions() {
        let of = |dist: LengthDist| {
            assert_eq!(dist.problems("x"), []);
            mean(&dist.points())
        };
        let log_normal = of(LengthDist::LogNormal { median: 300, sigma: 1.0, max: 1 << 20 });
        assert!((log_normal / (300.0 * 0.5f64.exp()) - 1.0).abs() < 2e-3, "{log_normal}");
        let zipf = of(LengthDist::Zipf { exponent: 1.1, max: 1023 });
        let weight = |n: u32| f64::from(n).powf(-1.1);
        let exact = (1..=1023).map(|n| f64::from(n) * weight(n)).sum::<f64>() / (1..=1023).map(weight).sum::<f64>();
        assert!((zipf / exact - 1.0).abs() < 1e-9, "{zipf} {exact}");
        // Pareto from 1000 to 100 000 with alpha 2: 2 · 1000 · (1 - 1/100) / (1 - 1/10⁴).
        let mixture = |tail_share| LengthDist::ParetoMixture {
            median: 100,
            sigma: 0.0,
            tail_share,
            tail_min: 1000,
            tail_alpha: 2.0,
            max: 100_000,
        };
        let tail = 2.0 * 1000.0 * 0.99 / (1.0 - 1e-4);
        assert!((of(mixture(0.1)) / (0.9 * 100.0 + 0.1 * tail) - 1.0).abs() < 3e-3);
        assert!((of(mixture(0.0)) - 100.0).abs() < 1e-9);
    }
}
