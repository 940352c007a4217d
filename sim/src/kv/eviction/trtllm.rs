//! TensorRT-LLM's order: leaves of the prefix tree only, lowest priority first, least recently used within one; a priority may hold
//! for a while only (`cpp/tensorrt_llm/batch_manager/evictionPolicy.cpp`, `KvCacheRetentionConfig`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::heap::{key, second};
use super::ranked::Ranked;
use super::tree::Tree;
use super::{Block, BlockEviction, BlockView, EvictionNeeds, EvictionPolicy, Retention};
use crate::check::Check;
use crate::time::Time;
use crate::units::Duration;

/// Priority of what nobody says anything of (`KvCacheRetentionConfig::kDefaultRetentionPriority`).
const DEFAULT_PRIORITY: u8 = 35;
const PRIORITY_MAX: u8 = 100;

/// Priorities and durations, where requests bring none of their own.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrtllmSpec {
    /// What holds for parts of every request, the first that fits; elsewhere the priority is 35.
    pub retain: Vec<RetainSpec>,
}

/// How long a part of every request is worth keeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetainSpec {
    /// First token.
    #[serde(default)]
    pub from: u32,
    /// The token behind the last one; by default to the end.
    #[serde(default)]
    pub to: Option<u32>,
    /// From 0 (goes first) to 100.
    #[schemars(range(max = 100))]
    pub priority: u8,
    /// For how long after the last use; then the priority is 35. By default for good.
    #[serde(default)]
    pub duration: Option<Duration>,
}

impl EvictionPolicy for TrtllmSpec {
    fn needs(&self) -> EvictionNeeds {
        EvictionNeeds { clock: true, ..EvictionNeeds::default() }
    }

    fn about(&self) -> &'static str {
        if self.retain.is_empty() {
            "No priorities are stated, so that all are 35: least recently used leaves. The request at hand goes last."
        } else {
            "Least recently used leaves of the lowest priority; durations run from a block's last use. The request at hand goes last."
        }
    }

    fn check(&self, check: &mut Check<'_>) {
        for (at, range) in self.retain.iter().enumerate() {
            let mut check = check.below(&format!("retain[{at}]"));
            check.range("priority", range.priority, 0, PRIORITY_MAX.into());
            let empty = range.to.is_some_and(|to| to <= range.from);
            check.that(!empty, "to", format!("is not above `from`, which is {}", range.from));
            if let Some(duration) = range.duration {
                check.time("duration", duration);
            }
        }
    }

    fn build(&self, _: u32, _: u64) -> Box<dyn BlockEviction> {
        Box::new(Trtllm { retain: self.retain.clone(), ..Trtllm::default() })
    }
}

#[derive(Debug, Default)]
struct Trtllm {
    retain: Vec<RetainSpec>,
    tree: Tree,
    blocks: Ranked,
    /// Ends of durations, with the tick of the use that set them: later uses void them.
    ends: BinaryHeap<Reverse<(Time, u64, Block)>>,
    now: Time,
    tick: u64,
}

impl Trtllm {
    fn retention(&self, view: &BlockView) -> Retention {
        let token = u64::from(view.depth) * u64::from(view.tokens);
        let within =
            |range: &&RetainSpec| u64::from(range.from) <= token && range.to.is_none_or(|to| token < u64::from(to));
        let stated = || {
            let range = self.retain.iter().find(within)?;
            Some(Retention { priority: range.priority, duration: range.duration.map(|duration| duration.0) })
        };
        let default = Retention { priority: DEFAULT_PRIORITY, duration: None };
        view.retention.or_else(stated).unwrap_or(default)
    }

    /// Forgets ends that later uses have voided, before they outnumber the others.
    fn tidy(&mut self) {
        if self.ends.len() > 2 * self.blocks.seen() + 64 {
            let blocks = &self.blocks;
            self.ends.retain(|&Reverse((_, tick, block))| second(blocks.key(block)) == tick);
        }
    }

    /// Priorities whose time is over are the default; their blocks are as young as any.
    fn expire(&mut self) {
        while let Some(&Reverse((end, tick, block))) = self.ends.peek()
            && end <= self.now
        {
            self.ends.pop();
            if second(self.blocks.key(block)) == tick {
                self.tick += 1;
                self.blocks.change(block, key(DEFAULT_PRIORITY.into(), self.tick));
            }
        }
    }
}

impl BlockEviction for Trtllm {
    fn warm(&self, contents: &[u64]) {
        self.tree.warm(contents);
    }

    fn missed(&mut self, view: &BlockView) {
        self.now = view.at;
        self.blocks.at_hand(view.request, |block| self.tree.is_leaf(block));
    }

    fn admit(&mut self, block: Block, view: &BlockView) {
        self.tree.admit(block, view, |copy| self.blocks.may_go(copy, |_| true));
        self.hit(block, view);
    }

    fn hit(&mut self, block: Block, view: &BlockView) {
        self.now = view.at;
        self.tick += 1;
        let Retention { priority, duration } = self.retention(view);
        let key = key(priority.min(PRIORITY_MAX).into(), self.tick);
        self.blocks.used(block, view.request, key, |other| self.tree.is_leaf(other));
        if let Some(duration) = duration
            && priority != DEFAULT_PRIORITY
        {
            self.ends.push(Reverse((self.now + duration, self.tick, block)));
            self.tidy();
        }
    }

    fn evictable(&mut self, block: Block) {
        self.blocks.set_free(block, true, |block| self.tree.is_leaf(block));
    }

    fn pinned(&mut self, block: Block) {
        self.blocks.set_free(block, false, |_| false);
    }

    fn victim(&mut self) -> Option<Block> {
        self.expire();
        let block = self.blocks.victim(|block| self.tree.is_leaf(block))?;
        self.tree.remove(block, |parent| self.blocks.may_go(parent, |_| true));
        Some(block)
    }

    fn gone(&mut self, block: Block) {
        self.blocks.gone(block);
        self.tree.remove(block, |parent| self.blocks.may_go(parent, |_| true));
    }
}
