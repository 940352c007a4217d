//! A lane: a serial sequence of steps with a standing decode set.
//!
//! The decode set *stands* between steps: every member computes one token in every step, so nothing is stored per member
//! and step. A clock counts the steps in which the set ran; what a member has computed, generated and allocated follows
//! from the clock reading at which it joined. The clock has two frontiers:
//!
//! ```text
//!   done ──────── steps in flight (≤ depth) ──────── planned
//!   outputs delivered                      blocks allocated, next plan starts here
//! ```
//!
//! Blocks needed by a step come from a histogram of the members' residues modulo the block size, so that a plan costs its changes,
//! however large the set is.
//!
//! At depth 2 (vLLM's async scheduling, SGLang's overlap) step t+1 is planned on the state projected after step t: ends by length are
//! known in advance, an end-of-sequence token is seen one step late, and arrivals in between wait. Host time hides behind the
//! device only then.

mod slots;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::kv::{Pace, Seat};
use crate::serving::gaps::LongestSteps;
use crate::serving::replica::{CacheKind, LaneWork, Limits};
use crate::serving::request::{Phase, Request};
use crate::time::Time;
use slots::Slots;

/// One entry of the running list. `seq` ascends with admission, so the list is sorted by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Running {
    pub(crate) seq: u32,
    pub(crate) seat: Seat,
}

/// A planned step, or several equal ones, whose output is not processed yet.
#[derive(Clone, Default, Debug)]
pub(crate) struct Flight {
    /// Steps planned and not completed.
    pub(crate) unfinished: u64,
    /// Members whose token each of these steps delivers.
    pub(crate) seqs: u32,
    /// Requests (seat, generation) whose prefill ends in this step: it delivers a token of theirs.
    pub(crate) emits: Vec<(Seat, u32)>,
    /// Former members, preempted since: the token in flight is still delivered.
    pub(crate) late: Vec<(Seat, u32)>,
    /// Members that were left out of steps just before the first of these: its gap is longer for them.
    pub(crate) resumed: Vec<(Seat, u32)>,
}

/// (standing clock at which the event happens, seq, seat); stale entries are recognised by [`Lane::is_current`].
type Ending = Reverse<(u64, u32, Seat)>;

#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) work: LaneWork,
    /// Steps planned ahead: 1, or 2 when step t+1 is planned while t runs.
    pub(crate) depth: u32,
    pub(crate) running: Vec<Running>,
    /// Running requests with prefill left, in running order.
    pub(crate) prefilling: Vec<Seat>,
    /// Size of the standing set.
    pub(crate) members: u32,
    pub(crate) planned: u64,
    pub(crate) done: u64,
    /// Changes whenever the set does.
    pub(crate) version: u64,
    /// What they keep.
    slots: Slots,
    /// Whether members give blocks an identity while they decode.
    names: bool,
    /// Members that will give further blocks an identity, by the same residue; sorted by seq.
    hashers: Vec<Vec<Running>>,
    hashing: u32,
    by_length: BinaryHeap<Ending>,
    by_eos: BinaryHeap<Ending>,
    /// (clock at which the last token is delivered, seat, generation) of draining requests.
    pub(crate) draining: VecDeque<(u64, Seat, u32)>,
    pub(crate) flights: VecDeque<Flight>,
    pub(crate) spare: Vec<Flight>,
    /// Steps planned that scheduled at least one token.
    pub(crate) executed: u64,
    /// When the last completed step ended.
    pub(crate) last_done: Time,
    /// Members (seat, generation) that were left out of the step planned last.
    pub(crate) stalled: Vec<(Seat, u32)>,
    /// The longest steps of the running requests.
    pub(crate) longest: LongestSteps,
}

impl Lane {
    pub(crate) fn new(work: LaneWork, limits: &Limits) -> Self {
        let (depth, block_tokens) = (limits.depth, limits.block_tokens);
        Lane {
            work,
            depth,
            running: Vec::new(),
            prefilling: Vec::new(),
            members: 0,
            // Not 0: `settled` before the clock's start marks tokens that another lane has delivered.
            planned: 1,
            done: 1,
            version: 0,
            slots: Slots::new(Pace { block_tokens, every: limits.retention.every }, limits.drafts.are_on()),
            names: limits.cache == CacheKind::Blocks && !limits.drafts.are_on(),
            hashers: vec![Vec::new(); block_tokens as usize],
            hashing: 0,
            by_length: BinaryHeap::new(),
            by_eos: BinaryHeap::new(),
            draining: VecDeque::new(),
            flights: VecDeque::new(),
            spare: Vec::new(),
            executed: 0,
            last_done: Time::ZERO,
            stalled: Vec::new(),
            longest: LongestSteps::default(),
        }
    }

