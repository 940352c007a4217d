//! Blocks below the pool, in other memory of the same machine.

use std::time::Instant;

use super::cache::{Layer, WRITTEN};
use crate::config::Config;
use crate::executor::{Capacity, Copied, ExecutorError, TierCopy};
use crate::memory;
use crate::weights::Dtype;

/// Copies of blocks: `[slot, layer, keys and values]` blocks as the pool has them.
pub(super) struct Host {
    words: Vec<u32>,
    /// Words of a slot.
    slot: usize,
    copied: Copied,
}

impl Host {
    /// As many slots as the capacity has. All of them are written: their pages are there before the first copy.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(super) fn new(config: &Config, capacity: &Capacity, dtype: Dtype) -> Result<Host, ExecutorError> {
        let head_words = config.head_dim * dtype.bytes() / 4;
        let slot = 2 * config.layers * capacity.block_tokens as usize * config.kv_heads * head_words;
        let bytes = 4 * slot as u64 * u64::from(capacity.host_blocks);
        let mut words = Vec::new();
        memory::take(bytes).map_err(|free| memory::refused(bytes, Some(free)))?;
        let len = slot * capacity.host_blocks as usize;
        words.try_reserve_exact(len).map_err(|_| memory::refused(bytes, None))?;
        words.resize(len, WRITTEN);
        Ok(Host { words, slot, copied: Copied::default() })
    }

    /// Copies blocks between the pool, `[layer]`, and the slots, one after the other.
    pub(super) fn copy(&mut self, pool: &mut [Layer], copies: &[TierCopy]) {
        for &TierCopy { up, frame, slot } in copies {
            let start = Instant::now();
            let slot = &mut self.words[slot as usize * self.slot..(slot as usize + 1) * self.slot];
            let mut rest = slot;
            for part in pool.iter_mut().flat_map(|layer| layer.block(frame)) {
                let (below, after) = rest.split_at_mut(part.len());
                if up {
                    part.copy_from_slice(below);
                } else {
                    below.copy_from_slice(part);
                }
                rest = after;
            }
            self.copied.of(up).add(4 * self.slot as u64, start.elapsed());
        }
    }

    /// What was copied.
    pub(super) fn copied(&self) -> Copied {
        self.copied
    }
}
