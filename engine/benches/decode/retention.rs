//! What eviction adds to a decode step: `cargo bench -p overbook-engine --bench decode -- retention [THREADS]`.
//!
//! Both models attend over equally many slots in every step, the budget and one more: one keeps everything, from the others a token goes
//! in each head. One layer of the small preset and the model's head: with more layers the head weighs less, and ratios are a little
//! larger.

use std::hint::black_box;
use std::sync::Arc;

use overbook_engine::config::Config;
use overbook_engine::cpu::Model;
use overbook_engine::executor::{Capacity, Sequence};
use overbook_engine::retention::{AttentionRecord, Extras, GateKind, Gates, Retention};
use overbook_engine::weights::{Dtype, Weights};
use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};

use super::{BLOCK_TOKENS, Time};

const BUDGET: u32 = 512;
const SEQUENCES: u32 = 4;
/// Steps of each round; the best of all counts.
const STEPS: u32 = 6;
const ROUNDS: usize = 4;

/// A model and how far its sequences are.
struct Run {
    name: String,
    model: Model,
    past: u32,
    grows: bool,
    best: Time,
}

pub(super) fn measure() {
    let config = Config { layers: 1, ..Config::preset("small").expect("preset") };
    let weights = Arc::new(Weights::dummy(&config, 1, Dtype::Bf16).expect("weights"));
    let capacity = Capacity::unbounded(2048, BLOCK_TOKENS, 1024, config.vocab as u32);
    let plain = Model::new(config.clone(), weights.clone(), &capacity).expect("memory");
    let mut runs =
        vec![Run { name: "keeps all".into(), model: plain, past: BUDGET, grows: false, best: Time::LONGEST }];
    for policy in RetentionPolicy::all().into_iter().filter(|policy| *policy != RetentionPolicy::Full) {
        let gates = GateKind::of(&policy).map(|kind| Arc::new(Gates::dummy(&config, 1, kind).expect("gates")));
        let extras = Extras { gates, future: Some(Arc::new(AttentionRecord::default())), seed: 1 };
        let spec = RetentionSpec::strict(policy, BUDGET);
        let retention = Retention::new(&spec, &config, &extras).expect("settings");
        let model = Model::retaining(config.clone(), weights.clone(), &capacity, retention).expect("memory");
        let mut run = Run { name: policy.name().into(), model, past: 0, grows: true, best: Time::LONGEST };
        for _ in 0..BUDGET / 128 {
            run.step(128);
        }
        runs.push(run);
    }
    for _ in 0..ROUNDS {
        for run in &mut runs {
            for _ in 0..STEPS {
                let time = Time::of(|| run.step(1));
                run.best = run.best.min(time);
            }
        }
    }
    println!("decode of {SEQUENCES} sequences over {} slots, one layer of the small preset, bf16", BUDGET + 1);
    println!("policy | ms | ratio | running ms | ratio");
    let all = runs[0].best;
    for Run { name, best, .. } in &runs {
        let (wall, running) = (best.wall / all.wall, best.running / all.running);
        println!("{name} | {:.3} | {wall:.2} | {:.3} | {running:.2}", best.wall * 1e3, best.running * 1e3);
    }
}

impl Run {
    /// Computes so many tokens of every sequence.
    fn step(&mut self, tokens: u32) {
        let past = self.past;
        let each = (BUDGET + 128).div_ceil(BLOCK_TOKENS);
        let blocks: Vec<u32> = (0..SEQUENCES * each).collect();
        let tables: Vec<&[u32]> = blocks.chunks_exact(each as usize).collect();
        let sequences: Vec<Sequence> =
            (0..SEQUENCES).map(|seat| Sequence { seat, past, tokens, samples: true }).collect();
        let inputs: Vec<u32> = (0..SEQUENCES * tokens).map(|i| ((i + past) * 37 + i * i) % 4096).collect();
        black_box(self.model.forward(&inputs, &sequences, &tables));
        if self.grows {
            self.past += tokens;
        }
    }
}
