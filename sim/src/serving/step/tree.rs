//! What SGLang's scheduler does beyond others: it looks up prefixes that change by being looked at, admits first and allocates
//! later, frees memory before it is needed, throws tokens in flight away, and lines up the running requests anew.

use super::{Fate, RequestView, StepBuilder};
use crate::kv::Seat;
use crate::kv::radix::Place;
use crate::results::rows::Outcome;
use crate::serving::replica::{LaneWork, publish};
use crate::serving::request::Phase;
use crate::serving::step::Infeasible;

/// A waiting request and what the prefix cache has of it. Valid until something is evicted.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    /// The request.
    pub request: RequestView,
    /// Tokens it must have computed before it decodes.
    pub tokens: u32,
    /// Tokens served by the cache: whole blocks.
    pub cached: u32,
    place: Place,
}

impl StepBuilder<'_> {
    /// Free blocks that hold no content.
    pub fn idle_blocks(&self) -> u64 {
        self.replica.kv.idle()
    }

    /// Evicts cached runs, the oldest first, until so many blocks hold no content or nothing may go. Returns whether they do.
    pub fn make_room(&mut self, blocks: u64) -> bool {
        self.replica.kv.make_room(blocks);
        self.idle_blocks() >= blocks
    }

    /// Whether nothing was here for a while before this plan.
    pub fn after_idle(&self) -> bool {
        self.replica.idled
    }

    /// Looks up the first `tokens` tokens of a waiting request. A tree of cached runs splits where they end, and takes the path to
    /// there for used just now.
    ///
    /// # Errors
    /// It does not wait.
    pub fn look_up(&mut self, seat: Seat, tokens: u32) -> Result<Prefix, Infeasible> {
        let replica = &mut *self.replica;
        let request = &replica.requests[seat as usize];
        if !request.is_waiting() {
            return Err(Infeasible(format!("request {} does not wait", request.id)));
        }
        let place = replica.kv.look_up(request.contents(tokens));
        let (cached, needed) = (place.blocks * replica.limits.block_tokens, request.prompt + request.generated);
        Ok(Prefix { request: self.view(seat), tokens: needed, cached, place })
    }

    /// Cached blocks of a prefix that could be evicted, but not once its request runs.
    pub fn revived(&self, prefix: &Prefix) -> u64 {
        self.replica.kv.unlocked(prefix.place)
    }

    /// Orders prefixes by a depth-first walk through the tree of cached runs: most requests first, those below a run before those at
    /// its end. Returns positions.
    pub fn depth_first(&self, prefixes: &[Prefix]) -> Vec<usize> {
        let ends: Vec<u32> = prefixes.iter().map(|prefix| prefix.place.node).collect();
        self.replica.kv.tree().map_or_else(|| (0..ends.len()).collect(), |tree| tree.depth_first(&ends))
    }

    /// Admits a waiting request with nothing but its cached tokens, which stay for it from now on. What it computes in this step is
    /// for [`StepBuilder::prefill`].
    ///
    /// # Errors
    /// It does not wait, all its tokens are cached, or the lane does not compute prompts.
    pub fn admit_cached(&mut self, prefix: &Prefix) -> Result<(), Infeasible> {
        let seat = prefix.request.seat;
        if self.work() == LaneWork::Decode || prefix.cached >= prefix.tokens {
            return Err(Infeasible(format!("request {} cannot be admitted with its prefix", prefix.request.id)));
        }
        self.take_in(seat, prefix.tokens, prefix.cached)?;
        let replica = &mut *self.replica;
        replica.kv.adopt_path(seat, &mut replica.requests[seat as usize].kv, prefix.place);
        Ok(())
    }

    /// Puts what a prompt that goes on over several steps has computed so far into the tree of cached runs.
    ///
    /// # Errors
    /// The request is not within its prompt, or part of this step already.
    pub fn publish(&mut self, seat: Seat) -> Result<(), Infeasible> {
        let replica = &mut *self.replica;
        let request = &mut replica.requests[seat as usize];
        if request.phase != Phase::Prefill || replica.step.chunks.iter().any(|chunk| chunk.seat == seat) {
            return Err(Infeasible(format!("request {} is not between two chunks of its prompt", request.id)));
        }
        let tokens = request.kv.positions();
        publish(&mut replica.kv, seat, request, tokens);
        Ok(())
    }

    /// Frees the memory of a running request, which goes to the end of the queue. Nothing more of it is cached, and its token in
    /// flight is thrown away.
    ///
    /// # Errors
    /// The request is not running, or part of this step already.
    pub fn throw_back(&mut self, seat: Seat) -> Result<(), Infeasible> {
        let step = &self.replica.step;
        let in_step = step.decoded.contains(&seat) || step.chunks.iter().any(|chunk| chunk.seat == seat);
        if in_step || step.all_members {
            return Err(Infeasible(format!("request {} is part of the step already", self.request(seat).id)));
        }
        self.take_off(seat, Fate::Forgotten)?;
        let replica = &mut *self.replica;
        replica.waiting.push(seat, &replica.requests[seat as usize]);
        Ok(())
    }

    /// Ends a running request that cannot go on: its client gets an error.
    ///
    /// # Errors
    /// The request is not running, or part of this step already.
    pub fn abort(&mut self, seat: Seat) -> Result<(), Infeasible> {
        let (request, step) = (self.request(seat), &self.replica.step);
        let in_step = step.decoded.contains(&seat) || step.chunks.iter().any(|chunk| chunk.seat == seat);
        if !request.is_decoding() || in_step || step.all_members {
            return Err(Infeasible(format!("request {} cannot be aborted now", request.id)));
        }
        self.replica.end(seat, Outcome::Failed, self.now);
        Ok(())
    }

    /// Gives the running requests another order, in which their results are processed too.
    ///
    /// # Errors
    /// `order` does not name each of them once.
    pub fn line_up(&mut self, order: &[Seat]) -> Result<(), Infeasible> {
        let replica = &mut *self.replica;
        let lane = &mut replica.lanes[self.lane];
        if lane.running.iter().map(|entry| entry.seat).eq(order.iter().copied()) {
            return Ok(());
        }
        let (mut there, mut named): (Vec<Seat>, Vec<Seat>) =
            (lane.running.iter().map(|entry| entry.seat).collect(), order.to_vec());
        there.sort_unstable();
        named.sort_unstable();
        if there != named {
            return Err(Infeasible("an order of the running requests does not name each of them once".into()));
        }
        lane.line_up(order, &mut replica.requests);
        Ok(())
    }
}
