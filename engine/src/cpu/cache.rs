//! Keys and values in blocks.

use std::ops::Range;

use crate::config::Config;
use crate::executor::{BuildError, Capacity};
use crate::weights::Dtype;
use crate::weights::{pack_row, unpack_row};

/// A small number in either format (two times 2⁻⁷ in bf16, 0.0078 in f32); not zero, whose pages the system would not make.
pub(super) const WRITTEN: u32 = 0x3C00_3C00;

/// Keys and values of one decoder layer: `[block, slot, kv head]` rows of `head_dim` numbers, packed as matrices are.
pub(super) struct Layer {
    keys: Vec<u32>,
    values: Vec<u32>,
    block_tokens: usize,
    kv_heads: usize,
    head_words: usize,
    dtype: Dtype,
}

impl Layer {
    /// # Errors
    /// The system has no memory for it.
    pub(super) fn new(config: &Config, capacity: &Capacity, dtype: Dtype) -> Result<Layer, BuildError> {
        let head_words = config.head_dim * dtype.bytes() / 4;
        let slot_words = config.kv_heads * head_words;
        let slots = capacity.blocks as usize * capacity.block_tokens as usize;
        // Written from the start, as an engine's pool is: pages that were never written are all one page, which no step would
        // have to fetch from memory, and the first write to each would take time in the middle of a run.
        let (keys, values) = (written(slots, slot_words)?, written(slots, slot_words)?);
        let block_tokens = capacity.block_tokens as usize;
        Ok(Layer { keys, values, block_tokens, kv_heads: config.kv_heads, head_words, dtype })
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(super) fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// A slot of a sequence, counted over all blocks.
    #[inline(always)]
    pub(super) fn locate(&self, table: &[u32], slot: usize) -> usize {
        table[slot / self.block_tokens] as usize * self.block_tokens + slot % self.block_tokens
    }

    /// Stores the keys and values of all heads of a token in a slot of its sequence, `[kv head, dim]` each.
    pub(super) fn store(&mut self, table: &[u32], slot: usize, keys: &[f32], values: &[f32]) {
        let slot = self.locate(table, slot);
        let start = slot * self.kv_heads * self.head_words;
        let dim = keys.len() / self.kv_heads;
        for (to, from) in [(&mut self.keys, keys), (&mut self.values, values)] {
            let to = &mut to[start..start + self.kv_heads * self.head_words];
            let heads = to.chunks_exact_mut(self.head_words).zip(from.chunks_exact(dim));
            heads.for_each(|(to, from)| pack_row(from, to, self.dtype));
        }
    }

    /// Copies what a head has in a slot of a sequence to another slot.
    pub(super) fn copy(&mut self, table: &[u32], head: usize, from: usize, to: usize) {
        let start = |slot| (self.locate(table, slot) * self.kv_heads + head) * self.head_words;
        let (from, to, words) = (start(from), start(to), self.head_words);
        self.keys.copy_within(from..from + words, to);
        self.values.copy_within(from..from + words, to);
    }

    /// Words of the keys, or of the values, of a block.
    pub(super) fn block_words(&self) -> usize {
        self.block_tokens * self.kv_heads * self.head_words
    }

    /// Keys and values of a block.
    pub(super) fn block(&mut self, block: u32) -> [&mut [u32]; 2] {
        let words = self.block_words();
        let at = block as usize * words..(block as usize + 1) * words;
        [&mut self.keys[at.clone()], &mut self.values[at]]
    }

    /// The key of a head in a slot, counted over all blocks.
    #[inline(always)]
    pub(super) fn key(&self, slot: usize, head: usize) -> &[u32] {
        let start = (slot * self.kv_heads + head) * self.head_words;
        &self.keys[start..start + self.head_words]
    }

    /// The value of a head in a slot.
    #[inline(always)]
    pub(super) fn value(&self, slot: usize, head: usize) -> &[u32] {
        let start = (slot * self.kv_heads + head) * self.head_words;
        &self.values[start..start + self.head_words]
    }
}

impl Layer {
    /// Adds the keys of a head in the slots of a sequence as numbers, `[slot, dim]`.
    pub(super) fn keys_of(&self, table: &[u32], head: usize, slots: Range<usize>, out: &mut Vec<f32>) {
        self.unpack(table, slots, out, |slot| self.key(slot, head));
    }

    /// The same of values.
    pub(super) fn values_of(&self, table: &[u32], head: usize, slots: Range<usize>, out: &mut Vec<f32>) {
        self.unpack(table, slots, out, |slot| self.value(slot, head));
    }

    fn unpack<'a>(&'a self, table: &[u32], slots: Range<usize>, out: &mut Vec<f32>, row: impl Fn(usize) -> &'a [u32]) {
        let dim = self.head_words * 4 / self.dtype.bytes();
        let (start, count) = (out.len(), slots.len());
        out.resize(start + count * dim, 0.0);
        for (slot, out) in slots.zip(out[start..].chunks_exact_mut(dim)) {
            unpack_row(row(self.locate(table, slot)), out, self.dtype);
        }
    }
}

/// Memory for so many slots, written. One that there is no memory for is an error: a vector of its own would end the process.
fn written(slots: usize, slot_words: usize) -> Result<Vec<u32>, BuildError> {
    let mut memory = Vec::new();
    let words = slots.checked_mul(slot_words);
    let reserved = words.map(|words| memory.try_reserve_exact(words));
    let (Some(words), Some(Ok(()))) = (words, reserved) else {
        let bytes = slots as u128 * slot_words as u128 * 4;
        return Err(BuildError::Failed(format!(
            "the system has no {bytes} bytes for the keys, or the values, of {slots} tokens in one layer"
        )));
    };
    memory.resize(words, WRITTEN);
    Ok(memory)
}
