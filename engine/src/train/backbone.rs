//! Trains the model itself, on recall that grows harder.

use std::sync::Arc;

use candle_core::{D, Device, Result, Tensor};
use overbook_sim::counter::mix;
use overbook_sim::streams::Purpose;

use super::adam::{Adam, AdamSettings};
use super::net::{Batch, Net, Vars, first_weights};
use super::{Progress, TrainError, Watch};
use crate::config::Config;
use crate::recall::tasks::{Layout, Sample, TASKS, Task};

/// A part of the curriculum.
#[derive(Clone, PartialEq, Debug)]
pub struct Stage {
    /// Layouts that take turns.
    pub layouts: Vec<Layout>,
    /// Steps at most.
    pub steps: usize,
    /// Share of right answers, mean of the last 20 steps, at which the stage is done; none: all steps.
    pub enough: Option<f32>,
    /// Sequences of a step.
    pub batch: usize,
    /// Step size at the end of the stage relative to that at its beginning; between them it falls linearly.
    pub fall: f64,
}

/// How a model is trained.
#[derive(Clone, PartialEq, Debug)]
pub struct BackboneSettings {
    /// The curriculum.
    pub stages: Vec<Stage>,
    /// The optimiser.
    pub adam: AdamSettings,
    /// Steps over which the step size rises to its full value.
    pub warm_up: usize,
    /// First weights that are tried. Recall is found all at once, or not for a long time: when the first stage ends without it, training
    /// begins anew with other weights, this often at most.
    pub attempts: usize,
}

impl Default for BackboneSettings {
    /// A drill until the model has found recall, pairs in 24 and 64 tokens, then all tasks at their full length in turns.
    fn default() -> Self {
        let stage = |layouts: Vec<Layout>, steps, enough, fall| Stage { layouts, steps, enough, batch: 64, fall };
        let mut mixed: Vec<Layout> = TASKS.iter().map(|task| task.layout()).collect();
        // The task of the main result comes twice as often.
        mixed.push(Task::Pairs.layout());
        BackboneSettings {
            stages: vec![
                stage(vec![Layout { task: Task::Drill, context: 8, answers: 8 }], 500, Some(0.98), 1.0),
                stage(vec![Layout::pairs(24, 4)], 600, Some(0.98), 1.0),
                stage(vec![Layout::pairs(64, 8)], 600, Some(0.98), 1.0),
                stage(mixed, 480, None, 0.1),
            ],
            adam: AdamSettings { rate: 2e-3, epsilon: 1e-8, longest: f64::INFINITY },
            warm_up: 20,
            attempts: 8,
        }
    }
}

/// Draws a batch.
pub(super) fn batch(layout: &Layout, seed: u64, first: u64, count: usize) -> Result<(Batch, Vec<Sample>)> {
    let samples = layout.draw(seed, Purpose::Training, first, count);
    let tokens: Vec<u32> = samples.iter().flat_map(|sample| sample.tokens.iter().copied()).collect();
    let tokens = Tensor::new(tokens, &Device::Cpu)?;
    Ok((Batch { tokens, count, time: layout.length(), asked: Arc::new(layout.asked()) }, samples))
}

/// Logarithms of probabilities, row by row.
pub(super) fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// Mean loss of the answers [nats], and the share that is right.
pub(super) fn answers(log_probabilities: &Tensor, samples: &[Sample]) -> Result<(Tensor, f32)> {
    let values: Vec<u32> = samples.iter().flat_map(|sample| sample.values.iter().copied()).collect();
    let count = values.len();
    let likeliest = log_probabilities.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let right = likeliest.iter().zip(&values).filter(|(got, wanted)| got == wanted).count();
    let wanted = Tensor::from_vec(values, (count, 1), &Device::Cpu)?;
    let loss = log_probabilities.gather(&wanted, 1)?.mean_all()?.neg()?;
    Ok((loss, right as f32 / count as f32))
}

/// Share of right answers in the drill that shows that recall was found; ruling out and guessing give a third.
const FOUND: f32 = 0.6;

/// What training gives.
pub struct Backbone {
    /// The weights.
    pub vars: Vars,
    /// Steps of each stage, of the attempt that went on.
    pub steps: Vec<usize>,
    /// Attempts it took.
    pub attempts: usize,
}

/// Trains a model from nothing.
///
/// # Errors
/// The caller wants to stop, the loss is no number any more, or no attempt found recall.
pub fn train(
    config: &Config,
    settings: &BackboneSettings,
    seed: u64,
    watch: Watch<'_>,
) -> std::result::Result<Backbone, TrainError> {
    for attempt in 0..settings.attempts {
        let vars = first_weights(config, mix(seed, attempt as u64))?;
        let adam = Adam::new(settings.adam, vars.values().cloned());
        let mut course = Course { config, settings, seed, vars, adam, drawn: (attempt as u64) << 24, done: 0 };
        let mut steps = Vec::new();
        let mut found = true;
        for (number, stage) in settings.stages.iter().enumerate() {
            let what = format!("model, attempt {}, stage {} of {}", attempt + 1, number + 1, settings.stages.len());
            let (taken, right) = course.run(stage, &what, watch)?;
            steps.push(taken);
            found = right >= FOUND || number > 0;
            if !found {
                break;
            }
        }
        if found {
            return Ok(Backbone { vars: course.vars, steps, attempts: attempt + 1 });
        }
    }
    Err(TrainError::NotFound { attempts: settings.attempts })
}

/// A model in training.
struct Course<'a> {
    config: &'a Config,
    settings: &'a BackboneSettings,
    seed: u64,
    vars: Vars,
    adam: Adam,
    /// Sequences drawn.
    drawn: u64,
    /// Steps done.
    done: usize,
}

impl Course<'_> {
    /// Goes through a stage; gives its steps, and the share of right answers in the last 20 of them.
    fn run(&mut self, stage: &Stage, what: &str, watch: Watch<'_>) -> std::result::Result<(usize, f32), TrainError> {
        let mut latest: Vec<f32> = Vec::new();
        let mut mean = 0.0;
        for step in 0..stage.steps {
            let fall = 1.0 - (1.0 - stage.fall) * step as f64 / stage.steps as f64;
            let (loss, accuracy) = self.step(&stage.layouts[step % stage.layouts.len()], stage.batch, fall)?;
            if !loss.is_finite() {
                return Err(TrainError::Diverged { what: what.to_owned(), step, loss });
            }
            if !watch(Progress { what, step: step + 1, of: stage.steps, loss, accuracy }) {
                return Err(TrainError::Interrupted);
            }
            latest.push(accuracy);
            let recent = &latest[latest.len().saturating_sub(20)..];
            mean = recent.iter().sum::<f32>() / 20.0;
            if stage.enough.is_some_and(|enough| mean >= enough) {
                break;
            }
        }
        Ok((latest.len(), mean))
    }

    /// One step; gives its loss and the share of right answers.
    fn step(&mut self, layout: &Layout, count: usize, fall: f64) -> Result<(f32, f32)> {
        let (batch, samples) = batch(layout, self.seed, self.drawn, count)?;
        self.drawn += count as u64;
        self.done += 1;
        let net = Net::new(self.config, &self.vars, false)?;
        let (loss, accuracy) = answers(&log_softmax(&net.forward(&batch, None)?.logits)?, &samples)?;
        let rise = (self.done as f64 / self.settings.warm_up as f64).min(1.0);
        self.adam.step(&loss.backward()?, rise * fall)?;
        Ok((loss.to_scalar()?, accuracy))
    }
}
