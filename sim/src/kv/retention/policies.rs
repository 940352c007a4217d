//! The policies, a row each: settings, what they need of a step, what they cost.
//!
//! Sources: TRIM-KV arXiv 2512.03324; StreamingLLM 2309.17453; H2O 2306.14048; TOVA 2401.06104; SnapKV 2404.14469; KeyDiff
//! 2504.15364; Knorm 2406.11430; R-KV 2505.24133; ExpectedAttention 2510.00636; KVzap 2601.07891.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::cost::SlotWork as Work;

/// Which tokens stay. The score of a token in a slot decides; the lowest goes, ties the oldest.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetentionPolicy {
    /// All of them: no token goes, whatever the budget.
    Full,
    /// Drawn by chance.
    Random,
    /// The latest ones.
    Window,
    /// The first few and the latest ones.
    StreamingLlm(StreamingLlm),
    /// Those that got most attention so far, and the latest ones.
    H2o(H2o),
    /// Those that the latest query attends to most.
    Tova,
    /// Those that the latest few queries attend to most, with their neighbours.
    SnapKv(SnapKv),
    /// Those whose keys differ most from the mean key.
    KeyDiff,
    /// Those with the smallest keys.
    Knorm(Knorm),
    /// As `snap-kv`, less what is similar to later tokens.
    RKv(RKv),
    /// Those that queries to come are expected to attend to most.
    ExpectedAttention(ExpectedAttention),
    /// Those to which a learned score gives most, and the latest ones.
    KvZap(KvZap),
    /// Those whose learned retention, which decays with age, is largest.
    TrimKv(TrimKv),
    /// Those that queries to come will attend to most. It knows the future: for comparison alone.
    Oracle,
}

/// Settings of StreamingLLM.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamingLlm {
    /// Tokens at the start that stay.
    pub sinks: u32,
}

/// Settings of H2O.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct H2o {
    /// Share of the budget that the latest tokens have.
    #[schemars(range(min = 0, max = 1))]
    pub recent: f64,
}

/// Settings of SnapKV while decoding.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapKv {
    /// Queries that are looked at; their tokens stay.
    #[schemars(range(min = 1, max = 256))]
    pub window: u32,
    /// Slots over which scores are pooled: an odd number.
    #[schemars(range(min = 1, max = 63))]
    pub pool: u32,
    /// How they are pooled.
    pub pooling: Pooling,
}

/// How the scores of neighbours make one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The largest.
    #[default]
    Max,
    /// The mean.
    Mean,
}

/// Settings of Knorm.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Knorm {
    /// First layers in which the latest tokens stay instead (2 in the paper).
    pub skip_layers: u32,
}

/// Settings of R-KV.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RKv {
    /// Queries that are looked at; their tokens stay.
    #[schemars(range(min = 1, max = 256))]
    pub window: u32,
    /// Slots over which scores are pooled (the largest): an odd number.
    #[schemars(range(min = 1, max = 63))]
    pub pool: u32,
    /// Weight of attention; the rest is that of being unlike others.
    #[schemars(range(min = 0, max = 1))]
    pub lambda: f64,
    /// Cosine from which on keys are alike; the latest of them is not punished.
    #[schemars(range(min = -1, max = 1))]
    pub alike: f64,
}

/// Settings of ExpectedAttention.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectedAttention {
    /// Tokens at the start that stay.
    pub sinks: u32,
    /// Positions to come over which the rotation is averaged.
    #[schemars(range(min = 1, max = 65536))]
    pub future: u32,
}

/// Settings of KVzap.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KvZap {
    /// Latest tokens that stay.
    pub window: u32,
}

/// Settings of TRIM-KV.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrimKv {
    /// Latest tokens that stay (0 in the paper).
    pub window: u32,
}

impl Default for StreamingLlm {
    fn default() -> Self {
        StreamingLlm { sinks: 4 }
    }
}

impl Default for H2o {
    fn default() -> Self {
        H2o { recent: 0.5 }
    }
}

impl Default for SnapKv {
    fn default() -> Self {
        SnapKv { window: 8, pool: 7, pooling: Pooling::Max }
    }
}

impl Default for RKv {
    fn default() -> Self {
        RKv { window: 8, pool: 7, lambda: 0.1, alike: 0.5 }
    }
}

impl Default for ExpectedAttention {
    fn default() -> Self {
        ExpectedAttention { sinks: 4, future: 512 }
    }
}

