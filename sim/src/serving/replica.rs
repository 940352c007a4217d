//! One model copy: a block pool, a waiting queue, lanes and the serving rules. Sans-IO.
//!
//! The replica knows no clock and no cost. A driver calls [`Replica::enqueue`], [`Replica::plan`] and
//! [`Replica::complete`]; the simulator does so in virtual time, the engine around real steps.

mod audit;
mod delivery;
mod leak;
mod loading;
mod own;
mod placement;
mod plan;
mod progress;
mod speculating;
mod transfer;

use std::collections::VecDeque;

use crate::kv::blocks::BlockPool;
use crate::kv::eviction::BlockEviction;
use crate::kv::retention::RetentionFigures;
use crate::kv::{KvStore, Seat, StoreSpec};
use crate::results::rows::Outcome;
use crate::serving::lane::Lane;
use crate::serving::queue::WaitQueue;
use crate::serving::request::{Phase, Request, known};
use crate::serving::speculation::Speculation;
use crate::serving::step::{Infeasible, StepBuilder};
use crate::serving::{Horizon, Scheduler};
use crate::time::Time;
use crate::workload::arrival::Arrival;
use loading::Loads;
use progress::Progress;

#[doc(hidden)]
pub use leak::Leak;
pub(crate) use loading::Fetch;
pub(crate) use own::{name_own, publish};
pub(crate) use transfer::Outgoing;

pub use placement::StepPart;

pub(crate) use plan::Repeats;
pub use plan::{Admission, CacheKind, Chunk, Happened, LaneWork, Lanes, Limits, OutputRoom, PlannedStep, SwapSpace};

/// One model copy.
#[derive(Debug)]
pub struct Replica {
    pub(crate) id: u32,
    pub(crate) limits: Limits,
    pub(crate) kv: KvStore,
    pub(crate) requests: Vec<Request>,
    vacant: Vec<Seat>,
    pub(crate) waiting: WaitQueue,
    /// Prefilled requests (seat, generation) for a lane that decodes; stale entries are gaps.
    pub(crate) ready: VecDeque<(Seat, u32)>,
    pub(crate) ready_len: u32,
    /// Requests whose KV is on its way here, and KV on its way from here.
    pub(crate) arriving: u32,
    pub(crate) outgoing: Vec<Outgoing>,
    /// KV that comes up from a tier below.
    loads: Loads,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) step: PlannedStep,
    pub(crate) happened: VecDeque<Happened>,
    doomed: Vec<(Seat, u32, Outcome)>,
    ended: Vec<Seat>,
    /// Output lengths of the requests that have finished since the last plan.
    pub(crate) finished: Vec<u32>,
    pub(crate) next_seq: u32,
    outstanding: u32,
    ended_count: u64,
    pub(crate) planned_version: u64,
    pub(crate) computed_tokens: u64,
    /// Prompt tokens of the waiting requests whose KV is not on the host.
    pub(crate) waiting_tokens: u64,
    /// Tokens copied to the host so far by the request in each seat, as far as any was.
    swapped: Vec<u64>,
    pub(crate) progress: Progress,
    /// Preempted requests that wait and may find their own blocks again.
    pub(crate) own_waiting: u32,
    /// Whether nothing was here for a while before the plan to come.
    pub(crate) idled: bool,
    /// What became of requests under a budget.
    pub(crate) retained: RetentionFigures,
    /// Which drafts are accepted, where the replica speculates.
    speculation: Option<Box<Speculation>>,
    /// A block that is not given back.
    #[cfg(feature = "planted-faults")]
    leak: Option<leak::Leak>,
}

impl Replica {
    /// An idle replica that caches blocks as vLLM does.
    pub fn new(id: u32, limits: Limits) -> Self {
        Replica::with_store(id, limits, &StoreSpec::default())
    }

