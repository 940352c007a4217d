//! SGLang 0.5.23 (`python/sglang/srt/managers/scheduler.py`, `schedule_policy.py`, `schedule_batch.py`, `mem_cache/prefill_budget.py`).
//! The numbered rules in the comments are those of `docs/sglang.md`.

mod budget;
mod order;
mod preempt;
mod prefill;
mod ratio;

use super::{RetractionPolicy, SchedulePolicy, SglangSpec, SglangVersion};
use crate::kv::Seat;
use crate::schedulers::{Horizon, Scheduler};
use crate::serving::request::Phase;
use crate::serving::step::{Infeasible, RequestView, StepBuilder};
use ratio::Ratio;

/// What SGLang reads from its environment (`environ.py`), with its names and defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Constants {
    /// Share of the output limit that is expected at first.
    pub init_new_token_ratio: f64,
    /// Share of that to which it decays, and the decode steps that it takes.
    pub min_new_token_ratio_factor: f64,
    /// Those steps.
    pub new_token_ratio_decay_steps: u32,
    /// Decode steps for which retraction and preemption make room in the cache.
    pub retract_decode_steps: u32,
    /// A waiting request with at most so many cached tokens that shares at least so many with one before it goes last: once that one
    /// is computed, it will be cached.
    pub in_batch_prefix_tokens: u32,
    /// Waiting requests above which prefixes are not looked up for the order, and up to which they are freshened.
    pub prefix_match_max: usize,
    /// Passes over the queue between two looks at the prefixes of those that wait.
    pub prefix_refresh_interval: u64,
}

impl Default for Constants {
    fn default() -> Self {
        Constants {
            init_new_token_ratio: 0.7,
            min_new_token_ratio_factor: 0.14,
            new_token_ratio_decay_steps: 600,
            retract_decode_steps: 20,
            in_batch_prefix_tokens: 32,
            prefix_match_max: 128,
            prefix_refresh_interval: 32,
        }
    }
}

/// SGLang 0.5.23: as long as prompts may join, steps compute prompts and decodes wait. A running request is expected to generate
/// `new_token_ratio` of what is left of its limit; the ratio decays while all goes well and jumps when memory has run out.
///
/// SGLang's *running list* is the standing set and, while their last token is in flight, those that have left it. A prefill batch joins
/// it at the next plan.
#[derive(Clone, Debug)]
pub struct SglangV05 {
    spec: SglangSpec,
    constants: Constants,
    ratio: Ratio,
    /// Nobody is admitted until the running list shrinks (`batch_is_full`).
    full: bool,
    /// Requests in the running list after the last plan, the batch planned then not counted, and requests that held memory then.
    listed: usize,
    rows: usize,
    /// The batch planned last, if it computed prompts.
    batch: Option<PromptBatch>,
    /// Steps executed before the last plan, and whether that was one of decodes alone.
    executed: u64,
    decodes: bool,
    /// Prompt tokens computed so far, as the order by response ratio counts them: a decode step counts those of the prefill batch that
    /// its batch object once was.
    processed: u64,
    inherited: u64,
    /// Turns for which prefill is not tried.
    hold: u32,
    /// Passes over the queue that counted towards the next look at the prefixes of those that wait.
    passes: u64,
    /// The next key: the queue is a list that is sorted in place, and keys are its places.
    next_key: u64,
    notes: Vec<Note>,
    /// Requests (by id) that the last plan preempted for more urgent ones, in the order in which they were chosen.
    displaced: Vec<u64>,
}

/// What is remembered of a prefill batch.
#[derive(Clone, Copy, Debug)]
struct PromptBatch {
    tokens: u64,
    /// Whether a prompt in it goes on in the next one.
    open: bool,
}

/// What is remembered of a request, by seat.
#[derive(Clone, Copy, Default, Debug)]
struct Note {
    id: u64,
    /// Place among all entries into the queue, and the count of prompt tokens then.
    entry: u64,
    processed: u64,
    /// Tokens and cached tokens at the last look-up.
    looked: u32,
    cached: u32,
}

impl SglangV05 {
    /// A scheduler for one replica.
    pub fn new(spec: SglangSpec) -> Self {
        Self::with_constants(spec, Constants::default())
    }

    /// The same, in another environment.
    pub fn with_constants(spec: SglangSpec, constants: Constants) -> Self {
        SglangV05 {
            ratio: Ratio::new(spec.schedule_conservativeness, &constants),
            spec,
            constants,
            full: false,
            listed: 0,
            rows: 0,
            batch: None,
            executed: 0,
            decodes: false,
            processed: 0,
            inherited: 0,
            hold: 0,
            passes: 0,
            next_key: 0,
            notes: Vec::new(),
            displaced: Vec::new(),
        }
    }

    /// `new_token_ratio`.
    pub fn new_token_ratio(&self) -> f64 {
        self.ratio.current()
    }

    /// `batch_is_full`.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Requests in the running list, the batch planned last not counted.
    pub fn listed(&self) -> usize {
        self.listed
    }

