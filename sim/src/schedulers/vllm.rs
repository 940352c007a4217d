//! vLLM v1's scheduler.

use serde::{Deserialize, Serialize};

use super::victim::Victim;
use super::{Horizon, Nearest, Needs, Prompts, QueueOrder, Scheduler, SchedulerPolicy, StepTokens};
use crate::check::Check;
use crate::kv::Seat;
use crate::serving::request::Phase;
use crate::serving::step::{Infeasible, RequestView, StepBuilder};

/// Settings of vLLM's v1 scheduler, with vLLM's names and the defaults of its server on a large GPU.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VllmSpec {
    /// Waiting-queue order (vLLM's `--scheduling-policy`).
    pub policy: QueueOrder,
    /// Which request to preempt when blocks run out; by default as `policy` says (vLLM has no such setting yet: its pull request 53723).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preemption_victim: Option<Victim>,
    /// Token budget of one step.
    #[schemars(range(min = 1))]
    pub max_num_batched_tokens: u32,
    /// Cap on scheduled tokens per step, if lower than the budget.
    #[schemars(range(min = 1))]
    pub max_num_scheduled_tokens: Option<u32>,
    /// Running requests at most.
    #[schemars(range(min = 1))]
    pub max_num_seqs: u32,
    /// Cap on running requests for admission; default `max_num_seqs`.
    #[schemars(range(min = 1))]
    pub max_num_active_seqs: Option<u32>,
    /// Chunks of prompts longer than this are capped to it; 0 is off.
    pub long_prefill_token_threshold: u32,
    /// Raise the threshold to an equal share of the budget when few requests are present.
    pub long_prefill_token_threshold_adaptive: bool,
    /// Split prompts over steps.
    pub enable_chunked_prefill: bool,
    /// Admit only if the blocks of the whole prompt are free (vLLM's `scheduler_reserve_full_isl`).
    pub scheduler_reserve_full_isl: bool,
    /// Share of the pool kept free when admitting beside running requests.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub watermark: f64,
    /// Carry prefill only in every n-th step while requests decode; 1 is off.
    #[schemars(range(min = 1))]
    pub prefill_schedule_interval: u32,
    /// Plan step t+1 while step t runs (lane depth 2).
    pub async_scheduling: bool,
    /// Keep and share the KV blocks of equal prefixes.
    pub enable_prefix_caching: bool,
}

impl VllmSpec {
    /// Whether a preemption may leave blocks in the prefix cache that are never computed: vLLM's own rule where its victim is not the last
    /// of the running list.
    pub fn leaves_names(&self) -> bool {
        self.policy == QueueOrder::Priority && self.preemption_victim.is_none() && self.enable_prefix_caching
    }
}

impl Default for VllmSpec {
    fn default() -> Self {
        VllmSpec {
            policy: QueueOrder::Fcfs,
            preemption_victim: None,
            max_num_batched_tokens: 8192,
            max_num_scheduled_tokens: None,
            max_num_seqs: 256,
            max_num_active_seqs: None,
            long_prefill_token_threshold: 0,
            long_prefill_token_threshold_adaptive: false,
            enable_chunked_prefill: true,
            scheduler_reserve_full_isl: true,
            watermark: 0.0,
            prefill_schedule_interval: 1,
            async_scheduling: true,
            enable_prefix_caching: true,
        }
    }
}

impl SchedulerPolicy for VllmSpec {
    fn needs(&self) -> Needs {
        let batched = Some(("max_num_batched_tokens", self.max_num_batched_tokens));
        let scheduled = self.max_num_scheduled_tokens.map(|tokens| ("max_num_scheduled_tokens", tokens));
        let whole = || Prompts::Whole(batched.into_iter().chain(scheduled).collect());
        let prompts = if self.enable_chunked_prefill { Prompts::Split } else { whole() };
        Needs {
            order: self.policy,
            depth: 1 + u32::from(self.async_scheduling),
            prefix_caching: self.enable_prefix_caching,
            serves_apart: true,
            counts_slots: true,
            speculates: true,
            ..Needs::plain(self.max_num_seqs, StepTokens::Fixed(self.max_num_batched_tokens), prompts)
        }
    }

