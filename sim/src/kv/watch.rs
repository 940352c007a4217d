//! What a store has beside vLLM's cache on the GPUs: descriptions of uses for policies, tiers below, a record of accesses.

use std::collections::VecDeque;

use super::blocks::{BlockMove, BlockPool};
use super::eviction::{Block, BlockView};
use super::record::Record;
use super::spec::StoreSpec;
use super::tiers::{Below, Tiers};
use super::traffic::KvTraffic;
use super::turns::Turns;
use crate::time::Time;
use crate::workload::arrival::{ClassId, SessionId};

/// Who uses blocks, as policies may see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct User {
    /// Another number at every admission.
    pub(crate) admission: u64,
    pub(crate) class: ClassId,
    pub(crate) session: Option<SessionId>,
    pub(crate) priority: i32,
    /// Blocks that it asked for when it was admitted.
    pub(crate) asked: u32,
}

/// A block that has a name and is not below yet.
#[derive(Debug)]
struct Fresh {
    /// The step that computes it; `None` if it is computed.
    step: Option<(usize, u64)>,
    view: BlockView,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) tiers: Tiers,
    block_tokens: u32,
    turns: Turns,
    record: Option<Record>,
    /// In the order in which they got their names: the steps that compute them may be in flight.
    fresh: VecDeque<Fresh>,
    /// The step that is being planned: its lane, and the lane's clock when it is done.
    pub(super) planned: Option<(usize, u64)>,
    /// Time of the last event.
    pub(super) now: Time,
}

impl Watch {
    pub(super) fn new(spec: &StoreSpec, replica: u32, block_tokens: u32) -> Watch {
        Watch {
            tiers: Tiers::new(spec, replica),
            block_tokens,
            turns: Turns::default(),
            record: spec.record.then(Record::default),
            fresh: VecDeque::new(),
            planned: None,
            now: Time::ZERO,
        }
    }

    /// The use of a block among `contents`.
    pub(super) fn view(&self, contents: &[u64], index: usize, user: User) -> BlockView {
        BlockView {
            content: contents[index],
            parent: index.checked_sub(1).map(|before| contents[before]),
            depth: index as u32,
            tokens: self.block_tokens,
            at: self.now,
            request: user.admission,
            class: user.class,
            turn: self.turns.of(user.session),
            priority: user.priority,
            retention: None,
            cost: BlockView::cost_at(index as u32, self.block_tokens),
            next_use: None,
        }
    }

    /// As [`KvStore::take`](super::store::KvStore::take), with tiers below.
    pub(super) fn take(&mut self, blocks: u64, pool: &mut BlockPool) {
        if self.tiers.is_empty() {
            return pool.take(blocks);
        }
        assert!(blocks <= pool.free(), "took {blocks} blocks with {} free", pool.free());
        for _ in 0..pool.take_blank(blocks) {
            let block = pool.drop_next();
            if let Some(slot) = self.tiers.dropped(pool.latest_use(block), self.now) {
                pool.note_move(BlockMove::Stored { block, slot });
            }
            pool.note_move(BlockMove::Dropped { block });
        }
    }

    /// The block of a request has a name from now on.
    pub(super) fn named(&mut self, contents: &[u64], index: usize, user: User) {
        if let Some(record) = &mut self.record
            && index >= user.asked as usize
        {
            record.filled(contents[index], index as u32);
        }
        if !self.tiers.is_empty() {
            self.fresh.push_back(Fresh { step: self.planned, view: self.view(contents, index, user) });
        }
    }

    /// A content was named in the plan at hand for tokens that it has taken back: no tier gets it.
    pub(super) fn unnamed(&mut self, content: u64) {
        let planned = self.planned;
        self.fresh.retain(|block| block.step != planned || block.view.content != content);
    }

    /// As [`KvStore::done`](super::store::KvStore::done).
    pub(super) fn done(&mut self, lane: usize, clock: u64, pool: &mut BlockPool) {
        if self.fresh.is_empty() {
            return;
        }
        for block in std::mem::take(&mut self.fresh) {
            if block.step.is_some_and(|(of, at)| of != lane || at > clock) {
                self.fresh.push_back(block);
            } else if let Some(cached) = pool.cached(block.view.content)
                && let Some(slot) = self.tiers.computed(block.view, self.now)
            {
                pool.note_move(BlockMove::Stored { block: cached, slot });
            }
        }
    }

    /// As [`KvStore::arrives`](super::store::KvStore::arrives).
    pub(super) fn arrives(&mut self, contents: &[u64], user: User, pool: &BlockPool) {
        self.turns.count(user.session);
        if self.tiers.prefetches() {
            let hit = pool.lookup(contents).blocks as usize;
            let views: Vec<BlockView> = (hit..contents.len()).map(|index| self.view(contents, index, user)).collect();
            self.tiers.prefetch(&views, self.now);
        }
    }

    /// As [`KvStore::admitted`](super::store::KvStore::admitted).
    pub(super) fn admitted(&mut self, contents: &[u64], found: u32) {
        if let Some(record) = &mut self.record {
            record.asked(contents, found);
        }
        if !self.tiers.is_empty() {
            let below = self.tiers.lookup(&contents[found as usize..]);
            self.tiers.pass(&below);
        }
    }

    /// What of `contents`, which are not on the GPUs, is below and is to be loaded.
    pub(super) fn look_below(&self, contents: &[u64]) -> Below {
        let below = self.tiers.lookup(contents);
        if self.tiers.pays(&below, self.block_tokens) { below } else { Below::default() }
    }

    /// Begins to load what was found below of `contents`, after the first `hit` of them. Returns when it is there, and the slots.
    pub(super) fn load(&mut self, contents: &[u64], (hit, below): (u32, &Below), user: User) -> (Time, Vec<Block>) {
        let blocks = hit as usize..(hit + below.blocks()) as usize;
        let views: Vec<BlockView> = blocks.map(|index| self.view(contents, index, user)).collect();
        self.tiers.load(below, views.into_iter(), self.now)
    }

    /// Adds what has gone through the tiers, and the bound for a pool of `blocks` blocks above them.
    pub(super) fn add_traffic(&self, blocks: u64, traffic: &mut KvTraffic) {
        let mut all = blocks;
        for (sum, own) in traffic.tiers.iter_mut().zip(self.tiers.traffic()) {
            sum.traffic.add(own);
            all += u64::from(sum.blocks);
        }
        if let Some(record) = &self.record {
            traffic.bound.get_or_insert_default().add(&record.bound(all, self.block_tokens));
        }
    }
}
