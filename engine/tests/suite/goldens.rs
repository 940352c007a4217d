//! Logits of Hugging Face transformers (`tests/goldens/make.py`).
//!
//! Planted faults that these tests found: rotation the other way, or by the position in the block; a causal mask off by one, either way;
//! keys and values one slot further; queries that all read the first KV head; biases left out; the queries' norm on a key; gate
//! and up exchanged.

use std::path::PathBuf;
use std::sync::Arc;

use overbook_engine::config::Config;
use overbook_engine::cpu::Model;
use overbook_engine::executor::Capacity;
use overbook_engine::weights::{Dtype, Source, Weights, WeightsError};
use serde::Deserialize;

use crate::support::{Loud, Part, distance, step};

#[derive(Deserialize)]
struct Goldens {
    seed: u64,
    factor: f32,
    cases: Vec<Case>,
    stored: Case,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Option<serde_json::Value>,
    tokens: Vec<u32>,
    positions: Vec<usize>,
    logits: Vec<Vec<f32>>,
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens"))
}

fn goldens() -> Goldens {
    serde_json::from_str(&std::fs::read_to_string(folder().join("logits.json")).unwrap()).unwrap()
}

/// The largest difference from the golden logits: each position from a prefill of its own, and decoded after a prefill.
fn worst(config: &Config, weights: Arc<Weights>, case: &Case) -> f32 {
    let capacity = Capacity::unbounded(6, 16, 128, config.vocab as u32);
    let mut model = Model::new(config.clone(), weights, &capacity).unwrap();
    let table = [4, 0, 5, 2, 1];
    let mut worst = 0.0_f32;
    for (at, wanted) in case.positions.iter().zip(&case.logits) {
        let whole = [Part { tokens: &case.tokens[..=*at], past: 0, table: &table }];
        worst = worst.max(distance(&step(&mut model, config.vocab, &whole)[0], wanted));
        let last = [Part { tokens: &case.tokens[*at..=*at], past: *at, table: &table }];
        worst = worst.max(distance(&step(&mut model, config.vocab, &last)[0], wanted));
    }
    worst
}

#[test]
fn every_family_agrees_with_transformers() {
    let goldens = goldens();
    let source = Loud { seed: goldens.seed, factor: goldens.factor };
    assert_eq!(goldens.cases.len(), 6);
    for case in &goldens.cases {
        let config = Config::parse(&case.config.as_ref().unwrap().to_string(), &case.name).unwrap();
        let weights = Arc::new(Weights::from_source(&config, &source, Dtype::F32).unwrap());
        let largest = case.logits.iter().flatten().fold(0.0, |most: f32, logit| most.max(logit.abs()));
        let error = worst(&config, weights, case);
        assert!(largest > 1.0 && error < 1e-4, "{}: {error} of {largest}", case.name);
    }
}

#[test]
fn a_folder_that_transformers_wrote_is_read() {
    let case = goldens().stored;
    let folder = folder().join(&case.name);
    let config = Config::load(&folder).unwrap();
    for dtype in [Dtype::F32, Dtype::Bf16] {
        // The files are bf16: stored as bf16 the matrices are the same numbers, and only the cache is rounded.
        let weights = Arc::new(Weights::load(&config, &folder, dtype).unwrap());
        let error = worst(&config, weights, &case);
        let bound = if dtype == Dtype::F32 { 1e-4 } else { 1e-1 };
        assert!(error < bound, "{dtype:?}: {error}");
    }
}

/// A model without its q/k norms, scaling or biases is another one: the tolerance is not what lets the tests pass.
#[test]
fn what_is_left_out_shows() {
    struct Flat(Loud);
    impl Source for Flat {
        fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
            let mut values = self.0.tensor(name, shape)?;
            if name.ends_with("q_norm.weight") || name.ends_with("bias") {
                values.fill(if name.ends_with("bias") { 0.0 } else { 1.0 });
            }
            Ok(values)
        }
    }
    let goldens = goldens();
    for case in &goldens.cases {
        let source = Flat(Loud { seed: goldens.seed, factor: goldens.factor });
        let mut config = Config::parse(&case.config.as_ref().unwrap().to_string(), &case.name).unwrap();
        config.rope_scaling = overbook_engine::config::RopeScaling::None;
        let weights = Arc::new(Weights::from_source(&config, &source, Dtype::F32).unwrap());
        let error = worst(&config, weights, case);
        let changed = !["llama", "mistral"].contains(&case.name.as_str());
        assert_eq!(error > 1e-2, changed, "{}: {error}", case.name);
    }
}
