//! Speculative decoding: what is refused with its place, and the flags of the engines in and out.

use overbook_scenarios::Scenario;
use overbook_scenarios::export::serve_flags;
use overbook_scenarios::import::{sglang_served, vllm_command, vllm_served};
use overbook_sim::serving::speculation::Drafts;
use serde_json::json;

use super::{LEAST, resolve, study, told};

/// What is wrong with a scenario that has this speculation and these further lines; nothing, if it is right.
fn said(speculation: &str, more: &str) -> String {
    let text = format!("{LEAST}engine: {{ {speculation} }}\n{more}");
    resolve(&text).err().map_or_else(String::new, |problems| told(&problems).join("\n"))
}

const EAGLE: &str = "speculation: { method: eagle3, num_speculative_tokens: 3, acceptance: 0.7 }";

#[test]
fn right_ones_are_right() {
    assert_eq!(said(EAGLE, ""), "");
    assert_eq!(said("speculation: { method: n-gram, num_speculative_tokens: 2, acceptance: [0.5, 0.2] }", ""), "");
    assert_eq!(
        said("speculation: { method: ngram, num_speculative_tokens: 1, acceptance: 1, draft_host: 3us }", ""),
        ""
    );
    let model = "speculation: { method: draft_model, model: llama-3.2-1b, num_speculative_tokens: 4, acceptance: 0.6 }";
    assert_eq!(said(model, "scheduler: sglang\n"), "");
    assert_eq!(said(EAGLE, "scheduler: { sglang: { version: 0.5.23 } }\n"), "");
}

#[test]
fn numbers_that_make_no_drafts_are_refused() {
    let of = |settings: &str| said(&format!("speculation: {{ method: eagle3, {settings} }}"), "");
    assert!(
        of("num_speculative_tokens: 0, acceptance: 0.7")
            .contains("`num_speculative_tokens` is 0; a step verifies 1 to 16")
    );
    assert!(of("num_speculative_tokens: 17, acceptance: 0.7").contains("is 17; a step verifies 1 to 16"));
    assert!(
        of("num_speculative_tokens: 3, acceptance: [0.7]").contains("`acceptance` has 1 probabilities for 3 drafts")
    );
    assert!(of("num_speculative_tokens: 2, acceptance: 1.5").contains("`acceptance` is 1.5; a probability"));
    assert!(of("num_speculative_tokens: 2").contains("acceptance"));
    assert!(of("num_speculative_tokens: 2, acceptance: high").contains("a probability, or a list"));
    let model = said("speculation: { method: draft-model, num_speculative_tokens: 2, acceptance: 0.5 }", "");
    assert!(model.contains("`model` is missing"), "{model}");
    let extra = of("num_speculative_tokens: 2, acceptance: 0.5, model: llama-3.2-1b");
    assert!(extra.contains("is for `method: draft-model` alone"), "{extra}");
}

#[test]
fn what_cannot_be_combined_is_refused_with_the_reason() {
    for (more, why) in [
        ("scheduler: orca\n", "orca counts one token a sequence and step"),
        ("scheduler: { vllm-v0: {} }\n", "vllm-v0 counts one token"),
        ("scheduler: { sglang: { enable_mixed_chunk: true } }\n", "verifies no drafts beside prompts"),
        (
            "scheduler: { vllm: { max_num_batched_tokens: 3 } }\n",
            "verifies 4 tokens of a sequence, more than the 3 of a step",
        ),
        ("power: polca\n", "the work of drafts is not counted"),
        ("fleet: { pipeline: { stages: 2, steps_in_flight: 1 }, server: dgx-h200 }\n", "which stage drafts"),
    ] {
        let told = said(EAGLE, more);
        assert!(told.contains("`speculation`") && told.contains(why), "{more}: {told}");
    }
    let with = |more: &str| said(&format!("{EAGLE}, {more}"), "");
    assert!(with("enforce_eager: true").contains("launches of draft passes"));
    assert!(
        with("retention: { policy: { trim-kv: {} }, budget: 1024 }")
            .contains("cannot be combined with `engine.retention`")
    );
    let apart = "fleet: { replicas: 2, controllers: { disaggregation: { prefill: 1, link: infiniband-ndr } } }\n";
    assert!(said(EAGLE, apart).contains("cannot be combined with `disaggregation`"), "{}", said(EAGLE, apart));
    let experts = format!("{LEAST}engine: {{ {EAGLE} }}\nfleet: {{ tensor_parallel: 2 }}\n")
        .replace("llama-3.1-8b", "mixtral-8x7b");
    let told_of = told(&resolve(&experts).unwrap_err()).join("\n");
    assert!(told_of.contains("Mixtral-8x7B has experts"), "{told_of}");
    let state = format!("{LEAST}engine: {{ {EAGLE} }}\n").replace("llama-3.1-8b", "nemotron-nano-9b-v2");
    let told_of = told(&resolve(&state).unwrap_err()).join("\n");
    assert!(told_of.contains("has layers with a state"), "{told_of}");
    let ranks = said(EAGLE, "fleet: { tensor_parallel: 2, dp_attention: 2 }\n");
    assert!(ranks.contains("how ranks draft is not modelled"), "{ranks}");
    let unknown =
        said("speculation: { method: draft-model, model: gpt-9, num_speculative_tokens: 2, acceptance: 0.5 }", "");
    assert!(unknown.contains("gpt-9"), "{unknown}");
    let large = said(
        "speculation: { method: draft-model, model: llama-3.1-70b, num_speculative_tokens: 2, acceptance: 0.5 }",
        "",
    );
    assert!(large.contains("the drafter takes") && large.contains("no room"), "{large}");
}

