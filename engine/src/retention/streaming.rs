//! The window of the latest tokens; StreamingLLM (arXiv 2309.17453), which protects a few at the start as well.

use super::{Head, TokenRetention};

/// The oldest token goes. Positions stay what they are; the paper renumbers them inside the cache.
#[derive(Debug)]
pub(super) struct Latest;

impl TokenRetention for Latest {
    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        scores.iter_mut().zip(head.positions).for_each(|(score, position)| *score = *position as f32);
    }
}
