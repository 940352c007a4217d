//! Which token goes: the policies, each in plain words.
//!
//! A policy is an object for one layer and KV head of one sequence. It sees every step of its layer and gives the kept positions scores;
//! the lowest goes, ties the oldest. Sources are those of [`overbook_sim::kv::retention`] where it names the same policy.

mod attention;
mod keys;
mod learned;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use overbook_sim::counter::mix;
use overbook_sim::streams::{Purpose, keyed};

use super::gates::Gates;
use super::reference::{LayerCache, Step};
use super::regress::{Future, Regressors};

/// How tokens are scored.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rule {
    /// Nothing goes.
    Full,
    /// Any but the protected ones. With `anew` every step draws again, so that old tokens have survived many draws; without, a token keeps
    /// what it drew, so that all ages are kept alike.
    Random {
        /// Whether every step draws again.
        anew: bool,
    },
    /// The latest stay.
    Window,
    /// The first few and the latest stay (StreamingLLM); how many first ones is the setting's `sinks`.
    Streaming,
    /// Most attention over all steps so far, mean over the group (H2O). The true sum: not the last row alone.
    H2o,
    /// Most attention of the last query, mean over all heads of the layer (TOVA).
    Tova,
    /// Mean attention of the last `window` queries, the largest of `pool` neighbouring slots (SnapKV, at every step).
    Snap {
        /// Queries.
        window: usize,
        /// Slots, an odd number.
        pool: usize,
    },
    /// Keys unlike the mean of the normalised keys (KeyDiff).
    KeyDiff,
    /// Small keys (Knorm).
    Knorm,
    /// `λ · attention - (1 - λ) · likeness to other keys` (R-KV).
    Rkv {
        /// Queries.
        window: usize,
        /// Slots, an odd number.
        pool: usize,
        /// λ.
        lambda: f32,
    },
    /// Attention that queries distributed as those so far would give, `future` positions on, times `‖v‖` (ExpectedAttention).
    Expected {
        /// Positions over which the rotation is averaged.
        future: usize,
    },
    /// A linear regression of the logarithm of the largest attention to come, from the hidden state (as KVzap).
    Regressed,
    /// Learned retention that decays with age (TRIM-KV).
    Trim,
    /// Attention to come, under the full cache. It knows the future.
    Oracle,
}

/// A policy with its knobs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Setting {
    /// How tokens are scored.
    pub rule: Rule,
    /// First tokens that stay.
    pub sinks: usize,
    /// Latest tokens that stay.
    pub recent: usize,
}

/// All policies, with the knobs that nothing has tuned.
pub const RULES: [Rule; 14] = [
    Rule::Full,
    Rule::Random { anew: false },
    Rule::Window,
    Rule::Streaming,
    Rule::H2o,
    Rule::Tova,
    Rule::Snap { window: 8, pool: 7 },
    Rule::KeyDiff,
    Rule::Knorm,
    Rule::Rkv { window: 8, pool: 7, lambda: 0.1 },
    Rule::Expected { future: 512 },
    Rule::Regressed,
    Rule::Trim,
    Rule::Oracle,
];

impl Rule {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Full => "full",
            Rule::Random { .. } => "random",
            Rule::Window => "window",
            Rule::Streaming => "streaming-llm",
            Rule::H2o => "h2o",
            Rule::Tova => "tova",
            Rule::Snap { .. } => "snap-kv",
            Rule::KeyDiff => "key-diff",
            Rule::Knorm => "knorm",
            Rule::Rkv { .. } => "r-kv",
            Rule::Expected { .. } => "expected-attention",
            Rule::Regressed => "kv-zap",
            Rule::Trim => "trim-kv",
            Rule::Oracle => "oracle",
        }
    }

    /// Whether it goes by what is known without training and without the future.
    pub fn is_heuristic(self) -> bool {
        !matches!(self, Rule::Full | Rule::Regressed | Rule::Trim | Rule::Oracle)
    }

    /// The settings that are tried for a budget of slots, at most [`TRIALS`]: as many for each policy that has knobs.
    pub fn trials(self, budget: usize) -> Vec<Setting> {
        let with = |rule: Rule, sinks: usize, recent: usize| Setting { rule, sinks, recent };
        let recents = [0, 1, 2, 4, budget / 4, budget / 2];
        match self {
            Rule::Full | Rule::Window | Rule::Oracle => vec![with(self, 0, 0)],
            Rule::Random { .. } => [(false, 1), (false, 2), (false, 4), (true, 1), (true, 2), (true, 4)]
                .map(|(anew, recent)| with(Rule::Random { anew }, 0, recent))
                .to_vec(),
            Rule::Streaming => [1, 2, 4, 8, budget / 4, budget / 2].map(|sinks| with(self, sinks, 0)).to_vec(),
            Rule::H2o => [0, budget / 8, budget / 4, budget / 2, 3 * budget / 4, 7 * budget / 8]
                .map(|recent| with(self, 0, recent))
                .to_vec(),
            Rule::Snap { .. } => [(8, 7), (8, 3), (8, 1), (4, 3), (4, 1), (1, 1)]
                .map(|(window, pool)| with(Rule::Snap { window, pool }, 0, window))
                .to_vec(),
            Rule::Rkv { .. } => [(8, 7, 0.1), (4, 3, 0.1), (4, 1, 0.5), (4, 1, 0.9), (2, 1, 0.5), (2, 1, 0.9)]
                .map(|(window, pool, lambda)| with(Rule::Rkv { window, pool, lambda }, 0, window))
                .to_vec(),
            Rule::Expected { .. } => {
                [(512, 4, 0), (512, 0, 0), (64, 0, 0), (64, 0, 4), (16, 0, 0), (16, 0, budget / 4)]
                    .map(|(future, sinks, recent)| with(Rule::Expected { future }, sinks, recent))
                    .to_vec()
            }
            Rule::Tova | Rule::KeyDiff | Rule::Knorm | Rule::Regressed | Rule::Trim => {
                recents.map(|recent| with(self, 0, recent)).to_vec()
            }
        }
    }
}

