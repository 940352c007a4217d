//! The share of their output limits that running requests are expected to use (`new_token_ratio_tracker.py`).

use super::Constants;

/// `new_token_ratio` (rule 14). It is decayed a step at a time, as SGLang's numbers are: any number of steps at once gives the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    initial: f64,
    least: f64,
    decay: f64,
    retract_steps: u64,
    current: f64,
}

impl Ratio {
    pub(super) fn new(conservativeness: f64, constants: &Constants) -> Self {
        let initial = (constants.init_new_token_ratio * conservativeness).min(1.0);
        let least = (initial * constants.min_new_token_ratio_factor).min(1.0);
        let decay = (initial - least) / f64::from(constants.new_token_ratio_decay_steps);
        Ratio { initial, least, decay, retract_steps: u64::from(constants.retract_decode_steps), current: initial }
    }

    pub(super) fn current(&self) -> f64 {
        self.current
    }

    /// So many decode steps without a retraction.
    pub(super) fn decay(&mut self, steps: u64) {
        for _ in 0..steps {
            if self.current <= self.least {
                break;
            }
            self.current = (self.current - self.decay).max(self.least);
        }
    }

    /// Nothing was here for a while.
    pub(super) fn reset(&mut self) {
        self.current = self.initial;
    }

    /// Memory has run out; those that stay have generated so much of their limits.
    pub(super) fn after_retraction(&mut self, stay: impl Iterator<Item = (u32, i64)>) {
        let (mut expected, mut limits) = (0, 1);
        for (generated, limit) in stay {
            expected += u64::from(generated) + self.retract_steps;
            limits += limit;
        }
        self.current = (expected as f64 / limits as f64).min(1.0);
    }
}
