//! Layers of experts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A mixture of experts: a router sends each token to the best few of many MLPs.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoeSpec {
    /// Routed experts of a layer.
    pub experts: u32,
    /// Experts that each token visits.
    pub experts_per_token: u32,
    /// Width of one expert.
    pub expert_intermediate: u32,
    /// Experts that every token visits beside the routed ones, of the same width.
    #[serde(default)]
    pub shared_experts: u32,
    /// Leading layers with a dense MLP of the model's `intermediate`.
    #[serde(default)]
    pub dense_layers: u32,
    /// How unlike the experts' popularity is: the share of tokens that visit the one of rank `r` falls like `r^-skew`. 0: all alike.
    /// Between 0 and 3.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skew: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// Largest `skew`.
pub(super) const SKEW_MAX: f64 = 3.0;

impl MoeSpec {
    /// Expected number of distinct experts that `tokens` tokens visit, each independently of the others: `Σ (1 − (1 − p)^m)` over the
    /// experts, `p` the share of tokens that visit one. If all are as likely as the others, `E (1 − (1 − k/E)^m)`.
    pub fn touched(&self, tokens: f64) -> f64 {
        let (experts, per_token) = (f64::from(self.experts), f64::from(self.experts_per_token));
        if self.skew == 0.0 {
            return experts * (1.0 - (1.0 - per_token / experts).powf(tokens));
        }
        self.popularity().into_iter().map(|share| 1.0 - (1.0 - share).powf(tokens)).sum()
    }

    /// Share of tokens that visit each expert, the most popular first; they add up to the experts of a token. No expert is visited
    /// twice by a token: what exceeds 1 goes to the others.
    pub fn popularity(&self) -> Vec<f64> {
        let weights: Vec<f64> = (1..=self.experts).map(|rank| f64::from(rank).powf(-self.skew)).collect();
        // The first `full` experts are visited by all tokens.
        let mut full = 0;
        loop {
            let left = f64::from(self.experts_per_token) - full as f64;
            let scale = left / weights[full..].iter().sum::<f64>();
            let more = weights[full..].iter().take_while(|&&weight| weight * scale >= 1.0).count();
            if more == 0 || left <= 0.0 {
                let rest = weights[full..].iter().map(|weight| weight * scale);
                return std::iter::repeat_n(1.0, full).chain(rest).collect();
            }
            full += more;
        }
    }
}
