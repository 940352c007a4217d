//! Attention of one new token per sequence over a paged KV cache with grouped heads.

/// Why an attention problem is not well-formed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttentionError {
    /// Query heads do not share the KV heads evenly, or a size is zero.
    Heads,
    /// An array is shorter or longer than the sizes say.
    Length {
        /// Which array.
        array: &'static str,
        /// Its length.
        got: usize,
        /// What the sizes make.
        wanted: usize,
    },
    /// A sequence attends to nothing, or to more than its row of the block table holds.
    Context {
        /// Index of the sequence.
        sequence: usize,
    },
    /// A block that the cache does not have.
    Block {
        /// Index of the sequence.
        sequence: usize,
        /// The block's number.
        block: u32,
    },
}

impl std::fmt::Display for AttentionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AttentionError::Heads => f.write_str("heads do not divide evenly, or a size is zero"),
            AttentionError::Length { array, got, wanted } => write!(f, "{array} has {got} elements, not {wanted}"),
            AttentionError::Context { sequence } => {
                write!(f, "sequence {sequence}: context empty or beyond its blocks")
            }
            AttentionError::Block { sequence, block } => write!(f, "sequence {sequence}: no block {block}"),
        }
    }
}

impl std::error::Error for AttentionError {}

/// One launch. Every sequence has one query token and attends to the first `contexts[i]` slots of its blocks.
#[derive(Clone, Copy, Debug)]
pub struct PagedDecode<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head `h` reads head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Slots per block.
    pub block: usize,
    /// Queries `[sequence, head, dim]`.
    pub queries: &'a [f32],
    /// Keys `[block, slot, kv head, dim]`.
    pub keys: &'a [f32],
    /// Values, laid out as the keys.
    pub values: &'a [f32],
    /// Block numbers `[sequence, position / block]`, rows of equal length; entries beyond the context are not read.
    pub table: &'a [u32],
    /// Tokens attended by each sequence, the current one included.
    pub contexts: &'a [u32],
    /// Factor of the scores, usually `1 / √head_dim`.
    pub scale: f32,
}

