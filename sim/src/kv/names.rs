//! Names of blocks and what becomes of them, whatever caches them.

use super::Seat;

/// Index of a hashed block in its pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashedBlock(pub(super) u32);

impl HashedBlock {
    /// Its number among the blocks of its pool that have or had content.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What changes where a block lies, in order: enough to keep real block tables beside the pool's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockMove {
    /// A request goes on with a block that is in the cache.
    Shared {
        /// The request.
        seat: Seat,
        /// The block.
        block: HashedBlock,
    },
    /// A block of a request is cacheable from now on.
    Named {
        /// The request.
        seat: Seat,
        /// Which of its blocks, from 0.
        index: u32,
        /// Its content.
        block: HashedBlock,
    },
    /// A block of a request has the content of a cached one: the request goes on with that one, and its own is free.
    Merged {
        /// The request.
        seat: Seat,
        /// Which of its blocks, from 0.
        index: u32,
        /// The cached block.
        block: HashedBlock,
    },
    /// The content of a block is copied to a slot of the first tier below. It may be dropped right after.
    Stored {
        /// The block.
        block: HashedBlock,
        /// The slot, from 0.
        slot: u32,
    },
    /// A slot of the first tier below is copied to a block of a request.
    Loaded {
        /// The request.
        seat: Seat,
        /// Which of its blocks, from 0; it is its own.
        index: u32,
        /// The slot.
        slot: u32,
    },
    /// A free block lost its content, to be allocated again.
    Dropped {
        /// The block.
        block: HashedBlock,
    },
    /// After the step that is being planned a request keeps only its first blocks: the others are free.
    Cut {
        /// The request.
        seat: Seat,
        /// How many it keeps.
        blocks: u32,
    },
    /// A request gave back all its blocks; those with a name keep their content.
    Released {
        /// The request.
        seat: Seat,
    },
}

/// Result of a prefix lookup.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hit {
    /// Leading blocks found.
    pub blocks: u32,
    /// How many of them are free (they leave the free queue if the hit is used).
    pub free: u32,
}

/// Content ids are dense or already mixed; one multiplication spreads them over the table.
pub(super) fn spread(content: u64) -> u64 {
    let x = content.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^ (x >> 32)
}
