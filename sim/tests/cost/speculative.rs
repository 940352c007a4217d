//! Steps that verify drafts: what the matrices see, what attention reads once, and what drafting adds.

use overbook_sim::cost::forms::{DecodeAttention, HeadShape, matmul_us};
use overbook_sim::cost::{
    Cost, CostModel, DraftPasses, Drafter, HostCost, PrefillPart, Roofline, Speculative, StepShape,
};
use overbook_sim::hardware::draft::{DraftHead, DraftHeadKind};
use overbook_sim::hardware::model::{KvDtype, ModelSpec, WeightDtype};

use crate::{gpu, model};

fn roofline(on: &str, model: &ModelSpec, tp: u32) -> Roofline {
    Roofline::new(&gpu(on), model, tp, WeightDtype::Bf16, KvDtype::Bf16, HostCost::ZERO, 4096).unwrap()
}

fn us(cost: Cost) -> f64 {
    cost.as_ns_f64() / 1e3
}

fn decodes(seqs: u32, context: u64) -> StepShape<'static> {
    StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 }
}

/// Attention of a grouped-query model by hand: keys and values once, arithmetic for each of `q` tokens; token i attends to i more.
fn attention_us(on: &str, name: &str, (seqs, context, q): (f64, f64, f64)) -> f64 {
    let (gpu, model) = (gpu(on), model(name));
    let heads = HeadShape { heads: model.heads, kv_heads: model.kv_heads, head_dim: model.head_dim };
    let form = DecodeAttention::new(&gpu, KvDtype::Bf16, heads).unwrap();
    let (read, compute) = (form.per_context.memory, form.per_context.compute);
    let attended = q * context + seqs * q * (q - 1.0) / 2.0;
    let each = seqs * (form.per_seq.us + form.per_seq.memory * (q - 1.0));
    f64::from(model.layers) * (form.floor.us + each + read * (context + seqs * (q - 1.0)) + compute * attended)
}

#[test]
fn matrices_see_every_draft_and_attention_reads_once() {
    for (on, name) in [("h100", "llama-3.1-8b"), ("b200", "qwen3-32b"), ("a100-80", "llama-3.2-3b")] {
        let mut plain = roofline(on, &model(name), 1);
        for q in [2_u32, 4, 9] {
            let mut verify = plain.clone().verifying(q, q).unwrap();
            for (seqs, context) in [(1_u32, 700_u64), (16, 9_000), (128, 128_000)] {
                let own = attention_us(on, name, (f64::from(seqs), context as f64, f64::from(q)));
                let others = attention_us(on, name, (f64::from(seqs * q), context as f64, 1.0));
                // As many single sequences have the same matrices; their attention is another.
                let expected = us(plain.step(&decodes(seqs * q, context)).device) - others + own;
                let got = us(verify.step(&decodes(seqs, context)).device);
                assert!((got / expected - 1.0).abs() < 1e-6, "{on} {name}: {got} us for {expected} us");
                let decode = verify.decode(seqs, context);
                assert_eq!(decode.base + decode.per_context * context, verify.step(&decodes(seqs, context)).device);
                assert_eq!(verify.parts(&decodes(seqs, context)).whole, verify.step(&decodes(seqs, context)).device);
            }
        }
    }
}

#[test]
fn verifying_one_token_is_a_plain_step() {
    for name in ["llama-3.1-8b", "deepseek-v3", "gpt-oss-120b"] {
        let mut plain = roofline("h200", &model(name), 8);
        let mut one = plain.clone().verifying(1, 1).unwrap();
        let prefill = [PrefillPart { tokens: 300, past: 40 }];
        let shape = StepShape { decode_seqs: 24, decode_context: 30_000, prefill: &prefill, prefill_ends: 1 };
        assert_eq!(plain.step(&shape), one.step(&shape), "{name}");
    }
}

