//! SGLang 0.4.4.

use std::collections::BTreeSet;

use super::{SchedulePolicy, SglangSpec};
use crate::kv::Seat;
use crate::schedulers::{Horizon, Scheduler};
use crate::serving::request::Phase;
use crate::serving::step::{Head, Infeasible, RequestView, StepBuilder};

/// Waiting requests above which prefixes are not looked up for the order.
const LPM_QUEUE_MAX: usize = 128;
/// A waiting request with at most so many cached tokens that shares at least so many with one before it goes last: once that one is
/// computed, it will be cached.
const IN_BATCH_TOKENS: u32 = 32;

/// Parts of one: ratios are integers, so that any number of steps at once decays them the same.
const ONE: u64 = 1 << 32;
/// Share of the output limit that is expected at first (`global_config.py`).
const INITIAL: f64 = 0.7;
/// Share of that to which it decays, and the decode steps that it takes.
const MIN_FACTOR: f64 = 0.14;
const DECAY_STEPS: u64 = 600;
/// Decode steps for which a retraction makes room.
const RETRACT_STEPS: u64 = 20;

/// SGLang 0.4.4 (`python/sglang/srt/managers/scheduler.py`, `schedule_policy.py`, `schedule_batch.py`): as long as the head of the
/// queue is expected to fit, steps compute prompts and decodes wait. A running request is expected to generate
/// `new_token_ratio` of what is left of its limit; the ratio decays while all goes well and jumps when memory has run out.
#[derive(Clone, Debug)]
pub struct SglangV04 {
    spec: SglangSpec,
    initial: u64,
    /// `new_token_ratio`, in parts of [`ONE`].
    ratio: u64,
    /// No request is admitted until the running set shrinks (`batch_is_full`).
    full: bool,
    /// Requests that ran after the last plan.
    ran: usize,
    /// Steps executed when the ratio was last brought up to date, and whether those since then decode.
    executed: u64,
    decoding: bool,
    /// The next key: the queue is a list that is sorted in place, and keys are its places.
    next_key: u64,
}

/// What a prefill step may still take in (`PrefillAdder`) [tokens].
struct Budget {
    total: i64,
    input: i64,
    chunk: i64,
}

impl SglangV04 {
    /// A scheduler for one replica.
    pub fn new(spec: SglangSpec) -> Self {
        let initial = ((INITIAL * spec.schedule_conservativeness).min(1.0) * ONE as f64) as u64;
        SglangV04 { spec, initial, ratio: initial, full: false, ran: 0, executed: 0, decoding: false, next_key: 0 }
    }

    /// Brings the state up to the present: decode steps since the last plan, requests that have left.
    fn catch_up(&mut self, step: &StepBuilder<'_>) {
        if self.decoding {
            let least = (MIN_FACTOR * self.initial as f64) as u64;
            let decay = (self.initial - least) / DECAY_STEPS * (step.executed() - self.executed);
            self.ratio = self.ratio.saturating_sub(decay).max(least);
        }
        self.executed = step.executed();
        if step.running() < self.ran {
            self.full = false;
        }
        if step.running() == 0 {
            self.ratio = self.initial;
            self.full = false;
        }
    }

    /// Tokens that a request may still generate, as far as the estimate looks.
    fn expected(&self, request: &RequestView) -> u64 {
        u64::from((request.limit - request.generated).min(self.spec.clip_max_new_tokens))
    }

    /// Puts a request at the end of the queue.
    fn append(&mut self, step: &mut StepBuilder<'_>, seat: Seat) {
        step.rank(seat, self.next_key);
        self.next_key += 1;
    }

    /// A request was retracted: it is at the end of the queue.
    fn requeue(&mut self, step: &mut StepBuilder<'_>, seat: Seat) {
        if self.spec.order() != SchedulePolicy::Fcfs {
            self.append(step, seat);
        }
    }

