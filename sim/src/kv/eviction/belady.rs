//! Furthest next use (Belady, *A study of replacement algorithms for virtual-storage computer*, IBM Systems Journal 1966): no policy
//! finds more blocks in a cache of this size, for a given order of accesses, blocks of one size and one tier (Mattson, Gecsei,
//! Slutz, Traiger, *Evaluation techniques for storage hierarchies*, 1970). With pins, or where hits change what comes next, it is a
//! reference and no bound.

use super::heap::{Heap, Key, key};
use super::{Block, BlockEviction, BlockView, EvictionNeeds, EvictionPolicy};

pub(super) struct BeladySpec;

impl EvictionPolicy for BeladySpec {
    fn needs(&self) -> EvictionNeeds {
        EvictionNeeds { next_uses: true, ..EvictionNeeds::default() }
    }

    fn about(&self) -> &'static str {
        "The bound: knows all accesses to come. No policy finds more blocks; one may find more leading blocks where a cache holds \
         few prompts."
    }

    fn build(&self, _: u32, _: u64) -> Box<dyn BlockEviction> {
        Box::new(Belady { heap: Heap::default(), keys: Vec::new(), tick: 0 })
    }
}

#[derive(Debug)]
struct Belady {
    heap: Heap,
    keys: Vec<Key>,
    tick: u64,
}

impl Belady {
    /// Furthest first; of those that nobody uses again, the one used last: it lies deepest.
    fn next(&mut self, block: Block, view: &BlockView) -> Key {
        let next = view.next_use.expect("belady is refused where the accesses to come are not known");
        self.tick += 1;
        self.keys[block as usize] = key(!next, !self.tick);
        self.keys[block as usize]
    }
}

impl BlockEviction for Belady {
    fn admit(&mut self, block: Block, view: &BlockView) {
        let at = block as usize;
        if at >= self.keys.len() {
            self.keys.resize(at + 1, 0);
        }
        self.next(block, view);
    }

    fn hit(&mut self, block: Block, view: &BlockView) {
        let key = self.next(block, view);
        self.heap.change(block, key);
    }

    fn evictable(&mut self, block: Block) {
        self.heap.set(block, self.keys[block as usize]);
    }

    fn pinned(&mut self, block: Block) {
        self.heap.remove(block);
    }

    fn victim(&mut self) -> Option<Block> {
        self.heap.pop().map(|(_, block)| block)
    }

    fn gone(&mut self, block: Block) {
        self.heap.remove(block);
    }
}
