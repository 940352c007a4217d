//! Laws of the closed-form model: physics, agreement of `decode` with `step`, monotonicity, dtypes, parallelism.

use overbook_sim::cost::{Cost, CostError, CostModel, HostCost, PrefillPart, Roofline, StepShape};
use overbook_sim::hardware::memory::{kv_bytes_per_token, weight_bytes};
use overbook_sim::hardware::model::{KvDtype, WeightDtype};

use crate::{Draw, GPUS, INFERRED, MODELS, PCIE, gpu, model};

fn roofline(on: &str, name: &str, tp: u32) -> Roofline {
    with(on, name, tp, WeightDtype::Bf16, KvDtype::Bf16)
}

fn with(on: &str, name: &str, tp: u32, weights: WeightDtype, kv: KvDtype) -> Roofline {
    Roofline::new(&gpu(on), &model(name), tp, weights, kv, HostCost::default(), 8192).unwrap()
}

pub(crate) fn decode_us(cost: &mut Roofline, seqs: u32, context_each: u64) -> f64 {
    let shape =
        StepShape { decode_seqs: seqs, decode_context: u64::from(seqs) * context_each, prefill: &[], prefill_ends: 0 };
    cost.step(&shape).device.as_ns_f64() / 1e3
}

pub(crate) fn prefill_us(cost: &mut Roofline, tokens: u32, past: u32) -> f64 {
    let shape =
        StepShape { decode_seqs: 0, decode_context: 0, prefill: &[PrefillPart { tokens, past }], prefill_ends: 1 };
    cost.step(&shape).device.as_ns_f64() / 1e3
}

fn random_prefill(draw: &mut Draw) -> Vec<PrefillPart> {
    (0..draw.uniform(0, 4))
        .map(|_| PrefillPart { tokens: draw.log(4096) as u32, past: draw.log(16_384) as u32 - 1 })
        .collect()
}

#[test]
fn no_step_beats_bandwidth_or_peak() {
    let mut draw = Draw(1);
    let mut mixed = 0;
    for (on, name) in [&GPUS[..], &PCIE, &INFERRED].concat().into_iter().flat_map(|on| MODELS.map(|name| (on, name))) {
        let (spec, shape) = (gpu(on), model(name));
        for tp in [1, 2, 4, 8] {
            let fp8 = spec.peak_fp8.is_some() && tp == 2;
            let (weights, kv) = if fp8 { (WeightDtype::Fp8, KvDtype::Fp8) } else { Default::default() };
            // Qwen2.5-7B has 28 heads.
            let Ok(shard) = shape.shard(tp) else { continue };
            let mut cost = with(on, name, tp, weights, kv);
            for _ in 0..50 {
                let prefill = random_prefill(&mut draw);
                let decode_seqs = if prefill.is_empty() { draw.log(512) } else { draw.uniform(0, 64) };
                let decode_context = decode_seqs * draw.log(16_384);
                let ends = prefill.len() as u32;
                let step = StepShape {
                    decode_seqs: decode_seqs as u32,
                    decode_context,
                    prefill: &prefill,
                    prefill_ends: ends,
                };
                mixed += u32::from(decode_seqs > 0 && !prefill.is_empty());
                let seconds = cost.step(&step).device.as_ns_f64() / 1e9;
                let embedding = 2 * u64::from(shard.vocab) * u64::from(shape.hidden);
                // The embedding is gathered, not streamed; a tied one is streamed as the head.
                let streamed =
                    weight_bytes(&shape, &shard, weights) - if shape.tied_embeddings { 0 } else { embedding };
                let kv_bytes = kv_bytes_per_token(&shape, &shard, kv) * decode_context;
                assert!(seconds >= (streamed + kv_bytes) as f64 / spec.bandwidth.0, "{on} {name} {step:?}");
                let matrices = shape.matrix_weights() / u64::from(tp);
                let heads = u64::from(shard.heads * shape.head_dim) * u64::from(shape.layers);
                let pairs: u64 = prefill
                    .iter()
                    .map(|p| u64::from(p.tokens) * (u64::from(p.tokens + 1) / 2 + u64::from(p.past)))
                    .sum();
                let flop = 2 * matrices * step.tokens() + 4 * heads * (pairs + decode_context);
                let peak = if fp8 { spec.peak_fp8.unwrap().0 } else { spec.peak_bf16.0 };
                assert!(seconds >= flop as f64 / peak, "{on} {name} {step:?}");
            }
        }
    }
    assert!(mixed > 1000, "{mixed}");
}

