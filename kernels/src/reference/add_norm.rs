//! What a layer adds to the residual stream, and the norm before the next.

use super::bf16::rounded;
use super::rms_norm;

/// Adds `delta` to rows of the stream `x`, which holds numbers of 16 bits, and norms them by `weight`, whose length is the width
/// of a row. Row `r` of the result is of row `r`, and the sum stays in `x`; or with `pick`, of row `pick[r]` (below zero: zeros),
/// and `x` stays as it is. Sums in f64.
///
/// # Panics
/// If the rows are not there.
pub fn add_norm(
    x: &mut [f32],
    delta: Option<&[f32]>,
    weight: &[f32],
    pick: Option<&[i32]>,
    rows: usize,
    epsilon: f32,
) -> Vec<f32> {
    let width = weight.len();
    let mut out = Vec::with_capacity(rows * width);
    for row in 0..rows {
        let source = pick.map_or(row as i32, |pick| pick[row]);
        if source < 0 {
            out.resize(out.len() + width, 0.0);
            continue;
        }
        let at = source as usize * width..(source as usize + 1) * width;
        let mut sum = x[at.clone()].to_vec();
        if let Some(delta) = delta {
            sum.iter_mut().zip(&delta[at.clone()]).for_each(|(x, delta)| *x = rounded(*x + delta));
        }
        out.extend(rms_norm(&sum, weight, epsilon));
        if pick.is_none() {
            x[at].copy_from_slice(&sum);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    #[test]
    fn the_sum_stays_and_is_normed() {
        let mut x = [1.0, 2.0, 4.0, 4.0];
        let out = add_norm(&mut x, Some(&[2.0, 1.0, 0.0, 0.0]), &[1.0, 2.0], None, 1, 0.0);
        assert_eq!((x, out), ([3.0, 3.0, 4.0, 4.0], vec![1.0, 2.0]));
    }

    #[test]
    fn the_sum_is_rounded_before_the_norm() {
        // 256 + 1 has no 16 bits; 256 has.
        let mut x = [256.0, 256.0];
        let out = add_norm(&mut x, Some(&[1.0, 0.0]), &[1.0, 1.0], None, 1, 0.0);
        assert_eq!((x, out), ([256.0, 256.0], vec![1.0, 1.0]));
    }

    #[test]
    fn picked_rows_leave_the_stream_alone() {
        let mut x = [1.0, 1.0, 3.0, -3.0];
        let out = add_norm(&mut x, Some(&[9.0, 9.0, 1.0, -1.0]), &[1.0, 1.0], Some(&[1, -1]), 2, 0.0);
        assert_eq!((x, out), ([1.0, 1.0, 3.0, -3.0], vec![1.0, -1.0, 0.0, 0.0]));
    }
}
