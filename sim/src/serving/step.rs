//! The step under construction: what a scheduler sees and the only ways in which it can change the world.
//!
//! Every call is checked and applied at once, in the order in which the policy makes it, so that a plan that preempts,
//! allocates and admits sees its own effects exactly as vLLM's scheduler does. The policy never touches blocks, queues or
//! clocks, and never sees a request's true output length.
//!
//! A plan is not a list that is applied afterwards: the scheduler would then have to simulate evictions and prefix hits a second
//! time to know what its list leads to.

mod admission;
mod decoding;
mod order;
mod shrink;
mod swap;
mod tree;

pub use tree::Prefix;

use crate::cost::PrefillPart;
use crate::kv::Seat;
use crate::kv::blocks::Hit;
use crate::kv::retention::Keep;
use crate::serving::lane::{Lane, Running};
use crate::serving::replica::{Chunk, Happened, LaneWork, Limits, Replica, hash_to, name_own};
use crate::serving::request::{Phase, Request};
use crate::time::Time;
use crate::workload::Truth;
use crate::workload::arrival::ClassId;

/// A scheduler asked for something that cannot be done: a bug in the scheduler.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("infeasible plan: {0}")]
pub struct Infeasible(pub String);

/// What a policy may know of a request (law 9).
#[derive(Clone, Copy, Debug)]
pub struct RequestView {
    /// Seat, valid during this plan.
    pub seat: Seat,
    /// Id in arrival order.
    pub id: u64,
    /// Where it stands.
    pub phase: Phase,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Output tokens delivered.
    pub generated: u32,
    /// The output limit that its client stated (or the context allows).
    pub limit: u32,
    /// Whether it is known to end at that limit and not before.
    pub ignores_eos: bool,
    /// Tokens whose KV is planned or present.
    pub computed: u32,
    /// Tokens a prefill must compute: prompt, plus outputs so far after a preemption.
    pub target: u32,
    /// Smaller is more urgent.
    pub priority: i32,
    /// Orders equal priorities: arrival time [ns].
    pub arrival_key: u64,
    /// Preemptions so far.
    pub preemptions: u32,
    /// Tokens whose KV waits on the host ([`StepBuilder::swap_in`] brings it back).
    pub on_host: u32,
    /// Its class: what tenants and promises go by.
    pub class: ClassId,
    /// When its client gives up unless it has finished; [`Time::MAX`] if it has said nothing.
    pub deadline: Time,
    /// The true output length, sealed: only the oracles among the length models open it.
    pub truth: Truth,
}

/// The head of the waiting queue, with its prefix-cache hit.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The request.
    pub request: RequestView,
    /// Tokens it must have computed before it decodes.
    pub tokens: u32,
    /// Tokens served by the prefix cache: whole blocks, at most `tokens - 1`.
    pub cached: u32,
    hit: Hit,
}

/// Where the KV of a preempted request goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Its blocks are freed; at most its first `cached` tokens stay in the prefix cache.
    Dropped { cached: u32 },
    /// As `Dropped`, all of it; the cache keeps the names of blocks that this plan would have filled.
    Left,
    /// Its blocks are freed, and its token in flight is thrown away.
    Forgotten,
    /// To the host.
    Host,
}

impl Replica {
    /// Gives up the KV of a request that no longer runs. Of its tokens `computed` are computed, all but the last `unknown` of which can be
    /// named; `undone`: this plan had given it more, and has taken that back.
    fn let_go(&mut self, seat: Seat, fate: Fate, (computed, undone): (u32, bool), unknown: u32) {
        let request = &mut self.requests[seat as usize];
        if self.limits.prefix_caching && fate != Fate::Host {
            let cached = match fate {
                Fate::Dropped { cached } => cached,
                Fate::Left => u32::MAX,
                Fate::Forgotten | Fate::Host => 0,
            };
            if cached > 0 {
                name_own(&mut self.kv, seat, request, computed.saturating_sub(unknown).min(cached));
            }
            self.own_waiting += 1;
        }
        match fate {
            Fate::Host => self.kv.swap_out(seat, &mut request.kv),
            // What this plan has taken back is never computed, though its blocks have their names already.
            Fate::Dropped { .. } | Fate::Forgotten if undone => {
                self.kv.release_computed(seat, &mut request.kv, computed);
            }
            Fate::Dropped { .. } | Fate::Left | Fate::Forgotten => self.kv.release(seat, &mut request.kv),
        }
    }
}