    /// Steps planned and not completed.
    pub(crate) fn in_flight(&self) -> u64 {
        self.flights.iter().map(|f| f.unfinished).sum()
    }

    /// Slots attended by the set in the next planned step, the current token of each member included.
    pub(crate) fn context(&self) -> u64 {
        self.slots.attended(self.planned)
    }

    /// Members whose slots grow from step to step.
    pub(crate) fn growing(&self) -> u32 {
        self.slots.growing()
    }

    /// Blocks that the set needs in the step planned at some clock.
    pub(crate) fn growth_at(&self, clock: u64) -> u64 {
        self.slots.growth_at(clock)
    }

    /// Blocks that the set needs in the next planned step.
    pub(crate) fn growth(&self) -> u64 {
        self.growth_at(self.planned)
    }

    /// Blocks that the set needs in the next `steps` planned steps.
    pub(crate) fn growth_over(&self, steps: u64) -> u64 {
        self.slots.growth_between(self.planned, self.planned + steps)
    }

    /// Visits the steps planned from one clock to another that need blocks: the clock and how many.
    pub(crate) fn each_growth(&self, from: u64, to: u64, tell: impl FnMut(u64, u64)) {
        self.slots.each_growth(from, to, tell);
    }

    /// Of `used` blocks now, how many are in use when the frontier of planned steps is at `clock`; the set stays.
    pub(crate) fn used_at(&self, clock: u64, used: u64) -> u64 {
        if clock < self.planned {
            used - self.slots.growth_between(clock, self.planned)
        } else {
            used + self.slots.growth_between(self.planned, clock)
        }
    }

    /// How many further steps of the set fit into `free` blocks.
    pub(crate) fn steps_within(&self, free: u64) -> u64 {
        self.slots.steps_within(self.planned, free)
    }

    /// Slots and blocks of a request; a member's as it would settle.
    fn held(&self, request: &Request) -> (u32, u32) {
        match request.phase {
            Phase::Decode => request.kv.after(self.planned - request.joined, self.slots.pace()),
            _ => (request.kv.kept(), request.kv.blocks() as u32),
        }
    }

    /// Blocks that a request holds; a member's as it would settle.
    pub(crate) fn blocks(&self, request: &Request) -> u64 {
        u64::from(self.held(request).1)
    }

    /// Slots of a member before the step planned last.
    pub(crate) fn kept_before(&self, request: &Request) -> u32 {
        request.kv.after(self.planned - 1 - request.joined, self.slots.pace()).0
    }

    /// Slots of a request; a member's as it would settle.
    pub(crate) fn kept(&self, request: &Request) -> u32 {
        self.held(request).0
    }

    /// Whether a member needs a block in the next planned step.
    pub(crate) fn needs_block(&self, request: &Request) -> bool {
        self.slots.needs_block(request, self.planned)
    }

    /// Tokens of a member whose KV is planned so far.
    pub(crate) fn computed(&self, request: &Request) -> u32 {
        match request.phase {
            Phase::Decode => request.kv.positions() + (self.planned - request.joined) as u32,
            _ => request.kv.present(),
        }
    }

    /// Output tokens delivered so far.
    pub(crate) fn generated(&self, request: &Request) -> u32 {
        match request.phase {
            Phase::Decode | Phase::Draining if self.done >= request.joined => {
                request.generated + (self.done - request.joined) as u32
            }
            // More are in flight than it has only where a device was lost with two steps in flight.
            Phase::Decode | Phase::Draining => {
                request.generated.saturating_sub(request.settled.saturating_sub(self.done) as u32)
            }
            _ => request.generated,
        }
    }

    /// Output tokens delivered or in flight.
    pub(crate) fn generated_planned(&self, request: &Request) -> u32 {
        match request.phase {
            Phase::Decode => request.generated + (self.planned - request.joined) as u32,
            Phase::Draining => request.limit,
            _ => request.generated,
        }
    }

