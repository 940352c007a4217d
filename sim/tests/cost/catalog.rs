//! Every catalog entry reads, is named after its file, and says what is published.

use overbook_sim::hardware::gpu::{GpuSpec, OriginKind};
use overbook_sim::hardware::model::{KvDtype, ModelError, WeightDtype};

use crate::{GPUS, HYBRID_MODELS, INFERRED, MODELS, MOE_MODELS, PCIE, gpu, model};

fn entries(folder: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/catalog").join(folder);
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn these_tests_know_every_entry() {
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(entries("gpus"), sorted(&[&GPUS[..], &PCIE, &INFERRED].concat()));
    // The last two are our own: what the engine runs without a download.
    assert_eq!(entries("models"), sorted(&[&MODELS[..], &MOE_MODELS, &HYBRID_MODELS, &["small", "tiny"]].concat()));
}

/// Memory [MiB], SMs and L2 [MiB] as `torch.cuda.get_device_properties` prints them in public logs (drivers reserve up to
/// 0.5 % more or less), and dense bf16 and fp8 peaks [TFLOP/s], bandwidth [GB/s] and power [W] of the makers' datasheets,
/// which print twice the peaks for sparse matrices.
#[test]
fn gpus_are_what_their_makers_state_and_their_drivers_report() {
    for (name, memory, sms, l2, bf16, fp8, bandwidth, watts) in [
        ("a100-80", 81_152.0, 108, 40, 312.0, 0.0, 2039.0, 400.0),
        ("a100-40", 40_441.0, 108, 40, 312.0, 0.0, 1555.0, 400.0),
        ("h100", 81_089.0, 132, 50, 1979.0 / 2.0, 3958.0 / 2.0, 3350.0, 700.0),
        ("a100-pcie-80", 81_152.0, 108, 40, 312.0, 0.0, 1935.0, 300.0),
        ("h100-pcie", 81_089.0, 114, 50, 1513.0 / 2.0, 3026.0 / 2.0, 2039.0, 350.0),
        ("h100-64", 64_922.0, 132, 50, 1979.0 / 2.0, 3958.0 / 2.0, 1655.0, 700.0),
        ("h200", 143_156.0, 132, 60, 1979.0 / 2.0, 3958.0 / 2.0, 4800.0, 700.0),
        ("b200", 182_642.0, 148, 126, 4500.0 / 2.0, 9000.0 / 2.0, 7700.0, 1000.0),
        ("l40s", 45_589.0, 142, 96, 362.05, 733.0, 864.0, 350.0),
        ("l4", 22_559.0, 58, 48, 242.0 / 2.0, 485.0 / 2.0, 300.0, 72.0),
        ("a10g", 22_587.0, 80, 6, 70.0, 0.0, 600.0, 300.0),
        ("mi300x", 196_592.0, 304, 32, 1307.4, 2614.9, 5300.0, 750.0),
        ("rtx-pro-6000", 97_250.0, 188, 128, 467.8, 935.6, 1597.0, 600.0),
        ("rtx-pro-6000-max-q", 97_250.0, 188, 128, 410.6, 821.2, 1792.0, 300.0),
        ("rtx-4090", 24_217.0, 128, 72, 165.2, 330.3, 1008.0, 450.0),
    ] {
        let spec = gpu(name);
        let near = |got: f64, wanted: f64| (got / wanted - 1.0).abs() < 0.005;
        assert!(near(spec.memory.0 as f64 / f64::from(1 << 20), memory), "{name}: {} B", spec.memory.0);
        assert_eq!((spec.sms, spec.l2.0 >> 20), (sms, l2), "{name}");
        assert!(near(spec.peak_bf16.0 / 1e12, bf16), "{name}: {}", spec.peak_bf16);
        assert_eq!(spec.peak_fp8.is_some(), fp8 > 0.0, "{name}");
        assert!(spec.peak_fp8.is_none_or(|peak| near(peak.0 / 1e12, fp8)), "{name}");
        assert!(near(spec.bandwidth.0 / 1e9, bandwidth) && near(spec.tdp.0, watts), "{name}");
    }
}

#[test]
fn models_have_the_published_number_of_parameters() {
    // The number of weights in the published checkpoint, to the weight (`safetensors.total` on Hugging Face, as public
    // model cards, gguf headers and test suites repeat it).
    let published = [
        ("llama-7b", 6_738_415_616),
        ("llama-13b", 13_015_864_320),
        ("codellama-34b", 33_743_970_304),
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-13b", 13_015_864_320),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3-70b", 70_553_706_496),
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("llama-3.1-405b", 405_853_388_800),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("llama-3.3-70b", 70_553_706_496),
        ("mistral-7b", 7_248_023_552),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-1.7b", 1_720_574_976),
        ("qwen3-4b", 4_022_468_096),
        ("qwen3-8b", 8_190_735_360),
        ("qwen3-14b", 14_768_307_200),
        ("qwen3-32b", 32_762_123_264),
        ("mixtral-8x7b", 46_702_792_704),
        ("qwen3-30b-a3b", 30_532_122_624),
        ("qwen3-235b-a22b", 235_093_634_560),
        ("qwen3-coder-30b-a3b", 30_532_122_624),
        ("qwen3-coder-480b-a35b", 480_154_875_392),
        ("deepseek-v2-lite", 15_706_484_224),
    ];
    for (name, parameters) in published {
        let spec = model(name);
        assert_eq!(spec.parameters(), parameters, "{name}");
        assert_eq!(spec.validate(), Ok(()));
    }
    // Biases, attention sinks and the correction terms of the router are left out.
    for (name, parameters, share) in [
        ("qwen2.5-1.5b", 1_543_714_304.0, 5e-5),
        ("qwen2.5-7b", 7_615_616_512.0, 2e-5),
        ("qwen2.5-14b", 14_770_033_664.0, 3e-5),
        ("qwen2.5-32b", 32_763_876_352.0, 2e-5),
        // Its config.json has the sizes of Qwen2.5-32B.
        ("qwq-32b", 32_763_876_352.0, 2e-5),
        ("gpt-oss-20b", 20_914_757_184.0, 5e-4),
        ("gpt-oss-120b", 116_829_156_672.0, 5e-4),
        ("deepseek-v3", 671_026_419_200.0, 1e-6),
    ] {
        let error = model(name).parameters() as f64 / parameters - 1.0;
        assert!((-share..=0.0).contains(&error), "{name}: {error:e}");
    }
    // As the model cards state them, in billions, without vision and multi-token prediction.
    let stated = [
        ("gemma-3-12b", 11.77),
        ("gemma-3-27b", 27.01),
        ("llama-4-scout", 107.8),
        ("minimax-m2.5", 228.7),
        ("nemotron-nano-9b-v2", 8.89),
        ("nemotron-nano-12b-v2", 12.31),
        ("qwen3.5-397b-a17b", 397.0),
    ];
    for (name, billions) in stated {
        let (spec, share) = (model(name), 2e-3);
        assert!((spec.parameters() as f64 / 1e9 / billions - 1.0).abs() < share, "{name}: {}", spec.parameters());
        assert_eq!(spec.validate(), Ok(()));
    }
    assert_eq!(published.len() + stated.len() + 8, MODELS.len() + MOE_MODELS.len() + HYBRID_MODELS.len());
    let mut untied = model("qwen3-0.6b");
    untied.tied_embeddings = false;
    assert_eq!(untied.parameters(), 751_632_384);
}

