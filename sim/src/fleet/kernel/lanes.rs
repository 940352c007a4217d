//! The lanes of the fleet in virtual time: when each is looked at, and what a boundary of one means for the others.

use super::{Entry, Kernel, RANK_LANE, RANK_PATIENCE};
use crate::cost::Slowdown;
use crate::fleet::devices::Pricing;
use crate::fleet::drive::{Stop, StopReason};
use crate::fleet::outcome::RunError;
use crate::partitioners::FirstToken;
use crate::results::rows::RequestRow;

/// The outcome of a lane's event, before controllers hear of it.
#[derive(Debug)]
pub(in crate::fleet) struct Fired {
    pub(in crate::fleet) lane: usize,
    pub(in crate::fleet) replica: usize,
    /// Whether anything came of it.
    effect: Result<bool, Stop>,
}

impl Kernel<'_> {
    /// The drives of a replica's lanes.
    pub(super) fn lanes_of(&self, replica: usize) -> std::ops::Range<usize> {
        self.first_drive[replica]..self.first_drive[replica + 1]
    }

    /// Books a replica's levels and applies every step of its lanes that ends before now.
    pub(in crate::fleet) fn settle(&mut self, at: usize) -> Result<(), RunError> {
        self.book_levels(at);
        for lane in self.lanes_of(at) {
            let settled = self.drives[lane].settle_before(self.now, &mut self.replicas[at], &mut self.sink);
            settled.map_err(|stop| self.stop(at, stop))?;
        }
        Ok(())
    }

    /// Books a replica's levels up to now. Call before they change.
    pub(in crate::fleet) fn book_levels(&mut self, at: usize) {
        let last = self.lanes_of(at).end - 1;
        self.drives[last].book_levels(self.now, &self.replicas[at], &mut self.sink);
    }

    /// Puts the lane's next event on the calendar, instead of the one that is there. An idle lane looks at what there is at
    /// the end of this moment, when all its arrivals are in.
    pub(super) fn reschedule(&mut self, at: usize) {
        let drive = &mut self.drives[at];
        if let Some(ticket) = drive.ticket.take() {
            self.calendar.cancel(ticket);
        }
        let replica = &mut self.replicas[drive.replica];
        let next = drive.next_event(replica).or_else(|| replica.has_work(drive.lane).then_some(self.now));
        if let Some(time) = next {
            drive.ticket = Some(self.calendar.schedule(time, RANK_LANE + at as u32, Entry::Lane(at as u32)));
        }
    }

    /// Puts the next events of all lanes of a replica on the calendar.
    pub(in crate::fleet) fn reschedule_all(&mut self, at: usize) {
        self.lanes_of(at).for_each(|lane| self.reschedule(lane));
    }

    /// A request has joined the queue of a replica. Returns whether [`Kernel::look_at_queue`] must be called.
    pub(in crate::fleet) fn queued(&mut self, at: usize) -> Result<bool, RunError> {
        let first = self.first_drive[at];
        let moved = self.drives[first].arrived(self.now, &mut self.replicas[at], &mut self.sink);
        moved.map_err(|stop| self.stop(at, stop))
    }

    /// The lane that reads the queue looks at it at its next boundary.
    pub(in crate::fleet) fn look_at_queue(&mut self, at: usize) {
        self.reschedule(self.first_drive[at]);
    }

    /// A lane's event: its steps end, its next ones are planned. Controllers must hear of it before [`Kernel::fired`].
    pub(in crate::fleet) fn fire(&mut self, lane: usize) -> Result<Fired, RunError> {
        let (now, at) = (self.now, self.drives[lane].replica);
        self.book_levels(at);
        let lanes = self.lanes_of(at);
        for other in lanes.clone().filter(|&other| other != lane) {
            let settled = self.drives[other].settle_before(now, &mut self.replicas[at], &mut self.sink);
            settled.map_err(|stop| self.stop(at, stop))?;
        }
        let mut pace = self.drives[lane].pace;
        if let Some(sharing) = &mut self.sharing[at] {
            let busy = lanes.clone().any(|other| other != lane && !self.drives[other].is_idle());
            sharing.boundary(self.drives[lane].lane, now);
            pace.whole = sharing.factor(self.drives[lane].lane, busy);
        }
        let pool = self.pools.of(at);
        let pricing = Pricing { cost: &mut *self.costs[pool], pace, device: self.devices.get(pool) };
        let (replica, scheduler) = (&mut self.replicas[at], &mut *self.schedulers[at]);
        let effect = self.drives[lane].fire(now, replica, scheduler, pricing, &mut self.sink);
        if replica.has_new_loads() {
            for end in replica.take_loads() {
                self.calendar.schedule(end, RANK_PATIENCE, Entry::Loaded(at as u32));
            }
        }
        Ok(Fired { lane, replica: at, effect })
    }

    /// After a lane's event: when it and its neighbours are looked at next. Returns whether anything came of the event.
    pub(in crate::fleet) fn fired(&mut self, fired: Fired) -> Result<bool, RunError> {
        let Fired { lane, replica: at, effect } = fired;
        let effect = effect.map_err(|stop| self.stop(at, stop))?;
        if effect || !self.drives[lane].is_idle() {
            self.reschedule(lane);
        }
        if effect {
            self.wake_others(lane)?;
        } else if self.lanes_of(at).all(|lane| self.drives[lane].ticket.is_none())
            && self.lanes_of(at).any(|lane| self.replicas[at].has_work(self.drives[lane].lane))
            && !self.replicas[at].has_transfers()
        {
            return Err(self.stop(at, Stop::Stalled));
        }
        Ok(effect)
    }

    /// The other lanes of the same replica see at their next boundary what has changed.
    fn wake_others(&mut self, lane: usize) -> Result<(), RunError> {
        let at = self.drives[lane].replica;
        for other in self.lanes_of(at).filter(|&other| other != lane) {
            let busy = !self.drives[lane].is_idle();
            let (drive, replica) = (&mut self.drives[other], &mut self.replicas[at]);
            let factor = self.sharing[at].as_ref().map_or(drive.pace.whole, |sharing| sharing.factor(drive.lane, busy));
            if factor == drive.pace.whole && replica.ready() == 0 {
                // Nothing to decide and no other rate: only blocks may be fewer.
                drive.trim(replica);
            } else {
                let cut = drive.interrupt(self.now, StopReason::Lane, replica, &mut self.sink);
                let pace = Slowdown { whole: factor, ..drive.pace };
                let repriced = cut.and_then(|()| drive.reprice(self.now, pace, replica, &mut self.sink));
                repriced.map_err(|stop| self.stop(at, stop))?;
            }
            self.reschedule(other);
        }
        Ok(())
    }

    /// Blocks of a replica were taken from outside: its lanes keep the steps that still fit.
    pub(super) fn trim(&mut self, at: usize) {
        for lane in self.lanes_of(at) {
            self.drives[lane].trim(&mut self.replicas[at]);
            self.reschedule(lane);
        }
    }

    /// A request got its first token: the controller of SM shares learns of it.
    pub(in crate::fleet) fn first_token(&mut self, at: usize, seen: FirstToken) {
        if let Some(sharing) = &mut self.sharing[at] {
            sharing.first_token(seen);
        }
    }

    /// A request has ended: shares of the SMs may change.
    pub(in crate::fleet) fn finished(&mut self, at: usize, row: &RequestRow) {
        if let (Some(sharing), Some(tpot)) = (&mut self.sharing[at], row.tpot())
            && let Some(ready) = sharing.finished(tpot, self.now)
        {
            self.calendar.schedule(ready, RANK_PATIENCE, Entry::Switch(at as u32));
        }
    }

    /// New shares are ready: idle lanes take theirs now, busy ones at their next boundary.
    pub(in crate::fleet) fn switch(&mut self, at: usize) -> Result<(), RunError> {
        self.settle(at)?;
        for lane in self.lanes_of(at) {
            let drive = &mut self.drives[lane];
            if let (true, Some(sharing)) = (drive.is_idle(), &mut self.sharing[at]) {
                sharing.boundary(drive.lane, self.now);
            }
            let cut = drive.interrupt(self.now, StopReason::Lane, &mut self.replicas[at], &mut self.sink);
            cut.map_err(|stop| self.stop(at, stop))?;
            self.reschedule(lane);
        }
        Ok(())
    }
}
