//! Least frequently used with dynamic aging: the key of a block is its uses since it came plus the key of the block that went last
//! (LFU-DA: Arlitt, Cherkasova, Dilley, Friedrich, Jin, *Evaluating content management techniques for web proxy caches*, 2000, §4).

use serde::{Deserialize, Serialize};

use super::heap::{Heap, Key, first, key};
use super::{Block, BlockEviction, BlockView, EvictionPolicy};

/// Least frequently used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LfuSpec {
    /// Whether blocks that were used often long ago go in the end; without, a block with many uses stays for good.
    pub aging: bool,
}

impl Default for LfuSpec {
    fn default() -> Self {
        LfuSpec { aging: true }
    }
}

impl EvictionPolicy for LfuSpec {
    fn about(&self) -> &'static str {
        if self.aging {
            "LFU-DA: uses since it came, plus the key of the block that went last; then least recently used."
        } else {
            "Uses since it came, without aging; then least recently used."
        }
    }

    fn build(&self, _: u32, _: u64) -> Box<dyn BlockEviction> {
        Box::new(Aged::new(self.aging, |uses, _| uses))
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Kept {
    uses: u64,
    key: Key,
}

/// Blocks by what their uses are worth, plus the age of the cache when they were used last.
#[derive(Debug)]
pub(super) struct Aged {
    aging: bool,
    /// Worth of so many uses.
    worth: fn(u64, &BlockView) -> u64,
    heap: Heap,
    kept: Vec<Kept>,
    /// Key of the block that went last.
    age: u64,
    tick: u64,
}

impl Aged {
    pub(super) fn new(aging: bool, worth: fn(u64, &BlockView) -> u64) -> Aged {
        Aged { aging, worth, heap: Heap::default(), kept: Vec::new(), age: 0, tick: 0 }
    }
}

impl BlockEviction for Aged {
    fn admit(&mut self, block: Block, view: &BlockView) {
        let at = block as usize;
        if at >= self.kept.len() {
            self.kept.resize(at + 1, Kept::default());
        }
        self.kept[at] = Kept::default();
        self.hit(block, view);
    }

    fn hit(&mut self, block: Block, view: &BlockView) {
        self.tick += 1;
        let kept = &mut self.kept[block as usize];
        kept.uses += 1;
        kept.key = key(self.age.saturating_add((self.worth)(kept.uses, view)), self.tick);
        self.heap.change(block, kept.key);
    }

    fn evictable(&mut self, block: Block) {
        let kept = &mut self.kept[block as usize];
        self.heap.set(block, kept.key);
    }

    fn pinned(&mut self, block: Block) {
        self.heap.remove(block);
    }

    fn victim(&mut self) -> Option<Block> {
        let (key, block) = self.heap.pop()?;
        if self.aging {
            self.age = first(key);
        }
        Some(block)
    }

    fn gone(&mut self, block: Block) {
        self.heap.remove(block);
    }
}
