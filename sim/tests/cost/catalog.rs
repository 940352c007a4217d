//! Every catalog entry reads, is named after its file, and says what is published.

use overbook_sim::gpu::{GpuSpec, OriginKind};
use overbook_sim::model::{KvDtype, ModelError, WeightDtype};

use crate::{GPUS, MODELS, gpu, model};

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
    assert_eq!(entries("gpus"), sorted(&GPUS));
    assert_eq!(entries("models"), sorted(&MODELS));
}

#[test]
fn models_have_the_published_number_of_parameters() {
    let published: [(&str, f64); 7] = [
        ("llama-2-7b", 6_738_415_616.0),
        ("llama-3.1-8b", 8_030_261_248.0),
        ("llama-3.1-70b", 70_553_706_496.0),
        ("llama-3.2-1b", 1_235_814_400.0),
        ("qwen3-0.6b", 596_049_920.0),
        ("qwen3-8b", 8_190_735_360.0),
        ("qwen3-32b", 32_762_123_264.0),
    ];
    for (name, parameters) in published {
        let spec = model(name);
        assert_eq!(spec.parameters() as f64, parameters, "{name}");
        assert_eq!(spec.validate(), Ok(()));
    }
    let mut untied = model("qwen3-0.6b");
    untied.tied_embeddings = false;
    assert_eq!(untied.parameters(), 751_632_384);
}

#[test]
fn gpus_are_complete_and_physical() {
    for name in GPUS {
        let spec = gpu(name);
        let has_fp8 = spec.peak_fp8.is_some();
        assert_eq!(has_fp8, name != "a100-80");
        assert_eq!(spec.supports_weights(WeightDtype::Fp8), has_fp8);
        for fit in [Some(spec.matmul.bf16), spec.matmul.fp8].into_iter().flatten() {
            assert!((0.4..1.0).contains(&fit.compute) && (0.5..1.0).contains(&fit.memory), "{name}");
            assert!(fit.sharpness >= 1.0 && fit.k0 >= 0.0 && fit.floor_us > 1.0);
        }
        for head_dim in [64, 128] {
            for kv in [KvDtype::Bf16, KvDtype::Fp8] {
                let wanted = kv == KvDtype::Bf16 || has_fp8;
                assert_eq!(spec.decode_fit(kv, head_dim).is_some(), wanted, "{name} {kv} {head_dim}");
                assert_eq!(spec.prefill_fit(kv, head_dim).is_some(), wanted, "{name} {kv} {head_dim}");
            }
        }
        assert_eq!([2, 4, 8].map(|n| spec.all_reduce_fit(n).is_some()), [true; 3]);
        assert_eq!(spec.matmul.origin.kind, OriginKind::Imported);
        assert!(spec.matmul.origin.source.contains("AIConfigurator"));
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
