#![allow(clippy::unwrap_used)]

use overbook_sim::cost::{HostCost, PrefillPart};

use super::*;

/// A step costs 100 µs and 2 µs a token.
pub(crate) fn sample(kind: &'static str, seqs: u32, mean: u32, prompt: u32, past: u32) -> StepSample {
    let prefill: Vec<PrefillPart> =
        [prompt].into_iter().filter(|&tokens| tokens > 0).map(|tokens| PrefillPart { tokens, past }).collect();
    StepSample {
        kind,
        decode_seqs: seqs,
        decode_context: u64::from(seqs) * u64::from(mean),
        prefill_ends: prefill.len() as u32,
        prefill,
        device_us: 100.0 + 2.0 * f64::from(seqs + prompt),
        spread: 0.04,
        repeats: 5,
    }
}

/// Decodes on a grid, prompts on a grid, and some of both together.
pub(crate) fn samples() -> Vec<StepSample> {
    let mut all = Vec::new();
    for seqs in [1, 2, 4, 8, 16] {
        all.extend([32, 64, 128].map(|mean| sample("decode", seqs, mean, 0, 0)));
        all.push(sample("mixed", seqs, 64, 48, 0));
    }
    for tokens in [16, 32, 64, 128] {
        all.extend([0, 64, 128].map(|past| sample("prefill", 0, 0, tokens, past)));
    }
    all
}

pub(crate) fn described() -> Described {
    Described {
        name: "here".into(),
        model: "tiny".into(),
        engine: ProfiledEngine {
            name: "overbook".into(),
            executor: "cpu".into(),
            threads: Some(2),
            weights: "bf16".into(),
            block_tokens: 16,
        },
        hardware: Hardware { device: "a CPU".into(), count: 2, system: "linux x86_64".into() },
        measured: "2026-01-31".into(),
        samples: SampleFile { file: "here.steps.parquet".into(), blake3: "abc".into(), shapes: 32, seed: 0 },
    }
}

fn calibration() -> Calibration {
    Calibration {
        samples: samples(),
        anchors: vec![Anchor { name: "a".into(), times_us: vec![90.0, 110.0] }],
        ratios: Vec::new(),
        host: HostCost::ZERO,
        pressure: Some(Pressure { steal: 0.001, run_delay: 0.012_345 }),
    }
}

#[test]
fn the_profile_predicts_the_steps_that_it_was_made_from() {
    let profile = calibration().profile(described()).unwrap();
    assert_eq!((profile.name.as_str(), profile.kind), ("here", OriginKind::Measured));
    let all = profile.form_errors.last().unwrap();
    assert!(all.mape_percent < 1.0, "{all:?}");
    // The first token of a step counts to the step.
    assert!((profile.form.step_us - 102.0).abs() < 0.1, "{:?}", profile.form);
    let table = profile.table.unwrap();
    assert_eq!((table.decode.rows, table.decode.columns), (vec![1, 2, 4, 8, 16], vec![32, 64, 128]));
    assert!(profile.table_errors.iter().all(|errors| errors.of == "mixed" || errors.of == "all"));
}

#[test]
fn without_prompts_there_is_no_profile() {
    let mut calibration = calibration();
    calibration.samples.retain(|sample| sample.kind == "decode");
    assert!(calibration.profile(described()).is_err());
}

#[test]
fn noise_is_in_percent_with_two_digits() {
    let noise = calibration().profile(described()).unwrap().noise;
    assert_eq!((noise.repeats_percent, noise.drift_percent), (4.0, Some(20.0)));
    assert_eq!((noise.run_delay_percent, noise.steal_percent), (Some(1.23), Some(0.1)));
}

#[test]
fn the_hull_spans_what_was_measured_on_every_axis() {
    let hull = hull(&samples());
    let [range] = hull.as_slice() else { panic!("{hull:?}") };
    let axis = |name: &str| range.axes[name];
    assert_eq!(axis("sequences"), [1, 16]);
    assert_eq!(axis("tokens"), [1, 128]);
    // From the shortest prompt to 128 tokens behind 128.
    assert_eq!(axis("context"), [16, 256]);
}

#[test]
fn coefficients_have_six_digits_and_errors_two_behind_the_point() {
    let form = StepForm { step_us: 123.456_789, ..fit_steps(&samples()).0 };
    assert!((rounded(form).step_us - 123.457).abs() < 1e-9);
    let errors = short(StepErrors::new("decode", &[(1.0, 3.0)]));
    assert!((errors.mape_percent - 66.67).abs() < 1e-9);
}
