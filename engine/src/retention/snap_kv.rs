//! SnapKV (arXiv 2404.14469): the latest queries decide.

use overbook_sim::kv::retention::policies::SnapKv as Settings;

use super::rows::{mean_of, pool, softmax};
use super::{Head, TokenRetention};

/// The mean attention weight over the latest queries, pooled over neighbours, the mean over the group of query heads. Neighbours are the
/// tokens before and after among those that are kept and not protected.
#[derive(Debug)]
pub(super) struct SnapKv {
    pub(super) settings: Settings,
}

impl TokenRetention for SnapKv {
    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        let slots = scores.len();
        let mut weights = head.products.to_vec();
        weights.chunks_exact_mut(slots).for_each(softmax);
        let order = free_in_order(head);
        scores.fill(0.0);
        let mut mean = vec![0.0; slots];
        for member in 0..head.group {
            let rows = weights.chunks_exact(slots).skip(member).step_by(head.group);
            mean_of(&rows.flatten().copied().collect::<Vec<_>>(), &mut mean);
            let row: Vec<f32> = order.iter().map(|slot| mean[*slot as usize]).collect();
            let pooled = pool(&row, self.settings.pool, self.settings.pooling);
            order.iter().zip(pooled).for_each(|(slot, value)| scores[*slot as usize] += value / head.group as f32);
        }
    }
}

/// Slots of tokens that may go, in the order of their positions.
pub(super) fn free_in_order(head: &Head<'_>) -> Vec<u32> {
    let mut order = head.in_order();
    order.retain(|slot| !head.protects(head.positions[*slot as usize]));
    order
}
