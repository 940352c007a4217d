//! SGLang's radix cache: only leaves go, in one of seven orders (`python/sglang/srt/mem_cache/evict_policy.py` and `radix_cache.py`,
//! 0.5). A path that a request is using is locked.

use serde::{Deserialize, Serialize};

use super::heap::key;
use super::ranked::Ranked;
use super::tree::Tree;
use super::{Block, BlockEviction, BlockView, EvictionNeeds, EvictionPolicy};

/// Which leaf goes first (`--radix-eviction-policy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeafOrder {
    /// Least recently used.
    #[default]
    Lru,
    /// Fewest uses, then least recently used.
    Lfu,
    /// Oldest.
    Fifo,
    /// Most recently used.
    Mru,
    /// Youngest.
    Filo,
    /// Least urgent of all requests that used it, then least recently used.
    Priority,
    /// Fewer than two uses before two and more, then least recently used.
    Slru,
}

impl LeafOrder {
    /// All seven.
    pub const ALL: [LeafOrder; 7] = [
        LeafOrder::Lru,
        LeafOrder::Lfu,
        LeafOrder::Fifo,
        LeafOrder::Mru,
        LeafOrder::Filo,
        LeafOrder::Priority,
        LeafOrder::Slru,
    ];

    /// Its name in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            LeafOrder::Lru => "lru",
            LeafOrder::Lfu => "lfu",
            LeafOrder::Fifo => "fifo",
            LeafOrder::Mru => "mru",
            LeafOrder::Filo => "filo",
            LeafOrder::Priority => "priority",
            LeafOrder::Slru => "slru",
        }
    }
}

/// Leaves of the prefix tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SglangSpec {
    /// Which of them goes first.
    pub order: LeafOrder,
}

impl EvictionPolicy for SglangSpec {
    fn needs(&self) -> EvictionNeeds {
        EvictionNeeds { priorities: self.order == LeafOrder::Priority, ..EvictionNeeds::default() }
    }

    fn about(&self) -> &'static str {
        "Every block is a node of its own; SGLang's leaves are whole runs of tokens, which go at once. The request at hand goes last."
    }

    fn build(&self, _: u32, _: u64) -> Box<dyn BlockEviction> {
        let (tree, blocks) = (Tree::default(), Ranked::default());
        Box::new(Sglang { order: self.order, tree, blocks, nodes: Vec::new(), tick: 0 })
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Node {
    came: u64,
    uses: u64,
    /// Of the most urgent request that used it, more is more urgent.
    urgency: i64,
}

#[derive(Debug)]
struct Sglang {
    order: LeafOrder,
    tree: Tree,
    blocks: Ranked,
    nodes: Vec<Node>,
    tick: u64,
}

impl Sglang {
    fn used(&mut self, block: Block, view: &BlockView) {
        let node = &mut self.nodes[block as usize];
        node.uses += 1;
        node.urgency = node.urgency.max(-i64::from(view.priority));
        let now = self.tick;
        let (first, second) = match self.order {
            LeafOrder::Lru => (now, 0),
            LeafOrder::Lfu => (node.uses, now),
            LeafOrder::Fifo => (node.came, 0),
            LeafOrder::Mru => (!now, 0),
            LeafOrder::Filo => (!node.came, 0),
            LeafOrder::Priority => (node.urgency.wrapping_sub(i64::MIN) as u64, now),
            LeafOrder::Slru => (u64::from(node.uses >= 2), now),
        };
        self.blocks.used(block, view.request, key(first, second), |other| self.tree.is_leaf(other));
    }
}

impl BlockEviction for Sglang {
    fn warm(&self, contents: &[u64]) {
        self.tree.warm(contents);
    }

    fn missed(&mut self, view: &BlockView) {
        self.blocks.at_hand(view.request, |block| self.tree.is_leaf(block));
    }

    fn admit(&mut self, block: Block, view: &BlockView) {
        self.tick += 1;
        let at = block as usize;
        if at >= self.nodes.len() {
            self.nodes.resize(at + 1, Node::default());
        }
        self.nodes[at] = Node { came: self.tick, uses: 0, urgency: i64::MIN };
        self.tree.admit(block, view, |copy| self.blocks.may_go(copy, |_| true));
        self.used(block, view);
    }

    fn hit(&mut self, block: Block, view: &BlockView) {
        self.tick += 1;
        self.used(block, view);
    }

    fn evictable(&mut self, block: Block) {
        self.blocks.set_free(block, true, |block| self.tree.is_leaf(block));
    }

    fn pinned(&mut self, block: Block) {
        self.blocks.set_free(block, false, |_| false);
    }

    fn victim(&mut self) -> Option<Block> {
        let block = self.blocks.victim(|block| self.tree.is_leaf(block))?;
        self.tree.remove(block, |parent| self.blocks.may_go(parent, |_| true));
        Some(block)
    }

    fn gone(&mut self, block: Block) {
        self.blocks.gone(block);
        self.tree.remove(block, |parent| self.blocks.may_go(parent, |_| true));
    }
}
