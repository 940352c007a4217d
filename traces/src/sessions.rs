//! Sessions: a user sends a prompt, reads the answer, thinks, and sends the next one on top of all that was said.
//!
//! The loop is open: the next turn comes a think time after an *assumed* end of the answer, whatever the simulated
//! service takes (a closed loop would need the simulator's answer). Each turn's prompt is the whole conversation so far
//! and some new tokens; its content ids continue those of the turn before, so that prefix caches can find them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use overbook_sim::time::{NS_PER_S, Span};
use overbook_sim::units::Duration;
use overbook_sim::workload::arrival::{ClassId, Content};
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::dist::{LengthDist, tokens_problem};
use crate::draw::{stream, uniform};
use crate::error::Problem;
use crate::lengths::Size;
use crate::quantile::QuantileTable;
use crate::repeats::SHARED_MAX;

/// How requests follow one another in a session. The defaults are measured on the 135 sessions of the first 400 rows of
/// `BurstGPT_3` (one night and morning; sessions at its end are cut off).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSpec {
    /// Turns of a session. Measured: mean 2.9, median 2, p90 5, 44 % have one.
    pub turns: LengthDist,
    /// New prompt tokens of each turn after the first. Measured: median 24, p90 116; the 27 % in which the context was
    /// cut count as 1.
    pub follow_up: LengthDist,
    /// Median time from the end of an answer to the next turn. Measured: 116 s.
    pub think_median: Duration,
    /// Standard deviation of its logarithm (log-normal). Fitted: with 1.7 the mean is 492 s, measured 529 s.
    pub think_sigma: f64,
    /// Assumed time to answer: this ... Measured for `ChatGPT`: 1.1 s.
    pub answer_base: Duration,
    /// ... and this per output token. Measured for `ChatGPT`: 10.9 ms.
    pub answer_per_token: Duration,
    /// A session ends before a follow-up whose prompt would be longer [tokens]; its first prompt is as long as it is.
    pub max_prompt_tokens: u32,
    /// Tokens with which every conversation begins (a system prompt, part of the first prompt): shared by all sessions.
    pub shared_prefix_tokens: u32,
    /// Tokens per block of the content ids. A scenario's are of its engine's `block_tokens`.
    #[serde(skip)]
    pub block_tokens: u32,
}

impl Default for SessionSpec {
    fn default() -> SessionSpec {
        let turns =
            [(0.0, 1), (0.437, 1), (0.437, 2), (0.652, 2), (0.652, 3), (0.9, 5), (0.95, 9), (0.99, 16), (1.0, 24)];
        let follow_up = [(0.0, 1), (0.27, 1), (0.5, 24), (0.75, 53), (0.9, 116), (0.99, 1000), (1.0, 2000)];
        SessionSpec {
            turns: LengthDist::Quantiles(turns.to_vec()),
            follow_up: LengthDist::Quantiles(follow_up.to_vec()),
            think_median: Duration(Span(116 * NS_PER_S)),
            think_sigma: 1.7,
            answer_base: Duration(Span(1_100_000_000)),
            answer_per_token: Duration(Span(10_900_000)),
            max_prompt_tokens: 8192,
            shared_prefix_tokens: 0,
            block_tokens: 16,
        }
    }
}

impl SessionSpec {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.turns.problems("sessions.turns");
        problems.extend(self.follow_up.problems("sessions.follow_up"));
        let mut add = |path: &str, message: Option<String>| {
            problems.extend(message.map(|message| (format!("sessions.{path}"), message)));
        };
        let sigma = !(0.0..=8.0).contains(&self.think_sigma);
        add("think_sigma", sigma.then(|| format!("is {}; it must be between 0 and 8", self.think_sigma)));
        add("max_prompt_tokens", tokens_problem(self.max_prompt_tokens));
        let told = format!("is {}; it must be at most {SHARED_MAX}", self.shared_prefix_tokens);
        add("shared_prefix_tokens", (self.shared_prefix_tokens > SHARED_MAX).then_some(told));
        add("block_tokens", tokens_problem(self.block_tokens));
        problems
    }
}

/// A turn that is to come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Turn {
    at_ns: u64,
    session: u64,
    prompt_tokens: u32,
    output_tokens: u32,
    class: ClassId,
    priority: i32,
    /// Turns after this one.
    left: u32,
}

