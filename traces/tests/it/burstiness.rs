//! The statistics must be those that traces/data/README.md states, and those of known processes.

use overbook_sim::units::Rate;
use overbook_traces::{ArrivalSpec, BurstStats, GenerateSpec, LengthSpec, ScaleSpec, TraceSpec, burstiness};

use overbook_test_groups::in_clone;

use crate::{VIDUR, file};

fn of(spec: &TraceSpec) -> BurstStats {
    burstiness(&mut *spec.open().expect("opens")).expect("reads")
}

fn near(got: f64, expected: f64, tolerance: f64) {
    assert!((got / expected - 1.0).abs() <= tolerance, "{got} instead of {expected}");
}

#[test]
fn azure_conversations() {
    let path = in_clone("azure/AzureLLMInferenceTrace_conv.csv.zst");
    let stats = of(&TraceSpec::new(&path));
    assert_eq!((stats.requests, stats.ties, stats.span.0 / 1_000_000_000), (19_366, 0, 3_501));
    near(stats.mean_rate().expect("a rate"), 5.53, 0.001);
    near(stats.gap_cv, 1.09, 0.005);
    assert_eq!((stats.second.peak(), stats.minute.peak()), (16, 507));
    // 2,735 within the 0.05 % of a histogram's bucket.
    assert_eq!((stats.prompt_tokens.quantile(0.9), stats.output_tokens.max()), (Some(2_734), Some(1_000)));
    assert_eq!(stats.peak_over_mean(&stats.hour), None);
    near(stats.peak_over_mean(&stats.minute).expect("a peak"), 507.0 / 60.0 / 5.53, 0.001);
    assert!(stats.describe().iter().any(|(what, value)| what == "mean rate" && value == "5.530/s"));
    assert!(stats.to_string().contains("class azure"));
    // Multiplied bursts stay; the index of dispersion grows with the factor, as that of identical copies does.
    let tripled = of(&TraceSpec { scale: Some(ScaleSpec::Multiply(3.0)), ..TraceSpec::new(path) });
    assert_eq!(tripled.second.peak(), 48);
    near(tripled.second.dispersion().expect("cells"), 3.0 * stats.second.dispersion().expect("cells"), 1e-9);
}

#[test]
fn mooncake_batches() {
    let path = in_clone("mooncake/conversation_trace.jsonl.zst");
    let stats = of(&TraceSpec::new(path));
    near(stats.gap_cv, 3.03, 0.005);
    near(stats.ties as f64 / 12_030.0, 0.902, 0.001);
    assert_eq!((stats.second.peak(), stats.prompt_tokens.max()), (28, Some(126_195)));
}

#[test]
fn burstgpt_slices() {
    let path = in_clone("burstgpt/burstgpt_3_first400.csv");
    let stats = of(&TraceSpec::new(path));
    assert_eq!((stats.requests, stats.second.peak()), (399, 2));
    near(stats.gap_cv, 2.87, 0.01);
    near(stats.mean_rate().expect("a rate"), 0.0096, 0.01);
}

#[test]
fn known_processes() {
    let lengths = || LengthSpec::Fixed { prompt: 10, output: 5 };
    let generated = |arrivals| {
        let spec = GenerateSpec {
            arrivals,
            lengths: lengths(),
            requests: Some(400_000),
            duration: None,
            sessions: None,
            repeats: None,
            transcripts: None,
        };
        burstiness(&mut *spec.open(1).expect("opens")).expect("generates")
    };
    let rate = Rate(20.0);
    let poisson = generated(ArrivalSpec::Poisson { rate });
    near(poisson.gap_cv, 1.0, 0.01);
    near(poisson.second.dispersion().expect("cells"), 1.0, 0.03);
    // The index of dispersion of a renewal process goes to the squared CV of its gaps.
    let bursty = generated(ArrivalSpec::Gamma { rate, shape: 0.25 });
    near(bursty.gap_cv, 2.0, 0.02);
    near(bursty.minute.dispersion().expect("cells"), 4.0, 0.2);
    let constant = generated(ArrivalSpec::Constant { rate });
    assert!(constant.gap_cv < 1e-4 && constant.second.dispersion().expect("cells") < 1e-6);
    assert_eq!((constant.second.peak(), constant.hour.peak()), (20, 72_000));
}

#[test]
fn small_workloads() {
    let one = file(format!("{VIDUR}5,1,1\n"));
    let stats = of(&TraceSpec::new(one.path()));
    assert_eq!((stats.requests, stats.mean_rate(), stats.second.peak(), stats.second.dispersion()), (1, None, 1, None));
    let ties = file(format!("{VIDUR}5,1,1\n5,1,1\n5,3,1\n"));
    let stats = of(&TraceSpec::new(ties.path()));
    assert_eq!((stats.requests, stats.ties, stats.mean_rate(), stats.second.peak()), (3, 2, None, 3));
    assert!(stats.describe().len() > 10);
    // 2, 0, 1 in whole seconds, then a cut-off one.
    let cells = file(format!("{VIDUR}0,1,1\n0.5,1,1\n2,1,1\n3.1,1,1\n3.2,1,1\n3.3,1,1\n"));
    let stats = of(&TraceSpec::new(cells.path()));
    assert_eq!(stats.second.peak(), 3);
    assert!((stats.second.dispersion().expect("cells") - 2.0 / 3.0).abs() < 1e-12);
}
