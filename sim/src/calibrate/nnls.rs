//! Least squares with coefficients that are not negative: the active set method of Lawson and Hanson (1974, ch. 23).

/// The `x ≥ 0` with the least `Σ (row · x − target)²`. Rows have the same length, at most a few dozen.
pub(super) fn nnls(rows: &[Vec<f64>], targets: &[f64]) -> Vec<f64> {
    let size = rows.first().map_or(0, Vec::len);
    // Columns are scaled to unit norm, so that one tolerance separates zero from small values.
    let scale: Vec<f64> = (0..size)
        .map(|j| rows.iter().map(|row| row[j] * row[j]).sum::<f64>().sqrt())
        .map(|norm| if norm > 0.0 { 1.0 / norm } else { 0.0 })
        .collect();
    let product = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>() * scale[i] * scale[j];
    let gram: Vec<Vec<f64>> = (0..size).map(|i| (0..size).map(|j| product(i, j)).collect()).collect();
    let right: Vec<f64> =
        (0..size).map(|j| rows.iter().zip(targets).map(|(row, t)| row[j] * t).sum::<f64>() * scale[j]).collect();
    let tolerance = 1e-9 * right.iter().fold(0.0, |most: f64, r| most.max(r.abs()));
    let mut x = vec![0.0; size];
    let mut passive = vec![false; size];
    for _ in 0..3 * size.max(1) {
        let gradient = |j: usize| right[j] - (0..size).map(|k| gram[j][k] * x[k]).sum::<f64>();
        let entering = (0..size)
            .filter(|&j| !passive[j] && scale[j] > 0.0)
            .map(|j| (gradient(j), j))
            .filter(|(slope, _)| *slope > tolerance)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, entering)) = entering else { break };
        passive[entering] = true;
        loop {
            let chosen: Vec<usize> = (0..size).filter(|&j| passive[j]).collect();
            let solved = solve(&gram, &right, &chosen);
            if solved.iter().all(|value| *value > 0.0) {
                chosen.iter().zip(&solved).for_each(|(&j, value)| x[j] = *value);
                break;
            }
            // As far towards the solution as nothing turns negative.
            let step = chosen
                .iter()
                .zip(&solved)
                .filter(|(_, value)| **value <= 0.0)
                .map(|(&j, value)| x[j] / (x[j] - value))
                .fold(1.0, f64::min);
            for (&j, value) in chosen.iter().zip(&solved) {
                x[j] += step * (value - x[j]);
                if x[j] <= 1e-15 || (*value <= 0.0 && x[j] <= 1e-12) {
                    (x[j], passive[j]) = (0.0, false);
                }
            }
            if !passive.iter().any(|&p| p) {
                break;
            }
        }
    }
    x.iter().zip(&scale).map(|(value, scale)| value * scale).collect()
}

/// Solves the normal equations of the chosen columns by Gaussian elimination with pivots; a singular direction gets zero.
fn solve(gram: &[Vec<f64>], right: &[f64], chosen: &[usize]) -> Vec<f64> {
    let n = chosen.len();
    let mut a: Vec<Vec<f64>> =
        chosen.iter().map(|&i| chosen.iter().map(|&j| gram[i][j]).chain([right[i]]).collect()).collect();
    for column in 0..n {
        let pivot = (column..n).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs())).unwrap_or(column);
        a.swap(column, pivot);
        let head = a[column][column];
        if head.abs() < 1e-12 {
            continue;
        }
        let row = a[column].clone();
        for below in a.iter_mut().skip(column + 1) {
            let factor = below[column] / head;
            below.iter_mut().zip(&row).for_each(|(value, r)| *value -= factor * r);
        }
    }
    let mut x = vec![0.0; n];
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| a[i][j] * x[j]).sum();
        x[i] = if a[i][i].abs() < 1e-12 { 0.0 } else { (a[i][n] - known) / a[i][i] };
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_made_the_rows() {
        let truth = [3.0, 0.0, 0.5, 20.0];
        let rows: Vec<Vec<f64>> = (0..40)
            .map(|i: i32| {
                let x = f64::from(i);
                vec![1.0, x, x * x, if i % 3 == 0 { 1.0 } else { 0.0 }]
            })
            .collect();
        let targets: Vec<f64> = rows.iter().map(|row| row.iter().zip(truth).map(|(a, b)| a * b).sum()).collect();
        let x = nnls(&rows, &targets);
        assert!(x.iter().zip(truth).all(|(a, b)| (a - b).abs() < 1e-6), "{x:?}");
    }

    #[test]
    fn what_would_be_negative_is_zero_and_optimal() {
        // Falling data: the best non-negative slope is none, the best constant the mean.
        let rows: Vec<Vec<f64>> = (0..10).map(|i| vec![1.0, f64::from(i)]).collect();
        let targets: Vec<f64> = (0..10).map(|i| 10.0 - f64::from(i)).collect();
        let x = nnls(&rows, &targets);
        assert!((x[0] - 5.5).abs() < 1e-9 && x[1] == 0.0, "{x:?}");
    }

    #[test]
    fn no_small_change_is_better() {
        // The conditions of Karush, Kuhn and Tucker, by trial, on rows without structure.
        let noise = |i: u64| ((i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64) / f64::from(1 << 24) - 0.3;
        let rows: Vec<Vec<f64>> = (0..30).map(|i| (0..6).map(|j| noise(i * 6 + j)).collect()).collect();
        let targets: Vec<f64> = (0..30).map(|i| noise(1000 + i)).collect();
        let loss = |x: &[f64]| -> f64 {
            rows.iter()
                .zip(&targets)
                .map(|(row, t)| (row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>() - t).powi(2))
                .sum()
        };
        let x = nnls(&rows, &targets);
        assert!(x.contains(&0.0) && x.iter().any(|v| *v > 0.0), "{x:?}");
        for j in 0..6 {
            for step in [1e-4, -1e-4] {
                let mut other = x.clone();
                other[j] += step;
                assert!(other[j] < 0.0 || loss(&other) >= loss(&x), "coefficient {j}");
            }
        }
    }
}
