//! Gamma and Weibull distributions fitted to gaps by maximum likelihood.

use statrs::function::gamma::{digamma, gamma_lr, ln_gamma};

/// A family fitted to gaps.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GapFit {
    /// Shape; 1 is exponential.
    pub shape: f64,
    /// Mean log-likelihood of a gap, in units of its mean.
    pub log_likelihood: f64,
    /// Largest distance between the two distribution functions (Kolmogorov-Smirnov).
    pub ks: f64,
}

/// Smallest and largest shape that a fit may give.
const SHAPES: (f64, f64) = (0.05, 50.0);

/// Shape of a Gamma distribution from the mean of the values and the mean of their logarithms.
///
/// Solves `ln k - digamma(k) = ln(mean) - mean of ln` by bisection: the left side falls from infinity to zero.
pub(crate) fn gamma_shape(mean: f64, mean_ln: f64) -> f64 {
    let excess = mean.ln() - mean_ln;
    bisect(|shape| shape.ln() - digamma(shape) - excess)
}

/// Shape of a Weibull distribution.
///
/// Solves `mean(x^k ln x) / mean(x^k) - 1/k = mean(ln x)`; the left side rises.
fn weibull_shape(values: &[f64], mean_ln: f64) -> f64 {
    bisect(|shape| {
        let (mut powers, mut weighted) = (0.0, 0.0);
        for value in values {
            let ln = value.ln();
            let power = (shape * ln).exp();
            powers += power;
            weighted += power * ln;
        }
        mean_ln + 1.0 / shape - weighted / powers
    })
}

/// Where a falling function is zero, on a logarithmic scale, within the shapes accepted.
fn bisect(falling: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (SHAPES.0.ln(), SHAPES.1.ln());
    while high - low > 1e-6 {
        let middle = 0.5 * (low + high);
        if falling(middle.exp()) > 0.0 { low = middle } else { high = middle }
    }
    (0.5 * (low + high)).exp()
}

/// Gaps in units of the mean of their window, none of them zero: as a sample of one distribution.
pub(crate) struct Sample {
    sorted: Vec<f64>,
    mean: f64,
    mean_ln: f64,
}

impl Sample {
    /// `None` if there are too few to say anything.
    pub(crate) fn new(mut values: Vec<f64>) -> Option<Sample> {
        let n = values.len() as f64;
        if values.len() < super::GAPS_MIN {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        let mean = values.iter().sum::<f64>() / n;
        let mean_ln = values.iter().map(|value| value.ln()).sum::<f64>() / n;
        Some(Sample { sorted: values, mean, mean_ln })
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    pub(crate) fn exponential(&self) -> GapFit {
        let ks = self.distance(|x| 1.0 - (-x / self.mean).exp());
        GapFit { shape: 1.0, log_likelihood: -self.mean.ln() - 1.0, ks }
    }

    pub(crate) fn gamma(&self) -> GapFit {
        let shape = gamma_shape(self.mean, self.mean_ln);
        let scale = self.mean / shape;
        let log_likelihood = (shape - 1.0) * self.mean_ln - shape - shape * scale.ln() - ln_gamma(shape);
        GapFit { shape, log_likelihood, ks: self.distance(|x| gamma_lr(shape, x / scale)) }
    }

    pub(crate) fn weibull(&self) -> GapFit {
        let shape = weibull_shape(&self.sorted, self.mean_ln);
        let powers = self.sorted.iter().map(|x| x.powf(shape)).sum::<f64>() / self.sorted.len() as f64;
        let scale = powers.powf(1.0 / shape);
        let log_likelihood = shape.ln() - shape * scale.ln() + (shape - 1.0) * self.mean_ln - 1.0;
        GapFit { shape, log_likelihood, ks: self.distance(|x| 1.0 - (-(x / scale).powf(shape)).exp()) }
    }

    fn distance(&self, distribution: impl Fn(f64) -> f64) -> f64 {
        let n = self.sorted.len() as f64;
        let at = |(i, x): (usize, &f64)| {
            let p = distribution(*x);
            (p - i as f64 / n).abs().max((p - (i + 1) as f64 / n).abs())
        };
        self.sorted.iter().enumerate().map(at).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution as _, Exp1, Gamma};

    use super::*;
    use crate::draw::stream;

    #[test]
    fn shapes_are_recovered() {
        for shape in [0.25, 0.5, 1.0, 3.0] {
            let mut rng = stream(1, *b"test    ");
            let gamma = Gamma::new(shape, 1.0 / shape).expect("parameters");
            let sample = Sample::new((0..50_000).map(|_| gamma.sample(&mut rng)).collect()).expect("enough");
            let fit = sample.gamma();
            assert!((fit.shape / shape - 1.0).abs() < 0.02, "{shape}: {fit:?}");
            assert!(fit.ks < 0.01 && fit.log_likelihood >= sample.weibull().log_likelihood - 1e-3, "{fit:?}");
            let draw = |_| -> f64 {
                let unit: f64 = Exp1.sample(&mut rng);
                unit.powf(1.0 / shape)
            };
            let sample = Sample::new((0..50_000).map(draw).collect()).expect("enough");
            let fit = sample.weibull();
            assert!((fit.shape / shape - 1.0).abs() < 0.02, "{shape}: {fit:?}");
            assert!(fit.ks < 0.01 && fit.log_likelihood >= sample.gamma().log_likelihood - 1e-3, "{fit:?}");
            assert!(fit.log_likelihood >= sample.exponential().log_likelihood - 1e-9);
        }
    }
}