    /// Sorts the queue; equal ones stay in order.
    fn sort(&mut self, step: &mut StepBuilder<'_>) {
        let mut queue: Vec<(u32, Seat)> = match self.spec.order() {
            SchedulePolicy::Lpm if step.waiting() <= LPM_QUEUE_MAX => by_prefix(step),
            SchedulePolicy::Lof => step.queue().map(|r| (u32::MAX - r.limit, r.seat)).collect(),
            _ => return,
        };
        queue.sort_by_key(|&(key, _)| key);
        for (_, seat) in queue {
            self.append(step, seat);
        }
    }

    fn budget(&self, step: &StepBuilder<'_>) -> Budget {
        let running = (0..step.running()).map(|at| step.running_at(at)).filter(|r| r.phase == Phase::Decode);
        let left: u64 = running.map(|request| self.expected(&request)).sum();
        let reserved = (u128::from(left) * u128::from(self.ratio) / u128::from(ONE)) as i64;
        let mixed = if self.spec.enable_mixed_chunk { i64::from(step.members()) } else { 0 };
        let free = (step.free_blocks() * u64::from(step.limits().block_tokens)) as i64;
        Budget {
            total: free - reserved - mixed,
            input: i64::from(self.spec.max_prefill_tokens) - mixed,
            chunk: self.spec.chunked_prefill_size.map_or(i64::MAX, |size| i64::from(size) - mixed),
        }
    }

    /// A step of prompts, the one that was split first. Returns whether there is one.
    fn prefill(&mut self, step: &mut StepBuilder<'_>) -> Result<bool, Infeasible> {
        let split = step.prefilling().first().copied();
        if split.is_none() && (self.full || step.waiting() == 0) {
            return Ok(false);
        }
        if step.running() < self.spec.max_running_requests as usize {
            self.sort(step);
        }
        let mut budget = self.budget(step);
        let mut any = false;
        if let Some(seat) = split {
            any = self.go_on(step, seat, &mut budget)?;
            if !any {
                // Its blocks are not free yet: no request passes it, or two prompts that were split could wait for each other.
                return Ok(false);
            }
        }
        while !self.full {
            if step.running() >= self.spec.max_running_requests as usize {
                self.full = true;
                break;
            }
            let Some(head) = step.head() else { break };
            let waiting = step.waiting();
            let more = self.add(step, &head, &mut budget, any)?;
            any |= step.waiting() < waiting;
            if !more {
                break;
            }
        }
        Ok(any)
    }

    /// The next chunk of a prompt that was split.
    fn go_on(&self, step: &mut StepBuilder<'_>, seat: Seat, budget: &mut Budget) -> Result<bool, Infeasible> {
        let request = step.view(seat);
        let left = i64::from(request.target - request.computed);
        let tokens = left.min(budget.chunk);
        if tokens <= 0 || !step.prefill(seat, tokens as u32)? {
            return Ok(false);
        }
        let after = if tokens == left { self.expected(&request) as i64 } else { 0 };
        budget.take(tokens, after);
        Ok(true)
    }

    /// Admits the head if it is expected to fit. Returns whether more may be added.
    fn add(
        &mut self,
        step: &mut StepBuilder<'_>,
        head: &Head,
        budget: &mut Budget,
        any: bool,
    ) -> Result<bool, Infeasible> {
        let input = i64::from(head.tokens - head.cached);
        let whole = input + self.expected(&head.request) as i64;
        // Cached blocks that no request holds count as free, until they are taken.
        let revived = (step.blocks_to_hold(head, head.cached) * u64::from(step.limits().block_tokens)) as i64;
        // A lone request goes ahead: whatever its limit, no other request's memory is at stake.
        let alone = step.running() == 0;
        if !alone && (whole >= budget.total || whole + revived > budget.total) {
            self.full = true;
            return Ok(false);
        }
        if (input > budget.input && any) || budget.chunk <= 0 {
            return Ok(false);
        }
        let tokens = input.min(budget.chunk);
        if step.blocks_to_hold(head, head.cached + tokens as u32) > step.free_blocks() {
            self.full = true;
            return Ok(false);
        }
        step.admit(head, tokens as u32)?;
        budget.total -= revived;
        budget.take(tokens, if tokens == input { whole - input } else { 0 });
        self.full |= budget.total <= 0;
        Ok(!self.full && budget.input > 0 && budget.chunk > 0)
    }

