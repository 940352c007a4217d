//! One recorded order of block accesses, replayed on caches that pin nothing: bounds that are bounds.
//!
//! Each request uses the blocks of its prompt from the first to the last, then those of its answer where the trace names them. A
//! block that is not there is admitted, whatever it costs (*mandatory admission*). So the order of accesses is the same for every
//! policy and every size, and no policy finds more blocks than Belady's.

use hashbrown::HashTable;

use super::eviction::{Block, BlockEviction, BlockView, EvictionNeeds, EvictionSpec, NEVER};
use super::places::Places;
use super::table::Table;
use super::turns::Turns;
use crate::counter::finish;
use crate::workload::arrival::{Arrival, Workload, WorkloadError};

/// Why a workload cannot be replayed on caches.
#[derive(Debug, thiserror::Error)]
pub enum CacheReplayError {
    /// The workload is broken.
    #[error("{0}")]
    Workload(WorkloadError),
    /// It names no contents.
    #[error(
        "no request says what its blocks contain, so that nothing can be found again; traces of Mooncake and Bailian do, and \
         workloads with `sessions`"
    )]
    NoContents,
    /// Its blocks have several sizes.
    #[error("request {request} has blocks of {tokens} tokens, and those before it of {before}; a cache has one size")]
    BlockSizes {
        /// Number of the request, from 1.
        request: u64,
        /// Its tokens per block.
        tokens: u32,
        /// Those of the requests before.
        before: u32,
    },
    /// It has more accesses than are counted.
    #[error("there are more than {} accesses to blocks; take a part of the trace", u32::MAX - 2)]
    TooLong,
    /// It lacks what a policy goes by.
    #[error("`{policy}` cannot be compared here: {lacks}")]
    Lacks {
        /// The policy.
        policy: String,
        /// What it goes by and the workload does not have, and what it would be without.
        lacks: &'static str,
    },
    /// It gave other requests when it was read again.
    #[error("the workload was another one when it was read again; a trace must not change meanwhile")]
    Changed,
}

/// One use of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// What a policy sees.
    pub view: BlockView,
    /// It is a block of the prompt, and not of the answer.
    pub prompt: bool,
}

/// What a workload is, as caches see it.
#[derive(Clone, Debug, Default)]
pub struct CacheTraffic {
    /// Requests with lengths.
    pub requests: u64,
    /// Those of them whose contents are not known; nothing below counts them.
    pub unnamed: u64,
    /// Tokens of the prompts.
    pub prompt_tokens: u64,
    /// Tokens per block.
    pub block_tokens: u32,
    /// Blocks that prompts fill or begin, and those of answers that are named: what hit rates are shares of.
    pub blocks: u64,
    /// Accesses: the blocks among these that are full and named.
    pub accesses: u64,
    /// Distinct contents.
    pub distinct: u64,
    /// Blocks of the longest request.
    pub longest: u32,
    /// What an unlimited cache finds.
    pub unlimited: Found,
    /// Requests have several classes, or turns of sessions.
    pub categories: bool,
    /// Requests have several priorities.
    pub priorities: bool,
}

impl CacheTraffic {
    /// Share of all blocks that were found.
    pub fn block_rate(&self, found: Found) -> f64 {
        found.blocks as f64 / self.blocks.max(1) as f64
    }

    /// What a policy goes by that these requests do not have, and what it would be without; `None` if they have all of it.
    pub fn lacks(&self, needs: EvictionNeeds) -> Option<&'static str> {
        if needs.categories && !self.categories {
            return Some(
                "it tells classes of requests and turns of sessions apart, and here all requests are of one class without \
                 sessions; it would be `lru`",
            );
        }
        let lacks = "it goes by the priorities of requests, and here all have the same; it would be `sglang lru`";
        (needs.priorities && !self.priorities).then_some(lacks)
    }

    /// Share of the tokens of prompts that lie in leading blocks that were found: what an engine does not compute.
    pub fn token_rate(&self, found: Found) -> f64 {
        found.leading as f64 * f64::from(self.block_tokens) / self.prompt_tokens.max(1) as f64
    }
}

