//! Knorm (arXiv 2406.11430): small keys stay.

use super::rows::norm;
use super::{Head, Token, TokenRetention, Wants};

/// `−‖k‖`. In the first few layers the latest tokens stay instead.
#[derive(Debug)]
pub(super) struct Knorm {
    pub(super) skip_layers: usize,
}

impl TokenRetention for Knorm {
    fn wants(&self) -> Wants {
        Wants { notes: true, ..Wants::default() }
    }

    fn note(&self, token: &Token<'_>) -> f32 {
        -norm(token.key)
    }

    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        if head.place.layer < self.skip_layers {
            scores.iter_mut().zip(head.positions).for_each(|(score, position)| *score = *position as f32);
        } else {
            scores.copy_from_slice(head.notes);
        }
    }
}
