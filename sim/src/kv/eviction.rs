//! Which cached block goes when room is needed: policies of engines and of the literature, and Belady's bound.
//!
//! A cache tells its [`BlockEviction`] what happens to its blocks and asks it for victims. A block is *pinned* while a request
//! holds it, and *evictable* otherwise; the same policies serve a pool with pins and a replay without any.
//!
//! ```text
//! a content is not cached     missed(view), victim() until there is room, admit(block, view)       the block is pinned
//! a cached content is used    pinned(block) if nobody held it, hit(block, view)
//! nobody holds it any more    evictable(block)                                      from a request's last block to its first
//! it goes for another reason  gone(block)
//! ```
//!
//! What calls cost, with n blocks:
//!
//! | policies | `admit`, `hit` | `evictable`, `pinned`, `gone` | `victim` |
//! |---|---|---|---|
//! | `lru`, `random` | O(1) | O(1) | O(1) |
//! | `fifo`, `s3-fifo`, `arc` | O(1), and a look into what is remembered (`s3-fifo`, `arc`) | O(1); `fifo` O(log n) for a block whose turn has come | O(1) amortised: pinned and used blocks are passed over once |
//! | `workload-aware` | O(1), and a look for the category | O(1) | O(categories) |
//! | `lfu`, `gdsf`, `belady`, `length-aware` | O(1) for a key that grows, else O(log n) | O(log n) at most | O(log n) amortised |
//! | `sglang`, `trtllm` | the same, and up to two looks into the tree at `admit` | the same | the same, and one look |
//!
//! A block takes 8 bytes (`random`), 16 (`lru`), to some 200 (`sglang`, `trtllm`); `s3-fifo` and `arc` take 50 to 80 for each content
//! that they remember. Numbers of blocks go up to twice their count. How fast they are: `cargo bench -p overbook-sim --bench evictions`.

mod arc;
mod belady;
mod fifo;
mod gdsf;
mod ghost;
mod heap;
mod length_aware;
mod lfu;
mod list;
mod lru;
mod random;
mod ranked;
mod s3_fifo;
mod sglang;
mod spec;
mod tree;
mod trtllm;
mod workload_aware;

use crate::time::{Span, Time};
use crate::workload::arrival::ClassId;

pub use gdsf::GdsfSpec;
pub use lfu::LfuSpec;
pub use s3_fifo::S3FifoSpec;
pub use sglang::{LeafOrder, SglangSpec};
pub use spec::{EvictionNeeds, EvictionPolicy, EvictionSpec};
pub use trtllm::{RetainSpec, TrtllmSpec};
pub use workload_aware::WorkloadAwareSpec;

/// Number of a block in its cache, from 0; at most 2³² - 3.
pub type Block = u32;

/// What a request may ask of a block: TensorRT-LLM's retention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// From 0 (goes first) to 100.
    pub priority: u8,
    /// For how long after the request; then the default priority holds.
    pub duration: Option<Span>,
}

/// One use of a block by a request, as a policy may see it. Nothing is of the future, but `next_use`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockView {
    /// Content of the block, chained: equal ids have equal prefixes.
    pub content: u64,
    /// Content of the block before it in its prefix.
    pub parent: Option<u64>,
    /// Blocks before it in its prefix.
    pub depth: u32,
    /// Tokens in it.
    pub tokens: u32,
    /// When.
    pub at: Time,
    /// Number of the request among those that used the cache; another one whenever a request is admitted again.
    pub request: u64,
    /// Class of the request.
    pub class: ClassId,
    /// Which turn of its session the request is, from 1.
    pub turn: u32,
    /// Priority of the request: smaller is more urgent.
    pub priority: i32,
    /// What the request asks for.
    pub retention: Option<Retention>,
    /// Work to compute the block anew when its prefix is there [thousandths of what a token at the start of a prompt takes].
    pub cost: u64,
    /// Number of the access that uses the content next, [`NEVER`] if none does; `None` where the future is not known. For
    /// policies that say that they need it, and for no other.
    pub next_use: Option<u64>,
}

/// Position at which attention to all tokens before costs as much as the rest of a token: 2 · 8.0 · 10⁹ operations over
/// 4 · 32 layers · 4,096 of each token before, as for Llama-3.1-8B.
const ATTENTION_EQUALS_AT: u64 = 30_518;

impl BlockView {
    /// [`BlockView::cost`] of a block of `tokens` tokens with `depth` others before it.
    pub fn cost_at(depth: u32, tokens: u32) -> u64 {
        let (position, tokens) = (u64::from(depth) * u64::from(tokens), u64::from(tokens));
        tokens * 1000 + tokens * 1000 * position / ATTENTION_EQUALS_AT
    }
}

/// No access uses the content again.
pub const NEVER: u64 = u64::MAX;

/// Says which block goes. Deterministic: equal calls give equal victims.
pub trait BlockEviction: std::fmt::Debug + Send {
    /// Contents are about to be used. For policies that look them up: the memory may answer for all of them at once.
    fn warm(&self, _contents: &[u64]) {}

    /// A content is to come in that was not found; comes before victims are asked for. For policies that remember what has gone.
    fn missed(&mut self, _view: &BlockView) {}

    /// A block came in; a request holds it.
    fn admit(&mut self, block: Block, view: &BlockView);

    /// A request uses a block that is there, whether others hold it or nobody does.
    fn hit(&mut self, block: Block, view: &BlockView);

    /// Nobody holds a block any more.
    fn evictable(&mut self, block: Block);

    /// Somebody holds a block that nobody held.
    fn pinned(&mut self, block: Block);

    /// Chooses an evictable block and forgets it; `None` if there is none.
    fn victim(&mut self) -> Option<Block>;

    /// A block left the cache for another reason; it may have been pinned or evictable.
    fn gone(&mut self, block: Block);
}
