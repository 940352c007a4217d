//! Attention of the new positions of a step, whatever its sequences compute: one position each, or chunks of prompts.

use super::paged_attention::{AttentionError, PagedDecode};

/// One launch over rows of `[heads | kv_heads | kv_heads]` heads, of which the queries are read.
#[derive(Clone, Copy, Debug)]
pub struct PagedChunks<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head `h` reads head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Tokens per block.
    pub block: usize,
    /// The rows.
    pub qkv: &'a [f32],
    /// Keys `[slot, kv head, dim]`.
    pub keys: &'a [f32],
    /// Values, laid out as the keys.
    pub values: &'a [f32],
    /// Block numbers `[row, table_width]`.
    pub tables: &'a [i32],
    /// Entries of a row.
    pub table_width: usize,
    /// Position of each row in its sequence; it attends to all up to itself.
    pub positions: &'a [i32],
    /// Row of the block table of each row's sequence; below zero: the row has none.
    pub owners: &'a [i32],
    /// Factor of the scores.
    pub scale: f32,
}

impl PagedChunks<'_> {
    /// The outputs `[row, head, dim]`; zeros for rows without a sequence. A chunk's row is a sequence of its own that decodes:
    /// what differs is only how often keys are read.
    pub fn run(&self) -> Result<Vec<f32>, AttentionError> {
        let width = (self.heads + 2 * self.kv_heads) * self.head_dim;
        let query = self.heads * self.head_dim;
        let live: Vec<usize> = (0..self.owners.len()).filter(|row| self.owners[*row] >= 0).collect();
        let table = |row: &usize| &self.tables[self.owners[*row] as usize * self.table_width..][..self.table_width];
        // Beyond a sequence's end tables may hold anything.
        let table: Vec<u32> = live.iter().flat_map(table).map(|block| *block as u32).collect();
        let queries: Vec<f32> = live.iter().flat_map(|row| &self.qkv[row * width..][..query]).copied().collect();
        let contexts: Vec<u32> = live.iter().map(|row| self.positions[*row] as u32 + 1).collect();
        let decode = PagedDecode {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            block: self.block,
            queries: &queries,
            keys: self.keys,
            values: self.values,
            table: &table,
            contexts: &contexts,
            scale: self.scale,
        };
        let mut out = vec![0.0; self.owners.len() * query];
        for (row, numbers) in live.iter().zip(decode.run()?.chunks_exact(query)) {
            out[row * query..][..query].copy_from_slice(numbers);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    #[test]
    fn rows_see_what_is_before_them() {
        // Queries of zero: the mean of all values up to the row's own. Blocks of two tokens, the second sequence in block 2.
        let rows = PagedChunks {
            heads: 2,
            kv_heads: 1,
            head_dim: 1,
            block: 2,
            qkv: &[0.0; 16],
            keys: &[0.0; 6],
            values: &[5.0, 7.0, 1.0, 3.0, 40.0, 50.0],
            tables: &[1, 0, 2, -1],
            table_width: 2,
            positions: &[0, 2, 99, 0],
            owners: &[0, 0, -1, 1],
            scale: 1.0,
        };
        assert_eq!(rows.run(), Ok(vec![1.0, 1.0, 3.0, 3.0, 0.0, 0.0, 40.0, 40.0]));
    }
}