#[test]
fn one_token_passes_through_the_published_share_of_the_weights() {
    // Billions, as the model cards state them (gpt-oss and DeepSeek without embedding or head, MiniMax without both).
    for (name, stated, embeddings) in [
        ("mixtral-8x7b", 12.9, 2),
        ("qwen3-30b-a3b", 3.3, 2),
        ("qwen3-235b-a22b", 22.0, 2),
        ("gpt-oss-20b", 3.6, 1),
        ("gpt-oss-120b", 5.1, 1),
        ("deepseek-v2-lite", 2.4, 1),
        ("deepseek-v3", 37.0, 1),
        ("llama-4-scout", 17.0, 2),
        ("minimax-m2.5", 10.0, 0),
        ("qwen3-coder-480b-a35b", 35.0, 2),
        ("qwen3.5-397b-a17b", 17.0, 2),
    ] {
        let spec = model(name);
        let active = spec.active_parameters() - (2 - embeddings) * spec.embedding_weights();
        assert!((active as f64 / 1e9 / stated - 1.0).abs() < 0.03, "{name}: {active}");
    }
    // To the weight, as others count them, embedding and head included.
    assert_eq!(model("qwen3-30b-a3b").active_parameters(), 3_353_032_704);
    assert_eq!(model("mixtral-8x7b").active_parameters(), 12_879_925_248);
    let dense = model("llama-3.1-8b");
    assert_eq!(dense.active_parameters(), dense.parameters());
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let told = |change: fn(&mut overbook_sim::hardware::model::ModelSpec)| {
        let mut spec = model("deepseek-v3");
        change(&mut spec);
        spec.validate().unwrap_err().to_string()
    };
    assert!(told(|spec| spec.kv_heads = 128).contains("kv_lora_rank + rope_head_dim = 576"));
    assert!(told(|spec| spec.moe.as_mut().unwrap().experts_per_token = 257).contains("257 of 256 experts"));
    assert!(told(|spec| spec.moe.as_mut().unwrap().dense_layers = 61).contains("leave none of 61"));
    assert!(told(|spec| spec.moe.as_mut().unwrap().experts = 0).contains("at least 1"));
    assert!(told(|spec| spec.mla.as_mut().unwrap().v_head_dim = 0).contains("at least 1"));
    let sliding = overbook_sim::hardware::model::SlidingSpec { layers: 1, window: 128 };
    let mut spec = model("deepseek-v3");
    spec.sliding = Some(sliding);
    assert!(spec.validate().is_err());
}

