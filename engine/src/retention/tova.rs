//! TOVA (arXiv 2401.06104): the last query decides.

use super::rows::{mean_of, softmax};
use super::{Head, TokenRetention};

/// Attention weights of the last query, the mean over all heads of the layer: its KV heads keep the same tokens.
#[derive(Debug)]
pub(super) struct Tova;

impl TokenRetention for Tova {
    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        let mut weights = head.products.to_vec();
        weights.chunks_exact_mut(scores.len()).for_each(softmax);
        mean_of(&weights, scores);
    }

    fn joint(&self) -> bool {
        true
    }
}
