//! The KV block pool with vLLM's prefix cache and free queue.
//!
//! A block is *free*, *used* or *cached* (free but still hashed). Another order of eviction than vLLM's is a [`BlockEviction`]. vLLM's free queue is one list in which blocks without a
//! hash always stand in front: they are freed to the front and taken from the front, while hashed ones are freed to the
//! back (`vllm/v1/core/block_pool.py`, 0.33). Blocks without a hash are interchangeable, so a counter holds them; only
//! hashed blocks have an identity here.

use std::collections::VecDeque;

use crate::kv::eviction::{BlockEviction, BlockView};
use crate::kv::places::Places;
use crate::kv::radix::RadixTree;
use crate::kv::table::Table;

pub use crate::kv::names::{BlockMove, HashedBlock, Hit};

const NONE: u32 = u32::MAX;

/// A hashed block.
#[derive(Clone, Debug)]
struct Hashed {
    content: u64,
    refs: u32,
    /// The next younger block with the same content (duplicates are kept).
    younger: u32,
    /// Its number in the free queue while it stands there.
    ticket: u64,
}

/// Ticket of a block that is not in the free queue.
const HELD: u64 = u64::MAX;

/// The KV blocks of one replica.
#[derive(Debug)]
pub struct BlockPool {
    block_tokens: u32,
    total: u64,
    anonymous_free: u64,
    cached_free: u64,
    /// Hashed blocks by number.
    slab: Vec<Hashed>,
    numbers: Places,
    /// The free queue: blocks by the time at which they were released. Those that were shared since stand here until their turn
    /// comes: their tickets are others.
    queue: VecDeque<u32>,
    /// Ticket of the first in the queue.
    first: u64,
    index: Table,
    /// Says which cached block goes; `None`: the first of the queue does.
    policy: Option<Box<dyn BlockEviction>>,
    /// The latest use of every hashed block, where a policy or a tier below asks for it.
    views: Option<Vec<BlockView>>,
    /// What is cached, if that is a tree of runs (SGLang) and not a queue of single blocks.
    pub(super) tree: Option<Box<RadixTree>>,
    distinct_sum: u128,
    evictions: u64,
    /// Contents that came into the cache (true) or left it since they were last taken; `None` unless a caller asked for them.
    changes: Option<Vec<(u64, bool)>>,
    /// What happened to blocks since it was last taken; `None` unless a caller keeps tables.
    moves: Option<Vec<BlockMove>>,
    /// Blocks that are being dropped; empty in between.
    going: Vec<u32>,
}

impl BlockPool {
    /// A pool of `total` free blocks of `block_tokens` tokens each.
    pub fn new(total: u64, block_tokens: u32) -> Self {
        BlockPool {
            block_tokens,
            total,
            anonymous_free: total,
            cached_free: 0,
            slab: Vec::new(),
            numbers: Places::default(),
            queue: VecDeque::new(),
            first: 0,
            index: Table::new(),
            policy: None,
            views: None,
            tree: None,
            distinct_sum: 0,
            evictions: 0,
            changes: None,
            moves: None,
            going: Vec::new(),
        }
    }

    /// From now on a policy says which cached block goes. Call before the first block is taken.
    pub(crate) fn evict_by(&mut self, policy: Box<dyn BlockEviction>) {
        self.policy = Some(policy);
        self.keep_views();
    }

    /// From now on the latest use of every hashed block is kept
    pub(crate) fn keep_views(&mut self) {
        self.views = Some(Vec::new());
    }

    /// Tokens per block.
    pub fn block_tokens(&self) -> u32 {
        self.block_tokens
    }

    /// All blocks.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Blocks that can be taken, cached ones included.
    #[inline]
    pub fn free(&self) -> u64 {
        self.idle() + self.cached_free()
    }

    /// Free blocks that hold no content.
    #[inline]
    pub fn idle(&self) -> u64 {
        self.anonymous_free
    }

    /// Blocks held by requests.
    #[inline]
    pub fn used(&self) -> u64 {
        self.total - self.free()
    }

    /// Free blocks that still hold cached content.
    #[inline]
    pub fn cached_free(&self) -> u64 {
        self.tree.as_ref().map_or(self.cached_free, |tree| tree.evictable())
    }

    /// Used blocks whose content is cached in a tree, which several requests may share.
    pub fn locked(&self) -> u64 {
        self.tree.as_ref().map_or(0, |tree| tree.locked())
    }

    /// Cached blocks whose content was dropped to make room, so far.
    pub fn evictions(&self) -> u64 {
        self.tree.as_ref().map_or(self.evictions, |tree| tree.evictions())
    }

    /// Number of distinct contents in the cache (used or free), and the sum of their ids plus one each.
    pub fn cached_contents(&self) -> (u64, u128) {
        (self.index.len() as u64, self.distinct_sum)
    }