    /// Clock at which a member's last token is delivered.
    fn ends_at(request: &Request) -> u64 {
        if request.output > request.generated {
            return request.joined + u64::from(request.output - request.generated);
        }
        // Its last token was in flight when it joined, or when it was left out of a step.
        request.settled
    }

    /// Adds a request whose KV (planned) and `generated` (in flight included) are set to the standing set.
    pub(crate) fn join(&mut self, seat: Seat, request: &mut Request) {
        request.phase = Phase::Decode;
        request.joined = self.planned;
        request.settled = self.planned;
        self.enter(seat, request);
    }

    /// Adds a request that another lane has brought so far, all its tokens delivered. Its next gap is its own.
    pub(crate) fn take_over(&mut self, seat: Seat, request: &mut Request) {
        request.phase = Phase::Decode;
        request.joined = self.planned;
        request.settled = 0;
        self.stalled.push((seat, request.generation));
        self.enter(seat, request);
    }

    #[inline]
    fn enter(&mut self, seat: Seat, request: &Request) {
        self.members += 1;
        self.version += 1;
        self.slots.enter(seat, request);
        let residue = self.slots.residue(request);
        if self.names && request.content.as_ref().is_some_and(|c| request.kv.named().len() < c.ids.len()) {
            let entry = Running { seq: request.seq, seat };
            let list = &mut self.hashers[residue];
            let at = list.partition_point(|e| e.seq < entry.seq);
            list.insert(at, entry);
            self.hashing += 1;
        }
        self.expect_end(seat, request);
    }

    /// Writes down when a member ends.
    #[inline]
    fn expect_end(&mut self, seat: Seat, request: &Request) {
        if request.output > request.generated {
            let ending = Reverse((Self::ends_at(request), request.seq, seat));
            if request.ends_by_length() {
                self.by_length.push(ending);
            } else {
                self.by_eos.push(ending);
            }
        }
    }

    /// Gives the running requests the order of `order`, which names each of them once.
    pub(crate) fn line_up(&mut self, order: &[Seat], requests: &mut [Request]) {
        assert!(!self.is_hashing(), "members that name blocks keep their order");
        let seqs: Vec<u32> = self.running.iter().map(|entry| entry.seq).collect();
        self.running = seqs.into_iter().zip(order).map(|(seq, &seat)| Running { seq, seat }).collect();
        for entry in self.running.clone() {
            let request = &mut requests[entry.seat as usize];
            if std::mem::replace(&mut request.seq, entry.seq) != entry.seq && request.phase == Phase::Decode {
                self.expect_end(entry.seat, request);
            }
        }
        self.prefilling.sort_unstable_by_key(|&seat| requests[seat as usize].seq);
        self.version += 1;
    }

    /// Takes a member out of the set; what it holds is written down, `joined`, `settled` and `generated` stay.
    #[inline]
    pub(crate) fn leave(&mut self, request: &mut Request) {
        self.leave_at(self.planned, request);
    }

    /// The same for a member that was part of the steps before a clock only.
    #[inline]
    fn leave_at(&mut self, clock: u64, request: &mut Request) {
        assert_eq!(request.phase, Phase::Decode, "law 4: only members leave the decode set");
        self.members -= 1;
        self.version += 1;
        self.slots.leave(request, clock);
        if self.hashing > 0 {
            let list = &mut self.hashers[self.slots.residue(request)];
            if let Ok(at) = list.binary_search_by_key(&request.seq, |e| e.seq) {
                list.remove(at);
                self.hashing -= 1;
            }
        }
        request.kv.settle_steps(clock - request.joined, self.slots.pace());
    }

    /// Records that a member was left out of the step just planned (clock already advanced).
    pub(crate) fn skip(&mut self, seat: Seat, request: &mut Request) {
        let before = self.planned - 1;
        self.note_last_token(request);
        self.stalled.push((seat, request.generation));
        self.leave_at(before, request);
        if before > request.joined {
            request.generated += (before - request.joined) as u32;
            request.settled = before;
        }
        request.joined = self.planned;
        self.enter(seat, request);
    }

