//! Trains retention gates of a model that stays as it is.
//!
//! TRIM-KV (arXiv 2512.03324 §4): `L = KL(teacher ‖ student) + next token + λ · capacity`, where the teacher is the same model without
//! gates. Both of the first terms are means over the answers.

use overbook_sim::counter::mix;

use super::adam::{Adam, AdamSettings};
use super::backbone::{answers, batch, log_softmax};
use super::capacity::Capacity;
use super::net::{Net, Vars, first_gates};
use super::{Progress, TrainError, Watch};
use crate::config::Config;
use crate::recall::tasks::Layout;

/// How gates are trained.
#[derive(Clone, PartialEq, Debug)]
pub struct GateSettings {
    /// Width of the gates' hidden layer (512 in the paper).
    pub width: usize,
    /// First value of the last bias: large means that everything is kept (18 in the paper, 10 in its code).
    pub bias: f64,
    /// M: slots in each layer and KV head.
    pub slots: f32,
    /// Weight of the capacity loss (1 in the paper).
    pub capacity: f64,
    /// Weight of the distance from the teacher (1 in the paper).
    pub teacher: f64,
    /// Weight of the loss of the answers (1 in the paper).
    pub answers: f64,
    /// Steps.
    pub steps: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// The optimiser.
    pub adam: AdamSettings,
}

impl Default for GateSettings {
    fn default() -> Self {
        GateSettings {
            width: 64,
            bias: 6.0,
            slots: 8.0,
            capacity: 1.0,
            teacher: 1.0,
            answers: 1.0,
            steps: 200,
            batch: 32,
            adam: AdamSettings { rate: 3e-3, epsilon: 1e-12, longest: f64::INFINITY },
        }
    }
}

/// Sequences of gates begin here, so that the model has seen none of them.
const FIRST: u64 = 1 << 32;

/// Trains the gates of a model on a task.
///
/// # Errors
/// The caller wants to stop, or the loss is no number any more.
pub fn train(
    config: &Config,
    model: &Vars,
    layout: &Layout,
    settings: &GateSettings,
    seed: u64,
    watch: Watch<'_>,
) -> Result<Vars, TrainError> {
    let what = format!("gates, {}", layout.task.name());
    let gates = first_gates(config, settings.width, settings.bias, mix(seed, layout.task as u64))?;
    let mut adam = Adam::new(settings.adam, gates.values().cloned());
    let net = Net::new(config, model, true)?;
    for step in 0..settings.steps {
        let first = FIRST + (step * settings.batch) as u64;
        let (batch, samples) = batch(layout, seed, first, settings.batch)?;
        let teacher = log_softmax(&net.forward(&batch, None)?.logits)?.detach();
        let computed = net.forward(&batch, Some(&gates))?;
        let student = log_softmax(&computed.logits)?;
        let (missed, accuracy) = answers(&student, &samples)?;
        let apart = (teacher.exp()? * (&teacher - &student)?)?.sum_all()?;
        let mut loss = ((missed * settings.answers)? + (apart * (settings.teacher / student.dim(0)? as f64))?)?;
        for log_beta in &computed.log_beta {
            let beyond = log_beta.apply_op1(Capacity { slots: settings.slots })?;
            loss = (loss + (beyond * (settings.capacity / config.layers as f64))?)?;
        }
        adam.step(&loss.backward()?, 1.0)?;
        let loss: f32 = loss.to_scalar()?;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { what, step, loss });
        }
        if !watch(Progress { what: &what, step: step + 1, of: settings.steps, loss, accuracy }) {
            return Err(TrainError::Interrupted);
        }
    }
    Ok(gates)
}
