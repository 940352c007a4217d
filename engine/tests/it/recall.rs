//! The small recall model that `overbook train-retention` made, through the CPU engine with real eviction: the order of policies, and that the
//! engine and the plain reference keep the same tokens.
//!
//! `tests/data/recall` is one seed's model with the gates of its task `pairs` (128 tokens of context, eight answers). The engine evicts
//! after every token, the prompt's included.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use overbook_engine::config::Config;
use overbook_engine::cpu::Model;
use overbook_engine::executor::{Capacity, Sequence};
use overbook_engine::recall::evaluate::Cut;
use overbook_engine::recall::policies::Knowledge;
use overbook_engine::recall::{self, Judge, Phase, Reference, Rule, Sample, Setting, Task};
use overbook_engine::retention::{Extras, GateKind, Gates, Place, Retention};
use overbook_engine::weights::{Dtype, Files, Weights};
use overbook_sim::kv::retention::policies::{StreamingLlm, TrimKv};
use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};
use overbook_sim::streams::Purpose;

const BLOCK: u32 = 8;
const TRIM: RetentionPolicy = RetentionPolicy::TrimKv(TrimKv { window: 0 });

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/recall")
}

fn config() -> Config {
    Config::load(&folder()).expect("the fixture's config")
}

/// The fixture in the engine, with a policy and a budget, for so many sequences at once.
fn model(policy: RetentionPolicy, budget: u32, sequences: u32) -> Model {
    let config = config();
    let weights = Weights::load(&config, &folder(), Dtype::F32).expect("the fixture's weights");
    let gates = GateKind::of(&policy)
        .map(|kind| Arc::new(Gates::load(&config, &Gates::beside(&folder()), kind).expect("the fixture's gates")));
    let spec = RetentionSpec::strict(policy, budget);
    let retention = Retention::new(&spec, &config, &Extras { gates, future: None, seed: 0 }).expect("a policy");
    let length = Task::Pairs.layout().length() as u32;
    let capacity = Capacity::unbounded(sequences * length.div_ceil(BLOCK), BLOCK, length, config.vocab as u32);
    Model::retaining(config, Arc::new(weights), &capacity, retention).expect("a model")
}

/// Feeds sequences side by side, a token a step. `watch` sees the model after every step.
fn answers(model: &mut Model, samples: &[Sample], watch: &mut dyn FnMut(&Model, usize)) -> Vec<Vec<u32>> {
    let (layout, vocab) = (Task::Pairs.layout(), config().vocab);
    let asked = layout.asked();
    let blocks = layout.length().div_ceil(BLOCK as usize) as u32;
    let tables: Vec<Vec<u32>> =
        (0..samples.len() as u32).map(|seat| (seat * blocks..(seat + 1) * blocks).collect()).collect();
    let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
    let mut answers = vec![Vec::new(); samples.len()];
    for position in 0..layout.length() {
        let tokens: Vec<u32> = samples.iter().map(|sample| sample.tokens[position]).collect();
        let samples_now = asked.contains(&position);
        let step: Vec<Sequence> = (0..samples.len() as u32)
            .map(|seat| Sequence { seat, past: position as u32, tokens: 1, samples: samples_now })
            .collect();
        let logits = model.forward(&tokens, &step, &tables);
        if samples_now {
            for (row, answers) in logits.chunks_exact(vocab).zip(&mut answers) {
                let best = row
                    .iter()
                    .enumerate()
                    .fold(0, |best, (token, logit)| if *logit > row[best] { token } else { best });
                answers.push(best as u32);
            }
        }
        watch(model, position);
    }
    answers
}

fn samples(count: usize) -> Vec<Sample> {
    Task::Pairs.layout().draw(0, Purpose::Testing, 0, count)
}

fn accuracy(policy: RetentionPolicy, budget: u32) -> f64 {
    let samples = samples(24);
    let got = answers(&mut model(policy, budget, samples.len() as u32), &samples, &mut |_, _| ());
    let right = |(got, sample): (&Vec<u32>, &Sample)| got.iter().zip(&sample.values).filter(|(a, b)| a == b).count();
    got.iter().zip(&samples).map(right).sum::<usize>() as f64 / (samples.len() * Task::Pairs.layout().answers) as f64
}

#[test]
fn trained_retention_beats_untrained_at_twenty_four_slots_and_a_full_budget_loses_nothing() {
    let streaming = RetentionPolicy::StreamingLlm(StreamingLlm { sinks: 4 });
    let full = accuracy(RetentionPolicy::Full, 24);
    let (trim, keys, streaming) = (accuracy(TRIM, 24), accuracy(RetentionPolicy::KeyDiff, 24), accuracy(streaming, 24));
    assert!(full >= 0.98, "the model knows its task: {full}");
    assert!(trim >= 0.8 && trim > keys + 0.1 && keys > streaming + 0.1, "{trim} {keys} {streaming}");
    let length = Task::Pairs.layout().length() as u32;
    let samples = samples(8);
    let whole = answers(&mut model(RetentionPolicy::Full, 24, 8), &samples, &mut |_, _| ());
    assert_eq!(answers(&mut model(TRIM, length, 8), &samples, &mut |_, _| ()), whole, "a budget that nobody reaches");
}

/// Two implementations that share no code but the weights' reader: a set for each head, and slots that are overwritten.
#[test]
fn engine_and_reference_keep_the_same_tokens_of_the_trained_model() {
    let (config, layout, samples) = (config(), Task::Pairs.layout(), samples(3));
    let files = Files::open(&folder()).expect("the fixture");
    let reference = Reference::new(config.clone(), &files).expect("the fixture");
    let gates = recall::Gates::load(&config, &Gates::beside(&folder())).expect("the fixture's gates");
    let judge =
        Judge { model: &reference, knowledge: Knowledge { gates: Some(Arc::new(gates)), ..Knowledge::default() } };
    let setting = Setting { rule: Rule::Trim, sinks: 0, recent: 0 };
    let (mut same, mut all, mut agreed, mut asked) = (0u32, 0u32, 0, 0);
    for sample in &samples {
        let mut kept = vec![Vec::new(); config.layers * config.kv_heads];
        let cut = Cut { setting, budget: 24, phase: Phase::EveryStep };
        let theirs = judge
            .answers(&layout, sample, 0, cut, &mut |step, cache| {
                for head in 0..config.kv_heads {
                    let set: BTreeSet<u32> = cache.kept[head].iter().map(|&at| at as u32).collect();
                    kept[step.layer * config.kv_heads + head].push(set);
                }
            })
            .expect("gates are there");
        let mut model = model(TRIM, 24, 1);
        let ours = answers(&mut model, std::slice::from_ref(sample), &mut |model, position| {
            for layer in 0..config.layers {
                for head in 0..config.kv_heads {
                    let slots = model.kept(Place { seat: 0, layer, head }).expect("computed");
                    let set: BTreeSet<u32> = slots.iter().copied().collect();
                    all += 1;
                    same += u32::from(set == kept[layer * config.kv_heads + head][position]);
                }
            }
        });
        agreed += ours[0].iter().zip(&theirs).filter(|(a, b)| a == b).count();
        asked += theirs.len();
    }
    // Scores that lie closer than what rounding leaves may fall either way, and stay apart for a while then.
    assert!(f64::from(same) >= 0.97 * f64::from(all), "{same} of {all}");
    assert!(agreed + 1 >= asked, "{agreed} of {asked} answers");
}