    /// Takes a member out of the set for a change of what it keeps; [`Lane::step_in`] brings it back within the same plan.
    pub(crate) fn step_out(&mut self, request: &mut Request) {
        self.note_last_token(request);
        let steps = self.planned - request.joined;
        self.leave(request);
        if steps > 0 {
            request.generated += steps as u32;
            request.settled = self.planned;
        }
        request.joined = self.planned;
    }

    /// Brings it back: it misses no step.
    pub(crate) fn step_in(&mut self, seat: Seat, request: &mut Request) {
        self.enter(seat, request);
    }

    /// Writes down when a request's last token was delivered, before it leaves the standing set or misses a step of it. One
    /// that has got none since it joined keeps what it has.
    pub(crate) fn note_last_token(&self, request: &mut Request) {
        let as_member = self.done > request.joined;
        let by_prefill = self.done == request.joined && request.settled == request.joined;
        if as_member || by_prefill {
            request.last_token = self.last_done;
        }
    }

    /// Writes down, for members that miss steps, a token that was in flight when they did and has now been delivered.
    pub(crate) fn note_late_tokens(&self, requests: &mut [Request]) {
        let marks = self.flights.iter().flat_map(|flight| &flight.resumed).chain(&self.stalled);
        for &(seat, generation) in marks {
            let request = &mut requests[seat as usize];
            if request.generation == generation && request.is_decoding() && request.settled == self.done {
                request.last_token = self.last_done;
            }
        }
    }

    /// Whether some member may still give blocks an identity while decoding.
    pub(crate) fn is_hashing(&self) -> bool {
        self.hashing > 0
    }

    /// Members whose block identities may grow in the step planned at the current clock.
    pub(crate) fn hashers_now(&self) -> &[Running] {
        // At depth 1 the token that fills a block is known when its step is planned; at depth 2 one step later.
        let filled = if self.depth == 1 { self.planned + 1 } else { self.planned };
        &self.hashers[(filled % self.slots.cycle()) as usize]
    }

    /// Drops a member from the hashers once all its known contents are hashed.
    pub(crate) fn stop_hashing(&mut self, request: &Request) {
        let list = &mut self.hashers[self.slots.residue(request)];
        if let Ok(at) = list.binary_search_by_key(&request.seq, |e| e.seq) {
            list.remove(at);
            self.hashing -= 1;
        }
    }

    fn is_current(requests: &[Request], (at, seq, seat): (u64, u32, Seat)) -> bool {
        let request = &requests[seat as usize];
        request.phase == Phase::Decode && request.seq == seq && Self::ends_at(request) == at
    }

    /// The clock of the first ending in `heap`, stale entries dropped.
    fn first_ending(heap: &mut BinaryHeap<Ending>, requests: &[Request]) -> Option<(u64, Seat)> {
        while let Some(&Reverse(ending)) = heap.peek() {
            if Self::is_current(requests, ending) {
                return Some((ending.0, ending.2));
            }
            heap.pop();
        }
        None
    }

    /// A member whose last token (by length) is planned, if there is one.
    pub(crate) fn pop_planned_out(&mut self, requests: &[Request]) -> Option<Seat> {
        let (at, seat) = Self::first_ending(&mut self.by_length, requests)?;
        (at <= self.planned).then(|| {
            self.by_length.pop();
            seat
        })
    }

    /// A member whose end-of-sequence token has been delivered, if there is one.
    pub(crate) fn pop_ended(&mut self, requests: &[Request]) -> Option<Seat> {
        let (at, seat) = Self::first_ending(&mut self.by_eos, requests)?;
        (at <= self.done).then(|| {
            let ending = self.by_eos.pop();
            // One that was lined up anew and back stands there twice.
            while self.by_eos.peek() == ending.as_ref() {
                self.by_eos.pop();
            }
            seat
        })
    }

    /// Steps that may be planned from here before a member leaves the set.
    pub(crate) fn steps_to_first_leave(&mut self, requests: &[Request]) -> u64 {
        let ahead = u64::from(self.depth) - 1;
        let length = Self::first_ending(&mut self.by_length, requests).map(|(at, _)| at);
        let eos = Self::first_ending(&mut self.by_eos, requests).map(|(at, _)| at + ahead);
        let first = length.into_iter().chain(eos).min().unwrap_or(u64::MAX);
        first.saturating_sub(self.planned)
    }