/// What a cache found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Found {
    /// Blocks that were there.
    pub blocks: u64,
    /// Those of prompts before which nothing was missing.
    pub leading: u64,
}

/// Turns requests into accesses.
#[derive(Debug, Default)]
pub struct Accesses {
    requests: u64,
    made: u64,
    turns: Turns,
}

impl Accesses {
    /// Adds the accesses of a request. `next_uses` are those of all accesses in order, if they are known.
    pub fn of(&mut self, arrival: &Arrival, next_uses: Option<&[u32]>, into: &mut Vec<Access>) {
        let turn = self.turns.count(arrival.session);
        let Some(content) = arrival.content.as_deref() else { return };
        let full = arrival.prompt_tokens / content.block_tokens;
        let mut parent = None;
        for (depth, &id) in (0_u32..).zip(&content.ids) {
            let next_use = next_uses.map(|next| match next.get(self.made as usize) {
                Some(&next) if next != u32::MAX => u64::from(next),
                _ => NEVER,
            });
            let view = BlockView {
                content: id,
                parent,
                depth,
                tokens: content.block_tokens,
                at: arrival.at,
                request: self.requests,
                class: arrival.class,
                turn,
                priority: arrival.priority,
                retention: None,
                cost: BlockView::cost_at(depth, content.block_tokens),
                next_use,
            };
            into.push(Access { view, prompt: depth < full });
            parent = Some(id);
            self.made += 1;
        }
        self.requests += 1;
    }

    /// Accesses so far.
    pub fn count(&self) -> u64 {
        self.made
    }
}

