//! What goes into a replica and what comes out: limits, the planned step, events.

use crate::cost::{Cost, PrefillPart};
use crate::kv::Seat;
use crate::kv::retention::Keep;
use crate::results::rows::RequestRow;
use crate::serving::speculation::Drafts;
use crate::serving::{Horizon, QueueOrder};
use crate::time::{Span, Time};

/// The lanes of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lanes {
    /// One lane for prompts and decodes.
    #[default]
    Unified,
    /// A lane for prompts and one for decodes, side by side on the same GPUs and the same pool (semi-PD).
    Split,
    /// One lane for prompts; a request with its first token leaves for another replica.
    Prefill,
    /// One lane for requests that come with their prompts computed; it computes prompts only after a preemption.
    Decode,
}

impl Lanes {
    /// What each lane does.
    pub fn work(self) -> &'static [LaneWork] {
        match self {
            Lanes::Unified | Lanes::Decode => &[LaneWork::All],
            Lanes::Split => &[LaneWork::Prefill, LaneWork::Decode],
            Lanes::Prefill => &[LaneWork::Prefill],
        }
    }
}

/// What a lane does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaneWork {
    /// Prompts and decodes.
    All,
    /// Prompts: a request with its first token is handed over.
    Prefill,
    /// Decodes of requests that were handed over.
    Decode,
}

/// The fixed limits of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Usable KV blocks.
    pub blocks: u64,
    /// Tokens per block.
    pub block_tokens: u32,
    /// Prompt and output tokens of one request at most.
    pub max_model_len: u32,
    /// Whether blocks of equal prefixes are kept and shared.
    pub prefix_caching: bool,
    /// How they are kept.
    pub cache: CacheKind,
    /// What output limits are clipped to.
    pub room: OutputRoom,
    /// Steps planned ahead: 1, or 2 when step t+1 is planned while step t runs.
    pub depth: u32,
    /// Order of the waiting queue.
    pub order: QueueOrder,
    /// Its lanes.
    pub lanes: Lanes,
    /// Where preempted requests may keep their KV.
    pub swap: SwapSpace,
    /// What a request keeps of its KV.
    pub retention: Keep,
    /// Tokens of a prompt that a step computes at most.
    pub chunk: u32,
    /// Drafts that steps verify; none without speculative decoding.
    pub drafts: Drafts,
}

/// How a prefix cache keeps what it knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CacheKind {
    /// Single blocks in the order in which they were freed (vLLM). A block is cached when it is full.
    #[default]
    Blocks,
    /// A tree of runs of blocks (SGLang), which learns of a prompt with its first token and of an output at its end.
    Tree,
}

/// The tokens that a request may generate at most, whatever its client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OutputRoom {
    /// What the context leaves.
    #[default]
    Context,
    /// What context and KV pool leave to a request that has both for itself, with what SGLang keeps back: a token of the
    /// context, two of the prompt, and a block beside those of the prompt.
    Alone,
}

impl Limits {
    /// Slots that the longest request takes at most.
    pub fn longest_slots(&self) -> u32 {
        self.retention.longest_slots(self.max_model_len, self.chunk)
    }

    /// Slots that a request takes at most while its first `prompt` tokens are computed as a prompt, and the rest of its `tokens`
    /// one by one.
    pub fn most_slots(&self, prompt: u32, tokens: u32) -> u32 {
        self.retention.most_slots(prompt, tokens, self.chunk)
    }

    /// Slots that a request takes at most while its first `tokens` tokens are computed in chunks: see [`Keep::filled_slots`].
    ///
    /// [`Keep::filled_slots`]: crate::kv::retention::Keep::filled_slots
    pub fn filled_slots(&self, request: (u32, u32), tokens: u32) -> u32 {
        self.retention.filled_slots(request, tokens, self.chunk)
    }

    /// Slots that a member with so many of its own has while a step of it is planned: its current token, the drafts, and those
    /// ahead; never more than the longest sequence or the pool.
    pub fn slots_ahead(&self, slots: u32) -> u32 {
        let pool = self.blocks.saturating_mul(u64::from(self.block_tokens));
        let most = u64::from(self.max_model_len).min(pool) as u32;
        (slots + 1 + self.drafts.ahead()).min(most).max(slots + 1)
    }

