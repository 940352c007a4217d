//! What runs a step: the boundary between the serving code and a device.
//!
//! ```text
//!   Replica ──PlannedStep──► driver ──Batch──► Executor ──Output──► driver ──complete──► Replica
//! ```
//!
//! A scheduler never sees device memory, and an executor never sees a queue. The driver turns a planned step into a [`Batch`]:
//! which sequences, which of their positions, and where the KV of each lies. The executor keeps the tokens: at depth 2
//! a step is submitted before the tokens of the step before it are known, so that only the device can know what a
//! sequence's next input is.

mod copies;
mod cut;
mod rehearsal;
mod slots;

use std::time::Instant;

pub use copies::{Copied, Moved, TierCopy};
pub use cut::{Move, cut};
pub use rehearsal::Rehearsal;
pub use slots::Slots;

use crate::config::Config;

/// Number of a sequence while it is known to the executor; the replica's seat.
pub type Seat = u32;

/// How a sequence's next token is drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// 0 takes the likeliest token; else logits are divided by it.
    pub temperature: f32,
    /// Only this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Only the likeliest tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// With the position it keys the draw: the same sequence gets the same tokens, whatever runs beside it.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token, always.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };
}

/// Tokens that are not drawn for a sequence as long as it is short.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Bans {
    /// Which.
    pub tokens: Vec<u32>,
    /// Length of the sequence, its prompt included, from which on they may be drawn.
    pub until: u32,
}

impl Bans {
    /// Whether they are all tokens of a vocabulary of this size, so that there is nothing to draw.
    pub fn leave_none(&self, vocab: u32) -> bool {
        if (self.tokens.len() as u64) < u64::from(vocab) {
            return false;
        }
        let mut known: Vec<u32> = self.tokens.iter().copied().filter(|token| *token < vocab).collect();
        known.sort_unstable();
        known.dedup();
        known.len() as u64 == u64::from(vocab)
    }
}

/// A sequence that the executor has not seen.
#[derive(Clone, PartialEq, Debug)]
pub struct Begin {
    /// Its number from now on; one that had it before has ended.
    pub seat: Seat,
    /// Its prompt, at least one token, each below the vocabulary's size; and then what is known of its output already. A known
    /// token takes the place of the one drawn: contents that a trace states go beyond the prompt.
    pub prompt: Vec<u32>,
    /// How its tokens are drawn.
    pub sampling: Sampling,
    /// What is not drawn; something must be left.
    pub bans: Bans,
}

/// A sequence's part of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequence {
    /// Which.
    pub seat: Seat,
    /// Its positions before the step: computed, or found in the prefix cache; also those whose KV is kept no more.
    pub past: u32,
    /// Positions computed in the step, from `past` on. Their input tokens are the prompt's and then those drawn so far.
    pub tokens: u32,
    /// Whether a token is drawn from the last position's logits; it becomes the input of the position after it, unless that is
    /// known already.
    pub samples: bool,
}

/// News of a sequence's block table: the KV of slot `s` lies in block `table[s / block_tokens]`, at `s % block_tokens`. As long as nothing
/// is thrown away, position `p` lies in slot `p`; after that each layer and KV head has tokens of its own in a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableChange {
    /// Whose.
    pub seat: Seat,
    /// Entries before this one stay; those from it on are gone.
    pub from: u32,
    /// What follows them now.
    pub blocks: Vec<u32>,
}

/// A running sequence whose budget of slots is lowered. What it has beyond goes at once; of a prompt whose tokens go at its end, then.
/// A sequence that is computed anew from its first position has its first budget again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shrink {
    /// Whose.
    pub seat: Seat,
    /// Slots in each layer and KV head; a larger budget than it has changes nothing.
    pub budget: u32,
}

/// One step in device terms: sequences of different lengths side by side.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch {
    /// Budgets that are lowered. They come before everything else: what a sequence keeps still lies in the blocks it had.
    pub shrinks: Vec<Shrink>,
    /// Seats whose sequences have ended. They come before `begins`: a seat may end and begin in one batch.
    pub ends: Vec<Seat>,
    /// New sequences.
    pub begins: Vec<Begin>,
    /// What has changed in block tables since the batch before. With them the table of every sequence of this batch covers
    /// `past + tokens` positions, or, where only some tokens are kept, those kept and `tokens` more. They come after `begins`: a sequence begins with an empty table.
    pub tables: Vec<TableChange>,
    /// What is computed. Tokens are drawn in this order.
    pub sequences: Vec<Sequence>,
}

impl Batch {
    /// Positions computed.
    pub fn tokens(&self) -> u64 {
        self.sequences.iter().map(|s| u64::from(s.tokens)).sum()
    }
}

/// What a step gave.
#[derive(Clone, PartialEq, Debug)]
pub struct Output {
    /// The tokens drawn, with their sequences, in the batch's order.
    pub tokens: Vec<(Seat, u32)>,
    /// When the device began with it.
    pub start: Instant,
    /// When its tokens were there.
    pub end: Instant,
}

