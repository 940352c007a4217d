//! Recorded conversations, replayed turn by turn by a client that waits for no answer, as benchmarks on chat data sets do.

use overbook_sim::workload::arrival::Content;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::dist::LengthDist;
use crate::draw::{stream, uniform};
use crate::error::Problem;
use crate::lengths::Size;
use crate::quantile::QuantileTable;

/// Conversations that were recorded elsewhere. Each turn is a request whose prompt has all turns before it, with the recorded answers; the
/// turns of one conversation follow each other, and none waits for the answer to the one before. A prefix cache finds the prompt of the turn
/// before; the recorded answer was another model's and is computed anew.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TranscriptSpec {
    /// Turns of a conversation. `lengths` has its first prompt and all outputs.
    pub turns: LengthDist,
    /// What a later turn adds to the prompt of the one before: the recorded answer and the next question [tokens].
    pub follow_up: LengthDist,
    /// Longest prompt [tokens]; a conversation ends before a longer one.
    pub max_prompt_tokens: u32,
    /// Different requests, after which the list begins again; absent: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_215))]
    pub requests: Option<u32>,
    /// Tokens per block of the content ids: the engine's block size.
    #[serde(default = "block")]
    #[schemars(range(min = 1))]
    pub block_tokens: u32,
}

fn block() -> u32 {
    16
}

/// Most different requests: 24 bits of a content id.
const REQUESTS_MAX: u32 = (1 << 24) - 1;

/// Content ids: 24 bits for the block below the number of the conversation.
const BLOCK_BITS: u32 = 24;

impl TranscriptSpec {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.turns.problems("transcripts.turns");
        problems.extend(self.follow_up.problems("transcripts.follow_up"));
        let mut add = |path: &str, message: String| problems.push((format!("transcripts.{path}"), message));
        if self.max_prompt_tokens == 0 {
            add("max_prompt_tokens", "is 0; a prompt must have at least 1 token".to_owned());
        }
        if let Some(requests) = self.requests.filter(|requests| !(1..=REQUESTS_MAX).contains(requests)) {
            add("requests", format!("is {requests}; it must be between 1 and {REQUESTS_MAX}"));
        }
        if self.block_tokens == 0 {
            add("block_tokens", "is 0; a block must hold at least 1 token".to_owned());
        }
        problems
    }
}

/// The transcripts in use.
pub(crate) struct Transcripts {
    turns: QuantileTable,
    follow_up: QuantileTable,
    max_prompt_tokens: u32,
    block_tokens: u32,
    distinct: usize,
    draws: ChaCha8Rng,
    /// Number of the conversation, prompt and turns left of the one that goes on.
    conversation: u64,
    prompt: u32,
    left: u32,
    /// Conversation and prompt of each request so far, as long as the list has not begun again.
    list: Vec<(u64, u32)>,
    taken: usize,
}

impl Transcripts {
    pub(crate) fn new(spec: &TranscriptSpec, seed: u64) -> Transcripts {
        Transcripts {
            turns: QuantileTable::new(&spec.turns.points()),
            follow_up: QuantileTable::new(&spec.follow_up.points()),
            max_prompt_tokens: spec.max_prompt_tokens,
            block_tokens: spec.block_tokens,
            distinct: spec.requests.map_or(usize::MAX, |requests| requests as usize),
            draws: stream(seed, *b"transcri"),
            conversation: 0,
            prompt: 0,
            left: 0,
            list: Vec::new(),
            taken: 0,
        }
    }

    /// Gives a request its turn: the size with that turn's prompt, and the ids of the prompt's full blocks.
    pub(crate) fn take(&mut self, size: Size) -> (Size, Content) {
        let (conversation, prompt_tokens) = if self.taken < self.distinct {
            let turn = self.next_turn(size.prompt_tokens);
            if self.distinct < usize::MAX {
                self.list.push(turn);
            }
            turn
        } else {
            self.list[self.taken % self.distinct]
        };
        self.taken += 1;
        let blocks = 0..u64::from(prompt_tokens / self.block_tokens);
        let ids = blocks.map(|block| (conversation << BLOCK_BITS) | block).collect();
        (Size { prompt_tokens, ..size }, Content { block_tokens: self.block_tokens, ids })
    }

    /// The next turn of the conversation that goes on, or the first of another; two numbers are drawn either way.
    fn next_turn(&mut self, first: u32) -> (u64, u32) {
        let (turns, added) = (uniform(&mut self.draws), uniform(&mut self.draws));
        let longer = self.prompt.saturating_add(self.follow_up.at(added));
        if self.left > 0 && longer <= self.max_prompt_tokens {
            self.prompt = longer;
            self.left -= 1;
        } else {
            self.conversation += 1;
            self.prompt = first.min(self.max_prompt_tokens);
            self.left = self.turns.at(turns).saturating_sub(1);
        }
        (self.conversation, self.prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overbook_sim::workload::arrival::ClassId;

    fn size(prompt_tokens: u32) -> Size {
        Size { prompt_tokens, output_tokens: 7, class: ClassId::default(), priority: 0 }
    }

    fn spec() -> TranscriptSpec {
        TranscriptSpec {
            turns: LengthDist::Fixed(3),
            follow_up: LengthDist::Fixed(40),
            max_prompt_tokens: 1000,
            requests: None,
            block_tokens: 16,
        }
    }

    #[test]
    fn a_turn_has_all_turns_before_it_in_its_prompt() {
        let mut transcripts = Transcripts::new(&spec(), 1);
        let taken: Vec<_> = [100, 1, 2, 50, 3, 4].map(|tokens| transcripts.take(size(tokens))).into();
        let lengths: Vec<_> = taken.iter().map(|(size, _)| size.prompt_tokens).collect();
        assert_eq!(lengths, [100, 140, 180, 50, 90, 130]);
        for pair in taken.windows(2).enumerate().filter(|(at, _)| *at != 2).map(|(_, pair)| pair) {
            let (before, after) = (&pair[0].1.ids, &pair[1].1.ids);
            assert_eq!(before[..], after[..before.len()]);
        }
        let (last, other) = (&taken[2].1.ids, &taken[3].1.ids);
        assert!(other.iter().all(|id| !last.contains(id)), "conversations share nothing");
    }

    #[test]
    fn a_conversation_ends_before_a_prompt_that_is_too_long() {
        let mut transcripts = Transcripts::new(&TranscriptSpec { max_prompt_tokens: 150, ..spec() }, 1);
        let lengths = [100, 1, 2, 400].map(|tokens| transcripts.take(size(tokens)).0.prompt_tokens);
        assert_eq!(lengths, [100, 140, 2, 42]);
    }

    #[test]
    fn the_list_begins_again() {
        let mut transcripts = Transcripts::new(&TranscriptSpec { requests: Some(4), ..spec() }, 1);
        let first: Vec<_> = (0..4).map(|_| transcripts.take(size(100)).1).collect();
        let again: Vec<_> = (0..4).map(|_| transcripts.take(size(9)).1).collect();
        assert_eq!(first, again);
    }

    #[test]
    fn wrong_values_are_named() {
        let wrong = TranscriptSpec {
            turns: LengthDist::Fixed(0),
            max_prompt_tokens: 0,
            requests: Some(0),
            block_tokens: 0,
            ..spec()
        };
        let paths: Vec<_> = wrong.problems().into_iter().map(|(path, _)| path).collect();
        let rest = ["transcripts.max_prompt_tokens", "transcripts.requests", "transcripts.block_tokens"];
        assert_eq!(paths, [&["transcripts.turns.fixed"][..], &rest].concat());
        assert!(spec().problems().is_empty());
    }
}
