//! The order in which admitted requests have asked for blocks, and what the best policy would have found in it.

use hashbrown::HashTable;

use super::eviction::{BlockView, EvictionSpec, NEVER};
use super::replay::{Access, Cache, Found};
use crate::counter::finish;
use crate::time::Time;
use crate::workload::arrival::ClassId;

/// Recorded accesses: the full blocks of every prompt whose first token is not served from them, at every admission; and those that
/// requests fill beyond, as they are filled.
#[derive(Clone, Debug, Default)]
pub struct Record {
    contents: Vec<u64>,
    /// Blocks before each in its request; with [`FILLED`] if nobody asked for it.
    depths: Vec<u32>,
    found: u64,
}

/// A block that a request fills, and that it did not ask for.
const FILLED: u32 = 1 << 31;

/// What was found in a recorded order, and what could have been.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Bound {
    /// Blocks that were asked for.
    pub asked: u64,
    /// Leading blocks that the run found, on the GPUs or loaded to them.
    pub found: u64,
    /// What no policy can exceed with as many blocks, tiers included: the blocks that Belady's finds where requests hold nothing.
    pub belady: u64,
    /// Leading blocks that an unlimited cache finds.
    pub unlimited: u64,
}

impl Bound {
    /// Adds that of another replica.
    pub fn add(&mut self, other: &Bound) {
        self.asked += other.asked;
        self.found += other.found;
        self.belady += other.belady;
        self.unlimited += other.unlimited;
    }
}

impl Record {
    /// A request is admitted that asks for blocks, the leading ones of which were found.
    pub(super) fn asked(&mut self, contents: &[u64], found: u32) {
        self.contents.extend_from_slice(contents);
        self.depths.extend(0..contents.len() as u32);
        self.found += u64::from(found);
    }

    /// A request has filled a block.
    pub(super) fn filled(&mut self, content: u64, depth: u32) {
        self.contents.push(content);
        self.depths.push(depth | FILLED);
    }

    /// What Belady's policy finds in a cache of `blocks` blocks.
    pub fn bound(&self, blocks: u64, block_tokens: u32) -> Bound {
        let mut next = vec![u32::MAX; self.contents.len()];
        let mut seen: HashTable<(u64, u32)> = HashTable::new();
        for (at, &content) in self.contents.iter().enumerate().rev() {
            let entry = seen.entry(finish(content), |entry| entry.0 == content, |entry| finish(entry.0));
            let mut entry = entry.or_insert((content, u32::MAX));
            next[at] = std::mem::replace(&mut entry.get_mut().1, at as u32);
        }
        let distinct = seen.len() as u64;
        drop(seen);
        let play = |blocks: u64| -> Found {
            let capacity = u32::try_from(blocks.max(1)).unwrap_or(u32::MAX - 3);
            let mut cache = Cache::new(capacity, &EvictionSpec::Belady, 0);
            let mut request = 0;
            for ((&content, &mark), &after) in self.contents.iter().zip(&self.depths).zip(&next) {
                let depth = mark & !FILLED;
                request += u64::from(mark == 0);
                let view = BlockView {
                    content,
                    parent: None,
                    depth,
                    tokens: block_tokens,
                    at: Time::ZERO,
                    request,
                    class: ClassId::default(),
                    turn: 1,
                    priority: 0,
                    retention: None,
                    cost: BlockView::cost_at(depth, block_tokens),
                    next_use: Some(if after == u32::MAX { NEVER } else { u64::from(after) }),
                };
                cache.access(&Access { view, prompt: mark & FILLED == 0 });
            }
            cache.found()
        };
        let asked = self.depths.iter().filter(|&&mark| mark & FILLED == 0).count() as u64;
        // Belady's policy finds the most blocks, filled ones among them; no policy finds more of those that were asked for.
        let unlimited = play(distinct).leading;
        Bound { asked, found: self.found, belady: play(blocks).blocks.min(unlimited), unlimited }
    }
}