    /// Blocks that `tokens` tokens occupy.
    pub fn blocks_for(&self, tokens: u64) -> u64 {
        tokens.div_ceil(u64::from(self.block_tokens))
    }

    /// Takes `n` blocks; cached contents are dropped oldest first when blocks without content run out.
    ///
    /// # Panics
    /// If fewer than `n` blocks are free: the caller must have checked.
    #[inline]
    pub fn take(&mut self, n: u64) {
        assert!(n <= self.free(), "took {n} blocks with {} free", self.free());
        self.make_room(n);
        let missing = self.take_blank(n);
        if missing > 0 {
            self.drop_blocks(missing);
        }
    }

    /// Drops the contents that go next and takes their blocks.
    fn drop_blocks(&mut self, n: u64) {
        let mut going = std::mem::take(&mut self.going);
        going.extend((0..n).map(|_| self.victim()));
        self.index.warm(going.iter().map(|&block| self.slab[block as usize].content));
        for block in going.drain(..) {
            self.unhash(block);
            self.evictions += 1;
            self.note_move(BlockMove::Dropped { block: HashedBlock(block) });
        }
        self.going = going;
    }

    /// Takes up to `n` blocks without content. Returns how many are missing.
    #[inline]
    pub(crate) fn take_blank(&mut self, n: u64) -> u64 {
        let plain = n.min(self.anonymous_free);
        self.anonymous_free -= plain;
        n - plain
    }

    /// Drops the content that goes next and takes its block. The move is for the caller to note.
    pub(crate) fn drop_next(&mut self) -> HashedBlock {
        let block = self.victim();
        self.unhash(block);
        self.evictions += 1;
        HashedBlock(block)
    }

    /// The latest use of a block, which may have been dropped just now. Only where they are kept.
    pub(crate) fn latest_use(&self, block: HashedBlock) -> BlockView {
        self.views.as_ref().expect("uses are kept")[block.index()]
    }

    /// Takes the cached block that goes next out of the free ones.
    fn victim(&mut self) -> u32 {
        if let Some(policy) = &mut self.policy {
            self.cached_free -= 1;
            return policy.victim().expect("a cached block is free");
        }
        loop {
            let block = self.queue.pop_front().expect("a cached block is free");
            let place = &mut self.slab[block as usize];
            self.first += 1;
            if place.ticket == self.first - 1 {
                place.ticket = HELD;
                self.cached_free -= 1;
                return block;
            }
        }
    }

    /// Evicts runs of a tree, the oldest first, until `n` blocks without content are free or nothing may go.
    #[inline]
    pub(crate) fn make_room(&mut self, n: u64) {
        if n > self.anonymous_free && self.tree.is_some() {
            self.evict_runs(n);
        }
    }

    fn evict_runs(&mut self, n: u64) {
        if let Some(tree) = &mut self.tree {
            self.anonymous_free += tree.evict(n - self.anonymous_free);
        }
    }

    /// Returns `n` used blocks without content to the front of the free queue.
    pub fn give_back(&mut self, n: u64) {
        self.anonymous_free += n;
        assert!(self.free() <= self.total, "law 2: more blocks free than exist");
    }

    /// Drops the content of all free blocks.
    pub(crate) fn forget(&mut self) {
        self.make_room(self.total);
        while self.cached_free > 0 {
            let block = self.victim();
            self.unhash(block);
            self.anonymous_free += 1;
            self.note_move(BlockMove::Dropped { block: HashedBlock(block) });
        }
    }

    /// Looks up the longest cached prefix among `contents`.
    #[inline]
    pub fn lookup(&self, contents: &[u64]) -> Hit {
        if contents.is_empty() { Hit::default() } else { self.look_up(contents) }
    }

    fn look_up(&self, contents: &[u64]) -> Hit {
        if let Some(tree) = &self.tree {
            return tree.peek(contents);
        }
        let mut hit = Hit::default();
        for &content in contents {
            let Some(block) = self.find(content) else { break };
            hit.blocks += 1;
            hit.free += u32::from(self.slab[block as usize].refs == 0);
        }
        hit
    }

    /// Takes a reference to the oldest block that holds `content`.
    ///
    /// # Panics
    /// If the content is not cached: the caller has just looked it up.
    pub fn share(&mut self, content: u64) -> HashedBlock {
        let block = self.find(content).expect("shared content was looked up before");
        if self.slab[block as usize].refs == 0 {
            if let Some(policy) = &mut self.policy {
                policy.pinned(block);
            } else {
                self.slab[block as usize].ticket = HELD;
            }
            self.cached_free -= 1;
        }
        self.slab[block as usize].refs += 1;
        HashedBlock(block)
    }

