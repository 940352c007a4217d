//! Shrinking instead of preempting: when memory runs out, running requests keep fewer of their tokens.
//!
//! No engine offers it. It trades answers for computing: a request that is preempted computes all its tokens again, one that is shrunk
//! goes on with what it has left. What that costs in quality only a measured table can say.

use std::cmp::Reverse;

use super::StepBuilder;
use crate::kv::Seat;
use crate::kv::retention::PromptRule;
use crate::serving::request::Phase;

impl StepBuilder<'_> {
    /// Cuts the running request that has the most slots, of those that this step does not hold yet, to the budget for want of memory
    /// ([`Keep::shrink_to`]). `false` if there is no such budget, or it would free no block. A
    /// request that could never lose a token is left alone: it may share its blocks with others.
    ///
    /// [`Keep::shrink_to`]: crate::kv::retention::Keep::shrink_to
    pub fn shrink(&mut self) -> bool {
        let keep = self.limits().retention;
        let Some(to) = keep.shrink_to else { return false };
        let (lane, step) = (self.lane(), &self.replica.step);
        let candidates = lane.running.iter().filter_map(|entry| {
            let request = self.request(entry.seat);
            let cuts = match request.phase {
                Phase::Decode => !step.all_members && !step.decoded.contains(&entry.seat),
                Phase::Prefill => {
                    keep.prompt == PromptRule::EachChunk && step.chunks.iter().all(|chunk| chunk.seat != entry.seat)
                }
                _ => false,
            };
            let slots = lane.kept(request);
            let frees = self.replica.kv.blocks_for(slots) > self.replica.kv.blocks_for(to);
            (cuts && request.kv.budget() > to && frees).then_some((slots, Reverse(entry.seq), entry.seat))
        });
        // The longest, and of equals the one that came first.
        let Some((_, _, seat)) = candidates.max() else { return false };
        self.shrink_one(seat, to);
        true
    }

    fn shrink_one(&mut self, seat: Seat, to: u32) {
        let replica = &mut *self.replica;
        let request = &mut replica.requests[seat as usize];
        let lane = &mut replica.lanes[self.lane];
        let member = request.phase == Phase::Decode;
        if member {
            lane.step_out(request);
        }
        request.kv.limit(to);
        replica.kv.cut(seat, &mut request.kv, to);
        // What goes, goes before the step.
        replica.kv.free_cut();
        if member {
            lane.step_in(seat, request);
        }
        replica.retained.shrunk += 1;
    }
}
