//! Order: what a policy that serves by keys of its own may ask of the queue ([`QueueOrder::Keyed`]).
//!
//! [`QueueOrder::Keyed`]: crate::serving::QueueOrder::Keyed

use super::{Head, RequestView, StepBuilder};
use crate::kv::Seat;
use crate::results::rows::Outcome;
use crate::serving::queue::{Keyed, WaitQueue};
use crate::serving::request::Phase;
use crate::serving::step::Infeasible;

fn wrong_order() -> ! {
    unreachable!("a policy that ranks requests has asked for another order of the queue")
}

impl StepBuilder<'_> {
    fn keyed(&self) -> &Keyed {
        let WaitQueue::Keyed(keyed) = &self.replica.waiting else { wrong_order() };
        keyed
    }

    /// The next arrival that the policy has not seen yet, in order. Until it is ranked, it stands behind all others.
    pub fn newcomer(&mut self) -> Option<RequestView> {
        let replica = &mut *self.replica;
        let WaitQueue::Keyed(keyed) = &mut replica.waiting else { wrong_order() };
        let seat = keyed.pop_newcomer(&replica.requests)?;
        Some(self.view(seat))
    }

    /// Gives a request its key: smaller is served first, equal ones by arrival. One that is preempted later keeps it.
    pub fn rank(&mut self, seat: Seat, key: u64) {
        let replica = &mut *self.replica;
        let WaitQueue::Keyed(keyed) = &mut replica.waiting else { wrong_order() };
        keyed.rank(seat, &replica.requests[seat as usize], key);
    }

    /// Whether a seat is still that of this request.
    pub fn is_here(&self, seat: Seat, id: u64) -> bool {
        let request = self.replica.requests.get(seat as usize);
        request.is_some_and(|request| request.id == id && request.phase != Phase::Vacant)
    }

    /// The key of a request.
    pub fn key(&self, seat: Seat) -> u64 {
        self.keyed().key(seat)
    }

    /// The first waiting request whose key is `key` or more.
    pub fn first_from(&self, key: u64) -> Option<Head> {
        self.keyed().first_from(key).map(|seat| self.waiting_request(seat))
    }

    /// The waiting requests, in order.
    pub fn queue(&self) -> impl Iterator<Item = RequestView> + '_ {
        self.keyed().iter().map(|seat| self.view(seat))
    }

    /// Contents of a request's full blocks, as far as they are known: prompt and delivered outputs.
    pub fn contents(&self, seat: Seat) -> &[u64] {
        let request = self.request(seat);
        request.contents(request.prompt + self.lane().generated(request))
    }

    /// Tokens that the prefix cache would serve of a waiting request.
    pub fn cached(&self, seat: Seat) -> u32 {
        self.waiting_request(seat).cached
    }

    /// A waiting request with its prefix-cache hit.
    ///
    /// # Errors
    /// It does not wait.
    pub fn look(&self, seat: Seat) -> Result<Head, Infeasible> {
        if self.request(seat).is_waiting() {
            Ok(self.waiting_request(seat))
        } else {
            Err(Infeasible(format!("request {} does not wait", self.request(seat).id)))
        }
    }

    /// Rejects a waiting request.
    ///
    /// # Errors
    /// It does not wait, or has been served already.
    pub fn reject(&mut self, seat: Seat) -> Result<(), Infeasible> {
        let request = self.request(seat);
        if !request.is_waiting() || request.started {
            return Err(Infeasible(format!("request {} is not new any more", request.id)));
        }
        self.replica.end(seat, Outcome::Rejected, self.now);
        Ok(())
    }
}
