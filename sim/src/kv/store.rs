//! The KV memory of a replica: the blocks of its GPUs, what lies below them, and the operations on what requests hold.

mod tree;

use super::Seat;
use super::blocks::{BlockMove, BlockPool};
use super::holding::KvHolding;

/// The host's memory, as far as whole requests are kept there.
const HOST: u8 = 1;

/// The KV memory of one replica.
#[derive(Clone, Debug)]
pub(crate) struct KvStore {
    pool: BlockPool,
    /// Blocks of the host for requests that were swapped out, and how many of them are taken.
    room: u64,
    swapped: u64,
}

impl KvStore {
    /// `blocks` free blocks of `block_tokens` tokens on the GPUs, and room for `room` blocks of swapped requests on the host.
    pub(crate) fn new(blocks: u64, block_tokens: u32, room: u64) -> Self {
        KvStore { pool: BlockPool::new(blocks, block_tokens), room, swapped: 0 }
    }

    /// The blocks of the GPUs.
    pub(crate) fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// The same, to follow them.
    pub(crate) fn pool_mut(&mut self) -> &mut BlockPool {
        &mut self.pool
    }

    /// Free blocks on the GPUs, cached ones included.
    pub(crate) fn free(&self) -> u64 {
        self.pool.free()
    }

    /// Free blocks on the GPUs that hold no content.
    pub(crate) fn idle(&self) -> u64 {
        self.pool.idle()
    }

    /// Evicts cached runs until so many blocks hold no content, or nothing may go.
    pub(crate) fn make_room(&mut self, blocks: u64) {
        self.pool.make_room(blocks);
    }

    /// Blocks that so many slots take.
    pub(crate) fn blocks_for(&self, slots: u32) -> u64 {
        self.pool.blocks_for(u64::from(slots))
    }

    /// Blocks that a holding takes to grow by `tokens`.
    pub(crate) fn need(&self, holding: &KvHolding, tokens: u32) -> u64 {
        self.blocks_for(holding.kept + tokens) - holding.blocks()
    }

    /// Takes blocks for members of a standing set, whose holdings say so when they settle.
    ///
    /// # Panics
    /// If fewer are free.
    pub(crate) fn take(&mut self, blocks: u64) {
        self.pool.take(blocks);
    }

    /// Gives a holding `tokens` more tokens.
    ///
    /// # Panics
    /// If their blocks are not free.
    pub(crate) fn grow(&mut self, holding: &mut KvHolding, tokens: u32) {
        self.pool.take(self.need(holding, tokens));
        holding.settle(tokens, self.pool.block_tokens());
    }

    /// Makes cached blocks the beginning of an empty holding.
    ///
    /// # Panics
    /// If a content is not cached.
    pub(crate) fn adopt(&mut self, seat: Seat, holding: &mut KvHolding, contents: &[u64]) {
        for &content in contents {
            let block = self.pool.share(content);
            self.pool.note_move(BlockMove::Shared { seat, block });
            holding.named.push(block);
        }
        holding.settle(contents.len() as u32 * self.pool.block_tokens(), self.pool.block_tokens());
    }

    /// Tells the cache the contents of a holding's leading blocks; those that it knows already come first.
    pub(crate) fn name(&mut self, seat: Seat, holding: &mut KvHolding, contents: &[u64]) {
        if self.pool.tree.is_some() {
            return; // It learns of prompts and outputs as a whole: see `publish`.
        }
        while let Some(&content) = contents.get(holding.named.len()) {
            let block = self.pool.hash(content);
            self.pool.note_move(BlockMove::Named { seat, index: holding.named.len() as u32, block });
            holding.named.push(block);
        }
    }

    /// Frees all that a request holds on the GPUs, its last block first. What the cache knows of it stays there until the room
    /// is needed.
    pub(crate) fn release(&mut self, seat: Seat, holding: &mut KvHolding) {
        self.pool.note_move(BlockMove::Released { seat });
        self.free_blocks(std::mem::take(holding));
    }

    /// Frees a holding that has left its request.
    pub(crate) fn free_blocks(&mut self, mut holding: KvHolding) {
        self.pool.give_back(holding.private());
        self.unlock(&mut holding);
        while let Some(block) = holding.named.pop() {
            self.pool.release(block);
        }
    }

    /// Takes blocks for a holding that comes from elsewhere.
    ///
    /// # Panics
    /// If they are not free.
    pub(crate) fn place(&mut self, holding: &mut KvHolding) {
        self.grow(holding, 0);
    }

    /// Whether the host has room for so many blocks of a request.
    pub(crate) fn has_room(&self, blocks: u64) -> bool {
        self.swapped + blocks <= self.room
    }

    /// Moves a holding without shared blocks to the host. Its blocks on the GPUs are free at once.
    ///
    /// # Panics
    /// If the host has no room.
    pub(crate) fn swap_out(&mut self, seat: Seat, holding: &mut KvHolding) {
        assert!(holding.named.is_empty() && self.has_room(holding.blocks()), "law 2: a swap without room");
        self.pool.note_move(BlockMove::Released { seat });
        self.pool.give_back(holding.blocks());
        self.swapped += holding.blocks();
        holding.tier = HOST;
    }

    /// Moves a holding back from the host.
    ///
    /// # Panics
    /// If its blocks are not free.
    pub(crate) fn swap_in(&mut self, holding: &mut KvHolding) {
        self.pool.take(holding.blocks());
        self.swapped -= holding.blocks();
        holding.tier = 0;
    }

    /// Forgets a holding on the host.
    pub(crate) fn drop_swapped(&mut self, holding: &mut KvHolding) {
        if holding.tier == HOST {
            self.swapped -= holding.blocks();
        }
        *holding = KvHolding::default();
    }

    /// Blocks of swapped requests on the host.
    pub(crate) fn swapped(&self) -> u64 {
        self.swapped
    }

    /// A wrong count, for tests of the audit.
    #[cfg(test)]
    pub(crate) fn spoil_swapped(&mut self) {
        self.swapped += 1;
    }

    /// Law 2 for the store, against all holdings that there are, in transit included: those of members of a standing set are
    /// told as they would settle.
    ///
    /// # Errors
    /// What disagrees.
    pub(crate) fn audit<'a>(&self, holdings: impl Iterator<Item = (u64, &'a KvHolding)>) -> Result<(), String> {
        self.pool.audit()?;
        let (mut private, mut swapped, mut named, mut nodes) = (0, 0, Vec::new(), Vec::new());
        for (blocks, holding) in holdings {
            if holding.tier == 0 {
                private += blocks - holding.named.len() as u64 - u64::from(holding.shared);
            } else {
                swapped += blocks;
            }
            named.extend(holding.named.iter().map(|block| block.index()));
            nodes.push(holding.node);
        }
        named.sort_unstable();
        named.dedup();
        let mut held = private + named.len() as u64;
        if let Some(tree) = &self.pool.tree {
            tree.audit(nodes.into_iter())?;
            held += tree.locked();
        }
        if held != self.pool.used() {
            return Err(format!("requests hold {held} blocks, the pool says {}", self.pool.used()));
        }
        if swapped != self.swapped || swapped > self.room {
            return Err(format!("{swapped} blocks on the host, the store says {}", self.swapped));
        }
        Ok(())
    }
}