/// A step plan in the making.
#[derive(Debug)]
pub struct StepBuilder<'a> {
    replica: &'a mut Replica,
    lane: usize,
    now: Time,
}

impl<'a> StepBuilder<'a> {
    pub(crate) fn new(replica: &'a mut Replica, lane: usize, now: Time) -> Self {
        StepBuilder { replica, lane, now }
    }

    fn lane(&self) -> &Lane {
        &self.replica.lanes[self.lane]
    }

    fn request(&self, seat: Seat) -> &Request {
        &self.replica.requests[seat as usize]
    }

    /// Time of planning.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Ends this plan's certificate at a moment: the next plan is made at the first step boundary then or later.
    pub fn wake_at(&mut self, at: Time) {
        let wake = &mut self.replica.step.wake_at;
        *wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// The replica's limits.
    pub fn limits(&self) -> &Limits {
        &self.replica.limits
    }

    /// What the lane does that is planned.
    pub fn work(&self) -> LaneWork {
        self.lane().work
    }

    /// Free blocks, cached ones included.
    pub fn free_blocks(&self) -> u64 {
        self.replica.kv.free()
    }

    /// Blocks that it takes to compute a prompt of `tokens` tokens.
    pub fn blocks_for(&self, tokens: u32) -> u64 {
        self.blocks_over(tokens, tokens)
    }

    /// Blocks that it takes to compute the first `tokens` tokens of a waiting request.
    pub fn blocks_of(&self, head: &Head, tokens: u32) -> u64 {
        let request = self.request(head.request.seat);
        self.replica.kv.blocks_for(self.limits().filled_slots((request.prompt, request.limit), tokens))
    }

    /// Blocks that a request takes at most while its first `prompt` tokens are computed as a prompt, and the rest of its `tokens` one
    /// by one.
    pub fn blocks_over(&self, prompt: u32, tokens: u32) -> u64 {
        self.replica.kv.blocks_for(self.limits().most_slots(prompt, tokens))
    }

    /// Blocks that a running prompt takes to compute `tokens` more tokens.
    pub fn blocks_to_prefill(&self, seat: Seat, tokens: u32) -> u64 {
        self.replica.kv.need(&self.request(seat).kv, tokens)
    }

    /// Requests in the running list.
    pub fn running(&self) -> usize {
        self.lane().running.len()
    }

    /// Waiting requests.
    pub fn waiting(&self) -> usize {
        self.replica.waiting.len()
    }

    /// Members of the standing decode set.
    pub fn members(&self) -> u32 {
        self.lane().members
    }

    /// KV tokens of the standing set.
    pub fn member_tokens(&self) -> u64 {
        if self.lane().members == 0 { 0 } else { self.lane().context() - u64::from(self.lane().members) }
    }

    /// Running requests with prefill left, in running order.
    pub fn prefilling(&self) -> &[Seat] {
        &self.lane().prefilling
    }

    /// Blocks that requests in prefill, on any lane, still lack for their prompts.
    pub fn owed_blocks(&self) -> u64 {
        self.replica.owed_blocks()
    }

    /// Whether decoding may give further blocks a cacheable identity.
    pub fn is_hashing(&self) -> bool {
        self.lane().is_hashing()
    }

    /// Steps with at least one token planned on this lane before this one.
    pub fn executed(&self) -> u64 {
        self.lane().executed
    }

    /// Whether this step computes prompt tokens so far: chunks longer than one token.
    pub fn carries_prefill(&self) -> bool {
        self.replica.step.chunks.iter().any(|c| c.tokens > 1)
    }

    /// Prompt tokens that this step computes so far.
    pub fn prefill_tokens(&self) -> u64 {
        self.replica.step.chunks.iter().map(|c| u64::from(c.tokens)).sum()
    }

    /// The request at a position of the running list.
    pub fn running_at(&self, position: usize) -> RequestView {
        self.view(self.lane().running[position].seat)
    }

    /// The running requests that may be preempted, in running order, with their positions: all but those whose KV is about to
    /// leave for a lane that decodes.
    pub fn preemptible(&self) -> impl DoubleEndedIterator<Item = (usize, RequestView)> + '_ {
        let all = (0..self.running()).map(|at| (at, self.running_at(at)));
        all.filter(|(_, request)| request.phase != Phase::Prefilled)
    }