    /// Steps that may be planned from here before tokens of a member go.
    pub(crate) fn steps_to_first_cut(&mut self, requests: &[Request]) -> u64 {
        self.slots.next_cut_at(requests).map_or(u64::MAX, |at| at - self.planned)
    }

    /// Tokens of members go whose budgets say so, now that the clock has advanced. Returns whether the next step does not go on where
    /// the one before it ended.
    #[inline]
    pub(crate) fn cut(&mut self, requests: &[Request]) -> bool {
        self.slots.cut(requests, self.planned)
    }

    /// Completed steps until the next delivery that ends a request of the set or a draining one; `None` if none is known.
    pub(crate) fn steps_to_first_end(&mut self, requests: &[Request]) -> Option<u64> {
        while let Some(&(_, seat, generation)) = self.draining.front() {
            let request = &requests[seat as usize];
            if request.generation == generation && request.phase == Phase::Draining {
                break;
            }
            self.draining.pop_front();
        }
        let draining = self.draining.front().map(|d| d.0);
        let eos = Self::first_ending(&mut self.by_eos, requests).map(|(at, _)| at);
        draining.into_iter().chain(eos).min().map(|at| at - self.done)
    }

    /// Takes a request that ends, early or by an end-of-sequence token, out of the deliveries in flight.
    pub(crate) fn forget_in_flight(&mut self, seat: Seat, request: &Request) {
        // A member was planned into every step since it joined, even after the last token that it needs.
        let last = if request.phase == Phase::Decode { u64::MAX } else { Self::ends_at(request) };
        let mut clock = self.done;
        for flight in &mut self.flights {
            let before = clock;
            clock += flight.unfinished;
            let as_member = clock > request.joined && before < last;
            // Left out since, or changed in what it keeps, but not of the step that delivers its latest token.
            let as_skipped = request.settled <= request.joined && before < request.settled && request.settled <= clock;
            if as_member || (as_skipped && !flight.emits.contains(&(seat, request.generation))) {
                flight.seqs -= 1;
            }
        }
    }

    /// Takes a request that is preempted out of the step in flight, of which it gets a token. It still gets it, on its own, or the
    /// token is thrown away.
    pub(crate) fn take_back(&mut self, mark: (Seat, u32), delivers: bool) {
        let flight = self.flights.back_mut().expect("a pending token is in flight");
        match flight.emits.iter().position(|&emit| emit == mark) {
            Some(_) if delivers => {}
            Some(at) => {
                flight.emits.remove(at);
            }
            None => {
                flight.seqs -= 1;
                if delivers {
                    flight.late.push(mark);
                }
            }
        }
    }

    /// Position in the running list.
    pub(crate) fn position(&self, seq: u32) -> usize {
        self.running.binary_search_by_key(&seq, |e| e.seq).expect("a running request is in the running list")
    }

    /// Law 1 and 2 for the set: every derived number equals its sum over the running list.
    ///
    /// # Errors
    /// What disagrees.
    pub(crate) fn audit(&self, requests: &[Request]) -> Result<(), String> {
        let (mut members, mut prefilling) = (Vec::new(), Vec::new());
        for pair in self.running.windows(2) {
            if pair[0].seq >= pair[1].seq {
                return Err("running list out of order".into());
            }
        }
        for entry in &self.running {
            let request = &requests[entry.seat as usize];
            if request.seq != entry.seq {
                return Err(format!("running entry of request {} is stale", request.id));
            }
            match request.phase {
                Phase::Decode => members.push(request),
                Phase::Prefill => prefilling.push(entry.seat),
                Phase::Draining | Phase::Prefilled => {}
                phase => return Err(format!("request {} runs in phase {phase:?}", request.id)),
            }
        }
        if members.len() != self.members as usize || prefilling != self.prefilling {
            return Err(format!(
                "standing set disagrees with the running list: {} members, {} kept",
                members.len(),
                self.members
            ));
        }
        self.slots.audit(members.into_iter(), self.planned)?;
        if self.planned < self.done || self.planned - self.done != self.in_flight() {
            return Err(format!("clock: {} planned, {} done, {} in flight", self.planned, self.done, self.in_flight()));
        }
        Ok(())
    }
}
