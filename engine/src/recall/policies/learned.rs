//! Policies that go by what was learned before, and the one that knows the future.

use std::sync::Arc;

use super::{Policy, kept};
use crate::recall::gates::Gates;
use crate::recall::reference::{LayerCache, Step};
use crate::recall::regress::{Future, Regressors};

/// `(t + 1 - i) · log β`.
pub(super) struct Trim {
    gates: Arc<Gates>,
    head: usize,
    /// By position.
    log_beta: Vec<f32>,
}

impl Trim {
    pub(super) fn new(gates: Arc<Gates>, head: usize) -> Trim {
        Trim { gates, head, log_beta: Vec::new() }
    }
}

impl Policy for Trim {
    fn see(&mut self, step: &Step<'_>, _: &LayerCache) {
        self.log_beta.push(self.gates.layers[step.layer].log_beta(step.normed, self.head));
    }

    fn scores(&mut self, step: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        let score = |at: &usize| (step.position + 1 - at) as f32 * self.log_beta[*at];
        kept(cache, self.head).iter().map(score).collect()
    }
}

/// A score that does not change with age.
pub(super) struct Regressed {
    regressors: Arc<Regressors>,
    head: usize,
    /// By position.
    predicted: Vec<f32>,
}

impl Regressed {
    pub(super) fn new(regressors: Arc<Regressors>, head: usize) -> Regressed {
        Regressed { regressors, head, predicted: Vec::new() }
    }
}

impl Policy for Regressed {
    fn see(&mut self, step: &Step<'_>, _: &LayerCache) {
        self.predicted.push(self.regressors.predict(step.layer, self.head, step.normed));
    }

    fn scores(&mut self, _: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        kept(cache, self.head).iter().map(|at| self.predicted[*at]).collect()
    }
}

/// The sum of what later queries give under the full cache.
pub(super) struct Oracle {
    pub(super) future: Arc<Future>,
    pub(super) layer: usize,
    pub(super) head: usize,
}

impl Policy for Oracle {
    fn see(&mut self, _: &Step<'_>, _: &LayerCache) {}

    fn scores(&mut self, step: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        let coming = &self.future[self.layer][self.head][step.position];
        kept(cache, self.head).iter().map(|at| coming[*at]).collect()
    }
}
