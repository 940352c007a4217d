//! Which tokens of a request keep their keys and values, when it may keep only some: retention inside a request.
//!
//! A request has a budget of slots in each layer and KV head. What is beyond it goes by a policy, and the next token takes the place
//! of what went. The number of slots is known without any arithmetic on keys: the simulator needs only a [`Keep`]. Which tokens go, the
//! real engine decides, by the same settings.
//!
//! ```text
//!   slots after a step     prompts: each chunk        min(computed, budget)
//!                          prompts: at their end      computed, until the last chunk
//!                          decoding                   one more each step; back to the budget when `every` too many are there
//! ```
//!
//! [`policies`] has one row a policy: its settings, what it needs of a step, and what it costs.

mod figures;
pub mod policies;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Check;
pub use figures::{Kept, RetentionFigures};
pub use policies::{Needed, RetentionPolicy};

/// Retention inside requests: the policy and the budget.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionSpec {
    /// Which tokens stay.
    pub policy: RetentionPolicy,
    /// Slots of a request in each layer and KV head. Every policy needs it but `full`, which has no use for it.
    #[serde(default, skip_serializing_if = "none")]
    #[schemars(range(min = 1))]
    pub budget: u32,
    /// Tokens by which a request may outgrow its budget while it decodes, before it is brought back to it: 1 evicts in every step.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub every: u32,
    /// When tokens of prompts go.
    #[serde(default)]
    pub prompt: PromptRule,
    /// Whether tokens go while a request decodes.
    #[serde(default)]
    pub output: OutputRule,
    /// Before a request is preempted, the running ones are cut to this budget, the longest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub shrink_to: Option<u32>,
    /// Tokens that never go, beside those that the policy itself protects.
    #[serde(default, skip_serializing_if = "Protect::is_none")]
    pub protect: Protect,
}

/// Tokens that never go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protect {
    /// So many at the start of the request.
    pub first: u32,
    /// So many of the latest.
    pub latest: u32,
}

impl Protect {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_none(&self) -> bool {
        *self == Protect::default()
    }
}

/// When tokens of prompts go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PromptRule {
    /// After each chunk (TRIM-KV, Locret): a prompt never takes more than the budget and a chunk.
    #[default]
    EachChunk,
    /// Once, after the last chunk (SnapKV and most others): until then it has all its slots.
    AtEnd,
}

/// Whether tokens go while a request decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutputRule {
    /// Yes.
    #[default]
    Evict,
    /// No: the budget is that of the prompt, and all output stays.
    Keep,
}

const fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn none(slots: &u32) -> bool {
    *slots == 0
}

/// Said of settings that `full` has no use for.
const WITH_FULL: &str = "has no effect with `full`, which keeps everything; to compare with `full`, let the axis be `engine.retention` as a whole";

impl RetentionSpec {
    /// A policy with a budget, which evicts in every step.
    pub fn strict(policy: RetentionPolicy, budget: u32) -> RetentionSpec {
        RetentionSpec {
            policy,
            budget,
            every: 1,
            prompt: PromptRule::EachChunk,
            output: OutputRule::Evict,
            shrink_to: None,
            protect: Protect::default(),
        }
    }

    /// Tokens that never go with a budget, whatever their score: so many at the start and so many of the latest.
    pub fn protects(&self, budget: u32) -> (u32, u32) {
        let (first, latest) = self.policy.protects(budget);
        (first.max(self.protect.first), latest.max(self.protect.latest))
    }

    /// The smallest budget that takes the place of a budget: what is protected then, and a token more.
    pub fn least(&self, budget: u32) -> u64 {
        let (first, latest) = self.protects(budget);
        u64::from(first) + u64::from(latest) + 1
    }

    /// How many slots stay.
    pub fn keep(&self) -> Keep {
        Keep {
            budget: if self.policy == RetentionPolicy::Full { u32::MAX } else { self.budget },
            every: self.every,
            prompt: self.prompt,
            output: self.output,
            shrink_to: self.shrink_to,
        }
    }

