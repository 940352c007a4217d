//! Arithmetic on rows of scores.

use overbook_sim::kv::retention::policies::Pooling;

/// Turns products into weights that add up to one. Products of −∞ have weight 0.
pub(super) fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    for value in row {
        *value /= sum;
    }
}

/// The mean of rows as long as `mean`.
pub(super) fn mean_of(rows: &[f32], mean: &mut [f32]) {
    mean.fill(0.0);
    let rows = rows.chunks_exact(mean.len());
    let count = rows.len() as f32;
    for row in rows {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value);
    }
    for mean in mean {
        *mean /= count;
    }
}

/// Pools over `width` neighbours, an odd number. Beyond the ends lies nothing for a maximum, and zeros for a mean.
pub(super) fn pool(row: &[f32], width: u32, pooling: Pooling) -> Vec<f32> {
    let half = width as usize / 2;
    let around = |at: usize| &row[at.saturating_sub(half)..row.len().min(at + half + 1)];
    let pooled = (0..row.len()).map(|at| match pooling {
        Pooling::Max => around(at).iter().copied().fold(f32::NEG_INFINITY, f32::max),
        Pooling::Mean => around(at).iter().sum::<f32>() / width as f32,
    });
    pooled.collect()
}

/// The product of two rows, in eight sums that go side by side.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The length of a row.
pub(super) fn norm(row: &[f32]) -> f32 {
    dot(row, row).sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    #[test]
    fn pooling_looks_at_both_sides_and_at_nothing_beyond_the_ends() {
        let row = [1.0, 5.0, 2.0, 0.0, 3.0];
        assert_eq!(pool(&row, 3, Pooling::Max), [5.0, 5.0, 5.0, 3.0, 3.0]);
        assert_eq!(pool(&row, 3, Pooling::Mean), [2.0, 8.0 / 3.0, 7.0 / 3.0, 5.0 / 3.0, 1.0]);
        assert_eq!(pool(&row, 1, Pooling::Max), row);
        assert_eq!(pool(&row, 63, Pooling::Max), [5.0; 5]);
    }

    #[test]
    fn what_is_later_than_the_query_has_no_weight() {
        let mut row = [0.0, 2.0_f32.ln(), f32::NEG_INFINITY];
        softmax(&mut row);
        assert!((row[0] - 1.0 / 3.0).abs() < 1e-6 && row[2] == 0.0);
    }
}