impl Default for KvZap {
    fn default() -> Self {
        KvZap { window: 128 }
    }
}

/// What a policy needs of a step beside keys, values and positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needed {
    /// Attention weights of so many of the latest queries; [`u32::MAX`]: of every query, as it comes.
    pub attention: u32,
    /// The queries before rotation.
    pub queries: bool,
    /// A number that a trained network gives each token as it comes.
    pub gate: bool,
    /// Attention to come.
    pub future: bool,
}

/// Position of the token in a slot.
const POSITION: u32 = 4;
/// A score in single precision.
const SCORE: u32 = 4;
/// Width of TRIM-KV's gates as published.
const GATE: u32 = 512;

impl RetentionPolicy {
    /// Every policy with its defaults, in the order of the documents.
    pub fn all() -> Vec<RetentionPolicy> {
        use RetentionPolicy as P;
        vec![
            P::Full,
            P::Random,
            P::Window,
            P::StreamingLlm(StreamingLlm::default()),
            P::H2o(H2o::default()),
            P::Tova,
            P::SnapKv(SnapKv::default()),
            P::KeyDiff,
            P::Knorm(Knorm::default()),
            P::RKv(RKv::default()),
            P::ExpectedAttention(ExpectedAttention::default()),
            P::KvZap(KvZap::default()),
            P::TrimKv(TrimKv::default()),
            P::Oracle,
        ]
    }

