//! Steps as a client sees them, on the other end of a socket.
//!
//! The gaps between the tokens of running requests are steps, nothing else. The time to a first token holds besides what lies
//! between client and engine; it is the same for every request that meets an idle server, so that both are separated.

use super::nnls::nnls;
use super::steps::{StepSample, empty_form, row};
use crate::cost::steps::{StepForm, Steps};
use crate::cost::{CostModel as _, HostCost};

/// A step as it was seen.
#[derive(Clone, PartialEq, Debug)]
pub struct SeenStep {
    /// Its shape, and the time that was seen.
    pub sample: StepSample,
    /// Whether the time counts from when its request was sent.
    pub awaited: bool,
}

/// The time between client and engine [µs], at least zero, fitted together with the form.
pub fn client_time_us(seen: &[SeenStep]) -> f64 {
    let empty = empty_form(seen.iter().map(|step| &step.sample));
    let rows: Vec<Vec<f64>> = seen
        .iter()
        .map(|SeenStep { sample, awaited }| {
            let mut row = row(&empty, sample);
            row.push(if *awaited { 1.0 / sample.device_us } else { 0.0 });
            row
        })
        .collect();
    nnls(&rows, &vec![1.0; rows.len()]).last().copied().unwrap_or(0.0)
}

/// What the single requests say of the time between client and engine, beside a form of the steps [µs]: the quartiles.
pub fn client_range_us(seen: &[SeenStep], form: &StepForm) -> Option<(f64, f64)> {
    let mut model = Steps::new(form.clone(), HostCost::ZERO);
    let left = |step: &SeenStep| step.sample.device_us - model.step(&step.sample.shape()).device.as_ns_f64() / 1e3;
    let mut left: Vec<f64> = seen.iter().filter(|step| step.awaited).map(left).collect();
    left.sort_by(f64::total_cmp);
    Some((*left.get(left.len() / 4)?, *left.get(left.len() * 3 / 4)?))
}

/// The steps without the time between client and engine.
pub fn without_client(seen: Vec<SeenStep>, client_time_us: f64) -> Vec<StepSample> {
    let bare = seen.into_iter().map(|SeenStep { mut sample, awaited }| {
        if awaited {
            let whole = sample.device_us;
            sample.device_us -= client_time_us;
            // The spread in time stays.
            sample.spread *= whole / sample.device_us;
        }
        sample
    });
    bare.filter(|sample| sample.device_us > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::steps::fit_form;
    use crate::cost::PrefillPart;
    use crate::cost::steps::Slope;

    #[test]
    fn client_and_step_are_told_apart() {
        let tokens = vec![Slope { from: 1, us: 40.0 }, Slope { from: 64, us: 90.0 }];
        let truth = StepForm { step_us: 9_000.0, tokens, row_us: 30.0, chunk_us: 200.0, kv_ns: 150.0, pair_ns: 4.0 };
        let mut model = Steps::new(truth, HostCost::ZERO);
        let mut seen = |kind, seqs: u32, prompt: Option<u32>, away: f64| {
            let prefill: Vec<_> = prompt.iter().map(|&tokens| PrefillPart { tokens, past: 0 }).collect();
            let mut sample = StepSample {
                kind,
                decode_seqs: seqs,
                decode_context: u64::from(seqs) * u64::from(20 + 300 * (seqs % 3)),
                prefill_ends: prefill.len() as u32,
                prefill,
                device_us: 0.0,
                spread: 0.0,
                repeats: 1,
            };
            sample.device_us = model.step(&sample.shape()).device.as_ns_f64() / 1e3 + away;
            SeenStep { sample, awaited: away > 0.0 }
        };
        let mut steps: Vec<_> = [1, 2, 3, 4, 8, 16, 32].map(|seqs| seen("decode", seqs, None, 0.0)).into();
        steps.extend([16, 64, 128, 256].map(|prompt| seen("prefill", 0, Some(prompt), 3_100.0)));
        steps.extend([16, 64, 128, 256].map(|prompt| seen("mixed", 4, Some(prompt), 0.0)));
        let away = client_time_us(&steps);
        assert!((away / 3_100.0 - 1.0).abs() < 0.02, "{away}");
        let bare = without_client(steps.clone(), away);
        let form = fit_form(bare.iter());
        let (low, high) = client_range_us(&steps, &form).expect("some were awaited");
        assert!((low - 3_100.0).abs() < 100.0 && (high - 3_100.0).abs() < 100.0, "{low} to {high}");
        let mut model = Steps::new(form, HostCost::ZERO);
        let errors: Vec<f64> =
            bare.iter().map(|s| model.step(&s.shape()).device.as_ns_f64() / 1e3 / s.device_us - 1.0).collect();
        assert!(errors.iter().all(|error| error.abs() < 0.01), "{errors:?}");
    }
}
