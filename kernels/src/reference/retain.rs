//! What is noted of tokens, and which of them lose their slots.

use std::cmp::Ordering;

use crate::cuda::{Part, Score};

/// The slots of a layer, and block tables that say which sequence has which.
#[derive(Clone, Debug)]
pub struct Kept<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// log2 of the tokens per block.
    pub block_shift: u32,
    /// Block numbers `[row, table_width]`.
    pub tables: &'a [i32],
    /// Entries of a row.
    pub table_width: usize,
    /// Position of the token in each slot, `[slot, kv head]`.
    pub positions: Vec<i32>,
    /// Its note, `[slot, kv head]`.
    pub notes: Vec<f32>,
    /// Keys `[slot, kv head, dim]`.
    pub keys: Vec<f32>,
    /// Values, laid out as the keys.
    pub values: Vec<f32>,
}

/// The second layer of a network, behind `u = w1 x`: `w2 · silu(u + b1) + b2`.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// `[width]`.
    pub b1: &'a [f32],
    /// `[kv head, width]`.
    pub w2: &'a [f32],
    /// `[kv head]`.
    pub b2: &'a [f32],
}

impl Network<'_> {
    /// What it gives each head.
    pub fn run(&self, u: &[f32]) -> Vec<f32> {
        let inner = u.iter().zip(self.b1).map(|(u, b)| f64::from(*u) + f64::from(*b));
        let inner: Vec<f64> = inner.map(|u| u / (1.0 + (-u).exp())).collect();
        let rows = self.w2.chunks_exact(inner.len()).zip(self.b2);
        let head = |(row, b): (&[f32], &f32)| dot(&inner, row) + f64::from(*b);
        rows.map(|row| head(row) as f32).collect()
    }
}

/// The logarithm of the logistic function.
pub fn log_sigmoid(z: f32) -> f32 {
    let z = f64::from(z);
    (z.min(0.0) - (-z.abs()).exp().ln_1p()) as f32
}

fn dot(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum()
}

fn wide(row: &[f32]) -> Vec<f64> {
    row.iter().map(|x| f64::from(*x)).collect()
}