    /// What is known of a request.
    pub fn view(&self, seat: Seat) -> RequestView {
        let request = self.request(seat);
        RequestView {
            seat,
            id: request.id,
            phase: request.phase,
            prompt_tokens: request.prompt,
            generated: self.lane().generated(request),
            limit: request.limit,
            ignores_eos: request.ignores_eos,
            computed: self.lane().computed(request),
            target: request.target,
            priority: request.priority,
            arrival_key: request.arrival_key,
            preemptions: request.preemptions,
            on_host: request.kv.below(),
            class: request.class,
            deadline: request.deadline,
            truth: Truth::seal(request.output),
        }
    }

    /// Output lengths [tokens] of the requests that have finished since the last plan, in order. Requests that ended otherwise
    /// say nothing about lengths.
    pub fn finished(&self) -> &[u32] {
        &self.replica.finished
    }

    /// Computes `tokens` more prompt tokens of a running request; `false` if their blocks are not free.
    ///
    /// # Errors
    /// The request has no such prefill left.
    pub fn prefill(&mut self, seat: Seat, tokens: u32) -> Result<bool, Infeasible> {
        let kv = &mut self.replica.kv;
        let request = &mut self.replica.requests[seat as usize];
        let (past, kept) = (request.kv.positions(), request.kv.kept());
        let runs = request.phase == Phase::Prefill && usize::from(request.lane) == self.lane;
        if !runs || tokens == 0 || tokens > request.target - past {
            return Err(Infeasible(format!("request {} has no {tokens} tokens of prefill left", request.id)));
        }
        if kv.need(&request.kv, tokens) > kv.free() {
            return Ok(false);
        }
        kv.grow(&mut request.kv, tokens);
        hash_to(kv, seat, request, past + tokens);
        self.replica.step.chunks.push(Chunk { seat, tokens, past, kept });
        Ok(true)
    }

    /// Computes the next chunks of the running prompts, in running order, as far as `budget` tokens go. Returns what is left of it.
    /// Their blocks must be free.
    ///
    /// # Errors
    /// Never, unless the state is broken.
    pub fn prefill_within(&mut self, mut budget: u32) -> Result<u32, Infeasible> {
        // A prompt that is done stays in the list until the plan is.
        for at in 0..self.prefilling().len() {
            let request = self.view(self.prefilling()[at]);
            let tokens = (request.target - request.computed).min(budget);
            if tokens == 0 {
                break;
            }
            if !self.prefill(request.seat, tokens)? {
                return Err(Infeasible(format!("request {} was promised blocks that are not free", request.id)));
            }
            budget -= tokens;
        }
        Ok(budget)
    }

    /// Frees all blocks of a running request and puts it back into the waiting queue. Returns the tokens that this step had
    /// already scheduled for it.
    ///
    /// # Errors
    /// The request is not running.
    pub fn preempt(&mut self, seat: Seat) -> Result<u32, Infeasible> {
        let refund = self.take_off(seat, Fate::Dropped { cached: u32::MAX })?;
        let replica = &mut *self.replica;
        replica.waiting.push_front(seat, &replica.requests[seat as usize]);
        Ok(refund)
    }

    /// As [`StepBuilder::preempt`], as vLLM does it: blocks that this plan would have filled stay in the prefix cache, and are found there,
    /// though their last tokens are never computed. Its recorded schedules have it so (`policy: priority`, workload 83).
    ///
    /// # Errors
    /// The request is not running.
    pub fn preempt_as_vllm(&mut self, seat: Seat) -> Result<u32, Infeasible> {
        let refund = self.take_off(seat, Fate::Left)?;
        let replica = &mut *self.replica;
        replica.waiting.push_front(seat, &replica.requests[seat as usize]);
        Ok(refund)
    }

