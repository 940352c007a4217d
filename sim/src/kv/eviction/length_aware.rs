//! Mooncake's length-aware policy: as least frequently used, but what lies late in a prompt goes first (Qin et al., *Mooncake*,
//! arXiv 2407.00079, §4.2, table of cache policies).

use super::heap::{first, key};
use super::ranked::Ranked;
use super::{Block, BlockEviction, BlockView, EvictionPolicy};

pub(super) struct LengthAwareSpec;

impl EvictionPolicy for LengthAwareSpec {
    fn about(&self) -> &'static str {
        "Our reading of one sentence: fewest uses since it came, then deepest, then least recently used; the blocks of the request \
         at hand go last."
    }

    fn build(&self, _: u32, _: u64) -> Box<dyn BlockEviction> {
        Box::new(LengthAware::default())
    }
}

#[derive(Debug, Default)]
struct LengthAware {
    blocks: Ranked,
    tick: u64,
}

const UNTIL: u32 = 40;

impl LengthAware {
    /// Uses, then depth from the deepest; then, by their latest uses, the oldest.
    fn used(&mut self, block: Block, uses: u64, view: &BlockView) {
        self.tick += 1;
        // 2²⁴ blocks deep is a prompt of 268 million tokens of 16-token blocks; the rest of the word is time.
        let shallow = (1_u64 << 24) - 1 - u64::from(view.depth).min((1 << 24) - 1);
        let key = key(uses, (shallow << UNTIL) | (self.tick & ((1 << UNTIL) - 1)));
        self.blocks.used(block, view.request, key, |_| true);
    }
}

impl BlockEviction for LengthAware {
    fn missed(&mut self, view: &BlockView) {
        self.blocks.at_hand(view.request, |_| true);
    }

    fn admit(&mut self, block: Block, view: &BlockView) {
        self.used(block, 1, view);
    }

    fn hit(&mut self, block: Block, view: &BlockView) {
        self.used(block, first(self.blocks.key(block)) + 1, view);
    }

    fn evictable(&mut self, block: Block) {
        self.blocks.set_free(block, true, |_| true);
    }

    fn pinned(&mut self, block: Block) {
        self.blocks.set_free(block, false, |_| true);
    }

    fn victim(&mut self) -> Option<Block> {
        self.blocks.victim(|_| true)
    }

    fn gone(&mut self, block: Block) {
        self.blocks.gone(block);
    }
}