    /// An idle replica.
    pub fn with_store(id: u32, limits: Limits, store: &StoreSpec) -> Self {
        Replica {
            id,
            limits,
            kv: Self::memory(id, &limits, store),
            requests: Vec::new(),
            vacant: Vec::new(),
            waiting: WaitQueue::new(limits.order),
            ready: VecDeque::new(),
            ready_len: 0,
            arriving: 0,
            outgoing: Vec::new(),
            loads: Loads::default(),
            lanes: limits.lanes.work().iter().map(|&work| Lane::new(work, &limits)).collect(),
            step: PlannedStep::default(),
            happened: VecDeque::new(),
            doomed: Vec::new(),
            ended: Vec::new(),
            finished: Vec::new(),
            next_seq: 0,
            outstanding: 0,
            ended_count: 0,
            planned_version: 0,
            computed_tokens: 0,
            waiting_tokens: 0,
            swapped: Vec::new(),
            progress: Progress::default(),
            own_waiting: 0,
            idled: false,
            retained: RetentionFigures::default(),
            speculation: None,
            #[cfg(feature = "planted-faults")]
            leak: None,
        }
    }

    fn memory(id: u32, limits: &Limits, store: &StoreSpec) -> KvStore {
        let memory = KvStore::new((limits.blocks, limits.block_tokens), limits.swap.blocks, store, id);
        let tree = limits.prefix_caching && limits.cache == CacheKind::Tree;
        if tree { memory.with_tree() } else { memory }
    }

    /// From now on this policy says which cached block of its GPUs goes, in place of that of the `store` that it was made with.
    pub(crate) fn evict_by(&mut self, policy: Box<dyn BlockEviction>, store: &StoreSpec) {
        self.kv.evict_by(policy, store, self.id);
    }

    /// Whether a request of this prompt length could ever run here.
    pub fn accepts(&self, prompt_tokens: u32) -> bool {
        prompt_tokens > 0
            && prompt_tokens < self.limits.max_model_len
            && self.limits.room(prompt_tokens) >= 0
            && self.kv.blocks_for(self.limits.most_slots(prompt_tokens, prompt_tokens)) <= self.limits.blocks
    }

    /// Puts an arrival into the waiting queue; `Err` gives it back if it can never run here.
    ///
    /// # Errors
    /// The request is too large for the context or for the pool.
    pub fn enqueue(&mut self, id: u64, mut arrival: Arrival) -> Result<Seat, Arrival> {
        if !self.accepts(arrival.prompt_tokens) {
            return Err(arrival);
        }
        if !self.limits.prefix_caching {
            arrival.content = None;
        }
        if self.outstanding == 0 {
            self.idled |= self.lanes.iter().all(|lane| arrival.at > lane.last_done);
        }
        let room = self.limits.room(arrival.prompt_tokens).max(1) as u32;
        let limit = arrival.max_new_tokens.unwrap_or(room).clamp(1, room);
        if self.limits.retention.cuts(arrival.prompt_tokens, arrival.prompt_tokens.saturating_add(limit)) {
            // Its blocks will be overwritten: what others find again cannot be among them.
            arrival.content = None;
        }
        let at = arrival.at;
        let seat = self.settle_in(Request::new(id, arrival, limit));
        let request = &self.requests[seat as usize];
        if self.kv.is_watched() {
            self.kv.at(at);
            self.kv.arrives(request.contents(request.prompt - 1), request.user());
        }
        self.waiting.push(seat, request);
        self.waiting_tokens += u64::from(self.requests[seat as usize].prompt);
        Ok(seat)
    }

    /// Gives a request a seat.
    fn settle_in(&mut self, mut request: Request) -> Seat {
        self.outstanding += 1;
        if let Some(seat) = self.vacant.pop() {
            request.generation = self.requests[seat as usize].generation;
            self.requests[seat as usize] = request;
            return seat;
        }
        if self.requests.len() == self.requests.capacity() {
            // Doubling would waste half of a long queue's memory.
            self.requests.reserve_exact(self.requests.len() / 8 + 64);
        }
        request.generation = 0;
        self.requests.push(request);
        (self.requests.len() - 1) as Seat
    }

