//! The trace beside what the fitted generator makes.

use super::FitError;
use crate::burstiness::{BurstStats, burstiness};
use crate::generate::GenerateSpec;

/// A figure of the trace and of the generator.
#[derive(Clone, PartialEq, Debug)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// In the trace.
    pub trace: f64,
    /// In what the generator made.
    pub fit: f64,
}

/// Requests that are generated for the comparison at most.
const REQUESTS_MAX: u64 = 5_000_000;

/// Generates requests and compares their rates, burstiness and lengths with those of the trace.
///
/// # Errors
/// The generator cannot be run.
pub fn compare(trace: &BurstStats, spec: &GenerateSpec, seed: u64) -> Result<Vec<Compared>, FitError> {
    let spec = GenerateSpec { requests: Some(spec.requests.unwrap_or(REQUESTS_MAX).min(REQUESTS_MAX)), ..spec.clone() };
    let mut generator = spec.generator(seed)?;
    // A generator's only error is time that runs out, at 584 years.
    let made =
        burstiness(&mut generator).map_err(|_| crate::error::GenerateError::TooLate { request: REQUESTS_MAX })?;
    let mut rows = Vec::new();
    let mut add = |name: &str, figure: &dyn Fn(&BurstStats) -> Option<f64>| {
        if let (Some(trace), Some(fit)) = (figure(trace), figure(&made)) {
            rows.push(Compared { name: name.to_owned(), trace, fit });
        }
    };
    add("mean rate [1/s]", &BurstStats::mean_rate);
    add("gap CV", &|stats| Some(stats.gap_cv));
    add("peak 1 s [1/s]", &|stats| stats.peak_rate(&stats.second));
    add("peak 1 min [1/s]", &|stats| stats.peak_rate(&stats.minute));
    add("index of dispersion 1 s", &|stats| stats.second.dispersion());
    add("index of dispersion 1 min", &|stats| stats.minute.dispersion());
    for prompt in [true, false] {
        let of = |stats: &BurstStats| if prompt { stats.prompt_tokens.clone() } else { stats.output_tokens.clone() };
        let name = if prompt { "prompt" } else { "output" };
        add(&format!("{name} tokens mean"), &|stats| of(stats).mean());
        for (label, p) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            add(&format!("{name} tokens {label}"), &|stats| of(stats).quantile(p).map(|tokens| tokens as f64));
        }
    }
    Ok(rows)
}
