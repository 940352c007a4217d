//! A fit of the power law's coefficients to watts measured beside known work.
//!
//! ```text
//! P_ctx   from the GPU with a context and nothing running
//! c_w, c_c, c_m ≥ 0   least squares on relative errors of the watts above P_ctx, for each pair of exponents (a, b)
//! ```
//!
//! The pair with the least error on samples that were left out of its fit stands; its coefficients are then fitted to all samples, and the error
//! that is told is that of the samples left out. A sample whose clock was held down says nothing of the highest clock, where the coefficients
//! hold, and is left out of it: such samples tell the exponent `k` of the clock alone, where there are enough of them. Limiter and meter cannot be
//! learned without setting clocks: they stay as they are.
//!
//! Each coefficient has a standard error, from the residuals and the rates that were reached. Arithmetic or memory that the samples leave open is
//! refused, and with it the law: a number that is not determined is no measurement. A floor of resident weights that is left open stays as it was.

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
    /// Standard errors of `c_w` (none: it stays as it was), `c_c` and `c_m` [W].
    pub errors: Errors,
    /// Why `c_w` stays as it was, if it does.
    pub resident_kept: Option<String>,
    /// Root mean square of `predicted / measured - 1` over the samples that were used [%].
    pub residual_percent: f64,
    /// What the samples whose clock was held down say of its exponent.
    pub exponent: ClockExponent,
    /// Errors of the samples that were left out of the fit whose errors these are: mean and median of `|predicted / measured - 1|` [%].
    pub held_out_mean_percent: f64,
    /// Their median.
    pub held_out_median_percent: f64,
}

/// What is known of the exponent `k` of the clock.
#[derive(Clone, PartialEq, Debug)]
pub enum ClockExponent {
    /// Fitted to samples whose clock was held down.
    Fitted {
        /// How many.
        samples: usize,
        /// Its standard error.
        error: f64,
    },
    /// Left as it was, and why.
    Prior(String),
}

/// Standard errors of `c_w` (none: it was not fitted), `c_c` and `c_m` [W].
type Errors = (Option<f64>, f64, f64);

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
    /// The samples leave a coefficient open.
    #[error("the operating points leave `{coefficient}` open: {why}")]
    Undetermined {
        /// Its name in a catalog entry.
        coefficient: &'static str,
        /// Why, with numbers.
        why: String,
    },
}

/// Samples that a fit of three coefficients and two exponents needs, a third of them left out.
pub const SAMPLES_MIN: usize = 9;

/// Clocks below this share of the highest were held down: clocks are read in steps of 15 MHz.
pub const FULL_CLOCK: f64 = 0.985;

/// Names of the coefficients in a catalog entry, in the order of [`terms`].
const NAMES: [&str; 3] = ["resident", "compute", "memory"];

/// Share of the peak that some sample must reach: a coefficient holds at the whole of it.
const REACH_MIN: f64 = 0.1;

/// Weights that fill less of the memory say nothing of what they draw when they fill all of it.
const FILL_MIN: f64 = 0.05;

/// Watts beside known work are never told better than this, whatever the residuals [share]: readings of one board differ by as much.
const NOISE_MIN: f64 = 0.01;

/// Most that may stay open of what a coefficient adds where it adds most: as a share of that, or of the highest watts.
const OPEN_MAX: (f64, f64) = (0.15, 0.05);

/// Samples at lower clocks that a fit of the exponent needs, and its largest standard error.
const EXPONENT_MIN: (usize, f64) = (3, 0.3);

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
    let filled = full.iter().map(|sample| sample.activity.busy * sample.activity.resident).fold(0.0, f64::max);
    let mut resident_kept =
        (filled < FILL_MIN).then(|| format!("weights fill {:.1} % of the memory at most", 100.0 * filled));
    let mut best = best(prior, idle, resident_kept.is_none(), (&kept, &left));
    let mut fitted = of_all(prior, idle, (best.0, resident_kept.is_none()), &full);
    if let Err(PowerFitError::Undetermined { coefficient: "resident", why }) = fitted {
        // The points of one model hardly tell a floor from the rest: the others are fitted beside the floor as it was.
        resident_kept = Some(why);
        best = self::best(prior, idle, false, (&kept, &left));
        fitted = of_all(prior, idle, (best.0, false), &full);
    }
    let (mut spec, residual, errors) = fitted?;
    let (_, mean, middle) = best;
    let down: Vec<PowerSample> = samples.iter().filter(|sample| sample.clock < FULL_CLOCK).copied().collect();
    let exponent = clock_exponent(&mut spec, &down);
    Ok(PowerFit {
        spec,
        used,
        held_down,
        errors,
        resident_kept,
        residual_percent: 100.0 * residual,
        exponent,
        held_out_mean_percent: mean,
        held_out_median_percent: middle,
    })
}

