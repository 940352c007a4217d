//! What one request holds of the KV memory.

use super::blocks::HashedBlock;

/// How holdings with a budget grow while they decode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    /// Slots of a block.
    pub(crate) block_tokens: u32,
    /// Tokens beyond the budget at which some go.
    pub(crate) every: u32,
}

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
    /// Slots that it may keep; 0: all.
    pub(super) budget: u32,
    /// Blocks that hold the slots.
    pub(super) blocks: u32,
    /// Where they lie: 0 is the memory of the GPUs.
    pub(super) tier: u8,
    /// Whether it may have blocks ahead of its slots, for drafts: they stay until the holding goes.
    pub(super) ahead: bool,
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
        // One that has outgrown its budget before, or has blocks ahead, has its blocks already.
        let had = if self.budget == 0 && !self.ahead { 0 } else { self.blocks };
        self.blocks = self.kept.div_ceil(block_tokens).max(had);
    }

    /// Writes down `steps` decode steps whose blocks have been taken already.
    #[inline]
    pub(crate) fn settle_steps(&mut self, steps: u64, pace: Pace) {
        if self.budget == 0 {
            return self.settle(steps as u32, pace.block_tokens);
        }
        (self.kept, self.blocks) = self.after(steps, pace);
        self.positions += steps as u32;
    }

    /// Whether it may have blocks ahead of its slots.
    #[inline]
    pub(crate) fn is_ahead(&self) -> bool {
        self.ahead
    }

    /// Writes down `tokens` accepted drafts, for which it has had blocks since their step was planned.
    pub(crate) fn accept(&mut self, tokens: u32, block_tokens: u32) {
        assert!(
            self.ahead && (self.kept + tokens).div_ceil(block_tokens) <= self.blocks,
            "law 2: accepted drafts have no slots"
        );
        self.positions += tokens;
        self.kept += tokens;
    }

    /// Slots and blocks after `steps` decode steps.
    #[inline]
    pub(crate) fn after(&self, steps: u64, pace: Pace) -> (u32, u32) {
        let slots = u64::from(self.kept) + steps;
        if self.budget == 0 {
            let had = if self.ahead { self.blocks } else { 0 };
            return (slots as u32, (slots as u32).div_ceil(pace.block_tokens).max(had));
        }
        let most = self.most(pace);
        if slots < u64::from(most) {
            return (slots as u32, self.blocks.max((slots as u32).div_ceil(pace.block_tokens)));
        }
        let beyond = (slots - u64::from(most)) % u64::from(pace.every);
        (self.budget + beyond as u32, self.blocks.max(most.div_ceil(pace.block_tokens)))
    }

    /// Whether it has all its tokens, and will.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.budget == 0 && self.kept == self.positions
    }

    /// Slots that it may keep; 0: all.
    #[inline]
    pub(crate) fn budget(&self) -> u32 {
        self.budget
    }

    /// From now on it keeps so many slots at most (0: all); those that it has beyond stay until they are cut.
    pub(crate) fn limit(&mut self, budget: u32) {
        self.budget = budget;
    }

    /// Slots in a decode step at most, where it has a budget: some go after such a step.
    #[inline]
    pub(crate) fn most(&self, pace: Pace) -> u32 {
        self.budget + pace.every
    }

    /// Whether its blocks grow while it decodes: without a budget always, with one until they hold all slots that it may have.
    #[inline]
    pub(crate) fn fills(&self, pace: Pace) -> bool {
        self.budget == 0 || self.blocks < self.most(pace).div_ceil(pace.block_tokens)
    }

    /// The same KV on its way to another replica, where it has no memory yet.
    pub(crate) fn travelling(&self) -> KvHolding {
        KvHolding { positions: self.positions, kept: self.kept, budget: self.budget, ..KvHolding::default() }
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
