//! What a step executes, counted by hand.

use overbook_sim::cost::{PrefillPart, StepShape};
use overbook_sim::hardware::memory;
use overbook_sim::hardware::model::{KvDtype, ModelSpec, MoeSpec, SlidingSpec, WeightDtype};
use overbook_sim::hardware::parallel::{Exchange, ExpertParallel, Parallelism};
use overbook_sim::power::{StepWork, Work};

use super::step_work;
use crate::{MODELS, MOE_MODELS, model};

/// Two layers of a model that is small enough for a pencil: hidden 8, 4 query heads and 2 KV heads of 2, MLP of 16 with a gate, 32 words.
/// Attention 8·(4+4)·2 + 8·8 = 192 weights, MLP 3·8·16 = 384, head 256.
fn small() -> ModelSpec {
    let sizes = (8, 2, 4, 2, 2, 16, 32);
    let (hidden, layers, heads, kv_heads, head_dim, intermediate, vocab) = sizes;
    let shape = ModelSpec { hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, ..model("llama-3.1-8b") };
    ModelSpec { gated: true, qk_norm: false, tied_embeddings: false, moe: None, ..shape }
}

fn decode(seqs: u32, context: u64) -> StepShape<'static> {
    StepShape { decode_seqs: seqs, decode_context: context, prefill: &[], prefill_ends: 0 }
}

#[test]
fn a_dense_decode_step_by_hand() {
    let work = step_work(&small(), 1, WeightDtype::Bf16).of(&decode(3, 30));
    // 2 layers × (192 + 384) weights and 256 of the head, two operations each, three tokens; 4·4·2 a pair and layer.
    assert_eq!(work.bf16_flops, 2 * 3 * (2 * 576 + 256) + 2 * 32 * 30);
    assert_eq!(work.fp8_flops, 0);
    // All weights in bf16, two norms of 8 a layer, the head, three rows of the embedding.
    assert_eq!(work.weight_bytes, 2 * (2 * 576 + 2 * 16 + 256 + 3 * 8));
    // 2 · 2 · 2 numbers a token and layer: 30 read, 3 written.
    assert_eq!(work.kv_bytes, 2 * 16 * 33);
}

#[test]
fn a_mixed_step_by_hand() {
    let parts = [PrefillPart { tokens: 5, past: 0 }, PrefillPart { tokens: 4, past: 10 }];
    let steps = step_work(&small(), 1, WeightDtype::Bf16);
    let work = steps.of(&StepShape { decode_seqs: 3, decode_context: 30, prefill: &parts, prefill_ends: 1 });
    // Twelve tokens, four of them need logits. Pairs: 1 + 2 + … + 5, and 4·10 + (1 + … + 4).
    assert_eq!(work.bf16_flops, 2 * (12 * 2 * 576 + 4 * 256) + 2 * 32 * (30 + 15 + 50));
    assert_eq!(work.weight_bytes, 2 * (2 * 576 + 2 * 16 + 256 + 12 * 8));
    // Chunks: what they find once, what they make twice.
    assert_eq!(work.kv_bytes, 2 * 16 * (33 + 2 * 5 + 10 + 2 * 4));
    let unfinished = steps.of(&StepShape { decode_seqs: 0, decode_context: 0, prefill: &parts[..1], prefill_ends: 0 });
    assert_eq!(unfinished.weight_bytes, 2 * (2 * 576 + 2 * 16 + 5 * 8), "no logits, no head");
    assert_eq!(steps.of(&decode(0, 0)), Work::default());
}

#[test]
fn fp8_layers_and_a_bf16_head() {
    let work = step_work(&small(), 1, WeightDtype::Fp8).of(&decode(3, 30));
    assert_eq!(work.fp8_flops, 2 * 3 * 2 * 576);
    assert_eq!(work.bf16_flops, 2 * 3 * 256 + 2 * 32 * 30);
    assert_eq!(work.weight_bytes, 2 * 576 + 2 * (2 * 16 + 256 + 3 * 8));
}

#[test]
fn two_gpus_share_what_one_does() {
    let (one, two) = (step_work(&small(), 1, WeightDtype::Bf16), step_work(&small(), 2, WeightDtype::Bf16));
    let (one, two) = (one.of(&decode(3, 30)), two.of(&decode(3, 30)));
    assert_eq!((two.bf16_flops * 2, two.kv_bytes * 2), (one.bf16_flops, one.kv_bytes));
    // Norms and rows of the embedding are everybody's.
    assert_eq!(two.weight_bytes, (2 * 576 + 256) + 2 * (2 * 16 + 3 * 8));
}

/// Four experts of 16, two for each token, one shared: the router has 32 weights, an expert 384.
fn experts() -> ModelSpec {
    let moe = MoeSpec {
        experts: 4,
        experts_per_token: 2,
        expert_intermediate: 16,
        shared_experts: 1,
        dense_layers: 1,
        skew: 0.0,
    };
    ModelSpec { moe: Some(moe), ..small() }
}