    /// Requests (by id) that the last plan preempted for more urgent ones, in the order in which they were chosen.
    pub fn displaced(&self) -> &[u64] {
        &self.displaced
    }

    /// Puts a request at the end of the queue.
    fn append(&mut self, step: &mut StepBuilder<'_>, request: &RequestView) {
        step.rank(request.seat, self.next_key);
        let at = request.seat as usize;
        if self.notes.len() <= at {
            self.notes.resize(at + 1, Note::default());
        }
        let note = &mut self.notes[at];
        let looked = if note.id == request.id && request.preemptions > 0 { note.looked } else { 0 };
        *note = Note { id: request.id, entry: self.next_key, processed: self.processed, looked, cached: 0 };
        self.next_key += 1;
    }

    fn note(&self, seat: Seat) -> &Note {
        &self.notes[seat as usize]
    }

    /// The output limit as SGLang clips it on arrival (rule 23): possibly 0, which a request exceeds by its first token.
    fn limit(step: &StepBuilder<'_>, request: &RequestView) -> i64 {
        i64::from(request.limit).min(step.limits().room(request.prompt_tokens))
    }

    fn clip(&self) -> i64 {
        i64::from(self.spec.clip_max_new_tokens)
    }

    /// Tokens that a running request is expected to generate still (rule 6).
    fn offset(&self, step: &StepBuilder<'_>, request: &RequestView) -> f64 {
        let left = Self::limit(step, request) - i64::from(request.generated);
        let share = if request.ignores_eos { 1.0 } else { self.ratio.current() };
        left.min(self.clip()) as f64 * share
    }

    /// The more urgent, the smaller.
    fn urgency(&self, request: &RequestView) -> i64 {
        let sign = if self.spec.schedule_low_priority_values_first { 1 } else { -1 };
        i64::from(request.priority) * sign
    }

    /// Brings the state up to the present: steps since the last plan, arrivals, requests that have left, the batch that joins.
    fn catch_up(&mut self, step: &mut StepBuilder<'_>) -> Result<(), Infeasible> {
        if self.decodes {
            // The first of these steps was counted when it was planned.
            let more = (step.executed() - self.executed).saturating_sub(1);
            self.ratio.decay(more);
            self.processed += more * self.inherited;
        }
        self.executed = step.executed();
        if step.after_idle() {
            self.ratio.reset();
        }
        while let Some(request) = step.newcomer() {
            self.append(step, &request);
        }
        if step.running() < self.rows {
            self.full = false;
        }
        if let Some(batch) = self.batch.take() {
            if batch.open {
                self.full = false;
                if let Some(&seat) = step.prefilling().first() {
                    step.publish(seat)?;
                }
            }
            // Where nobody ran, the batch becomes the running one: what was marked on the one before is lost.
            if self.listed == 0 && running_list(step).next().is_some() {
                self.full = false;
                self.inherited = batch.tokens;
            }
        }
        Ok(())
    }

    /// Whether decodes go first for now (rule 24).
    fn holds(&mut self, running: usize) -> bool {
        if self.hold == 0 {
            return false;
        }
        if running < self.spec.prefill_decode_interval_min_bs as usize {
            self.hold = 0;
            return false;
        }
        self.hold -= 1;
        true
    }

    /// A step of decodes (rules 13 to 16). Returns whether it retracted.
    fn decode(&mut self, step: &mut StepBuilder<'_>) -> Result<bool, Infeasible> {
        let listed = running_list(step).count();
        let members = step.members() as usize;
        self.listed = members;
        if members < listed {
            self.full = false;
        }
        if members == 0 {
            return Ok(false);
        }
        let short = !step.make_room(step.member_blocks());
        if short && members < listed {
            return Ok(false); // Memory comes back with the token in flight.
        }
        if short {
            self.retract(step)?;
            self.full = false;
        } else {
            self.ratio.decay(1);
        }
        self.listed = step.members() as usize;
        if self.listed > 0 {
            step.decode_all()?;
            self.processed += self.inherited;
            self.decodes = true;
        }
        Ok(short)
    }

    /// Retracts requests until the next step fits; the list stays in the order in which they were considered.
    fn retract(&mut self, step: &mut StepBuilder<'_>) -> Result<(), Infeasible> {
        let mut order: Vec<RequestView> = running_list(step).collect();
        let by_priority = self.spec.retraction_policy == RetractionPolicy::Priority;
        order.sort_by_key(|request| {
            let urgency = if by_priority { self.urgency(request) } else { 0 };
            (urgency, std::cmp::Reverse(request.generated), request.prompt_tokens)
        });
        let mut first = true;
        while order.len() > 1 && (first || !step.make_room(step.member_blocks())) {
            let Some(victim) = order.pop() else { break };
            first = false;
            self.throw_back(step, &victim, order.len())?;
            self.append(step, &step.view(victim.seat));
        }
        if !step.make_room(step.member_blocks())
            && let Some(last) = order.pop()
        {
            step.abort(last.seat)?;
        }
        self.ratio.after_retraction(order.iter().map(|request| (request.generated, Self::limit(step, request))));
        // A prompt that goes on stays where it is: before them all.
        let seats = order.iter().map(|request| request.seat);
        let others: Vec<Seat> = step.prefilling().to_vec();
        step.line_up(&others.into_iter().chain(seats).collect::<Vec<_>>())
    }

