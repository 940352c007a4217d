//! The 95 % interval of a mean, by Student's t distribution.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

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

/// The 97.5 % quantile of Student's t distribution; infinite without a degree of freedom.
pub fn t975(degrees: usize) -> f64 {
    StudentsT::new(0.0, 1.0, degrees as f64).map_or(f64::INFINITY, |t| t.inverse_cdf(0.975))
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
    fn quantiles_are_those_of_tables() {
        for (degrees, known) in [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (30, 2.042), (120, 1.980)] {
            assert!((t975(degrees) - known).abs() < 1e-3, "{degrees}: {}", t975(degrees));
        }
        assert!(t975(0).is_infinite());
    }
}