    /// Tells the policy of the use of a block that was just shared.
    pub(crate) fn used_again(&mut self, block: HashedBlock, view: BlockView) {
        if let Some(policy) = &mut self.policy {
            policy.hit(block.0, &view);
        }
        self.keep_view(block, view);
    }

    /// Tells the policy of a block that was just given its content. `found` if another one had the content already.
    pub(crate) fn came(&mut self, block: HashedBlock, view: BlockView, found: bool) {
        if let Some(policy) = &mut self.policy {
            if !found {
                policy.missed(&view);
            }
            policy.admit(block.0, &view);
        }
        self.keep_view(block, view);
    }

    fn keep_view(&mut self, block: HashedBlock, view: BlockView) {
        if let Some(views) = &mut self.views {
            let at = block.index();
            if at >= views.len() {
                views.resize(at + 1, view);
            }
            views[at] = view;
        }
    }

    /// The oldest block that holds a content, if it is cached.
    pub(crate) fn cached(&self, content: u64) -> Option<HashedBlock> {
        self.find(content).map(HashedBlock)
    }

    /// Contents are about to be looked up or hashed: the memory may answer for all of them at once.
    #[inline]
    pub fn warm(&self, contents: impl Iterator<Item = u64>) {
        self.index.warm(contents);
    }

    /// Gives a used block without content the identity `content`; it is now shareable.
    pub fn hash(&mut self, content: u64) -> HashedBlock {
        let block = self.numbers.take();
        let entry = Hashed { content, refs: 1, younger: NONE, ticket: HELD };
        match self.slab.get_mut(block as usize) {
            Some(place) => *place = entry,
            None => self.slab.push(entry),
        }
        if let Some(mut last) = self.find(content) {
            while self.slab[last as usize].younger != NONE {
                last = self.slab[last as usize].younger;
            }
            self.slab[last as usize].younger = block;
        } else {
            self.index.insert(content, block);
            self.distinct_sum += u128::from(content) + 1;
            self.note(content, true);
        }
        HashedBlock(block)
    }

    /// Drops a reference; an unreferenced block goes to the back of the free queue, content kept.
    pub fn release(&mut self, block: HashedBlock) {
        let entry = &mut self.slab[block.0 as usize];
        assert!(entry.refs > 0, "law 2: a free block is released");
        entry.refs -= 1;
        if entry.refs > 0 {
            return;
        }
        self.cached_free += 1;
        if let Some(policy) = &mut self.policy {
            return policy.evictable(block.0);
        }
        entry.ticket = self.first + self.queue.len() as u64;
        self.queue.push_back(block.0);
        if self.queue.len() as u64 > 2 * self.cached_free + 64 {
            self.tidy();
        }
    }

    /// Drops what only stands in the queue before it outnumbers the others.
    #[cold]
    fn tidy(&mut self) {
        let (mut ticket, mut kept) = (self.first, self.first);
        self.queue.retain(|&block| {
            let place = &mut self.slab[block as usize];
            let stands = place.ticket == ticket;
            ticket += 1;
            if stands {
                place.ticket = kept;
                kept += 1;
            }
            stands
        });
    }

    /// Drops the content of a free block, which has none in truth. Returns it.
    ///
    /// # Panics
    /// If a request holds the block.
    pub(crate) fn discard(&mut self, block: HashedBlock) -> u64 {
        let place = &mut self.slab[block.index()];
        assert!(place.refs == 0, "law 2: a block that is held is discarded");
        place.ticket = HELD;
        let content = place.content;
        if let Some(policy) = &mut self.policy {
            policy.gone(block.0);
        }
        self.cached_free -= 1;
        self.unhash(block.0);
        self.anonymous_free += 1;
        self.note_move(BlockMove::Dropped { block });
        content
    }

    /// From now on [`BlockPool::take_changes`] returns which contents come and go.
    pub(crate) fn follow(&mut self) {
        if let Some(tree) = &mut self.tree {
            tree.follow();
        }
        self.changes = Some(Vec::new());
    }

