//! Random: chance decides.

use overbook_sim::counter::{draw, mix};

use super::{Head, Place, TokenRetention};

/// Every token has a number drawn from the seed, its layer, its head and its position; the lowest goes. The number is fixed, so that the
/// tokens that stay are a uniform sample of those that came.
#[derive(Debug)]
pub(super) struct Random {
    pub(super) seed: u64,
}

impl TokenRetention for Random {
    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        let Place { layer, head: number, .. } = head.place;
        let key = mix(mix(self.seed, layer as u64), number as u64);
        for (score, position) in scores.iter_mut().zip(head.positions) {
            // 24 bits: all of what an f32 has.
            *score = (draw(key, u64::from(*position)) >> 40) as f32;
        }
    }
}
