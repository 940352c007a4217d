//! The power room: work by hand, the law's shape, meters, and the law against measured watts. `docs/power.md` has the tables that
//! these tests print.

mod clocks;
mod meters;
mod mlenergy;
mod orders;
mod others;
mod splitwise;
mod work;

use overbook_sim::hardware::model::{KvDtype, ModelSpec, WeightDtype};
use overbook_sim::hardware::parallel::Parallelism;
use overbook_sim::power::StepWork;

/// Errors of predictions, as shares of what was measured.
#[derive(Default)]
pub(super) struct Errors(pub Vec<f64>);

impl Errors {
    /// Adds a pair.
    pub(super) fn add(&mut self, predicted: f64, measured: f64) {
        self.0.push(predicted / measured - 1.0);
    }

    /// Mean with its sign [%].
    pub(super) fn bias(&self) -> f64 {
        100.0 * self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The share of absolute errors below which `q` of them lie [%].
    pub(super) fn quantile(&self, q: f64) -> f64 {
        let mut sorted: Vec<f64> = self.0.iter().map(|error| error.abs()).collect();
        sorted.sort_by(f64::total_cmp);
        100.0 * sorted[((sorted.len() - 1) as f64 * q).round() as usize]
    }

    /// Median absolute error [%].
    pub(super) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Number, median, mean and 90th percentile of the absolute errors, and bias [%].
    pub(super) fn summary(&self) -> String {
        let mean = 100.0 * self.0.iter().map(|error| error.abs()).sum::<f64>() / self.0.len() as f64;
        let (n, median, p90, bias) = (self.0.len(), self.median(), self.quantile(0.9), self.bias());
        format!("n {n:3}, median {median:5.1} %, mean {mean:5.1} %, p90 {p90:5.1} %, bias {bias:+6.1} %")
    }
}

fn step_work(model: &ModelSpec, spread: impl Into<Parallelism>, weights: WeightDtype) -> StepWork {
    StepWork::new(model, spread, weights, KvDtype::Bf16).unwrap()
}
