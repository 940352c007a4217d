//! A fit of the power law's coefficients to watts measured beside known work.
//!
//! ```text
//! P_ctx   from the GPU with a context and nothing running
//! c_w, c_c, c_m ≥ 0   least squares on relative errors of the watts above P_ctx, for each pair of exponents (a, b)
//! ```
//!
//! The pair with the least error on samples that were left out of its fit stands; its coefficients are then fitted to all samples, and the error
//! that is told is that of the samples left out. A sample whose clock was held down says nothing of the highest clock, where the coefficients
//! hold, and is left out of all of it. Clocks, limiter and meter cannot be learned without setting clocks: they stay as they are.

use crate::calibrate::median;
use crate::calibrate::nnls::nnls;
use crate::hardware::power::PowerSpec;
use crate::power::Activity;
use crate::units::Watts;

/// Watts of one steady operating point.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PowerSample {
    /// Achieved rates.
    pub activity: Activity,
    /// Mean watts.
    pub watts: f64,
    /// Clock as a share of the highest.
    pub clock: f64,
}

/// Coefficients, and how far they are off.
#[derive(Clone, PartialEq, Debug)]
pub struct PowerFit {
    /// The law: as given, with other coefficients and exponents.
    pub spec: PowerSpec,
    /// Samples that were used, and those whose clock was held down.
    pub used: usize,
    /// Samples left out since their clock was held down.
    pub held_down: usize,
    /// Errors of the samples that were left out of the fit whose errors these are: mean and median of `|predicted / measured - 1|` [%].
    pub held_out_mean_percent: f64,
    /// Their median.
    pub held_out_median_percent: f64,
}

/// Why coefficients cannot be fitted.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum PowerFitError {
    /// There are too few samples.
    #[error(
        "{used} operating points at full clock, and {held_down} below it; a fit needs at least {SAMPLES_MIN} at full clock"
    )]
    TooFew {
        /// At full clock.
        used: usize,
        /// Held down.
        held_down: usize,
    },
    /// Something was measured that cannot be.
    #[error("a power of {watts} W was measured with steps running, and {idle} W with none")]
    BelowIdle {
        /// With steps.
        watts: f64,
        /// Without.
        idle: f64,
    },
}

/// Samples that a fit of three coefficients and two exponents needs, a third of them left out.
pub const SAMPLES_MIN: usize = 9;

/// Clocks below this share of the highest were held down: clocks are read in steps of 15 MHz.
pub const FULL_CLOCK: f64 = 0.985;

/// Exponents that are tried: the published form, concave arithmetic, both linear, both concave.
const EXPONENTS: [(f64, f64); 4] = [(1.0, 0.5), (0.5, 1.0), (1.0, 1.0), (0.5, 0.5)];

/// Fits the coefficients of `prior` anew. `idle`: the watts with a context and nothing running. Every third sample is left out of the fit that
/// is judged: give them in an order in which neighbours are unlike.
///
/// # Errors
/// There are too few samples at full clock, or one draws less than the idle GPU.
pub fn fit_power(prior: &PowerSpec, idle: f64, samples: &[PowerSample]) -> Result<PowerFit, PowerFitError> {
    let full: Vec<PowerSample> = samples.iter().filter(|sample| sample.clock >= FULL_CLOCK).copied().collect();
    let (used, held_down) = (full.len(), samples.len() - full.len());
    if used < SAMPLES_MIN {
        return Err(PowerFitError::TooFew { used, held_down });
    }
    if let Some(sample) = full.iter().find(|sample| sample.watts <= idle) {
        return Err(PowerFitError::BelowIdle { watts: sample.watts, idle });
    }
    let part = |left: bool| -> Vec<PowerSample> {
        full.iter().enumerate().filter(|(at, _)| (at % 3 == 2) == left).map(|(_, sample)| *sample).collect()
    };
    let (kept, left) = (part(false), part(true));
    let judged = EXPONENTS.map(|exponents| {
        let fitted = coefficients(prior, idle, exponents, &kept);
        let mut errors: Vec<f64> = left
            .iter()
            .map(|sample| 100.0 * (predicted(&fitted, &sample.activity) / sample.watts - 1.0).abs())
            .collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        (exponents, mean, median(&mut errors))
    });
    let (exponents, mean, middle) = judged.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(judged[0]);
    Ok(PowerFit {
        spec: coefficients(prior, idle, exponents, &full),
        used,
        held_down,
        held_out_mean_percent: mean,
        held_out_median_percent: middle,
    })
}

/// What each coefficient is multiplied with at full clock.
fn terms(activity: &Activity, (a, b): (f64, f64)) -> [f64; 3] {
    let Activity { busy, resident, compute, memory } = *activity;
    let rate = |achieved: f64, exponent: f64| busy.powf(1.0 - exponent) * achieved.powf(exponent);
    [busy * resident, rate(compute, a), rate(memory, b)]
}

