//! The settings that each policy may try for a budget: as many for each policy that has any.

use overbook_sim::check::Check;
use overbook_sim::kv::retention::policies::{
    ExpectedAttention, H2o, Knorm, KvZap, Pooling, RKv, SnapKv, StreamingLlm, TrimKv,
};
use overbook_sim::kv::retention::{Protect, RetentionPolicy, RetentionSpec};

use super::tasks::Task;

/// Settings that are tried at most.
pub const TRIALS: usize = 6;

/// The smallest budget for which every policy has a setting.
pub const LEAST_BUDGET: u32 = 2;

/// What a policy may try for a budget of slots, those that the budget has room for; the first is what an untuned policy takes. Beside its own
/// settings every policy may protect some of the latest tokens, unless its own already do so.
pub fn trials(task: Task, policy: &RetentionPolicy, budget: u32) -> Vec<RetentionSpec> {
    use RetentionPolicy as P;
    let with = |policy: RetentionPolicy, latest: u32| RetentionSpec {
        protect: Protect { first: 0, latest },
        ..task.rules(policy, budget)
    };
    let (eighth, quarter, half) = (budget / 8, budget / 4, budget / 2);
    let latest = |policy: RetentionPolicy| [0, 1, 2, 4, quarter, half].map(|latest| with(policy, latest)).to_vec();
    let all = match policy {
        P::Full | P::Window | P::Oracle => vec![with(*policy, 0)],
        P::Random | P::Tova | P::KeyDiff => latest(*policy),
        P::Knorm(_) => latest(P::Knorm(Knorm::default())),
        P::KvZap(_) => latest(P::KvZap(KvZap { window: 0 })),
        P::TrimKv(_) => latest(P::TrimKv(TrimKv { window: 0 })),
        P::StreamingLlm(_) => {
            [4, 1, 2, 3, quarter, half].map(|sinks| with(P::StreamingLlm(StreamingLlm { sinks }), 0)).to_vec()
        }
        P::H2o(_) => [0.5, 0.0, 0.125, 0.25, 0.75, 0.875].map(|recent| with(P::H2o(H2o { recent }), 0)).to_vec(),
        P::SnapKv(_) => [(8, 7), (8, 3), (8, 1), (4, 3), (4, 1), (1, 1), (2, 3), (2, 1), (1, 3)]
            .map(|(window, pool)| with(P::SnapKv(SnapKv { window, pool, pooling: Pooling::Max }), 0))
            .to_vec(),
        P::RKv(_) => {
            [(8, 7, 0.1), (4, 3, 0.1), (4, 1, 0.5), (4, 1, 0.9), (2, 1, 0.5), (2, 1, 0.9), (1, 1, 0.1), (1, 1, 0.5)]
                .map(|(window, pool, lambda)| with(P::RKv(RKv { window, pool, lambda, alike: 0.5 }), 0))
                .to_vec()
        }
        P::ExpectedAttention(_) => {
            [(512, 4, 0), (512, 0, 0), (64, 0, 0), (64, 4, 0), (16, 0, 0), (16, 0, quarter.max(eighth))]
                .map(|(future, sinks, latest)| with(P::ExpectedAttention(ExpectedAttention { sinks, future }), latest))
                .to_vec()
        }
    };
    let mut fit: Vec<RetentionSpec> = Vec::new();
    for spec in all {
        let mut problems = Vec::new();
        spec.check(&mut Check::new("", &mut problems));
        if problems.is_empty() && !fit.contains(&spec) {
            fit.push(spec);
        }
    }
    fit.truncate(TRIALS);
    fit
}

/// Whether a policy goes by what is known without training and without the future.
pub fn is_heuristic(policy: &RetentionPolicy) -> bool {
    let needed = policy.needed();
    *policy != RetentionPolicy::Full && !needed.gate && !needed.future
}

/// The settings of a policy in a line, without its name: `window=4 pool=3 latest=2`.
pub fn knobs(spec: &RetentionSpec) -> String {
    let said = serde_json::to_value(spec.policy).unwrap_or_default();
    let own = said.as_object().and_then(|policy| policy.values().next()).and_then(|settings| settings.as_object());
    let own = own.into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={value}")
    });
    let latest = (spec.protect.latest > 0).then(|| format!("latest={}", spec.protect.latest));
    own.chain(latest).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_a_trial_at_every_budget_and_those_with_knobs_have_equally_many() {
        for policy in RetentionPolicy::all() {
            for budget in LEAST_BUDGET..64 {
                let found = trials(Task::Pairs, &policy, budget);
                assert!(!found.is_empty(), "{} at {budget}", policy.name());
                assert!(found.iter().all(|spec| spec.policy.name() == policy.name() && spec.budget == budget));
                if budget >= 24 {
                    let fixed = matches!(policy.name(), "full" | "window" | "oracle");
                    assert_eq!(found.len(), if fixed { 1 } else { TRIALS }, "{} at {budget}", policy.name());
                }
            }
        }
    }

    #[test]
    fn knobs_are_a_line_without_commas() {
        let snap = RetentionPolicy::SnapKv(SnapKv { window: 4, pool: 3, pooling: Pooling::Max });
        let mut spec = RetentionSpec::strict(snap, 24);
        assert_eq!(knobs(&spec), "window=4 pool=3 pooling=max");
        spec.protect.latest = 2;
        spec.policy = RetentionPolicy::Tova;
        assert_eq!(knobs(&spec), "latest=2");
    }
}