#[test]
fn drafts_touch_more_experts_and_latents_are_read_once() {
    let mut plain = roofline("b200", &model("deepseek-v3"), 8);
    let mut verify = plain.clone().verifying(3, 3).unwrap();
    let (one, three) = (plain.decode(8, 8_000), verify.decode(8, 8_000));
    // Eight tokens visit 57 of 256 experts, 24 visit 137.
    assert!(three.base.0 as f64 > 1.3 * one.base.0 as f64);
    assert!(three.per_context >= one.per_context && three.per_context.0 < 3 * one.per_context.0, "read once");
}

#[test]
fn a_step_is_verifying_and_the_passes_of_the_head() {
    let (on, target) = (gpu("h100"), model("llama-3.1-8b"));
    let head = DraftHead::of(&target, DraftHeadKind::Eagle3).unwrap();
    let shard = head.layer.shard(1).unwrap();
    let verify = roofline("h100", &target, 1).verifying(4, 4).unwrap();
    let pass = roofline("h100", &head.layer, 1);
    let first = pass.clone().verifying(4, 1).unwrap();
    let host = Cost::from_us(25.0);
    let passes = DraftPasses {
        first: first.clone(),
        next: pass.clone(),
        drafts: 3,
        entry: head.entry(&shard),
        gpu: on.clone(),
        weights: WeightDtype::Bf16,
        host,
    };
    let mut whole = Speculative::new(verify.clone(), Drafter::Passes(Box::new(passes)));
    let (mut verify, mut first, mut pass) = (verify, first, pass);
    let prefill = [PrefillPart { tokens: 100, past: 28 }];
    let shape = StepShape { decode_seqs: 8, decode_context: 4_000, prefill: &prefill, prefill_ends: 1 };
    let matrix = |m: u64, n: u64, k: u64| matmul_us(&on, WeightDtype::Bf16, m, n, k).unwrap();
    // 8 sequences of 4 tokens and a prompt of 100; then 9 sequences with a token each, twice.
    let entry = matrix(132, 4096, 3 * 4096) + matrix(132, 48 * 128, 4096) + 2.0 * matrix(9, 48 * 128, 4096);
    let next = |pass: &mut Roofline, more: u64| us(pass.step(&decodes(9, 4_000 + 128 + 9 * more)).device);
    let drafting = entry + us(first.step(&shape).device) + next(&mut pass, 1) + next(&mut pass, 2) + 3.0 * 25.0;
    let expected = us(verify.step(&shape).device) + drafting;
    let got = us(whole.step(&shape).device);
    assert!((got / expected - 1.0).abs() < 1e-6, "{got} us for {expected} us");
    assert_eq!(whole.parts(&shape).whole, whole.step(&shape).device);
    let decode = whole.decode(8, 4_000);
    assert_eq!(decode.base, whole.step(&decodes(8, 4_000)).device);
    assert_eq!(whole.decode_parts(8, 4_000).at(4_000).whole, decode.base);
}

#[test]
fn a_look_up_on_the_host_costs_what_is_stated() {
    let verify = roofline("h100", &model("llama-3.1-8b"), 1).verifying(4, 4).unwrap();
    let drafter = Drafter::Host { base: Cost(0), per_seq: Cost::from_us(7.0) };
    let mut whole = Speculative::new(verify.clone(), drafter);
    let mut verify = verify;
    let shape = decodes(32, 32_000);
    let added = us(whole.step(&shape).device) - us(verify.step(&shape).device);
    assert!((added - 224.0).abs() < 1e-3, "{added}");
}

#[test]
fn experts_have_no_known_eagle_head() {
    assert!(DraftHead::of(&model("deepseek-v3"), DraftHeadKind::Eagle3).is_err());
    let mtp = DraftHead::of(&model("deepseek-v3"), DraftHeadKind::Mtp).unwrap();
    // DeepSeek-V3's card: the prediction module has 11.5 billion weights beside what it shares with the model.
    let shard = mtp.layer.shard(1).unwrap();
    let billions = mtp.weight_bytes(&shard, WeightDtype::Fp8).unwrap() as f64 / 1e9;
    assert!((11.0..12.0).contains(&billions), "{billions}");
}
