//! A linear score of tokens, learned in closed form: the logarithm of the most attention that a later query gives, from the hidden state.
//!
//! KVzap (arXiv 2601.07891) in small: a linear map per layer and KV head. Its label is the maximum over the attention of the sequence
//! itself, not over a second reading of the context. The map is written as the network that the engine loads: `silu(z) - silu(-z) = z`.

use candle_core::{Device, Result, Tensor, Var};

use super::TrainError;
use super::backbone::batch;
use super::net::{Net, Vars};
use super::pointwise::values;
use crate::recall::{Layout, Subject};
use crate::retention::{GateKind, Place};

/// Attention below it counts as this much, so that its logarithm is finite.
const FAINTEST: f32 = 1e-6;
/// Weight of the squares of the map beside the squared errors, per token.
const RIDGE: f64 = 1e-4;

/// Fits all maps by ridge regression to what a model attends to in `count` sequences, those from number `first` on.
///
/// # Errors
/// Candle or the engine refuses: a bug here.
pub fn fit(
    subject: &Subject,
    model: &Vars,
    layout: &Layout,
    seed: u64,
    (first, count): (u64, usize),
) -> std::result::Result<Vars, TrainError> {
    let config = subject.config();
    let (batch, samples) = batch(layout, seed, first, count)?;
    let states = Net::new(config, model, true)?.forward(&batch, None)?.normed;
    let attention = subject.record(layout, &samples)?;
    let mut vars = Vars::new();
    for (layer, states) in states.iter().enumerate() {
        let states = values(states)?;
        let mut maps = Vec::new();
        for head in 0..config.kv_heads {
            let mut sums = Normal::new(config.hidden + 1);
            for (seat, states) in states.chunks_exact(layout.length() * config.hidden).enumerate() {
                let most = attention.largest_to_come(Place { seat: seat as u32, layer, head });
                // Nothing comes after the last token.
                for (state, most) in states.chunks_exact(config.hidden).zip(most).take(layout.length() - 1) {
                    sums.add(state, f64::from(most.max(FAINTEST).ln()));
                }
            }
            maps.push(sums.solve());
        }
        for (part, tensor) in network(&maps)? {
            vars.insert(GateKind::Score.tensor(layer, part), Var::from_tensor(&tensor)?);
        }
    }
    Ok(vars)
}

/// Two units a head, `z` and `-z`.
fn network(maps: &[Vec<f64>]) -> Result<[(&'static str, Tensor); 4]> {
    let (heads, hidden) = (maps.len(), maps.first().map_or(0, |map| map.len() - 1));
    let (mut w1, mut b1) = (Vec::new(), Vec::new());
    let mut w2 = vec![0.0_f32; heads * 2 * heads];
    for (head, map) in maps.iter().enumerate() {
        for (unit, sign) in [(2 * head, 1.0), (2 * head + 1, -1.0)] {
            w1.extend(map[..hidden].iter().map(|weight| (sign * weight) as f32));
            b1.push((sign * map[hidden]) as f32);
            w2[head * 2 * heads + unit] = sign as f32;
        }
    }
    let device = &Device::Cpu;
    Ok([
        ("w1", Tensor::from_vec(w1, (2 * heads, hidden), device)?),
        ("b1", Tensor::from_vec(b1, 2 * heads, device)?),
        ("w2", Tensor::from_vec(w2, (heads, 2 * heads), device)?),
        ("b2", Tensor::from_vec(vec![0.0_f32; heads], heads, device)?),
    ])
}

/// Normal equations of a linear map with a constant, which stands last.
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

    fn add(&mut self, state: &[f32], label: f64) {
        let x: Vec<f64> = state.iter().map(|x| f64::from(*x)).chain([1.0]).collect();
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
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_linear_law_is_found_and_its_network_computes_it() {
        let mut normal = Normal::new(4);
        let point = |number: u32| [0, 1, 2].map(|k| ((number * (7 + k) + k) % 13) as f32 - 6.0);
        let law = |x: [f32; 3]| 2.0 * x[0] - x[1] + 0.5 * x[2] + 3.0;
        for number in 0..200 {
            normal.add(&point(number), f64::from(law(point(number))));
        }
        let map = normal.solve();
        for (got, wanted) in map.iter().zip([2.0, -1.0, 0.5, 3.0]) {
            assert!((got - wanted).abs() < 1e-2, "{map:?}");
        }
        let [w1, b1, w2, b2] = network(&[map, vec![0.0; 4]]).unwrap().map(|(_, tensor)| tensor);
        let x = Tensor::new(&point(17), &Device::Cpu).unwrap().reshape((1, 3)).unwrap();
        let inner = x.matmul(&w1.t().unwrap()).unwrap().broadcast_add(&b1).unwrap().silu().unwrap();
        let out = values(&inner.matmul(&w2.t().unwrap()).unwrap().broadcast_add(&b2).unwrap()).unwrap();
        assert!((out[0] - law(point(17))).abs() < 0.1 && out[1].abs() < 1e-6, "{out:?}");
    }
}