    fn nearest(&self) -> Nearest {
        let victim = "vLLM has no flag for the victim of a preemption yet: it takes the last admitted";
        Nearest { policy: self.policy, unsaid: self.preemption_victim.map(|_| victim) }
    }

    fn check(&self, check: &mut Check<'_>) {
        check.positive("max_num_batched_tokens", self.max_num_batched_tokens);
        check.positive("max_num_seqs", self.max_num_seqs);
        check.positive("prefill_schedule_interval", self.prefill_schedule_interval);
        check.positive("max_num_scheduled_tokens", self.max_num_scheduled_tokens);
        check.positive("max_num_active_seqs", self.max_num_active_seqs);
        check.share_below_one("watermark", self.watermark);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(Vllm::new(self.clone()))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = VllmSpec::default();
        let sync = VllmSpec { async_scheduling: false, ..plain.clone() };
        let cramped = VllmSpec { max_num_batched_tokens: 48, max_num_seqs: 5, ..plain.clone() };
        let least = VllmSpec { preemption_victim: Some(Victim::LeastComputed), ..cramped.clone() };
        let most = VllmSpec { preemption_victim: Some(Victim::MostComputed), ..sync.clone() };
        let urgent = VllmSpec { policy: QueueOrder::Priority, ..plain.clone() };
        let reckless = VllmSpec { scheduler_reserve_full_isl: false, max_num_batched_tokens: 64, ..sync.clone() };
        let whole = VllmSpec { enable_chunked_prefill: false, max_num_batched_tokens: 2048, ..sync.clone() };
        let held = VllmSpec { prefill_schedule_interval: 5, watermark: 0.05, ..plain.clone() };
        let capped = VllmSpec {
            long_prefill_token_threshold: 40,
            long_prefill_token_threshold_adaptive: true,
            enable_prefix_caching: false,
            ..reckless.clone()
        };
        vec![
            ("", plain),
            ("depth 1", sync),
            ("small budget, few places", cramped),
            ("least computed goes", least),
            ("most computed goes", most),
            ("priority", urgent),
            ("no gate", reckless),
            ("whole prompts", whole),
            ("prefill held, watermark", held),
            ("long prompts capped", capped),
        ]
    }
}

/// vLLM's v1 scheduler, as of vLLM 0.33 (`vllm/v1/core/sched/scheduler.py`). The numbered rules in the comments are those of
/// `docs/schedulers.md`.
#[derive(Clone, Debug)]
pub struct Vllm {
    spec: VllmSpec,
    /// Executed steps when prefill was last carried; `None` before the first time.
    last_prefill: Option<u64>,
    /// Whether the last step that was neither held nor preempting left requests waiting.
    backlog: bool,
    /// Real arrival times are never equal. Virtual ones are: then the number orders requests, or two of them could be each
    /// other's victims for ever.
    times_differ: bool,
}

/// What the running part of a plan leaves for admission.
#[derive(Clone, Copy)]
struct Left {
    budget: u32,
    preempted: bool,
    /// Whether the step is the whole standing set and nothing else so far.
    pure: bool,
    held: bool,
}

impl Vllm {
    /// A scheduler for one replica.
    pub fn new(spec: VllmSpec) -> Self {
        Vllm { spec, last_prefill: None, backlog: false, times_differ: true }
    }

    /// As vLLM is where arrival times are equal, as in recorded schedules: of equal victims the first in the running list goes.
    pub(crate) fn with_equal_times(spec: VllmSpec) -> Self {
        Vllm { times_differ: false, ..Vllm::new(spec) }
    }

    fn budget(&self) -> u32 {
        let cap = self.spec.max_num_scheduled_tokens.unwrap_or(u32::MAX);
        self.spec.max_num_batched_tokens.min(cap)
    }

    fn max_active(&self) -> usize {
        self.spec.max_num_active_seqs.unwrap_or(u32::MAX).min(self.spec.max_num_seqs) as usize
    }