impl PagedDecode<'_> {
    /// The outputs `[sequence, head, dim]`. Softmax subtracts the largest score; sums run in f64, in slot order.
    pub fn run(&self) -> Result<Vec<f32>, AttentionError> {
        self.check()?;
        let mut out = vec![0.0; self.queries.len()];
        for (index, row) in out.chunks_exact_mut(self.head_dim).enumerate() {
            let (sequence, head) = (index / self.heads, index % self.heads);
            self.attend(sequence, head, row);
        }
        Ok(out)
    }

    fn attend(&self, sequence: usize, head: usize, out: &mut [f32]) {
        let start = (sequence * self.heads + head) * self.head_dim;
        let query = &self.queries[start..start + self.head_dim];
        let slots: Vec<usize> = (0..self.contexts[sequence] as usize).map(|at| self.slot(sequence, head, at)).collect();
        let scores: Vec<f64> = slots
            .iter()
            .map(|slot| {
                let key = &self.keys[*slot..*slot + self.head_dim];
                let dot: f64 = query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                dot * f64::from(self.scale)
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (dim, out) in out.iter_mut().enumerate() {
            let sum: f64 = slots.iter().zip(&weights).map(|(slot, w)| w * f64::from(self.values[slot + dim])).sum();
            *out = (sum / total) as f32;
        }
    }

    /// Where the key or value at a position starts.
    fn slot(&self, sequence: usize, head: usize, position: usize) -> usize {
        let width = self.table.len() / self.contexts.len();
        let block = self.table[sequence * width + position / self.block] as usize;
        let kv_head = head / (self.heads / self.kv_heads);
        ((block * self.block + position % self.block) * self.kv_heads + kv_head) * self.head_dim
    }

    fn check(&self) -> Result<(), AttentionError> {
        let sizes = [self.heads, self.kv_heads, self.head_dim, self.block];
        if sizes.contains(&0) || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(AttentionError::Heads);
        }
        let sequences = self.contexts.len();
        let length = |array, got, wanted| {
            if got == wanted { Ok(()) } else { Err(AttentionError::Length { array, got, wanted }) }
        };
        length("queries", self.queries.len(), sequences * self.heads * self.head_dim)?;
        length("values", self.values.len(), self.keys.len())?;
        let block_len = self.block * self.kv_heads * self.head_dim;
        length("keys", self.keys.len(), self.keys.len() / block_len * block_len)?;
        let width = self.table.len().checked_div(sequences).unwrap_or(0);
        length("table", self.table.len(), width * sequences)?;
        let blocks = self.keys.len() / block_len;
        for (sequence, context) in self.contexts.iter().enumerate() {
            let used = (*context as usize).div_ceil(self.block);
            if used == 0 || used > width {
                return Err(AttentionError::Context { sequence });
            }
            let row = &self.table[sequence * width..sequence * width + used];
            if let Some(block) = row.iter().find(|block| **block as usize >= blocks) {
                return Err(AttentionError::Block { sequence, block: *block });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in -1..1, the same every time.
    fn noise(seed: u32, len: usize) -> Vec<f32> {
        let mut x = u64::from(seed) + 1;
        let mut draw = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| draw()).collect()
    }

    /// Softmax attention of one query over dense keys and values, in f32 and the textbook's order.
    fn dense(query: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>], scale: f32) -> Vec<f32> {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let weights: Vec<f32> = keys.iter().map(|key| (dot(query, key) * scale).exp()).collect();
        let total: f32 = weights.iter().sum();
        let column = |dim: usize| values.iter().zip(&weights).map(|(value, weight)| value[dim] * weight).sum::<f32>();
        (0..query.len()).map(|dim| column(dim) / total).collect()
    }

    #[test]
    fn paging_and_grouping_change_nothing() {
        for (heads, kv_heads, head_dim, block) in [(4, 4, 8, 4), (8, 2, 16, 16), (6, 1, 4, 3), (1, 1, 1, 1)] {
            let contexts = [1u32, 7, 16, 33];
            let (width, blocks) = (33usize.div_ceil(block), 4 * 33usize.div_ceil(block) + 5);
            // Every sequence gets its own blocks, scattered over the cache; unused entries point nowhere.
            let table: Vec<u32> = (0..4 * width)
                .map(|i| {
                    let used = i % width < (contexts[i / width] as usize).div_ceil(block);
                    if used { (blocks - 1 - i) as u32 } else { u32::MAX }
                })
                .collect();
            let token = kv_heads * head_dim;
            let (keys, values) = (noise(1, blocks * block * token), noise(2, blocks * block * token));
            let queries = noise(3, 4 * heads * head_dim);
            let scale = (head_dim as f32).sqrt().recip();
            let problem = PagedDecode {
                heads,
                kv_heads,
                head_dim,
                block,
                queries: &queries,
                keys: &keys,
                values: &values,
                table: &table,
                contexts: &contexts,
                scale,
            };
            let out = problem.run().expect("well-formed");
            for (index, got) in out.chunks_exact(head_dim).enumerate() {
                let (sequence, head) = (index / heads, index % heads);
                let gather = |from: &[f32]| -> Vec<Vec<f32>> {
                    (0..contexts[sequence] as usize)
                        .map(|at| {
                            let slot = table[sequence * width + at / block] as usize * block + at % block;
                            let start = slot * token + head * kv_heads / heads * head_dim;
                            from[start..start + head_dim].to_vec()
                        })
                        .collect()
                };
                let query = &queries[index * head_dim..(index + 1) * head_dim];
                let wanted = dense(query, &gather(&keys), &gather(&values), scale);
                for (got, wanted) in got.iter().zip(wanted) {
                    assert!((got - wanted).abs() < 1e-5, "sequence {sequence}, head {head}: {got} {wanted}");
                }
            }
        }
    }

    fn one<'a>(table: &'a [u32], contexts: &'a [u32]) -> PagedDecode<'a> {
        PagedDecode {
            heads: 1,
            kv_heads: 1,
            head_dim: 1,
            block: 2,
            queries: &[1.0],
            keys: &[500.0, 800.0, 0.0, 0.0],
            values: &[1.0, 2.0, 3.0, 4.0],
            table,
            contexts,
            scale: 1.0,
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        assert_eq!(one(&[0], &[2]).run(), Ok(vec![2.0]));
        assert_eq!(one(&[1], &[2]).run(), Ok(vec![3.5]));
    }

    #[test]
    fn broken_problems_are_refused() {
        assert_eq!(one(&[0], &[3]).run(), Err(AttentionError::Context { sequence: 0 }));
        assert_eq!(one(&[0], &[0]).run(), Err(AttentionError::Context { sequence: 0 }));
        assert_eq!(one(&[2], &[1]).run(), Err(AttentionError::Block { sequence: 0, block: 2 }));
        let queries = AttentionError::Length { array: "queries", got: 1, wanted: 2 };
        assert_eq!(one(&[0, 0], &[1, 1]).run(), Err(queries));
        assert_eq!(PagedDecode { heads: 0, ..one(&[0], &[1]) }.run(), Err(AttentionError::Heads));
    }
}
