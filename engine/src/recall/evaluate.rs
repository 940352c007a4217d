//! How many answers are right when a policy keeps a budget of slots.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use overbook_sim::counter::mix;
use overbook_sim::kv::retention::{OutputRule, PromptRule, RetentionPolicy, RetentionSpec};
use rayon::prelude::*;

use super::tasks::{Layout, Sample, Task};
use crate::config::{Config, ConfigError};
use crate::cpu::Model;
use crate::executor::{BuildError, Capacity, Sequence};
use crate::retention::{AttentionRecord, Extras, GateKind, Gates, Recorder, Retention};
use crate::sample::largest;
use crate::weights::{Dtype, Files, Weights, WeightsError};

/// Tokens of a block.
const BLOCK: u32 = 8;
/// Sequences that go side by side through a model of their own.
const SIDE_BY_SIDE: usize = 16;

impl Task {
    /// What a policy is allowed in measurements of a task: tokens go after every step, those of the prompt included. In
    /// [`Task::Preview`] they go once, when the prompt is complete, and what comes later stays.
    pub fn rules(self, policy: RetentionPolicy, budget: u32) -> RetentionSpec {
        let spec = RetentionSpec::strict(policy, budget);
        if self != Task::Preview {
            return spec;
        }
        RetentionSpec { prompt: PromptRule::AtEnd, output: OutputRule::Keep, ..spec }
    }
}

/// A model under test.
#[derive(Clone)]
pub struct Subject {
    config: Config,
    weights: Arc<Weights>,
}

/// Why a model cannot be tested.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// Its shape cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// What policies are given beside their settings.
#[derive(Clone, Default)]
pub struct Knowledge {
    /// Learned networks, by what they are.
    pub gates: BTreeMap<GateKind, Arc<Gates>>,
    /// Seed of random choices.
    pub seed: u64,
}

impl Subject {
    /// Reads a model from its folder, in f32.
    ///
    /// # Errors
    /// The folder has no model, or not one that the engine computes.
    pub fn load(folder: &Path) -> Result<Subject, SubjectError> {
        let config = Config::load(folder)?;
        let weights = Arc::new(Weights::from_source(&config, &Files::open(folder)?, Dtype::F32)?);
        Ok(Subject { config, weights })
    }

    /// Its shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Share of answers that are right; answers are given, so that an error has no consequences.
    ///
    /// # Errors
    /// The settings are wrong, or the policy needs what is not known.
    pub fn accuracy(
        &self,
        layout: &Layout,
        samples: &[Sample],
        spec: &RetentionSpec,
        known: &Knowledge,
    ) -> Result<f64, BuildError> {
        let right: Vec<usize> = samples
            .par_chunks(SIDE_BY_SIDE)
            .enumerate()
            .map(|(number, samples)| {
                let extras = self.extras(layout, samples, spec, known, number as u64)?;
                let retention = Retention::new(spec, &self.config, &extras)?;
                let answers = self.answers(layout, samples, retention, &mut |_, _| ())?;
                let right = |(got, sample): (&Vec<u32>, &Sample)| {
                    got.iter().zip(&sample.values).filter(|(got, wanted)| got == wanted).count()
                };
                Ok(answers.iter().zip(samples).map(right).sum::<usize>())
            })
            .collect::<Result<_, BuildError>>()?;
        Ok(right.iter().sum::<usize>() as f64 / (samples.len() * layout.answers) as f64)
    }

    fn extras(
        &self,
        layout: &Layout,
        samples: &[Sample],
        spec: &RetentionSpec,
        known: &Knowledge,
        number: u64,
    ) -> Result<Extras, BuildError> {
        let gates = GateKind::of(&spec.policy).and_then(|kind| known.gates.get(&kind).cloned());
        let mut extras = Extras { gates, future: None, seed: mix(known.seed, number) };
        if spec.policy.needed().future {
            extras.future = Some(Arc::new(self.record(layout, samples)?));
        }
        Ok(extras)
    }

    /// Attention of sequences that keep everything; the seats are their numbers.
    ///
    /// # Errors
    /// The model is not one for such sequences.
    pub fn record(&self, layout: &Layout, samples: &[Sample]) -> Result<AttentionRecord, BuildError> {
        let recorder = Arc::new(Recorder::default());
        self.answers(layout, samples, Retention::recording(recorder.clone()), &mut |_, _| ())?;
        Ok(recorder.take())
    }

