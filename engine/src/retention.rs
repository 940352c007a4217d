//! Which tokens of a sequence stay in memory when it may keep only some: the policies of
//! [`overbook_sim::kv::retention`] over real keys, values and attention.
//!
//! Each layer and KV head decides for itself. Its tokens lie in slots; what goes is the token with the lowest score, of equals the
//! older one, and protected tokens never. Slots carry no order: keys are rotated by their true positions before they are stored, and are
//! never renumbered.
//!
//! ```text
//!   budget 4, one token a step        slots            positions
//!   before the step                   0 1 2 3          0 5 2 7
//!   token 8 lands behind them         0 1 2 3 4        0 5 2 7 8     attention over five slots
//!   the score of 5 is the lowest      0 1 2 3          0 8 2 7       8 takes the slot of 5
//! ```
//!
//! A policy implements [`TokenRetention`]; `build` makes it from its row in scenarios. [`Retention`] is one with a budget, for a
//! [`Model`](crate::cpu::Model).

mod expected_attention;
mod future;
mod gates;
mod h2o;
mod key_diff;
mod knorm;
mod kv_zap;
mod r_kv;
mod random;
mod rows;
mod snap_kv;
mod streaming;
mod tova;
mod trim_kv;

use std::fmt::Debug;
use std::sync::Arc;

use overbook_sim::check::Check;
use overbook_sim::kv::retention::{Keep, Needed, RetentionPolicy, RetentionSpec};

use crate::config::Config;
use crate::executor::{BuildError, ExecutorError, Seat};

pub use future::{AttentionRecord, Foresight, Recorder};
pub(crate) use gates::Gate;
pub use gates::{GateKind, Gates};

/// Where a head is: whose, and which.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The sequence.
    pub seat: Seat,
    /// The layer, from 0.
    pub layer: usize,
    /// The KV head, from 0.
    pub head: usize,
}

/// A token that has just got a slot.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    /// Its position in the sequence.
    pub position: u32,
    /// Its key after rotation, as stored, `[dim]`.
    pub key: &'a [f32],
    /// What the learned network gives it; 0 where there is none.
    pub gate: f32,
}

/// The tokens of one head when some must go.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Which head.
    pub place: Place,
    /// The position computed last.
    pub now: u32,
    /// Tokens that never go: so many at the start of the sequence, and so many of the latest.
    pub protected: (u32, u32),
    /// Width of a key.
    pub dim: usize,
    /// Query heads that share the KV head.
    pub group: usize,
    /// Position of the token in each slot.
    pub positions: &'a [u32],
    /// What [`TokenRetention::note`] has said of each, as [`TokenRetention::attended`] has changed it; empty if notes are not wanted.
    pub notes: &'a [f32],
    /// Keys after rotation, as stored, `[slot, dim]`; empty if not wanted.
    pub keys: &'a [f32],
    /// Values, as stored, `[slot, dim]`; empty if not wanted.
    pub values: &'a [f32],
    /// Scaled products of the latest queries with the keys, `[query, query head of the group, slot]`, older queries first; −∞ where the
    /// slot's token is later than the query. Empty if no attention is needed, or every query's as it comes.
    pub products: &'a [f32],
    /// What [`TokenRetention::asked`] keeps.
    pub memory: &'a [f32],
}

impl Head<'_> {
    /// Whether the token at a position never goes.
    pub fn protects(&self, position: u32) -> bool {
        let (first, latest) = self.protected;
        position < first || u64::from(position) + u64::from(latest) > u64::from(self.now)
    }

    /// Slots in the order of their positions.
    pub fn in_order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.positions.len() as u32).collect();
        order.sort_unstable_by_key(|slot| self.positions[*slot as usize]);
        order
    }
}

/// What a policy is given beside positions and what [`RetentionPolicy::needed`] says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wants {
    /// Notes: [`TokenRetention::note`] is called.
    pub notes: bool,
    /// [`Head::keys`].
    pub keys: bool,
    /// [`Head::values`].
    pub values: bool,
}

/// A policy: how much each token of a head is worth.
pub trait TokenRetention: Debug + Send + Sync {
    /// What it is given.
    fn wants(&self) -> Wants {
        Wants::default()
    }

    /// The note of a new token.
    fn note(&self, _token: &Token<'_>) -> f32 {
        0.0
    }

    /// Attention weights of a query, in the order of positions: the mean over the heads of the group, for each slot that it attends to.
    /// Called where the policy needs the attention of every query.
    fn attended(&self, _place: Place, _query: u32, _weights: &[f32], _notes: &mut [f32]) {}

    /// The queries of a position before rotation, `[query head of the group, dim]`, in the order of positions. `memory` is the head's own,
    /// empty when the sequence begins. Called where the policy needs queries.
    fn asked(&self, _position: u32, _queries: &[f32], _memory: &mut Vec<f32>) {}

