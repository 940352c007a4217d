//! Configs of models and serve commands, in and out.
#![allow(clippy::unreadable_literal, reason = "configs as published")]

use overbook_scenarios::export::serve_flags;
use overbook_scenarios::import::{CommandError, model_from_config, sglang_served, vllm_command, vllm_served};
use overbook_scenarios::{Catalog, Scenario};
use overbook_sim::hardware::model::{ModelSpec, MoeSpec, SlidingSpec};
use overbook_sim::schedulers::SchedulerSpec;
use serde_json::{Value, json};

use super::{LEAST, study};

/// Configs as published, less what no shape depends on, and the catalog's name of each.
#[expect(clippy::too_many_lines, reason = "a list of configurations")]
fn configs() -> Vec<(&'static str, Value)> {
    vec![
        (
            "llama-3.1-8b",
            json!({
                "architectures": ["LlamaForCausalLM"], "attention_bias": false, "hidden_act": "silu",
                "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072,
                "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
                "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
                "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 128256,
            }),
        ),
        (
            "llama-2-7b",
            json!({
                "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
                "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
                "vocab_size": 32000,
            }),
        ),
        (
            "mistral-7b",
            json!({
                "architectures": ["MistralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
                "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32,
                "num_key_value_heads": 8, "sliding_window": null, "tie_word_embeddings": false, "vocab_size": 32768,
            }),
        ),
        (
            "qwen2.5-7b",
            json!({
                "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "intermediate_size": 18944,
                "max_position_embeddings": 32768, "max_window_layers": 28, "num_attention_heads": 28,
                "num_hidden_layers": 28, "num_key_value_heads": 4, "sliding_window": 131072,
                "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 152064,
            }),
        ),
        (
            "qwen3-4b",
            json!({
                "architectures": ["Qwen3ForCausalLM"], "head_dim": 128, "hidden_size": 2560,
                "intermediate_size": 9728, "max_position_embeddings": 40960, "max_window_layers": 36,
                "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
                "sliding_window": null, "tie_word_embeddings": true, "use_sliding_window": false,
                "vocab_size": 151936,
            }),
        ),
        (
            "mixtral-8x7b",
            json!({
                "architectures": ["MixtralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
                "max_position_embeddings": 32768, "num_attention_heads": 32, "num_experts_per_tok": 2,
                "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "sliding_window": null,
                "tie_word_embeddings": false, "vocab_size": 32000,
            }),
        ),
        (
            "qwen3-30b-a3b",
            json!({
                "architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 1, "head_dim": 128,
                "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960,
                "mlp_only_layers": [], "moe_intermediate_size": 768, "num_attention_heads": 32, "num_experts": 128,
                "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
                "sliding_window": null, "tie_word_embeddings": false, "use_sliding_window": false,
                "vocab_size": 151936,
            }),
        ),
        (
            "gpt-oss-20b",
            json!({
                "architectures": ["GptOssForCausalLM"], "head_dim": 64, "hidden_size": 2880,
                "intermediate_size": 2880, "max_position_embeddings": 131072, "num_attention_heads": 64,
                "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
                "num_local_experts": 32, "sliding_window": 128, "tie_word_embeddings": false, "vocab_size": 201088,
                "quantization_config": { "quant_method": "mxfp4" },
                "layer_types": (0..24).map(|l| ["sliding_attention", "full_attention"][l % 2]).collect::<Vec<_>>(),
            }),
        ),
        (
            "deepseek-v2-lite",
            json!({
                "architectures": ["DeepseekV2ForCausalLM"], "first_k_dense_replace": 1, "hidden_size": 2048,
                "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840,
                "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_routed_experts": 64, "n_shared_experts": 2,
                "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27,
                "num_key_value_heads": 16, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
                "tie_word_embeddings": false, "v_head_dim": 128, "vocab_size": 102400,
            }),
        ),
        (
            "deepseek-v3",
            json!({
                "architectures": ["DeepseekV3ForCausalLM"], "first_k_dense_replace": 3, "hidden_size": 7168,
                "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
                "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_routed_experts": 256, "n_shared_experts": 1,
                "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
                "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536,
                "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "tie_word_embeddings": false, "v_head_dim": 128,
                "vocab_size": 129280,
            }),
        ),
    ]
}

#[test]
fn configs_give_the_shapes_of_the_catalog() {
    for (name, config) in configs() {
        let known = Catalog::embedded().model(name).unwrap();
        let got = model_from_config(&config.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
        // No configuration says how unevenly a router spreads its tokens.
        let moe = got.moe.map(|moe| MoeSpec { skew: known.moe.map_or(0.0, |moe| moe.skew), ..moe });
        assert_eq!(ModelSpec { name: known.name.clone(), origin: known.origin.clone(), moe, ..got }, known, "{name}");
    }
}

#[test]
fn windows_count_where_they_are_used() {
    let of = |name, key: &str, value: Value| {
        let mut config = configs().into_iter().find(|(known, _)| *known == name).unwrap().1;
        config[key] = value;
        model_from_config(&config.to_string())
    };
    let sliding = |name, key, value| of(name, key, value).unwrap().sliding;
    assert_eq!(sliding("mistral-7b", "sliding_window", json!(4096)), Some(SlidingSpec { layers: 32, window: 4096 }));
    assert_eq!(sliding("gpt-oss-20b", "layer_types", json!(null)), Some(SlidingSpec { layers: 12, window: 128 }));
    assert_eq!(sliding("qwen2.5-7b", "use_sliding_window", json!(true)), None, "all layers are before the window");
    let refused = |name, key, value| of(name, key, value).unwrap_err().to_string();
    assert!(refused("qwen3-30b-a3b", "mlp_only_layers", json!([5])).contains("mlp_only_layers"));
    assert!(refused("qwen3-30b-a3b", "decoder_sparse_step", json!(2)).contains("decoder_sparse_step"));
    assert_eq!(refused("mixtral-8x7b", "num_local_experts", json!(null)), "the config has no `num_local_experts`");
    assert_eq!(refused("qwen3-4b", "hidden_size", json!("wide")), "`hidden_size` is \"wide\"; expected a whole number");
    assert!(refused("qwen3-4b", "num_key_value_heads", json!(5)).contains("cannot share"));
}

#[test]
fn unknown_architectures_are_refused_with_the_known_ones() {
    let error = model_from_config(r#"{"architectures": ["MambaForCausalLM"]}"#).unwrap_err().to_string();
    assert!(error.starts_with("cannot import `MambaForCausalLM`; known are LlamaForCausalLM, "), "{error}");
    assert!(error.ends_with("DeepseekV2ForCausalLM, DeepseekV3ForCausalLM"), "{error}");
    assert!(model_from_config("{}").unwrap_err().to_string().contains("neither"));
    assert!(model_from_config("[]").unwrap_err().to_string().contains("JSON object"));
    assert!(model_from_config("{").unwrap_err().to_string().contains("JSON object"));
}

fn scenario(command: &str) -> (Scenario, Vec<String>) {
    let got = vllm_command(command).unwrap_or_else(|error| panic!("{command}: {error}"));
    (study(&got.scenario).points()[0].scenario.clone(), got.notes)
}

#[test]
fn a_serve_command_becomes_a_scenario() {
    let (got, notes) = scenario(
        "HF_TOKEN=x vllm serve 'meta-llama/Llama-3.1-8B-Instruct' -tp 2 --max_num_seqs=128 --max-num-batched-tokens 4K \\\n \
         --max-model-len=8k --gpu-memory-utilization 0.85 --kv-cache-dtype fp8 --quantization=fp8 --block-size 32 \
         --no-enable-prefix-caching --async-scheduling --scheduling-policy priority --data-parallel-size 3 --seed 7 \
         --port 8000 --enforce-eager --new-fancy-flag on --pipeline-parallel-size 1 --num-gpu-blocks-override 1000",
    );
    let expected = study(
        "version: 1\nname: llama-3.1-8b\nseed: 7\n\
         description: From a vllm serve command of meta-llama/Llama-3.1-8B-Instruct\n\
         workload: { generate: { arrivals: { poisson: { rate: 10/s } }, lengths: burstgpt, requests: 1000 } }\n\
         model: llama-3.1-8b\ngpu: h100\nfleet: { tensor_parallel: 2, replicas: 3 }\n\
         engine: { weights: fp8, kv: fp8, block_tokens: 32, gpu_memory_utilization: 0.85, max_model_len: 8000, \
         enforce_eager: true, kv_tokens: 31968 }\n\
         scheduler: { vllm: { max_num_seqs: 128, max_num_batched_tokens: 4096, enable_prefix_caching: false, \
         async_scheduling: true, policy: priority } }\n",
    );
    assert_eq!(got, expected.points()[0].scenario);
    let told = |part: &str| notes.iter().any(|note| note.contains(part));
    assert!(told("`--port 8000` was left out: it changes neither"));
    assert!(told("`--new-fancy-flag on` was left out: it is not known") && told("`gpu: h100` is a placeholder"));
    assert_eq!(notes.len(), 4, "{notes:#?}");
    let (got, notes) = scenario("python3 -m vllm.entrypoints.openai.api_server --model openai/gpt-oss-20b");
    assert_eq!(got.engine.weights, overbook_sim::hardware::model::WeightDtype::Mxfp4);
    assert!(notes[0].contains("mxfp4"), "{notes:?}");
}

/// argparse takes the beginning of a flag for the flag, containers stand before the arguments, and the shell fills variables in.
#[test]
fn commands_are_read_as_they_are_typed() {
    let engine = |command: &str| scenario(command).0.engine;
    let vllm = |command: &str| match scenario(command).0.scheduler {
        SchedulerSpec::Vllm(spec) => spec,
        other => panic!("{other:?}"),
    };
    assert_eq!(vllm("vllm serve Qwen/Qwen3-14B --max-num-seq 30 --gpu-memory-util 0.95").max_num_seqs, 30);
    assert!((engine("vllm serve Qwen/Qwen3-14B --gpu-memory-util 0.95").gpu_memory_utilization - 0.95).abs() < 1e-9);
    let (got, notes) =
        scenario("docker run --gpus all -p 8000:8000 vllm/vllm-openai:v0.10.1 --model Qwen/Qwen3-32B -tp 2");
    assert_eq!((got.fleet.tensor_parallel, got.engine.version.unwrap().numbers()), (2, (0, 10)), "{notes:?}");
    let unset = vllm_command("vllm serve $MODEL -tp 2").unwrap_err();
    assert!(unset.to_string().contains("`$MODEL` is a variable of the shell"), "{unset}");
    let both = vllm_command("vllm serve Qwen/Qwen3-14B --max-num 3").unwrap_err().to_string();
    assert!(both.contains("--max-num-batched-tokens") && both.contains("--max-num-seqs"), "{both}");
}

#[test]
fn experts_are_spread_where_there_are_any() {
    let import = |command: &str| vllm_command(&format!("vllm serve {command}")).unwrap();
    let spread = import("Qwen/Qwen3-30B-A3B -tp 4 -ep");
    assert!(spread.scenario.contains("  tensor_parallel: 4\n  expert_parallel: {}\n"), "{}", spread.scenario);
    for none in ["Qwen/Qwen3-30B-A3B -ep", "Qwen/Qwen3-8B -tp 4 -ep"] {
        let import = import(none);
        assert!(!import.scenario.contains("expert_parallel"), "{none}");
        assert!(import.notes.iter().any(|note| note.contains("there is nothing to spread")), "{none}");
    }
}

#[test]
fn what_would_change_the_result_is_refused() {
    let refused = |flags: &str| vllm_command(&format!("vllm serve Qwen/Qwen3-8B {flags}")).unwrap_err().to_string();
    assert!(refused("-pp 2").starts_with("`--pipeline-parallel-size 2` is not modelled: vLLM keeps as many steps"));
    assert!(refused("--speculative-config '{\"method\": \"ngram\"}'").contains("speculative decoding"));
    assert_eq!(refused("--max-num-seqs many"), "`--max-num-seqs`: `many` is not a whole number");
    assert_eq!(refused("--max-num-seqs"), "`--max-num-seqs`: needs a value");
    assert!(refused("--quantization bitsandbytes").contains("known are fp8, awq"));
    assert!(refused("--kv-cache-dtype nvfp4").contains("known are auto"));
    assert!(refused("--dtype float32").contains("known are auto"));
    assert_eq!(vllm_command("vllm serve 'x").unwrap_err(), CommandError::Quote);
    assert_eq!(vllm_command("vllm bench").unwrap_err(), CommandError::NotVllm);
    assert_eq!(vllm_command("vllm serve --port 1").unwrap_err(), CommandError::NoModel);
    let unknown = vllm_command("vllm serve Qwen/Qwen9-8B").unwrap_err().to_string();
    assert!(unknown.starts_with("the catalog has no model `Qwen/Qwen9-8B`; "), "{unknown}");
}

#[test]
fn commands_of_a_scenario_read_back() {
    let text = format!("{LEAST}fleet: {{ tensor_parallel: 2 }}\nengine: {{ kv: fp8, max_model_len: 8192 }}\n");
    let wanted = study(&text).points()[0].scenario.clone();
    let flags = serve_flags(&wanted);
    assert_eq!(
        flags.vllm,
        "vllm serve meta-llama/Llama-3.1-8B --tensor-parallel-size 2 --max-num-seqs 1024 --max-num-batched-tokens 8192 \
         --gpu-memory-utilization 0.9 --block-size 16 --max-model-len 8192 --kv-cache-dtype fp8 \
         --enable-prefix-caching --enable-chunked-prefill --async-scheduling"
    );
    assert_eq!(
        flags.sglang,
        "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --tp-size 2 --max-running-requests 1024 \
         --chunked-prefill-size 8192 --mem-fraction-static 0.9 --page-size 16 --context-length 8192 \
         --kv-cache-dtype fp8_e4m3 --schedule-policy fcfs"
    );
    assert_eq!(flags.notes, Vec::<String>::new());
    let (back, notes) = scenario(&flags.vllm);
    assert_eq!((back.engine, back.fleet, back.scheduler), (wanted.engine, wanted.fleet, wanted.scheduler));
    assert_eq!(notes.len(), 2, "{notes:?}");
    let text = format!("{LEAST}fleet: {{ replicas: 4 }}\nengine: {{ weights: int4 }}\nscheduler: static\n");
    let flags = serve_flags(&study(&text).points()[0].scenario.clone());
    assert_eq!(flags.notes.len(), 3, "{:?}", flags.notes);
    assert!(flags.vllm.contains("--no-enable-prefix-caching") && flags.sglang.contains("--disable-radix-cache"));
}

/// vLLM refuses to start where prompts are not split and a step could not hold the longest of them.
#[test]
fn whole_prompts_get_a_budget_that_holds_them() {
    for scheduler in ["orca", "vllm-v0", "past-future", "static"] {
        let text = format!("{LEAST}engine: {{ max_model_len: 20000 }}\nscheduler: {scheduler}\n");
        let flags = serve_flags(&study(&text).points()[0].scenario.clone()).vllm;
        assert!(flags.contains("--max-num-batched-tokens 20000 "), "{scheduler}: {flags}");
        assert!(flags.contains("--no-enable-chunked-prefill"), "{scheduler}: {flags}");
    }
    let text = format!("{LEAST}engine: {{ max_model_len: 20000 }}\nscheduler: sarathi\n");
    let flags = serve_flags(&study(&text).points()[0].scenario.clone()).vllm;
    assert!(flags.contains("--max-num-batched-tokens 512 ") && flags.contains(" --enable-chunked-prefill"), "{flags}");
}

/// Every flag of a command is a setting, or named: `used`, `notes` and `unmodelled` have as many words as the command.
#[test]
fn every_flag_is_accounted_for() {
    let vllm = "vllm serve Qwen/Qwen3-8B -tp 2 -pp 1 --dtype auto --kv-cache-dtype fp8 --quantization fp8 --seed 3 --block-size 32 --port 1 \
                --new-flag --enforce-eager --num-gpu-blocks-override 100 --speculative-config {} --max-num-seqs 8 -ep --enable-lora";
    let sglang = "python -m sglang.launch_server --model-path Qwen/Qwen3-8B --tp 2 --pp-size 1 --dtype half --kv-cache-dtype fp8_e5m2 --quantization fp8 \
                  --random-seed 3 --page-size 32 --port 1 --new-flag --disable-cuda-graph --max-total-tokens 100000 --speculative-algorithm EAGLE \
                  --max-running-requests 8 --ep-size 2 --enable-lora";
    for served in [vllm_served(vllm).expect("a command"), sglang_served(sglang).expect("a command")] {
        let command = if served.kind == "vllm" { vllm } else { sglang };
        let told: Vec<&String> =
            served.notes.iter().chain(served.used.iter().chain(&served.unmodelled).map(|(flag, _)| flag)).collect();
        let flags = command.split_whitespace().filter(|word| word.starts_with("--") && !word.starts_with("--model"));
        for flag in flags {
            let known = ["--tp", "--ep-size"].contains(&flag) || told.iter().any(|text| text.contains(flag));
            assert!(known, "{flag} is lost: {told:#?}");
        }
        let all = told.iter().map(|text| text.as_str()).collect::<Vec<_>>().join("\n");
        let spread = if served.kind == "vllm" { "--enable-expert-parallel" } else { "--ep-size" };
        assert!(all.contains(&format!("`{spread}` was left out: there is nothing to spread")), "{all}");
        assert_eq!((served.seed, served.unmodelled.len()), (Some(3), 1), "{all}");
        assert_eq!(served.fleet["tensor_parallel"], json!(2));
    }
}

#[test]
fn sglangs_command_becomes_sglangs_settings() {
    let served = sglang_served(
        "SGLANG_X=1 python3 -m sglang.launch_server --model Qwen/Qwen3-30B-A3B --tp-size=4 --ep 4 --moe-a2a-backend deepep --dp 1 \
         --context-length 8192 --mem-fraction-static 0.8 --chunked-prefill-size -1 --schedule-policy lpm --schedule-conservativeness 0.3 \
         --enable-mixed-chunk --disable-overlap-schedule --disable-radix-cache --max-prefill-tokens 8k",
    )
    .expect("a command");
    assert_eq!(
        json!([served.fleet, served.engine, served.scheduler()]),
        json!([
            { "tensor_parallel": 4, "replicas": 1, "expert_parallel": { "exchange": "all-to-all" } },
            { "max_model_len": 8192, "gpu_memory_utilization": 0.8 },
            { "sglang": {
                "chunked_prefill_size": null, "schedule_policy": "lpm", "schedule_conservativeness": 0.3, "enable_mixed_chunk": true,
                "enable_overlap_schedule": false, "enable_radix_cache": false, "max_prefill_tokens": 8000, "version": "0.5.23",
            } },
        ])
    );
    assert_eq!(sglang_served("vllm serve x").unwrap_err(), CommandError::NotSglang);
    assert_eq!(sglang_served("sglang serve --port 1").unwrap_err(), CommandError::NoModel);
    assert!(
        sglang_served("sglang serve --model-path Qwen/Qwen3-8B --tp x")
            .unwrap_err()
            .to_string()
            .contains("not a whole number")
    );
}