    /// The output limit of a request with a prompt of so many tokens; below 0 it can never run.
    pub fn room(&self, prompt: u32) -> i64 {
        let prompt = i64::from(prompt);
        let context = i64::from(self.max_model_len);
        match self.room {
            OutputRoom::Context => context - prompt,
            OutputRoom::Alone => {
                let block = i64::from(self.block_tokens);
                let pool = i64::try_from(self.blocks).unwrap_or(i64::MAX).saturating_mul(block);
                let blocks = (prompt + block - 1) / block * block;
                (context.min(pool) - prompt - 2).min(pool - blocks - block - 1)
            }
        }
    }
}

/// The host's memory for KV that was swapped out. By default there is none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SwapSpace {
    /// Blocks that fit.
    pub blocks: u64,
    /// Time to copy a block from the GPUs to the host, or back.
    pub block_cost: Cost,
}

/// How often a step of the standing set could be planned again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeats {
    /// Before a member leaves.
    pub(crate) leave: u64,
    /// Before tokens of a member go.
    pub(crate) cut: u64,
    /// Before blocks run out that are not promised to prompts of another lane.
    pub(crate) blocks: u64,
}

/// An event of a request, handed to the driver in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happened {
    /// Admitted from the queue (again, after a preemption).
    Admitted {
        /// The request.
        request: u64,
    },
    /// Its first token was delivered.
    FirstToken {
        /// The request.
        request: u64,
        /// Time from arrival to this token.
        ttft: Span,
        /// Time from arrival to its first step.
        wait: Span,
        /// Its prompt [tokens].
        prompt: u32,
    },
    /// It lost its blocks and waits again.
    Preempted {
        /// The request.
        request: u64,
    },
    /// A token came after a gap other than the step's own length.
    Gap {
        /// Time since the request's token before.
        span: Span,
    },
    /// It is gone; its seat may be reused.
    Ended(RequestRow),
}

/// A chunk of prefill work in the step being planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// The request.
    pub seat: Seat,
    /// Tokens scheduled.
    pub tokens: u32,
    /// Its KV tokens before the step.
    pub past: u32,
    /// Slots that hold them: as many, unless a budget threw some away.
    pub kept: u32,
}

/// An admission made by the step being planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// The request.
    pub seat: Seat,
    /// Tokens served from the prefix cache.
    pub cached: u32,
    /// Whether it comes back from a preemption.
    pub resumed: bool,
}

/// The step planned last: its shape, and what the plan changed.
#[derive(Clone, Default, Debug)]
pub struct PlannedStep {
    /// Whether the whole standing set decodes in it.
    pub all_members: bool,
    /// Members that decode, if not all do; in running order.
    pub decoded: Vec<Seat>,
    /// Prefill work, in the order in which it was scheduled.
    pub chunks: Vec<Chunk>,
    /// Admissions, in order; each has its chunk above.
    pub admitted: Vec<Admission>,
    /// Requests (by id) preempted, in order.
    pub preempted: Vec<u64>,
    /// Tokens in flight (seat, generation) that were thrown away: those of requests that will compute them again.
    pub thrown: Vec<(Seat, u32)>,
    /// Blocks copied between the GPUs and the host before the step, in both directions together.
    pub swapped_blocks: u64,
    /// Sequences that decode.
    pub decode_seqs: u32,
    /// Slots they attend to, the current ones included: their KV tokens, unless budgets throw some away.
    pub decode_context: u64,
    /// Whether tokens go before the next step, so that it does not go on where this one ends.
    pub cuts: bool,
    /// Members whose slots grow from this step to the next, if all decode.
    pub growing: u32,
    /// Prefill work as the cost model sees it.
    pub parts: Vec<PrefillPart>,
    /// Chunks that end their prefill.
    pub prefill_ends: u32,
    /// How often the scheduler would plan the same step again.
    pub horizon: Horizon,
    /// A moment that ends the horizon: the scheduler plans again at the first step boundary then or later.
    pub wake_at: Option<Time>,
}

impl PlannedStep {
    pub(crate) fn clear(&mut self) {
        self.all_members = false;
        self.decoded.clear();
        self.chunks.clear();
        self.admitted.clear();
        self.preempted.clear();
        self.thrown.clear();
        self.swapped_blocks = 0;
        self.decode_seqs = 0;
        self.decode_context = 0;
        self.cuts = false;
        self.growing = 0;
        self.parts.clear();
        self.prefill_ends = 0;
        self.horizon = Horizon::ONE;
        self.wake_at = None;
    }
}
