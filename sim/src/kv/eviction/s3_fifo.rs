//! S3-FIFO (Yang, Zhang, Qiu, Yue, Vinayak, *FIFO queues are all you need for cache eviction*, SOSP 2023, §4, Algorithm 1): new blocks
//! pass a small queue, those used again move to the main queue, and contents that leave the small one are remembered.

use serde::{Deserialize, Serialize};

use super::ghost::Ghost;
use super::list::{List, Nodes};
use super::{Block, BlockEviction, BlockView, EvictionPolicy};
use crate::check::Check;

/// Uses that count.
const USES_MAX: u8 = 3;

/// Three queues.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3FifoSpec {
    /// The small queue's share of the cache.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub small: f64,
    /// Contents that are remembered, as a share of the blocks of the cache.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub ghost: f64,
}

impl Default for S3FifoSpec {
    /// The paper's: 10 % of the cache, and as many contents as the main queue has blocks.
    fn default() -> Self {
        S3FifoSpec { small: 0.1, ghost: 0.9 }
    }
}

impl EvictionPolicy for S3FifoSpec {
    fn about(&self) -> &'static str {
        "A block that a request holds when its turn comes waits, and is young again when it is given back."
    }

    fn check(&self, check: &mut Check<'_>) {
        check.share_above_zero("small", self.small);
        check.share_above_zero("ghost", self.ghost);
    }

    fn build(&self, capacity: u32, _: u64) -> Box<dyn BlockEviction> {
        let share = |share: f64| (f64::from(capacity) * share) as u32;
        Box::new(S3Fifo {
            nodes: Nodes::new(),
            small: List::EMPTY,
            main: List::EMPTY,
            main_blocks: 0,
            main_most: capacity - share(self.small).clamp(1, capacity),
            ghost: Ghost::default(),
            ghost_most: share(self.ghost).max(1) as usize,
        })
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Kept {
    content: u64,
    uses: u8,
    pinned: bool,
    main: bool,
}

#[derive(Debug)]
struct S3Fifo {
    nodes: Nodes<Kept>,
    small: List,
    main: List,
    /// Blocks of the main part, those included that wait for their request.
    main_blocks: u32,
    /// Blocks that the main part has room for.
    main_most: u32,
    ghost: Ghost,
    ghost_most: usize,
}

impl S3Fifo {
    fn enter(&mut self, block: Block) {
        let list = if self.nodes.at(block).main { &mut self.main } else { &mut self.small };
        list.push(&mut self.nodes, block);
    }

    /// The next block of the small queue that goes, if one does; those used again move on.
    fn leaves_small(&mut self) -> Option<Block> {
        while self.main_blocks <= self.main_most {
            let block = self.small.oldest()?;
            self.small.remove(&mut self.nodes, block);
            let kept = self.nodes.kept(block);
            if kept.uses > 1 {
                (kept.main, kept.uses) = (true, 0);
                self.main_blocks += 1;
                self.main.push(&mut self.nodes, block);
            } else if !kept.pinned {
                let content = kept.content;
                self.ghost.push(content);
                self.ghost.trim(self.ghost_most);
                return Some(block);
            }
        }
        None
    }

    /// The next block of the main queue that goes: the first without a use since it was last looked at.
    fn leaves_main(&mut self) -> Option<Block> {
        loop {
            let block = self.main.oldest()?;
            self.main.remove(&mut self.nodes, block);
            let kept = self.nodes.kept(block);
            if kept.uses > 0 {
                kept.uses -= 1;
                self.main.push(&mut self.nodes, block);
            } else if !kept.pinned {
                self.main_blocks -= 1;
                return Some(block);
            }
        }
    }

    /// Whatever there is in the small queue, when the main one has nothing to give.
    fn any_small(&mut self) -> Option<Block> {
        loop {
            let block = self.small.oldest()?;
            self.small.remove(&mut self.nodes, block);
            let kept = *self.nodes.at(block);
            if !kept.pinned {
                self.ghost.push(kept.content);
                self.ghost.trim(self.ghost_most);
                return Some(block);
            }
        }
    }
}

impl BlockEviction for S3Fifo {
    fn warm(&self, contents: &[u64]) {
        self.ghost.warm(contents);
    }

    fn admit(&mut self, block: Block, view: &BlockView) {
        let main = self.ghost.take(view.content);
        self.main_blocks += u32::from(main);
        *self.nodes.kept(block) = Kept { content: view.content, uses: 0, pinned: true, main };
        self.enter(block);
    }

    fn hit(&mut self, block: Block, _: &BlockView) {
        let kept = self.nodes.kept(block);
        kept.uses = (kept.uses + 1).min(USES_MAX);
    }

    fn evictable(&mut self, block: Block) {
        self.nodes.kept(block).pinned = false;
        if !self.nodes.is_listed(block) {
            self.enter(block);
        }
    }

    fn pinned(&mut self, block: Block) {
        self.nodes.kept(block).pinned = true;
    }

    fn victim(&mut self) -> Option<Block> {
        self.leaves_small().or_else(|| self.leaves_main()).or_else(|| self.any_small())
    }

    fn gone(&mut self, block: Block) {
        let main = self.nodes.at(block).main;
        self.main_blocks -= u32::from(main);
        if self.nodes.is_listed(block) {
            let list = if main { &mut self.main } else { &mut self.small };
            list.remove(&mut self.nodes, block);
        }
    }
}
