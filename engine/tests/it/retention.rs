//! Retention on the CPU: survivors against an oracle with explicit sets at every step, and what must not change.

mod equality;
mod executor;
mod gates;
pub(crate) mod oracle;
mod policies;
pub(crate) mod survivors;

use std::sync::Arc;

use overbook_engine::config::{Config, Family, RopeScaling};
use overbook_engine::cpu::Model;
use overbook_engine::executor::{Capacity, Sequence};
use overbook_engine::retention::{Extras, GateKind, Gates, Retention};
use overbook_engine::weights::{Dtype, Loud, Weights};
use overbook_sim::kv::retention::policies::{
    ExpectedAttention, H2o, Knorm, KvZap, Pooling, RKv, SnapKv, StreamingLlm, TrimKv,
};
use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};

const VOCAB: u32 = 131;
const BLOCK: u32 = 4;
/// Of the hidden layer of gates: no multiple of what the CPU multiplies at once.
const WIDTH: usize = 40;

/// Two layers of four query heads over two KV heads.
fn config(family: Family) -> Config {
    Config {
        family,
        hidden: 64,
        intermediate: 96,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        vocab: VOCAB as usize,
        max_positions: 512,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tied: false,
        eos: Vec::new(),
    }
}

/// Weights whose attention is far from flat.
fn source(seed: u64) -> Loud {
    Loud { seed, factor: 10.0 }
}

fn gates(config: &Config, seed: u64, kind: GateKind) -> Arc<Gates> {
    Arc::new(Gates::from_source(config, &source(seed), kind, |_| Ok(WIDTH)).expect("gates"))
}

/// What the policy of a specification needs of a model that was drawn from a seed.
fn extras(config: &Config, spec: &RetentionSpec, seed: u64) -> Extras {
    let gates = GateKind::of(&spec.policy).map(|kind| gates(config, seed, kind));
    Extras { gates, future: None, seed }
}

fn capacity(config: &Config, blocks: u32) -> Capacity {
    Capacity::unbounded(blocks, BLOCK, 256, config.vocab as u32)
}

fn weights(config: &Config, seed: u64, dtype: Dtype) -> Arc<Weights> {
    Arc::new(Weights::from_source(config, &source(seed), dtype).expect("weights"))
}

/// A model that keeps only some tokens.
fn model(config: &Config, spec: &RetentionSpec, seed: u64, dtype: Dtype) -> Model {
    let retention = Retention::new(spec, config, &extras(config, spec, seed)).expect("a retention");
    Model::retaining(config.clone(), weights(config, seed, dtype), &capacity(config, 200), retention).expect("a model")
}

/// Tokens that do not repeat with a short period.
fn tokens(len: usize, seed: u64) -> Vec<u32> {
    (0..len as u32).map(|i| (i * i * 7 + i * 31 + seed as u32 * 57 + 3) % VOCAB).collect()
}

/// Every policy that needs no knowledge of the future, with windows that fit small budgets.
fn policies() -> Vec<RetentionPolicy> {
    use RetentionPolicy as P;
    vec![
        P::Full,
        P::Random,
        P::Window,
        P::StreamingLlm(StreamingLlm { sinks: 3 }),
        P::H2o(H2o { recent: 0.25 }),
        P::Tova,
        P::SnapKv(SnapKv { window: 4, pool: 3, pooling: Pooling::Max }),
        P::SnapKv(SnapKv { window: 3, pool: 5, pooling: Pooling::Mean }),
        P::KeyDiff,
        P::Knorm(Knorm { skip_layers: 1 }),
        P::RKv(RKv { window: 4, pool: 3, lambda: 0.3, alike: 0.2 }),
        P::ExpectedAttention(ExpectedAttention { sinks: 2, future: 16 }),
        P::KvZap(KvZap { window: 3 }),
        P::TrimKv(TrimKv { window: 0 }),
        P::TrimKv(TrimKv { window: 2 }),
    ]
}

/// One sequence's part of a step.
fn part(seat: u32, past: usize, tokens: usize, samples: bool) -> Sequence {
    Sequence { seat, past: past as u32, tokens: tokens as u32, samples }
}