/// The exponents with the least error on the samples left out, and its mean and median [%].
fn best(
    prior: &PowerSpec,
    idle: f64,
    floor: bool,
    (kept, left): (&[PowerSample], &[PowerSample]),
) -> ((f64, f64), f64, f64) {
    let judged = EXPONENTS.map(|exponents| {
        let fitted = coefficients(prior, idle, (exponents, floor), kept);
        let mut errors: Vec<f64> = left
            .iter()
            .map(|sample| 100.0 * (predicted(&fitted, &sample.activity) / sample.watts - 1.0).abs())
            .collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        (exponents, mean, median(&mut errors))
    });
    judged.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(judged[0])
}

/// The law of all samples, its residual and its standard errors.
fn of_all(
    prior: &PowerSpec,
    idle: f64,
    (exponents, floor): ((f64, f64), bool),
    full: &[PowerSample],
) -> Result<(PowerSpec, f64, Errors), PowerFitError> {
    let spec = coefficients(prior, idle, (exponents, floor), full);
    let residual = residual(&spec, full);
    let errors = standard_errors(&spec, (residual, floor), full)?;
    Ok((spec, residual, errors))
}

/// Root mean square of the relative errors.
fn residual(spec: &PowerSpec, samples: &[PowerSample]) -> f64 {
    let squares: f64 =
        samples.iter().map(|sample| (predicted(spec, &sample.activity) / sample.watts - 1.0).powi(2)).sum();
    (squares / samples.len() as f64).sqrt()
}

/// Standard errors of the coefficients [W]: `σ² (RᵀR)⁻¹` over the terms divided by the watts.
fn standard_errors(
    spec: &PowerSpec,
    (residual, floor): (f64, bool),
    samples: &[PowerSample],
) -> Result<Errors, PowerFitError> {
    let exponents = (spec.compute_exponent, spec.memory_exponent);
    let most_watts = samples.iter().map(|sample| sample.watts).fold(0.0, f64::max);
    let all: Vec<([f64; 3], f64)> =
        samples.iter().map(|sample| (terms(&sample.activity, exponents), sample.watts)).collect();
    let most = |of: usize| all.iter().map(|(terms, _)| terms[of]).fold(0.0, f64::max);
    let open = |of: usize, why: String| Err(PowerFitError::Undetermined { coefficient: NAMES[of], why });
    for of in [1, 2] {
        let rate = |activity: &Activity| [activity.compute, activity.memory][of - 1];
        let reached = samples.iter().map(|sample| rate(&sample.activity)).fold(0.0, f64::max);
        if reached < REACH_MIN {
            return open(
                of,
                format!(
                    "they reach {:.1} % of its peak, and {:.0} % are needed; use larger batches, or longer prompts",
                    100.0 * reached,
                    100.0 * REACH_MIN
                ),
            );
        }
    }
    // Columns as shares of their largest value: what is inverted has numbers near each other. A floor that is not fitted is a column of its own.
    let scale = [if floor { most(0) } else { 1.0 }, most(1), most(2)];
    let product = |i: usize, j: usize| -> f64 {
        if !floor && (i == 0 || j == 0) {
            return if i == j { 1.0 } else { 0.0 };
        }
        all.iter().map(|(terms, watts)| terms[i] / scale[i] * terms[j] / scale[j] / (watts * watts)).sum()
    };
    let sigma = residual.max(NOISE_MIN) * (samples.len() as f64 / (samples.len() - 3) as f64).sqrt();
    let inverse = inverse_diagonal(&[0, 1, 2].map(|i| [0, 1, 2].map(|j| product(i, j))));
    let fitted = [spec.resident.0, spec.compute.0, spec.memory.0];
    let mut errors = [0.0; 3];
    for of in usize::from(!floor)..3 {
        let error = inverse.map_or(f64::INFINITY, |diagonal| sigma * diagonal[of].max(0.0).sqrt());
        let allowed = (OPEN_MAX.0 * fitted[of] * scale[of]).max(OPEN_MAX.1 * most_watts);
        if error.is_nan() || error > allowed {
            return open(
                of,
                format!(
                    "what it adds is known to ± {error:.0} W at most, and ± {allowed:.0} W are allowed; the points are too much alike: vary batches and \
                     lengths of prompts, or add a second model"
                ),
            );
        }
        errors[of] = error / scale[of];
    }
    Ok((floor.then_some(errors[0]), errors[1], errors[2]))
}

