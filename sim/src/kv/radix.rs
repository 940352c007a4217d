//! SGLang's prefix cache: a tree whose nodes hold runs of blocks (`mem_cache/unified_cache/unified_tree_core.py` of 0.5.23, and before
//! it `mem_cache/radix_cache.py`).
//!
//! A node is split where a look-up or an insertion ends within it. A request *locks* the node at which its cached tokens end, and with
//! it the whole path from the root. What is not locked may be evicted: whole leaves, the one that was looked at longest ago first; a
//! parent that becomes a leaf competes with its own age. Ages are readings of a counter that every stamp advances.
//!
//! Contents are chained ids, one a block ([`Content`](crate::workload::arrival::Content)): a content has one place in the tree, and two
//! runs agree exactly up to their first difference.

mod order;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use hashbrown::HashTable;

use super::Seat;
use super::names::{BlockMove, HashedBlock, Hit, spread};

const NONE: u32 = u32::MAX;

/// The node that stands for no content at all: where every path starts.
pub(crate) const ROOT: u32 = 0;

/// A run of blocks below another one.
#[derive(Clone, Debug)]
struct Node {
    /// Empty for the root and for places in the table that are vacant.
    contents: Vec<u64>,
    /// Names of the blocks that hold them.
    blocks: Vec<u32>,
    parent: u32,
    children: u32,
    locks: u32,
    age: u64,
    /// Orders the children of a node: when the edge to this one came to be. A split keeps it.
    edge: u64,
}

/// Where a look-up or an insertion ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The node; its end is the end of what was found.
    pub(crate) node: u32,
    /// Blocks from the root to there that were cached before.
    pub(crate) blocks: u32,
}

/// The tree. It counts blocks, but does not own them: those of the tree are *used* blocks of the pool until they are evicted.
#[derive(Clone, Debug)]
pub(crate) struct RadixTree {
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    /// Nodes by the first of their contents.
    starts: HashTable<u32>,
    /// Leaves that nobody has locked, by age.
    leaves: BTreeSet<(u64, u32)>,
    clock: u64,
    evictable: u64,
    locked: u64,
    evictions: u64,
    /// Names of blocks that are free again.
    names: Vec<u32>,
    next_name: u32,
    /// What happened to blocks, and which contents came and went, if somebody follows it.
    moves: Option<Vec<BlockMove>>,
    changes: Option<Vec<(u64, bool)>>,
}

impl Default for RadixTree {
    fn default() -> Self {
        let root =
            Node { contents: Vec::new(), blocks: Vec::new(), parent: NONE, children: 0, locks: 1, age: 0, edge: 0 };
        RadixTree {
            nodes: vec![root],
            vacant: Vec::new(),
            starts: HashTable::new(),
            leaves: BTreeSet::new(),
            clock: 0,
            evictable: 0,
            locked: 0,
            evictions: 0,
            names: Vec::new(),
            next_name: 0,
            moves: None,
            changes: None,
        }
    }
}

impl RadixTree {
    /// Blocks that nobody has locked.
    pub(crate) fn evictable(&self) -> u64 {
        self.evictable
    }

    /// Blocks that requests have locked.
    pub(crate) fn locked(&self) -> u64 {
        self.locked
    }

    /// Blocks that were evicted so far.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// From now on [`RadixTree::take_moves`] returns what happens to blocks.
    pub(crate) fn track_moves(&mut self) {
        self.moves = Some(Vec::new());
    }

    /// Appends what has happened to blocks since the last call, in order.
    pub(crate) fn take_moves(&mut self, into: &mut Vec<BlockMove>) {
        if let Some(moves) = &mut self.moves {
            into.append(moves);
        }
    }

    /// From now on [`RadixTree::take_changes`] returns which contents come and go.
    pub(crate) fn follow(&mut self) {
        self.changes = Some(Vec::new());
    }

    /// Contents that came into the cache (true) or left it since the last call, in order.
    pub(crate) fn take_changes(&mut self) -> Vec<(u64, bool)> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Writes down what happened to a request's blocks beside the tree, in order with what happens in it.
    pub(crate) fn note_move(&mut self, what: BlockMove) {
        if let Some(moves) = &mut self.moves {
            moves.push(what);
        }
    }

    fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    fn node_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    fn child(&self, first: u64) -> Option<u32> {
        self.starts.find(spread(first), |&node| self.nodes[node as usize].contents[0] == first).copied()
    }

    fn start(&mut self, node: u32) {
        let nodes = &self.nodes;
        let first = nodes[node as usize].contents[0];
        self.starts.insert_unique(spread(first), node, |&node| spread(nodes[node as usize].contents[0]));
    }

    /// Makes a node the youngest of all.
    fn stamp(&mut self, node: u32) {
        self.clock += 1;
        let (clock, before) = (self.clock, self.node(node).age);
        self.node_mut(node).age = clock;
        if self.leaves.remove(&(before, node)) {
            self.leaves.insert((clock, node));
        }
    }

