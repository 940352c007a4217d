//! Admission: the head of the waiting queue, what it takes to hold it, and its way into the running list.

use super::{Head, Infeasible, StepBuilder};
use crate::kv::Seat;
use crate::serving::lane::Running;
use crate::serving::replica::{Admission, Chunk, Fetch, Happened, LaneWork, hash_to};
use crate::serving::request::{Phase, known};

impl StepBuilder<'_> {
    /// The request that is next in the waiting queue. If KV of it lies in a tier below and is to be loaded, that begins now, and the
    /// next one is returned; while there is no room to load into, none is.
    #[inline]
    pub fn head(&mut self) -> Option<Head> {
        if self.replica.kv.has_tiers() {
            return self.head_above_tiers();
        }
        let seat = self.replica.waiting.head(&self.replica.requests)?;
        Some(self.waiting_request(seat))
    }

    fn head_above_tiers(&mut self) -> Option<Head> {
        loop {
            let seat = self.replica.waiting.head(&self.replica.requests)?;
            match self.replica.fetch(seat) {
                Fetch::Nothing => return Some(self.waiting_request(seat)),
                Fetch::Begun => {}
                Fetch::NoRoom => return None,
            }
        }
    }

    /// A waiting request with its prefix-cache hit.
    #[inline]
    pub(super) fn waiting_request(&self, seat: Seat) -> Head {
        let request = self.request(seat);
        let tokens = request.prompt + request.generated;
        let hit = self.replica.kv.pool().lookup(request.contents(tokens - 1));
        Head { request: self.view(seat), tokens, cached: hit.blocks * self.limits().block_tokens, hit }
    }

    /// Free blocks it takes to give the head its first `tokens` tokens in one step, the cached ones included.
    pub fn blocks_to_hold(&self, head: &Head, tokens: u32) -> u64 {
        self.replica.kv.blocks_for(tokens) - u64::from(head.hit.blocks) + u64::from(head.hit.free)
    }

    /// Free blocks it takes to compute all of the head, the cached ones included.
    pub fn blocks_to_compute(&self, head: &Head) -> u64 {
        self.blocks_of(head, head.tokens) - u64::from(head.hit.blocks) + u64::from(head.hit.free)
    }

    /// Admits the head (in the order of keys: any waiting request) and computes `tokens` tokens of it after its cached ones.
    ///
    /// # Errors
    /// It is not the head, has no such tokens, its blocks are not free, or its KV is on the host.
    pub fn admit(&mut self, head: &Head, tokens: u32) -> Result<(), Infeasible> {
        let seat = head.request.seat;
        if self.work() == LaneWork::Decode {
            return Err(Infeasible(format!("request {} cannot be admitted to a lane that decodes", head.request.id)));
        }
        let need = self.blocks_to_hold(head, head.cached + tokens);
        let impossible = tokens == 0 || head.cached + tokens > head.tokens || head.request.on_host > 0;
        if impossible || need > self.free_blocks() {
            return Err(Infeasible(format!(
                "request {} cannot be admitted with {tokens} tokens: {need} blocks needed, {} free",
                head.request.id,
                self.free_blocks()
            )));
        }
        self.take_in(seat, head.tokens, head.cached)?;
        let replica = &mut *self.replica;
        let request = &mut replica.requests[seat as usize];
        if head.cached > 0 {
            let user = request.user();
            replica.kv.adopt(seat, &mut request.kv, known(request.content.as_deref(), head.cached), user);
        }
        replica.kv.grow(&mut request.kv, tokens);
        hash_to(&mut replica.kv, seat, request, head.cached + tokens);
        replica.step.chunks.push(Chunk { seat, tokens, past: head.cached, kept: head.cached });
        Ok(())
    }

    /// Takes a request from the queue into the running list, with `cached` of its `tokens` computed.
    #[inline]
    pub(super) fn take_in(&mut self, seat: Seat, tokens: u32, cached: u32) -> Result<(), Infeasible> {
        let replica = &mut *self.replica;
        let waits = replica.requests[seat as usize].is_waiting();
        if !waits || !replica.waiting.take(seat, &replica.requests) {
            let id = replica.requests[seat as usize].id;
            return Err(Infeasible(format!("request {id} is not at the head of the queue")));
        }
        let request = &mut replica.requests[seat as usize];
        replica.waiting_tokens -= u64::from(request.prompt);
        request.target = tokens;
        if replica.kv.is_watched() {
            let found = cached / replica.limits.block_tokens;
            replica.kv.admitted(known(request.content.as_deref(), tokens - 1), found);
        }
        let keep = &replica.limits.retention;
        if keep.cuts(request.prompt, request.prompt.saturating_add(request.limit)) {
            // One that was shrunk before it was preempted has a smaller one already.
            let budget = if request.kv.budget() == 0 { keep.budget } else { request.kv.budget().min(keep.budget) };
            request.kv.limit(budget);
        }
        request.phase = Phase::Prefill;
        request.lane = self.lane as u8;
        request.seq = replica.next_seq;
        replica.next_seq = replica.next_seq.checked_add(1).expect("fewer than 2³² admissions per replica");
        request.loaded = false;
        let resumed = request.preemptions > 0;
        replica.own_waiting -= u32::from(resumed && replica.limits.prefix_caching);
        if !request.started {
            request.started = true;
            request.start = self.now;
            request.cached = cached;
        }
        request.recomputed += u64::from(request.lost.saturating_sub(cached));
        request.lost = 0;
        let lane = &mut replica.lanes[self.lane];
        lane.running.push(Running { seq: request.seq, seat });
        lane.prefilling.push(seat);
        replica.step.admitted.push(Admission { seat, cached, resumed });
        replica.happened.push_back(Happened::Admitted { request: request.id });
        Ok(())
    }
}