#[test]
fn decode_is_exactly_the_affine_part_of_step() {
    let mut draw = Draw(2);
    for (on, name, tp) in [("h200", "llama-3.1-8b", 1), ("a100-80", "llama-2-7b", 2), ("b200", "qwen3-0.6b", 1)] {
        let mut cost = roofline(on, name, tp);
        for _ in 0..5_000 {
            let seqs = draw.log(9_000) as u32;
            let context = u64::from(seqs) * draw.log(100_000) + draw.uniform(0, 50);
            let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 };
            let (step, decode) = (cost.step(&shape), cost.decode(seqs, context));
            assert!(context < decode.valid_below);
            assert_eq!(step.device, Cost(decode.base.0 + decode.per_context.0 * context));
            assert_eq!(step.host, decode.host);
        }
    }
}

#[test]
fn the_past_of_other_calls_does_not_matter() {
    let mut draw = Draw(3);
    let mut warm = roofline("h100", "qwen3-8b", 1);
    for _ in 0..300 {
        let prefill = random_prefill(&mut draw);
        let shape = StepShape { decode_seqs: 7, decode_context: draw.log(1 << 20), prefill: &prefill, prefill_ends: 0 };
        assert_eq!(warm.step(&shape), roofline("h100", "qwen3-8b", 1).step(&shape));
    }
    let nothing = StepShape { decode_seqs: 0, decode_context: 0, prefill: &[], prefill_ends: 0 };
    assert_eq!(warm.step(&nothing).device, Cost(0));
}

#[test]
fn more_work_never_takes_less_time() {
    for (on, name) in [("a100-80", "llama-2-7b"), ("h200", "llama-3.1-8b"), ("b200", "llama-3.2-1b")] {
        let mut cost = roofline(on, name, 1);
        for context in [1, 500, 8_000] {
            let times: Vec<f64> = (1..=1024).map(|seqs| decode_us(&mut cost, seqs, context)).collect();
            assert!(times.is_sorted(), "{on} {name} {context}");
        }
        for past in [0, 1_000, 30_000] {
            let times: Vec<f64> = (1..=8192).map(|tokens| prefill_us(&mut cost, tokens, past)).collect();
            assert!(times.is_sorted(), "{on} {name} {past}");
        }
        let times: Vec<f64> = (0..200).map(|past| prefill_us(&mut cost, 256, past * 512)).collect();
        assert!(times.is_sorted());
    }
}

#[test]
fn chunks_cost_a_little_more_than_the_whole_prompt() {
    let mut cost = roofline("h200", "llama-3.1-8b", 1);
    let whole = prefill_us(&mut cost, 8192, 0);
    for chunk in [512, 2048, 4096] {
        let parts: f64 = (0..8192 / chunk).map(|i| prefill_us(&mut cost, chunk, i * chunk)).sum();
        assert!(parts > whole && parts < 1.25 * whole, "{chunk}: {parts} {whole}");
    }
}