#[test]
fn a_drafter_takes_memory_and_slots() {
    let point = |more: &str| study(&format!("{LEAST}{more}")).points()[0].clone();
    let blocks = |more: &str| point(more).limits().unwrap().0;
    let plain = blocks("engine: { max_model_len: 8192 }\n");
    let eagle = blocks(&format!("engine: {{ max_model_len: 8192, {EAGLE} }}\n"));
    // A layer more of 32, and 0.85 GB of weights.
    let share = eagle.blocks as f64 / plain.blocks as f64;
    assert!((0.93..0.97).contains(&share), "{share}");
    assert_eq!((eagle.depth, eagle.drafts), (1, Drafts { tokens: 3, lookahead: 3, overlaps: true }));
    let ngram = "engine: { max_model_len: 8192, speculation: { method: n-gram, num_speculative_tokens: 3, acceptance: 0.5 } }\n";
    let ngram = blocks(ngram);
    assert_eq!((ngram.blocks, ngram.drafts), (plain.blocks, Drafts { tokens: 3, lookahead: 0, overlaps: false }));
}

#[test]
fn vllms_configuration_comes_in_and_goes_out() {
    let command = |config: &str| format!("vllm serve meta-llama/Llama-3.1-8B-Instruct --speculative-config '{config}'");
    let served = |config: &str| vllm_served(&command(config)).unwrap();
    let eagle =
        served(r#"{"method": "eagle3", "model": "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B", "num_speculative_tokens": 3}"#);
    let expected = json!({ "method": "eagle3", "num_speculative_tokens": 3, "acceptance": 0.7 });
    assert_eq!(eagle.engine["speculation"], expected);
    assert!(
        eagle.unmodelled.is_empty() && eagle.notes.iter().any(|note| note.contains("placeholder")),
        "{:?}",
        eagle.notes
    );
    // Without a method the drafter's name says it.
    let named = served(r#"{"model": "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B", "num_speculative_tokens": 3}"#);
    assert_eq!(named.engine["speculation"], expected);
    let ngram = served(r#"{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4}"#);
    assert_eq!(ngram.engine["speculation"]["method"], "n-gram");
    assert!(ngram.notes.iter().any(|note| note.contains("prompt_lookup_max")), "{:?}", ngram.notes);
    let small = served(
        r#"{"method": "draft_model", "model": "meta-llama/Llama-3.2-1B-Instruct", "num_speculative_tokens": 4}"#,
    );
    assert_eq!(small.engine["speculation"]["model"], "llama-3.2-1b");
    for (config, why) in [
        (r#"{"method": "medusa", "num_speculative_tokens": 4}"#, "medusa"),
        (r#"{"method": "eagle3"}"#, "num_speculative_tokens"),
        (r#"{"method": "draft_model", "model": "my/own", "num_speculative_tokens": 4}"#, "not in the catalog"),
    ] {
        let refused = vllm_command(&command(config)).unwrap_err().to_string();
        assert!(refused.contains("is not modelled") && refused.contains(why), "{refused}");
    }
    assert!(vllm_command(&command("eagle3")).unwrap_err().to_string().contains("no JSON object"));
    let scenario: Scenario =
        scenario(&vllm_command(&command(r#"{"method": "mtp", "num_speculative_tokens": 1}"#)).unwrap().scenario);
    let flags = serve_flags(&scenario);
    assert!(
        flags.vllm.contains(r#"--speculative-config '{"method":"mtp","num_speculative_tokens":1}'"#),
        "{}",
        flags.vllm
    );
    let back = vllm_command(&flags.vllm).unwrap();
    assert_eq!(self::scenario(&back.scenario).engine.speculation, scenario.engine.speculation);
}

#[test]
fn sglangs_flags_come_in_and_go_out() {
    let command =
        |flags: &str| format!("python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-R1 --tp 8 {flags}");
    let served = |flags: &str| sglang_served(&command(flags)).unwrap();
    let chain = "--speculative-num-steps 2 --speculative-eagle-topk 1 --speculative-num-draft-tokens 3";
    for algorithm in ["EAGLE", "NEXTN"] {
        let mtp = served(&format!("--speculative-algorithm {algorithm} {chain}"));
        assert_eq!(mtp.engine["speculation"]["method"], "mtp", "{algorithm}");
        assert_eq!(mtp.engine["speculation"]["num_speculative_tokens"], 2);
    }
    for (flags, why) in [
        ("--speculative-algorithm EAGLE".to_owned(), "--speculative-num-steps"),
        (
            "--speculative-algorithm EAGLE --speculative-num-steps 3 --speculative-eagle-topk 4".to_owned(),
            "tree of drafts",
        ),
        ("--speculative-algorithm NGRAM".to_owned(), "tree of drafts"),
        (format!("--speculative-algorithm STANDALONE {chain}"), "names no draft model"),
    ] {
        let told = served(&flags).unmodelled;
        assert!(told.len() == 1 && told[0].1.contains(why), "{flags}: {told:?}");
    }
    let text = format!("{LEAST}engine: {{ {EAGLE} }}\nscheduler: sglang\n");
    let flags = serve_flags(&scenario(&text)).sglang;
    let chain = "--speculative-algorithm EAGLE3 --speculative-draft-model-path EAGLE_HEAD --speculative-num-steps 3 --speculative-eagle-topk 1 \
                 --speculative-num-draft-tokens 4";
    assert!(flags.contains(chain), "{flags}");
    let back = sglang_served(&flags).unwrap();
    assert_eq!(back.engine["speculation"]["method"], "eagle3");
}

/// A scenario from its text.
fn scenario(text: &str) -> Scenario {
    study(text).points()[0].scenario.clone()
}