/// Reads a workload once: what it is, and when every access's content is used next, by number of the access (`u32::MAX`: never).
/// Needs four bytes an access and some thirty a distinct content. `go_on` hears after every request how many there were.
///
/// # Errors
/// The workload is broken or cannot be replayed. `Ok(None)` if `go_on` said no.
pub fn survey(
    workload: &mut dyn Workload,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<(CacheTraffic, Vec<u32>)>, CacheReplayError> {
    let mut traffic = CacheTraffic::default();
    let mut next_uses: Vec<u32> = Vec::new();
    // Content, and its last access.
    let mut seen: HashTable<(u64, u32)> = HashTable::new();
    let (mut accesses, mut batch) = (Accesses::default(), Vec::new());
    let mut first = None;
    while let Some(arrival) = workload.next_arrival().map_err(CacheReplayError::Workload)? {
        if arrival.failed_in_trace {
            continue;
        }
        traffic.count(&arrival)?;
        let kind = (arrival.class, arrival.priority);
        let (class, priority) = *first.get_or_insert(kind);
        traffic.categories |= class != kind.0 || arrival.session.is_some();
        traffic.priorities |= priority != kind.1;
        batch.clear();
        accesses.of(&arrival, None, &mut batch);
        let mut leading = true;
        for access in &batch {
            let (at, content) = (next_uses.len() as u32, access.view.content);
            let entry = seen.entry(finish(content), |entry| entry.0 == content, |entry| finish(entry.0));
            let mut entry = entry.or_insert((content, u32::MAX));
            let before = std::mem::replace(&mut entry.get_mut().1, at);
            leading &= before != u32::MAX && access.prompt;
            if before != u32::MAX {
                next_uses[before as usize] = at;
                traffic.unlimited.blocks += 1;
                traffic.unlimited.leading += u64::from(leading);
            }
            next_uses.push(u32::MAX);
        }
        if accesses.count() >= u64::from(u32::MAX - 2) {
            return Err(CacheReplayError::TooLong);
        }
        if !go_on(traffic.requests) {
            return Ok(None);
        }
    }
    (traffic.accesses, traffic.distinct) = (accesses.count(), seen.len() as u64);
    if traffic.accesses == 0 {
        return Err(CacheReplayError::NoContents);
    }
    Ok(Some((traffic, next_uses)))
}

impl CacheTraffic {
    fn count(&mut self, arrival: &Arrival) -> Result<(), CacheReplayError> {
        self.requests += 1;
        let Some(content) = arrival.content.as_deref() else {
            self.unnamed += 1;
            return Ok(());
        };
        let (tokens, before) = (content.block_tokens, self.block_tokens);
        if before != 0 && before != tokens {
            return Err(CacheReplayError::BlockSizes { request: self.requests, tokens, before });
        }
        self.block_tokens = tokens;
        self.prompt_tokens += u64::from(arrival.prompt_tokens);
        let named = content.ids.len() as u64;
        let answer = named.saturating_sub(u64::from(arrival.prompt_tokens / tokens));
        self.blocks += u64::from(arrival.prompt_tokens.div_ceil(tokens)) + answer;
        self.longest = self.longest.max(named as u32);
        Ok(())
    }
}

/// Accesses that memory is asked for at once: their lines fit into the first cache.
const AT_ONCE: usize = 64;

/// A cache of some blocks under a policy.
#[derive(Debug)]
pub struct Cache {
    capacity: u32,
    index: Table,
    /// Contents of blocks by number.
    contents: Vec<u64>,
    numbers: Places,
    policy: Box<dyn BlockEviction>,
    found: Found,
    /// Nothing of the request at hand was missing so far.
    leading: bool,
}

impl Cache {
    /// An empty cache of `capacity` blocks, at least 1.
    pub fn new(capacity: u32, policy: &EvictionSpec, seed: u64) -> Cache {
        Cache::with_policy(capacity, policy.build(capacity, seed))
    }

    /// The same with any policy.
    pub fn with_policy(capacity: u32, policy: Box<dyn BlockEviction>) -> Cache {
        assert!((1..u32::MAX - 2).contains(&capacity), "a cache of {capacity} blocks");
        let (index, contents) = (Table::new(), Vec::new());
        Cache { capacity, index, contents, numbers: Places::default(), policy, found: Found::default(), leading: false }
    }

    /// Uses blocks one after the other. Faster than one at a time: the memory answers for many of them at once.
    pub fn access_all(&mut self, accesses: &[Access]) {
        let mut contents = Vec::with_capacity(AT_ONCE);
        for accesses in accesses.chunks(AT_ONCE) {
            contents.clear();
            contents.extend(accesses.iter().map(|access| access.view.content));
            self.index.warm(contents.iter().copied());
            self.policy.warm(&contents);
            for access in accesses {
                self.access(access);
            }
        }
    }

    /// Uses a block; whether it was there.
    pub fn access(&mut self, access: &Access) -> bool {
        let view = &access.view;
        let holds = |block: Block| self.contents[block as usize] == view.content && self.numbers.has(block);
        let block = self.index.find(view.content, holds);
        self.leading = (self.leading || view.depth == 0) && block.is_some() && access.prompt;
        if let Some(block) = block {
            self.policy.hit(block, view);
            self.found.blocks += 1;
            self.found.leading += u64::from(self.leading);
            return true;
        }
        self.policy.missed(view);
        let block = self.room(view.content);
        let there = (0..).zip(&self.contents).filter(|&(block, _)| self.numbers.has(block));
        self.index.add(view.content, block, self.numbers.len(), there.map(|(block, &content)| (content, block)));
        self.policy.admit(block, view);
        self.policy.evictable(block);
        false
    }

    /// A block for a content, in the room of a victim if need be.
    fn room(&mut self, content: u64) -> Block {
        if self.numbers.len() == self.capacity as usize {
            self.numbers.give_back(self.policy.victim().expect("nothing is pinned, so that there is a victim"));
        }
        let block = self.numbers.take();
        match self.contents.get_mut(block as usize) {
            Some(place) => *place = content,
            None => self.contents.push(content),
        }
        block
    }

    /// What it has found so far.
    pub fn found(&self) -> Found {
        self.found
    }

    /// Contents that are there, in no order.
    pub fn contents(&self) -> impl Iterator<Item = u64> + '_ {
        (0..).zip(&self.contents).filter(|&(block, _)| self.numbers.has(block)).map(|(_, &content)| content)
    }
}
