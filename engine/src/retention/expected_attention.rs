//! ExpectedAttention (arXiv 2510.00636): what queries to come are expected to attend to.

use super::rows::{dot, norm, softmax};
use super::{Head, TokenRetention, Wants};

/// Queries so far are taken for draws from a normal distribution with mean `μ` and covariance `Σ`; those to come are rotated by the mean
/// rotation `R` of the next positions. `softmax(Rμ·k / √d + kᵀ RΣRᵀ k / 2d) · ‖v‖` over the tokens after the sinks, the mean over the
/// group of query heads. Queries of the sinks do not count.
#[derive(Debug)]
pub(super) struct ExpectedAttention {
    pub(super) sinks: u32,
    pub(super) future: u32,
    /// Of rotation, for each pair of dimensions [radians per position].
    pub(super) frequencies: Vec<f64>,
}

impl TokenRetention for ExpectedAttention {
    fn wants(&self) -> Wants {
        Wants { keys: true, values: true, ..Wants::default() }
    }

    /// Keeps, for each query head, the number of queries, their mean, and the sum of products of deviations (Welford).
    fn asked(&self, position: u32, queries: &[f32], memory: &mut Vec<f32>) {
        if position < self.sinks {
            return;
        }
        let dim = 2 * self.frequencies.len();
        memory.resize(queries.len() / dim * size(dim), 0.0);
        let mut deviation = vec![0.0; dim];
        for (query, memory) in queries.chunks_exact(dim).zip(memory.chunks_exact_mut(size(dim))) {
            let (head, products) = memory.split_at_mut(1 + dim);
            let (count, mean) = head.split_at_mut(1);
            count[0] += 1.0;
            for ((deviation, query), mean) in deviation.iter_mut().zip(query).zip(mean.iter_mut()) {
                *deviation = query - *mean;
                *mean += *deviation / count[0];
            }
            for (row, before) in products.chunks_exact_mut(dim).zip(&deviation) {
                for ((product, query), mean) in row.iter_mut().zip(query).zip(&*mean) {
                    *product += before * (query - mean);
                }
            }
        }
    }

    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        let (dim, slots) = (head.dim, scores.len());
        let free: Vec<usize> = (0..slots).filter(|slot| head.positions[*slot] >= self.sinks).collect();
        let keys = self.turned_back(head, &free);
        scores.fill(0.0);
        for memory in head.memory.chunks_exact(size(dim)) {
            let (mean, products) = (&memory[1..=dim], &memory[1 + dim..]);
            let mut row: Vec<f32> = keys
                .chunks_exact(dim)
                .map(|key| {
                    let spread: f32 = products.chunks_exact(dim).zip(key).map(|(row, k)| k * dot(row, key)).sum();
                    dot(mean, key) / (dim as f32).sqrt() + spread / memory[0] / (2 * dim) as f32
                })
                .collect();
            softmax(&mut row);
            free.iter().zip(row).for_each(|(slot, weight)| scores[*slot] += weight / head.group as f32);
        }
        for (score, value) in scores.iter_mut().zip(head.values.chunks_exact(dim)) {
            *score *= norm(value);
        }
    }
}

/// Numbers of a query head in memory.
fn size(dim: usize) -> usize {
    1 + dim + dim * dim
}

impl ExpectedAttention {
    /// `Rᵀk` of some slots, `[slot, dim]`: turned back by the mean rotation of the next positions.
    fn turned_back(&self, head: &Head<'_>, slots: &[usize]) -> Vec<f32> {
        let (count, pairs) = (f64::from(self.future), self.frequencies.len());
        // The mean of e^{iωt} over `count` positions is that of their middle, shortened.
        let middle = f64::from(head.now) + 1.0 + (count - 1.0) / 2.0;
        let mean = |frequency: &f64| {
            let half = frequency / 2.0;
            let length = if half.sin() == 0.0 { 1.0 } else { (count * half).sin() / (count * half.sin()) };
            let angle = frequency * middle;
            ((length * angle.cos()) as f32, (length * angle.sin()) as f32)
        };
        let rotation: Vec<(f32, f32)> = self.frequencies.iter().map(mean).collect();
        let mut turned = Vec::with_capacity(slots.len() * head.dim);
        for slot in slots {
            let (first, second) = head.keys[slot * head.dim..][..head.dim].split_at(pairs);
            let both = || first.iter().zip(second).zip(&rotation);
            turned.extend(both().map(|((a, b), (cos, sin))| a * cos + b * sin));
            turned.extend(both().map(|((a, b), (cos, sin))| b * cos - a * sin));
        }
        turned
    }
}