    /// Retracts requests until there is room for some steps of those that stay, and expects more from then on.
    fn retract(&mut self, step: &mut StepBuilder<'_>) -> Result<(), Infeasible> {
        let running = (0..step.running()).map(|at| step.running_at(at));
        let mut order: Vec<RequestView> = running.filter(|r| r.phase == Phase::Decode).collect();
        // The last one goes first: it has generated least, or has the longest prompt among those.
        order.sort_by_key(|r| (std::cmp::Reverse(r.generated), r.prompt_tokens, r.id));
        let room = |step: &StepBuilder<'_>, n: usize| {
            let free = step.free_blocks() * u64::from(step.limits().block_tokens);
            free >= n as u64 * RETRACT_STEPS && step.member_blocks() <= step.free_blocks()
        };
        while order.len() > 1 && !room(step, order.len()) {
            let Some(victim) = order.pop() else { break };
            step.retract(victim.seat)?;
            self.requeue(step, victim.seat);
        }
        // The last one may lack memory for a prompt that was split beside it, or for KV that is on its way here.
        while step.member_blocks() > step.free_blocks() && step.running() > 0 {
            let seat = step.running_at(step.running() - 1).seat;
            step.retract(seat)?;
            self.requeue(step, seat);
        }
        let generated: u64 =
            order.iter().map(|r| u64::from(r.generated)).sum::<u64>() + RETRACT_STEPS * order.len() as u64;
        let limits: u64 = order.iter().map(|r| u64::from(r.limit)).sum();
        self.ratio = (u128::from(generated) * u128::from(ONE) / u128::from(limits.max(1))).min(u128::from(ONE)) as u64;
        self.full = false;
        Ok(())
    }
}

/// The waiting requests with what the order goes by: least first.
fn by_prefix(step: &StepBuilder<'_>) -> Vec<(u32, Seat)> {
    let block_tokens = step.limits().block_tokens;
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    let mut keys = Vec::with_capacity(step.waiting());
    for request in step.queue() {
        let contents = step.contents(request.seat);
        let cached = step.cached(request.seat);
        let mut last = false;
        if cached <= IN_BATCH_TOKENS {
            // Ids are chained: one that was seen was seen with all before it.
            let shared = contents.iter().take_while(|&id| seen.contains(id)).count();
            last = shared as u32 * block_tokens >= IN_BATCH_TOKENS;
            if !last {
                seen.extend(contents);
            }
        }
        keys.push((if last { u32::MAX } else { u32::MAX - 1 - cached }, request.seat));
    }
    keys
}

impl Budget {
    fn take(&mut self, tokens: i64, after: i64) {
        self.total -= tokens + after;
        self.input -= tokens;
        self.chunk = self.chunk.saturating_sub(tokens);
    }
}

impl Scheduler for SglangV04 {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        self.catch_up(step);
        if self.spec.order() != SchedulePolicy::Fcfs {
            while let Some(request) = step.newcomer() {
                self.append(step, request.seat);
            }
        }
        self.decoding = false;
        let mixed = self.spec.enable_mixed_chunk;
        let short = step.member_blocks() > step.free_blocks();
        if !(mixed && short) && self.prefill(step)? {
            // Beside prompts the members decode if there is room for them: they are not worth a retraction.
            if mixed && step.member_blocks() <= step.free_blocks() {
                step.decode_all()?;
            }
            self.ran = step.running();
            return Ok(Horizon::ONE);
        }
        let retracts = step.member_blocks() > step.free_blocks();
        if retracts {
            self.retract(step)?;
        }
        step.decode_all()?;
        self.decoding = !retracts;
        self.ran = step.running();
        if retracts || !step.prefilling().is_empty() {
            return Ok(Horizon::ONE);
        }
        let blocked = step.waiting() > 0;
        Ok(Horizon { repeats: u64::MAX, wake_on_arrival: !self.full && !blocked, wake_on_end: self.full || blocked })
    }
}