/// The diagonal of the inverse of a symmetric matrix; `None` if it has none.
fn inverse_diagonal(matrix: &[[f64; 3]; 3]) -> Option<[f64; 3]> {
    let minor = |i: usize, j: usize| {
        let [(a, b), (c, d)] = [((i + 1) % 3, (i + 2) % 3), ((j + 1) % 3, (j + 2) % 3)];
        matrix[a][c] * matrix[b][d] - matrix[a][d] * matrix[b][c]
    };
    let determinant: f64 = (0..3).map(|j| matrix[0][j] * minor(0, j)).sum();
    let size = matrix[0][0] * matrix[1][1] * matrix[2][2];
    // Of columns that are one and the same to nine digits nothing can be told apart.
    (determinant > 1e-9 * size).then(|| [0, 1, 2].map(|i| minor(i, i) / determinant))
}

/// Watts at a lower clock, the rates being those achieved there.
fn at_clock(spec: &PowerSpec, sample: &PowerSample, exponent: f64) -> f64 {
    let [resident, compute, memory] = terms(&sample.activity, (spec.compute_exponent, spec.memory_exponent));
    let per_operation = sample.clock.powf(exponent - 1.0);
    let fixed = spec.clock.memory_fixed;
    spec.idle.0
        + spec.resident.0 * resident * sample.clock * per_operation
        + spec.compute.0 * compute * per_operation
        + spec.memory.0 * memory * (fixed + (1.0 - fixed) * per_operation)
}