    /// Longest chunk in this step (rule 14): off for a lone request; raised to an equal share if adaptive.
    fn threshold(&self, step: &StepBuilder<'_>) -> u32 {
        let requests = (step.running() + step.waiting()) as u32;
        let base = self.spec.long_prefill_token_threshold;
        if base == 0 || requests <= 1 {
            return u32::MAX;
        }
        if self.spec.long_prefill_token_threshold_adaptive {
            return base.max(self.spec.max_num_batched_tokens / requests);
        }
        base
    }

    /// Whether prefill is held back in this step (rule 16).
    fn holds(&self, step: &StepBuilder<'_>) -> bool {
        let interval = u64::from(self.spec.prefill_schedule_interval);
        if interval <= 1 || self.backlog {
            return false;
        }
        let Some(last) = self.last_prefill else { return false };
        let all_in_prefill = step.prefilling().len() == step.running();
        step.executed() + 1 - last < interval && !all_in_prefill
    }

    /// The running list, when every request gets its tokens: no preemption, budget for all.
    fn run_all(&self, step: &mut StepBuilder<'_>, threshold: u32, hold: bool) -> Result<Option<Left>, Infeasible> {
        let budget = self.budget();
        let members = step.members() * step.member_queries();
        let in_prefill = step.prefilling().len();
        if members > budget {
            return Ok(None);
        }
        let mut left = budget - members;
        let mut need = step.member_blocks();
        let mut held = false;
        if in_prefill > 0 {
            let tail = step.running() - in_prefill;
            if step.running_at(tail).phase != Phase::Prefill {
                return Ok(None); // chunks among decodes: order matters
            }
            for i in 0..in_prefill {
                let request = step.view(step.prefilling()[i]);
                let tokens = (request.target - request.computed).min(threshold).min(left);
                if hold && request.target - request.computed > 1 {
                    held = true;
                    continue;
                }
                left -= tokens;
                need += step.blocks_to_prefill(request.seat, tokens);
            }
        }
        if need > step.free_blocks() {
            return Ok(None);
        }
        step.decode_all()?;
        let mut budget = budget - members;
        for i in 0..in_prefill {
            let request = step.view(step.prefilling()[i]);
            let want = request.target - request.computed;
            let tokens = want.min(threshold).min(budget);
            if tokens > 0 && !(hold && want > 1) {
                step.prefill(request.seat, tokens)?;
                budget -= tokens;
            }
        }
        Ok(Some(Left { budget, preempted: false, pure: in_prefill == 0, held }))
    }

    /// The running list one by one (rules 1 and 2), preempting where blocks run out.
    fn run_in_order(&self, step: &mut StepBuilder<'_>, threshold: u32, hold: bool) -> Result<Left, Infeasible> {
        let mut left = Left { budget: self.budget(), preempted: false, pure: false, held: false };
        let mut at = 0;
        while at < step.running() && left.budget > 0 {
            let request = step.running_at(at);
            let want = match request.phase {
                Phase::Decode => step.member_queries(),
                Phase::Prefill => request.target - request.computed,
                _ => 0,
            };
            if want == 0 || (hold && request.phase == Phase::Prefill && want > 1) {
                left.held |= want > 0;
                at += 1;
                continue;
            }
            let decodes = request.phase == Phase::Decode;
            if decodes && want > left.budget {
                // vLLM cuts its drafts down to what is left; here it waits for the next step.
                at += 1;
                continue;
            }
            let tokens = if decodes { want } else { want.min(threshold).min(left.budget) };
            loop {
                let fits = match request.phase {
                    Phase::Decode => step.decode(request.seat)?,
                    _ => step.prefill(request.seat, tokens)?,
                };
                if fits {
                    left.budget -= tokens;
                    at += 1;
                    break;
                }
                if step.shrink() {
                    continue;
                }
                left.preempted = true;
                let (position, victim) = self.victim(step);
                left.budget +=
                    if self.spec.leaves_names() { step.preempt_as_vllm(victim)? } else { step.preempt(victim)? };
                if victim == request.seat {
                    if self.spec.policy == QueueOrder::Fcfs && self.spec.preemption_victim.is_none() {
                        return Ok(left);
                    }
                    break; // one that preempts itself, and is not the last, leaves the next ones their chance
                }
                if position < at {
                    at -= 1;
                }
            }
        }
        Ok(left)
    }

