//! Laws of the seam under random pins: no policy chooses a block that is pinned, has gone, or was chosen before, and none keeps an
//! evictable block for itself.

use std::collections::{BTreeMap, BTreeSet};

use overbook_sim::counter::draw;
use overbook_sim::kv::eviction::{Block, BlockEviction, BlockView, EvictionSpec, NEVER};

use super::access;

/// How often each branch of a random world was taken.
#[derive(Default, Debug)]
struct Coverage {
    hits: usize,
    shared: usize,
    copies: usize,
    victims: usize,
    gone: usize,
    none_left: usize,
}

/// A pool of 24 blocks and requests that hold paths of a tree.
struct World {
    policy: Box<dyn BlockEviction>,
    seed: u64,
    drawn: u64,
    /// Content of each block that is in the cache, and how many requests hold it.
    blocks: BTreeMap<Block, (u64, u32)>,
    unused: Vec<Block>,
    running: Vec<Vec<Block>>,
    requests: u64,
    coverage: Coverage,
}

const BLOCKS: u32 = 24;

impl World {
    fn new(policy: Box<dyn BlockEviction>, seed: u64) -> World {
        let (blocks, unused) = (BTreeMap::new(), (0..BLOCKS).collect());
        World {
            policy,
            seed,
            drawn: 0,
            blocks,
            unused,
            running: Vec::new(),
            requests: 0,
            coverage: Coverage::default(),
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.drawn += 1;
        draw(self.seed, self.drawn) % n
    }

    fn evictable(&self) -> Vec<Block> {
        self.blocks.iter().filter(|block| block.1.1 == 0).map(|block| *block.0).collect()
    }

    fn room(&mut self, view: &BlockView) -> Result<Option<Block>, String> {
        self.policy.missed(view);
        if let Some(block) = self.unused.pop() {
            return Ok(Some(block));
        }
        let evictable = self.evictable();
        match self.policy.victim() {
            None if evictable.is_empty() => {
                self.coverage.none_left += 1;
                Ok(None)
            }
            None => Err(format!("no victim among {evictable:?}")),
            Some(block) if evictable.contains(&block) => {
                self.coverage.victims += 1;
                self.blocks.remove(&block);
                Ok(Some(block))
            }
            Some(block) => Err(format!("{block} is not among {evictable:?}")),
        }
    }

    /// A request comes with a path; what is cached of it from the front is shared, the rest admitted while there is room.
    fn start(&mut self) -> Result<(), String> {
        self.requests += 1;
        let (deepest, ignores) = (1 + self.below(9), self.below(8) == 0);
        let (mut parent, mut content, mut found) = (None, 5, true);
        let mut held = Vec::new();
        for depth in 0..deepest {
            content = draw(content, self.below(2));
            let mut view = access(content, parent, depth as u32, self.requests).view;
            let next = self.below(50);
            view.next_use = Some(if next == 0 { NEVER } else { next });
            let there = self.blocks.iter().find(|block| block.1.0 == content).map(|block| *block.0);
            found &= there.is_some() && !ignores;
            if let Some(block) = there.filter(|_| found) {
                let refs = &mut self.blocks.get_mut(&block).expect("there").1;
                *refs += 1;
                if *refs == 1 {
                    self.policy.pinned(block);
                }
                self.coverage.shared += usize::from(*refs > 1);
                self.coverage.hits += 1;
                self.policy.hit(block, &view);
                held.push(block);
            } else if let Some(block) = self.room(&view)? {
                self.coverage.copies += usize::from(self.blocks.values().any(|other| other.0 == content));
                self.blocks.insert(block, (content, 1));
                self.policy.admit(block, &view);
                held.push(block);
            } else {
                break;
            }
            parent = Some(content);
        }
        self.running.push(held);
        Ok(())
    }

    fn end(&mut self) {
        let Some(last) = (self.running.len() as u64).checked_sub(1) else { return };
        let at = self.below(last + 1) as usize;
        for block in self.running.swap_remove(at).into_iter().rev() {
            let refs = &mut self.blocks.get_mut(&block).expect("held").1;
            *refs -= 1;
            if *refs == 0 {
                self.policy.evictable(block);
            }
        }
    }

    fn forget(&mut self) {
        let evictable = self.evictable();
        if !evictable.is_empty() {
            let block = evictable[self.below(evictable.len() as u64) as usize];
            self.blocks.remove(&block);
            self.policy.gone(block);
            self.unused.push(block);
            self.coverage.gone += 1;
        }
    }

    fn run(mut self, steps: usize) -> Result<Coverage, String> {
        for _ in 0..steps {
            match self.below(16) {
                0 => self.forget(),
                1..=8 if self.running.len() < 6 => self.start()?,
                _ => self.end(),
            }
            if self.blocks.len() + self.unused.len() != BLOCKS as usize {
                return Err(format!("law 2: {} of {BLOCKS} blocks", self.blocks.len() + self.unused.len()));
            }
        }
        // All of them come out in the end, each once.
        while !self.running.is_empty() {
            self.end();
        }
        let mut left: BTreeSet<Block> = self.evictable().into_iter().collect();
        while let Some(block) = self.policy.victim() {
            if !left.remove(&block) {
                return Err(format!("{block} came out twice, or was never in"));
            }
        }
        if left.is_empty() { Ok(self.coverage) } else { Err(format!("{left:?} never came out")) }
    }
}

#[test]
fn no_policy_takes_what_is_pinned_or_keeps_what_is_not() {
    for (name, spec) in EvictionSpec::every() {
        let mut all = Coverage::default();
        for seed in 0..60 {
            let coverage = World::new(spec.build(BLOCKS, seed), seed).run(600).unwrap_or_else(|problem| {
                panic!("{name} ({spec:?}), seed {seed}: {problem}");
            });
            all.hits += coverage.hits;
            all.shared += coverage.shared;
            all.copies += coverage.copies;
            all.victims += coverage.victims;
            all.gone += coverage.gone;
            all.none_left += coverage.none_left;
        }
        let least = [all.hits, all.shared, all.copies, all.victims, all.gone, all.none_left].into_iter().min();
        assert!(least > Some(100), "{name}: {all:?}");
    }
}

/// What a faulty policy does now and then.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    ForgetsToPin,
    ForgetsThatABlockIsFree,
    ChoosesTwice,
    KeepsWhatIsGone,
}

