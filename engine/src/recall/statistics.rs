//! Means over seeds and their intervals.

/// A mean with its 95 % interval over independent runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// Mean.
    pub mean: f64,
    /// Half the width of the interval; NaN for a single run, which has none.
    pub half: f64,
}

/// Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
const STUDENT: [f64; 19] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093,
];

/// Mean and interval of some runs; beyond 20 runs the quantile is that of 20, which is wider.
///
/// # Panics
/// Without runs.
pub fn estimate(runs: &[f64]) -> Estimate {
    assert!(!runs.is_empty(), "no runs");
    let count = runs.len() as f64;
    let mean = runs.iter().sum::<f64>() / count;
    if runs.len() == 1 {
        return Estimate { mean, half: f64::NAN };
    }
    let variance = runs.iter().map(|run| (run - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let quantile = STUDENT[(runs.len() - 2).min(STUDENT.len() - 1)];
    Estimate { mean, half: quantile * (variance / count).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        // Five runs with standard deviation 0.0158: 2.776 · 0.0158 / √5.
        let five = estimate(&[0.90, 0.92, 0.94, 0.92, 0.92]);
        assert!((five.mean - 0.92).abs() < 1e-12 && (five.half - 0.017_56).abs() < 1e-5, "{five:?}");
        assert!(estimate(&[0.5]).half.is_nan());
    }
}