    /// The request to preempt: the last of the running list, or the one with the largest (priority, arrival), or as set.
    fn victim(&self, step: &StepBuilder<'_>) -> (usize, Seat) {
        if let Some(victim) = self.spec.preemption_victim {
            return victim.choose_at(step);
        }
        let mut preemptible = step.preemptible();
        let none = "the request that lacks blocks may be preempted itself";
        if self.spec.policy == QueueOrder::Fcfs {
            let (at, last) = preemptible.next_back().expect(none);
            return (at, last.seat);
        }
        let tie = |request: &RequestView| if self.times_differ { request.id } else { 0 };
        let key = |request: &RequestView| (request.priority, request.arrival_key, tie(request));
        let first = preemptible.next().expect(none);
        let worse = |worst: (usize, RequestView), next: (usize, RequestView)| {
            if key(&next.1) > key(&worst.1) { next } else { worst }
        };
        let (at, worst) = preemptible.fold(first, worse);
        (at, worst.seat)
    }

    /// Admission (rules 5 to 9 and 14 to 16). Returns whether a hold or the blocks stopped it.
    fn admit(&self, step: &mut StepBuilder<'_>, threshold: u32, hold: bool, left: &mut Left) -> Result<(), Infeasible> {
        while left.budget > 0 && step.running() < self.max_active() {
            let Some(head) = step.head() else { break };
            let want = head.tokens - head.cached;
            if hold && want > 1 {
                left.held = true;
                break;
            }
            let mut tokens = want.min(threshold);
            if !self.spec.enable_chunked_prefill && tokens > left.budget {
                break;
            }
            tokens = tokens.min(left.budget);
            let watermark = if step.running() > 0 { self.watermark_blocks(step) } else { 0 };
            let free = step.free_blocks();
            let gate = self.spec.scheduler_reserve_full_isl;
            if gate && step.blocks_to_compute(&head) + watermark > free {
                break;
            }
            if step.blocks_to_hold(&head, head.cached + tokens) + watermark > free {
                break;
            }
            step.admit(&head, tokens)?;
            left.budget -= tokens;
            left.pure = false;
        }
        Ok(())
    }

    /// Blocks kept free beside running requests (rule 7); vLLM counts its null block in.
    fn watermark_blocks(&self, step: &StepBuilder<'_>) -> u64 {
        (self.spec.watermark * (step.limits().blocks + 1) as f64) as u64
    }

    fn horizon(&self, step: &mut StepBuilder<'_>, left: Left) -> Horizon {
        let simple = self.spec.prefill_schedule_interval <= 1;
        if !left.pure || left.held || left.budget == 0 || (step.waiting() > 0 && (!simple || step.is_hashing())) {
            return Horizon::ONE;
        }
        let room = step.running() < self.max_active();
        let blocked = step.waiting() > 0;
        // Without the gate a blocked head needs room for its first chunk only, which an adaptive threshold shrinks as the
        // queue grows.
        let shrinking = self.spec.long_prefill_token_threshold_adaptive && !self.spec.scheduler_reserve_full_isl;
        Horizon {
            repeats: u64::MAX,
            // With room and an empty queue an arrival is admitted; in priority order it may pass a blocked head.
            wake_on_arrival: room && (!blocked || shrinking || self.spec.policy == QueueOrder::Priority),
            wake_on_end: blocked || !room,
        }
    }
}

impl Scheduler for Vllm {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let threshold = self.threshold(step);
        let hold = self.holds(step);
        let mut left = match self.run_all(step, threshold, hold)? {
            Some(left) => left,
            None => self.run_in_order(step, threshold, hold)?,
        };
        if !left.preempted {
            self.admit(step, threshold, hold, &mut left)?;
        }
        if step.carries_prefill() {
            self.last_prefill = Some(step.executed() + 1);
        }
        if !left.held && !left.preempted {
            self.backlog = step.waiting() > 0;
        }
        Ok(self.horizon(step, left))
    }
}
