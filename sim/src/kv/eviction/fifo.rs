//! First in, first out: uses change nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::list::{List, Nodes};
use super::{Block, BlockEviction, BlockView, EvictionPolicy};

pub(super) struct FifoSpec;

impl EvictionPolicy for FifoSpec {
    fn about(&self) -> &'static str {
        "By the time at which a block came; uses change nothing, so that the beginning of a prefix goes before its end."
    }

    fn build(&self, _: u32, _: u64) -> Box<dyn BlockEviction> {
        Box::new(Fifo { nodes: Nodes::new(), queue: List::EMPTY, passed: BinaryHeap::new(), came: 0 })
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Kept {
    /// Number under which it came.
    came: u64,
    pinned: bool,
    /// Its turn came while it was pinned.
    passed: bool,
}

#[derive(Debug)]
struct Fifo {
    nodes: Nodes<Kept>,
    /// Blocks whose turn has not come yet.
    queue: List,
    /// Blocks whose turn came while they were pinned, by number: all of them came before those in the queue.
    passed: BinaryHeap<Reverse<(u64, Block)>>,
    came: u64,
}

impl BlockEviction for Fifo {
    fn admit(&mut self, block: Block, _: &BlockView) {
        *self.nodes.kept(block) = Kept { came: self.came, pinned: true, passed: false };
        self.came += 1;
        self.queue.push(&mut self.nodes, block);
    }

    fn hit(&mut self, _: Block, _: &BlockView) {}

    fn evictable(&mut self, block: Block) {
        let kept = self.nodes.kept(block);
        kept.pinned = false;
        if kept.passed {
            self.passed.push(Reverse((kept.came, block)));
        }
    }

    fn pinned(&mut self, block: Block) {
        self.nodes.kept(block).pinned = true;
    }

    fn victim(&mut self) -> Option<Block> {
        while let Some(Reverse((came, block))) = self.passed.pop() {
            let kept = self.nodes.kept(block);
            if kept.passed && kept.came == came && !kept.pinned {
                kept.passed = false;
                return Some(block);
            }
        }
        while let Some(block) = self.queue.oldest() {
            self.queue.remove(&mut self.nodes, block);
            let kept = self.nodes.kept(block);
            if !kept.pinned {
                return Some(block);
            }
            kept.passed = true;
        }
        None
    }

    fn gone(&mut self, block: Block) {
        self.nodes.kept(block).passed = false;
        if self.nodes.is_listed(block) {
            self.queue.remove(&mut self.nodes, block);
        }
    }
}
