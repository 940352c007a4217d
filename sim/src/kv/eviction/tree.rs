//! Which cached blocks are leaves of the prefix tree: nothing in the cache goes on from them.

use super::list::NONE;
use super::{Block, BlockView};
use crate::kv::table::Table;

/// A content that is cached, or whose children are.
#[derive(Clone, Copy, Debug)]
struct Node {
    content: u64,
    /// Cached blocks that go on from it.
    children: u32,
    /// Cached blocks that hold it: more than one in a pool that keeps duplicates.
    copies: u32,
    /// The one that came last.
    first: Block,
}

impl Node {
    /// Whether it stands for anything cached.
    fn is_there(&self) -> bool {
        self.children + self.copies > 0
    }
}

/// A block's place in the tree.
#[derive(Clone, Copy, Default, Debug)]
struct Place {
    /// Its node, and that of its parent or [`NONE`].
    node: u32,
    parent: u32,
    /// The next block with the same content.
    copy: Block,
}

/// The prefix tree of a cache, by content: a block may be cached while its parent is not.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    index: Table,
    places: Vec<Place>,
    /// The node that came last: most often the next one's parent.
    last: u32,
}

impl Tree {
    /// Contents are about to come.
    pub(super) fn warm(&self, contents: &[u64]) {
        self.index.warm(contents.iter().copied());
    }

    /// A block came into the cache. Calls `leaf` with one that may be a leaf now and was none: it has a copy.
    pub(super) fn admit(&mut self, block: Block, view: &BlockView, leaf: impl FnOnce(Block)) {
        let at = block as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, Place::default());
        }
        let parent = view.parent.map_or(NONE, |parent| {
            let last = self.nodes.get(self.last as usize);
            let near = last.is_some_and(|node| node.content == parent && node.is_there());
            let parent = if near { self.last } else { self.node(parent) };
            self.nodes[parent as usize].children += 1;
            parent
        });
        let own = self.node(view.content);
        let node = &mut self.nodes[own as usize];
        node.copies += 1;
        let copy = std::mem::replace(&mut node.first, block);
        self.places[at] = Place { node: own, parent, copy };
        self.last = own;
        if copy != NONE {
            leaf(copy);
        }
    }

    /// Whether nothing cached is lost with a block: nothing goes on from it, or another block holds the same.
    pub(super) fn is_leaf(&self, block: Block) -> bool {
        let node = &self.nodes[self.places[block as usize].node as usize];
        node.children == 0 || node.copies > 1
    }

    /// A block left the cache. Calls `leaf` with the blocks that may be leaves now and were none.
    pub(super) fn remove(&mut self, block: Block, mut leaf: impl FnMut(Block)) {
        let Place { node: own, parent, copy } = self.places[block as usize];
        let node = &mut self.nodes[own as usize];
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
        self.forget(own);
        if parent == NONE {
            return;
        }
        let node = &mut self.nodes[parent as usize];
        node.children -= 1;
        let (last, mut other) = (node.children == 0, node.first);
        while last && other != NONE {
            leaf(other);
            other = self.places[other as usize].copy;
        }
        self.forget(parent);
    }

    /// The node of a content; a new one, if there is none.
    fn node(&mut self, content: u64) -> u32 {
        let holds = |at: u32| {
            let node = &self.nodes[at as usize];
            node.content == content && node.is_there()
        };
        if let Some(found) = self.index.find(content, holds) {
            return found;
        }
        let node = Node { content, children: 0, copies: 0, first: NONE };
        let at = if let Some(at) = self.vacant.pop() {
            self.nodes[at as usize] = node;
            at
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        };
        let there = (0..).zip(&self.nodes).filter(|&(other, node)| node.is_there() || other == at);
        let len = self.nodes.len() - self.vacant.len();
        self.index.add(content, at, len, there.map(|(at, node)| (node.content, at)));
        at
    }

    /// Drops a node that stands for nothing cached.
    fn forget(&mut self, at: u32) {
        if !self.nodes[at as usize].is_there() {
            self.vacant.push(at);
        }
    }
}