    /// The most likely token at each place that asks; ties the lowest. Sequences go side by side, a token a step; a prompt that is cut
    /// once, at its end, is one step. `watch` sees the model after every step, with the positions computed.
    ///
    /// # Errors
    /// The model is not one for such sequences.
    pub fn answers(
        &self,
        layout: &Layout,
        samples: &[Sample],
        retention: Retention,
        watch: &mut dyn FnMut(&Model, usize),
    ) -> Result<Vec<Vec<u32>>, BuildError> {
        let (length, vocab) = (layout.length(), self.config.vocab);
        let blocks = (length as u32).div_ceil(BLOCK);
        let seats = samples.len() as u32;
        let capacity = Capacity::unbounded(seats * blocks, BLOCK, length as u32, vocab as u32);
        let once = retention.spec().prompt == PromptRule::AtEnd;
        let mut model = Model::retaining(self.config.clone(), self.weights.clone(), &capacity, retention)?;
        let tables: Vec<Vec<u32>> = (0..seats).map(|seat| (seat * blocks..(seat + 1) * blocks).collect()).collect();
        let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
        let asked = layout.asked();
        let mut answers = vec![Vec::new(); samples.len()];
        let mut past = 0;
        while past < length {
            let end = if once { layout.prompt().max(past + 1) } else { past + 1 };
            let is_asked = asked.contains(&(end - 1));
            // Sampling ends a prompt.
            let samples_now = is_asked || (once && past == 0);
            let tokens: Vec<u32> = samples.iter().flat_map(|sample| sample.tokens[past..end].iter().copied()).collect();
            let part = |seat| Sequence { seat, past: past as u32, tokens: (end - past) as u32, samples: samples_now };
            let step: Vec<Sequence> = (0..seats).map(part).collect();
            let logits = model.forward(&tokens, &step, &tables);
            if is_asked {
                for (row, answers) in logits.chunks_exact(vocab).zip(&mut answers) {
                    answers.push(largest(row));
                }
            }
            watch(&model, end);
            past = end;
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use overbook_sim::streams::Purpose;

    use super::*;
    use crate::recall::tasks::TASKS;
    use crate::recall::trials::trials;
    use crate::retention::Place;
    use crate::weights::Dummy;

    /// Two layers, four query heads on two KV heads, dummy weights.
    fn subject() -> Subject {
        let text = r#"{ "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 98, "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5, "rope_theta": 100.0, "tie_word_embeddings": true }"#;
        let config = Config::parse(text, "test").unwrap();
        let weights = Arc::new(Weights::from_source(&config, &Dummy { seed: 7 }, Dtype::F32).unwrap());
        Subject { config, weights }
    }

    fn known(subject: &Subject) -> Knowledge {
        let gates = |kind| (kind, Arc::new(Gates::dummy(&subject.config, 3, kind).unwrap()));
        Knowledge { gates: [gates(GateKind::Retention), gates(GateKind::Score)].into(), seed: 5 }
    }

    fn retention(subject: &Subject, layout: &Layout, samples: &[Sample], spec: &RetentionSpec) -> Retention {
        let extras = subject.extras(layout, samples, spec, &known(subject), 0).unwrap();
        Retention::new(spec, &subject.config, &extras).unwrap()
    }

    #[test]
    fn a_budget_for_all_is_the_full_cache() {
        let subject = subject();
        for task in TASKS {
            let layout = task.layout();
            let samples = layout.draw(0, Purpose::Testing, 0, 2);
            let run = |spec: &RetentionSpec| {
                subject
                    .answers(&layout, &samples, retention(&subject, &layout, &samples, spec), &mut |_, _| ())
                    .unwrap()
            };
            let full = run(&task.rules(RetentionPolicy::Full, 1));
            let length = layout.length() as u32;
            for policy in RetentionPolicy::all() {
                let spec = trials(task, &policy, length).remove(0);
                assert_eq!(run(&spec), full, "{} {}", task.name(), policy.name());
            }
        }
    }

    #[test]
    fn every_step_keeps_the_budget() {
        let subject = subject();
        let layout = Layout::pairs(24, 4);
        let samples = layout.draw(0, Purpose::Testing, 0, 2);
        let mut differ = std::collections::BTreeSet::new();
        for policy in RetentionPolicy::all().into_iter().filter(|policy| *policy != RetentionPolicy::Full) {
            let spec = trials(Task::Pairs, &policy, 10).remove(0);
            let mut last = Vec::new();
            subject
                .answers(&layout, &samples, retention(&subject, &layout, &samples, &spec), &mut |model, end| {
                    last.clear();
                    for (layer, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                        let mut kept = model.kept(Place { seat: 1, layer, head }).unwrap().to_vec();
                        assert_eq!(kept.len(), end.min(10), "{}", policy.name());
                        kept.sort_unstable();
                        last.push(kept);
                    }
                })
                .unwrap();
            differ.insert(last);
        }
        assert!(differ.len() >= 11, "{} different sets of thirteen", differ.len());
    }

    #[test]
    fn one_shot_eviction_happens_once() {
        let subject = subject();
        let layout = Task::Preview.layout();
        let samples = layout.draw(0, Purpose::Testing, 0, 2);
        let snap = RetentionPolicy::all().into_iter().find(|policy| policy.name() == "snap-kv").unwrap();
        let spec = Task::Preview.rules(snap, 12);
        let mut seen = Vec::new();
        subject
            .answers(&layout, &samples, retention(&subject, &layout, &samples, &spec), &mut |model, end| {
                seen.push((end, model.kept(Place { seat: 0, layer: 1, head: 1 }).unwrap().len()));
            })
            .unwrap();
        let expected: Vec<(usize, usize)> =
            (layout.prompt()..=layout.length()).map(|end| (end, 12 + end - layout.prompt())).collect();
        assert_eq!(seen, expected);
    }
}
