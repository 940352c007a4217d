//! Holdings over a tree of cached runs (SGLang): their leading blocks belong to the tree, and they lock where these end.

use super::KvStore;
use crate::kv::radix::{Place, ROOT, RadixTree};
use crate::kv::{KvHolding, Seat};

impl KvStore {
    /// The same memory, with a tree of runs for its prefix cache.
    pub(crate) fn with_tree(mut self) -> Self {
        self.pool.tree = Some(Box::default());
        self
    }

    /// The tree, if the prefix cache is one.
    #[inline]
    pub(crate) fn tree(&self) -> Option<&RadixTree> {
        self.pool.tree.as_deref()
    }

    /// The longest cached beginning of `contents`; it is the youngest of the tree from now on. Without a tree nothing is found.
    pub(crate) fn look_up(&mut self, contents: &[u64]) -> Place {
        match &mut self.pool.tree {
            Some(tree) => tree.look_up(contents),
            None => Place { node: ROOT, blocks: 0 },
        }
    }

    /// Blocks of a path that could be evicted, but not once a request holds it.
    pub(crate) fn unlocked(&self, place: Place) -> u64 {
        self.tree().map_or(0, |tree| tree.unlocked(place.node))
    }

    /// Makes a cached path the beginning of an empty holding, which locks it.
    ///
    /// # Panics
    /// If the holding is not empty.
    pub(crate) fn adopt_path(&mut self, seat: Seat, holding: &mut KvHolding, place: Place) {
        assert_eq!(holding.blocks(), 0, "law 2: only an empty holding begins with a cached path");
        if let Some(tree) = &mut self.pool.tree {
            tree.lock(place.node);
            tree.share(seat, place.node);
            (holding.node, holding.shared) = (place.node, place.blocks);
            let block_tokens = self.pool.block_tokens();
            holding.settle(place.blocks * block_tokens, block_tokens);
        }
    }

    /// Puts the contents of a holding's leading blocks into the tree. Own blocks with contents that it had already are free; the
    /// others belong to it from now on, and the holding locks where they end. The first `apart` contents (a prompt) get an end of
    /// their own, so that what follows can be evicted without them.
    pub(crate) fn publish(&mut self, seat: Seat, holding: &mut KvHolding, contents: &[u64], apart: u32) {
        let Some(tree) = &mut self.pool.tree else { return };
        let end = contents.len() as u32;
        assert!(end >= holding.shared, "law 2: cached blocks of a request are taken out of the tree");
        let place = tree.insert(seat, contents, holding.shared);
        if 0 < apart && apart < end {
            tree.insert(seat, &contents[..apart as usize], apart);
        }
        tree.unlock(holding.node);
        tree.lock(place.node);
        let duplicates = place.blocks.saturating_sub(holding.shared);
        (holding.node, holding.shared) = (place.node, end);
        self.pool.give_back(u64::from(duplicates));
    }

    /// Gives up the lock of a holding that goes.
    #[inline]
    pub(super) fn unlock(&mut self, holding: &mut KvHolding) {
        if let Some(tree) = &mut self.pool.tree {
            tree.unlock(std::mem::replace(&mut holding.node, ROOT));
            holding.shared = 0;
        }
    }
}
