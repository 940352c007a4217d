//! What one request holds of the KV memory.

use super::blocks::HashedBlock;

/// The KV of a request in a group of layers that keep the same of it: how far it is computed, what of that is kept, and the
/// blocks that hold it. Stored, and changed by the named operations of [`KvStore`](super::store::KvStore) alone.
///
/// All layers of a model are one group today. A member of a standing decode set grows by a token in every step; it is written
/// down when the member leaves the set ([`KvHolding::settle`]).
#[derive(Clone, Default, Debug)]
pub(crate) struct KvHolding {
    /// Tokens computed: the next one has this position.
    pub(super) positions: u32,
    /// Slots: tokens whose keys and values are kept. As many as positions, as long as nothing is thrown away.
    pub(super) kept: u32,
    /// Blocks that hold the slots.
    pub(super) blocks: u32,
    /// Where they lie: 0 is the memory of the GPUs.
    pub(super) tier: u8,
    /// The leading blocks, as far as the cache knows their contents.
    pub(super) named: Vec<HashedBlock>,
    /// Where the cache is a tree: the leading blocks that belong to it, and the node at which they end. This holding locks it.
    pub(super) shared: u32,
    pub(super) node: u32,
}

impl KvHolding {
    /// Tokens computed, wherever their KV is.
    #[inline]
    pub(crate) fn positions(&self) -> u32 {
        self.positions
    }

    /// Tokens whose KV is in the memory of the GPUs.
    #[inline]
    pub(crate) fn present(&self) -> u32 {
        if self.tier == 0 { self.positions } else { 0 }
    }

    /// Tokens whose KV is in a tier below.
    #[inline]
    pub(crate) fn below(&self) -> u32 {
        if self.tier == 0 { 0 } else { self.positions }
    }

    /// Tokens that attention reads.
    #[inline]
    pub(crate) fn kept(&self) -> u32 {
        self.kept
    }

    /// Blocks, in whichever tier.
    #[inline]
    pub(crate) fn blocks(&self) -> u64 {
        u64::from(self.blocks)
    }

    /// Its blocks whose contents the cache knows, from the first one on.
    #[inline]
    pub(crate) fn named(&self) -> &[HashedBlock] {
        &self.named
    }

    /// Blocks that are its own alone.
    #[inline]
    pub(crate) fn private(&self) -> u64 {
        self.blocks() - self.named.len() as u64 - u64::from(self.shared)
    }

    /// Writes down `tokens` more tokens whose blocks have been taken already.
    #[inline]
    pub(crate) fn settle(&mut self, tokens: u32, block_tokens: u32) {
        self.positions += tokens;
        self.kept += tokens;
        self.blocks = self.kept.div_ceil(block_tokens);
    }

    /// The same KV on its way to another replica, where it has no memory yet.
    pub(crate) fn travelling(&self) -> KvHolding {
        KvHolding { positions: self.positions, kept: self.kept, ..KvHolding::default() }
    }

    /// Spoils what is stored, for tests of the audit.
    #[cfg(test)]
    pub(crate) fn spoil(&mut self, positions: u32, kept: u32, blocks: u32) {
        self.positions += positions;
        self.kept += kept;
        self.blocks += blocks;
    }

    /// Moves it to another tier in the books alone, for tests of the audit.
    #[cfg(test)]
    pub(crate) fn misplace(&mut self, tier: u8) {
        self.tier = tier;
    }
}
