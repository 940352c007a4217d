//! Policies that go by attention, past or expected.

use std::collections::VecDeque;

use super::{Policy, kept};
use crate::recall::reference::{LayerCache, Step, dot, softmax};

/// The sum of all attention so far.
pub(super) struct H2o {
    head: usize,
    /// By position.
    sums: Vec<f32>,
}

impl H2o {
    pub(super) fn new(head: usize) -> H2o {
        H2o { head, sums: Vec::new() }
    }
}

impl Policy for H2o {
    fn see(&mut self, step: &Step<'_>, cache: &LayerCache) {
        self.sums.push(0.0);
        for (at, weight) in kept(cache, self.head).iter().zip(step.weights_of(self.head)) {
            self.sums[*at] += weight;
        }
    }

    fn scores(&mut self, _: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        kept(cache, self.head).iter().map(|at| self.sums[*at]).collect()
    }
}

/// The last row of attention. All heads of a layer keep the same tokens: each begins with none, and all have the same scores.
pub(super) struct Tova {
    pub(super) head: usize,
}

impl Policy for Tova {
    fn see(&mut self, _: &Step<'_>, _: &LayerCache) {}

    fn scores(&mut self, step: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        // Heads are cut one after the other. Those before this one have lost what this one is about to lose, so the rows of the step,
        // which stand for what was kept before, are as long as this head's set.
        let heads = step.weights.len();
        let mean = |at: usize| step.weights.iter().map(|row| row[at]).sum::<f32>() / heads as f32;
        (0..kept(cache, self.head).len()).map(mean).collect()
    }
}

/// The rows of attention of the last few queries, by position.
pub(super) struct Rows {
    window: usize,
    rows: VecDeque<Vec<(usize, f32)>>,
}

impl Rows {
    pub(super) fn new(window: usize) -> Rows {
        Rows { window, rows: VecDeque::new() }
    }

    pub(super) fn see(&mut self, step: &Step<'_>, cache: &LayerCache, head: usize) {
        let row = kept(cache, head).iter().copied().zip(step.weights_of(head)).collect();
        self.rows.push_back(row);
        if self.rows.len() > self.window {
            self.rows.pop_front();
        }
    }

    /// Mean weight of each kept position, then the largest of `pool` neighbouring slots.
    pub(super) fn pooled(&self, cache: &LayerCache, head: usize, pool: usize) -> Vec<f32> {
        let latest = kept(cache, head).last().map_or(0, |at| at + 1);
        let mut sums = vec![0.0; latest];
        for (at, weight) in self.rows.iter().flatten() {
            sums[*at] += weight / self.rows.len() as f32;
        }
        let means: Vec<f32> = kept(cache, head).iter().map(|at| sums[*at]).collect();
        let reach = pool / 2;
        let largest = |at: usize| means[at.saturating_sub(reach)..means.len().min(at + reach + 1)].iter().copied();
        (0..means.len()).map(|at| largest(at).fold(0.0, f32::max)).collect()
    }
}

pub(super) struct Snap {
    head: usize,
    pool: usize,
    rows: Rows,
}

impl Snap {
    pub(super) fn new(head: usize, window: usize, pool: usize) -> Snap {
        Snap { head, pool, rows: Rows::new(window) }
    }
}

impl Policy for Snap {
    fn see(&mut self, step: &Step<'_>, cache: &LayerCache) {
        self.rows.see(step, cache, self.head);
    }

    fn scores(&mut self, _: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        self.rows.pooled(cache, self.head, self.pool)
    }
}

/// Queries to come are taken as normally distributed, with mean and covariance of those so far before rotation, and turned by the mean
/// rotation of the next positions: `softmax(μ·k / √d + kᵀΣk / 2d) · ‖v‖`, mean over the group.
pub(super) struct Expected {
    head: usize,
    future: usize,
    /// Per query head of the group: the sum of queries and of their outer products.
    sums: Vec<(Vec<f32>, Vec<f32>)>,
    seen: f32,
}

impl Expected {
    pub(super) fn new(head: usize, future: usize) -> Expected {
        Expected { head, future, sums: Vec::new(), seen: 0.0 }
    }

    /// Mean cosine and sine of each pair over the positions to come.
    fn rotation(&self, step: &Step<'_>) -> Vec<(f32, f32)> {
        let mean = |frequency: &f64| {
            let angles = (1..=self.future).map(|ahead| (step.position + ahead) as f64 * frequency);
            let (sin, cos) = angles.fold((0.0, 0.0), |(sin, cos), angle| (sin + angle.sin(), cos + angle.cos()));
            ((cos / self.future as f64) as f32, (sin / self.future as f64) as f32)
        };
        step.frequencies.iter().map(mean).collect()
    }
}

impl Policy for Expected {
    fn see(&mut self, step: &Step<'_>, _: &LayerCache) {
        let dim = step.dim;
        self.seen += 1.0;
        self.sums.resize_with(step.group, || (vec![0.0; dim], vec![0.0; dim * dim]));
        let queries = step.queries.chunks_exact(dim).skip(self.head * step.group);
        for ((sum, outer), query) in self.sums.iter_mut().zip(queries) {
            for (row, (a, sum)) in query.iter().zip(sum).enumerate() {
                *sum += a;
                outer[row * dim..(row + 1) * dim].iter_mut().zip(query).for_each(|(outer, b)| *outer += a * b);
            }
        }
    }

    fn scores(&mut self, step: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        let (dim, half) = (step.dim, step.dim / 2);
        let rotation = self.rotation(step);
        // Turning the queries forward is turning the key back.
        let turned: Vec<Vec<f32>> = kept(cache, self.head)
            .iter()
            .map(|at| {
                let key = &cache.keys[self.head][at * dim..(at + 1) * dim];
                let first = (0..half).map(|pair| key[pair] * rotation[pair].0 + key[pair + half] * rotation[pair].1);
                let second = (0..half).map(|pair| key[pair + half] * rotation[pair].0 - key[pair] * rotation[pair].1);
                first.chain(second).collect()
            })
            .collect();
        let mut scores = vec![0.0; turned.len()];
        for (sum, outer) in &self.sums {
            let mean: Vec<f32> = sum.iter().map(|sum| sum / self.seen).collect();
            let logit = |key: &Vec<f32>| {
                let on_mean = dot(&mean, key);
                let squares: f32 = outer.chunks_exact(dim).zip(key).map(|(row, k)| k * dot(row, key)).sum();
                let variance = squares / self.seen - on_mean * on_mean;
                on_mean / (dim as f32).sqrt() + variance / (2.0 * dim as f32)
            };
            let mut weights: Vec<f32> = turned.iter().map(logit).collect();
            softmax(&mut weights);
            scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += weight / step.group as f32);
        }
        for (score, at) in scores.iter_mut().zip(kept(cache, self.head)) {
            let value = &cache.values[self.head][at * dim..(at + 1) * dim];
            *score *= dot(value, value).sqrt();
        }
        scores
    }
}