    /// As [`StepBuilder::preempt`], but back to the end of the queue, and only what its last prefill has computed stays in the prefix
    /// cache (SGLang: a radix cache takes in prompts when they are computed, outputs when they end).
    ///
    /// # Errors
    /// The request is not running.
    pub fn retract(&mut self, seat: Seat) -> Result<u32, Infeasible> {
        let refund = self.take_off(seat, Fate::Dropped { cached: self.request(seat).target })?;
        let replica = &mut *self.replica;
        replica.waiting.push(seat, &replica.requests[seat as usize]);
        Ok(refund)
    }

    /// Frees all blocks of a running request, which waits from now on.
    fn take_off(&mut self, seat: Seat, fate: Fate) -> Result<u32, Infeasible> {
        let replica = &mut *self.replica;
        let lane = &mut replica.lanes[self.lane];
        let request = &mut replica.requests[seat as usize];
        let runs = matches!(request.phase, Phase::Prefill | Phase::Decode | Phase::Draining);
        if !runs || usize::from(request.lane) != self.lane {
            let (id, phase) = (request.id, request.phase);
            return Err(Infeasible(format!("request {id} cannot be preempted on this lane in phase {phase:?}")));
        }
        if request.has_first {
            request.longest_gap = request.longest_gap.max(lane.longest.since(request.gaps_from));
        }
        let delivered = lane.generated(request);
        let pending = lane.generated_planned(request) - delivered;
        if request.is_decoding() {
            lane.note_last_token(request);
        }
        let (mut refund, mut scheduled) = (0, 0);
        let mut held = lane.computed(request);
        match request.phase {
            Phase::Decode => {
                if let Some(at) = replica.step.decoded.iter().position(|&s| s == seat) {
                    replica.step.decoded.remove(at);
                    replica.step.decode_seqs -= 1;
                    replica.step.decode_context -= u64::from(lane.kept(request)) + 1;
                    (held, refund, scheduled) = (held + 1, 1, replica.limits.drafts.queries());
                }
                lane.leave(request);
                request.kv.settle(refund, replica.limits.block_tokens);
            }
            Phase::Prefill => {
                if let Some(at) = replica.step.chunks.iter().position(|c| c.seat == seat) {
                    refund = replica.step.chunks.remove(at).tokens;
                    scheduled = refund;
                    replica.step.admitted.retain(|a| a.seat != seat);
                }
                lane.prefilling.retain(|&s| s != seat);
            }
            _ => {}
        }
        let mark = (seat, request.generation);
        if pending > 0 {
            if fate == Fate::Forgotten {
                replica.step.thrown.push(mark);
            }
            lane.take_back(mark, fate != Fate::Forgotten);
        }
        let at = lane.position(request.seq);
        lane.running.remove(at);
        // At depth 2 the token that fills a block is known one step later.
        let unknown = if request.is_decoding() { lane.depth - 1 } else { 0 };
        replica.let_go(seat, fate, (held - refund, refund > 0), unknown);
        let request = &mut replica.requests[seat as usize];
        request.lost = held - refund;
        replica.progress.note(seat, request.lost);
        request.generated = delivered;
        request.preemptions += 1;
        request.phase = Phase::Waiting;
        replica.waiting_tokens += u64::from(request.prompt);
        replica.step.preempted.push(request.id);
        replica.happened.push_back(Happened::Preempted { request: request.id });
        Ok(scheduled)
    }

    /// Requests that wait, prefilled, for a lane that decodes.
    pub fn ready(&self) -> usize {
        self.replica.ready_len as usize
    }

    /// The one of them that has waited longest.
    pub fn next_ready(&mut self) -> Option<RequestView> {
        while let Some(&(seat, generation)) = self.replica.ready.front() {
            let request = self.request(seat);
            if request.generation == generation && request.phase == Phase::Ready {
                return Some(self.view(seat));
            }
            self.replica.ready.pop_front();
        }
        None
    }

