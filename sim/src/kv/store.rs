//! The KV memory of a replica: the blocks of its GPUs, the tiers below them, and the operations on what requests hold.

mod tree;

use super::Seat;
use super::blocks::{BlockMove, BlockPool, HashedBlock, Hit};
use super::eviction::{BlockEviction, EvictionSpec};
use super::holding::KvHolding;
use super::link::Link;
use super::spec::StoreSpec;
use super::tiers::{Below, TierTraffic};
use super::traffic::KvTraffic;
use super::watch::{User, Watch};
use crate::counter::mix;
use crate::time::Time;

/// The host's memory, as far as whole requests are kept there.
const HOST: u8 = 1;

/// The KV memory of one replica.
#[derive(Debug)]
pub(crate) struct KvStore {
    pool: BlockPool,
    /// Blocks of the host for requests that were swapped out, and how many of them are taken.
    room: u64,
    swapped: u64,
    /// Blocks of tokens that went in the step planned last, which had them still.
    cut: u64,
    /// Whether its decisions depend on the time, so that no step is jumped over.
    timed: bool,
    /// What there is beside vLLM's cache on the GPUs. Most runs have nothing: the store stays small.
    watch: Option<Box<Watch>>,
    /// The replica's link to others, as long as no tier shares it.
    network: Link,
}

impl KvStore {
    /// `blocks` free blocks of `block_tokens` tokens on the GPUs, and room for `room` blocks of swapped requests on the host.
    pub(crate) fn new((blocks, block_tokens): (u64, u32), room: u64, spec: &StoreSpec, replica: u32) -> Self {
        let mut pool = BlockPool::new(blocks, block_tokens);
        let own = spec.eviction == EvictionSpec::Lru;
        if !own {
            let capacity = u32::try_from(blocks).unwrap_or(u32::MAX - 3);
            pool.evict_by(spec.eviction.build(capacity, mix(mix(spec.seed, u64::from(replica)), 0)));
        } else if !spec.tiers.is_empty() {
            pool.keep_views();
        }
        let timed = !spec.tiers.is_empty() || spec.eviction.needs().clock;
        let watched = !own || !spec.tiers.is_empty() || spec.record;
        let watch = watched.then(|| Box::new(Watch::new(spec, replica, block_tokens)));
        KvStore { pool, room, swapped: 0, cut: 0, timed, watch, network: Link::default() }
    }

    /// From now on this policy says which cached block of the GPUs goes; the time may matter to it. Call before the first block is taken.
    pub(crate) fn evict_by(&mut self, policy: Box<dyn BlockEviction>, spec: &StoreSpec, replica: u32) {
        let block_tokens = self.pool.block_tokens();
        self.pool.evict_by(policy);
        self.timed = true;
        self.watch.get_or_insert_with(|| Box::new(Watch::new(spec, replica, block_tokens)));
    }

    /// The blocks of the GPUs.
    pub(crate) fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// The same, to follow them.
    pub(crate) fn pool_mut(&mut self) -> &mut BlockPool {
        &mut self.pool
    }

    /// Whether there is anything beside vLLM's cache on the GPUs.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// What follows happens at this time.
    #[inline]
    pub(crate) fn at(&mut self, now: Time) {
        if let Some(watch) = &mut self.watch {
            watch.now = now;
        }
    }

    /// A step is being planned on a lane, whose clock will have this reading when it is done; `None`: no longer.
    pub(crate) fn plans(&mut self, step: Option<(usize, u64)>) {
        if let Some(watch) = &mut self.watch {
            watch.planned = step;
        }
    }

    /// The steps of a lane up to a reading of its clock are done: what they have computed goes below, where it is to.
    pub(crate) fn done(&mut self, lane: usize, clock: u64) {
        if let Some(watch) = &mut self.watch {
            watch.done(lane, clock, &mut self.pool);
        }
    }

    /// Whether what goes and what comes depends on the time: then every step is planned by itself.
    pub(crate) fn is_timed(&self) -> bool {
        self.timed
    }

    /// Free blocks on the GPUs, cached ones included.
    pub(crate) fn free(&self) -> u64 {
        self.pool.free()
    }

    /// Free blocks on the GPUs that hold no content.
    pub(crate) fn idle(&self) -> u64 {
        self.pool.idle()
    }

