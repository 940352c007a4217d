//! What retention does after attention in a layer: takes in new tokens, scores those in slots, and throws some away.

use std::ops::Range;

use fearless_simd::Level;
use rayon::prelude::*;

use super::attention::{Heads, Query, products};
use super::cache;
use super::retained::HeadState;
use crate::executor::cut;
use crate::retention::{Head, Place, Retention, Token};

/// What a layer has computed in a step, by row.
#[derive(Clone, Copy, Default)]
pub(super) struct Rows<'a> {
    /// Queries after rotation, then keys and values.
    pub(super) qkv: &'a [f32],
    /// Width of a row of it.
    pub(super) width: usize,
    /// Queries of a row.
    pub(super) query_width: usize,
    /// Queries before rotation, `[row, heads, dim]`; empty if they are not needed.
    pub(super) unrotated: &'a [f32],
    /// What the learned network gives, `[row, kv head]`; empty if there is none.
    pub(super) gates: &'a [f32],
}

impl<'a> Rows<'a> {
    /// Queries of a row after rotation.
    pub(super) fn queries(&self, row: usize) -> &'a [f32] {
        &self.qkv[row * self.width..][..self.query_width]
    }
}

/// One head of one sequence in a layer.
pub(super) struct Job<'a> {
    pub(super) place: Place,
    pub(super) table: &'a [u32],
    /// The latest queries of the sequence.
    pub(super) queries: &'a [f32],
    pub(super) state: &'a mut HeadState,
    /// Rows of the new tokens.
    pub(super) rows: Range<usize>,
    /// Position of the first.
    pub(super) past: u32,
    /// Position computed last.
    pub(super) now: u32,
    /// Slots that stay, if some go.
    pub(super) cut: Option<u32>,
    /// Tokens that never go.
    pub(super) protected: (u32, u32),
    pub(super) scores: Vec<f32>,
}

/// Memory of a thread.
#[derive(Default)]
struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    products: Vec<f32>,
    weights: Vec<f32>,
}

/// What is the same for all heads of a layer.
struct Layer<'a> {
    level: Level,
    retention: &'a Retention,
    heads: Heads,
    cache: &'a cache::Layer,
    rows: &'a Rows<'a>,
}

