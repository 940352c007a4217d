//! Models with experts, latent attention and sliding windows: physics, affinity, memory, refusals.

use overbook_sim::cost::forms::ExpertShare;
use overbook_sim::cost::{CostError, CostModel, HostCost, PrefillPart, Roofline, StepShape};
use overbook_sim::hardware::memory::{kv_bytes_per_token, weight_bytes};
use overbook_sim::hardware::model::{KvDtype, MoeSpec, WeightBits, WeightDtype};
use overbook_sim::hardware::parallel::{Exchange, ExpertParallel};

use crate::roofline::{decode_us, prefill_us};
use crate::{Draw, GPUS, INFERRED, MOE_MODELS, PCIE, gpu, model};

fn roofline(on: &str, name: &str, tp: u32) -> Roofline {
    Roofline::new(&gpu(on), &model(name), tp, WeightDtype::Bf16, KvDtype::Bf16, HostCost::default(), 8192).unwrap()
}

#[test]
fn as_many_experts_are_touched_as_draws_say() {
    let moe = MoeSpec {
        experts: 128,
        experts_per_token: 8,
        expert_intermediate: 1,
        shared_experts: 0,
        dense_layers: 0,
        skew: 0.0,
    };
    assert!((moe.touched(1.0) - 8.0).abs() < 1e-9 && moe.touched(4096.0) > 127.99);
    let mut draw = Draw(5);
    for tokens in [2u32, 16, 64] {
        let mut sum = 0u32;
        for _ in 0..400 {
            let mut seen = [false; 128];
            for _ in 0..tokens {
                let mut experts: Vec<usize> = (0..128).collect();
                for _ in 0..8 {
                    let at = draw.uniform(0, experts.len() as u64 - 1) as usize;
                    seen[experts.swap_remove(at)] = true;
                }
            }
            sum += seen.iter().filter(|seen| **seen).count() as u32;
        }
        let mean = f64::from(sum) / 400.0;
        assert!((mean / moe.touched(f64::from(tokens)) - 1.0).abs() < 0.01, "{tokens}: {mean}");
    }
}

#[test]
fn a_skewed_router_visits_fewer_experts_and_no_expert_twice_for_a_token() {
    let of = |skew: f64| MoeSpec {
        experts: 128,
        experts_per_token: 4,
        expert_intermediate: 1,
        shared_experts: 0,
        dense_layers: 0,
        skew,
    };
    for skew in [0.001, 0.3, 0.56, 1.0, 2.0, 3.0] {
        let shares = of(skew).popularity();
        assert_eq!(shares.len(), 128);
        assert!((shares.iter().sum::<f64>() - 4.0).abs() < 1e-9, "{skew}: a token visits four experts");
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)) && shares.is_sorted_by(|a, b| a >= b), "{skew}");
        assert!((of(skew).touched(1.0) - 4.0).abs() < 1e-9, "{skew}");
    }
    // By hand: 1 - (1 - p)^64 over p = c r^-0.56, c = 4 / 17.52.
    let (alike, skewed) = (of(0.0).touched(64.0), of(0.56).touched(64.0));
    assert!((of(1e-9).touched(64.0) - alike).abs() < 1e-5);
    assert!((skewed / alike - 0.903).abs() < 0.003, "{}", skewed / alike);
    assert!(of(1.0).touched(64.0) < skewed && of(0.56).touched(1e6) > 127.9);
    // At 3 the first three experts would be visited more than once by a token.
    assert_eq!(of(3.0).popularity()[..2], [1.0, 1.0]);
}

#[test]
fn bits_of_weights_are_bytes_and_time() {
    let bits = |bits| WeightDtype::Bits(WeightBits::new(bits).unwrap());
    let shape = model("llama-3.1-8b");
    let shard = shape.shard(1).unwrap();
    // int4 has 4.125 bits, and bf16 16: the same weights, the same steps.
    let step = |dtype| {
        let mut cost = Roofline::new(&gpu("h100"), &shape, 1, dtype, KvDtype::Bf16, HostCost::default(), 8192).unwrap();
        decode_us(&mut cost, 8, 8 * 1000)
    };
    for (known, stated) in [(WeightDtype::Int4, 4.125), (WeightDtype::Bf16, 16.0)] {
        assert_eq!(weight_bytes(&shape, &shard, known), weight_bytes(&shape, &shard, bits(stated)));
        assert!((step(known) - step(bits(stated))).abs() < 1e-9);
    }
    let all: Vec<f64> = [16.0, 8.0, 4.0, 3.2, 2.5, 2.0].map(|stated| step(bits(stated))).into();
    assert!(all.is_sorted_by(|more, fewer| more > fewer), "{all:?}");
    assert_eq!(bits(3.2).to_string(), "3.2-bit");
    assert!([0.9, 16.1, f64::NAN].iter().all(|wrong| WeightBits::new(*wrong).is_none()));
}