    fn is_open_leaf(&self, node: u32) -> bool {
        let Node { children, locks, .. } = *self.node(node);
        children == 0 && locks == 0
    }

    /// How many of `contents` a node begins with. Contents are chained: if they agree in one place, they do before it.
    fn common(&self, node: u32, contents: &[u64]) -> usize {
        let own = &self.node(node).contents;
        let most = own.len().min(contents.len());
        if own[most - 1] == contents[most - 1] {
            return most;
        }
        let (mut same, mut differs) = (0, most - 1);
        while same < differs {
            let middle = usize::midpoint(same, differs);
            if own[middle] == contents[middle] { same = middle + 1 } else { differs = middle }
        }
        same
    }

    fn add(&mut self, node: Node) -> u32 {
        let at = if let Some(at) = self.vacant.pop() {
            self.nodes[at as usize] = node;
            at
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        };
        self.start(at);
        at
    }

    /// Splits a node after its first `keep` blocks. It keeps the rest and the locks on it; returns its new parent, which has the
    /// same locks. The rest, which was not asked for, is the younger one.
    fn split(&mut self, node: u32, keep: usize) -> u32 {
        let rest = self.node_mut(node).contents.split_off(keep);
        let contents = std::mem::replace(&mut self.node_mut(node).contents, rest);
        let first = contents[0];
        let entry = self.starts.find_entry(spread(first), |&at| at == node);
        entry.expect("a node is found by its first content").remove();
        self.start(node);
        let rest = self.node_mut(node).blocks.split_off(keep);
        let blocks = std::mem::replace(&mut self.node_mut(node).blocks, rest);
        let Node { parent, locks, edge, .. } = *self.node(node);
        let prefix = self.add(Node { contents, blocks, parent, children: 1, locks, age: 0, edge });
        self.node_mut(node).parent = prefix;
        self.stamp(prefix);
        self.stamp(node);
        prefix
    }

    /// The longest cached beginning of `contents`, without any effect.
    pub(crate) fn peek(&self, contents: &[u64]) -> Hit {
        let (mut found, mut free) = (0, 0);
        while let Some(child) = contents.get(found).and_then(|&first| self.child(first)) {
            let common = self.common(child, &contents[found..]);
            found += common;
            free += if self.node(child).locks == 0 { common } else { 0 };
            if common < self.node(child).contents.len() {
                break;
            }
        }
        Hit { blocks: found as u32, free: free as u32 }
    }

    /// The longest cached beginning of `contents`. Splits the node in which it ends, and makes the path to there younger than all else.
    pub(crate) fn look_up(&mut self, contents: &[u64]) -> Place {
        let (mut node, mut found) = (ROOT, 0);
        while let Some(child) = contents.get(found).and_then(|&first| self.child(first)) {
            let common = self.common(child, &contents[found..]);
            found += common;
            if common < self.node(child).contents.len() {
                node = self.split(child, common);
                break;
            }
            node = child;
        }
        // The deeper the younger: the node itself is stamped last.
        let mut path = Vec::new();
        let mut at = node;
        while at != ROOT {
            path.push(at);
            at = self.node(at).parent;
        }
        for &node in path.iter().rev() {
            self.stamp(node);
        }
        Place { node, blocks: found as u32 }
    }

    /// Puts the first blocks of a request into the tree, `held` of which are those of the tree already. Returns the node at which they
    /// end, and how many were cached before: of these, the request's own blocks beyond `held` are duplicates, and no longer its own.
    pub(crate) fn insert(&mut self, seat: Seat, contents: &[u64], held: u32) -> Place {
        let (mut node, mut found) = (ROOT, 0);
        while let Some(mut child) = contents.get(found).and_then(|&first| self.child(first)) {
            self.stamp(child);
            let common = self.common(child, &contents[found..]);
            if common < self.node(child).contents.len() {
                child = self.split(child, common);
            }
            for index in (held as usize).max(found)..found + common {
                let block = HashedBlock(self.node(child).blocks[index - found]);
                self.note_move(BlockMove::Merged { seat, index: index as u32, block });
            }
            node = child;
            found += common;
        }
        let known = Place { node, blocks: found as u32 };
        if found == contents.len() {
            return known;
        }
        let blocks = (found..contents.len()).map(|index| self.name(seat, index as u32, contents[index])).collect();
        let edge = self.clock;
        let leaf = self.add(Node {
            contents: contents[found..].to_vec(),
            blocks,
            parent: node,
            children: 0,
            locks: 0,
            age: 0,
            edge,
        });
        self.leaves.remove(&(self.node(node).age, node));
        self.node_mut(node).children += 1;
        self.leaves.insert((0, leaf));
        self.evictable += (contents.len() - found) as u64;
        self.stamp(leaf);
        Place { node: leaf, ..known }
    }