/// What an executor was built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// KV blocks, numbered from 0.
    pub blocks: u32,
    /// Tokens per block.
    pub block_tokens: u32,
    /// Longest sequence [tokens].
    pub max_model_len: u32,
    /// Size of the vocabulary.
    pub vocab: u32,
    /// Positions of one step for which there is memory.
    pub step_tokens: u32,
    /// Sequences that have blocks at the same time.
    pub sequences: u32,
    /// Queues of steps that run side by side.
    pub lanes: Lanes,
    /// Blocks that it keeps in the memory of the host, below its pool: slots, numbered from 0.
    pub host_blocks: u32,
}

/// Lanes of an executor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanes {
    /// One, with all of the device.
    One,
    /// Two over one cache: prompts and decodes, each with a share of the device's multiprocessors [percent]. Together the
    /// shares may be more than 100.
    Two {
        /// Of lane 0.
        prefill: u32,
        /// Of lane 1.
        decode: u32,
    },
}

impl Lanes {
    /// How many.
    pub fn count(self) -> usize {
        match self {
            Lanes::One => 1,
            Lanes::Two { .. } => 2,
        }
    }

    /// What a lane has of the device [percent].
    pub fn share(self, lane: usize) -> u32 {
        match self {
            Lanes::One => 100,
            Lanes::Two { prefill, decode } => [prefill, decode][lane.min(1)],
        }
    }
}

impl Capacity {
    /// One lane with memory for any step: of a device whose activations grow with the step.
    pub fn unbounded(blocks: u32, block_tokens: u32, max_model_len: u32, vocab: u32) -> Capacity {
        Capacity {
            blocks,
            block_tokens,
            max_model_len,
            vocab,
            step_tokens: u32::MAX,
            sequences: u32::MAX,
            lanes: Lanes::One,
            host_blocks: 0,
        }
    }

    /// Whether it is one for a model.
    pub(crate) fn check(&self, config: &Config) -> Result<(), BuildError> {
        let wrong = if self.vocab as usize != config.vocab {
            format!("a vocabulary of {} for a model of {}", self.vocab, config.vocab)
        } else if [self.blocks, self.block_tokens, self.max_model_len, self.step_tokens, self.sequences].contains(&0) {
            "no blocks, or blocks, sequences or steps of no tokens".to_owned()
        } else if self.max_model_len as usize > config.max_positions {
            format!("sequences of {} tokens for a model made for {}", self.max_model_len, config.max_positions)
        } else {
            return Ok(());
        };
        Err(BuildError::Unfit(wrong))
    }
}

/// Why there is no executor.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The device cannot have an executor of this kind or capacity: what was asked for is wrong.
    #[error("{0}")]
    Unfit(String),
    /// The device failed, has too little memory, or lacks software.
    #[error("{0}")]
    Failed(String),
    /// The caller wanted no more of it.
    #[error("interrupted")]
    Interrupted,
}

impl From<ExecutorError> for BuildError {
    fn from(ExecutorError(why): ExecutorError) -> Self {
        BuildError::Failed(why)
    }
}

impl From<BuildError> for ExecutorError {
    fn from(error: BuildError) -> Self {
        ExecutorError(error.to_string())
    }
}

/// How far the tuning of matrix products is, which takes minutes on a GPU that no earlier time has tuned for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// Shapes that are done.
    pub done: usize,
    /// Shapes in all, those of earlier times included.
    pub of: usize,
    /// Whether the next shape has to be timed: no earlier time has.
    pub times: bool,
}

/// What is told how far the tuning is; it returns `false` to stop.
pub type Watch<'a> = &'a mut dyn FnMut(Tuning) -> bool;

/// The device is lost, or was asked for what it cannot do: fatal.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ExecutorError(pub String);

/// Runs the steps of a lane one after the other, in the order in which they are submitted. Within a step the KV of all its positions is
/// written before any of it is read (in every layer): a prefix may be shared by a sequence of the very step that computes it.
pub trait Executor: Send {
    /// What it was built for.
    fn capacity(&self) -> Capacity;

    /// Hands over the next step of a lane. May return before it has begun, or only when it is done.
    ///
    /// # Errors
    /// The device failed, or there is no such lane.
    fn submit(&mut self, lane: usize, batch: Batch) -> Result<(), ExecutorError>;

    /// Waits for the oldest step of a lane that is not yet given back.
    ///
    /// # Errors
    /// The device failed, or no step of the lane is out.
    fn wait(&mut self, lane: usize) -> Result<Output, ExecutorError>;

    /// Copies blocks between the pool and the host, one after the other: after all steps of all lanes that were submitted before,
    /// and before those that will be. May return before anything is copied: what comes later finds it done.
    ///
    /// # Errors
    /// The device failed, or there is no such block or slot.
    fn copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError>;

    /// What was copied so far. Waits for copies that are out.
    ///
    /// # Errors
    /// The device failed.
    fn copied(&mut self) -> Result<Copied, ExecutorError>;

    /// Sequences may from now on attend to positions that were never computed: a measurement gives contexts, and does not grow them.
    /// Puts something into the cache that arithmetic goes well with.
    ///
    /// # Errors
    /// The device failed.
    fn give_contexts(&mut self) -> Result<(), ExecutorError>;

    /// Whether [`Executor::wait`] would give the oldest step of a lane back at once.
    ///
    /// # Errors
    /// The device failed, or no step of the lane is out.
    fn ready(&mut self, lane: usize) -> Result<bool, ExecutorError>;
}
