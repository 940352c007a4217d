//! Steps replayed from graphs are those launched kernel by kernel, bit for bit, for every family of models.

use std::sync::{Arc, Mutex};

use overbook_engine::config::{Config, Family};
use overbook_engine::cuda::{CudaExecutor, Model};
use overbook_engine::weights::{Dtype, Loud, Weights};

use crate::cuda::{Shadow, Watched};
use crate::emulator::{emulated, is_child};
use crate::mix;

/// Family, width of a head, query heads, KV heads, tokens per block.
const MODELS: [(Family, usize, usize, usize, u32); 4] = [
    (Family::Llama, 32, 6, 2, 1),
    (Family::Mistral, 64, 5, 1, 8),
    (Family::Qwen2, 128, 4, 2, 16),
    (Family::Qwen3, 64, 3, 3, 64),
];

const SOURCE: Loud = Loud { seed: 3, factor: 8.0 };

fn config(family: Family, head_dim: usize, heads: usize, kv_heads: usize) -> Config {
    let tiny = Config::preset("tiny").expect("a preset");
    Config {
        family,
        layers: 2,
        hidden: 64,
        intermediate: 96,
        heads,
        kv_heads,
        head_dim,
        vocab: 256,
        max_positions: 160,
        tied: family == Family::Mistral,
        ..tiny
    }
}

/// Instead of its token a row draws a hash of all bits of its logits, and of the token: what differs in one bit differs from then
/// on.
const HASHED: &str = "drawn[blockIdx.x] = token;=>u32 hash = token; for (i32 i = 0; i < vocab; ++i) \
     hash = (hash ^ float_bits(own[i])) * 16777619u; drawn[blockIdx.x] = (hash >> 8) % vocab;";

#[test]
fn graphs_give_the_same_logits_bit_for_bit() {
    let test = "graphs::graphs_give_the_same_logits_bit_for_bit";
    let body = || {
        for (family, head_dim, heads, kv_heads, block_tokens) in MODELS {
            let config = config(family, head_dim, heads, kv_heads);
            let capacity = mix::capacity(config.vocab, block_tokens);
            let model = Model::load(0, config, &SOURCE).expect("a model");
            let eager = mix::run(&mut CudaExecutor::eager(model.clone(), capacity).expect("an executor"));
            let graphs = mix::run(&mut CudaExecutor::new(model, capacity).expect("an executor"));
            assert_eq!(graphs, eager, "{family:?}");
        }
    };
    if is_child(test) {
        return body();
    }
    for seed in ["1", "2", "3"] {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().to_str().expect("UTF-8");
        let settings =
            [("OVERBOOK_EMULATOR_SEED", seed), ("OVERBOOK_EMULATOR_EDIT", HASHED), ("OVERBOOK_CACHE", cache)];
        emulated(test, &settings, body);
    }
}

#[test]
fn every_family_draws_the_cpus_tokens() {
    emulated("graphs::every_family_draws_the_cpus_tokens", &[], || {
        for (family, head_dim, heads, kv_heads, block_tokens) in MODELS {
            let config = config(family, head_dim, heads, kv_heads);
            let capacity = mix::capacity(config.vocab, block_tokens);
            let weights = Arc::new(Weights::from_source(&config, &SOURCE, Dtype::Bf16).expect("weights"));
            let model = Model::load(0, config.clone(), &SOURCE).expect("a model");
            let watched = Arc::new(Mutex::new(Watched::default()));
            let cuda = CudaExecutor::new(model, capacity).expect("an executor");
            mix::run(&mut Shadow::new(cuda, &config, weights, watched.clone()));
            let watched = watched.lock().expect("no panic");
            println!("{family:?}: {} tokens, ties {:?}, draws {:?}", watched.tokens, watched.ties, watched.draws);
            assert!(watched.tokens > 25 && watched.ties.len() < 5, "{family:?}: {}", watched.ties.len());
        }
    });
}
