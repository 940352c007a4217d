//! A linear score of tokens, learned in closed form: the logarithm of the most attention that later queries give, from the hidden state.
//!
//! KVzap (arXiv 2601.07891) in small: a linear map per layer and KV head. Its label is the maximum over the attention of the sequence
//! itself, not over a second reading of the context.

use super::reference::{LayerCache, Reference, Step};
use super::tasks::Sample;

/// Linear maps per layer and KV head.
#[derive(Clone, PartialEq, Debug)]
pub struct Regressors {
    /// `[layer][kv head]`: weights of the hidden state, then the constant.
    maps: Vec<Vec<Vec<f64>>>,
}

/// Attention below it counts as this much, so that its logarithm is finite.
const FAINTEST: f32 = 1e-6;
/// Weight of the squares of the map beside the squared errors, per token.
const RIDGE: f64 = 1e-4;

/// Attention to come under the full cache: at `[layer][kv head][t][i]` the sum of what the queries after position `t` give to position `i`.
pub type Future = Vec<Vec<Vec<Vec<f32>>>>;

/// What a sequence computes under the full cache.
pub struct Trace {
    /// Normalised hidden states, `[layer][position][hidden]`.
    pub normed: Vec<Vec<Vec<f32>>>,
    /// Attention, mean over the group: `[layer][kv head][query][position]`.
    pub attention: Vec<Vec<Vec<Vec<f32>>>>,
}

impl Trace {
    /// Computes a sequence and keeps what it attends to.
    pub fn record(model: &Reference, tokens: &[u32]) -> Trace {
        let (layers, heads) = (model.config().layers, model.config().kv_heads);
        let mut trace = Trace { normed: vec![Vec::new(); layers], attention: vec![vec![Vec::new(); heads]; layers] };
        let mut sequence = model.begin();
        for token in tokens {
            model.step(&mut sequence, *token, &mut |step: &Step<'_>, _: &mut LayerCache| {
                trace.normed[step.layer].push(step.normed.to_vec());
                for head in 0..heads {
                    trace.attention[step.layer][head].push(step.weights_of(head));
                }
            });
        }
        trace
    }

    /// Attention to come after each position.
    pub fn future(&self) -> Future {
        let of_head = |rows: &Vec<Vec<f32>>| {
            let mut coming = vec![0.0; rows.len()];
            let mut all: Vec<Vec<f32>> = Vec::new();
            for (position, row) in rows.iter().enumerate().rev() {
                all.push(coming[..=position].to_vec());
                coming.iter_mut().zip(row).for_each(|(coming, weight)| *coming += weight);
            }
            all.reverse();
            all
        };
        self.attention.iter().map(|heads| heads.iter().map(of_head).collect()).collect()
    }
}

impl Regressors {
    /// Fits all maps to what a model attends to on some sequences, by ridge regression.
    pub fn fit(model: &Reference, samples: &[Sample]) -> Regressors {
        let (layers, heads) = (model.config().layers, model.config().kv_heads);
        let width = model.config().hidden + 1;
        let mut sums = vec![vec![Normal::new(width); heads]; layers];
        for sample in samples {
            let trace = Trace::record(model, &sample.tokens);
            for (layer, heads) in sums.iter_mut().enumerate() {
                for (head, sums) in heads.iter_mut().enumerate() {
                    let rows = &trace.attention[layer][head];
                    for (position, normed) in trace.normed[layer].iter().enumerate().take(rows.len() - 1) {
                        let most = rows[position + 1..].iter().map(|row| row[position]).fold(FAINTEST, f32::max);
                        sums.add(normed, f64::from(most.ln()));
                    }
                }
            }
        }
        Regressors { maps: sums.into_iter().map(|heads| heads.into_iter().map(Normal::solve).collect()).collect() }
    }

    /// The predicted logarithm for a token.
    pub fn predict(&self, layer: usize, head: usize, normed: &[f32]) -> f32 {
        let map = &self.maps[layer][head];
        let sum: f64 = map.iter().zip(normed).map(|(weight, x)| weight * f64::from(*x)).sum();
        (sum + map[normed.len()]) as f32
    }
}

/// Normal equations.
#[derive(Clone)]
struct Normal {
    width: usize,
    count: f64,
    squares: Vec<f64>,
    products: Vec<f64>,
}

impl Normal {
    fn new(width: usize) -> Normal {
        Normal { width, count: 0.0, squares: vec![0.0; width * width], products: vec![0.0; width] }
    }

    fn add(&mut self, normed: &[f32], label: f64) {
        let x: Vec<f64> = normed.iter().map(|x| f64::from(*x)).chain([1.0]).collect();
        for (row, a) in x.iter().enumerate() {
            self.products[row] += a * label;
            let squares = &mut self.squares[row * self.width..=row * self.width + row];
            squares.iter_mut().zip(&x).for_each(|(sum, b)| *sum += a * b);
        }
        self.count += 1.0;
    }

    /// Cholesky's factors of the lower triangle, then both substitutions.
    fn solve(mut self) -> Vec<f64> {
        let width = self.width;
        for row in 0..width {
            self.squares[row * width + row] += RIDGE * self.count;
            for column in 0..=row {
                let both = (0..column).map(|k| self.squares[row * width + k] * self.squares[column * width + k]);
                let rest = self.squares[row * width + column] - both.sum::<f64>();
                self.squares[row * width + column] =
                    if row == column { rest.sqrt() } else { rest / self.squares[column * width + column] };
            }
        }
        let factor = |row: usize, column: usize| self.squares[row * width + column];
        let mut solution = self.products.clone();
        for row in 0..width {
            let known: f64 = (0..row).map(|k| factor(row, k) * solution[k]).sum();
            solution[row] = (solution[row] - known) / factor(row, row);
        }
        for row in (0..width).rev() {
            let known: f64 = (row + 1..width).map(|k| factor(k, row) * solution[k]).sum();
            solution[row] = (solution[row] - known) / factor(row, row);
        }
        solution
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_law_is_found() {
        let mut normal = Normal::new(4);
        for number in 0..200_u32 {
            let x = [0, 1, 2].map(|k| ((number * (7 + k) + k) % 13) as f32 - 6.0);
            normal.add(&x, f64::from(2.0 * x[0] - x[1] + 0.5 * x[2]) + 3.0);
        }
        let map = normal.solve();
        for (got, wanted) in map.iter().zip([2.0, -1.0, 0.5, 3.0]) {
            assert!((got - wanted).abs() < 1e-2, "{map:?}");
        }
    }
}
