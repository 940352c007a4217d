//! Predicted steps against floors and against inter-token times of real servers (bounds are wide on purpose: this
//! guards the sum, not a calibration).

use overbook_sim::cost::{HostCost, Roofline};
use overbook_sim::model::{KvDtype, WeightDtype};

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

#[test]
#[ignore = "prints"]
fn print() {
    for (label, on, name, tp, weights, seqs, context, measured) in [
        ("trtv-xm-llama31-8b-c1", "h100", "llama-3.1-8b", 1, WeightDtype::Bf16, 1, 200, 6.19),
        ("trtv-xm-llama31-8b-c16", "h100", "llama-3.1-8b", 1, WeightDtype::Bf16, 16, 200, 6.44),
        ("trtv-xm-llama31-8b-c64", "h100", "llama-3.1-8b", 1, WeightDtype::Bf16, 64, 200, 7.24),
        ("trtv-xm-llama31-8b-c128", "h100", "llama-3.1-8b", 1, WeightDtype::Bf16, 128, 200, 8.39),
        ("trtv-vllm-llama31-fp8-c1", "h100", "llama-3.1-8b", 2, WeightDtype::Fp8, 1, 200, 2.98),
        ("trtv-vllm-llama31-fp8-c32", "h100", "llama-3.1-8b", 2, WeightDtype::Fp8, 32, 200, 3.33),
        ("trtv-vllm-llama31-fp8-c128", "h100", "llama-3.1-8b", 2, WeightDtype::Fp8, 128, 200, 4.67),
        ("kcon s0", "h100", "llama-3.1-8b", 1, WeightDtype::Bf16, 1, 200, 7.13),
        ("h2p0 r0.5", "h200", "llama-3.1-70b", 1, WeightDtype::Fp8, 10, 300, 20.2),
        ("trtv-vllm-qwen25-32b-c1", "h100", "qwen3-32b", 4, WeightDtype::Bf16, 1, 200, 8.43),
        ("trtv-vllm-qwen25-32b-c128", "h100", "qwen3-32b", 4, WeightDtype::Bf16, 128, 200, 12.72),
        ("mle qwen3-32b h100x1 b8", "h100", "qwen3-32b", 1, WeightDtype::Bf16, 8, 900, 25.2),
        ("mle qwen3-32b h100x2 b8", "h100", "qwen3-32b", 2, WeightDtype::Bf16, 8, 900, 15.06),
        ("mle qwen3-32b h100x2 b64", "h100", "qwen3-32b", 2, WeightDtype::Bf16, 64, 900, 22.4),
        ("mle qwen3-8b b200 b8", "b200", "qwen3-8b", 1, WeightDtype::Bf16, 8, 900, 4.97),
        ("mle qwen3-8b b200 b128", "b200", "qwen3-8b", 1, WeightDtype::Bf16, 128, 900, 12.1),
    ] {
        let us = decode_us(&mut roofline(on, name, tp, weights), seqs, context);
        eprintln!("{label}: device {:.2} ms, measured {measured}", us / 1e3);
    }
}
