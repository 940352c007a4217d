//! What one prefill batch may still take in (`PrefillBudget`, `PrefillAdder`).

use crate::kv::Seat;
use crate::serving::step::{RequestView, StepBuilder};

/// Whether a batch takes in more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum More {
    Yes,
    /// Memory is used up, or does not do.
    NoMemory,
    /// Tokens or requests of the batch are used up.
    NoTokens,
}

/// One pass over the queue.
#[derive(Debug)]
pub(super) struct Pass {
    /// The running list.
    pub(super) list: Vec<RequestView>,
    /// Requests that hold memory, members of the batch not counted unless they did before.
    pub(super) rows: usize,
    /// Promised: to the end of the requests, as far as it is foreseen, and now [tokens].
    pub(super) promised: f64,
    pub(super) taken: i64,
    pub(super) input: i64,
    pub(super) chunk: Option<i64>,
    /// The batch: seats and tokens.
    pub(super) batch: Vec<(Seat, u32)>,
    /// Whether its first member went on with a prompt, and whether a member's prompt goes on in the next batch.
    pub(super) continues: bool,
    pub(super) open: bool,
    /// For requests whose end is known: (tokens left, tokens held) of all, in the order in which they are expected to end.
    pub(super) ends: Option<Vec<(f64, u32)>>,
}

impl Pass {
    /// Blocks that could be had, in tokens.
    fn free(step: &StepBuilder<'_>) -> i64 {
        (step.free_blocks() * u64::from(step.limits().block_tokens)) as i64
    }

    /// The memory budget [tokens].
    pub(super) fn memory(&self, step: &StepBuilder<'_>) -> f64 {
        self.memory_but(step, 0)
    }

    /// The same, with `held` tokens of it locked.
    pub(super) fn memory_but(&self, step: &StepBuilder<'_>, held: i64) -> f64 {
        (Self::free(step) - held) as f64 - self.promised
    }

    /// The memory that this batch can have now [tokens].
    pub(super) fn now(&self, step: &StepBuilder<'_>) -> i64 {
        Self::free(step) - self.taken
    }

    /// What may still come in.
    pub(super) fn more(&self, step: &StepBuilder<'_>) -> More {
        if self.memory(step) <= 0.0 || self.now(step) <= 0 {
            More::NoMemory
        } else if self.input <= 0 || self.chunk.is_some_and(|chunk| chunk <= 0) {
            More::NoTokens
        } else {
            More::Yes
        }
    }

    /// Adds a member, and promises it `output` tokens.
    pub(super) fn take(&mut self, block_tokens: u32, seat: Seat, tokens: u32, output: i64) {
        let block = i64::from(block_tokens);
        let blocks = i64::from(tokens.next_multiple_of(block_tokens));
        self.promised += (blocks + block + output) as f64;
        self.taken += blocks + block;
        self.input -= blocks;
        if let Some(chunk) = &mut self.chunk {
            *chunk -= blocks;
        }
        self.batch.push((seat, tokens));
    }
}
