//! H2O (arXiv 2306.14048): heavy hitters.

use super::{Head, Place, TokenRetention, Wants};

/// The attention that a token got from every query since it came, the mean over its group of query heads. Not that of the last query
/// alone, which some public code calls H2O and which is TOVA for each head.
#[derive(Debug)]
pub(super) struct H2o;

impl TokenRetention for H2o {
    fn wants(&self) -> Wants {
        Wants { notes: true, ..Wants::default() }
    }

    fn attended(&self, _: Place, _: u32, weights: &[f32], notes: &mut [f32]) {
        notes.iter_mut().zip(weights).for_each(|(note, weight)| *note += weight);
    }

    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        scores.copy_from_slice(head.notes);
    }
}
