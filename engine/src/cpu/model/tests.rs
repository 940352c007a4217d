//! Slots carry no order.
#![allow(clippy::unwrap_used)]

use overbook_sim::counter::draw;
use overbook_sim::kv::retention::policies::{ExpectedAttention, KvZap, RKv, SnapKv};
use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};

use super::*;
use crate::retention::{Extras, GateKind, Gates};
use crate::weights::{Dtype, Loud};

const BUDGET: u32 = 10;
const TABLE: [u32; 12] = [3, 9, 1, 0, 7, 5, 2, 11, 4, 8, 10, 6];

fn model(policy: RetentionPolicy) -> Model {
    let config = Config { layers: 2, hidden: 64, intermediate: 96, heads: 4, kv_heads: 2, head_dim: 32, ..tiny() };
    let source = Loud { seed: 8, factor: 10.0 };
    let weights = Arc::new(Weights::from_source(&config, &source, Dtype::F32).unwrap());
    let capacity = Capacity::unbounded(12, 4, 128, config.vocab as u32);
    let gates = GateKind::of(&policy).map(|kind| Gates::from_source(&config, &source, kind, |_| Ok(32)).unwrap());
    let extras = Extras { gates: gates.map(Arc::new), ..Extras::default() };
    let retention = Retention::new(&RetentionSpec::strict(policy, BUDGET), &config, &extras).unwrap();
    Model::retaining(config, weights, &capacity, retention).unwrap()
}

fn tiny() -> Config {
    Config::preset("tiny").unwrap()
}

/// Computes tokens from a position on.
fn step(model: &mut Model, past: u32, count: u32) -> Vec<f32> {
    let tokens: Vec<u32> = (past..past + count).map(|i| (i * i * 7 + i * 31) % 131).collect();
    model.forward(&tokens, &[Sequence { seat: 0, past, tokens: count, samples: true }], &[&TABLE]).to_vec()
}

/// Gives the tokens of every head other slots.
fn shuffle(model: &mut Model, key: u64) {
    let retained = model.retained.as_mut().unwrap();
    for (layer, cache) in model.cache.iter_mut().enumerate() {
        for head in 0..2 {
            let mut order: Vec<usize> = (0..BUDGET as usize).collect();
            // Heads that keep the same tokens keep them in the same slots.
            let head_or_layer = if retained.retention().policy().joint() { 0 } else { head };
            order.sort_by_key(|slot| draw(key + head_or_layer as u64, (layer * 100 + slot) as u64));
            retained.permute(cache, &TABLE, Place { seat: 0, layer, head }, &order);
        }
    }
}

fn kept(model: &Model) -> Vec<Vec<u32>> {
    let places = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(layer, head)| Place { seat: 0, layer, head });
    let sorted = places.iter().map(|place| {
        let mut kept = model.kept(*place).unwrap().to_vec();
        kept.sort_unstable();
        kept
    });
    sorted.collect()
}

#[test]
fn other_slots_change_the_logits_by_rounding_alone_and_survivors_not_at_all() {
    use RetentionPolicy as P;
    let snap = SnapKv { window: 4, ..SnapKv::default() };
    let r_kv = RKv { window: 4, alike: 0.2, ..RKv::default() };
    let zap = KvZap { window: 2 };
    let all = RetentionPolicy::all().into_iter().filter(|policy| {
        !matches!(policy, P::Full | P::Oracle | P::SnapKv(_) | P::RKv(_) | P::KvZap(_) | P::ExpectedAttention(_))
    });
    let expected = P::ExpectedAttention(ExpectedAttention { sinks: 2, future: 16 });
    let mut moved = 0;
    for policy in all.chain([P::SnapKv(snap), P::RKv(r_kv), P::KvZap(zap), expected]) {
        let (mut straight, mut shuffled) = (model(policy), model(policy));
        assert_eq!(step(&mut straight, 0, 20), step(&mut shuffled, 0, 20));
        for past in 20..45 {
            shuffle(&mut shuffled, u64::from(past));
            let (a, b) = (step(&mut straight, past, 1), step(&mut shuffled, past, 1));
            let size = a.iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
            let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(size > 0.5 && worst < 1e-4 * size, "{} at {past}: {worst} of {size}", policy.name());
            moved += u32::from(a != b);
            assert_eq!(kept(&straight), kept(&shuffled), "{} at {past}", policy.name());
        }
    }
    assert!(moved > 50, "the sums had another order in {moved} steps");
}