    /// Takes the request that [`StepBuilder::next_ready`] has returned into the standing set of this lane.
    ///
    /// # Errors
    /// It is not the next one, or the lane only prefills.
    pub fn take_over(&mut self, seat: Seat) -> Result<(), Infeasible> {
        if self.work() == LaneWork::Prefill || self.next_ready().map(|next| next.seat) != Some(seat) {
            return Err(Infeasible(format!("request {} is not ready for this lane", self.request(seat).id)));
        }
        let replica = &mut *self.replica;
        replica.ready.pop_front();
        replica.ready_len -= 1;
        let request = &mut replica.requests[seat as usize];
        request.lane = self.lane as u8;
        request.gaps_from = self.now;
        request.seq = replica.next_seq;
        replica.next_seq = replica.next_seq.checked_add(1).expect("fewer than 2³² admissions per replica");
        let lane = &mut replica.lanes[self.lane];
        lane.running.push(Running { seq: request.seq, seat });
        lane.take_over(seat, request);
        Ok(())
    }

    /// Applies the plan: advances the clock, ends prefills, puts the step in flight. Returns whether it holds any work.
    pub(crate) fn commit(self) -> bool {
        let replica = self.replica;
        let lane = &mut replica.lanes[self.lane];
        let step = &mut replica.step;
        if step.decode_seqs == 0 && step.chunks.is_empty() {
            return false;
        }
        replica.planned_version = lane.version;
        lane.planned += 1;
        lane.executed += 1;
        let mut flight = lane.spare.pop().unwrap_or_default();
        flight.unfinished = 1;
        flight.seqs = step.decode_seqs;
        let stalled = std::mem::take(&mut lane.stalled);
        if !step.all_members && step.decode_seqs < lane.members {
            let left_out: Vec<Seat> = lane
                .running
                .iter()
                .map(|e| e.seat)
                .filter(|&s| replica.requests[s as usize].phase == Phase::Decode && !step.decoded.contains(&s))
                .collect();
            for seat in left_out {
                lane.skip(seat, &mut replica.requests[seat as usize]);
            }
        }
        flight.resumed.extend(stalled.into_iter().filter(|&(seat, generation)| {
            let request = &replica.requests[seat as usize];
            let decodes = request.phase == Phase::Decode && request.joined < lane.planned;
            request.generation == generation && decodes
        }));
        replica.computed_tokens += u64::from(step.decode_seqs);
        for chunk in &step.chunks {
            replica.computed_tokens += u64::from(chunk.tokens);
            step.parts.push(PrefillPart { tokens: chunk.tokens, past: chunk.kept });
            let request = &mut replica.requests[chunk.seat as usize];
            let ends = request.kv.positions() == request.target;
            if request.kv.budget() > 0 {
                // One that was shrunk has less than the others.
                let keep = Keep { budget: request.kv.budget(), ..replica.limits.retention };
                let stays = keep.after_chunk(request.kv.positions(), request.prompt, ends);
                replica.kv.cut(chunk.seat, &mut request.kv, stays);
                if ends {
                    request.kv.limit(keep.decoding());
                }
            }
            if !ends {
                continue;
            }
            step.prefill_ends += 1;
            let at = lane.prefilling.iter().position(|&s| s == chunk.seat).expect("a chunk's request is in prefill");
            lane.prefilling.remove(at);
            if lane.work == LaneWork::Prefill {
                flight.emits.push((chunk.seat, request.generation));
                request.phase = Phase::Prefilled;
                continue;
            }
            request.generated += 1;
            flight.emits.push((chunk.seat, request.generation));
            if request.generated == request.limit {
                request.phase = Phase::Draining;
                request.joined = lane.planned;
                request.settled = lane.planned;
            } else {
                lane.join(chunk.seat, request);
            }
        }
        lane.flights.push_back(flight);
        step.cuts = lane.cut(&replica.requests);
        step.growing = lane.growing();
        true
    }
}