    /// Contents that came into the cache (true) or left it since the last call, in order.
    pub(crate) fn take_changes(&mut self) -> Vec<(u64, bool)> {
        if let Some(tree) = &mut self.tree {
            return tree.take_changes();
        }
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// From now on [`BlockPool::take_moves`] returns what happens to blocks.
    pub(crate) fn track_moves(&mut self) {
        self.moves = Some(Vec::new());
        if let Some(tree) = &mut self.tree {
            tree.track_moves();
        }
    }

    /// Moves what happened to blocks since the last call to the end of a list, in order.
    pub(crate) fn take_moves(&mut self, into: &mut Vec<BlockMove>) {
        if let Some(tree) = &mut self.tree {
            tree.take_moves(into);
        }
        if let Some(moves) = &mut self.moves {
            into.append(moves);
        }
    }

    pub(crate) fn note_move(&mut self, what: BlockMove) {
        if let Some(tree) = &mut self.tree {
            return tree.note_move(what);
        }
        if let Some(moves) = &mut self.moves {
            moves.push(what);
        }
    }

    fn note(&mut self, content: u64, there: bool) {
        if let Some(changes) = &mut self.changes {
            changes.push((content, there));
        }
    }

    fn find(&self, content: u64) -> Option<u32> {
        self.index.find(content, |block| self.slab[block as usize].content == content)
    }

    /// Forgets the content of a block that has left the free queue.
    fn unhash(&mut self, block: u32) {
        let Hashed { content, younger, .. } = self.slab[block as usize];
        self.numbers.give_back(block);
        if younger == NONE && self.index.remove(content, block) {
            self.distinct_sum -= u128::from(content) + 1;
            self.note(content, false);
        } else if younger == NONE || !self.index.replace(content, block, younger) {
            // An older block has the same content.
            let mut older = self.find(content).expect("a hashed block is in the index");
            while self.slab[older as usize].younger != block {
                older = self.slab[older as usize].younger;
            }
            self.slab[older as usize].younger = younger;
        }
    }

    /// Law 2 for the pool alone: the queue's length, tickets and references agree with the counters.
    ///
    /// # Errors
    /// What disagrees.
    pub fn audit(&self) -> Result<(), String> {
        if self.free() > self.total {
            return Err(format!("{} of {} blocks are free", self.free(), self.total));
        }
        if self.policy.is_some() {
            return self.audit_cached();
        }
        let mut n = 0;
        for (ticket, &block) in (self.first..).zip(&self.queue) {
            let place = &self.slab[block as usize];
            if place.ticket == ticket {
                n += 1;
                if place.refs != 0 {
                    return Err(format!("free queue broken at block {block}"));
                }
            }
        }
        let is_free = |&(block, place): &(u32, &Hashed)| self.numbers.has(block) && place.refs == 0;
        let free = (0..).zip(&self.slab).filter(is_free).count() as u64;
        if n != self.cached_free || n != free {
            return Err(format!("free queue holds {n} of {free} cached blocks, counter says {}", self.cached_free));
        }
        if self.tree.is_some() && self.cached_free + self.index.len() as u64 > 0 {
            return Err("blocks are cached beside the tree".into());
        }
        Ok(())
    }

    /// The same where a policy keeps the free blocks: those that the index leads to are counted.
    fn audit_cached(&self) -> Result<(), String> {
        let mut cached = 0;
        for first in self.index.blocks() {
            let mut at = first;
            while at != NONE {
                let entry = &self.slab[at as usize];
                cached += u64::from(entry.refs == 0);
                at = entry.younger;
            }
        }
        if cached != self.cached_free {
            return Err(format!("{cached} free blocks are cached, the counter says {}", self.cached_free));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evicts_oldest_first_and_keeps_duplicates() {
        let mut pool = BlockPool::new(4, 16);
        pool.take(3);
        let a = pool.hash(7);
        let b = pool.hash(8);
        let twin = pool.hash(7);
        assert_eq!(pool.lookup(&[7, 8, 9]), Hit { blocks: 2, free: 0 });
        pool.release(b);
        pool.release(a);
        pool.release(twin);
        assert_eq!(pool.free(), 4);
        assert_eq!(pool.cached_contents(), (2, 17));
        pool.take(2); // one without content, then the oldest: 8
        assert_eq!(pool.lookup(&[7, 8]), Hit { blocks: 1, free: 1 });
        pool.take(1); // the older 7; its twin takes its place
        assert_eq!(pool.lookup(&[7]), Hit { blocks: 1, free: 1 });
        assert_eq!(pool.evictions(), 2);
        pool.audit().expect("sound");
        pool.take(1);
        assert_eq!(pool.lookup(&[7]), Hit::default());
        assert_eq!(pool.cached_contents(), (0, 0));
    }

    #[test]
    fn a_hit_leaves_the_free_queue() {
        let mut pool = BlockPool::new(2, 16);
        pool.take(2);
        let (a, b) = (pool.hash(1), pool.hash(2));
        pool.release(b);
        pool.release(a);
        let again = pool.share(2);
        assert_eq!(pool.free(), 1);
        pool.take(1);
        assert_eq!(pool.lookup(&[1]), Hit::default());
        pool.release(again);
        pool.give_back(1);
        assert_eq!(pool.free(), 2);
        pool.audit().expect("sound");
    }

    #[test]
    #[should_panic(expected = "took 3 blocks with 2 free")]
    fn never_hands_out_more_than_it_has() {
        BlockPool::new(2, 16).take(3);
    }
}
