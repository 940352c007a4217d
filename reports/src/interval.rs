//! The 95 % interval of a mean, by Student's t distribution.

/// The t distribution's 97.5 % quantile for 1 to 30 degrees of freedom (any statistics table).
const T975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The normal distribution's.
const Z975: f64 = 1.959_964;

/// A mean of independent values, and how far the true mean may be from it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    /// The mean, in the unit of the values.
    pub mean: f64,
    /// Half the width of the 95 % interval around it; `None` of fewer than two values.
    pub half: Option<f64>,
    /// Values.
    pub of: usize,
}

impl Interval {
    /// The interval of the mean of these values; `None` without any.
    pub fn of(values: &[f64]) -> Option<Interval> {
        let n = values.len() as f64;
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / n)?;
        let half = (values.len() > 1).then(|| {
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
            t975(values.len() - 1) * (variance / n).sqrt()
        });
        Some(Interval { mean, half, of: values.len() })
    }
}

/// The 97.5 % quantile of Student's t distribution, within 0.1 %: from the table, beyond it by the first terms of its expansion at the
/// normal distribution (Abramowitz and Stegun, 26.7.5). Infinite without a degree of freedom.
pub fn t975(degrees: usize) -> f64 {
    let Some(before) = degrees.checked_sub(1) else { return f64::INFINITY };
    T975.get(before).copied().unwrap_or_else(|| {
        let (z, n) = (Z975, degrees as f64);
        z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        // Mean 3, standard deviation 1.5811, 2.776 · 1.5811 ÷ √5 = 1.963.
        let one = Interval::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).expect("values");
        assert!((one.mean - 3.0).abs() < 1e-12 && (one.half.expect("several") - 1.963).abs() < 1e-3, "{one:?}");
        assert_eq!(Interval::of(&[7.0]), Some(Interval { mean: 7.0, half: None, of: 1 }));
        assert_eq!(Interval::of(&[]), None);
    }

    #[test]
    fn quantiles_fall_to_the_normal_ones() {
        let all: Vec<f64> = (1..200).map(t975).collect();
        assert!(all.windows(2).all(|pair| pair[0] > pair[1]), "{all:?}");
        // From the tables: 40, 60 and 120 degrees of freedom.
        for (degrees, known) in [(40, 2.021), (60, 2.000), (120, 1.980)] {
            assert!((t975(degrees) - known).abs() < 1e-3, "{degrees}");
        }
    }
}
