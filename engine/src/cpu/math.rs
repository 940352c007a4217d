//! Elementwise arithmetic: norms, softmax, rotation.

use fearless_simd::{Simd, SimdBase, f32x16, prelude::*};

/// Scales a row to unit mean square and multiplies it by `weight`: `y = x / √(mean(x²) + epsilon) · weight`.
#[inline(always)]
pub(super) fn rms_norm<S: Simd>(simd: S, x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let scale = rms_scale(simd, x, epsilon);
    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
        *y = x * scale * weight;
    }
}

/// [`rms_norm`] of a row in place.
#[inline(always)]
pub(super) fn rms_norm_in_place<S: Simd>(simd: S, x: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = rms_scale(simd, x, epsilon);
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

/// `1 / √(mean(x²) + epsilon)`; the row's length is a multiple of 16.
#[inline(always)]
fn rms_scale<S: Simd>(simd: S, x: &[f32], epsilon: f32) -> f32 {
    let mut squares = f32x16::splat(simd, 0.0);
    for x in x.as_chunks::<16>().0 {
        let x = f32x16::from_slice(simd, x);
        squares = x.mul_add(x, squares);
    }
    (simd.reduce_sum_f32x16(squares) / x.len() as f32 + epsilon).sqrt().recip()
}

/// Turns scores into weights that add up to one.
#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (vectors, rest) = scores.as_chunks_mut::<16>();
    let mut sums = f32x16::splat(simd, 0.0);
    for scores in vectors {
        let weights = exp(simd, f32x16::from_slice(simd, scores) - largest);
        sums += weights;
        weights.store_slice(scores);
    }
    if !rest.is_empty() {
        // What fills up has weight 10⁻³⁸.
        let mut padded = [f32::NEG_INFINITY; 16];
        padded[..rest.len()].copy_from_slice(rest);
        let weights = exp(simd, f32x16::from_slice(simd, &padded) - largest);
        sums += weights;
        weights.store_slice(&mut padded);
        rest.copy_from_slice(&padded[..rest.len()]);
    }
    let scale = simd.reduce_sum_f32x16(sums).recip();
    for score in scores {
        *score *= scale;
    }
}

/// `eˣ` for `x ≤ 88`, within 2 units in the last place; below -87 it is 0 or nearly. Cody and Waite's reduction and
/// the polynomial of Cephes' `expf`.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    let x = x.max(f32x16::splat(simd, -87.3));
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(f32x16::splat(simd, -0.693_359_4), x);
    let r = n.mul_add(f32x16::splat(simd, 2.121_944_4e-4), r);
    let mut p = f32x16::splat(simd, 1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p.mul_add(r, f32x16::splat(simd, coefficient));
    }
    let p = (p * r).mul_add(r, r) + 1.0;
    // 2ⁿ by its exponent bits.
    let power: fearless_simd::i32x16<S> = n.to_int();
    p * ((power + 127) << 23).bitcast::<f32x16<S>>()
}

/// Turns a head's pairs (`i`, `i + dim / 2`) by the angles of a position.
#[inline(always)]
pub(super) fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((first, second), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*first, *second) = (*first * cos - *second * sin, *second * cos + *first * sin);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use fearless_simd::{Level, dispatch};
    use overbook_kernels::reference;

    use super::*;

    #[test]
    fn exponential_is_accurate() {
        let level = Level::new();
        let mut worst = 0.0_f64;
        for start in (-870..=0).map(|tenth| tenth as f32 / 10.0) {
            let mut values: [f32; 16] = std::array::from_fn(|i| start + i as f32 / 160.0 - 0.05);
            let wanted = values.map(|x| f64::from(x).exp());
            dispatch!(level, simd => exp(simd, f32x16::from_slice(simd, &values)).store_slice(&mut values));
            let errors = values.iter().zip(wanted).map(|(got, wanted)| (f64::from(*got) / wanted - 1.0).abs());
            worst = errors.fold(worst, f64::max);
        }
        assert!(worst < 2.5e-7, "{worst}");
    }

    #[test]
    fn softmax_adds_up_and_keeps_ratios() {
        let level = Level::new();
        for len in [1, 15, 16, 17, 40] {
            let mut scores: Vec<f32> = (0..len).map(|i| 500.0 + (i % 5) as f32).collect();
            dispatch!(level, simd => softmax(simd, &mut scores));
            assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{len}");
            if len > 1 {
                assert!((scores[1] / scores[0] - std::f32::consts::E).abs() < 1e-5, "{len}");
            }
        }
    }

    #[test]
    fn norm_agrees_with_the_reference() {
        let x: Vec<f32> = (0..96).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let weight: Vec<f32> = (0..96).map(|i| 1.0 + i as f32 / 100.0).collect();
        let wanted = reference::rms_norm(&x, &weight, 1e-5);
        let mut got = vec![0.0; 96];
        let level = Level::new();
        dispatch!(level, simd => rms_norm(simd, &x, &weight, 1e-5, &mut got));
        assert!(got.iter().zip(&wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-5));
        let mut place = x.clone();
        dispatch!(level, simd => rms_norm_in_place(simd, &mut place, &weight, 1e-5));
        assert_eq!(place, got);
    }
}