    /// A name for a block that comes into the tree.
    fn name(&mut self, seat: Seat, index: u32, content: u64) -> u32 {
        let name = self.names.pop().unwrap_or_else(|| {
            self.next_name += 1;
            self.next_name - 1
        });
        self.note_move(BlockMove::Named { seat, index, block: HashedBlock(name) });
        if let Some(changes) = &mut self.changes {
            changes.push((content, true));
        }
        name
    }

    /// Tells that a request goes on with the blocks from the root to a node.
    pub(crate) fn share(&mut self, seat: Seat, node: u32) {
        if self.moves.is_none() {
            return;
        }
        let mut blocks = Vec::new();
        let mut at = node;
        while at != ROOT {
            blocks.extend(self.node(at).blocks.iter().rev());
            at = self.node(at).parent;
        }
        for &name in blocks.iter().rev() {
            self.note_move(BlockMove::Shared { seat, block: HashedBlock(name) });
        }
    }

    /// Blocks from the root to a node that nobody has locked.
    pub(crate) fn unlocked(&self, mut node: u32) -> u64 {
        let mut blocks = 0;
        while node != ROOT && self.node(node).locks == 0 {
            blocks += self.node(node).contents.len() as u64;
            node = self.node(node).parent;
        }
        blocks
    }

    /// Locks the path from the root to a node.
    pub(crate) fn lock(&mut self, mut node: u32) {
        while node != ROOT {
            let entry = &mut self.nodes[node as usize];
            entry.locks += 1;
            let (parent, size) = (entry.parent, entry.contents.len() as u64);
            if entry.locks == 1 {
                self.leaves.remove(&(entry.age, node));
                self.evictable -= size;
                self.locked += size;
            }
            node = parent;
        }
    }

    /// Takes a lock off the path from the root to a node.
    pub(crate) fn unlock(&mut self, mut node: u32) {
        while node != ROOT {
            let entry = &mut self.nodes[node as usize];
            assert!(entry.locks > 0, "law 2: a path is unlocked that was not locked");
            entry.locks -= 1;
            let (parent, size, age) = (entry.parent, entry.contents.len() as u64, entry.age);
            if entry.locks == 0 {
                self.evictable += size;
                self.locked -= size;
                if self.is_open_leaf(node) {
                    self.leaves.insert((age, node));
                }
            }
            node = parent;
        }
    }

    /// Evicts whole leaves, the oldest first, until `blocks` or more are gone, or nothing may go. Returns how many are.
    pub(crate) fn evict(&mut self, blocks: u64) -> u64 {
        let mut gone = 0;
        while gone < blocks {
            let Some((_, node)) = self.leaves.pop_first() else { break };
            let first = self.node(node).contents[0];
            let entry = self.starts.find_entry(spread(first), |&at| at == node);
            entry.expect("a node is found by its first content").remove();
            let contents = std::mem::take(&mut self.node_mut(node).contents);
            for name in std::mem::take(&mut self.node_mut(node).blocks) {
                self.note_move(BlockMove::Dropped { block: HashedBlock(name) });
                self.names.push(name);
            }
            gone += contents.len() as u64;
            if let Some(changes) = &mut self.changes {
                changes.extend(contents.into_iter().map(|content| (content, false)));
            }
            self.vacant.push(node);
            let parent = self.node(node).parent;
            self.node_mut(parent).children -= 1;
            if parent != ROOT && self.is_open_leaf(parent) {
                self.leaves.insert((self.node(parent).age, parent));
            }
        }
        self.evictable -= gone;
        self.evictions += gone;
        gone
    }

    /// Law 2 for the tree: counters and leaves are those of its nodes; `locks` are the nodes that requests have locked.
    ///
    /// # Errors
    /// What disagrees.
    pub(crate) fn audit(&self, locks: impl Iterator<Item = u32>) -> Result<(), String> {
        let mut held = vec![0; self.nodes.len()];
        for mut node in locks {
            while node != ROOT {
                held[node as usize] += 1;
                node = self.node(node).parent;
            }
        }
        let (mut evictable, mut locked, mut leaves) = (0, 0, BTreeSet::new());
        let mut children = vec![0; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate().skip(1).filter(|(_, node)| !node.contents.is_empty()) {
            children[node.parent as usize] += 1;
            if node.locks != held[at] {
                return Err(format!("a cached run has {} locks, requests hold {}", node.locks, held[at]));
            }
            let size = node.contents.len() as u64;
            let open = node.locks == 0;
            *(if open { &mut evictable } else { &mut locked }) += size;
            if open && node.children == 0 {
                leaves.insert((node.age, at as u32));
            }
            if node.blocks.len() != node.contents.len() || self.child(node.contents[0]) != Some(at as u32) {
                return Err("a cached run is not found by its first content".into());
            }
        }
        if self.nodes.iter().enumerate().any(|(at, node)| !node.contents.is_empty() && node.children != children[at]) {
            return Err("a cached run has a wrong number of children".into());
        }
        if (evictable, locked) != (self.evictable, self.locked) || leaves != self.leaves {
            return Err(format!("{evictable} blocks may be evicted, the tree says {}", self.evictable));
        }
        Ok(())
    }
}
