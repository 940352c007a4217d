//! Blocks by a key, but for those of the request at hand: engines lock what a request is using.

use super::Block;
use super::heap::{Heap, Key};

#[derive(Clone, Copy, Default, Debug)]
struct Rank {
    key: Key,
    /// No request holds it.
    free: bool,
    /// It waits in `held`.
    held: bool,
}

/// Evictable blocks by a key, those of the request at hand last.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranked {
    heap: Heap,
    ranks: Vec<Rank>,
    /// Blocks of the request at hand.
    held: Vec<Block>,
    request: u64,
}

impl Ranked {
    /// This request is at hand from now on. `may` says which blocks can be victims at all.
    pub(super) fn at_hand(&mut self, request: u64, may: impl Fn(Block) -> bool) {
        if request != self.request {
            self.request = request;
            self.let_go(may);
        }
    }

    /// A request uses a block, which has this key from now on.
    pub(super) fn used(&mut self, block: Block, request: u64, key: Key, may: impl Fn(Block) -> bool) {
        self.at_hand(request, may);
        let at = block as usize;
        if at >= self.ranks.len() {
            self.ranks.resize(at + 1, Rank::default());
        }
        self.heap.remove(block);
        let rank = &mut self.ranks[at];
        rank.key = key;
        if !rank.held {
            rank.held = true;
            self.held.push(block);
        }
    }

    /// The key of a block.
    pub(super) fn key(&self, block: Block) -> Key {
        self.ranks[block as usize].key
    }

    /// Blocks that there ever were at once.
    pub(super) fn seen(&self) -> usize {
        self.ranks.len()
    }

    /// A block has another key, though nobody uses it.
    pub(super) fn change(&mut self, block: Block, key: Key) {
        self.ranks[block as usize].key = key;
        self.heap.change(block, key);
    }

    /// Whether a request holds a block.
    pub(super) fn set_free(&mut self, block: Block, free: bool, may: impl Fn(Block) -> bool) {
        self.ranks[block as usize].free = free;
        if free {
            self.may_go(block, may);
        } else {
            self.heap.remove(block);
        }
    }

    /// A block that could not be a victim may be one now.
    pub(super) fn may_go(&mut self, block: Block, may: impl Fn(Block) -> bool) {
        let rank = self.ranks[block as usize];
        if rank.free && !rank.held && may(block) {
            self.heap.set(block, rank.key);
        }
    }

    /// A block left the cache.
    pub(super) fn gone(&mut self, block: Block) {
        self.heap.remove(block);
        self.ranks[block as usize] = Rank::default();
    }

    /// Takes out the block with the smallest key; one of the request at hand only if there is no other.
    pub(super) fn victim(&mut self, may: impl Fn(Block) -> bool) -> Option<Block> {
        loop {
            while let Some((_, block)) = self.heap.pop() {
                // What has got children since it came here comes again when they have gone.
                if may(block) {
                    self.ranks[block as usize] = Rank::default();
                    return Some(block);
                }
            }
            if self.held.is_empty() {
                return None;
            }
            self.let_go(&may);
        }
    }

    fn let_go(&mut self, may: impl Fn(Block) -> bool) {
        let mut held = std::mem::take(&mut self.held);
        for &block in &held {
            // A block that left the cache meanwhile is not held, and one that came again stands here twice.
            if std::mem::take(&mut self.ranks[block as usize].held) {
                self.may_go(block, &may);
            }
        }
        held.clear();
        self.held = held;
    }
}
