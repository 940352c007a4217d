//! What a scheduler needs of its replica, and what else others ask about it: plain data.

use crate::kv::retention::Keep;
use crate::lengths::LengthSpec;
use crate::partitioners::SmShares;
use crate::serving::QueueOrder;
use crate::serving::replica::{CacheKind, Lanes, Limits, OutputRoom, SwapSpace};
use crate::serving::speculation::Drafts;
use crate::units::Bytes;

/// What a scheduler needs of its replica, and what else others ask about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Needs {
    /// Order of the waiting queue.
    pub order: QueueOrder,
    /// Steps planned ahead (lane depth): 1 or 2.
    pub depth: u32,
    /// Requests that run at once at most.
    pub max_seqs: u32,
    /// Tokens of one step for which activations must fit.
    pub step_tokens: StepTokens,
    /// Over how many steps it computes a prompt.
    pub prompts: Prompts,
    /// Whether it keeps and shares blocks of equal prefixes.
    pub prefix_caching: bool,
    /// How it keeps them.
    pub cache: CacheKind,
    /// What output limits are clipped to.
    pub room: OutputRoom,
    /// Memory of the host, per GPU, that it swaps preempted requests into; `None` if it never does.
    pub swap_space: Option<Bytes>,
    /// Whether it can serve where prompts and decodes are on different replicas: it admits by what is free, and reserves nothing.
    pub serves_apart: bool,
    /// What it sets aside for a request until it ends; `None` if it admits by what is free or foreseen.
    pub reserves: Option<Reserve>,
    /// Where its idea of output lengths comes from, if it has one. Reports print the oracles among them.
    pub lengths: Option<LengthSpec>,
    /// Whether it counts slots and not tokens, so that requests may keep fewer than they have tokens.
    pub counts_slots: bool,
    /// Whether it knows that a step verifies drafts of speculative decoding: its budgets count them.
    pub speculates: bool,
    /// How a lane for prompts and a lane for decodes share the SMs; `None` if one lane does both.
    pub sm_shares: Option<SmShares>,
}

/// Memory that a scheduler sets aside for each request from its admission to its end: that of its prompt and its whole output.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reserve {
    /// Output tokens that each request is taken to have; `None`: those of its limit.
    pub output: Option<u32>,
    /// Memory that may be promised, over memory that there is.
    pub overcommit: f64,
}

impl Reserve {
    /// A request's limit, in memory that is there.
    pub const LIMIT: Reserve = Reserve { output: None, overcommit: 1.0 };
}

/// Tokens of one step at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepTokens {
    /// So many.
    Fixed(u32),
    /// Those of the longest sequence, but at least so many.
    Longest(u32),
}

impl StepTokens {
    /// The number, where sequences have up to `max_model_len` tokens.
    pub fn at(self, max_model_len: u32) -> u32 {
        match self {
            StepTokens::Fixed(tokens) => tokens,
            StepTokens::Longest(least) => max_model_len.max(least),
        }
    }
}

/// Over how many steps a prompt may be computed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Prompts {
    /// Over several.
    Split,
    /// In one. Each of these settings (key, tokens) must hold the longest sequence, or such a prompt would wait for ever.
    Whole(Vec<(&'static str, u32)>),
}

impl Needs {
    /// One unified lane planned a step at a time, first come, first served, that caches, swaps and predicts nothing and does not
    /// serve apart. What is different is said over it: `Needs { depth: 2, ..Needs::plain(…) }`.
    pub fn plain(max_seqs: u32, step_tokens: StepTokens, prompts: Prompts) -> Needs {
        Needs {
            order: QueueOrder::Fcfs,
            depth: 1,
            max_seqs,
            step_tokens,
            prompts,
            prefix_caching: false,
            cache: CacheKind::default(),
            room: OutputRoom::default(),
            swap_space: None,
            serves_apart: false,
            reserves: None,
            lengths: None,
            counts_slots: false,
            speculates: false,
            sm_shares: None,
        }
    }

    /// Lanes of a replica.
    pub fn lanes(&self) -> Lanes {
        if self.sm_shares.is_some() { Lanes::Split } else { Lanes::Unified }
    }

    /// Whether it may compute a prompt over several steps. Where it does not, a step must hold the longest sequence.
    pub fn splits_prompts(&self) -> bool {
        self.prompts == Prompts::Split
    }

    /// The limits of a replica with a pool of `blocks` of `block_tokens` tokens, for sequences up to `max_model_len` tokens. Where
    /// it swaps to, and at what cost, is for the caller to add ([`Limits::swap`]): without, what would be swapped is computed again.
    pub fn limits(&self, blocks: u64, block_tokens: u32, max_model_len: u32) -> Limits {
        Limits {
            blocks,
            block_tokens,
            max_model_len,
            prefix_caching: self.prefix_caching,
            cache: self.cache,
            room: self.room,
            depth: self.depth,
            order: self.order,
            lanes: self.lanes(),
            swap: SwapSpace::default(),
            retention: Keep::ALL,
            chunk: self.step_tokens.at(max_model_len),
            drafts: Drafts::default(),
        }
    }
}

/// How near the engines' own flags come to a scheduler: what an exported command says, and what it cannot say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nearest {
    /// vLLM's `--scheduling-policy`.
    pub policy: QueueOrder,
    /// What the commands leave unsaid; `None` if they say it all.
    pub unsaid: Option<&'static str>,
}

impl Nearest {
    /// First come, first served, with something unsaid.
    pub const fn but(unsaid: &'static str) -> Nearest {
        Nearest { policy: QueueOrder::Fcfs, unsaid: Some(unsaid) }
    }

    /// By priorities that the client gives, with something unsaid.
    pub const fn by_priority_but(unsaid: &'static str) -> Nearest {
        Nearest { policy: QueueOrder::Priority, unsaid: Some(unsaid) }
    }
}