#[test]
fn a_step_with_experts_by_hand() {
    let work = step_work(&experts(), 1, WeightDtype::Bf16).of(&decode(3, 30));
    // One dense layer; one with two routed and one shared expert for each token, and the router.
    let layers = 2 * 192 + 384 + 3 * 384 + 32;
    assert_eq!(work.bf16_flops, 2 * 3 * (layers + 256) + 2 * 32 * 30);
    // Three tokens touch 4 · (1 − 1/2³) = 3.5 of four experts.
    let read = 2 * 192 + 384 + 384 + 32 + 7 * 384 / 2;
    assert_eq!(work.weight_bytes, 2 * (read + 2 * 16 + 256 + 3 * 8));
}

#[test]
fn experts_by_number_are_shared_out() {
    let spread =
        |exchange| Parallelism { experts: Some(ExpertParallel { exchange, imbalance: 1.5 }), ..Parallelism::from(2) };
    let by_width = step_work(&experts(), 2, WeightDtype::Bf16).of(&decode(4, 30));
    let by_number = step_work(&experts(), spread(Exchange::AllReduce), WeightDtype::Bf16).of(&decode(4, 30));
    // The mean GPU has as much to do either way: imbalance moves work, it makes none.
    assert_eq!(by_number, by_width);
    let exchanged = step_work(&experts(), spread(Exchange::AllToAll), WeightDtype::Bf16).of(&decode(4, 30));
    // Router for two of the four tokens; the shared expert whole, for two, where it was half of it for four.
    assert_eq!(exchanged.bf16_flops, by_width.bf16_flops - 2 * 2 * 32);
    assert_eq!(exchanged.weight_bytes, by_width.weight_bytes + 2 * 192);
}

#[test]
fn windows_bound_what_a_layer_reads() {
    let spec = ModelSpec { sliding: Some(SlidingSpec { layers: 1, window: 4 }), ..small() };
    let work = step_work(&spec, 1, WeightDtype::Bf16).of(&decode(3, 30));
    assert_eq!(work.bf16_flops, 2 * 3 * (2 * 576 + 256) + 32 * (30 + 3 * 4));
    assert_eq!(work.kv_bytes, 16 * (30 + 3 * 4 + 2 * 3));
}

#[test]
fn a_pipeline_does_the_same_and_holds_a_share() {
    let (one, four) = (model("llama-3.1-70b"), Parallelism { stages: 4, ..Parallelism::from(2) });
    let (whole, split) = (step_work(&one, 2, WeightDtype::Bf16), step_work(&one, four, WeightDtype::Bf16));
    assert_eq!(whole.of(&decode(8, 8_000)), split.of(&decode(8, 8_000)));
    assert_eq!((whole.stages(), split.stages()), (1, 4));
    assert!((split.resident_bytes() * 4.0 / whole.resident_bytes() - 1.0).abs() < 1e-9);
    let too_many = Parallelism { stages: 81, ..Parallelism::from(1) };
    assert!(StepWork::new(&one, too_many, WeightDtype::Bf16, KvDtype::Bf16).is_err());
}

/// A jump is the sum of its steps, to the last operation and byte, for every model of the catalog.
#[test]
fn decode_agrees_with_steps() {
    for name in MODELS.iter().chain(&MOE_MODELS) {
        let steps = step_work(&model(name), 1, WeightDtype::Bf16);
        for seqs in [1, 7, 256] {
            let jump = steps.decode(seqs);
            for context in [u64::from(seqs), 12_345] {
                assert_eq!(steps.of(&decode(seqs, context)), jump.base + jump.per_context * context, "{name}");
            }
        }
    }
}

/// Orders of magnitude from outside: 2 operations a parameter, the weights once; 15 GFLOP and 15 GB for Llama-3.1-8B, whose embedding of
/// 1 GB is not read.
#[test]
fn known_models_come_out_right() {
    let spec = model("llama-3.1-8b");
    let steps = step_work(&spec, 1, WeightDtype::Bf16);
    let work = steps.of(&decode(1, 1));
    let parameters = spec.parameters() - spec.embedding_weights();
    assert!((work.flops() as f64 / (2 * parameters) as f64 - 1.0).abs() < 1e-3, "{work:?}");
    assert!((work.bytes() as f64 / (2 * parameters) as f64 - 1.0).abs() < 1e-3, "{work:?}");
    let shard = spec.shard(1).unwrap();
    assert!((steps.resident_bytes() - memory::weight_bytes(&spec, &shard, WeightDtype::Bf16) as f64).abs() < 0.5);
    // DeepSeek-V3: 37 of 671 billion parameters a token; without the embedding 36.
    let work = step_work(&model("deepseek-v3"), 1, WeightDtype::Fp8).of(&decode(1, 1));
    assert!((35.0..38.0).contains(&(work.flops() as f64 / 2e9)), "{work:?}");
    // A full batch reads all experts: within a percent of all weights.
    let spec = model("qwen3-30b-a3b");
    let steps = step_work(&spec, 1, WeightDtype::Bf16);
    let read = steps.of(&decode(512, 512)).weight_bytes as f64;
    assert!((read / (2 * (spec.parameters() - spec.embedding_weights())) as f64 - 1.0).abs() < 0.01, "{read}");
}