fn predicted(spec: &PowerSpec, activity: &Activity) -> f64 {
    let terms = terms(activity, (spec.compute_exponent, spec.memory_exponent));
    spec.idle.0 + spec.resident.0 * terms[0] + spec.compute.0 * terms[1] + spec.memory.0 * terms[2]
}

/// The coefficients with the least sum of squared relative errors.
fn coefficients(prior: &PowerSpec, idle: f64, exponents: (f64, f64), samples: &[PowerSample]) -> PowerSpec {
    let rows: Vec<Vec<f64>> = samples
        .iter()
        .map(|sample| terms(&sample.activity, exponents).iter().map(|term| term / sample.watts).collect())
        .collect();
    let targets: Vec<f64> = samples.iter().map(|sample| (sample.watts - idle) / sample.watts).collect();
    let found = nnls(&rows, &targets);
    PowerSpec {
        idle: Watts(idle),
        resident: Watts(found[0]),
        compute: Watts(found[1]),
        memory: Watts(found[2]),
        compute_exponent: exponents.0,
        memory_exponent: exponents.1,
        ..prior.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(compute_exponent: f64, memory_exponent: f64) -> PowerSpec {
        PowerSpec { compute_exponent, memory_exponent, ..PowerSpec::made_up(118.0, 70.0, 560.0, 410.0) }
    }

    /// Decodes of rising batches and prompts of rising length, of models that fill the memory more and less.
    fn points(law: &PowerSpec, error: f64) -> Vec<PowerSample> {
        let point = |at: u32| {
            let at = f64::from(at);
            let (resident, part) = (0.1 + 0.25 * (at % 3.0), at / 24.0);
            let (compute, memory) = if at % 2.0 == 0.0 { (0.3 * part, 0.85 - 0.3 * part) } else { (0.75 * part, 0.2) };
            let activity = Activity { busy: 1.0, resident, compute, memory };
            let watts = predicted(law, &activity) * (1.0 + error * (at * 2.3).sin());
            PowerSample { activity, watts, clock: 1.0 }
        };
        (1..25).map(point).collect()
    }

    #[test]
    fn a_known_law_is_recovered_with_its_exponents() {
        for (a, b) in EXPONENTS {
            let truth = law(a, b);
            let prior = PowerSpec { compute: Watts(1.0), memory: Watts(1.0), resident: Watts(0.0), ..law(1.0, 0.5) };
            let fit = fit_power(&prior, 118.0, &points(&truth, 0.0)).expect("a fit");
            assert_eq!((fit.spec.compute_exponent, fit.spec.memory_exponent), (a, b));
            for (got, known) in [
                (fit.spec.compute, truth.compute),
                (fit.spec.memory, truth.memory),
                (fit.spec.resident, truth.resident),
            ] {
                assert!((got.0 / known.0 - 1.0).abs() < 1e-6, "{a} {b}: {got} {known}");
            }
            assert!(fit.held_out_mean_percent < 1e-6, "{fit:?}");
        }
    }

    #[test]
    fn noise_is_told_as_an_error_and_hardly_moves_what_is_predicted() {
        let truth = law(1.0, 0.5);
        let fit = fit_power(&truth, 118.0, &points(&truth, 0.02)).expect("a fit");
        assert!(fit.held_out_mean_percent > 0.5 && fit.held_out_mean_percent < 4.0, "{fit:?}");
        for sample in points(&truth, 0.0) {
            assert!((predicted(&fit.spec, &sample.activity) / sample.watts - 1.0).abs() < 0.02, "{fit:?}");
        }
    }

    #[test]
    fn samples_at_a_clock_that_was_held_down_are_left_out() {
        let truth = law(1.0, 0.5);
        let mut samples = points(&truth, 0.0);
        samples.iter_mut().step_by(4).for_each(|sample| {
            sample.clock = 0.9;
            sample.watts = 700.0;
        });
        let fit = fit_power(&truth, 118.0, &samples).expect("a fit");
        assert_eq!((fit.used, fit.held_down), (18, 6));
        assert!((fit.spec.compute.0 - 560.0).abs() < 1e-3, "{fit:?}");
        samples.iter_mut().skip(4).for_each(|sample| sample.clock = 0.9);
        assert_eq!(fit_power(&truth, 118.0, &samples), Err(PowerFitError::TooFew { used: 3, held_down: 21 }));
        assert!(matches!(
            fit_power(&truth, 500.0, &points(&truth, 0.0)),
            Err(PowerFitError::BelowIdle { idle: 500.0, .. })
        ));
    }
}
