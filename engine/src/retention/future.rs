//! Attention to come: recorded while everything stays, known to the oracle when some must go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{Head, Place, TokenRetention};

/// Knows the future.
pub trait Foresight: std::fmt::Debug + Send + Sync {
    /// Attention that the queries after position `after` pay to the token at `position` while all tokens are kept: the mean over the group
    /// of query heads, the sum over queries.
    fn attention(&self, place: Place, position: u32, after: u32) -> f32;
}

/// The tokens that queries to come attend to most. Where nothing is known of a sequence its oldest tokens go.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) future: Arc<dyn Foresight>,
}

impl TokenRetention for Oracle {
    fn scores(&self, head: &Head<'_>, scores: &mut [f32]) {
        for (score, position) in scores.iter_mut().zip(head.positions) {
            *score = self.future.attention(head.place, *position, head.now);
        }
    }
}

/// Weights of the queries of each head, by position.
type Rows = BTreeMap<Place, Vec<Vec<f32>>>;

/// Keeps everything and writes down all attention weights: memory grows with the square of the length.
#[derive(Default, Debug)]
pub struct Recorder {
    rows: Mutex<Rows>,
}

impl TokenRetention for Recorder {
    fn attended(&self, place: Place, query: u32, weights: &[f32], _: &mut [f32]) {
        // A thread that panicked has ended the step, and its record with it.
        let Ok(mut rows) = self.rows.lock() else { return };
        let rows = rows.entry(place).or_default();
        // A seat that begins again has another sequence.
        rows.truncate(query as usize);
        rows.push(weights.to_vec());
    }

    fn scores(&self, _: &Head<'_>, scores: &mut [f32]) {
        scores.fill(f32::INFINITY);
    }
}

impl Recorder {
    /// What was recorded, and a recorder that is empty again.
    pub fn take(&self) -> AttentionRecord {
        let rows = self.rows.lock().map(|mut rows| std::mem::take(&mut *rows)).unwrap_or_default();
        let largest = rows.iter().map(|(place, rows)| (*place, later_largest(rows))).collect();
        AttentionRecord { sums: rows.into_iter().map(|(place, rows)| (place, later_sums(&rows))).collect(), largest }
    }
}

/// For each query and token: attention of this query and all later ones.
fn later_sums(rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut sum = vec![0.0; longest];
    let mut sums: Vec<Vec<f32>> = rows
        .iter()
        .rev()
        .map(|row| {
            sum.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight);
            sum.clone()
        })
        .collect();
    sums.reverse();
    sums
}

/// For each token: the most attention that a later query pays to it.
fn later_largest(rows: &[Vec<f32>]) -> Vec<f32> {
    let mut largest = vec![0.0_f32; rows.len()];
    for (query, row) in rows.iter().enumerate() {
        largest.iter_mut().zip(row).take(query).for_each(|(largest, weight)| *largest = largest.max(*weight));
    }
    largest
}

/// Attention of recorded sequences.
#[derive(Clone, Default, Debug)]
pub struct AttentionRecord {
    /// Attention that a token gets from a query and all later ones, `[query][token]`.
    sums: BTreeMap<Place, Vec<Vec<f32>>>,
    /// By token.
    largest: BTreeMap<Place, Vec<f32>>,
}

impl AttentionRecord {
    /// The most attention that a query after a token pays to it, by token: the mean over the group of query heads. Empty where nothing
    /// was recorded.
    pub fn largest_to_come(&self, place: Place) -> &[f32] {
        self.largest.get(&place).map_or(&[], Vec::as_slice)
    }
}

impl Foresight for AttentionRecord {
    fn attention(&self, place: Place, position: u32, after: u32) -> f32 {
        let later = self.sums.get(&place).and_then(|sums| sums.get(after as usize + 1));
        later.and_then(|sums| sums.get(position as usize)).copied().unwrap_or(0.0)
    }
}
