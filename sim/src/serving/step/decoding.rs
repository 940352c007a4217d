//! Decoding: a step of all members, or of some, with the drafts that it verifies where the replica speculates.

use super::{Infeasible, StepBuilder};
use crate::kv::Seat;
use crate::serving::lane::Lane;
use crate::serving::replica::{Limits, Replica, hash_to};
use crate::serving::request::{Phase, Request};

impl Replica {
    /// Blocks that a member lacks for its current token, the drafts behind it, and what a draft model writes.
    fn lacks_ahead(limits: &Limits, lane: &Lane, request: &Request) -> u64 {
        let slots = limits.slots_ahead(lane.kept(request));
        u64::from(slots.div_ceil(limits.block_tokens)).saturating_sub(request.kv.blocks())
    }

    /// Gives a member the blocks of a step that verifies drafts of it. Of its tokens, those that are known get their identity in the
    /// cache: drafts are not.
    fn reserve_ahead(&mut self, lane: usize, seat: Seat) {
        let lane = &self.lanes[lane];
        let request = &mut self.requests[seat as usize];
        let slots = self.limits.slots_ahead(lane.kept(request));
        self.kv.reserve(&mut request.kv, slots);
        let known = lane.computed(request) + 1;
        hash_to(&mut self.kv, seat, request, known);
    }
}

impl StepBuilder<'_> {
    /// Tokens that a step computes of each member: 1, and the drafts that it verifies.
    pub fn member_queries(&self) -> u32 {
        self.limits().drafts.queries()
    }

    /// Blocks the standing set needs for one step.
    pub fn member_blocks(&self) -> u64 {
        if !self.limits().drafts.are_on() {
            return self.lane().growth();
        }
        let lane = self.lane();
        let members = lane.running.iter().map(|entry| self.request(entry.seat));
        let members = members.filter(|request| request.phase == Phase::Decode);
        members.map(|request| Replica::lacks_ahead(self.limits(), lane, request)).sum()
    }

    /// Decodes one token of every member of the standing set, and verifies its drafts where the replica speculates. Check
    /// [`StepBuilder::member_blocks`] first.
    ///
    /// # Errors
    /// There are not enough blocks.
    pub fn decode_all(&mut self) -> Result<(), Infeasible> {
        let need = self.member_blocks();
        if need > self.free_blocks() {
            return Err(Infeasible(format!("decoding all needs {need} blocks, {} are free", self.free_blocks())));
        }
        // A tree of cached runs makes room for a block of each member, even where few need one.
        self.replica.kv.make_room(need.max(u64::from(self.members())));
        if self.limits().drafts.are_on() {
            for at in 0..self.running() {
                let seat = self.lane().running[at].seat;
                if self.request(seat).phase == Phase::Decode {
                    self.replica.reserve_ahead(self.lane, seat);
                }
            }
        } else {
            self.replica.kv.take(need);
            self.replica.hash_members(self.lane);
        }
        let lane = &self.replica.lanes[self.lane];
        let step = &mut self.replica.step;
        step.all_members = true;
        step.decode_seqs = lane.members;
        step.decode_context = if lane.members == 0 { 0 } else { lane.context() };
        Ok(())
    }

    /// Decodes one token of one member, and verifies its drafts where the replica speculates; `false` if its blocks are not free.
    ///
    /// # Errors
    /// The request is not a member.
    pub fn decode(&mut self, seat: Seat) -> Result<bool, Infeasible> {
        let lane = &self.replica.lanes[self.lane];
        let request = &mut self.replica.requests[seat as usize];
        if request.phase != Phase::Decode || usize::from(request.lane) != self.lane {
            return Err(Infeasible(format!("request {} cannot decode in phase {:?}", request.id, request.phase)));
        }
        if self.replica.limits.drafts.are_on() {
            if Replica::lacks_ahead(&self.replica.limits, lane, request) > self.replica.kv.free() {
                return Ok(false);
            }
            self.replica.reserve_ahead(self.lane, seat);
        } else {
            if lane.needs_block(request) {
                if self.replica.kv.free() == 0 {
                    return Ok(false);
                }
                self.replica.kv.take(1);
            }
            let computed = lane.computed(request);
            hash_to(&mut self.replica.kv, seat, request, computed + u32::from(lane.depth == 1));
        }
        let (lane, request) = (self.lane(), self.request(seat));
        let slots = u64::from(lane.kept(request)) + 1;
        let step = &mut self.replica.step;
        step.decoded.push(seat);
        step.decode_seqs += 1;
        step.decode_context += slots;
        Ok(true)
    }
}
