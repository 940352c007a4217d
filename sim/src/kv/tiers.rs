//! Memories below that of the GPUs: copies of cached blocks, and the links by which they come and go.
//!
//! ```text
//! GPUs ── down: blocks that are computed (write through) or dropped (write back) ──► tier 1 ──► tier 2 …
//!      ◄── up: blocks that a request finds there, after all that it finds above ────
//! ```
//!
//! A copy counts from the moment at which its move ends. A move takes its place on the link at once; the block that it comes from may
//! be used again meanwhile. A tier keeps what it gives (it is *inclusive*). What is being
//! loaded is pinned until the load has its blocks, so that what these blocks held does not take its place.

use hashbrown::HashTable;

use super::eviction::{Block, BlockEviction, BlockView};
use super::link::Link;
use super::spec::{LoadRule, StoreSpec, TierSpec, WriteRule};
use crate::counter::{finish, mix};
use crate::time::{Span, Time};

/// Length and latency of a copy that takes no time.
const NO_TIME: (Span, Span) = (Span::ZERO, Span::ZERO);

/// What has gone through a tier.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TierTraffic {
    /// Blocks found in it and moved to the GPUs.
    pub loaded: u64,
    /// Blocks that requests found in it, and that were computed again because that was sooner, or for want of room.
    pub passed: u64,
    /// Blocks copied into it.
    pub written: u64,
    /// Blocks dropped from it to make room.
    pub dropped: u64,
    /// Blocks moved from it to the first tier before they were needed.
    pub prefetched: u64,
    /// Time that its links were in use, both ways together [ns].
    pub busy: u64,
}

impl TierTraffic {
    /// Adds that of another replica.
    pub(super) fn add(&mut self, other: &TierTraffic) {
        self.loaded += other.loaded;
        self.passed += other.passed;
        self.written += other.written;
        self.dropped += other.dropped;
        self.prefetched += other.prefetched;
        self.busy += other.busy;
    }
}

#[derive(Debug)]
struct Copy {
    view: BlockView,
    /// From when on it is there.
    ready: Time,
}

/// One memory.
#[derive(Debug)]
struct Tier {
    spec: TierSpec,
    index: HashTable<(u64, Block)>,
    copies: Vec<Copy>,
    policy: Box<dyn BlockEviction>,
    down: Link,
    up: Link,
    traffic: TierTraffic,
}

impl Tier {
    fn find(&self, content: u64) -> Option<Block> {
        self.index.find(finish(content), |entry| entry.0 == content).map(|entry| entry.1)
    }

    /// A place for a copy, and the copy that had to go for it; `None` if all are pinned.
    fn room(&mut self, view: BlockView) -> Option<(Block, Option<BlockView>)> {
        let copy = Copy { view, ready: Time::ZERO };
        if self.copies.len() < self.spec.blocks as usize {
            self.copies.push(copy);
            return Some(((self.copies.len() - 1) as Block, None));
        }
        let victim = self.policy.victim()?;
        let gone = std::mem::replace(&mut self.copies[victim as usize], copy).view;
        let entry = self.index.find_entry(finish(gone.content), |entry| *entry == (gone.content, victim));
        entry.expect("law 2: a victim is in its tier").remove();
        self.traffic.dropped += 1;
        Some((victim, Some(gone)))
    }
}

/// What a request finds below the GPUs, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Below {
    /// The tier of each block.
    tiers: Vec<u8>,
}

impl Below {
    /// Blocks found.
    pub(crate) fn blocks(&self) -> u32 {
        self.tiers.len() as u32
    }
}

/// All tiers of a replica.
#[derive(Debug)]
pub(crate) struct Tiers {
    list: Vec<Tier>,
    load: LoadRule,
    prefetch: bool,
    /// The replica's link to others, for tiers beyond it.
    network: Link,
    /// Whether copies take no time.
    instant: bool,
}

