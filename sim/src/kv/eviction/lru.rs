//! Least recently used, as vLLM's free queue has it: a request gives its blocks back from the last to the first, so that the end of
//! a prefix goes before its beginning (`vllm/v1/core/block_pool.py`, `free_blocks`; `kv_cache_manager.py` frees in reverse).

use super::list::{Nodes, Recency, Used};
use super::{Block, BlockEviction, BlockView, EvictionPolicy};

pub(super) struct LruSpec;

impl EvictionPolicy for LruSpec {
    fn about(&self) -> &'static str {
        "vLLM's order: a request's last block goes first. In a replay a request gives its blocks back as it arrives."
    }

    fn build(&self, _: u32, _: u64) -> Box<dyn BlockEviction> {
        Box::new(Lru { nodes: Nodes::new(), free: Recency::EMPTY })
    }
}

#[derive(Debug)]
struct Lru {
    nodes: Nodes<Used>,
    free: Recency,
}

impl BlockEviction for Lru {
    fn admit(&mut self, block: Block, view: &BlockView) {
        *self.nodes.kept(block) = Used { request: view.request as u32, depth: view.depth };
    }

    fn hit(&mut self, block: Block, view: &BlockView) {
        let listed = self.nodes.is_listed(block);
        if listed {
            self.free.remove(&mut self.nodes, block);
        }
        self.admit(block, view);
        if listed {
            self.evictable(block);
        }
    }

    fn evictable(&mut self, block: Block) {
        self.free.push(&mut self.nodes, block, |used| *used);
    }

    fn pinned(&mut self, block: Block) {
        self.free.remove(&mut self.nodes, block);
    }

    fn victim(&mut self) -> Option<Block> {
        let block = self.free.oldest()?;
        self.free.remove(&mut self.nodes, block);
        Some(block)
    }

    fn gone(&mut self, block: Block) {
        if self.nodes.is_listed(block) {
            self.free.remove(&mut self.nodes, block);
        }
    }
}
