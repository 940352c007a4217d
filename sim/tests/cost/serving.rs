//! Predicted steps against floors and against inter-token times of real servers (bounds are wide on purpose: this
//! guards the sum, not a calibration).

use overbook_sim::cost::{HostCost, Roofline};
use overbook_sim::hardware::model::{KvDtype, WeightDtype};

use crate::roofline::{decode_us, prefill_us};
use crate::{gpu, model};

fn roofline(on: &str, name: &str, tp: u32, weights: WeightDtype) -> Roofline {
    Roofline::new(&gpu(on), &model(name), tp, weights, KvDtype::Bf16, HostCost::ZERO, 8192).unwrap()
}

/// Llama-3.1-8B on an H200: (sequences, context, floor, sum of the best measured kernels) in ms, research/engine.md §2.
#[test]
fn an_h200_step_lies_between_the_floor_and_a_little_above_the_best_kernels() {
    let mut cost = roofline("h200", "llama-3.1-8b", 1, WeightDtype::Bf16);
    for (seqs, context, floor, best) in [
        (1, 512, 3.51, 4.85),
        (32, 2048, 5.49, 6.9),
        (64, 2048, 7.49, 9.0),
        (64, 8192, 19.5, 20.2),
        (256, 512, 7.49, 10.8),
    ] {
        let ms = decode_us(&mut cost, seqs, context) / 1e3;
        eprintln!("decode {seqs} x {context}: {ms:.2} ms, floor {floor}, best kernels {best}");
        assert!(ms > floor && ms > 0.9 * best && ms < 1.25 * best, "{seqs} x {context}: {ms}");
    }
    for (tokens, floor, best) in [(512, 9.16, 10.6), (2048, 37.7, 40.0), (8192, 167.0, 180.0)] {
        let ms = prefill_us(&mut cost, tokens, 0) / 1e3;
        eprintln!("prefill {tokens}: {ms:.2} ms, floor {floor}, best kernels {best}");
        assert!(ms > 0.93 * floor && ms > 0.85 * best && ms < 1.2 * best, "{tokens}: {ms}");
    }
}

/// Median inter-token times of vLLM, Llama-3.1-8B in bf16 on one H100, 1 to 128 clients, about 200 tokens of context
/// (`measured` of the whole files, runs trtv-xm-llama31-8b-c1 to -c128): the host is hidden there.
#[test]
fn device_time_is_the_inter_token_time_where_the_host_is_hidden() {
    let mut cost = roofline("h100", "llama-3.1-8b", 1, WeightDtype::Bf16);
    for (seqs, measured) in [(1, 6.19), (16, 6.44), (64, 7.24), (128, 8.39)] {
        let error = decode_us(&mut cost, seqs, 200) / 1e3 / measured - 1.0;
        eprintln!("vLLM bf16, {seqs} clients: {:+.1} %", error * 100.0);
        assert!(error.abs() < 0.03, "{seqs}: {error}");
    }
    // Two GPUs and fp8 (runs trtv-vllm-llama31-fp8-c1 to -c128): the form errs more on fp8.
    let mut cost = roofline("h100", "llama-3.1-8b", 2, WeightDtype::Fp8);
    for (seqs, measured) in [(1, 2.98), (32, 3.33), (128, 4.67)] {
        let error = decode_us(&mut cost, seqs, 200) / 1e3 / measured - 1.0;
        eprintln!("vLLM fp8 on two GPUs, {seqs} clients: {:+.1} %", error * 100.0);
        assert!(error.abs() < 0.1, "{seqs}: {error}");
    }
}

/// Median inter-token times of vLLM 0.11.1 with synchronous scheduling (runs mle-lm-llama-3.1-8b-instruct-h100x1-*):
/// what the default host time was inferred from.
#[test]
fn device_and_default_host_time_are_the_inter_token_time_of_a_synchronous_engine() {
    let mut cost = roofline("h100", "llama-3.1-8b", 1, WeightDtype::Bf16);
    for (seqs, measured) in [(8, 7.316), (16, 7.912), (32, 8.907), (64, 11.5), (96, 14.08), (128, 16.48)] {
        let host = HostCost::default().of(u64::from(seqs)).as_ns_f64() / 1e6;
        let error = (decode_us(&mut cost, seqs, 450) / 1e3 + host) / measured - 1.0;
        eprintln!("vLLM 0.11.1, {seqs} sequences: {:+.1} %", error * 100.0);
        assert!(error.abs() < 0.05, "{seqs}: {error}");
    }
}
