//! Lists through blocks: constant time, eight bytes of links a block, beside what a policy keeps of it.

use super::Block;

/// No block.
pub(super) const NONE: Block = u32::MAX;
/// Where a block that is in no list points to.
const OUT: Block = u32::MAX - 1;

/// A block's place, and what a policy keeps of it: together, so that a move costs one look into memory a block.
#[derive(Clone, Debug)]
struct Node<T> {
    older: Block,
    younger: Block,
    kept: T,
}

/// The blocks of a cache. Each is in at most one list.
#[derive(Clone, Debug)]
pub(super) struct Nodes<T> {
    nodes: Vec<Node<T>>,
}

impl<T: Default> Nodes<T> {
    pub(super) fn new() -> Nodes<T> {
        Nodes { nodes: Vec::new() }
    }

    /// What is kept of a block; the block may be a new one.
    pub(super) fn kept(&mut self, block: Block) -> &mut T {
        let at = block as usize;
        if at >= self.nodes.len() {
            self.nodes.resize_with(at + 1, || Node { older: OUT, younger: OUT, kept: T::default() });
        }
        &mut self.nodes[at].kept
    }

    /// What is kept of a block that was seen before.
    pub(super) fn at(&self, block: Block) -> &T {
        &self.nodes[block as usize].kept
    }

    pub(super) fn is_listed(&self, block: Block) -> bool {
        self.nodes.get(block as usize).is_some_and(|node| node.older != OUT)
    }

    /// The next younger block of its list, or [`NONE`].
    pub(super) fn younger(&self, block: Block) -> Block {
        self.nodes[block as usize].younger
    }
}

/// One list, from the oldest to the youngest.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    oldest: Block,
    youngest: Block,
    len: u32,
}

impl List {
    pub(super) const EMPTY: List = List { oldest: NONE, youngest: NONE, len: 0 };

    pub(super) fn oldest(self) -> Option<Block> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    pub(super) fn len(self) -> u32 {
        self.len
    }

    /// Puts a block at the young end.
    pub(super) fn push<T>(&mut self, nodes: &mut Nodes<T>, block: Block) {
        self.insert(nodes, block, NONE);
    }

    /// Puts a block right before a younger one; before [`NONE`] is the young end.
    pub(super) fn insert<T>(&mut self, nodes: &mut Nodes<T>, block: Block, younger: Block) {
        let older = if younger == NONE { self.youngest } else { nodes.nodes[younger as usize].older };
        let node = &mut nodes.nodes[block as usize];
        (node.older, node.younger) = (older, younger);
        match older {
            NONE => self.oldest = block,
            older => nodes.nodes[older as usize].younger = block,
        }
        match younger {
            NONE => self.youngest = block,
            younger => nodes.nodes[younger as usize].older = block,
        }
        self.len += 1;
    }

    /// Takes a block of this list out of it.
    pub(super) fn remove<T>(&mut self, nodes: &mut Nodes<T>, block: Block) {
        let node = &mut nodes.nodes[block as usize];
        let (older, younger) = (node.older, node.younger);
        (node.older, node.younger) = (OUT, OUT);
        match older {
            NONE => self.oldest = younger,
            older => nodes.nodes[older as usize].younger = younger,
        }
        match younger {
            NONE => self.youngest = older,
            younger => nodes.nodes[younger as usize].older = older,
        }
        self.len -= 1;
    }
}

/// Who used a block last, and where it lies in that request's prefix.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Used {
    /// Number of the request; its low bits tell neighbours apart.
    pub(super) request: u32,
    pub(super) depth: u32,
}

/// A list in the order of last use in which a request's deepest block is its oldest: as if every request gave its blocks back
/// at once and from the end, whether they come from the end (a pool) or from the front (a replay).
#[derive(Clone, Copy, Debug)]
pub(super) struct Recency {
    list: List,
    /// The block that came last, if it is still here.
    last: Block,
}

impl Recency {
    pub(super) const EMPTY: Recency = Recency { list: List::EMPTY, last: NONE };

    pub(super) fn oldest(self) -> Option<Block> {
        self.list.oldest()
    }

    /// Puts a block in; what `used` says of it is its place.
    pub(super) fn push<T: Default>(&mut self, nodes: &mut Nodes<T>, block: Block, used: impl Fn(&T) -> Used) {
        let own = used(nodes.at(block));
        let deeper = self.last != NONE && {
            let last = used(nodes.at(self.last));
            last.request == own.request && last.depth < own.depth
        };
        self.list.insert(nodes, block, if deeper { self.last } else { NONE });
        self.last = block;
    }

    pub(super) fn remove<T: Default>(&mut self, nodes: &mut Nodes<T>, block: Block) {
        if block == self.last {
            self.last = nodes.younger(block);
        }
        self.list.remove(nodes, block);
    }
}
