//! Policies that go by the keys.

use super::attention::Rows;
use super::{Policy, kept};
use crate::recall::reference::{LayerCache, Step, dot, softmax};

/// Small keys stay: in many models they get most attention.
pub(super) struct Knorm {
    pub(super) head: usize,
}

impl Policy for Knorm {
    fn see(&mut self, _: &Step<'_>, _: &LayerCache) {}

    fn scores(&mut self, step: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        let key = |at: &usize| &cache.keys[self.head][at * step.dim..(at + 1) * step.dim];
        kept(cache, self.head).iter().map(|at| -dot(key(at), key(at)).sqrt()).collect()
    }
}

/// Keys unlike the mean of the normalised keys that are kept.
pub(super) struct KeyDiff {
    pub(super) head: usize,
}

impl Policy for KeyDiff {
    fn see(&mut self, _: &Step<'_>, _: &LayerCache) {}

    fn scores(&mut self, step: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        let dim = step.dim;
        let normalised = |at: &usize| normalised(&cache.keys[self.head][at * dim..(at + 1) * dim]);
        let keys: Vec<Vec<f32>> = kept(cache, self.head).iter().map(normalised).collect();
        let mut mean = vec![0.0; dim];
        for key in &keys {
            mean.iter_mut().zip(key).for_each(|(mean, key)| *mean += key / keys.len() as f32);
        }
        let mean = self::normalised(&mean);
        keys.iter().map(|key| -dot(key, &mean)).collect()
    }
}

fn normalised(key: &[f32]) -> Vec<f32> {
    // A key of zeros has no direction and is unlike all.
    let norm = dot(key, key).sqrt().max(f32::MIN_POSITIVE);
    key.iter().map(|x| x / norm).collect()
}

/// Attention of the last queries, less likeness to other keys; the latest key that is alike is not held against a key.
pub(super) struct Rkv {
    head: usize,
    pool: usize,
    lambda: f32,
    rows: Rows,
    /// Cosines of each key with those that were kept when it came; `[position][position before]`.
    cosines: Vec<Vec<f32>>,
    directions: Vec<Vec<f32>>,
}

/// Cosine from which on keys are alike.
const ALIKE: f32 = 0.5;

impl Rkv {
    pub(super) fn new(head: usize, window: usize, pool: usize, lambda: f32) -> Rkv {
        Rkv { head, pool, lambda, rows: Rows::new(window), cosines: Vec::new(), directions: Vec::new() }
    }
}

impl Policy for Rkv {
    fn see(&mut self, step: &Step<'_>, cache: &LayerCache) {
        self.rows.see(step, cache, self.head);
        let at = step.position;
        let direction = normalised(&cache.keys[self.head][at * step.dim..(at + 1) * step.dim]);
        let mut row = vec![0.0; at];
        for before in kept(cache, self.head).range(..at) {
            row[*before] = dot(&direction, &self.directions[*before]);
        }
        self.directions.push(direction);
        self.cosines.push(row);
    }

    fn scores(&mut self, _: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        let attention = self.rows.pooled(cache, self.head, self.pool);
        let at: Vec<usize> = kept(cache, self.head).iter().copied().collect();
        let cosine = |a: usize, b: usize| self.cosines[at[a.max(b)]][at[a.min(b)]];
        let mut alike = vec![0.0; at.len()];
        for row in 0..at.len() {
            let mut columns: Vec<f32> =
                (0..at.len()).map(|column| if column == row { 0.0 } else { cosine(row, column) }).collect();
            if let Some(latest) = columns.iter().rposition(|cosine| *cosine > ALIKE) {
                columns[latest] = 0.0;
            }
            alike.iter_mut().zip(&columns).for_each(|(alike, cosine)| *alike += cosine / at.len() as f32);
        }
        softmax(&mut alike);
        let score = |(attention, alike): (f32, f32)| self.lambda * attention - (1.0 - self.lambda) * alike;
        attention.into_iter().zip(alike).map(score).collect()
    }
}
