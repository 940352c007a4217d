//! Which cached blocks are leaves of the prefix tree: nothing in the cache goes on from them.

use hashbrown::HashTable;

use super::list::NONE;
use super::{Block, BlockView};
use crate::counter::finish;

/// A content that is cached, or whose children are.
#[derive(Clone, Debug)]
struct Node {
    content: u64,
    /// Cached blocks that go on from it.
    children: u32,
    /// Cached blocks that hold it: more than one in a pool that keeps duplicates.
    copies: u32,
    /// The one that came last.
    first: Block,
}

/// A block's place in the tree.
#[derive(Clone, Copy, Debug)]
struct Place {
    content: u64,
    parent: Option<u64>,
    /// The next block with the same content.
    copy: Block,
}

/// The prefix tree of a cache, by content: a block may be cached while its parent is not.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: HashTable<Node>,
    places: Vec<Place>,
}

impl Tree {
    /// A block came into the cache. Calls `leaf` with one that may be a leaf now and was none: it has a copy.
    pub(super) fn admit(&mut self, block: Block, view: &BlockView, leaf: impl FnOnce(Block)) {
        let at = block as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, Place { content: 0, parent: None, copy: NONE });
        }
        let node = self.node(view.content);
        node.copies += 1;
        let copy = std::mem::replace(&mut node.first, block);
        self.places[at] = Place { content: view.content, parent: view.parent, copy };
        if let Some(parent) = view.parent {
            self.node(parent).children += 1;
        }
        if copy != NONE {
            leaf(copy);
        }
    }

    /// Whether nothing cached is lost with a block: nothing goes on from it, or another block holds the same.
    pub(super) fn is_leaf(&self, block: Block) -> bool {
        let content = self.places[block as usize].content;
        let node = self.nodes.find(finish(content), |node| node.content == content);
        node.is_none_or(|node| node.children == 0 || node.copies > 1)
    }

    /// A block left the cache. Calls `leaf` with the blocks that may be leaves now and were none.
    pub(super) fn remove(&mut self, block: Block, mut leaf: impl FnMut(Block)) {
        let Place { content, parent, copy } = self.places[block as usize];
        let node = self.node(content);
        node.copies -= 1;
        let mut before = node.first;
        if before == block {
            node.first = copy;
        } else {
            while self.places[before as usize].copy != block {
                before = self.places[before as usize].copy;
            }
            self.places[before as usize].copy = copy;
        }
        self.forget(content);
        let Some(parent) = parent else { return };
        let node = self.node(parent);
        node.children -= 1;
        let (last, mut other) = (node.children == 0, node.first);
        while last && other != NONE {
            leaf(other);
            other = self.places[other as usize].copy;
        }
        self.forget(parent);
    }

    fn node(&mut self, content: u64) -> &mut Node {
        let made = || Node { content, children: 0, copies: 0, first: NONE };
        let entry = self.nodes.entry(finish(content), |node| node.content == content, |node| finish(node.content));
        entry.or_insert_with(made).into_mut()
    }

    /// Drops a node that stands for nothing cached.
    fn forget(&mut self, content: u64) {
        let found = self.nodes.find_entry(finish(content), |node| node.content == content);
        if let Ok(entry) = found
            && entry.get().children == 0
            && entry.get().copies == 0
        {
            entry.remove();
        }
    }
}
