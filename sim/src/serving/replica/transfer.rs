//! Requests that move between replicas: prompts computed here, decoded there.

use super::Replica;
use super::leak::Leak;
use crate::kv::{KvHolding, Seat, User};
use crate::results::rows::Outcome;
use crate::serving::request::{Phase, Request, known};
use crate::time::Time;

/// KV that is being sent away: its blocks stay in use until it has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    request: u64,
    pub(crate) kv: KvHolding,
}

impl Replica {
    /// The next request whose prompt is computed, for another replica; it stays until [`Replica::depart`].
    pub(crate) fn pop_prefilled(&mut self) -> Option<(Seat, u32)> {
        while let Some((seat, generation)) = self.ready.pop_front() {
            if self.is_ready(seat, generation) {
                return Some((seat, generation));
            }
        }
        None
    }

    /// Whether blocks here belong to requests on their way, which will free them without a step.
    pub(crate) fn has_transfers(&self) -> bool {
        self.ready_len + self.arriving + self.loads.len() > 0 || !self.outgoing.is_empty()
    }

    /// Whether the request is still there to be sent.
    pub(crate) fn is_ready(&self, seat: Seat, generation: u32) -> bool {
        let request = &self.requests[seat as usize];
        request.generation == generation && request.phase == Phase::Ready
    }

    /// Tokens whose KV a request keeps, and when it was first part of a step.
    pub(crate) fn held(&self, seat: Seat) -> (u32, Time) {
        let request = &self.requests[seat as usize];
        (request.kv.kept(), request.start)
    }

    /// Whether a request with that many tokens of KV can be received: nothing waits here, and its blocks are free.
    pub(crate) fn can_receive(&self, tokens: u32) -> bool {
        self.waiting() == 0 && self.kv.blocks_for(tokens) <= self.kv.free()
    }

    /// A request leaves; its KV is on its way until [`Replica::sent`].
    pub(crate) fn depart(&mut self, seat: Seat) -> Request {
        let request = &mut self.requests[seat as usize];
        assert_eq!(request.phase, Phase::Ready, "law 4: a request departs after its prompt");
        let kv = std::mem::take(&mut request.kv);
        let moved = Request { content: request.content.take(), kv: kv.travelling(), ..request.clone() };
        self.outgoing.push(Outgoing { request: request.id, kv });
        self.progress.forget(seat);
        request.phase = Phase::Vacant;
        request.generation = request.generation.wrapping_add(1);
        self.vacant.push(seat);
        self.ready_len -= 1;
        self.outstanding -= 1;
        moved
    }

    /// The KV of a request that has left is not needed here any more.
    pub(crate) fn sent(&mut self, request: u64) {
        let at = self.outgoing.iter().position(|o| o.request == request).expect("a transfer that ends was under way");
        self.kv.free_blocks(&mut self.outgoing.swap_remove(at).kv);
        self.leaks(Leak::Sent);
    }

    /// Makes room for a request whose KV is on its way here.
    pub(crate) fn receive(&mut self, mut request: Request) -> Seat {
        self.kv.place(&mut request.kv);
        let tokens = request.kv.positions();
        request.phase = Phase::Arriving;
        request.lane = 0;
        self.arriving += 1;
        let seat = self.settle_in(request);
        let request = &mut self.requests[seat as usize];
        // It has asked for nothing here: what it brings is new.
        let user = User { asked: 0, ..request.user() };
        self.kv.name(seat, &mut request.kv, known(request.content.as_deref(), tokens), user);
        seat
    }

    /// Ends a request whose client went, or whose replica failed, while its KV was on the way.
    pub(super) fn end_doomed(&mut self, seat: Seat, now: Time) {
        let generation = self.requests[seat as usize].generation;
        let at = self.doomed.iter().position(|d| (d.0, d.1) == (seat, generation));
        let outcome = at.map_or(Outcome::Failed, |at| self.doomed.swap_remove(at).2);
        self.end(seat, outcome, now);
    }

    /// The KV of a request is here.
    pub(crate) fn land(&mut self, seat: Seat, now: Time) {
        let request = &mut self.requests[seat as usize];
        assert_eq!(request.phase, Phase::Arriving, "law 4: a request lands that was under way");
        if request.doomed {
            return self.end_doomed(seat, now);
        }
        request.phase = Phase::Ready;
        self.arriving -= 1;
        self.ready_len += 1;
        self.ready.push_back((seat, request.generation));
    }
}