#[derive(Debug)]
struct Faulty {
    policy: Box<dyn BlockEviction>,
    fault: Fault,
    calls: u32,
    last: Option<Block>,
}

impl Faulty {
    fn now(&mut self, fault: Fault) -> bool {
        self.calls += u32::from(fault == self.fault);
        fault == self.fault && self.calls.is_multiple_of(9)
    }
}

impl BlockEviction for Faulty {
    fn admit(&mut self, block: Block, view: &BlockView) {
        self.policy.admit(block, view);
    }

    fn hit(&mut self, block: Block, view: &BlockView) {
        self.policy.hit(block, view);
    }

    fn evictable(&mut self, block: Block) {
        if !self.now(Fault::ForgetsThatABlockIsFree) {
            self.policy.evictable(block);
        }
    }

    fn pinned(&mut self, block: Block) {
        if !self.now(Fault::ForgetsToPin) {
            self.policy.pinned(block);
        }
    }

    fn victim(&mut self) -> Option<Block> {
        if self.last.is_some() && self.now(Fault::ChoosesTwice) {
            return self.last;
        }
        self.last = self.policy.victim();
        self.last
    }

    fn gone(&mut self, block: Block) {
        if !self.now(Fault::KeepsWhatIsGone) {
            self.policy.gone(block);
        }
    }
}

#[test]
fn every_planted_fault_is_found() {
    for fault in [Fault::ForgetsToPin, Fault::ForgetsThatABlockIsFree, Fault::ChoosesTwice, Fault::KeepsWhatIsGone] {
        for (name, spec) in EvictionSpec::every() {
            let found = (0..60).any(|seed| {
                let faulty = Faulty { policy: spec.build(BLOCKS, seed), fault, calls: 0, last: None };
                let world = || World::new(Box::new(faulty), seed).run(600).is_err();
                // Some faults break what a policy takes for granted, which it says by panicking.
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(world)).unwrap_or(true)
            });
            assert!(found, "{fault:?} in {name}");
        }
    }
}
