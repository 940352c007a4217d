//! Root-mean-square norm.

/// Scales every row of `x` to unit mean square and multiplies it by `weight`, whose length is the width of a row:
/// `y = x / √(mean(x²) + epsilon) · weight`. Sums in f64.
///
/// # Panics
/// If `weight` is empty or `x` is not made of whole rows.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    assert!(!weight.is_empty() && x.len().is_multiple_of(weight.len()), "rows of {} in {}", weight.len(), x.len());
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len()) {
        let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
        let scale = (squares / row.len() as f64 + f64::from(epsilon)).sqrt().recip() as f32;
        y.extend(row.iter().zip(weight).map(|(value, weight)| value * scale * weight));
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_get_unit_mean_square() {
        let y = rms_norm(&[3.0, 4.0, 0.0, 0.0, -2.0, 2.0, 2.0, -2.0], &[1.0; 4], 0.0);
        assert_eq!(y, [1.2, 1.6, 0.0, 0.0, -1.0, 1.0, 1.0, -1.0]);
    }

    #[test]
    fn weight_multiplies_and_epsilon_keeps_zero_finite() {
        assert_eq!(rms_norm(&[1.0, 1.0], &[2.0, -3.0], 0.0), [2.0, -3.0]);
        assert_eq!(rms_norm(&[0.0, 0.0], &[2.0, 3.0], 1e-6), [0.0, 0.0]);
    }
}