    /// Releases a running request, and frees cached memory for those that remain.
    fn throw_back(
        &mut self,
        step: &mut StepBuilder<'_>,
        victim: &RequestView,
        remaining: usize,
    ) -> Result<(), Infeasible> {
        step.throw_back(victim.seat)?;
        let tokens = u64::from(self.constants.retract_decode_steps) * remaining as u64;
        step.make_room(tokens.div_ceil(u64::from(step.limits().block_tokens)));
        Ok(())
    }

    /// For how long a step of decodes stands.
    fn horizon(&self, step: &StepBuilder<'_>, retracted: bool, delayed: bool) -> Horizon {
        let waiting = step.waiting() > 0;
        let tried = waiting && (self.spec.preempts() || !(self.full || delayed));
        if retracted || tried || self.hold > 0 || !step.prefilling().is_empty() || self.listed == 0 {
            return Horizon::ONE;
        }
        let open = !self.full || self.spec.preempts();
        // The order by response ratio counts from the turn of the arrival.
        let counts = self.spec.order() == SchedulePolicy::Hrrn;
        Horizon { repeats: u64::MAX, wake_on_arrival: (open && !waiting) || counts, wake_on_end: self.full || waiting }
    }
}

/// SGLang's running list.
fn running_list<'a>(step: &'a StepBuilder<'_>) -> impl Iterator<Item = RequestView> + 'a {
    let running = (0..step.running()).map(|at| step.running_at(at));
    running.filter(|request| matches!(request.phase, Phase::Decode | Phase::Draining))
}

impl Scheduler for SglangV05 {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        self.catch_up(step)?;
        self.decodes = false;
        self.displaced.clear();
        let running = running_list(step).count();
        let prompts = !self.holds(running) && self.prefill(step)?;
        let horizon = if prompts {
            self.hold = self.spec.prefill_decode_interval;
            Horizon::ONE
        } else {
            let retracted = self.decode(step)?;
            self.horizon(step, retracted, self.is_delayed(step))
        };
        self.rows = step.running();
        Ok(horizon)
    }
}

/// Settings that between them reach all of its code, each with what is different about it.
pub(super) fn examples() -> Vec<(&'static str, SglangSpec)> {
    let plain = SglangSpec { version: SglangVersion::V05, ..SglangSpec::default() };
    let serial = SglangSpec { enable_overlap_schedule: false, ..plain.clone() };
    let bold = SglangSpec { schedule_conservativeness: 0.05, max_running_requests: 12, ..plain.clone() };
    let blind = SglangSpec { enable_radix_cache: false, ..bold.clone() };
    let chunks = SglangSpec { chunked_prefill_size: Some(48), max_running_requests: 6, ..serial.clone() };
    let ordered = |schedule_policy| SglangSpec { schedule_policy, chunked_prefill_size: Some(80), ..bold.clone() };
    let urgent = SglangSpec {
        enable_priority_scheduling: true,
        schedule_low_priority_values_first: true,
        priority_scheduling_preemption_threshold: 0,
        retraction_policy: RetractionPolicy::Priority,
        ..chunks.clone()
    };
    let delayed = SglangSpec {
        min_free_slots_delay: Some(3),
        prefill_max_requests: Some(2),
        prefill_decode_interval: 3,
        ..chunks.clone()
    };
    let whole = SglangSpec { chunked_prefill_size: None, max_prefill_tokens: 300, ..blind.clone() };
    vec![
        ("0.5.23", plain),
        ("0.5.23, depth 1", serial.clone()),
        ("0.5.23, bold", bold.clone()),
        ("0.5.23, bold, depth 1", SglangSpec { enable_overlap_schedule: false, ..bold.clone() }),
        ("0.5.23, no cache", blind),
        ("0.5.23, mixed", SglangSpec { enable_mixed_chunk: true, chunked_prefill_size: Some(64), ..serial }),
        ("0.5.23, mixed, depth 2", SglangSpec { enable_mixed_chunk: true, ..ordered(SchedulePolicy::Lof) }),
        ("0.5.23, lpm", ordered(SchedulePolicy::Lpm)),
        ("0.5.23, dfs-weight", ordered(SchedulePolicy::DfsWeight)),
        ("0.5.23, hrrn", ordered(SchedulePolicy::Hrrn)),
        ("0.5.23, shortest prefill", ordered(SchedulePolicy::ShortestPrefillFirst)),
        ("0.5.23, priorities", urgent),
        ("0.5.23, delayed", delayed),
        ("0.5.23, whole prompts", whole),
    ]
}
