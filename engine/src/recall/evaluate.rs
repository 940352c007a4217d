//! How many answers are right when a policy keeps a budget of slots.

use std::sync::Arc;

use overbook_sim::counter::mix;
use rayon::prelude::*;

use super::policies::{Future, Knowledge, Lacking, Policy, Rule, Setting};
use super::reference::{LayerCache, Reference, Step};
use super::regress::Trace;
use super::tasks::{Layout, Sample, Task};

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
                layer.iter_mut().for_each(|policy| policy.see(step, cache));
                for (head, policy) in layer.iter_mut().enumerate() {
                    if cuts {
                        cut.setting.evict(cut.budget, policy.as_mut(), head, step, cache);
                    }
                }
                watch(step, cache);
            });
            if asked.contains(&position) {
                answers.push(likeliest(&self.model.logits(&state)));
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

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}
