//! semi-PD: prompts and decodes on two lanes of the same GPUs, over one KV pool (Hong et al., arXiv 2504.19867).

use serde::{Deserialize, Serialize};

use super::victim::{PreemptionMode, Victim, make_room};
use super::{Horizon, Nearest, Needs, Prompts, Scheduler, SchedulerPolicy, StepTokens};
use crate::check::Check;
use crate::partitioners::{PartitionSpec, ShareScaling, SmShares};
use crate::serving::replica::LaneWork;
use crate::serving::step::{Infeasible, StepBuilder};

/// Settings of semi-PD.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SemiPdSpec {
    /// Which shares of the GPU's SMs the two lanes have, and what changes them.
    pub partition: PartitionSpec,
    /// How much of a step's time on the device grows as its share of the SMs shrinks.
    pub scaling: ShareScaling,
    /// Requests that decode at once at most.
    #[schemars(range(min = 1))]
    pub max_num_seqs: u32,
    /// Prompt tokens of one prefill step.
    #[schemars(range(min = 1))]
    pub max_prefill_tokens: u32,
    /// Split prompts over prefill steps (the SGLang version); otherwise a prompt is computed whole.
    pub enable_chunked_prefill: bool,
    /// Share of the pool kept free when a prompt is admitted beside others.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub watermark: f64,
}

impl Default for SemiPdSpec {
    fn default() -> Self {
        SemiPdSpec {
            partition: PartitionSpec::default(),
            scaling: ShareScaling::default(),
            max_num_seqs: 512,
            max_prefill_tokens: 8192,
            enable_chunked_prefill: true,
            watermark: 0.05,
        }
    }
}

impl SchedulerPolicy for SemiPdSpec {
    fn needs(&self) -> Needs {
        let whole = || Prompts::Whole(vec![("max_prefill_tokens", self.max_prefill_tokens)]);
        let prompts = if self.enable_chunked_prefill { Prompts::Split } else { whole() };
        Needs {
            sm_shares: Some(SmShares { partition: self.partition.clone(), scaling: self.scaling }),
            ..Needs::plain(self.max_num_seqs, StepTokens::Fixed(self.max_prefill_tokens), prompts)
        }
    }

    fn nearest(&self) -> Nearest {
        Nearest::but("semi-pd has no flag: the engines compute prompts and decodes in one lane")
    }

    fn check(&self, check: &mut Check<'_>) {
        check.positive("max_num_seqs", self.max_num_seqs);
        check.positive("max_prefill_tokens", self.max_prefill_tokens);
        check.share_below_one("watermark", self.watermark);
        self.scaling.check(&mut check.below("scaling"));
        self.partition.check(&mut check.below("partition"));
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(SemiPd::new(self.clone()))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = SemiPdSpec::default();
        let with = |partition: PartitionSpec| SemiPdSpec { partition, ..SemiPdSpec::default() };
        let whole = SemiPdSpec { enable_chunked_prefill: false, ..plain.clone() };
        let few = SemiPdSpec { max_prefill_tokens: 40, max_num_seqs: 4, watermark: 0.0, ..plain.clone() };
        let first = [("", plain), ("whole prompts", whole), ("chunks, few places", few)];
        let moving = PartitionSpec::every().into_iter().map(|(name, partition)| (name, with(partition)));
        first.into_iter().chain(moving).collect()
    }
}

/// First come, first served in both phases. A prompt is admitted when its blocks are free beside the watermark (§4.2;
/// `distserve/context_stage_scheduler.py`); a request with its first token decodes from the decode lane's next step on, without any
/// transfer. When blocks run out the decoding request that arrived last is preempted and computed again.
#[derive(Clone, Debug)]
pub struct SemiPd {
    spec: SemiPdSpec,
}

impl SemiPd {
    /// A scheduler for one replica.
    pub fn new(spec: SemiPdSpec) -> Self {
        SemiPd { spec }
    }

    /// A step of prompts, those that were split first.
    fn prefill(&self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let mut budget = step.prefill_within(self.spec.max_prefill_tokens)?;
        let mut owed = step.owed_blocks();
        while budget > 0 {
            let Some(head) = step.head() else { break };
            let want = head.tokens - head.cached;
            let used = step.free_blocks() < step.limits().blocks;
            let kept = if used { (self.spec.watermark * step.limits().blocks as f64) as u64 } else { 0 };
            let fits = step.blocks_to_compute(&head) + owed + kept <= step.free_blocks();
            if !fits || (want > budget && !self.spec.enable_chunked_prefill) {
                break;
            }
            let tokens = want.min(budget);
            step.admit(&head, tokens)?;
            budget -= tokens;
            owed += step.blocks_of(&head, head.tokens) - step.blocks_of(&head, head.cached + tokens);
        }
        Ok(Horizon::ONE)
    }

    fn decode(&self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        while step.members() < self.spec.max_num_seqs
            && let Some(next) = step.next_ready()
        {
            step.take_over(next.seat)?;
        }
        let preempted = make_room(step, PreemptionMode::Recompute, |step| Victim::LatestArrival.choose(step))?;
        step.decode_all()?;
        if preempted {
            return Ok(Horizon::ONE);
        }
        // Prompts that end, and blocks that they take, stop the lane anyway.
        Ok(Horizon { repeats: u64::MAX, wake_on_arrival: false, wake_on_end: step.ready() > 0 })
    }
}

impl Scheduler for SemiPd {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        if step.work() == LaneWork::Prefill { self.prefill(step) } else { self.decode(step) }
    }
}