/// Every byte that must be read and every FLOP that must be done, at the datasheet's rates.
#[test]
fn no_step_beats_bandwidth_or_peak() {
    let mut draw = Draw(6);
    for (on, name) in
        [&GPUS[..], &PCIE, &INFERRED].concat().into_iter().flat_map(|on| MOE_MODELS.map(|name| (on, name)))
    {
        let (spec, shape) = (gpu(on), model(name));
        for tp in [1, 4, 8] {
            let (mut cost, shard) = (roofline(on, name, tp), shape.shard(tp).unwrap());
            for _ in 0..40 {
                let tokens = draw.log(4096) as u32;
                let part = [PrefillPart { tokens, past: draw.log(16_384) as u32 }];
                let prefill = if draw.uniform(0, 1) == 0 { &part[..] } else { &[] };
                let seqs = draw.log(256) as u32;
                let context = u64::from(seqs) * draw.log(16_384);
                let step = StepShape { decode_seqs: seqs, decode_context: context, prefill, prefill_ends: 0 };
                let seconds = cost.step(&step).device.as_ns_f64() / 1e9;
                let moe = shape.moe.unwrap();
                let touched = moe.touched(step.tokens() as f64) / f64::from(moe.experts);
                let layers = f64::from(shape.layers - moe.dense_layers);
                let one = f64::from(shape.hidden * shard.expert_intermediate * 3 * 2);
                let untouched = (1.0 - touched) * f64::from(moe.experts) * layers * one;
                let embedding = 2.0 * f64::from(shard.vocab) * f64::from(shape.hidden);
                let weights = weight_bytes(&shape, &shard, WeightDtype::Bf16) as f64 - untouched - embedding;
                let near = shape.sliding.map_or(0, |sliding| sliding.layers);
                let kv = kv_bytes_per_token(&shape, &shard, KvDtype::Bf16) / u64::from(shape.layers)
                    * u64::from(shape.layers - near)
                    * context;
                assert!(seconds >= (weights + kv as f64) / spec.bandwidth.0, "{on} {name} tp{tp} {step:?}");
                let flop = 2.0 * shape.active_matrix_weights() as f64 / f64::from(tp) * step.tokens() as f64;
                assert!(seconds >= flop / spec.peak_bf16.0, "{on} {name} tp{tp} {step:?}");
            }
        }
    }
}

#[test]
fn decode_is_exactly_the_affine_part_of_step_and_grows() {
    let mut draw = Draw(7);
    for name in MOE_MODELS {
        let mut cost = roofline("h200", name, 8);
        for _ in 0..1_000 {
            let seqs = draw.log(1024) as u32;
            let context = u64::from(seqs) * draw.log(100_000);
            let shape = StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 };
            let (step, decode) = (cost.step(&shape), cost.decode(seqs, context));
            assert_eq!(step.device.0, decode.base.0 + decode.per_context.0 * context);
        }
        let times: Vec<f64> = (1..=1024).map(|seqs| decode_us(&mut cost, seqs, 500)).collect();
        assert!(times.is_sorted(), "{name}");
        let times: Vec<f64> = (1..=8192).map(|tokens| prefill_us(&mut cost, tokens, 500)).collect();
        assert!(times.is_sorted(), "{name}");
    }
}

/// A lone token pays for the experts that it visits, a batch for nearly all of them.
#[test]
fn small_batches_leave_experts_alone() {
    let mut cost = roofline("h100", "qwen3-30b-a3b", 1);
    let (one, many) = (decode_us(&mut cost, 1, 100), decode_us(&mut cost, 64, 100));
    assert!(many > 2.5 * one, "{one} {many}");
    let mut dense = roofline("h100", "qwen3-32b", 1);
    assert!(decode_us(&mut dense, 64, 100) < 1.3 * decode_us(&mut dense, 1, 100));
    assert!(one < 0.35 * decode_us(&mut dense, 1, 100), "{one}");
}

#[test]
fn the_latent_is_small_and_on_every_gpu() {
    let shape = model("deepseek-v3");
    // 576 numbers of two bytes in 61 layers; DeepSeek-V3's report compares 70.272 KB with 516 KB of Llama-3.1-405B.
    for tp in [1, 8] {
        assert_eq!(kv_bytes_per_token(&shape, &shape.shard(tp).unwrap(), KvDtype::Bf16), 70_272);
    }
    let big = model("llama-3.1-405b");
    assert_eq!(kv_bytes_per_token(&big, &big.shard(1).unwrap(), KvDtype::Bf16), 516_096);
    assert_eq!(kv_bytes_per_token(&shape, &shape.shard(8).unwrap(), KvDtype::Fp8), 35_136);
    // 671 GB of fp8 weights over eight GPUs; routers, norms, embedding and latents' projections stay whole or bf16.
    let share = weight_bytes(&shape, &shape.shard(8).unwrap(), WeightDtype::Fp8) as f64;
    assert!((share / (671e9 / 8.0) - 1.0).abs() < 0.02, "{share}");
}