impl Tiers {
    pub(crate) fn new(spec: &StoreSpec, replica: u32) -> Tiers {
        let tier = |(number, tier): (u64, &TierSpec)| Tier {
            spec: tier.clone(),
            index: HashTable::new(),
            copies: Vec::new(),
            policy: tier.eviction.build(tier.blocks, mix(mix(spec.seed, u64::from(replica)), number)),
            down: Link::default(),
            up: Link::default(),
            traffic: TierTraffic::default(),
        };
        let tiers = (1..).zip(&spec.tiers).map(tier).collect();
        Tiers { list: tiers, load: spec.load, prefetch: spec.prefetch, network: Link::default(), instant: spec.instant }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What has gone through each tier.
    pub(crate) fn traffic(&self) -> impl Iterator<Item = &TierTraffic> {
        self.list.iter().map(|tier| &tier.traffic)
    }

    /// The replica's link to others.
    pub(crate) fn network(&mut self) -> &mut Link {
        &mut self.network
    }

    /// A block is in the memory of the GPUs from now on.
    /// Returns the slot of the first tier that it is copied to, if it is.
    pub(crate) fn computed(&mut self, view: BlockView, now: Time) -> Option<Block> {
        self.came(0, view, now)
    }

    /// A block goes from the memory of the GPUs.
    /// Returns the slot of the first tier that it is copied to, if it is.
    pub(crate) fn dropped(&mut self, view: BlockView, now: Time) -> Option<Block> {
        self.went(0, view, now)
    }

    /// A block came into the memory above a tier.
    fn came(&mut self, number: usize, view: BlockView, at: Time) -> Option<Block> {
        let copies = self.list.get(number).is_some_and(|tier| tier.spec.write == WriteRule::Through);
        if copies { self.put(number, view, at) } else { None }
    }

    /// A block went from the memory above a tier.
    fn went(&mut self, number: usize, view: BlockView, at: Time) -> Option<Block> {
        let copies = self.list.get(number).is_some_and(|tier| tier.spec.write == WriteRule::Back);
        if copies { self.put(number, view, at) } else { None }
    }

    /// Copies a block into a tier, unless it is there. Returns its slot there if it is copied.
    fn put(&mut self, number: usize, view: BlockView, at: Time) -> Option<Block> {
        let tier = &mut self.list[number];
        if let Some(block) = tier.find(view.content) {
            tier.policy.hit(block, &view);
            return None;
        }
        tier.policy.missed(&view);
        let (block, gone) = tier.room(view)?;
        let (length, latency) = if self.instant { NO_TIME } else { (tier.spec.length(1), tier.spec.latency) };
        let down = if tier.spec.network { &mut self.network } else { &mut tier.down };
        let ready = down.carry(at, length) + latency;
        tier.traffic.busy += length.0;
        self.insert((number, block), view, gone, (at, ready));
        Some(block)
    }

    /// Puts a copy into its place in a tier, where it will be at a moment.
    fn insert(
        &mut self,
        (number, block): (usize, Block),
        view: BlockView,
        gone: Option<BlockView>,
        (at, ready): (Time, Time),
    ) {
        let tier = &mut self.list[number];
        tier.copies[block as usize].ready = ready;
        tier.index.insert_unique(finish(view.content), (view.content, block), |entry| finish(entry.0));
        tier.policy.admit(block, &view);
        tier.policy.evictable(block);
        tier.traffic.written += 1;
        if let Some(gone) = gone {
            self.went(number + 1, gone, at);
        }
        self.came(number + 1, view, ready);
    }

    /// The leading blocks among `contents` that are in some tier: the nearest one that has it.
    pub(crate) fn lookup(&self, contents: &[u64]) -> Below {
        let nearest = |content: &u64| self.list.iter().position(|tier| tier.find(*content).is_some());
        Below { tiers: contents.iter().map_while(nearest).map(|number| number as u8).collect() }
    }

    /// Whether the rule has what was found loaded: an unused link must bring it in time, so that the answer does not change while a
    /// request waits.
    pub(crate) fn pays(&self, found: &Below, block_tokens: u32) -> bool {
        let mut time = Span::ZERO;
        for (number, tier) in (0..).zip(&self.list) {
            // The links are used side by side: the slowest one counts, and the latencies add up.
            let through = found.tiers.iter().filter(|&&at| at >= number).count() as u32;
            if through > 0 {
                time = Span(time.0.max(tier.spec.length(through).0 + tier.spec.latency.0));
            }
        }
        found.blocks() > 0 && self.load.takes(found.blocks() * block_tokens, time)
    }

    /// What was found is computed again.
    pub(crate) fn pass(&mut self, found: &Below) {
        for &number in &found.tiers {
            self.list[usize::from(number)].traffic.passed += 1;
        }
    }

    /// Moves what was found to the GPUs. `views` are those of its blocks. Returns when all of it is there, and the slot of each block in
    /// its tier.
    pub(crate) fn load(
        &mut self,
        found: &Below,
        views: impl Iterator<Item = BlockView>,
        now: Time,
    ) -> (Time, Vec<Block>) {
        let mut slots = Vec::with_capacity(found.tiers.len());
        let mut from = vec![now; self.list.len()];
        for (&number, view) in found.tiers.iter().zip(views) {
            let tier = &mut self.list[usize::from(number)];
            let block = tier.find(view.content).expect("what is loaded was found");
            tier.policy.pinned(block);
            tier.policy.hit(block, &view);
            tier.traffic.loaded += 1;
            slots.push(block);
            let from = &mut from[usize::from(number)];
            *from = (*from).max(tier.copies[block as usize].ready);
        }
        let mut end = now;
        for (number, from) in from.into_iter().enumerate() {
            let blocks = found.tiers.iter().filter(|&&at| usize::from(at) == number).count() as u32;
            end = end.max(self.up(number, 0, blocks, from));
        }
        (end, slots)
    }

    /// What is loaded has its blocks on the GPUs.
    pub(crate) fn unpin(&mut self, found: &Below, slots: &[Block]) {
        for (&number, &block) in found.tiers.iter().zip(slots).rev() {
            self.list[usize::from(number)].policy.evictable(block);
        }
    }

    /// Carries blocks from a tier up to above another one: all links at once, block after block. Returns when they are there.
    fn up(&mut self, number: usize, above: usize, blocks: u32, from: Time) -> Time {
        let mut end = from;
        if blocks > 0 {
            for tier in self.list[above..=number].iter_mut().rev() {
                let (length, latency) =
                    if self.instant { NO_TIME } else { (tier.spec.length(blocks), tier.spec.latency) };
                let up = if tier.spec.network { &mut self.network } else { &mut tier.up };
                end = end.max(up.carry(from, length)) + latency;
                tier.traffic.busy += length.0;
            }
        }
        end
    }

    /// Whether it moves blocks up before they are needed.
    pub(crate) fn prefetches(&self) -> bool {
        self.prefetch && self.list.len() > 1
    }

    /// A request that needs blocks has arrived: those in the second tier and below move to the first one, after all that are there.
    pub(crate) fn prefetch(&mut self, views: &[BlockView], now: Time) {
        for view in views {
            if self.list[0].find(view.content).is_some() {
                continue;
            }
            let Some(number) = self.list.iter().position(|tier| tier.find(view.content).is_some()) else { break };
            let tier = &mut self.list[number];
            let block = tier.find(view.content).expect("just seen");
            tier.policy.hit(block, view);
            let from = now.max(tier.copies[block as usize].ready);
            let first = &mut self.list[0];
            first.policy.missed(view);
            let Some((place, gone)) = first.room(*view) else { break };
            self.list[number].traffic.prefetched += 1;
            let ready = self.up(number, 1, 1, from);
            self.insert((0, place), *view, gone, (now, ready));
        }
    }

    /// Forgets all copies: the memory is lost.
    pub(crate) fn forget(&mut self) {
        for tier in &mut self.list {
            for block in 0..tier.copies.len() as Block {
                tier.policy.gone(block);
            }
            tier.index.clear();
            tier.copies.clear();
        }
    }

    /// Law 2 for the tiers: every copy is in the index once, and none is beyond the size.
    ///
    /// # Errors
    /// What disagrees.
    pub(crate) fn audit(&self) -> Result<(), String> {
        for tier in &self.list {
            let name = &tier.spec.name;
            if tier.copies.len() > tier.spec.blocks as usize || tier.copies.len() != tier.index.len() {
                return Err(format!("{} copies and {} contents in {name}", tier.copies.len(), tier.index.len()));
            }
            for (block, copy) in (0..).zip(&tier.copies) {
                if tier.find(copy.view.content) != Some(block) {
                    return Err(format!("copy {block} in {name} is not where its content is"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;
    use crate::kv::eviction::EvictionSpec;
    use crate::workload::arrival::ClassId;

    fn view(content: u64) -> BlockView {
        BlockView {
            content,
            parent: None,
            depth: 0,
            tokens: 16,
            at: Time::ZERO,
            request: content,
            class: ClassId(0),
            turn: 1,
            priority: 0,
            retention: None,
            cost: 1,
            next_use: None,
        }
    }

    fn tier(name: &str, blocks: u32, write: WriteRule) -> TierSpec {
        let (latency, block_cost) = (Span(5), Cost::from_ns(100.0));
        TierSpec { name: name.into(), blocks, latency, block_cost, network: false, write, eviction: EvictionSpec::Lru }
    }

    /// Three blocks in a tier of two, the first of which has gone to the tier below.
    fn two() -> Tiers {
        let list = vec![tier("host", 2, WriteRule::Through), tier("disk", 4, WriteRule::Back)];
        let mut tiers = Tiers::new(&StoreSpec { tiers: list, ..StoreSpec::default() }, 0);
        for content in 1..=3 {
            tiers.computed(view(content), Time(0));
        }
        tiers.audit().expect("sound");
        tiers
    }

    #[test]
    fn a_copy_waits_for_its_move_and_the_link_for_the_move_before() {
        let mut tiers = two();
        let found = tiers.lookup(&[1, 2, 3, 4]);
        assert_eq!(found.tiers, [1, 0, 0], "the first block went down, the last is nowhere");
        // Block 1 came to the host at 100, left for the disk at once, and is there at 105; block 3 came to the host at 305.
        let (end, slots) = tiers.load(&found, [view(1), view(2), view(3)].into_iter(), Time(0));
        assert_eq!(slots.len(), 3);
        // From the host: two blocks from 305 to 505. From the disk: one from 105 on, and then over the host's link from 505 to 605.
        assert_eq!(end, Time(605 + 5));
        assert_eq!((tiers.list[0].traffic.loaded, tiers.list[1].traffic.loaded), (2, 1));
    }

    #[test]
    fn what_is_loaded_is_not_pushed_out_before_it_has_blocks() {
        let mut tiers = two();
        let found = tiers.lookup(&[2, 3]);
        let (_, slots) = tiers.load(&found, [view(2), view(3)].into_iter(), Time(0));
        assert_eq!(tiers.computed(view(9), Time(0)), None, "both places are pinned");
        tiers.unpin(&found, &slots);
        assert!(tiers.computed(view(9), Time(0)).is_some());
        tiers.audit().expect("sound");
    }

    #[test]
    fn the_audit_notices_a_fault_in_any_tier() {
        type Fault = fn(&mut Tier);
        let faults: [(&str, Fault); 4] = [
            ("a lost copy", |tier| _ = tier.copies.pop()),
            ("a lost content", |tier| tier.index.clear()),
            ("two copies that have changed places", |tier| tier.copies.swap(0, 1)),
            ("more copies than fit", |tier| tier.spec.blocks = 1),
        ];
        for (what, fault) in faults {
            let mut tiers = two();
            fault(&mut tiers.list[0]);
            assert!(tiers.audit().is_err(), "the audit does not notice {what}");
        }
    }
}