#[test]
fn gpus_are_complete_and_physical() {
    for name in [&GPUS[..], &PCIE, &INFERRED].concat() {
        let spec = gpu(name);
        let has_fp8 = spec.peak_fp8.is_some();
        assert_eq!(has_fp8, !name.starts_with("a10"), "{name}");
        assert!(spec.supports_weights(WeightDtype::Fp8), "{name}: in fp8, or in bf16");
        for fit in [Some(spec.matmul.bf16), spec.matmul.fp8].into_iter().flatten() {
            assert!((0.4..1.0).contains(&fit.compute) && (0.5..1.0).contains(&fit.memory), "{name}");
            assert!(fit.sharpness >= 1.0 && fit.k0 >= 0.0 && fit.floor_us >= 0.0);
        }
        for head_dim in [64, 128] {
            for kv in [KvDtype::Bf16, KvDtype::Fp8] {
                // The A10G reads fp8 keys and values without any arithmetic of the kind.
                let wanted = kv == KvDtype::Bf16 || has_fp8 || (name == "a10g" && head_dim == 128);
                assert_eq!(spec.decode_fit(kv, head_dim).is_some(), wanted, "{name} {kv} {head_dim}");
                assert_eq!(spec.prefill_fit(kv, head_dim).is_some(), wanted, "{name} {kv} {head_dim}");
            }
        }
        assert_eq!([2, 4, 8].map(|n| spec.all_reduce_fit(n).is_some()), [true; 3]);
        let experts = spec.experts.as_ref().unwrap();
        for fit in [Some(experts.bf16), experts.fp8].into_iter().flatten() {
            assert!((0.1..1.0).contains(&fit.compute) && (0.5..1.0).contains(&fit.memory), "{name}");
            assert!(fit.sharpness >= 1.0 && fit.floor_us >= 0.0 && fit.expert_ns >= 0.0);
        }
        assert_eq!(experts.fp8.is_some(), has_fp8);
        let inferred = INFERRED.contains(&name);
        let groups =
            [&spec.matmul.origin, &spec.decode_attention.origin, &spec.prefill_attention.origin, &experts.origin];
        for origin in groups {
            assert_eq!(origin.kind, if inferred { OriginKind::Inferred } else { OriginKind::Imported }, "{name}");
            assert!(inferred || origin.source.contains("AIConfigurator"));
        }
    }
}

#[test]
fn a_gpu_round_trips_and_refuses_unknown_keys() {
    let spec = gpu("h200");
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<GpuSpec>(&text).unwrap(), spec);
    let wrong = text.replacen("\"sms\"", "\"smx\"", 1);
    assert!(serde_json::from_str::<GpuSpec>(&wrong).unwrap_err().to_string().contains("smx"));
}

#[test]
fn a_model_splits_as_far_as_its_heads_go() {
    let spec = model("llama-3.1-8b");
    assert_eq!(spec.shard(8).map(|shard| (shard.heads, shard.kv_heads)), Ok((4, 1)));
    assert_eq!(spec.shard(16).map(|shard| (shard.heads, shard.kv_heads)), Ok((2, 1)));
    for tp in [0, 3] {
        assert!(matches!(spec.shard(tp), Err(ModelError::Split { .. })), "{tp}");
    }
    let message = spec.shard(3).unwrap_err().to_string();
    assert_eq!(message, "model Llama-3.1-8B: tensor_parallel 3 does not divide kv_heads (8)");
}