    /// The score of every slot: the lowest goes. Protected slots have one too, which does not count.
    fn scores(&self, head: &Head<'_>, scores: &mut [f32]);

    /// Whether the KV heads of a layer keep the same tokens: their scores are averaged.
    fn joint(&self) -> bool {
        false
    }
}

/// What policies need beside their settings.
#[derive(Clone, Default, Debug)]
pub struct Extras {
    /// Learned networks, for `trim-kv` and `kv-zap`.
    pub gates: Option<Arc<Gates>>,
    /// Attention to come, for `oracle`.
    pub future: Option<Arc<dyn Foresight>>,
    /// Seed of `random`.
    pub seed: u64,
}

/// Makes the policy of a row. What it needs of `extras` must be there; [`Retention::new`] checks that.
fn build(policy: &RetentionPolicy, config: &Config, extras: &Extras) -> Option<Arc<dyn TokenRetention>> {
    Some(match policy {
        RetentionPolicy::Full => Arc::new(Full),
        RetentionPolicy::Random => Arc::new(random::Random { seed: extras.seed }),
        RetentionPolicy::Window | RetentionPolicy::StreamingLlm(_) => Arc::new(streaming::Latest),
        RetentionPolicy::H2o(_) => Arc::new(h2o::H2o),
        RetentionPolicy::Tova => Arc::new(tova::Tova),
        RetentionPolicy::SnapKv(it) => Arc::new(snap_kv::SnapKv { settings: *it }),
        RetentionPolicy::KeyDiff => Arc::new(key_diff::KeyDiff),
        RetentionPolicy::Knorm(it) => Arc::new(knorm::Knorm { skip_layers: it.skip_layers as usize }),
        RetentionPolicy::RKv(it) => Arc::new(r_kv::RKv { settings: *it }),
        RetentionPolicy::ExpectedAttention(it) => {
            let frequencies = config.rope_frequencies();
            Arc::new(expected_attention::ExpectedAttention { sinks: it.sinks, future: it.future, frequencies })
        }
        RetentionPolicy::KvZap(_) => Arc::new(kv_zap::KvZap),
        RetentionPolicy::TrimKv(_) => Arc::new(trim_kv::TrimKv),
        RetentionPolicy::Oracle => Arc::new(future::Oracle { future: extras.future.clone()? }),
    })
}

/// Every token stays.
#[derive(Debug)]
struct Full;

impl TokenRetention for Full {
    fn scores(&self, _: &Head<'_>, scores: &mut [f32]) {
        scores.fill(f32::INFINITY);
    }
}

/// A policy with its budget: what every sequence of a model keeps.
#[derive(Clone, Debug)]
pub struct Retention {
    spec: RetentionSpec,
    needed: Needed,
    policy: Arc<dyn TokenRetention>,
    gates: Option<Arc<Gates>>,
}

impl Retention {
    /// The retention of a scenario, for a model.
    ///
    /// # Errors
    /// The settings are wrong, or what the policy needs is not there or not made for the model.
    pub fn new(spec: &RetentionSpec, config: &Config, extras: &Extras) -> Result<Retention, BuildError> {
        let mut problems = Vec::new();
        spec.check(&mut Check::new("retention", &mut problems));
        if let Some((path, what)) = problems.first() {
            return Err(BuildError::Unfit(format!("{path} {what}")));
        }
        let name = spec.policy.name();
        let needed = spec.policy.needed();
        let gates = match GateKind::of(&spec.policy) {
            None => None,
            Some(kind) => {
                let gates = extras.gates.clone().ok_or_else(|| {
                    BuildError::Unfit(format!(
                        "`{name}` needs trained gates: a file gates.safetensors beside the weights"
                    ))
                })?;
                gates.check(config, kind).map_err(BuildError::Unfit)?;
                Some(gates)
            }
        };
        let policy = build(&spec.policy, config, extras).ok_or_else(|| {
            BuildError::Unfit(format!(
                "`{name}` knows attention to come: it can be evaluated on recorded sequences, and not run"
            ))
        })?;
        Ok(Retention { spec: spec.clone(), needed, policy, gates })
    }

    /// Everything stays, and attention is recorded on the way.
    pub fn recording(recorder: Arc<Recorder>) -> Retention {
        let needed = Needed { attention: u32::MAX, ..Needed::default() };
        Retention { spec: RetentionSpec::strict(RetentionPolicy::Full, 1), needed, policy: recorder, gates: None }
    }

    /// The same with another policy in the place of its own, which may ask it.
    pub(crate) fn led(self, by: impl FnOnce(Arc<dyn TokenRetention>) -> Arc<dyn TokenRetention>) -> Retention {
        Retention { policy: by(self.policy), ..self }
    }

    /// Its settings.
    pub fn spec(&self) -> &RetentionSpec {
        &self.spec
    }

    /// How many slots stay.
    pub fn keep(&self) -> Keep {
        self.spec.keep()
    }

    /// What it needs of a step.
    pub(crate) fn needed(&self) -> Needed {
        self.needed
    }

    /// The policy.
    pub(crate) fn policy(&self) -> &dyn TokenRetention {
        &*self.policy
    }

    /// The networks that it needs.
    pub(crate) fn gates(&self) -> Option<&Gates> {
        self.gates.as_deref()
    }

    /// Whether a smaller budget has room for what never goes.
    pub(crate) fn takes(&self, budget: u32) -> Result<(), ExecutorError> {
        let least = self.spec.least(budget);
        if u64::from(budget) >= least {
            return Ok(());
        }
        let name = self.spec.policy.name();
        Err(ExecutorError(format!("a budget of {budget} for `{name}`, which needs {least} at least")))
    }

    /// Tokens that never go with a budget: so many at the start, and so many of the latest.
    pub(crate) fn protects(&self, budget: u32) -> (u32, u32) {
        self.spec.protects(budget)
    }

    /// Whether it changes nothing and watches nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.spec.policy == RetentionPolicy::Full && self.needed == Needed::default()
    }
}