impl Kept<'_> {
    /// Where a slot of a sequence has its position and note.
    pub fn at(&self, owner: i32, slot: usize, head: usize) -> usize {
        let block = self.tables[owner as usize * self.table_width + (slot >> self.block_shift)] as usize;
        ((block << self.block_shift) + slot % (1 << self.block_shift)) * self.kv_heads + head
    }

    fn key(&self, at: usize) -> &[f32] {
        &self.keys[at * self.head_dim..][..self.head_dim]
    }

    /// Notes a token: its position, and a note for each head.
    pub fn note(&mut self, owner: i32, slot: usize, position: i32, note: impl Fn(&Self, usize, usize) -> f32) {
        for head in 0..self.kv_heads {
            let at = self.at(owner, slot, head);
            self.positions[at] = position;
            self.notes[at] = note(self, head, at);
        }
    }

    /// The negative length of a key.
    pub fn norm(&self, at: usize) -> f32 {
        let key = wide(self.key(at));
        -key.iter().map(|x| x * x).sum::<f64>().sqrt() as f32
    }

    /// Attention weights of a row's queries `[head, dim]` over the first `count` slots: `[kv head, slot]`, the mean over the group.
    pub fn weights(&self, owner: i32, count: usize, queries: &[f32], scale: f32) -> Vec<f64> {
        let group = self.heads / self.kv_heads;
        let mut all = vec![0.0; self.kv_heads * count];
        for (head, query) in queries.chunks_exact(self.head_dim).enumerate() {
            let query = wide(query);
            let product = |slot| dot(&query, self.key(self.at(owner, slot, head / group))) * f64::from(scale);
            let products: Vec<f64> = (0..count).map(product).collect();
            let most = products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = products.iter().map(|product| (product - most).exp()).collect();
            let sum: f64 = weights.iter().sum::<f64>() * group as f64;
            let to = all[head / group * count..].iter_mut();
            to.zip(weights).for_each(|(to, weight)| *to += weight / sum);
        }
        all
    }

    /// Adds to notes what the rows of a part attend to them; with `latest` they become what the last row does, the mean over all heads.
    /// `qkv`: rows of `[heads | kv_heads | kv_heads]` heads.
    pub fn weigh(&mut self, part: &Part, qkv: &[f32], scale: f32, latest: bool) {
        let (query, width) = (self.heads * self.head_dim, (self.heads + 2 * self.kv_heads) * self.head_dim);
        let first = if latest { part.rows - 1 } else { 0 };
        for row in first..part.rows {
            let count = (part.kept + row + 1) as usize;
            let queries = &qkv[(part.first_row + row) as usize * width..][..query];
            let weights = self.weights(part.owner, count, queries, scale);
            for slot in 0..count {
                let of = |head: usize| weights[head * count + slot];
                let mean = (0..self.kv_heads).map(of).sum::<f64>() / self.kv_heads as f64;
                for head in 0..self.kv_heads {
                    let at = self.at(part.owner, slot, head);
                    self.notes[at] = if latest { mean as f32 } else { (f64::from(self.notes[at]) + of(head)) as f32 };
                }
            }
        }
    }

    /// Notes of a part become the negative cosine of the key and the mean of the normalised keys.
    pub fn score_keys(&mut self, part: &Part) {
        for head in 0..self.kv_heads {
            let slots: Vec<usize> = (0..part.slots()).map(|slot| self.at(part.owner, slot, head)).collect();
            let unit = |at: &usize| {
                let key = wide(self.key(*at));
                let norm = key.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::from(f32::MIN_POSITIVE));
                key.iter().map(|x| x / norm).collect::<Vec<_>>()
            };
            let units: Vec<Vec<f64>> = slots.iter().map(unit).collect();
            let mut sum = vec![0.0; self.head_dim];
            for unit in &units {
                sum.iter_mut().zip(unit).for_each(|(sum, x)| *sum += x);
            }
            let size = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
            for (at, unit) in slots.iter().zip(units) {
                self.notes[*at] = -(unit.iter().zip(&sum).map(|(a, b)| a * b).sum::<f64>() / size) as f32;
            }
        }
    }

    /// Brings all heads of a part back to its budget. The tokens with the lowest scores go, of equal scores the older; survivors beyond
    /// the budget take the slots of those that went, both in their order. Returns how many moved.
    pub fn cut(&mut self, part: &Part, kind: Score) -> usize {
        let (slots, budget) = (part.slots(), part.budget as usize);
        let mut moves = 0;
        for head in 0..self.kv_heads {
            let place = |slot: usize| self.at(part.owner, slot, head);
            let score = |slot: &usize| {
                let (at, position) = (place(*slot), self.positions[place(*slot)]);
                let score = match kind {
                    Score::Position => position as f32,
                    Score::Note => self.notes[at],
                    Score::Age => (part.now + 1 - position) as f32 * self.notes[at],
                };
                (score, position)
            };
            let less = |a: &usize, b: &usize| {
                let ((a, a_at), (b, b_at)) = (score(a), score(b));
                a.partial_cmp(&b).unwrap_or(Ordering::Equal).then(a_at.cmp(&b_at))
            };
            let mut order: Vec<usize> =
                (0..slots).filter(|slot| !part.protects(self.positions[place(*slot)])).collect();
            order.sort_by(less);
            let gone = &order[..slots - budget];
            let holes = (0..budget).filter(|slot| gone.contains(slot));
            let pairs: Vec<(usize, usize)> = holes.zip((budget..slots).filter(|slot| !gone.contains(slot))).collect();
            moves += pairs.len();
            for (to, from) in pairs {
                let (to, from, dim) = (self.at(part.owner, to, head), self.at(part.owner, from, head), self.head_dim);
                self.positions[to] = self.positions[from];
                self.notes[to] = self.notes[from];
                self.keys.copy_within(from * dim..(from + 1) * dim, to * dim);
                self.values.copy_within(from * dim..(from + 1) * dim, to * dim);
            }
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    /// One head of width 1, blocks of two slots: the sequence has block 1, then block 0.
    fn world(positions: Vec<i32>, notes: Vec<f32>) -> Kept<'static> {
        let keys = positions.iter().map(|at| *at as f32).collect::<Vec<_>>();
        let values = keys.iter().map(|key| -key).collect();
        let (heads, kv_heads, head_dim, block_shift, tables, table_width) = (1, 1, 1, 1, &[1, 0][..], 2);
        Kept { heads, kv_heads, head_dim, block_shift, tables, table_width, positions, notes, keys, values }
    }

    const PART: Part = Part { owner: 0, kept: 3, rows: 1, first_row: 0, budget: 3, now: 9, first: 0, latest: 0 };

    #[test]
    fn the_lowest_goes_and_what_lies_beyond_takes_its_slot() {
        // Slots 0 to 3 lie at 2, 3, 0, 1.
        let mut kept = world(vec![7, 9, 4, 5], vec![0.1, 0.3, 0.2, 0.0]);
        assert_eq!(kept.cut(&PART, Score::Note), 1);
        assert_eq!(kept.positions, [7, 9, 4, 9], "slot 1 had the lowest note, slot 3 lies beyond");
        assert_eq!((kept.keys[3], kept.values[3], kept.notes[3]), (9.0, -9.0, 0.3));
        let mut kept = world(vec![7, 9, 4, 5], vec![0.1, 0.3, 0.2, 0.0]);
        kept.cut(&Part { first: 5, ..PART }, Score::Position);
        assert_eq!(kept.positions, [7, 9, 4, 9], "the sink stays, and 5 is the oldest beside it");
        // Ages 3, 1, 6, 5.
        let mut kept = world(vec![7, 9, 4, 5], vec![-0.1, -0.9, -0.1, -0.1]);
        assert_eq!(kept.cut(&PART, Score::Age), 0, "the newest goes itself");
    }

    #[test]
    fn weights_and_cosines_by_hand() {
        let mut kept = world(vec![0, 1, 2, 3], vec![0.0; 4]);
        kept.keys = vec![0.0, 9.0, 0.0, 3.0_f32.ln()];
        // Two slots seen: weights 1/4 and 3/4.
        let part = Part { kept: 1, rows: 1, ..PART };
        kept.weigh(&part, &[1.0, 0.0, 0.0], 1.0, false);
        assert_eq!((kept.notes[2], kept.notes[3]), (0.25, 0.75));
        kept.weigh(&part, &[1.0, 0.0, 0.0], 1.0, true);
        assert_eq!(kept.notes, [0.0, 0.0, 0.25, 0.75], "set, not added");
        kept.keys = vec![-2.0, 9.0, 5.0, 1.0];
        kept.score_keys(&PART);
        assert_eq!(kept.notes, [1.0, -1.0, -1.0, -1.0]);
        assert_eq!((kept.norm(2), log_sigmoid(0.0)), (-5.0, -(2.0_f32.ln())));
        let network = Network { b1: &[1.0], w2: &[2.0], b2: &[0.5] };
        assert_eq!(network.run(&[-1.0]), [0.5]);
    }
}
