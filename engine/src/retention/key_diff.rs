//! KeyDiff (arXiv 2504.15364): keys unlike the others stay.

use super::rows::{dot, norm};
use super::{Head, TokenRetention, Wants};

/// `−cos(k, mean of the normalised keys)`, over the keys that are in slots.
#[derive(Debug)]
pub(super) struct KeyDiff;

impl TokenRetention for KeyDiff {
    fn wants(&self) -> Wants {
        Wants { keys: true, ..Wants::default() }
    }

    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        // The sum and the mean have one direction.
        let mut sum = vec![0.0; head.dim];
        for key in head.keys.chunks_exact(head.dim) {
            let scale = norm(key).max(f32::MIN_POSITIVE).recip();
            sum.iter_mut().zip(key).for_each(|(sum, value)| *sum += value * scale);
        }
        let size = norm(&sum).max(f32::MIN_POSITIVE);
        for (score, key) in scores.iter_mut().zip(head.keys.chunks_exact(head.dim)) {
            *score = -dot(key, &sum) / (norm(key).max(f32::MIN_POSITIVE) * size);
        }
    }
}
