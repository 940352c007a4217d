//! R-KV (arXiv 2505.24133): what is attended to and is not said again later.

use overbook_sim::kv::retention::policies::{Pooling, RKv as Settings};

use super::rows::{dot, mean_of, norm, pool, softmax};
use super::snap_kv::free_in_order;
use super::{Head, TokenRetention, Wants};

/// `λ · I − (1 − λ) · R`. `I`: attention weights of the latest queries over the tokens that may go, from the largest product of the
/// group, the mean over the queries, pooled by the maximum. `R`: softmax of the mean cosine of a key with all others.
///
/// In the row of each key the latest key that is alike counts as unlike, so that the newest of several copies is not punished. Where no
/// key is alike, nothing is left out: the authors' code leaves the first column out there.
#[derive(Debug)]
pub(super) struct RKv {
    pub(super) settings: Settings,
}

impl TokenRetention for RKv {
    fn wants(&self) -> Wants {
        Wants { keys: true, ..Wants::default() }
    }

    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        let order = free_in_order(head);
        let importance = pool(&attention(head, &order), self.settings.pool, Pooling::Max);
        let redundancy = self.redundancy(head);
        scores.fill(0.0);
        let lambda = self.settings.lambda as f32;
        for (slot, importance) in order.iter().zip(importance) {
            let slot = *slot as usize;
            scores[slot] = lambda * importance - (1.0 - lambda) * redundancy[slot];
        }
    }
}

impl RKv {
    /// How much every key is like the others.
    fn redundancy(&self, head: &Head<'_>) -> Vec<f32> {
        let (slots, alike) = (head.positions.len(), self.settings.alike as f32);
        let mut unit = head.keys.to_vec();
        for key in unit.chunks_exact_mut(head.dim) {
            let scale = norm(key).max(f32::MIN_POSITIVE).recip();
            for value in key {
                *value *= scale;
            }
        }
        let rows: Vec<&[f32]> = unit.chunks_exact(head.dim).collect();
        let mut sums = vec![0.0; slots];
        let mut cosines = vec![0.0; slots];
        for (row, key) in rows.iter().enumerate() {
            cosines.iter_mut().zip(&rows).for_each(|(cosine, other)| *cosine = dot(key, other));
            cosines[row] = 0.0;
            let like = (0..slots).filter(|slot| cosines[*slot] > alike && *slot != row);
            if let Some(latest) = like.max_by_key(|slot| head.positions[*slot]) {
                cosines[latest] = 0.0;
            }
            sums.iter_mut().zip(&cosines).for_each(|(sum, cosine)| *sum += cosine);
        }
        for sum in &mut sums {
            *sum /= slots as f32;
        }
        softmax(&mut sums);
        sums
    }
}

/// Weights of the tokens in `order`.
fn attention(head: &Head<'_>, order: &[u32]) -> Vec<f32> {
    let slots = head.positions.len();
    let mut weights = Vec::new();
    for query in head.products.chunks_exact(head.group * slots) {
        let largest = |slot: &u32| {
            let members = query.iter().skip(*slot as usize).step_by(slots);
            members.copied().fold(f32::NEG_INFINITY, f32::max)
        };
        let start = weights.len();
        weights.extend(order.iter().map(largest));
        softmax(&mut weights[start..]);
    }
    let mut mean = vec![0.0; order.len()];
    mean_of(&weights, &mut mean);
    mean
}
