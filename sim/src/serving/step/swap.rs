//! Preemption by swap: KV that goes to the host's memory and comes back, instead of being computed again.
//!
//! The copies are issued before the step and lengthen it ([`Limits::swap`]); the blocks are free at once, as in vLLM v0.
//!
//! [`Limits::swap`]: crate::serving::replica::Limits::swap

use super::{Fate, Head, StepBuilder};
use crate::kv::Seat;
use crate::serving::lane::Running;
use crate::serving::replica::Happened;
use crate::serving::request::Phase;
use crate::serving::step::Infeasible;

impl StepBuilder<'_> {
    /// Preempts a running request and keeps its KV on the host; `false` if the host has no room for it. In first-come order it
    /// waits in front of all that were never swapped, behind those that were.
    ///
    /// # Errors
    /// The request is not running, is part of this step already, or has a token in flight; or blocks are shared, which a swap
    /// does not know.
    pub fn swap_out(&mut self, seat: Seat) -> Result<bool, Infeasible> {
        let request = self.request(seat);
        let lane = self.lane();
        let held = lane.computed(request);
        let in_flight = lane.generated_planned(request) > lane.generated(request);
        let in_step = self.replica.step.decoded.contains(&seat)
            || self.replica.step.chunks.iter().any(|c| c.seat == seat)
            || (self.replica.step.all_members && request.phase == Phase::Decode);
        if in_step || in_flight || self.limits().prefix_caching {
            return Err(Infeasible(format!("request {} cannot be swapped out now", request.id)));
        }
        let blocks = lane.blocks(request);
        if !self.replica.kv.has_room(blocks) {
            return Ok(false);
        }
        self.take_off(seat, Fate::Host)?;
        let replica = &mut *self.replica;
        // Its prompt is computed already.
        replica.waiting_tokens -= u64::from(replica.requests[seat as usize].prompt);
        replica.note_swapped(seat, held);
        replica.step.swapped_blocks += blocks;
        replica.waiting.push_swapped(seat, &replica.requests[seat as usize]);
        Ok(true)
    }

    /// Takes back a waiting request whose KV is on the host: it runs on where it stopped, from this step on. Call before
    /// [`StepBuilder::decode_all`].
    ///
    /// # Errors
    /// It has nothing on the host, is not next, or its blocks are not free.
    pub fn swap_in(&mut self, head: &Head) -> Result<(), Infeasible> {
        let seat = head.request.seat;
        let held = self.request(seat).kv.below();
        let blocks = self.request(seat).kv.blocks();
        let waits = self.request(seat).is_waiting() && held > 0 && !self.replica.step.all_members;
        let replica = &mut *self.replica;
        if !waits || blocks > replica.kv.free() || !replica.waiting.take(seat, &replica.requests) {
            return Err(Infeasible(format!("request {} cannot be swapped in now", head.request.id)));
        }
        replica.step.swapped_blocks += blocks;
        let request = &mut replica.requests[seat as usize];
        replica.kv.swap_in(&mut request.kv);
        request.lost = 0;
        request.seq = replica.next_seq;
        replica.next_seq = replica.next_seq.checked_add(1).expect("fewer than 2³² admissions per replica");
        let lane = &mut replica.lanes[self.lane];
        lane.running.push(Running { seq: request.seq, seat });
        if held < request.target {
            request.phase = Phase::Prefill;
            lane.prefilling.push(seat);
        } else {
            lane.take_over(seat, request);
        }
        replica.happened.push_back(Happened::Admitted { request: request.id });
        Ok(())
    }

    /// Blocks that waiting requests hold on the host.
    pub fn swapped_blocks(&self) -> u64 {
        self.replica.kv.swapped()
    }
}
