//! Layers that see a window, and layers with a state of fixed size.

use overbook_sim::cost::{CostModel, HostCost, PrefillPart, Roofline, StepShape};
use overbook_sim::hardware::memory::{kv_bytes_per_token, weight_bytes};
use overbook_sim::hardware::model::{KvDtype, WeightDtype};

use crate::roofline::{decode_us, prefill_us};
use crate::{Draw, HYBRID_MODELS, gpu, model};

fn roofline(name: &str, tp: u32) -> Roofline {
    Roofline::new(&gpu("h200"), &model(name), tp, WeightDtype::Bf16, KvDtype::Bf16, HostCost::ZERO, 8192).unwrap()
}

/// Every weight but the embedding must be read, unless no token visits it, and every FLOP be done, at the datasheet's rates.
#[test]
fn no_step_beats_bandwidth_or_peak() {
    let (spec, mut draw) = (gpu("h200"), Draw(8));
    for name in HYBRID_MODELS {
        let shape = model(name);
        for tp in [1, 2] {
            let (mut cost, shard) = (roofline(name, tp), shape.shard(tp).unwrap());
            for _ in 0..50 {
                let tokens = draw.log(4096) as u32;
                let part = [PrefillPart { tokens, past: 0 }];
                let prefill = if draw.uniform(0, 1) == 0 { &part[..] } else { &[] };
                let seqs = draw.log(256) as u32;
                let context = u64::from(seqs) * draw.log(16_384);
                let step = StepShape { decode_seqs: seqs, decode_context: context, prefill, prefill_ends: 0 };
                let seconds = cost.step(&step).device.as_ns_f64() / 1e9;
                let untouched = shape.moe.map_or(0.0, |moe| {
                    let one = f64::from(shape.hidden * shard.expert_intermediate * 3 * 2);
                    (f64::from(moe.experts) - moe.touched(step.tokens() as f64)) * f64::from(shape.layers) * one
                });
                // A tied embedding is streamed as the head.
                let embedding = if shape.tied_embeddings { 0.0 } else { f64::from(shard.vocab * shape.hidden) * 2.0 };
                let weights = weight_bytes(&shape, &shard, WeightDtype::Bf16) as f64 - untouched - embedding;
                let states = shape.recurrent.map_or(0.0, |recurrent| {
                    2.0 * recurrent.bytes_per_sequence(shard.recurrent) as f64 * f64::from(recurrent.layers)
                });
                let bytes = weights + states * f64::from(seqs);
                assert!(seconds >= bytes / spec.bandwidth.0, "{name} tp{tp} {step:?}");
                let flop = 2.0 * shape.active_matrix_weights() as f64 / f64::from(tp) * step.tokens() as f64;
                assert!(seconds >= flop / spec.peak_bf16.0, "{name} tp{tp} {step:?}");
            }
        }
    }
}

/// Below the context at which a window is full, and above it, decode is affine, and says up to where.
#[test]
fn decode_is_affine_up_to_where_it_says_and_grows() {
    let mut draw = Draw(9);
    for name in HYBRID_MODELS.into_iter().chain(["gpt-oss-120b"]) {
        let mut cost = roofline(name, 1);
        let mut kinks = 0;
        for _ in 0..300 {
            let seqs = draw.log(512) as u32;
            let context = u64::from(seqs) * draw.log(20_000);
            let decode = cost.decode(seqs, context);
            let far = decode.valid_below.min(context + 1_000_000);
            kinks += u32::from(far == decode.valid_below);
            for at in [context, context.midpoint(far - 1), far - 1] {
                let shape = StepShape { decode_seqs: seqs, decode_context: at, prefill: &[], prefill_ends: 0 };
                let step = cost.step(&shape).device;
                assert_eq!(step.0, decode.base.0 + decode.per_context.0 * at, "{name} {seqs} {at}");
            }
        }
        assert_eq!(kinks > 0, model(name).sliding.is_some(), "{name}: {kinks}");
        let times: Vec<f64> = (1..=20_000).step_by(7).map(|context| decode_us(&mut cost, 16, context)).collect();
        assert!(times.is_sorted(), "{name}");
        let times: Vec<f64> = (1..=512).map(|seqs| decode_us(&mut cost, seqs, 500)).collect();
        assert!(times.is_sorted(), "{name}");
        let times: Vec<f64> = (1..=8192).step_by(5).map(|tokens| prefill_us(&mut cost, tokens, 0)).collect();
        assert!(times.is_sorted(), "{name}");
    }
}

/// A prompt in a window: the pairs of token and token before it that are nearer than the window, and no more.
#[test]
fn a_prompt_pays_for_the_pairs_within_the_window() {
    let (windowed, mut full) = (model("gemma-3-27b"), model("gemma-3-27b"));
    full.sliding = None;
    let of = |shape| Roofline::new(&gpu("h100"), shape, 2, WeightDtype::Bf16, KvDtype::Bf16, HostCost::ZERO, 8192);
    let (mut near, mut far) = (of(&windowed).unwrap(), of(&full).unwrap());
    // 52 of 62 layers see 1,024 tokens: a longer past costs more in the other ten only.
    let more = |cost: &mut Roofline| prefill_us(cost, 2048, 60_000) - prefill_us(cost, 2048, 30_000);
    let share = more(&mut near) / more(&mut far);
    assert!((share - 10.0 / 62.0).abs() < 1e-3, "{share}");
    let short = prefill_us(&mut near, 1000, 0) / prefill_us(&mut far, 1000, 0);
    assert!((short - 1.0).abs() < 1e-6, "{short}");
}

/// Nemotron Nano 9B: four attention layers of eight heads of 128 keep keys and values, and 27 a state of 128 heads of 80 by 128 numbers.
#[test]
fn states_do_not_grow_with_the_context() {
    let shape = model("nemotron-nano-9b-v2");
    let shard = shape.shard(1).unwrap();
    assert_eq!(kv_bytes_per_token(&shape, &shard, KvDtype::Bf16), 4 * 2 * 8 * 128 * 2);
    let recurrent = shape.recurrent.unwrap();
    assert_eq!(recurrent.bytes_per_sequence(128), 128 * 80 * 128 * 4 + 12_288 * 3 * 2);
    assert_eq!(recurrent.bytes_per_sequence(64) * 2, recurrent.bytes_per_sequence(128));
    let mut cost = roofline("nemotron-nano-9b-v2", 1);
    let mut dense = roofline("llama-3.1-8b", 1);
    let slope = |cost: &mut Roofline| decode_us(cost, 32, 20_000) - decode_us(cost, 32, 10_000);
    // 4 of 31 layers with 8 heads against 32 layers with 8.
    let share = slope(&mut cost) / slope(&mut dense);
    assert!((share - 4.0 / 32.0).abs() < 0.02, "{share}");
    let mut wrong = shape.clone();
    wrong.recurrent.as_mut().unwrap().layers = 32;
    assert!(wrong.validate().unwrap_err().to_string().contains("do not fit into 31 layers"));
}
