//! The small recall model that `overbook train-retention` made, through the CPU engine with real eviction: the order of policies, and
//! survivors equal to those of the oracle.
//!
//! `tests/data/recall` is one seed's model with the gates of its task `pairs` (128 tokens of context, eight answers). The engine evicts
//! after every token, the prompt's included.

use std::path::PathBuf;
use std::sync::Arc;

use overbook_engine::config::Config;
use overbook_engine::cpu::Model;
use overbook_engine::executor::Capacity;
use overbook_engine::recall::evaluate::Knowledge;
use overbook_engine::recall::{Sample, Subject, Task};
use overbook_engine::retention::{Extras, GateKind, Gates, Retention};
use overbook_engine::weights::{Dtype, Files, Weights};
use overbook_sim::kv::retention::policies::{StreamingLlm, TrimKv};
use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};
use overbook_sim::streams::Purpose;

use crate::retention::oracle::Oracle;
use crate::retention::survivors::{Pair, Seen};

const TRIM: RetentionPolicy = RetentionPolicy::TrimKv(TrimKv { window: 0 });
/// Of the gates' hidden layer.
const WIDTH: usize = 64;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/recall")
}

fn gates(config: &Config) -> Arc<Gates> {
    let kind = GateKind::Retention;
    Arc::new(Gates::load(config, &Gates::beside(&folder()), kind).expect("the fixture's gates"))
}

fn samples(count: usize) -> Vec<Sample> {
    Task::Pairs.layout().draw(0, Purpose::Testing, 0, count)
}

#[test]
fn trained_retention_beats_untrained_at_twenty_four_slots_and_a_full_budget_loses_nothing() {
    let (layout, samples) = (Task::Pairs.layout(), samples(24));
    let subject = Subject::load(&folder()).expect("the fixture");
    let known = Knowledge { gates: [(GateKind::Retention, gates(subject.config()))].into(), seed: 0 };
    let accuracy = |policy, budget| {
        let spec = RetentionSpec::strict(policy, budget);
        subject.accuracy(&layout, &samples, &spec, &known).expect("a policy")
    };
    let streaming = RetentionPolicy::StreamingLlm(StreamingLlm { sinks: 4 });
    let full = accuracy(RetentionPolicy::Full, 24);
    let (trim, keys, streaming) = (accuracy(TRIM, 24), accuracy(RetentionPolicy::KeyDiff, 24), accuracy(streaming, 24));
    assert!(full >= 0.98, "the model knows its task: {full}");
    assert!(trim >= 0.8 && trim > keys + 0.1 && keys > streaming + 0.1, "{trim} {keys} {streaming}");
    let answers = |policy, budget| {
        let extras = Extras { gates: Some(gates(subject.config())), ..Extras::default() };
        let spec = RetentionSpec::strict(policy, budget);
        let retention = Retention::new(&spec, subject.config(), &extras).expect("a policy");
        subject.answers(&layout, &samples[..8], retention, &mut |_, _| ()).expect("answers")
    };
    let whole = answers(RetentionPolicy::Full, 24);
    assert_eq!(answers(TRIM, layout.length() as u32), whole, "a budget that nobody reaches");
}

#[test]
fn survivors_of_the_trained_model_are_those_of_the_oracle() {
    const BUDGET: u32 = 24;
    let (length, config) = (Task::Pairs.layout().length(), Config::load(&folder()).expect("the fixture's config"));
    // The model's tensors and the gates' in one place.
    let gate_file = Files::open(&Gates::beside(&folder())).expect("the fixture's gates");
    let model_file = Files::open(&folder().join("model.safetensors")).expect("the fixture");
    let both = Both { first: &model_file, second: &gate_file };
    let weights = Arc::new(Weights::load(&config, &folder(), Dtype::F32).expect("the fixture's weights"));
    let table: Vec<u32> = (0..length as u32).collect();
    for sample in samples(2) {
        let spec = RetentionSpec::strict(TRIM, BUDGET);
        let extras = Extras { gates: Some(gates(&config)), ..Extras::default() };
        let retention = Retention::new(&spec, &config, &extras).expect("a policy");
        let capacity = Capacity::unbounded(length as u32, 1, length as u32, config.vocab as u32);
        let model = Model::retaining(config.clone(), weights.clone(), &capacity, retention).expect("a model");
        let mut pair = Pair {
            oracle: Oracle::new(&config, &both, Some(("gate", WIDTH))),
            whole: None,
            budget: BUDGET as usize,
            seen: Seen::default(),
            spec,
            config: config.clone(),
            seed: 0,
            model,
        };
        for (position, token) in sample.tokens.iter().enumerate() {
            pair.step(&[*token], position + 1 == length, &table);
            pair.compare(true);
        }
        let Seen { cuts, ties, .. } = pair.seen;
        assert!(cuts as usize == 4 * (length - BUDGET as usize) && ties * 50 <= cuts, "{ties} of {cuts}");
    }
}

/// Tensors of two files.
struct Both<'a> {
    first: &'a Files,
    second: &'a Files,
}

impl overbook_engine::weights::Source for Both<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, overbook_engine::weights::WeightsError> {
        self.first.tensor(name, shape).or_else(|_| self.second.tensor(name, shape))
    }
}