/// Fits the clock's exponent to samples at lower clocks, all else being known.
fn clock_exponent(spec: &mut PowerSpec, samples: &[PowerSample]) -> ClockExponent {
    let prior = |why: String| ClockExponent::Prior(why);
    if samples.len() < EXPONENT_MIN.0 {
        return prior(format!(
            "{} operating points were held below full clock, and {} are needed",
            samples.len(),
            EXPONENT_MIN.0
        ));
    }
    let loss = |exponent: f64| -> f64 {
        samples.iter().map(|sample| (at_clock(spec, sample, exponent) / sample.watts - 1.0).powi(2)).sum()
    };
    // The range that a catalog entry may have, in hundredths.
    let tried = (100..=400).map(|hundredth| f64::from(hundredth) / 100.0);
    let found = tried.min_by(|a, b| loss(*a).total_cmp(&loss(*b))).unwrap_or(spec.clock.exponent);
    let slopes: f64 = samples
        .iter()
        .map(|sample| {
            let apart = at_clock(spec, sample, found + 0.005) - at_clock(spec, sample, found - 0.005);
            (apart / 0.01 / sample.watts).powi(2)
        })
        .sum();
    let sigma = (loss(found) / samples.len() as f64).sqrt().max(NOISE_MIN);
    let error = sigma / slopes.sqrt();
    if found <= 1.0 || found >= 4.0 {
        return prior(format!(
            "the best one lies at the end of its range, {found}: other things held these points down"
        ));
    }
    if error.is_nan() || error > EXPONENT_MIN.1 {
        return prior(format!("the clocks of {} points differ too little: ± {error:.1}", samples.len()));
    }
    spec.clock.exponent = found;
    ClockExponent::Fitted { samples: samples.len(), error }
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

/// The coefficients with the least sum of squared relative errors; without a `floor` that of resident weights stays as it is.
fn coefficients(
    prior: &PowerSpec,
    idle: f64,
    (exponents, floor): ((f64, f64), bool),
    samples: &[PowerSample],
) -> PowerSpec {
    let first = usize::from(!floor);
    let known = |terms: &[f64; 3]| if floor { 0.0 } else { prior.resident.0 * terms[0] };
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for sample in samples {
        let terms = terms(&sample.activity, exponents);
        rows.push(terms[first..].iter().map(|term| term / sample.watts).collect());
        targets.push((sample.watts - idle - known(&terms)) / sample.watts);
    }
    let found = nnls(&rows, &targets);
    PowerSpec {
        idle: Watts(idle),
        resident: if floor { Watts(found[0]) } else { prior.resident },
        compute: Watts(found[1 - first]),
        memory: Watts(found[2 - first]),
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

    /// Noise of 2 % and more points than unknowns: each coefficient lies within thrice its stated error, in every one of twenty draws.
    #[test]
    fn coefficients_lie_within_their_stated_errors() {
        let truth = law(1.0, 0.5);
        let mut worst: f64 = 0.0;
        for seed in 0..20_u32 {
            let mut samples = points(&truth, 0.0);
            for (at, sample) in samples.iter_mut().enumerate() {
                let share = crate::counter::draw(u64::from(seed), at as u64) as f64 / u64::MAX as f64;
                sample.watts *= 1.0 + 0.02 * (2.0 * share - 1.0);
            }
            let fit = fit_power(&truth, 118.0, &samples).expect("a fit");
            if (fit.spec.compute_exponent, fit.spec.memory_exponent) != (1.0, 0.5) {
                continue;
            }
            let (resident, compute, memory) = fit.errors;
            for (got, known, error) in [
                (fit.spec.resident, truth.resident, resident.expect("fitted")),
                (fit.spec.compute, truth.compute, compute),
                (fit.spec.memory, truth.memory, memory),
            ] {
                worst = worst.max((got.0 - known.0).abs() / error);
            }
            assert!(fit.residual_percent > 0.5 && fit.residual_percent < 2.0, "{fit:?}");
        }
        assert!(worst > 0.3 && worst < 3.0, "{worst}");
    }

    #[test]
    fn what_the_points_leave_open_is_refused_with_the_reason() {
        let truth = law(1.0, 0.5);
        let open = |change: &dyn Fn(&mut Activity)| {
            let mut samples = points(&truth, 0.0);
            for sample in &mut samples {
                change(&mut sample.activity);
                sample.watts = predicted(&truth, &sample.activity);
            }
            fit_power(&truth, 118.0, &samples)
        };
        let refused = |fit: Result<PowerFit, PowerFitError>, name: &str, told: &str| {
            let error = fit.expect_err(name);
            assert!(
                matches!(&error, PowerFitError::Undetermined { coefficient, .. } if *coefficient == name),
                "{error:?}"
            );
            assert!(error.to_string().contains(told), "{error}");
        };
        refused(open(&|activity| activity.compute *= 0.05), "compute", "of its peak");
        refused(open(&|activity| activity.memory *= 0.05), "memory", "of its peak");
        // The same step at different lengths of time: all rates go up and down together.
        refused(
            open(&|activity| {
                (activity.memory, activity.resident) = (activity.compute * activity.compute, activity.compute);
            }),
            "compute",
            "too much alike",
        );
        // Hardly any weights: what they draw stays as it was, and says so.
        let few = open(&|activity| activity.resident *= 0.01).expect("a fit");
        assert_eq!((few.errors.0, few.spec.resident), (None, truth.resident));
        assert!(few.resident_kept.as_deref().is_some_and(|why| why.contains("of the memory at most")), "{few:?}");
        // One model: its floor is told from the rest by the rates alone, which hardly differ here.
        let one = open(&|activity| {
            (activity.resident, activity.memory) = (0.3, 0.5 + 0.02 * activity.memory);
        })
        .expect("a fit");
        assert_eq!((one.errors.0, one.spec.resident), (None, truth.resident));
        assert!(one.resident_kept.as_deref().is_some_and(|why| why.contains("too much alike")), "{one:?}");
    }

    #[test]
    fn the_exponent_is_that_of_points_at_lower_clocks() {
        let truth = PowerSpec {
            clock: crate::hardware::power::ClockSpec { exponent: 2.2, ..law(1.0, 0.5).clock },
            ..law(1.0, 0.5)
        };
        let prior = law(1.0, 0.5);
        let mut samples = points(&truth, 0.0);
        for (at, sample) in samples.iter_mut().enumerate().step_by(4) {
            sample.clock = 0.95 - 0.01 * at as f64;
            // What is achieved falls with the clock; the watts are those of the truth there.
            sample.activity.compute *= sample.clock;
            sample.watts = at_clock(&truth, sample, 2.2);
        }
        let fit = fit_power(&prior, 118.0, &samples).expect("a fit");
        let ClockExponent::Fitted { samples: 6, error } = fit.exponent else { panic!("{:?}", fit.exponent) };
        assert!((fit.spec.clock.exponent - 2.2).abs() < 0.02 && error > 0.02 && error < 0.3, "{fit:?}");
        // Full clock throughout, and clocks that hardly differ, say nothing: the prior stays.
        let none = fit_power(&prior, 118.0, &points(&truth, 0.0)).expect("a fit");
        assert!(matches!(&none.exponent, ClockExponent::Prior(why) if why.contains("0 operating points")), "{none:?}");
        assert!((none.spec.clock.exponent - prior.clock.exponent).abs() < 1e-12);
        samples.iter_mut().filter(|sample| sample.clock < 1.0).for_each(|sample| sample.clock = 0.98);
        let near = fit_power(&prior, 118.0, &samples).expect("a fit");
        assert!(matches!(near.exponent, ClockExponent::Prior(_)), "{near:?}");
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