/// Settings that are tried for each policy with knobs.
pub const TRIALS: usize = 6;

impl fmt::Display for Setting {
    /// The knobs, without the policy's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sinks={} recent={}", self.sinks, self.recent)?;
        match self.rule {
            Rule::Random { anew } => write!(f, " anew={anew}"),
            Rule::Snap { window, pool } => write!(f, " window={window} pool={pool}"),
            Rule::Rkv { window, pool, lambda } => write!(f, " window={window} pool={pool} lambda={lambda}"),
            Rule::Expected { future } => write!(f, " future={future}"),
            _ => Ok(()),
        }
    }
}

/// One layer and KV head of one sequence.
pub trait Policy {
    /// Hears of a step of its layer, whose position is in `cache` and kept.
    fn see(&mut self, step: &Step<'_>, cache: &LayerCache);

    /// Scores of the kept positions, in their order: the lowest goes.
    fn scores(&mut self, step: &Step<'_>, cache: &LayerCache) -> Vec<f32>;
}

/// What policies may be given beside the steps.
#[derive(Clone, Default)]
pub struct Knowledge {
    /// Retention gates, for [`Rule::Trim`].
    pub gates: Option<Arc<Gates>>,
    /// Regressions, for [`Rule::Regressed`].
    pub regressors: Option<Arc<Regressors>>,
    /// Attention to come of the sequence at hand, for [`Rule::Oracle`].
    pub future: Option<Arc<Future>>,
    /// Seed of random choices.
    pub seed: u64,
}

/// Why a policy cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("`{policy}` needs {what}")]
pub struct Lacking {
    /// The policy.
    pub policy: &'static str,
    /// What it was not given.
    pub what: &'static str,
}

impl Setting {
    /// The policy for a layer and KV head.
    ///
    /// # Errors
    /// The policy needs something that `knowledge` does not have.
    pub fn build(&self, layer: usize, head: usize, knowledge: &Knowledge) -> Result<Box<dyn Policy>, Lacking> {
        let lacking = |what| Lacking { policy: self.rule.name(), what };
        Ok(match self.rule {
            Rule::Full | Rule::Window | Rule::Streaming => Box::new(Latest { head }),
            Rule::Random { anew } => {
                Box::new(Random { key: mix(mix(knowledge.seed, layer as u64), head as u64), anew, head })
            }
            Rule::H2o => Box::new(attention::H2o::new(head)),
            Rule::Tova => Box::new(attention::Tova { head }),
            Rule::Snap { window, pool } => Box::new(attention::Snap::new(head, window, pool)),
            Rule::KeyDiff => Box::new(keys::KeyDiff { head }),
            Rule::Knorm => Box::new(keys::Knorm { head }),
            Rule::Rkv { window, pool, lambda } => Box::new(keys::Rkv::new(head, window, pool, lambda)),
            Rule::Expected { future } => Box::new(attention::Expected::new(head, future)),
            Rule::Regressed => {
                let regressors = knowledge.regressors.clone().ok_or_else(|| lacking("regressions"))?;
                Box::new(learned::Regressed::new(regressors, head))
            }
            Rule::Trim => {
                let gates = knowledge.gates.clone().ok_or_else(|| lacking("gates"))?;
                Box::new(learned::Trim::new(gates, head))
            }
            Rule::Oracle => {
                let future = knowledge.future.clone().ok_or_else(|| lacking("the future"))?;
                Box::new(learned::Oracle { future, layer, head })
            }
        })
    }

    /// Takes out what is beyond a budget: protected positions last, then by score, then by age.
    pub fn evict(&self, budget: usize, policy: &mut dyn Policy, head: usize, step: &Step<'_>, cache: &mut LayerCache) {
        let beyond = cache.kept[head].len().saturating_sub(budget);
        if beyond == 0 || self.rule == Rule::Full {
            return;
        }
        let scores = policy.scores(step, cache);
        let protected = |at: usize| at < self.sinks || at + self.recent > step.position;
        let mut order: Vec<(bool, f32, usize)> =
            cache.kept[head].iter().zip(scores).map(|(at, score)| (protected(*at), score, *at)).collect();
        order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        for (_, _, at) in &order[..beyond] {
            cache.kept[head].remove(at);
        }
    }
}

/// The positions that a head keeps.
fn kept(cache: &LayerCache, head: usize) -> &BTreeSet<usize> {
    &cache.kept[head]
}

struct Latest {
    head: usize,
}

impl Policy for Latest {
    fn see(&mut self, _: &Step<'_>, _: &LayerCache) {}

    fn scores(&mut self, _: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        kept(cache, self.head).iter().map(|at| *at as f32).collect()
    }
}

struct Random {
    key: u64,
    anew: bool,
    head: usize,
}

impl Policy for Random {
    fn see(&mut self, _: &Step<'_>, _: &LayerCache) {}

    fn scores(&mut self, step: &Step<'_>, cache: &LayerCache) -> Vec<f32> {
        let turn = if self.anew { step.position as u64 } else { 0 };
        let draw = |at: &usize| keyed(self.key, Purpose::Evicting, &[turn, *at as u64]) as f32;
        kept(cache, self.head).iter().map(draw).collect()
    }
}
