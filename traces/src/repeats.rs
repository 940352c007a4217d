//! Prompts that come again: a load test sends each of a hundred prompts many times, and a prefix cache finds nearly all of them.

use overbook_sim::workload::arrival::Content;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::draw::{stream, uniform};
use crate::error::Problem;
use crate::lengths::Size;

/// A stock of prompts that requests take theirs from, as load generators have (inference-perf's `shared_prefix`: groups of prompts,
/// each group with a system prompt of its own). Outputs are drawn for every request and never found again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepeatSpec {
    /// Different prompts. Each has the length of the first request that takes it.
    #[schemars(range(min = 1, max = 16_777_215))]
    pub prompts: u32,
    /// Groups of prompts that begin alike; prompts are dealt to groups in turn.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16_777_215))]
    pub groups: u32,
    /// Tokens with which all prompts of a group begin; part of the prompt's length. A prompt that is drawn shorter has them all, and one token more.
    #[serde(default)]
    #[schemars(range(max = 16_777_216))]
    pub shared_prefix_tokens: u32,
    /// Which prompt a request takes.
    #[serde(default)]
    pub order: RepeatOrder,
    /// Tokens per block of the content ids. A scenario's are of its engine's `block_tokens`.
    #[serde(skip, default = "block")]
    pub block_tokens: u32,
}

/// Which prompt a request takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RepeatOrder {
    /// The first to the last, and over again.
    #[default]
    InTurn,
    /// Any, each as likely as the others.
    Random,
}

fn one() -> u32 {
    1
}

fn block() -> u32 {
    16
}

/// Most different prompts: 24 bits of a content id.
const PROMPTS_MAX: u32 = (1 << 24) - 1;

/// Longest shared beginning [tokens]: that of prompts.
pub(crate) const SHARED_MAX: u32 = 1 << 24;

impl RepeatSpec {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: String| problems.push((format!("repeats.{path}"), message));
        for (path, number) in [("prompts", self.prompts), ("groups", self.groups)] {
            if !(1..=PROMPTS_MAX).contains(&number) {
                add(path, format!("is {number}; it must be between 1 and {PROMPTS_MAX}"));
            }
        }
        if self.groups > self.prompts {
            add(
                "groups",
                format!("is {}, more than the {} `prompts`; some groups would have none", self.groups, self.prompts),
            );
        }
        if self.shared_prefix_tokens > SHARED_MAX {
            let told = format!("is {}; it must be at most {SHARED_MAX}", self.shared_prefix_tokens);
            add("shared_prefix_tokens", told);
        }
        if self.block_tokens == 0 {
            add("block_tokens", "is 0; a block must hold at least 1 token".to_owned());
        }
        problems
    }
}

/// The stock in use.
pub(crate) struct Repeats {
    spec: RepeatSpec,
    /// Length of each prompt that was taken already [tokens].
    lengths: Vec<Option<u32>>,
    draws: ChaCha8Rng,
    taken: u64,
}

/// Content ids: 24 bits for the block below the number of what is shared, and above both of them which of the two it is.
const BLOCK_BITS: u32 = 24;
const OF_GROUP: u64 = 1 << 62;

impl Repeats {
    pub(crate) fn new(spec: &RepeatSpec, seed: u64) -> Repeats {
        let lengths = vec![None; spec.prompts as usize];
        Repeats { spec: spec.clone(), lengths, draws: stream(seed, *b"repeats "), taken: 0 }
    }

    /// Gives a request its prompt: the size with that prompt's length, and the ids of the prompt's full blocks.
    pub(crate) fn take(&mut self, size: Size) -> (Size, Content) {
        let prompts = u64::from(self.spec.prompts);
        let number = match self.spec.order {
            RepeatOrder::InTurn => self.taken % prompts,
            RepeatOrder::Random => ((uniform(&mut self.draws) * prompts as f64) as u64).min(prompts - 1),
        };
        self.taken += 1;
        let shared_tokens = self.spec.shared_prefix_tokens;
        // A prompt has at least one token beyond what it shares.
        let fresh = size.prompt_tokens.max(shared_tokens.saturating_add(1));
        let prompt_tokens = *self.lengths[number as usize].get_or_insert(fresh);
        let block_tokens = self.spec.block_tokens;
        let shared = u64::from(shared_tokens / block_tokens);
        let group = OF_GROUP | ((number % u64::from(self.spec.groups)) << BLOCK_BITS);
        let own = (number + 1) << BLOCK_BITS;
        let blocks = 0..u64::from(prompt_tokens / block_tokens);
        let ids = blocks.map(|block| block | if block < shared { group } else { own }).collect();
        (Size { prompt_tokens, ..size }, Content { block_tokens, ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overbook_sim::workload::arrival::ClassId;

    fn size(prompt_tokens: u32) -> Size {
        Size { prompt_tokens, output_tokens: 7, class: ClassId::default(), priority: 0 }
    }

    fn spec() -> RepeatSpec {
        RepeatSpec { prompts: 4, groups: 2, shared_prefix_tokens: 33, order: RepeatOrder::InTurn, block_tokens: 16 }
    }

    #[test]
    fn prompts_come_again_with_their_first_length_and_share_what_their_group_shares() {
        let mut repeats = Repeats::new(&spec(), 1);
        let first: Vec<_> = [100, 64, 20, 90].map(|tokens| repeats.take(size(tokens))).into();
        let lengths: Vec<_> = first.iter().map(|(size, _)| size.prompt_tokens).collect();
        assert_eq!(lengths, [100, 64, 34, 90], "20 tokens are fewer than the 33 shared ones");
        for (before, length) in first.iter().zip([5, 6, 7, 8]) {
            let (again, content) = repeats.take(size(length));
            assert_eq!((again.prompt_tokens, &content), (before.0.prompt_tokens, &before.1));
        }
        let ids: Vec<_> = first.iter().map(|(_, content)| content.ids.to_vec()).collect();
        // Two full blocks of the 33 shared tokens; the groups are 0, 1, 0, 1.
        assert_eq!((&ids[0][..2], &ids[1][..2]), (&ids[2][..2], &ids[3][..2]));
        assert_ne!(ids[0][..2], ids[1][..2]);
        assert_eq!((ids[0].len(), ids[2].len()), (6, 2));
        let mut all: Vec<_> = ids.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2 + 2 + 4 + 2 + 3, "what is not shared is a prompt's own");
    }

    #[test]
    fn in_any_order_each_prompt_is_as_likely_as_the_others() {
        let mut repeats = Repeats::new(&RepeatSpec { order: RepeatOrder::Random, ..spec() }, 3);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..40_000 {
            *counts.entry(repeats.take(size(64)).1.ids).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|&count| count.abs_diff(10_000) < 400), "{counts:?}");
    }

    #[test]
    fn wrong_values_are_named() {
        let wrong = RepeatSpec { prompts: 2, groups: 3, block_tokens: 0, ..spec() };
        let paths: Vec<_> = wrong.problems().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["repeats.groups", "repeats.block_tokens"]);
        let none = RepeatSpec { prompts: 0, groups: 0, ..spec() };
        assert_eq!(none.problems().len(), 2);
        assert!(spec().problems().is_empty());
    }
}
