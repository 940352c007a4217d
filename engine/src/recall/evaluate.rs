//! How many answers are right when a policy keeps a budget of slots.

use std::sync::Arc;

use overbook_sim::counter::mix;
use rayon::prelude::*;

use super::policies::{Knowledge, Lacking, Policy, Rule, Setting};
use super::reference::{LayerCache, Reference, Step};
use super::regress::{Future, Trace};
use super::tasks::{Layout, Sample, Task};
use crate::sample::largest;

/// When tokens go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// After every token, those of the prompt included.
    EveryStep,
    /// Once, when the prompt is complete; what comes later stays.
    AfterPrompt,
}

impl Task {
    /// When tokens go in measurements of a task.
    pub fn phase(self) -> Phase {
        if self == Task::Preview { Phase::AfterPrompt } else { Phase::EveryStep }
    }
}

/// What keeps what: a policy and its budget.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cut {
    /// The policy with its knobs.
    pub setting: Setting,
    /// Slots in each layer and KV head.
    pub budget: usize,
    /// When tokens go.
    pub phase: Phase,
}

/// A model under test, with what policies may know.
pub struct Judge<'a> {
    /// The model.
    pub model: &'a Reference,
    /// Gates, regressions, seed.
    pub knowledge: Knowledge,
}

impl Judge<'_> {
    /// Share of answers that are right; answers are given, so that an error has no consequences.
    ///
    /// # Errors
    /// The policy needs something that is not known.
    pub fn accuracy(&self, layout: &Layout, samples: &[Sample], cut: Cut) -> Result<f64, Lacking> {
        let right: Vec<usize> = samples
            .par_iter()
            .enumerate()
            .map(|(number, sample)| {
                let answers = self.answers(layout, sample, number as u64, cut, &mut |_, _| ())?;
                Ok(answers.iter().zip(&sample.values).filter(|(got, wanted)| got == wanted).count())
            })
            .collect::<Result<_, Lacking>>()?;
        Ok(right.iter().sum::<usize>() as f64 / (samples.len() * layout.answers) as f64)
    }

    /// The most likely token at each place that asks; ties the lowest. `watch` sees every layer of every step after tokens have gone.
    ///
    /// # Errors
    /// The policy needs something that is not known.
    pub fn answers(
        &self,
        layout: &Layout,
        sample: &Sample,
        number: u64,
        cut: Cut,
        watch: &mut dyn FnMut(&Step<'_>, &LayerCache),
    ) -> Result<Vec<u32>, Lacking> {
        let mut knowledge = self.knowledge.clone();
        knowledge.seed = mix(knowledge.seed, number);
        if cut.setting.rule == Rule::Oracle {
            knowledge.future = Some(Arc::new(self.future(sample)));
        }
        let mut policies = self.policies(&cut.setting, &knowledge)?;
        let mut sequence = self.model.begin();
        let asked = layout.asked();
        let mut answers = Vec::new();
        for (position, token) in sample.tokens.iter().enumerate() {
            let cuts = cut.phase == Phase::EveryStep || position + 1 == layout.prompt();
            let state = self.model.step(&mut sequence, *token, &mut |step: &Step<'_>, cache: &mut LayerCache| {
                let layer = &mut policies[step.layer];
                for policy in layer.iter_mut() {
                    policy.see(step, cache);
                }
                for (head, policy) in layer.iter_mut().enumerate() {
                    if cuts {
                        cut.setting.evict(cut.budget, policy.as_mut(), head, step, cache);
                    }
                }
                watch(step, cache);
            });
            if asked.contains(&position) {
                answers.push(largest(&self.model.logits(&state)));
            }
        }
        Ok(answers)
    }

    fn policies(&self, setting: &Setting, knowledge: &Knowledge) -> Result<Vec<Vec<Box<dyn Policy>>>, Lacking> {
        let config = self.model.config();
        let layer = |layer| (0..config.kv_heads).map(|head| setting.build(layer, head, knowledge)).collect();
        (0..config.layers).map(layer).collect()
    }

    fn future(&self, sample: &Sample) -> Future {
        Trace::record(self.model, &sample.tokens).future()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use overbook_sim::streams::Purpose;

    use super::*;
    use crate::config::Config;
    use crate::recall::gates::{Gate, Gates};
    use crate::recall::policies::RULES;
    use crate::recall::regress::Regressors;
    use crate::recall::tasks::TASKS;
    use crate::weights::{Dummy, Source as _};

    /// Two layers, four query heads on two KV heads, dummy weights.
    fn model() -> Reference {
        let text = r#"{ "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 98, "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5, "rope_theta": 100.0, "tie_word_embeddings": true }"#;
        Reference::new(Config::parse(text, "test").unwrap(), &Dummy { seed: 7 }).unwrap()
    }

    fn judge<'a>(model: &'a Reference, samples: &[Sample]) -> Judge<'a> {
        let part = |layer: usize, name: &str, shape: &[usize]| {
            Dummy { seed: layer as u64 }.tensor(name, shape).unwrap().into_iter().map(|x| 30.0 * x).collect()
        };
        let gate = |layer| Gate {
            w1: part(layer, "w1", &[16, 64]),
            b1: part(layer, "b1", &[16]),
            w2: part(layer, "w2", &[2, 16]),
            b2: part(layer, "b2", &[2]),
        };
        let gates = Some(Arc::new(Gates { layers: vec![gate(0), gate(1)] }));
        let regressors = Some(Arc::new(Regressors::fit(model, samples)));
        Judge { model, knowledge: Knowledge { gates, regressors, future: None, seed: 5 } }
    }

    #[test]
    fn a_budget_for_all_is_the_full_cache() {
        let model = model();
        for task in TASKS {
            let layout = task.layout();
            let samples = layout.draw(0, Purpose::Testing, 0, 2);
            let judge = judge(&model, &samples);
            let run = |rule: Rule, budget| {
                let setting = Setting { rule, sinks: 0, recent: 0 };
                judge
                    .answers(&layout, &samples[0], 0, Cut { setting, budget, phase: task.phase() }, &mut |_, _| ())
                    .unwrap()
            };
            let full = run(Rule::Full, 1);
            for rule in RULES {
                assert_eq!(run(rule, layout.length()), full, "{} {}", task.name(), rule.name());
            }
        }
    }

    #[test]
    fn every_step_keeps_the_budget_and_evicts_the_least() {
        let model = model();
        let layout = Layout::pairs(24, 4);
        let samples = layout.draw(0, Purpose::Testing, 0, 4);
        let judge = judge(&model, &samples);
        let (budget, mut differ) = (10, std::collections::BTreeSet::new());
        for rule in RULES.into_iter().filter(|rule| *rule != Rule::Full) {
            let setting = Setting { rule, sinks: 2, recent: 3 };
            let mut last = Vec::new();
            let cut = Cut { setting, budget, phase: Phase::EveryStep };
            judge
                .answers(&layout, &samples[0], 0, cut, &mut |step: &Step<'_>, cache: &LayerCache| {
                    for kept in &cache.kept {
                        assert_eq!(kept.len(), budget.min(step.position + 1), "{}", rule.name());
                        let sinks = kept.iter().take(2).eq([0, 1].iter().take(kept.len()));
                        let recent = (step.position.saturating_sub(2)..=step.position).all(|at| kept.contains(&at));
                        assert!(sinks && recent, "{}: {kept:?} at {}", rule.name(), step.position);
                        if rule == Rule::Window {
                            assert!((step.position.saturating_sub(7)..=step.position).all(|at| kept.contains(&at)));
                        }
                    }
                    last.clone_from(&cache.kept);
                })
                .unwrap();
            differ.insert(last);
        }
        // Thirteen policies; a window and StreamingLLM with the same sinks are one.
        assert!(differ.len() >= 11, "{} different sets", differ.len());
    }

    #[test]
    fn trim_kv_keeps_what_its_formula_says() {
        let model = model();
        let layout = Layout::pairs(24, 4);
        let samples = layout.draw(0, Purpose::Testing, 0, 4);
        let judge = judge(&model, &samples);
        let setting = Setting { rule: Rule::Trim, sinks: 0, recent: 0 };
        let gates = judge.knowledge.gates.clone().unwrap();
        let mut log_beta: Vec<Vec<Vec<f32>>> = vec![vec![Vec::new(); 2]; 2];
        let mut expected: Vec<Vec<Vec<usize>>> = vec![vec![Vec::new(); 2]; 2];
        let mut evicted = 0;
        let cut = Cut { setting, budget: 6, phase: Phase::EveryStep };
        judge
            .answers(&layout, &samples[1], 1, cut, &mut |step: &Step<'_>, cache: &LayerCache| {
                for head in 0..2 {
                    let of_head = &mut log_beta[step.layer][head];
                    of_head.push(gates.layers[step.layer].log_beta(step.normed, head));
                    let kept = &mut expected[step.layer][head];
                    kept.push(step.position);
                    if kept.len() > 6 {
                        let worth = |at: usize| (step.position + 1 - at) as f32 * of_head[at];
                        let least = (0..kept.len()).min_by(|a, b| worth(kept[*a]).total_cmp(&worth(kept[*b]))).unwrap();
                        kept.remove(least);
                        evicted += 1;
                    }
                    assert!(cache.kept[head].iter().eq(kept.iter()), "layer {} at {}", step.layer, step.position);
                }
            })
            .unwrap();
        assert_eq!(evicted, 4 * (layout.length() - 6));
    }

    #[test]
    fn one_shot_eviction_happens_once() {
        let model = model();
        let layout = Task::Preview.layout();
        let samples = layout.draw(0, Purpose::Testing, 0, 2);
        let judge = judge(&model, &samples);
        let setting = Setting { rule: Rule::Snap { window: 8, pool: 1 }, sinks: 0, recent: 0 };
        let cut = Cut { setting, budget: 12, phase: Phase::AfterPrompt };
        judge
            .answers(&layout, &samples[0], 0, cut, &mut |step: &Step<'_>, cache: &LayerCache| {
                let after = step.position + 1 - layout.prompt().min(step.position + 1);
                let wanted = if step.position + 1 < layout.prompt() { step.position + 1 } else { 12 + after };
                assert!(cache.kept.iter().all(|kept| kept.len() == wanted), "{}", step.position);
            })
            .unwrap();
    }
}
