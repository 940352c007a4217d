//! Data-parallel attention and links without NVLink, as scenarios and commands state them.

use overbook_scenarios::export::serve_flags;
use overbook_scenarios::facts::assumptions;
use overbook_scenarios::import::{sglang_served, vllm_command};
use overbook_sim::cost::{CostModel, StepShape};
use serde_json::json;

use super::{LEAST, problems, study};

fn placed(model: &str, fleet: &str, more: &str) -> String {
    let text = LEAST.replace("gpu: h200\n", "").replace("llama-3.1-8b", model);
    format!("{text}fleet: {fleet}\n{more}")
}

fn decode_ms(text: &str, seqs: u32) -> f64 {
    let study = study(text);
    let mut cost = study.points()[0].cost().unwrap();
    let shape = StepShape { decode_seqs: seqs, decode_context: u64::from(seqs) * 1000, prefill: &[], prefill_ends: 0 };
    CostModel::step(&mut *cost, &shape).device.as_ns_f64() / 1e6
}

fn told(text: &str) -> String {
    let study = study(text);
    let all: Vec<String> =
        assumptions(&study.points()[0]).unwrap().into_iter().map(|(what, fact)| format!("{what}: {fact}")).collect();
    all.join("\n")
}

#[test]
fn pools_are_those_of_the_ranks() {
    let of = |ranks: u32| {
        let fleet = format!("{{ server: dgx-h200, tensor_parallel: 8, dp_attention: {ranks}, expert_parallel: {{}} }}");
        let text = placed("deepseek-v3", &fleet, "engine: { weights: fp8, max_model_len: auto }\n");
        let study = study(&text);
        let point = &study.points()[0];
        let limits = point.limits().unwrap().0;
        assert_eq!(super::study(&point.scenario.to_yaml()).plan_hash(), study.plan_hash());
        (limits.blocks, limits.max_model_len, told(&text))
    };
    let ((heads, ..), (ranks, longest, facts)) = (of(1), of(8));
    assert!(ranks > 3 * heads && ranks % 8 == 0, "{ranks} {heads}");
    assert!(u64::from(longest) <= ranks / 8 * 16, "a request lives on one rank: {longest}");
    assert!(facts.contains("attention by requests on 8 ranks of 1 GPU, as if evenly loaded"), "{facts}");
    // The KV of a request fits into one rank, or not at all.
    let fleet = "{ server: dgx-h200, tensor_parallel: 8, dp_attention: 8, expert_parallel: {} }";
    let text = placed("deepseek-v3", fleet, "engine: { weights: fp8, kv_tokens: 80000, max_model_len: 20000 }\n");
    assert!(problems(&text)[0].contains("the KV pool of a rank holds 10000"), "{:?}", problems(&text));
}

#[test]
fn limits_are_those_of_all_ranks() {
    let text = placed("qwen3-30b-a3b", "{ server: dgx-h100, tensor_parallel: 8, dp_attention: 4 }", "");
    let study = study(&text);
    let yaml = study.points()[0].scenario.to_yaml();
    assert!(yaml.contains("max_num_seqs: 4096") && yaml.contains("max_num_batched_tokens: 32768"), "{yaml}");
}

#[test]
fn ranks_are_refused_at_their_place() {
    let refused = |fleet: &str| problems(&placed("qwen3-30b-a3b", fleet, ""));
    let told = refused("{ server: dgx-h100, tensor_parallel: 8, dp_attention: 3 }");
    assert!(told[0].contains("`dp_attention` is 3; it must divide `tensor_parallel` (8)"), "{told:?}");
    let told = refused("{ server: dgx-h100, tensor_parallel: 8, dp_attention: 0 }");
    assert!(told[0].contains("`dp_attention` is 0"), "{told:?}");
    let staged =
        "{ server: dgx-h100, tensor_parallel: 2, dp_attention: 2, pipeline: { stages: 2, steps_in_flight: 1 } }";
    assert!(refused(staged)[0].contains("data-parallel attention inside a pipeline"), "{:?}", refused(staged));
}