    /// Its name in scenarios and quality tables.
    pub fn name(&self) -> &'static str {
        match self {
            RetentionPolicy::Full => "full",
            RetentionPolicy::Random => "random",
            RetentionPolicy::Window => "window",
            RetentionPolicy::StreamingLlm(_) => "streaming-llm",
            RetentionPolicy::H2o(_) => "h2o",
            RetentionPolicy::Tova => "tova",
            RetentionPolicy::SnapKv(_) => "snap-kv",
            RetentionPolicy::KeyDiff => "key-diff",
            RetentionPolicy::Knorm(_) => "knorm",
            RetentionPolicy::RKv(_) => "r-kv",
            RetentionPolicy::ExpectedAttention(_) => "expected-attention",
            RetentionPolicy::KvZap(_) => "kv-zap",
            RetentionPolicy::TrimKv(_) => "trim-kv",
            RetentionPolicy::Oracle => "oracle",
        }
    }

    /// Tokens that it never lets go, whatever their score: so many at the start and so many of the latest.
    pub fn protects(&self, budget: u32) -> (u32, u32) {
        match self {
            RetentionPolicy::StreamingLlm(it) => (it.sinks, 0),
            RetentionPolicy::H2o(it) => (0, (it.recent * f64::from(budget)) as u32),
            RetentionPolicy::SnapKv(it) => (0, it.window),
            RetentionPolicy::RKv(it) => (0, it.window),
            RetentionPolicy::ExpectedAttention(it) => (it.sinks, 0),
            RetentionPolicy::KvZap(it) => (0, it.window),
            RetentionPolicy::TrimKv(it) => (0, it.window),
            _ => (0, 0),
        }
    }

    /// What it needs of a step.
    pub fn needed(&self) -> Needed {
        let none = Needed::default();
        match self {
            RetentionPolicy::H2o(_) => Needed { attention: u32::MAX, ..none },
            RetentionPolicy::Tova => Needed { attention: 1, ..none },
            RetentionPolicy::SnapKv(it) => Needed { attention: it.window, ..none },
            RetentionPolicy::RKv(it) => Needed { attention: it.window, ..none },
            RetentionPolicy::ExpectedAttention(_) => Needed { queries: true, ..none },
            RetentionPolicy::KvZap(_) | RetentionPolicy::TrimKv(_) => Needed { gate: true, ..none },
            RetentionPolicy::Oracle => Needed { future: true, ..none },
            _ => none,
        }
    }

    /// What it costs.
    pub fn work(&self) -> Work {
        let none = Work::default();
        match self {
            // Nothing goes, or the place of the next token follows from its position.
            RetentionPolicy::Full | RetentionPolicy::Window | RetentionPolicy::StreamingLlm(_) => none,
            RetentionPolicy::Random => Work { slot_bytes: POSITION, evict_bytes: POSITION, ..none },
            RetentionPolicy::Knorm(_) => Work { slot_bytes: POSITION + SCORE, evict_bytes: POSITION + SCORE, ..none },
            // The mean key is kept up to date; each key is multiplied with it.
            RetentionPolicy::KeyDiff => Work { slot_bytes: POSITION, evict_bytes: POSITION, evict_keys: 1, ..none },
            // Weights are written, scaled and added up in every step.
            RetentionPolicy::H2o(_) => {
                Work { slot_bytes: POSITION + SCORE, step_bytes: 3 * SCORE, evict_bytes: POSITION + SCORE, ..none }
            }
            RetentionPolicy::Tova => {
                Work { slot_bytes: POSITION, step_bytes: SCORE, evict_bytes: POSITION + SCORE, ..none }
            }
            // The window's queries are multiplied with all keys, whenever some go.
            RetentionPolicy::SnapKv(it) => {
                Work { slot_bytes: POSITION, evict_bytes: POSITION + 2 * SCORE * it.window, evict_keys: 1, ..none }
            }
            RetentionPolicy::RKv(it) => Work {
                slot_bytes: POSITION,
                evict_bytes: POSITION + 2 * SCORE * it.window,
                evict_keys: 1,
                evict_pairs: 1,
                ..none
            },
            RetentionPolicy::ExpectedAttention(_) => {
                Work { slot_bytes: POSITION, evict_bytes: POSITION + SCORE, evict_keys: 2, ..none }
            }
            RetentionPolicy::KvZap(_) | RetentionPolicy::TrimKv(_) => {
                Work { slot_bytes: POSITION + SCORE, evict_bytes: POSITION + SCORE, gate_width: GATE, ..none }
            }
            RetentionPolicy::Oracle => Work { slot_bytes: POSITION, ..none },
        }
    }

    /// The rules on its settings.
    pub(super) fn check(&self, check: &mut Check<'_>) {
        let odd = |check: &mut Check<'_>, pool: u32| {
            check.that(pool % 2 == 1, "pool", format!("is {pool}; it must be odd, so that it has a middle"));
            check.range("pool", pool, 1, 63);
        };
        match self {
            RetentionPolicy::H2o(it) => check.below("h2o").share_below_one("recent", it.recent),
            RetentionPolicy::SnapKv(it) => {
                let check = &mut check.below("snap-kv");
                check.range("window", it.window, 1, 256);
                odd(check, it.pool);
            }
            RetentionPolicy::RKv(it) => {
                let check = &mut check.below("r-kv");
                check.range("window", it.window, 1, 256);
                odd(check, it.pool);
                check.share("lambda", it.lambda);
                let told = format!("is {}; a cosine is from -1 to 1", it.alike);
                check.that((-1.0..=1.0).contains(&it.alike), "alike", told);
            }
            RetentionPolicy::ExpectedAttention(it) => {
                check.below("expected-attention").range("future", it.future, 1, 65_536);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RetentionSpec;
    use super::*;

    fn problems(spec: &RetentionSpec) -> Vec<String> {
        let mut found = Vec::new();
        spec.check(&mut Check::new("", &mut found));
        found.into_iter().map(|(path, message)| format!("{path} {message}")).collect()
    }

    #[test]
    fn defaults_are_right_with_a_large_budget_and_names_are_those_of_scenarios() {
        for policy in RetentionPolicy::all() {
            assert_eq!(problems(&RetentionSpec::strict(policy, 1024)), Vec::<String>::new());
            let said = serde_json::to_value(policy).expect("plain data");
            let name = said.as_str().or_else(|| said.as_object().and_then(|o| o.keys().next().map(String::as_str)));
            assert_eq!(name, Some(policy.name()));
        }
    }

    #[test]
    fn budgets_below_sinks_or_windows_are_refused() {
        let streaming = RetentionPolicy::StreamingLlm(StreamingLlm { sinks: 4 });
        assert_eq!(problems(&RetentionSpec::strict(streaming, 5)), Vec::<String>::new());
        let said = problems(&RetentionSpec::strict(streaming, 4));
        assert_eq!(said, ["budget is 4; `streaming-llm` protects 4 tokens, and needs room for one more"]);
        let zap = RetentionPolicy::KvZap(KvZap { window: 128 });
        assert!(problems(&RetentionSpec::strict(zap, 128))[0].starts_with("budget is 128"));
        let shrinks = RetentionSpec { shrink_to: Some(3), ..RetentionSpec::strict(streaming, 64) };
        assert!(problems(&shrinks)[0].starts_with("shrink_to is 3"));
    }
}