#[test]
fn smaller_numbers_and_more_gpus_are_faster() {
    for on in ["h100", "h200", "b200"] {
        let of = |weights, kv| decode_us(&mut with(on, "llama-3.1-8b", 1, weights, kv), 32, 2048);
        let bf16 = of(WeightDtype::Bf16, KvDtype::Bf16);
        assert!(of(WeightDtype::Fp8, KvDtype::Bf16) < bf16, "{on}");
        assert!(of(WeightDtype::Bf16, KvDtype::Fp8) < bf16, "{on}");
        assert!(of(WeightDtype::Int4, KvDtype::Bf16) < of(WeightDtype::Fp8, KvDtype::Bf16), "{on}");
        let prefill = |weights| prefill_us(&mut with(on, "llama-3.1-8b", 1, weights, KvDtype::Bf16), 4096, 0);
        assert!(prefill(WeightDtype::Fp8) < prefill(WeightDtype::Bf16), "{on}");
        assert!((prefill(WeightDtype::Int4) / prefill(WeightDtype::Bf16) - 1.0).abs() < 0.01, "{on}");
    }
    for on in GPUS {
        let times = [1, 2, 4, 8].map(|tp| prefill_us(&mut roofline(on, "llama-3.1-70b", tp), 2048, 0));
        for pair in times.windows(2) {
            let speedup = pair[0] / pair[1];
            assert!(speedup > 1.2 && speedup < 2.0, "{on} {times:?}");
        }
        let small = [1, 8].map(|tp| decode_us(&mut roofline(on, "llama-3.1-8b", tp), 1, 512));
        assert!(small[0] / small[1] < 5.0, "{on}: eight GPUs do not make a small step eight times faster");
    }
}

#[test]
fn decode_batches_are_padded_to_captured_graphs() {
    use overbook_sim::cost::roofline::graph_size;
    assert_eq!([0, 1, 2, 3, 4, 5, 9, 250, 257, 512, 513].map(graph_size), [0, 1, 2, 4, 4, 8, 16, 256, 272, 512, 513]);
    let (mut padded, exact) = (roofline("h200", "llama-3.1-8b", 1), roofline("h200", "llama-3.1-8b", 1));
    let mut exact = exact.without_graph_padding();
    assert!(decode_us(&mut padded, 257, 100) > decode_us(&mut exact, 257, 100));
    assert_eq!(decode_us(&mut padded, 256, 100), decode_us(&mut exact, 256, 100));
}

/// Marlin on Ampere: decodes read half of the bytes, prompts take as long as in bf16.
#[test]
fn fp8_weights_without_fp8_arithmetic_are_multiplied_in_bf16() {
    let of = |weights| {
        let cost = Roofline::new(&gpu("a100-80"), &model("llama-3.1-8b"), 1, weights, KvDtype::Bf16, HostCost::ZERO, 1);
        let mut cost = cost.unwrap();
        let prompt = [PrefillPart { tokens: 8192, past: 0 }];
        let shape = StepShape { decode_seqs: 0, decode_context: 0, prefill: &prompt, prefill_ends: 1 };
        (decode_us(&mut cost, 1, 100), cost.step(&shape).device.as_ns_f64() / 1e3)
    };
    let [bf16, fp8, int4] = [WeightDtype::Bf16, WeightDtype::Fp8, WeightDtype::Int4].map(of);
    assert!((0.5..0.65).contains(&(fp8.0 / bf16.0)) && int4.0 < fp8.0, "decodes: {bf16:?} {fp8:?} {int4:?}");
    assert!((0.98..=1.0).contains(&(fp8.1 / bf16.1)), "prompts: {bf16:?} {fp8:?}");
}

#[test]
fn what_was_not_measured_is_refused() {
    let new =
        |on: &str, tp, weights, kv| Roofline::new(&gpu(on), &model("llama-3.1-8b"), tp, weights, kv, HostCost::ZERO, 1);
    let error = new("a100-80", 1, WeightDtype::Bf16, KvDtype::Fp8).unwrap_err();
    assert_eq!(
        error.to_string(),
        "NVIDIA A100-SXM4-80GB has no measured attention times for fp8 keys and values with head_dim 128; \
         it has bf16 with 128, bf16 with 64"
    );
    let error = new("h100", 16, WeightDtype::Bf16, KvDtype::Bf16).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no measured all-reduce for tensor_parallel 16; it has 2, 4, 8; name a `fleet.server`")
    );
    assert!(matches!(new("h100", 3, WeightDtype::Bf16, KvDtype::Bf16), Err(CostError::Model(_))));
}
