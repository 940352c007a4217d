//! Scores of the policies as their papers state them, over explicit sets in f64. Nothing is shared with the engine.

use std::collections::BTreeMap;

use overbook_engine::config::Config;
use overbook_sim::counter::{draw, mix};
use overbook_sim::kv::retention::RetentionPolicy as P;
use overbook_sim::kv::retention::policies::{ExpectedAttention, Pooling, RKv, SnapKv};

use super::oracle::{Layer, Set, dot, rotated, softmax, weights};

type Scores = BTreeMap<u32, f64>;

/// Where the scores are asked for.
pub(crate) struct At<'a> {
    pub(crate) config: &'a Config,
    pub(crate) policy: P,
    pub(crate) layer: &'a Layer,
    pub(crate) index: usize,
    pub(crate) head: usize,
    /// Position computed last.
    pub(crate) now: u32,
    pub(crate) protected: (u32, u32),
    pub(crate) seed: u64,
    /// For the policy that knows it: attention that a position gets from queries to come.
    pub(crate) future: &'a dyn Fn(u32) -> f64,
}

impl At<'_> {
    fn set(&self) -> &Set {
        &self.layer.sets[self.head]
    }

    fn group(&self) -> usize {
        self.config.heads / self.config.kv_heads
    }

    pub(crate) fn may_go(&self, position: u32) -> bool {
        let (first, latest) = self.protected;
        position >= first && position + latest <= self.now
    }

    /// The score of every token.
    pub(crate) fn scores(&self) -> Scores {
        let each = |score: &dyn Fn(u32, &super::oracle::Token) -> f64| -> Scores {
            self.set().iter().map(|(at, token)| (*at, score(*at, token))).collect()
        };
        let key = mix(mix(self.seed, self.index as u64), self.head as u64);
        match self.policy {
            P::Full => each(&|_, _| f64::INFINITY),
            P::Random => each(&|at, _| (draw(key, u64::from(at)) >> 40) as f64),
            P::Window | P::StreamingLlm(_) => each(&|at, _| f64::from(at)),
            P::H2o(_) => each(&|_, token| token.heard),
            P::Tova => self.tova(),
            P::SnapKv(it) => self.snap_kv(it),
            P::KeyDiff => self.key_diff(),
            P::Knorm(it) if self.index < it.skip_layers as usize => each(&|at, _| f64::from(at)),
            P::Knorm(_) => each(&|_, token| -dot(&token.key, &token.key).sqrt()),
            P::RKv(it) => self.r_kv(it),
            P::ExpectedAttention(it) => self.expected(it),
            P::KvZap(_) => each(&|_, token| token.gate),
            P::TrimKv(_) => each(&|at, token| f64::from(self.now + 1 - at) * -(1.0 + (-token.gate).exp()).ln()),
            P::Oracle => each(&|at, _| (self.future)(at)),
        }
    }

    fn tova(&self) -> Scores {
        let mut mean = Scores::new();
        for head in 0..self.config.heads {
            let set = &self.layer.sets[head / self.group()];
            for (at, weight) in weights(set, &self.layer.queries[self.now as usize][head], self.now) {
                *mean.entry(at).or_insert(0.0) += weight / self.config.heads as f64;
            }
        }
        mean
    }

    fn window(&self, window: u32) -> std::ops::RangeInclusive<u32> {
        (self.now + 1).saturating_sub(window)..=self.now
    }

    fn snap_kv(&self, it: SnapKv) -> Scores {
        let free: Vec<u32> = self.set().keys().copied().filter(|at| self.may_go(*at)).collect();
        let mut scores: Scores = self.set().keys().map(|at| (*at, 0.0)).collect();
        for member in 0..self.group() {
            let window = self.window(it.window);
            let count = f64::from(window.end() - window.start() + 1);
            let mut mean: Scores = free.iter().map(|at| (*at, 0.0)).collect();
            for query in window {
                let query_row = &self.layer.queries[query as usize][self.head * self.group() + member];
                for (at, weight) in weights(self.set(), query_row, query) {
                    if let Some(mean) = mean.get_mut(&at) {
                        *mean += weight / count;
                    }
                }
            }
            for (at, score) in pooled(&free, &mean, it.pool, it.pooling) {
                *scores.get_mut(&at).expect("kept") += score / self.group() as f64;
            }
        }
        scores
    }

    fn key_diff(&self) -> Scores {
        let unit = |key: &[f64]| {
            let norm = dot(key, key).sqrt();
            key.iter().map(|value| value / norm).collect::<Vec<_>>()
        };
        let mut mean = vec![0.0; self.config.head_dim];
        for token in self.set().values() {
            let count = self.set().len() as f64;
            mean.iter_mut().zip(unit(&token.key)).for_each(|(mean, value)| *mean += value / count);
        }
        let anchor = unit(&mean);
        self.set().iter().map(|(at, token)| (*at, -dot(&unit(&token.key), &anchor))).collect()
    }

    fn r_kv(&self, it: RKv) -> Scores {
        let free: Vec<u32> = self.set().keys().copied().filter(|at| self.may_go(*at)).collect();
        let window = self.window(it.window);
        let count = f64::from(window.end() - window.start() + 1);
        let mut attention: Scores = free.iter().map(|at| (*at, 0.0)).collect();
        for query in window {
            let logit = |at: u32| {
                let members = (0..self.group()).map(|member| {
                    let query = &self.layer.queries[query as usize][self.head * self.group() + member];
                    dot(query, &self.set()[&at].key) / (query.len() as f64).sqrt()
                });
                members.fold(f64::NEG_INFINITY, f64::max)
            };
            let seen = free.iter().filter(|at| **at <= query).map(|at| (*at, logit(*at))).collect();
            for (at, weight) in softmax(&seen) {
                *attention.get_mut(&at).expect("free") += weight / count;
            }
        }
        let attention = pooled(&free, &attention, it.pool, Pooling::Max);
        let cosine = |a: u32, b: u32| {
            let (a, b) = (&self.set()[&a].key, &self.set()[&b].key);
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let mut like: Scores = self.set().keys().map(|at| (*at, 0.0)).collect();
        for row in self.set().keys().copied() {
            // The engine holds the threshold in f32.
            let alike = f64::from(it.alike as f32);
            let latest = self.set().keys().copied().filter(|at| *at != row && cosine(row, *at) > alike).max();
            for (at, sum) in &mut like {
                if *at != row && Some(*at) != latest {
                    *sum += cosine(row, *at) / self.set().len() as f64;
                }
            }
        }
        let redundancy = softmax(&like);
        let score = |at: u32| it.lambda * attention.get(&at).unwrap_or(&0.0) - (1.0 - it.lambda) * redundancy[&at];
        self.set().keys().map(|at| (*at, score(*at))).collect()
    }

    fn expected(&self, it: ExpectedAttention) -> Scores {
        let dim = self.config.head_dim;
        let mut scores: Scores = self.set().keys().map(|at| (*at, 0.0)).collect();
        // The mean rotation, column by column, over the positions to come.
        let mut rotation = vec![vec![0.0; dim]; dim];
        for (column, rotation) in rotation.iter_mut().enumerate() {
            let unit: Vec<f64> = (0..dim).map(|i| f64::from(u8::from(i == column))).collect();
            for ahead in 1..=it.future {
                let turned = rotated(self.config, &unit, f64::from(self.now + ahead));
                rotation.iter_mut().zip(turned).for_each(|(sum, value)| *sum += value / f64::from(it.future));
            }
        }
        let rotate = |x: &[f64]| -> Vec<f64> {
            (0..dim).map(|row| (0..dim).map(|column| rotation[column][row] * x[column]).sum()).collect()
        };
        for member in 0..self.group() {
            let queries: Vec<Vec<f64>> = self.layer.raw[it.sinks as usize..]
                .iter()
                .map(|heads| rotate(&heads[self.head * self.group() + member]))
                .collect();
            let count = queries.len() as f64;
            let mean: Vec<f64> = (0..dim).map(|i| queries.iter().map(|query| query[i]).sum::<f64>() / count).collect();
            let logits = self.set().iter().filter(|(at, _)| **at >= it.sinks).map(|(at, token)| {
                // kᵀΣk is the variance of the products of the key with the queries.
                let centre = dot(&mean, &token.key);
                let spread = queries.iter().map(|query| (dot(query, &token.key) - centre).powi(2)).sum::<f64>() / count;
                (*at, centre / (dim as f64).sqrt() + spread / (2 * dim) as f64)
            });
            for (at, weight) in softmax(&logits.collect()) {
                *scores.get_mut(&at).expect("kept") += weight / self.group() as f64;
            }
        }
        let norm = |at: &u32| dot(&self.set()[at].value, &self.set()[at].value).sqrt();
        scores.iter().map(|(at, score)| (*at, score * norm(at))).collect()
    }
}

/// Pools over the neighbours of each token in `order`.
fn pooled(order: &[u32], scores: &Scores, width: u32, pooling: Pooling) -> Scores {
    let half = i64::from(width / 2);
    let pool = |at: usize| {
        let around = (at as i64 - half..=at as i64 + half).filter_map(|i| order.get(usize::try_from(i).ok()?));
        let around: Vec<f64> = around.map(|at| scores[at]).collect();
        match pooling {
            Pooling::Max => around.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Pooling::Mean => around.iter().sum::<f64>() / f64::from(width),
        }
    };
    order.iter().enumerate().map(|(at, position)| (*position, pool(at))).collect()
}
