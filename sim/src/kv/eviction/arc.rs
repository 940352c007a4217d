//! ARC (Megiddo and Modha, *ARC: a self-tuning, low overhead replacement cache*, FAST 2003, Figure 4): blocks used once and blocks
//! used more often in two lists, and the contents that left each; a content that is missed right after it went shifts room to the
//! list that it went from.

use super::ghost::Ghost;
use super::list::{List, Nodes};
use super::{Block, BlockEviction, BlockView, EvictionPolicy};

pub(super) struct ArcSpec;

impl EvictionPolicy for ArcSpec {
    fn about(&self) -> &'static str {
        "As published; every block of a prompt is an access of its own."
    }

    fn build(&self, capacity: u32, _: u64) -> Box<dyn BlockEviction> {
        Box::new(Arc {
            capacity: capacity as usize,
            target: 0.0,
            nodes: Nodes::new(),
            lists: [List::EMPTY; 2],
            blocks: [0; 2],
            ghosts: [Ghost::default(), Ghost::default()],
            coming: Ghost::default(),
            was_often: false,
            forget_once: false,
        })
    }
}

/// Index of what was used once: T1 and B1.
const ONCE: usize = 0;
/// Index of what was used more often: T2 and B2.
const OFTEN: usize = 1;

#[derive(Clone, Copy, Default, Debug)]
struct Kept {
    content: u64,
    list: usize,
}

#[derive(Debug)]
struct Arc {
    capacity: usize,
    /// Blocks that those used once should have: the paper's p.
    target: f64,
    nodes: Nodes<Kept>,
    /// Evictable blocks of T1 and T2.
    lists: [List; 2],
    /// All blocks of T1 and T2, pinned ones included.
    blocks: [usize; 2],
    /// B1 and B2.
    ghosts: [Ghost; 2],
    /// Contents that were remembered when they were missed, and have not come in yet: at most as many as the cache has blocks,
    /// because a pool may give a request up that it had announced.
    coming: Ghost,
    /// The content missed last was in B2.
    was_often: bool,
    /// T1 alone fills the cache: what goes is not remembered.
    forget_once: bool,
}

impl Arc {
    /// Cases II and III of the paper: a content comes back that is remembered, and shifts the target. Whether it is.
    fn recall(&mut self, content: u64) -> bool {
        let [once, often] = [ONCE, OFTEN].map(|list| self.ghosts[list].len() as f64);
        if self.ghosts[ONCE].take(content) {
            self.target = (self.target + (often / once).max(1.0)).min(self.capacity as f64);
            return true;
        }
        self.was_often = self.ghosts[OFTEN].take(content);
        if self.was_often {
            self.target = (self.target - (once / often).max(1.0)).max(0.0);
        }
        self.was_often
    }

    /// Case IV: a new content; one that is remembered makes room for what goes now.
    fn make_room(&mut self) {
        let once = self.blocks[ONCE] + self.ghosts[ONCE].len();
        if once >= self.capacity {
            if self.blocks[ONCE] < self.capacity {
                self.ghosts[ONCE].drop_oldest();
            } else {
                self.forget_once = true;
            }
        } else if once + self.blocks[OFTEN] + self.ghosts[OFTEN].len() >= 2 * self.capacity {
            self.ghosts[OFTEN].drop_oldest();
        }
    }

    /// The list that a block should leave: the paper's REPLACE.
    fn from(&self) -> usize {
        let once = self.blocks[ONCE] as f64;
        let over = once > self.target || (self.was_often && once >= self.target);
        if self.forget_once || (once > 0.0 && over) { ONCE } else { OFTEN }
    }
}

impl BlockEviction for Arc {
    fn warm(&self, contents: &[u64]) {
        for ghost in &self.ghosts {
            ghost.warm(contents);
        }
    }

    fn missed(&mut self, view: &BlockView) {
        (self.was_often, self.forget_once) = (false, false);
        if self.recall(view.content) {
            self.coming.push(view.content);
            self.coming.trim(self.capacity);
        } else {
            self.make_room();
        }
    }

    fn admit(&mut self, block: Block, view: &BlockView) {
        // A pool that announces nothing teaches here.
        let list = if self.coming.take(view.content) || self.recall(view.content) { OFTEN } else { ONCE };
        *self.nodes.kept(block) = Kept { content: view.content, list };
        self.blocks[list] += 1;
    }

    fn hit(&mut self, block: Block, _: &BlockView) {
        let listed = self.nodes.is_listed(block);
        let list = std::mem::replace(&mut self.nodes.kept(block).list, OFTEN);
        self.blocks[list] -= 1;
        self.blocks[OFTEN] += 1;
        if listed {
            self.lists[list].remove(&mut self.nodes, block);
            self.evictable(block);
        }
    }

    fn evictable(&mut self, block: Block) {
        let list = self.nodes.at(block).list;
        self.lists[list].push(&mut self.nodes, block);
    }

    fn pinned(&mut self, block: Block) {
        let list = self.nodes.at(block).list;
        self.lists[list].remove(&mut self.nodes, block);
    }

    fn victim(&mut self) -> Option<Block> {
        let wanted = self.from();
        let list = if self.lists[wanted].len() > 0 { wanted } else { 1 - wanted };
        let block = self.lists[list].oldest()?;
        self.lists[list].remove(&mut self.nodes, block);
        self.blocks[list] -= 1;
        if !self.forget_once {
            let content = self.nodes.at(block).content;
            self.ghosts[list].push(content);
            self.ghosts[list].trim(self.capacity);
        }
        Some(block)
    }

    fn gone(&mut self, block: Block) {
        let list = self.nodes.at(block).list;
        self.blocks[list] -= 1;
        if self.nodes.is_listed(block) {
            self.lists[list].remove(&mut self.nodes, block);
        }
    }
}