/// Follows a step in all heads of a layer; those of a sequence stand together.
pub(super) fn run(
    level: Level,
    retention: &Retention,
    heads: Heads,
    cache: &mut cache::Layer,
    rows: &Rows<'_>,
    jobs: &mut [Job<'_>],
) {
    let layer = Layer { level, retention, heads, cache, rows };
    jobs.par_iter_mut().for_each_init(Scratch::default, |scratch, job| {
        layer.take_in(job, scratch);
        layer.score(job, scratch);
    });
    if retention.policy().joint() {
        jobs.chunks_exact_mut(heads.kv).for_each(average);
    }
    for job in jobs {
        let Some(budget) = job.cut else { continue };
        let Job { place, state, scores, now, protected, .. } = job;
        let HeadState { positions, notes, .. } = &mut **state;
        let protects = |position| protects(*protected, *now, position);
        for change in cut(scores, positions, budget, protects) {
            let (from, to) = (change.from as usize, change.to as usize);
            positions[to] = positions[from];
            if !notes.is_empty() {
                notes[to] = notes[from];
            }
            cache.copy(job.table, place.head, from, to);
        }
        positions.truncate(budget as usize);
        notes.truncate(budget as usize);
    }
}

/// Whether a token never goes.
fn protects((first, latest): (u32, u32), now: u32, position: u32) -> bool {
    position < first || u64::from(position) + u64::from(latest) > u64::from(now)
}

/// Gives all heads of a sequence the mean of their scores. They keep the same tokens, in the same slots.
fn average(jobs: &mut [Job<'_>]) {
    let count = jobs.len() as f32;
    let Some((first, others)) = jobs.split_first_mut() else { return };
    for other in &*others {
        first.scores.iter_mut().zip(&other.scores).for_each(|(sum, score)| *sum += score);
    }
    for sum in &mut first.scores {
        *sum /= count;
    }
    for other in others {
        other.scores.copy_from_slice(&first.scores);
    }
}

impl Layer<'_> {
    /// Takes in the new tokens of a head.
    fn take_in(&self, job: &mut Job<'_>, scratch: &mut Scratch) {
        let (policy, needed) = (self.retention.policy(), self.retention.needed());
        let Job { place, table, state, rows, past, .. } = job;
        let first = state.positions.len();
        state.positions.extend(*past..*past + rows.len() as u32);
        if policy.wants().notes {
            scratch.keys.clear();
            self.cache.keys_of(table, place.head, first..first + rows.len(), &mut scratch.keys);
            let keys = scratch.keys.chunks_exact(self.heads.dim);
            state.notes.extend(rows.clone().zip(*past..).zip(keys).map(|((row, position), key)| {
                let gate = self.rows.gates.get(row * self.heads.kv + place.head).copied().unwrap_or(0.0);
                policy.note(&Token { position, key, gate })
            }));
        }
        if needed.attention == u32::MAX {
            for ((row, position), context) in rows.clone().zip(*past..).zip(first + 1..) {
                let query = Query { table, context, position: position as usize };
                self.weigh(*place, query, self.of_group(self.rows.queries(row), place.head), scratch);
                let noted = state.notes.len().min(context);
                policy.attended(*place, position, &scratch.weights, &mut state.notes[..noted]);
            }
        }
        if needed.queries {
            for (row, position) in rows.clone().zip(*past..) {
                let queries = &self.rows.unrotated[row * self.rows.query_width..][..self.rows.query_width];
                policy.asked(position, self.of_group(queries, place.head), &mut state.memory);
            }
        }
    }

    /// The queries of a head's group, of those of a row.
    fn of_group<'a>(&self, queries: &'a [f32], head: usize) -> &'a [f32] {
        let width = self.heads.group * self.heads.dim;
        &queries[head * width..][..width]
    }

    /// Attention weights of a query: the mean over the group.
    fn weigh(&self, place: Place, query: Query<'_>, queries: &[f32], scratch: &mut Scratch) {
        let Scratch { products: all, weights, .. } = scratch;
        all.clear();
        products(self.level, self.heads, self.cache, (query, place.head), queries, true, all);
        let (mean, others) = all.split_at_mut(query.context);
        for other in others.chunks_exact(query.context) {
            mean.iter_mut().zip(other).for_each(|(sum, weight)| *sum += weight);
        }
        weights.clear();
        weights.extend(mean.iter().map(|sum| sum / self.heads.group as f32));
    }

    /// Scores the tokens of a head, if some go.
    fn score(&self, job: &mut Job<'_>, scratch: &mut Scratch) {
        if job.cut.is_none() {
            return;
        }
        let (policy, slots) = (self.retention.policy(), job.state.positions.len());
        let wants = policy.wants();
        scratch.keys.clear();
        scratch.values.clear();
        scratch.products.clear();
        if wants.keys {
            self.cache.keys_of(job.table, job.place.head, 0..slots, &mut scratch.keys);
        }
        if wants.values {
            self.cache.values_of(job.table, job.place.head, 0..slots, &mut scratch.values);
        }
        self.look_back(job, &mut scratch.products);
        job.scores.resize(slots, 0.0);
        let head = Head {
            place: job.place,
            now: job.now,
            protected: job.protected,
            dim: self.heads.dim,
            group: self.heads.group,
            positions: &job.state.positions,
            notes: &job.state.notes,
            keys: &scratch.keys,
            values: &scratch.values,
            products: &scratch.products,
            memory: &job.state.memory,
        };
        policy.scores(&head, &mut job.scores);
    }

    /// Products of the latest queries with the keys of all slots, where the policy looks at such.
    fn look_back(&self, job: &Job<'_>, out: &mut Vec<f32>) {
        let window = self.retention.needed().attention;
        if window == 0 || window == u32::MAX {
            return;
        }
        let (positions, width) = (&job.state.positions, self.heads.group * self.heads.kv * self.heads.dim);
        for position in (job.now + 1).saturating_sub(window)..=job.now {
            let queries = &job.queries[(position % window) as usize * width..][..width];
            let query = Query { table: job.table, context: positions.len(), position: position as usize };
            let start = out.len();
            let queries = self.of_group(queries, job.place.head);
            products(self.level, self.heads, self.cache, (query, job.place.head), queries, false, out);
            for row in out[start..].chunks_exact_mut(positions.len()) {
                let later = row.iter_mut().zip(positions).filter(|(_, at)| **at > position);
                later.for_each(|(product, _)| *product = f32::NEG_INFINITY);
            }
        }
    }
}