    /// Sets the key that orders requests of equal priority (default: the arrival time).
    pub fn set_arrival_key(&mut self, seat: Seat, key: u64) {
        let request = &mut self.requests[seat as usize];
        self.waiting.remove(seat, request);
        request.arrival_key = key;
        self.waiting.push(seat, request);
    }

    /// Identifies the present occupant of a seat.
    pub fn generation(&self, seat: Seat) -> u32 {
        self.requests[seat as usize].generation
    }

    /// Id of the request in a seat.
    pub fn request_id(&self, seat: Seat) -> u64 {
        self.requests[seat as usize].id
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Requests that have ended here.
    pub fn ended_count(&self) -> u64 {
        self.ended_count
    }

    /// Changes whenever the standing decode set of a lane changes.
    pub fn version(&self, lane: usize) -> u64 {
        self.lanes[lane].version
    }

    /// The version of the decode set that the step planned last was made of.
    pub fn planned_version(&self) -> u64 {
        self.planned_version
    }

    /// Members whose token the next step to complete delivers.
    pub fn front_seqs(&self, lane: usize) -> u32 {
        self.lanes[lane].flights.front().map_or(0, |f| f.seqs)
    }

    /// When the members that the next step to complete serves again, after steps without them, got their last token.
    pub fn resumed(&self, lane: usize) -> impl Iterator<Item = Time> + '_ {
        let marks = self.lanes[lane].flights.front().into_iter().flat_map(|flight| &flight.resumed);
        marks.filter_map(|&(seat, generation)| {
            let request = &self.requests[seat as usize];
            (request.generation == generation && request.is_decoding()).then_some(request.last_token)
        })
    }