/// A request of a session.
pub(crate) struct Said {
    pub(crate) at_ns: u64,
    pub(crate) size: Size,
    /// Number of its session, from 1.
    pub(crate) session: u64,
    pub(crate) content: Box<Content>,
}

/// The sessions that are going on.
pub(crate) struct Sessions {
    spec: SessionSpec,
    turns: QuantileTable,
    follow_up: QuantileTable,
    turn_draws: ChaCha8Rng,
    follow_up_draws: ChaCha8Rng,
    think_draws: ChaCha8Rng,
    waiting: BinaryHeap<Reverse<Turn>>,
    started: u64,
}

/// Block ids of a session: its number, and 24 bits for the block.
const BLOCK_BITS: u32 = 24;

impl Sessions {
    pub(crate) fn new(spec: &SessionSpec, seed: u64) -> Sessions {
        Sessions {
            spec: spec.clone(),
            turns: QuantileTable::new(&spec.turns.points()),
            follow_up: QuantileTable::new(&spec.follow_up.points()),
            turn_draws: stream(seed, *b"turns   "),
            follow_up_draws: stream(seed, *b"follow  "),
            think_draws: stream(seed, *b"think   "),
            waiting: BinaryHeap::new(),
            started: 0,
        }
    }

    /// When the next turn of the sessions going on comes.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse(turn)| turn.at_ns)
    }

    /// A new session with this first prompt.
    pub(crate) fn start(&mut self, at_ns: u64, size: &Size) {
        self.started += 1;
        let left = self.turns.at(uniform(&mut self.turn_draws)).saturating_sub(1);
        let prompt_tokens = size.prompt_tokens.max(self.spec.shared_prefix_tokens.saturating_add(1));
        let Size { output_tokens, class, priority, .. } = *size;
        let turn = Turn { at_ns, session: self.started, prompt_tokens, output_tokens, class, priority, left };
        self.waiting.push(Reverse(turn));
    }

    /// Whether the next turn needs an output length for the turn after it; else it is the last of its session.
    pub(crate) fn next_goes_on(&self) -> bool {
        self.waiting.peek().is_some_and(|Reverse(turn)| turn.left > 0)
    }

    /// The next turn, and the plan for the one after it, whose output length is given.
    pub(crate) fn pop(&mut self, next_output: Option<u32>) -> Option<Said> {
        let Reverse(turn) = self.waiting.pop()?;
        if let Some(output_tokens) = next_output {
            self.go_on(turn, output_tokens);
        }
        let Turn { at_ns, prompt_tokens, output_tokens, class, priority, session, .. } = turn;
        let (size, content) = (Size { prompt_tokens, output_tokens, class, priority }, Box::new(self.content(&turn)));
        Some(Said { at_ns, size, session, content })
    }

    fn go_on(&mut self, turn: Turn, output_tokens: u32) {
        let new_tokens = self.follow_up.at(uniform(&mut self.follow_up_draws));
        let normal: f64 = StandardNormal.sample(&mut self.think_draws);
        let think_s = self.spec.think_median.0.as_secs_f64() * (self.spec.think_sigma * normal).exp();
        let answer_ns = self.spec.answer_per_token.0.0.saturating_mul(u64::from(turn.output_tokens));
        let pause_ns = Span::from_secs_f64(think_s).0.saturating_add(self.spec.answer_base.0.0);
        let at_ns = turn.at_ns.saturating_add(answer_ns).saturating_add(pause_ns);
        let said = turn.prompt_tokens.saturating_add(turn.output_tokens);
        let prompt_tokens = said.saturating_add(new_tokens);
        if prompt_tokens <= self.spec.max_prompt_tokens {
            self.waiting.push(Reverse(Turn { at_ns, prompt_tokens, output_tokens, left: turn.left - 1, ..turn }));
        }
    }

    /// Ids of the full blocks of prompt and output. A conversation only grows, so a block's place in it is its identity.
    fn content(&self, turn: &Turn) -> Content {
        let block_tokens = self.spec.block_tokens;
        let blocks = u64::from(turn.prompt_tokens.saturating_add(turn.output_tokens) / block_tokens);
        let shared = u64::from(self.spec.shared_prefix_tokens / block_tokens);
        let own = turn.session << BLOCK_BITS;
        let ids = (0..blocks).map(|block| if block < shared { block } else { own + block }).collect();
        Content { block_tokens, ids }
    }
}
