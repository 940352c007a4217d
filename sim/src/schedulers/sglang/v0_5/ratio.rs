//! The share of their output limits that running requests are expected to use (`new_token_ratio_tracker.py`).

use super::RETRACT_STEPS;

/// Share of the output limit that is expected at first.
const INITIAL: f64 = 0.7;
/// Share of that to which it decays, and the decode steps that it takes.
const MIN_FACTOR: f64 = 0.14;
const DECAY_STEPS: f64 = 600.0;

/// `new_token_ratio` (rule 14). It is decayed a step at a time, as SGLang's numbers are: any number of steps at once gives the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    initial: f64,
    least: f64,
    decay: f64,
    current: f64,
}

impl Ratio {
    pub(super) fn new(conservativeness: f64) -> Self {
        let initial = (INITIAL * conservativeness).min(1.0);
        let least = (initial * MIN_FACTOR).min(1.0);
        Ratio { initial, least, decay: (initial - least) / DECAY_STEPS, current: initial }
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
            expected += u64::from(generated) + RETRACT_STEPS;
            limits += limit;
        }
        self.current = (expected as f64 / limits as f64).min(1.0);
    }
}
