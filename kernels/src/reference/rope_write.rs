//! Queries and keys get their place in the sequence; keys and values go to the cache.

use super::rms_norm;

/// One launch over rows of `[heads | kv_heads | kv_heads]` heads.
#[derive(Clone, Copy, Debug)]
pub struct RopeWrite<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Added to every row, if there is one.
    pub bias: Option<&'a [f32]>,
    /// Weights of the norm of each query head, and of each key head.
    pub norms: Option<(&'a [f32], &'a [f32])>,
    /// Keeps norms finite.
    pub epsilon: f32,
    /// Cosines `[position, head_dim / 2]`.
    pub cos: &'a [f32],
    /// Sines, laid out as the cosines.
    pub sin: &'a [f32],
    /// Position of each row in its sequence.
    pub positions: &'a [i32],
    /// Slot of its sequence in which it lies.
    pub slots: &'a [i32],
    /// Row of the block table of each row's sequence; below zero: the row is left alone.
    pub owners: &'a [i32],
    /// Block numbers `[row, table_width]`.
    pub tables: &'a [i32],
    /// Entries of a row.
    pub table_width: usize,
    /// log2 of the tokens per block.
    pub block_shift: u32,
}

impl RopeWrite<'_> {
    /// Rotates queries in place and writes keys and values `[slot, kv head, dim]`. Arithmetic in f64.
    ///
    /// # Panics
    /// If the arrays do not fit together.
    pub fn run(&self, qkv: &mut [f32], keys: &mut [f32], values: &mut [f32]) {
        let all = self.heads + 2 * self.kv_heads;
        let width = qkv.len() / self.owners.len();
        let dim = width / all;
        for (row, qkv) in qkv.chunks_exact_mut(width).enumerate() {
            if self.owners[row] < 0 {
                continue;
            }
            let slot = self.slot(row);
            for (head, numbers) in qkv.chunks_exact_mut(dim).enumerate() {
                let done = self.head(row, head, numbers);
                let kv_head = |first: usize| (slot * self.kv_heads + head - first) * dim;
                if head < self.heads {
                    numbers.copy_from_slice(&done);
                } else if head < self.heads + self.kv_heads {
                    keys[kv_head(self.heads)..][..dim].copy_from_slice(&done);
                } else {
                    values[kv_head(self.heads + self.kv_heads)..][..dim].copy_from_slice(&done);
                }
            }
        }
    }

    fn slot(&self, row: usize) -> usize {
        let slot = self.slots[row] as usize;
        let block = self.tables[self.owners[row] as usize * self.table_width + (slot >> self.block_shift)];
        ((block as usize) << self.block_shift) + slot % (1 << self.block_shift)
    }

    fn head(&self, row: usize, head: usize, numbers: &[f32]) -> Vec<f32> {
        let dim = numbers.len();
        let bias = |i: usize| self.bias.map_or(0.0, |bias| bias[head * dim + i]);
        let mut numbers: Vec<f32> = numbers.iter().enumerate().map(|(i, x)| x + bias(i)).collect();
        if head >= self.heads + self.kv_heads {
            return numbers;
        }
        if let Some((query, key)) = self.norms {
            numbers = rms_norm(&numbers, if head < self.heads { query } else { key }, self.epsilon);
        }
        let half = dim / 2;
        let at = self.positions[row] as usize * half;
        for i in 0..half {
            let (cos, sin) = (f64::from(self.cos[at + i]), f64::from(self.sin[at + i]));
            let (low, high) = (f64::from(numbers[i]), f64::from(numbers[i + half]));
            numbers[i] = (low * cos - high * sin) as f32;
            numbers[i + half] = (high * cos + low * sin) as f32;
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    /// One query head and one KV head of width 2; position 1 turns by a right angle.
    const TURN: RopeWrite = RopeWrite {
        heads: 1,
        kv_heads: 1,
        bias: None,
        norms: None,
        epsilon: 0.0,
        cos: &[1.0, 0.0],
        sin: &[0.0, 1.0],
        positions: &[1, 0, 1],
        slots: &[1, 0, 1],
        owners: &[1, 0, -1],
        tables: &[2, 0, 7, 1],
        table_width: 2,
        block_shift: 0,
    };

    #[test]
    fn pairs_turn_and_go_to_their_slot() {
        let mut qkv: Vec<f32> = (1..=18_u8).map(f32::from).collect();
        let (mut keys, mut values) = ([0.0; 6], [0.0; 6]);
        TURN.run(&mut qkv, &mut keys, &mut values);
        // The first row turns, the second does not, the third has no owner. Keys in the rows stay as they were.
        assert_eq!(qkv[..8], [-2.0, 1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(qkv[12..], [13.0, 14.0, 15.0, 16.0, 17.0, 18.0]);
        assert_eq!(keys, [0.0, 0.0, -4.0, 3.0, 9.0, 10.0]);
        assert_eq!(values, [0.0, 0.0, 5.0, 6.0, 11.0, 12.0]);
    }

    #[test]
    fn bias_comes_before_the_norm_and_values_have_none() {
        let mut qkv = [2.0, 2.0, 0.0, 0.0, 1.0, 1.0];
        let (mut keys, mut values) = ([0.0; 2], [0.0; 2]);
        let norms = Some((&[1.0, 2.0][..], &[3.0, 1.0][..]));
        let bias = Some(&[1.0, -5.0, 4.0, 4.0, 7.0, 8.0][..]);
        RopeWrite { bias, norms, positions: &[0], slots: &[0], owners: &[0], tables: &[0], table_width: 1, ..TURN }
            .run(&mut qkv, &mut keys, &mut values);
        assert_eq!((qkv[0], qkv[1]), (1.0, -2.0));
        assert_eq!((keys, values), ([3.0, 1.0], [8.0, 9.0]));
    }

    #[test]
    fn blocks_hold_powers_of_two() {
        let rows = RopeWrite { slots: &[5], owners: &[0], tables: &[9, 3, 4], table_width: 3, block_shift: 1, ..TURN };
        assert_eq!(rows.slot(0), 9);
        assert_eq!(RopeWrite { slots: &[2], ..rows }.slot(0), 6);
    }
}