    /// Seats of the running list of a lane, in order.
    pub fn running_seats(&self, lane: usize) -> impl Iterator<Item = Seat> + '_ {
        self.lanes[lane].running.iter().map(|e| e.seat)
    }

    /// Whether a request is a member of its lane's standing decode set.
    pub fn is_member(&self, seat: Seat) -> bool {
        self.requests[seat as usize].phase == Phase::Decode
    }

    /// Waiting requests, preempted ones and those included whose KV comes up from a tier below.
    pub fn waiting(&self) -> u32 {
        self.waiting.len() as u32 + self.loads.len()
    }

    /// Since when the next request of the queue waits for its first step; `None` if none waits, or if it ran before it was preempted.
    pub fn next_since(&mut self) -> Option<Time> {
        let seat = self.waiting.head(&self.requests)?;
        let request = &self.requests[seat as usize];
        (!request.started).then_some(request.arrival)
    }

    /// Prefilled requests that wait for a lane that decodes.
    pub fn ready(&self) -> u32 {
        self.ready_len
    }

    /// Requests that hold blocks: running on any lane, ready for the next, or on their way here.
    pub fn running(&self) -> u32 {
        self.lanes.iter().map(|l| l.running.len() as u32).sum::<u32>() + self.ready_len + self.arriving
    }

    /// Whether a step of a lane could hold anything: a request decodes, has prompt left, or would be looked at.
    pub fn has_work(&self, lane: usize) -> bool {
        let running = self.lanes[lane].members > 0 || !self.lanes[lane].prefilling.is_empty();
        running || self.wants(lane)
    }

    /// Whether an idle lane would look at a request.
    pub fn wants(&self, lane: usize) -> bool {
        let waiting = self.waiting.len() > 0 && self.lanes[lane].work != LaneWork::Decode;
        waiting || (self.ready_len > 0 && self.lanes[lane].work != LaneWork::Prefill)
    }

    /// Unfinished requests.
    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Prompt tokens that are not computed yet: of the waiting requests, and what running ones have left of their prefill.
    pub fn pending_tokens(&self) -> u64 {
        let left = |&seat: &Seat| {
            let request = &self.requests[seat as usize];
            u64::from(request.target - request.kv.positions())
        };
        self.waiting_tokens + self.lanes.iter().flat_map(|lane| &lane.prefilling).map(left).sum::<u64>()
    }

    /// The pool, to follow which contents it caches.
    pub(crate) fn pool_mut(&mut self) -> &mut BlockPool {
        self.kv.pool_mut()
    }

    /// What became of requests under a budget; nothing, if there is none.
    pub fn retained(&self) -> &RetentionFigures {
        &self.retained
    }

    /// What no request holds is lost: the machine has failed or gone.
    pub(crate) fn forget(&mut self) {
        self.kv.forget();
    }

    /// Requests that there is memory for: the most that were here at once (law: memory grows with active requests only).
    pub fn seats(&self) -> usize {
        self.requests.len()
    }

    /// The block pool.
    pub fn pool(&self) -> &BlockPool {
        self.kv.pool()
    }

    /// The step planned last.
    pub fn step(&self) -> &PlannedStep {
        &self.step
    }

    /// Takes the oldest untold event.
    pub fn pop_happened(&mut self) -> Option<Happened> {
        self.happened.pop_front()
    }

    /// Steps planned and not completed on a lane.
    pub fn in_flight(&self, lane: usize) -> u64 {
        self.lanes[lane].in_flight()
    }

    /// Steps (with at least one token) planned on a lane so far.
    pub fn executed(&self, lane: usize) -> u64 {
        self.lanes[lane].executed
    }

    /// Tokens computed so far, cached ones not counted.
    pub fn computed_tokens(&self) -> u64 {
        self.computed_tokens
    }

    /// Plans the next step of a lane. Returns whether it holds any work; [`Replica::step`] has it.
    ///
    /// # Errors
    /// The scheduler asked for something impossible: a bug in it, fatal in every driver.
    pub fn plan(&mut self, lane: usize, now: Time, scheduler: &mut dyn Scheduler) -> Result<bool, Infeasible> {
        self.drain(lane);
        self.kv.free_cut();
        if self.kv.is_watched() {
            self.kv.at(now);
            self.kv.plans(Some((lane, self.lanes[lane].planned + 1)));
        }
        let mut step = std::mem::take(&mut self.step);
        step.clear();
        self.step = step;
        let mut builder = StepBuilder::new(self, lane, now);
        if builder.limits().lanes == Lanes::Decode {
            // They hold their blocks: nothing is to be decided about them.
            while let Some(next) = builder.next_ready() {
                builder.take_over(next.seat)?;
            }
        }
        let mut horizon = scheduler.plan(&mut builder)?;
        let busy = builder.commit();
        if self.kv.is_watched() {
            self.kv.plans(None);
            if self.kv.is_timed() {
                // What comes and goes depends on the time, and the scheduler promises nothing about that.
                horizon = Horizon::ONE;
            }
        }
        if self.limits.drafts.are_on() {
            // What a step gives its members is known when it is done.
            horizon = Horizon::ONE;
        }
        self.finished.clear();
        self.idled = false;
        self.step.horizon = horizon;
        self.note_progress(busy);
        Ok(busy)
    }

    /// Moves members whose last token is certainly in flight out of the standing set.
    fn drain(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        while let Some(seat) = lane.pop_planned_out(&self.requests) {
            let request = &mut self.requests[seat as usize];
            lane.leave(request);
            request.phase = Phase::Draining;
            let last = request.joined + u64::from(request.output - request.generated);
            lane.draining.push_back((last, seat, request.generation));
        }
    }

    /// How often the step just planned could be planned again.
    pub(crate) fn repeats_possible(&mut self, lane: usize) -> Repeats {
        let free = self.kv.free().saturating_sub(self.owed_blocks());
        let lane = &mut self.lanes[lane];
        Repeats {
            leave: lane.steps_to_first_leave(&self.requests),
            cut: if self.step.cuts { 0 } else { lane.steps_to_first_cut(&self.requests) },
            blocks: lane.steps_within(free),
        }
    }

    /// Blocks that requests in prefill, on any lane, still lack for their prompts.
    pub(crate) fn owed_blocks(&self) -> u64 {
        let prefilling = self.lanes.iter().flat_map(|lane| &lane.prefilling);
        let owed = prefilling.map(|&seat| {
            let request = &self.requests[seat as usize];
            let left = request.target - request.kv.positions();
            let most = self.limits.filled_slots((request.prompt, request.limit), request.target);
            self.kv.need(&request.kv, if request.kv.budget() == 0 { left } else { left.min(most - request.kv.kept()) })
        });
        owed.sum()
    }

    /// Plans the step just planned `times` more times, all at once. The step must hold the whole standing set and nothing else.
    pub fn repeat(&mut self, lane: usize, times: u64) {
        if times == 0 {
            return;
        }
        assert!(self.step_is_standing(lane), "law 13: only a pure decode step repeats");
        let growth = self.lanes[lane].growth_over(times);
        let members = u64::from(self.lanes[lane].members);
        if self.kv.tree().is_some() && self.kv.pool().idle() < growth + members {
            // Each step makes the room for itself, whole runs at a time.
            for _ in 0..times {
                self.kv.make_room(members);
                self.kv.take(self.lanes[lane].growth());
                self.lanes[lane].planned += 1;
            }
        } else if self.lanes[lane].is_hashing() {
            for _ in 0..times {
                self.kv.take(self.lanes[lane].growth());
                self.hash_members(lane);
                self.lanes[lane].planned += 1;
            }
        } else {
            self.kv.take(growth);
            self.lanes[lane].planned += times;
        }
        let lane = &mut self.lanes[lane];
        lane.cut(&self.requests);
        lane.executed += times;
        self.computed_tokens += times * u64::from(lane.members);
        let back = lane.flights.back_mut().expect("a repeated step is in flight");
        back.unfinished += times;
    }

    /// Counts tokens whose KV goes to the host. Most runs have none: it is not kept in the requests.
    pub(crate) fn note_swapped(&mut self, seat: Seat, tokens: u32) {
        if self.swapped.len() <= seat as usize {
            self.swapped.resize(seat as usize + 1, 0);
        }
        self.swapped[seat as usize] += u64::from(tokens);
    }

    fn step_is_standing(&self, lane: usize) -> bool {
        let flight = self.lanes[lane].flights.back();
        self.lanes[lane].prefilling.is_empty() && flight.is_none_or(|f| f.emits.is_empty())
    }

    /// Gives an identity to the blocks that members fill in the step planned at the current clock.
    pub(crate) fn hash_members(&mut self, lane: usize) {
        if !self.lanes[lane].is_hashing() {
            return;
        }
        let mut exhausted = Vec::new();
        self.kv.warm(self.lanes[lane].hashers_now().iter().filter_map(|entry| {
            let request = &self.requests[entry.seat as usize];
            request.content.as_ref()?.ids.get(request.kv.named().len()).copied()
        }));
        for &entry in self.lanes[lane].hashers_now() {
            let request = &mut self.requests[entry.seat as usize];
            let filled = self.lanes[lane].computed(request) + u32::from(self.lanes[lane].depth == 1);
            hash_to(&mut self.kv, entry.seat, request, filled);
            if request.content.as_ref().is_some_and(|c| c.ids.len() == request.kv.named().len()) {
                exhausted.push(entry.seat);
            }
        }
        for seat in exhausted {
            self.lanes[lane].stop_hashing(&self.requests[seat as usize]);
        }
    }
}

/// Gives the blocks among the first `tokens` tokens of a request their identity.
pub(crate) fn hash_to(kv: &mut KvStore, seat: Seat, request: &mut Request, tokens: u32) {
    if request.contents(tokens).len() > request.kv.named().len() {
        let user = request.user();
        kv.name(seat, &mut request.kv, known(request.content.as_deref(), tokens), user);
    }
}

#[cfg(test)]
mod tests;