    /// Evicts cached runs until so many blocks hold no content, or nothing may go.
    pub(crate) fn make_room(&mut self, blocks: u64) {
        self.pool.make_room(blocks);
    }

    /// Blocks that so many slots take.
    #[inline]
    pub(crate) fn blocks_for(&self, slots: u32) -> u64 {
        self.pool.blocks_for(u64::from(slots))
    }

    /// Blocks that a holding takes to grow by `tokens`.
    #[inline]
    pub(crate) fn need(&self, holding: &KvHolding, tokens: u32) -> u64 {
        self.blocks_for(holding.kept + tokens).saturating_sub(holding.blocks())
    }

    /// Tokens of a holding go until it has `slots` slots at most. The blocks that it needs no longer are free from
    /// [`KvStore::free_cut`] on.
    pub(crate) fn cut(&mut self, seat: Seat, holding: &mut KvHolding, slots: u32) {
        if holding.kept <= slots {
            return;
        }
        debug_assert!(
            holding.named.is_empty() && holding.shared == 0,
            "law 2: nothing goes from blocks that others may use"
        );
        holding.kept = slots;
        let blocks = self.blocks_for(slots);
        if blocks < holding.blocks() {
            self.cut += holding.blocks() - blocks;
            holding.blocks = blocks as u32;
            self.pool.note_move(BlockMove::Cut { seat, blocks: blocks as u32 });
        }
    }

    /// Takes blocks for members of a standing set, whose holdings say so when they settle.
    ///
    /// # Panics
    /// If fewer are free.
    #[inline]
    pub(crate) fn take(&mut self, blocks: u64) {
        match &mut self.watch {
            None => self.pool.take(blocks),
            Some(watch) => watch.take(blocks, &mut self.pool),
        }
    }

    /// Gives a holding `tokens` more tokens.
    ///
    /// # Panics
    /// If their blocks are not free.
    #[inline]
    pub(crate) fn grow(&mut self, holding: &mut KvHolding, tokens: u32) {
        self.take(self.need(holding, tokens));
        holding.settle(tokens, self.pool.block_tokens());
    }

    /// Gives a holding the blocks of so many slots, ahead of its tokens.
    ///
    /// # Panics
    /// If they are not free.
    pub(crate) fn reserve(&mut self, holding: &mut KvHolding, slots: u32) {
        let blocks = self.blocks_for(slots);
        if blocks > holding.blocks() {
            self.take(blocks - holding.blocks());
            holding.blocks = blocks as u32;
        }
        holding.ahead = true;
    }

    /// Makes cached blocks the beginning of an empty holding.
    ///
    /// # Panics
    /// If a content is not cached.
    pub(crate) fn adopt(&mut self, seat: Seat, holding: &mut KvHolding, contents: &[u64], user: User) {
        for (index, &content) in contents.iter().enumerate() {
            let block = self.pool.share(content);
            if let Some(watch) = &self.watch {
                self.pool.used_again(block, watch.view(contents, index, user));
            }
            self.pool.note_move(BlockMove::Shared { seat, block });
            holding.named.push(block);
        }
        holding.settle(contents.len() as u32 * self.pool.block_tokens(), self.pool.block_tokens());
    }

    /// Contents are about to get blocks.
    #[inline]
    pub(crate) fn warm(&self, contents: impl Iterator<Item = u64>) {
        self.pool.warm(contents);
    }

    /// Tells the cache the contents of a holding's leading blocks; those that it knows already come first.
    pub(crate) fn name(&mut self, seat: Seat, holding: &mut KvHolding, contents: &[u64], user: User) {
        if self.pool.tree.is_some() {
            return; // It learns of prompts and outputs as a whole: see `publish`.
        }
        let first = holding.named.len();
        self.identify(seat, holding, contents, user);
        if let Some(watch) = &mut self.watch {
            for index in first..holding.named.len() {
                watch.named(contents, index, user);
            }
        }
    }

    /// The same for blocks that the tiers below know.
    fn identify(&mut self, seat: Seat, holding: &mut KvHolding, contents: &[u64], user: User) {
        let new = contents.get(holding.named.len()..).unwrap_or_default();
        if new.len() > 1 {
            self.pool.warm(new.iter().copied());
        }
        holding.named.reserve(new.len());
        while let Some(&content) = contents.get(holding.named.len()) {
            let found = self.watch.is_some() && self.pool.cached(content).is_some();
            let block = self.pool.hash(content);
            if let Some(watch) = &self.watch {
                self.pool.came(block, watch.view(contents, holding.named.len(), user), found);
            }
            self.pool.note_move(BlockMove::Named { seat, index: holding.named.len() as u32, block });
            holding.named.push(block);
        }
    }