#[test]
fn all_reduces_are_slower_without_nvlink_and_reports_say_so() {
    let of = |server: &str, more: &str| {
        placed(
            "llama-3.1-8b",
            &format!("{{ server: {server}, tensor_parallel: 8 }}"),
            &format!("engine: {{ {more} }}\n"),
        )
    };
    let ms = |server: &str, more: &str| decode_ms(&of(server, more), 1);
    let off = "disable_custom_all_reduce: true";
    let (nvlink, nccl) = (ms("dgx-h100", ""), ms("dgx-h100", off));
    // 65 all-reduces of 8 KB: 4.9 us by vLLM's kernel, 16 by NCCL's (AIConfigurator's tables, 8 H100).
    assert!((nccl - nvlink - 65.0 * 11.2e-3).abs() < 0.1, "{nvlink} {nccl}");
    let (peers, staged) = (ms("l40s-x8", ""), ms("l40s-x8-no-p2p", ""));
    assert!(staged > peers && decode_ms(&of("l40s-x8-no-p2p", ""), 64) > 1.5 * decode_ms(&of("l40s-x8", ""), 64));
    assert!(ms("h100-pcie-x8", "") > nvlink + 1.0, "PCIe adds 20 us to each of 65 all-reduces");
    // Eight are slower than two where nothing but PCIe is between them.
    let two = of("l40s-x8-no-p2p", "").replace("tensor_parallel: 8", "tensor_parallel: 2");
    assert!(decode_ms(&two, 64) < decode_ms(&of("l40s-x8-no-p2p", ""), 64));
    let facts = told(&of("l40s-x8-no-p2p", ""));
    assert!(facts.contains("all-reduces over PCIe 4.0 x16 without peer access"), "{facts}");
    assert!(told(&of("dgx-h100", off)).contains("all-reduces by NCCL"));
    let told = problems(&of("l40s-x8-no-p2p", "").replace("tensor_parallel: 8", "tensor_parallel: 16"));
    assert!(told[0].contains("does not fit into one 8 L40S"), "{told:?}");
}

#[test]
fn commands_carry_ranks_both_ways() {
    let text =
        placed("qwen3-30b-a3b", "{ server: dgx-h100, tensor_parallel: 8, dp_attention: 4, expert_parallel: {} }", "");
    let study = study(&text);
    let flags = serve_flags(&study.points()[0].scenario);
    assert!(
        flags
            .vllm
            .contains("--tensor-parallel-size 2 --data-parallel-size 4 --enable-expert-parallel --max-num-seqs 1024")
    );
    assert!(flags.sglang.contains("--tp-size 8 --dp-size 4 --enable-dp-attention --ep-size 8"), "{}", flags.sglang);
    let read =
        vllm_command("vllm serve Qwen/Qwen3-30B-A3B -tp 2 -dp 4 -ep --max-num-seqs 100 --disable-custom-all-reduce")
            .unwrap();
    for line in [
        "tensor_parallel: 8",
        "dp_attention: 4",
        "expert_parallel: {}",
        "max_num_seqs: 400",
        "disable_custom_all_reduce: true",
    ] {
        assert!(read.scenario.contains(line), "{line}: {}", read.scenario);
    }
    assert!(!read.scenario.contains("replicas"), "{}", read.scenario);
    // Members without experts are replicas.
    let dense = vllm_command("vllm serve Qwen/Qwen3-8B -dp 4").unwrap().scenario;
    assert!(dense.contains("replicas: 4") && !dense.contains("dp_attention"), "{dense}");
    let served = sglang_served(
        "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 8 --dp 8 --enable-dp-attention --ep 8",
    )
    .unwrap();
    assert_eq!(json!(served.fleet), json!({ "tensor_parallel": 8, "dp_attention": 8, "expert_parallel": {} }));
    assert!(served.unmodelled.is_empty(), "{:?}", served.unmodelled);
}
