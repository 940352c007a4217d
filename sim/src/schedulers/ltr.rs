//! Learning to rank: preemptive shortest job first by a predicted rank, with a guard against starvation.

use serde::{Deserialize, Serialize};

use super::chunked::BatchSpec;
use super::idle::Idle;
use super::victim::PreemptionMode;
use super::{Horizon, Nearest, Needs, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::kv::Seat;
use crate::lengths::{Draw, LengthModel, LengthSpec, NoisyOracleSpec};
use crate::serving::step::{Infeasible, StepBuilder};
use crate::units::Bytes;

/// Settings of LTR, with the values of its experiments.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LtrSpec {
    /// Where the predictions come from; only their order counts. A trained predictor is nearest to a `noisy-oracle`.
    pub lengths: LengthSpec,
    /// Steps without a turn after which a request is promoted before all others; 0 is never.
    pub starv: u32,
    /// Turns for which a promotion lasts.
    #[schemars(range(min = 1))]
    pub period: u32,
    /// What becomes of the KV of a request that loses its memory.
    pub preemption_mode: PreemptionMode,
    /// Memory of the host for KV that was swapped out, per GPU.
    pub swap_space: Bytes,
    /// Limits of a batch.
    pub batch: BatchSpec,
}

impl Default for LtrSpec {
    fn default() -> Self {
        LtrSpec {
            lengths: LengthSpec::Max,
            starv: 200,
            period: 10,
            preemption_mode: PreemptionMode::Swap,
            swap_space: Bytes(16 << 30),
            batch: BatchSpec::default(),
        }
    }
}

impl SchedulerPolicy for LtrSpec {
    fn needs(&self) -> Needs {
        Needs {
            swap_space: self.preemption_mode.swap_space(self.swap_space),
            lengths: Some(self.lengths),
            ..self.batch.needs_by_rank()
        }
    }

    fn nearest(&self) -> Nearest {
        Nearest::by_priority_but(
            "ltr has no flag: it is a fork of vLLM; `--scheduling-policy priority` with ranks as priorities is nearest",
        )
    }

    fn check(&self, check: &mut Check<'_>) {
        self.batch.check(&mut check.below("batch"));
        self.lengths.check(&mut check.below("lengths"));
        check.positive("period", self.period);
        self.preemption_mode.check(self.swap_space, check);
    }

    fn build(&self, seed: u64, replica: u32) -> Box<dyn Scheduler> {
        Box::new(Ltr::new(self.clone(), self.lengths.build(seed, replica)))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = LtrSpec { lengths: LengthSpec::Oracle, ..LtrSpec::default() };
        let few = BatchSpec { max_num_seqs: 4, max_num_batched_tokens: 48, watermark: 0.0 };
        let guarded = LtrSpec { starv: 9, period: 3, batch: few, ..plain.clone() };
        let dropped = LtrSpec { preemption_mode: PreemptionMode::Recompute, starv: 40, ..plain.clone() };
        let noisy = LengthSpec::NoisyOracle(NoisyOracleSpec::default());
        let roomy = BatchSpec { watermark: 0.0, ..BatchSpec::default() };
        let cramped = LtrSpec { swap_space: Bytes(20), lengths: noisy, starv: 0, batch: roomy, ..LtrSpec::default() };
        vec![
            ("oracle", plain),
            ("few places, starvation", guarded),
            ("recompute", dropped),
            ("swap of 20 bytes", cramped),
        ]
    }
}

/// Keys from here on are of requests that are not promoted.
const PLAIN: u64 = 1 << 32;

/// A request that goes before others for some turns.
#[derive(Clone, Copy, Debug)]
struct Promoted {
    seat: Seat,
    id: u64,
    turns: u64,
}

/// LTR (Fu et al., NeurIPS '24; `hao-ai-lab/vllm-ltr`, `vllm/core/scheduler.py`, `_general_schedule`): every step serves the requests with the least
/// predicted outputs, running or not. Predictions are made once, when a request arrives.
#[derive(Debug)]
pub struct Ltr {
    spec: LtrSpec,
    lengths: Box<dyn LengthModel>,
    idle: Idle,
    promoted: Vec<Promoted>,
    /// Steps executed before the last plan.
    executed: u64,
}

impl Ltr {
    /// A scheduler for one replica, which goes by this length model.
    pub fn new(spec: LtrSpec, lengths: Box<dyn LengthModel>) -> Self {
        Ltr { spec, lengths, idle: Idle::default(), promoted: Vec::new(), executed: 0 }
    }

    /// Ends promotions that have been used up or whose requests are gone.
    fn demote(&mut self, step: &mut StepBuilder<'_>) {
        let steps = step.executed() - self.executed;
        self.executed = step.executed();
        let idle = &self.idle;
        self.promoted.retain_mut(|promoted| {
            let Promoted { seat, id, .. } = *promoted;
            if !step.is_here(seat, id) {
                return false;
            }
            if !idle.contains(seat, id) {
                promoted.turns = promoted.turns.saturating_sub(steps);
            }
            if promoted.turns == 0 {
                step.rank(seat, step.key(seat) | PLAIN);
            }
            promoted.turns > 0
        });
    }

    /// Promotes requests that have gone without a turn for too long.
    fn promote(&mut self, step: &mut StepBuilder<'_>) {
        let now = step.executed();
        while let Some((since, seat, id)) = self.idle.longest(step) {
            if self.spec.starv == 0 || since + u64::from(self.spec.starv) > now {
                break;
            }
            self.idle.end(seat);
            self.idle.begin(seat, id, now);
            step.rank(seat, step.key(seat) & (PLAIN - 1));
            self.promoted.retain(|promoted| (promoted.seat, promoted.id) != (seat, id));
            self.promoted.push(Promoted { seat, id, turns: u64::from(self.spec.period) });
        }
    }

    /// How often the plan can repeat before a promotion begins or ends.
    fn repeats(&mut self, step: &StepBuilder<'_>) -> u64 {
        if step.waiting() == 0 {
            return u64::MAX;
        }
        let starving = self.idle.longest(step).filter(|_| self.spec.starv > 0);
        let until_promotion = starving.map(|(since, ..)| since + u64::from(self.spec.starv) - self.executed);
        let served = self.promoted.iter().filter(|p| !self.idle.contains(p.seat, p.id));
        let until_demotion = served.map(|p| p.turns).min();
        until_promotion.into_iter().chain(until_demotion).min().map_or(u64::MAX, |plans| plans - 1)
    }
}

impl Scheduler for Ltr {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        for &length in step.finished() {
            self.lengths.finished(length);
        }
        self.demote(step);
        while let Some(request) = step.newcomer() {
            let predicted = u64::from(self.lengths.predict(&request, Draw::default()));
            step.rank(request.seat, predicted | PLAIN);
            self.idle.begin(request.seat, request.id, self.executed);
        }
        self.promote(step);
        let turns = self.spec.batch.plan_by_rank(self.spec.preemption_mode, step)?;
        for &seat in &turns.served {
            self.idle.end(seat);
        }
        for &seat in &turns.stopped {
            self.idle.begin(seat, step.view(seat).id, self.executed);
        }
        if !turns.pure {
            return Ok(Horizon::ONE);
        }
        Ok(Horizon { repeats: self.repeats(step), wake_on_arrival: true, wake_on_end: step.waiting() > 0 })
    }
}