#[test]
fn sliding_layers_stop_reading_at_their_window() {
    let (mut sliding, mut full) = (model("gpt-oss-20b"), model("gpt-oss-20b"));
    full.sliding = None;
    sliding.sliding.as_mut().unwrap().window = 128;
    let of =
        |shape| Roofline::new(&gpu("h100"), shape, 1, WeightDtype::Bf16, KvDtype::Bf16, HostCost::ZERO, 8192).unwrap();
    let (mut short, mut long) = (of(&sliding), of(&full));
    let equal = decode_us(&mut short, 32, 128) / decode_us(&mut long, 32, 128);
    assert!((equal - 1.0).abs() < 1e-9, "{equal}");
    let slope = |cost: &mut Roofline| decode_us(cost, 32, 20_000) - decode_us(cost, 32, 10_000);
    assert!((slope(&mut short) / slope(&mut long) - 0.5).abs() < 1e-6);
    assert!(prefill_us(&mut short, 8192, 0) < prefill_us(&mut long, 8192, 0));
}

#[test]
fn experts_without_constants_are_refused() {
    let new = |spec: &_, weights| {
        Roofline::new(spec, &model("mixtral-8x7b"), 2, weights, KvDtype::Bf16, HostCost::ZERO, 1).unwrap_err()
    };
    let mut spec = gpu("h100");
    spec.experts.as_mut().unwrap().fp8 = None;
    let error = new(&spec, WeightDtype::Fp8);
    assert!(matches!(error, CostError::Experts { .. }));
    assert_eq!(
        error.to_string(),
        "NVIDIA H100 80GB HBM3 (SXM) has no measured fp8 experts, and Mixtral-8x7B has experts; use bf16 or int4 weights"
    );
    spec.experts = None;
    assert!(new(&spec, WeightDtype::Bf16).to_string().ends_with("a cost table measured on it"));
}

/// Prints the time of a warm step; a loose bound, since machines differ and tests run beside each other.
#[test]
fn warm_steps_cost_a_few_multiplications() {
    let mut cost = roofline("h100", "deepseek-v3", 8);
    let mut sum = 0u64;
    let mut round = || {
        let start = std::time::Instant::now();
        for seqs in 0..200_000u32 {
            let seqs = 1 + seqs % 256;
            let shape = StepShape {
                decode_seqs: seqs,
                decode_context: u64::from(seqs) * 1000,
                prefill: &[PrefillPart { tokens: 512, past: 0 }],
                prefill_ends: 1,
            };
            sum = sum.wrapping_add(cost.step(std::hint::black_box(&shape)).device.0);
        }
        start.elapsed().as_nanos() as f64 / 200_000.0
    };
    let best = (0..5).map(|_| round()).fold(f64::INFINITY, f64::min);
    eprintln!("warm step of a model with experts: {best:.1} ns");
    assert!(best < 1_000.0 && sum > 0, "{best}");
}

/// Random routing, counted: the busiest of the GPUs over many layers.
#[test]
fn the_busiest_gpu_has_what_chance_gives_it() {
    let mut draw = Draw(3);
    let moe = model("deepseek-v3").moe.unwrap();
    for (gpus, tokens) in [(8u32, 4u64), (8, 64), (4, 16), (2, 8), (8, 512)] {
        let (held, layers) = (moe.experts / gpus, 300);
        let (mut own, mut touched) = (0.0, 0.0);
        for _ in 0..layers {
            let mut rows = vec![0u64; moe.experts as usize];
            for _ in 0..tokens {
                let mut chosen = std::collections::BTreeSet::new();
                while chosen.len() < moe.experts_per_token as usize {
                    chosen.insert(draw.uniform(0, u64::from(moe.experts) - 1) as usize);
                }
                for expert in chosen {
                    rows[expert] += 1;
                }
            }
            let of_gpu = rows.chunks(held as usize);
            own += of_gpu.clone().map(|rows| rows.iter().sum::<u64>()).max().unwrap() as f64;
            touched += of_gpu.map(|rows| rows.iter().filter(|rows| **rows > 0).count()).max().unwrap() as f64;
        }
        let even = ExpertParallel { exchange: Exchange::AllToAll, imbalance: 1.0 };
        let mean = ExpertShare::of(moe, held, Some(even), f64::from(gpus), tokens);
        let got = ExpertShare::busiest(moe, held, Some(even), f64::from(gpus), tokens);
        let (own, touched) = (own / f64::from(layers), touched / f64::from(layers));
        eprintln!(
            "{gpus} GPUs, {tokens} tokens: rows {:.1} (counted {own:.1}, mean {:.1}), experts {:.1} (counted {touched:.1}, mean {:.1})",
            got.own, mean.own, got.touched, mean.touched
        );
        assert!((got.own / own - 1.0).abs() < 0.06, "{} {own}", got.own);
        assert!((got.touched / touched - 1.0).abs() < 0.08, "{} {touched}", got.touched);
    }
}
