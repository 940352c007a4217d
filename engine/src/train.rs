//! Small models and their retention gates, trained from scratch with candle. Behind the feature `train`.
//!
//! A step of training is a few large operations: matrix products of candle, and fused ones of our own ([`attention`], [`pointwise`],
//! [`capacity`]) with their gradients. The last layer is computed only where an answer is asked for. Draws come from named streams, so that
//! a seed fixes all on one kind of machine; candle's matrix products choose their instructions by the machine, and round accordingly.

pub mod adam;
pub mod attention;
pub mod backbone;
pub mod capacity;
pub mod files;
pub mod gates;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod gradients;
pub mod kv_zap;
pub mod net;
pub mod pointwise;
pub mod study;

/// Why training ends early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The caller wanted to stop.
    #[error("interrupted")]
    Interrupted,
    /// Candle refuses: a bug here.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
    /// The model did not learn to recall at all.
    #[error("{attempts} attempts did not find recall in the first stage; more steps in it may help")]
    NotFound {
        /// First weights that were tried.
        attempts: usize,
    },
    /// The loss is no number any more.
    #[error("{what}: the loss is {loss} at step {step}; a lower learning rate may help")]
    Diverged {
        /// What was trained.
        what: String,
        /// The step.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// Weights cannot be read back.
    #[error(transparent)]
    Weights(#[from] crate::weights::WeightsError),
    /// A model cannot be read back.
    #[error(transparent)]
    Subject(#[from] crate::recall::evaluate::SubjectError),
    /// A policy cannot be measured.
    #[error("{0}")]
    Measure(#[from] crate::executor::BuildError),
    /// The folder holds another study.
    #[error("{path} holds a study with other settings; name another folder, or repeat the settings it says")]
    OtherStudy {
        /// Where it says its settings.
        path: std::path::PathBuf,
    },
    /// A file cannot be written.
    #[error("{path}: {detail}")]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        detail: String,
    },
}

/// How far training is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Progress<'a> {
    /// What is trained.
    pub what: &'a str,
    /// Steps done.
    pub step: usize,
    /// Steps at most.
    pub of: usize,
    /// The step's loss [nats]; 0 where something is measured.
    pub loss: f32,
    /// Share of the step's answers that are right.
    pub accuracy: f32,
}

/// Hears of every step; `false` ends the training.
pub type Watch<'a> = &'a mut dyn FnMut(Progress<'_>) -> bool;