    /// The rules on it.
    pub fn check(&self, check: &mut Check<'_>) {
        let told = format!("must be at least 1: how many tokens `{}` keeps", self.policy.name());
        check.that(self.budget > 0 || self.policy == RetentionPolicy::Full, "budget", told);
        check.positive("every", self.every);
        check.positive("shrink_to", self.shrink_to);
        self.policy.check(&mut check.below("policy"));
        let enough = |slots: u32| slots == 0 || u64::from(slots) >= self.least(slots);
        let short = |slots: u32| {
            let least = self.least(slots);
            let whom = if self.protect.is_none() { "" } else { " with `protect`" };
            let name = self.policy.name();
            format!("is {slots}; `{name}`{whom} protects {} tokens, and needs room for one more", least - 1)
        };
        check.that(enough(self.budget), "budget", short(self.budget));
        if let Some(to) = self.shrink_to {
            check.that(enough(to), "shrink_to", short(to));
            let told = format!("is {to}, not below the budget of {}", self.budget);
            check.that(to < self.budget, "shrink_to", told);
            let told = "has no effect with `output: keep`, where only prompts have a budget";
            check.that(self.output == OutputRule::Evict, "shrink_to", told);
        }
        if self.policy == RetentionPolicy::Full {
            check.that(self.shrink_to.is_none(), "shrink_to", WITH_FULL);
            check.that(self.every == 1, "every", WITH_FULL);
            check.that(self.protect.is_none(), "protect", WITH_FULL);
        }
        let told = "has no effect with `output: keep`: nothing goes while a request decodes";
        check.that(self.every == 1 || self.output == OutputRule::Evict, "every", told);
        let told = format!("is {}; at most 2³¹ - 1 together with the budget", self.every);
        check.that(u64::from(self.every) + u64::from(self.budget) < 1 << 31, "every", told);
    }
}

/// How many slots a request keeps: all that serving needs to know of retention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    /// Slots; [`u32::MAX`] for all.
    pub budget: u32,
    /// Tokens beyond it before some go.
    pub every: u32,
    /// When tokens of prompts go.
    pub prompt: PromptRule,
    /// Whether tokens go while a request decodes.
    pub output: OutputRule,
    /// What budgets are cut to before a request is preempted.
    pub shrink_to: Option<u32>,
}

impl Keep {
    /// Everything stays.
    pub const ALL: Keep =
        Keep { budget: u32::MAX, every: 1, prompt: PromptRule::EachChunk, output: OutputRule::Evict, shrink_to: None };

    /// Slots that a request takes at most while its first `prompt` tokens are computed as a prompt, `chunk` at a time, and the rest
    /// of its `tokens` one by one.
    pub fn most_slots(&self, prompt: u32, tokens: u32, chunk: u32) -> u32 {
        if !self.cuts(prompt, tokens) {
            return tokens;
        }
        let filled = match self.prompt {
            PromptRule::EachChunk => prompt.min(self.budget.saturating_add(chunk)),
            PromptRule::AtEnd => prompt,
        };
        let decoded = match self.output {
            OutputRule::Evict => tokens.min(self.budget.saturating_add(self.every)),
            OutputRule::Keep => tokens - prompt + prompt.min(self.budget),
        };
        if tokens > prompt { filled.max(decoded) } else { filled }
    }

    /// Slots that a request takes at most while its first `tokens` tokens are computed in chunks; of them `prompt` are its prompt, and the rest
    /// is output that was computed before a preemption. It may generate `limit` tokens.
    pub fn filled_slots(&self, (prompt, limit): (u32, u32), tokens: u32, chunk: u32) -> u32 {
        if !self.cuts(prompt, prompt.saturating_add(limit)) || self.prompt == PromptRule::AtEnd {
            return tokens;
        }
        let kept = match self.output {
            OutputRule::Evict => chunk,
            OutputRule::Keep => chunk.max(tokens.saturating_sub(prompt)),
        };
        tokens.min(self.budget.saturating_add(kept))
    }

    /// The same of a request of so many tokens, however they divide into prompt and output.
    pub fn longest_slots(&self, tokens: u32, chunk: u32) -> u32 {
        match (self.prompt, self.output) {
            (PromptRule::EachChunk, OutputRule::Evict) => tokens.min(self.budget.saturating_add(chunk.max(self.every))),
            _ => tokens,
        }
    }

    /// Slots that stay after a chunk of a prompt with `positions` tokens computed, the first `prompt` of which are the prompt; the
    /// rest is output that was computed before a preemption. `last`: it ends the prompt.
    pub fn after_chunk(&self, positions: u32, prompt: u32, last: bool) -> u32 {
        if self.prompt == PromptRule::AtEnd && !last {
            return u32::MAX;
        }
        match self.output {
            OutputRule::Evict => self.budget,
            OutputRule::Keep => self.budget.saturating_add(positions.saturating_sub(prompt)),
        }
    }

    /// Slots that a request has at least, once some have gone.
    pub(crate) fn least_kept(&self) -> u32 {
        self.shrink_to.unwrap_or(self.budget).min(self.budget)
    }

    /// The budget of a request that decodes; 0: none.
    pub fn decoding(&self) -> u32 {
        match self.output {
            OutputRule::Evict => self.budget,
            OutputRule::Keep => 0,
        }
    }

    /// Whether anything goes of a request with such a prompt and so many tokens at most.
    pub fn cuts(&self, prompt: u32, tokens: u32) -> bool {
        match self.output {
            OutputRule::Evict => tokens > self.budget,
            OutputRule::Keep => prompt > self.budget,
        }
    }
}
