//! Pool sizes against what vLLM is known to report, and refusals.

use overbook_sim::hardware::memory::{Layout, MemoryError, MemoryPlan, plan};
use overbook_sim::hardware::model::{KvDtype, WeightDtype};

use crate::{gpu, model};

fn layout(tensor_parallel: u32, max_batched_tokens: u32) -> Layout {
    Layout {
        tensor_parallel,
        stages: 1,
        experts: None,
        weights: WeightDtype::Bf16,
        kv: KvDtype::Bf16,
        utilization: 0.9,
        block_tokens: 16,
        max_batched_tokens,
        max_seqs: 256,
    }
}

fn blocks(on: &str, name: &str, layout: &Layout) -> u64 {
    plan(&gpu(on), &model(name), layout).unwrap().blocks
}

#[test]
fn pools_are_as_large_as_vllm_reports() {
    let llama3 = blocks("h100", "llama-3.1-8b", &layout(1, 8192));
    assert!((27_000..28_500).contains(&llama3), "{llama3}");
    let llama2 = blocks("a100-80", "llama-2-7b", &layout(1, 2048));
    assert!((7_000..7_500).contains(&llama2), "{llama2}");
    // vLLM 0.10.1.1, Qwen3-8B on H100: 25,034 blocks (`measured` of the whole files, run set `powertrace`).
    let qwen = blocks("h100", "qwen3-8b", &layout(1, 8192));
    assert!((24_000..25_500).contains(&qwen), "{qwen}");
    // vLLM, Qwen3-8B on A100 at 0.95: 434,448 tokens (run set `a100-closed-loop`).
    let qwen = blocks("a100-80", "qwen3-8b", &Layout { utilization: 0.95, ..layout(1, 2048) });
    assert!((434_448 * 97 / 100..434_448).contains(&(qwen * 16)), "{qwen}");
}

#[test]
fn weights_of_the_layers_shrink_and_the_pool_grows() {
    let [bf16, fp8, int4] = [WeightDtype::Bf16, WeightDtype::Fp8, WeightDtype::Int4]
        .map(|weights| plan(&gpu("h100"), &model("llama-3.1-8b"), &Layout { weights, ..layout(1, 2048) }).unwrap());
    let gib = |plan: &MemoryPlan| plan.weights.0 as f64 / f64::from(1 << 30);
    assert!((gib(&bf16) - 14.96).abs() < 0.01 && (gib(&fp8) - 8.46).abs() < 0.01, "{} {}", gib(&bf16), gib(&fp8));
    // hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4 is 5.7 GB on disk.
    assert!((gib(&int4) - 5.34).abs() < 0.05, "{}", gib(&int4));
    assert!(bf16.blocks < fp8.blocks && fp8.blocks < int4.blocks);
    let halved = blocks("h100", "llama-3.1-8b", &Layout { kv: KvDtype::Fp8, ..layout(1, 2048) });
    assert!(halved.abs_diff(2 * bf16.blocks) <= 1);
}

#[test]
fn what_does_not_fit_is_refused_with_its_arithmetic() {
    let error = plan(&gpu("h100"), &model("llama-3.1-70b"), &layout(1, 2048)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Llama-3.1-70B (bf16, tensor_parallel 1) does not fit on NVIDIA H100 80GB HBM3 (SXM): per GPU, weights \
         131.4 GiB + reserve 1.3 GiB + one KV block 5.0 MiB = 132.7 GiB > 0.90 x 79.1 GiB = 71.2 GiB; \
         try tensor_parallel 2, or fp8 weights, or int4 weights"
    );
    let error = plan(&gpu("a100-80"), &model("llama-3.1-70b"), &layout(1, 2048)).unwrap_err();
    assert!(error.to_string().ends_with("try tensor_parallel 2, or int4 weights"), "{error}");
    let error =
        plan(&gpu("h100"), &model("llama-2-7b"), &Layout { utilization: 0.001, ..layout(1, 2048) }).unwrap_err();
    assert!(error.to_string().contains("no tensor_parallel up to 8"), "{error}");
    for utilization in [0.0, 1.1, f64::NAN] {
        let result = plan(&gpu("h100"), &model("llama-2-7b"), &Layout { utilization, ..layout(1, 2048) });
        assert!(matches!(result, Err(MemoryError::Utilization(_))));
    }
}