    /// A request arrives that will ask for `contents`.
    pub(crate) fn arrives(&mut self, contents: &[u64], user: User) {
        if let Some(watch) = &mut self.watch {
            watch.arrives(contents, user, &self.pool);
        }
    }

    /// A request that asks for `contents` is admitted, the leading ones of which were found.
    pub(crate) fn admitted(&mut self, contents: &[u64], found: u32) {
        if let Some(watch) = &mut self.watch {
            watch.admitted(contents, found);
        }
    }

    /// The replica's link to others.
    pub(crate) fn network(&mut self) -> &mut Link {
        match &mut self.watch {
            Some(watch) => watch.tiers.network(),
            None => &mut self.network,
        }
    }

    /// What has gone through the tiers below, from the nearest to the farthest.
    pub(crate) fn tier_traffic(&self) -> impl Iterator<Item = &TierTraffic> {
        self.watch.iter().flat_map(|watch| watch.tiers.traffic())
    }

    /// Adds what has gone through the store.
    pub(crate) fn add_traffic(&self, traffic: &mut KvTraffic) {
        traffic.evicted += self.pool.evictions();
        if let Some(watch) = &self.watch {
            watch.add_traffic(self.pool.total(), traffic);
        }
    }

    /// The step in which tokens went is planned, or done: later ones may have their blocks.
    #[inline]
    pub(crate) fn free_cut(&mut self) {
        if self.cut > 0 {
            self.pool.give_back(std::mem::take(&mut self.cut));
        }
    }

    /// Frees all that a request holds on the GPUs, its last block first. What the cache knows of it stays there until the room
    /// is needed.
    #[inline]
    pub(crate) fn release(&mut self, seat: Seat, holding: &mut KvHolding) {
        self.pool.note_move(BlockMove::Released { seat });
        self.free_blocks(holding);
    }

    /// The same of a request of which only the first `tokens` tokens are computed: the cache forgets those of its blocks that were given
    /// their names for tokens that never came.
    pub(crate) fn release_computed(&mut self, seat: Seat, holding: &mut KvHolding, tokens: u32) {
        let full = (tokens / self.pool.block_tokens()) as usize;
        if self.pool.tree.is_some() {
            return self.release(seat, holding); // It learns of what is computed alone.
        }
        let empty: Vec<HashedBlock> = holding.named.get(full..).unwrap_or_default().to_vec();
        self.release(seat, holding);
        for block in empty {
            let content = self.pool.discard(block);
            if let Some(watch) = &mut self.watch {
                watch.unnamed(content);
            }
        }
    }

    /// Frees a holding, which may have left its request.
    #[inline]
    pub(crate) fn free_blocks(&mut self, holding: &mut KvHolding) {
        self.pool.give_back(holding.private());
        // Its budget stays, for when it is computed again.
        (holding.positions, holding.kept, holding.blocks) = (0, 0, 0);
        holding.ahead = false;
        self.unlock(holding);
        while let Some(block) = holding.named.pop() {
            self.pool.release(block);
        }
    }

    /// Takes blocks for a holding that comes from elsewhere.
    ///
    /// # Panics
    /// If they are not free.
    pub(crate) fn place(&mut self, holding: &mut KvHolding) {
        self.grow(holding, 0);
    }

    /// Whether the host has room for so many blocks of a request.
    pub(crate) fn has_room(&self, blocks: u64) -> bool {
        self.swapped + blocks <= self.room
    }

    /// Moves a holding without shared blocks to the host. Its blocks on the GPUs are free at once.
    ///
    /// # Panics
    /// If the host has no room.
    pub(crate) fn swap_out(&mut self, seat: Seat, holding: &mut KvHolding) {
        assert!(holding.named.is_empty() && self.has_room(holding.blocks()), "law 2: a swap without room");
        self.pool.note_move(BlockMove::Released { seat });
        self.pool.give_back(holding.blocks());
        self.swapped += holding.blocks();
        holding.tier = HOST;
    }

