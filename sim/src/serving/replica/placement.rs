//! What a driver with real memory must know of a planned step: which positions of which requests, and where blocks go.

use super::Replica;
use crate::kv::Seat;
use crate::kv::blocks::BlockMove;
use crate::serving::request::Phase;

/// A request's part of the step planned last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepPart {
    /// The request.
    pub seat: Seat,
    /// Distinguishes it from earlier requests on its seat.
    pub generation: u32,
    /// Tokens computed before the step.
    pub past: u32,
    /// Slots that hold the KV of those that are kept, and of those computed in the step.
    pub slots: u32,
    /// Tokens computed in it.
    pub tokens: u32,
    /// Whether the step gives it a token: it decodes, or its prefill ends.
    pub samples: bool,
}

impl Replica {
    /// The requests of the step that [`Replica::plan`] has just planned: prefill chunks as they were scheduled, then
    /// decoding members in running order.
    pub fn step_parts(&self, lane: usize) -> impl Iterator<Item = StepPart> + '_ {
        let lane = &self.lanes[lane];
        let chunks = self.step.chunks.iter().map(|chunk| {
            let request = &self.requests[chunk.seat as usize];
            let samples = chunk.past + chunk.tokens == request.target;
            let (seat, generation) = (chunk.seat, request.generation);
            let (past, tokens, slots) = (chunk.past, chunk.tokens, chunk.kept + chunk.tokens);
            StepPart { seat, generation, past, slots, tokens, samples }
        });
        // A member that joined by this step's prefill has the clock after it.
        let members = lane.running.iter().map(|entry| entry.seat).filter(|&seat| {
            let request = &self.requests[seat as usize];
            let member = request.phase == Phase::Decode && request.joined < lane.planned;
            member && (self.step.all_members || self.step.decoded.contains(&seat))
        });
        chunks.chain(members.map(|seat| {
            let request = &self.requests[seat as usize];
            let past = lane.computed(request) - 1;
            let slots = lane.kept_before(request) + 1;
            StepPart { seat, generation: request.generation, past, slots, tokens: 1, samples: true }
        }))
    }

    /// From now on [`Replica::take_block_moves`] returns what happens to blocks. Call before the first request.
    pub fn track_blocks(&mut self) {
        self.kv.pool_mut().track_moves();
    }

    /// Appends what has happened to blocks since the last call, in order.
    pub fn take_block_moves(&mut self, into: &mut Vec<BlockMove>) {
        self.kv.pool_mut().take_moves(into);
    }
}
