//! Alibaba's workload-aware policy (*KVCache Cache in the Wild*, arXiv 2506.02634, §5): within a category of requests the times to the
//! next use are about exponential, so the chance that a block is used again while it would stay follows from its age. The least
//! likely block goes; of equally likely ones the deepest. One queue a category, so that a victim costs as many looks as there are.

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::list::{NONE, Nodes, Recency, Used};
use super::{Block, BlockEviction, BlockView, EvictionNeeds, EvictionPolicy};
use crate::check::Check;
use crate::counter::finish;
use crate::time::Time;

/// Categories of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadAwareSpec {
    /// Turns of a session that are told apart, beside the classes of requests; later ones count as the last.
    #[schemars(range(min = 1))]
    pub turns: u32,
}

impl Default for WorkloadAwareSpec {
    fn default() -> Self {
        WorkloadAwareSpec { turns: 8 }
    }
}

impl EvictionPolicy for WorkloadAwareSpec {
    fn needs(&self) -> EvictionNeeds {
        EvictionNeeds { categories: true, ..EvictionNeeds::default() }
    }

    fn about(&self) -> &'static str {
        "A category is a class and a turn. Its share of uses that are followed by another, and the mean time between, are those seen \
         so far; the time that a block would stay is that of the last blocks that went."
    }

    fn check(&self, check: &mut Check<'_>) {
        check.positive("turns", self.turns);
    }

    fn build(&self, _: u32, _: u64) -> Box<dyn BlockEviction> {
        Box::new(WorkloadAware {
            turns: self.turns,
            nodes: Nodes::new(),
            found: HashTable::new(),
            categories: Vec::new(),
            reuses: 0,
            between_s: 0.0,
            stay_s: 0.0,
            now: Time::ZERO,
        })
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Kept {
    used: Used,
    category: u32,
    at: Time,
}

#[derive(Debug)]
struct Category {
    key: u64,
    free: Recency,
    uses: u64,
    reuses: u64,
    /// Sum of the times between uses [s].
    between_s: f64,
}

impl Category {
    /// Chance that a block that was last used `age_s` ago is used in the next `stay_s`. What little is known of a category is
    /// filled up with one use that is followed by another after `mean_s`.
    fn chance(&self, age_s: f64, stay_s: f64, mean_s: f64) -> f64 {
        let reuses = (self.reuses + 1) as f64;
        let rate = reuses / (self.between_s + mean_s);
        reuses / (self.uses + 1) as f64 * (-rate * age_s).exp() * (1.0 - (-rate * stay_s).exp())
    }
}

/// Weight of the newest victim in the mean time that blocks stay.
const NEWEST: f64 = 1.0 / 64.0;

#[derive(Debug)]
struct WorkloadAware {
    turns: u32,
    nodes: Nodes<Kept>,
    /// Numbers of the categories by class and turn.
    found: HashTable<u32>,
    categories: Vec<Category>,
    /// Second uses and the sum of the times to them [s], of all categories.
    reuses: u64,
    between_s: f64,
    /// Mean time from a block's last use to its end [s].
    stay_s: f64,
    now: Time,
}

impl WorkloadAware {
    fn category(&mut self, view: &BlockView) -> u32 {
        let key = u64::from(view.class.0) << 32 | u64::from(view.turn.min(self.turns));
        let categories = &mut self.categories;
        if let Some(&found) = self.found.find(finish(key), |&at| categories[at as usize].key == key) {
            return found;
        }
        let at = categories.len() as u32;
        categories.push(Category { key, free: Recency::EMPTY, uses: 0, reuses: 0, between_s: 0.0 });
        self.found.insert_unique(finish(key), at, |&at| finish(categories[at as usize].key));
        at
    }

    fn remove(&mut self, block: Block) {
        let category = self.nodes.at(block).category;
        self.categories[category as usize].free.remove(&mut self.nodes, block);
    }
}

impl BlockEviction for WorkloadAware {
    fn missed(&mut self, view: &BlockView) {
        self.now = view.at;
    }

    fn admit(&mut self, block: Block, view: &BlockView) {
        self.now = view.at;
        let category = self.category(view);
        self.categories[category as usize].uses += 1;
        let used = Used { request: view.request as u32, depth: view.depth };
        *self.nodes.kept(block) = Kept { used, category, at: view.at };
    }

    fn hit(&mut self, block: Block, view: &BlockView) {
        let listed = self.nodes.is_listed(block);
        if listed {
            self.remove(block);
        }
        let before = *self.nodes.at(block);
        let category = &mut self.categories[before.category as usize];
        let between_s = view.at.since(before.at).as_secs_f64();
        category.reuses += 1;
        category.between_s += between_s;
        (self.reuses, self.between_s) = (self.reuses + 1, self.between_s + between_s);
        self.admit(block, view);
        if listed {
            self.evictable(block);
        }
    }

    fn evictable(&mut self, block: Block) {
        let category = self.nodes.at(block).category as usize;
        self.categories[category].free.push(&mut self.nodes, block, |kept| kept.used);
    }

    fn pinned(&mut self, block: Block) {
        self.remove(block);
    }

    fn victim(&mut self) -> Option<Block> {
        let mean_s = (self.between_s + 1.0) / (self.reuses + 1) as f64;
        let (mut least, mut victim) = ((f64::INFINITY, 0), NONE);
        for category in &self.categories {
            let Some(block) = category.free.oldest() else { continue };
            let kept = self.nodes.at(block);
            let chance = category.chance(self.now.since(kept.at).as_secs_f64(), self.stay_s, mean_s);
            // Of equally likely ones the deepest.
            let rank = (chance, u32::MAX - kept.used.depth);
            if rank < least {
                (least, victim) = (rank, block);
            }
        }
        if victim == NONE {
            return None;
        }
        let stayed = self.now.since(self.nodes.at(victim).at).as_secs_f64();
        self.stay_s += (stayed - self.stay_s) * NEWEST;
        self.remove(victim);
        Some(victim)
    }

    fn gone(&mut self, block: Block) {
        if self.nodes.is_listed(block) {
            self.remove(block);
        }
    }
}