    /// Moves a holding back from the host.
    ///
    /// # Panics
    /// If its blocks are not free.
    pub(crate) fn swap_in(&mut self, holding: &mut KvHolding) {
        self.take(holding.blocks());
        self.swapped -= holding.blocks();
        holding.tier = 0;
    }

    /// Forgets a holding on the host.
    pub(crate) fn drop_swapped(&mut self, holding: &mut KvHolding) {
        if holding.tier == HOST {
            self.swapped -= holding.blocks();
        }
        *holding = KvHolding { budget: holding.budget, ..KvHolding::default() };
    }

    /// Blocks of swapped requests on the host.
    pub(crate) fn swapped(&self) -> u64 {
        self.swapped
    }

    /// Whether there are copies of blocks below the GPUs.
    #[inline]
    pub(crate) fn has_tiers(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| !watch.tiers.is_empty())
    }

    /// What of `contents` is on the GPUs, and what of the rest is below and is to be loaded.
    pub(crate) fn look_below(&self, contents: &[u64]) -> (Hit, Below) {
        let hit = self.pool.lookup(contents);
        let below = self.watch.as_ref().map(|watch| watch.look_below(&contents[hit.blocks as usize..]));
        (hit, below.unwrap_or_default())
    }

    /// Begins to load what was found: an empty holding gets the blocks that are on the GPUs, and others for what comes. Returns when it
    /// is there.
    ///
    /// # Panics
    /// If the blocks are not free.
    pub(crate) fn load(
        &mut self,
        seat: Seat,
        holding: &mut KvHolding,
        contents: &[u64],
        (hit, below): (Hit, &Below),
        user: User,
    ) -> Time {
        self.adopt(seat, holding, &contents[..hit.blocks as usize], user);
        let watch = self.watch.as_mut().expect("what is below was found");
        let (end, slots) = watch.load(contents, (hit.blocks, below), user);
        self.grow(holding, below.blocks() * self.pool.block_tokens());
        if let Some(watch) = &mut self.watch {
            watch.tiers.unpin(below, &slots);
        }
        for (index, slot) in (hit.blocks..).zip(slots) {
            self.pool.note_move(BlockMove::Loaded { seat, index, slot });
        }
        end
    }

    /// What was loaded is there: the cache knows it from now on, and nobody holds it.
    pub(crate) fn loaded(&mut self, seat: Seat, holding: &mut KvHolding, contents: &[u64], user: User) {
        let blocks = holding.blocks as usize;
        self.identify(seat, holding, &contents[..blocks], user);
        self.release(seat, holding);
    }

    /// All that no request holds is lost.
    pub(crate) fn forget(&mut self) {
        self.pool.forget();
        if let Some(watch) = &mut self.watch {
            watch.tiers.forget();
        }
    }

    /// A wrong count, for tests of the audit.
    #[cfg(test)]
    pub(crate) fn spoil_swapped(&mut self) {
        self.swapped += 1;
    }

    /// Law 2 for the store, against all holdings that there are, in transit included: those of members of a standing set are
    /// told as they would settle.
    ///
    /// # Errors
    /// What disagrees.
    pub(crate) fn audit<'a>(&self, holdings: impl Iterator<Item = (u64, &'a KvHolding)>) -> Result<(), String> {
        self.pool.audit()?;
        if let Some(watch) = &self.watch {
            watch.tiers.audit()?;
        }
        let (mut private, mut swapped, mut named, mut nodes) = (0, 0, Vec::new(), Vec::new());
        for (blocks, holding) in holdings {
            if holding.tier == 0 {
                private += blocks - holding.named.len() as u64 - u64::from(holding.shared);
            } else {
                swapped += blocks;
            }
            named.extend(holding.named.iter().map(|block| block.index()));
            nodes.push(holding.node);
        }
        named.sort_unstable();
        named.dedup();
        let mut held = private + named.len() as u64 + self.cut;
        if let Some(tree) = &self.pool.tree {
            tree.audit(nodes.into_iter())?;
            held += tree.locked();
        }
        if held != self.pool.used() {
            return Err(format!("requests hold {held} blocks, the pool says {}", self.pool.used()));
        }
        if swapped != self.swapped || swapped > self.room {
            return Err(format!("{swapped} blocks on the host, the store says {}", self.swapped));
        }
        Ok(())
    }
}
