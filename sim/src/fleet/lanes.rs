//! The lanes of the fleet in virtual time: when each is looked at, and what a boundary of one means for the others.

use super::{Cluster, Event, RANK_LANE};
use crate::fleet::drive::{Books, Stop, StopReason};
use crate::fleet::outcome::RunError;
use crate::fleet::pools::Costs;
use crate::results::rows::Recorder;

impl Cluster {
    /// The drives of a replica's lanes.
    pub(super) fn lanes_of(&self, replica: usize) -> std::ops::Range<usize> {
        self.first_drive[replica]..self.first_drive[replica + 1]
    }

    /// Books a replica's levels and applies every step of its lanes that ends before now.
    pub(super) fn settle<R: Recorder>(&mut self, at: usize, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let (now, lanes, replica) = (self.now, self.lanes_of(at), &mut self.replicas[at]);
        self.drives[lanes.end - 1].book_levels(now, replica, books);
        let settled = lanes.clone().try_for_each(|lane| self.drives[lane].settle_before(now, replica, books));
        settled.map_err(|s| self.stop(at, s))
    }

    /// Puts the lane's next event on the calendar, instead of the one that is there. An idle lane looks at what there is at
    /// the end of this moment, when all its arrivals are in.
    pub(super) fn reschedule(&mut self, at: usize) {
        let drive = &mut self.drives[at];
        if let Some(ticket) = drive.ticket.take() {
            self.calendar.cancel(ticket);
        }
        let replica = &mut self.replicas[drive.replica];
        let next = drive.next_event(replica).or_else(|| replica.wants(drive.lane).then_some(self.now));
        if let Some(time) = next {
            drive.ticket = Some(self.calendar.schedule(time, RANK_LANE + at as u32, Event::Lane(at as u32)));
        }
    }

    pub(super) fn fire<R: Recorder>(
        &mut self,
        lane: usize,
        costs: &mut Costs<'_>,
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        let (now, at) = (self.now, self.drives[lane].replica);
        let lanes = self.lanes_of(at);
        self.drives[lanes.end - 1].book_levels(now, &self.replicas[at], books);
        for other in lanes.clone().filter(|&other| other != lane) {
            let settled = self.drives[other].settle_before(now, &mut self.replicas[at], books);
            settled.map_err(|s| self.stop(at, s))?;
        }
        if let Some(sharing) = &mut self.sharing[at] {
            let busy = lanes.clone().any(|other| other != lane && !self.drives[other].is_idle());
            sharing.boundary(self.drives[lane].lane, now);
            self.drives[lane].scale = sharing.factor(self.drives[lane].lane, busy);
        }
        let cost = self.cost_of(at, costs);
        let (replica, scheduler) = (&mut self.replicas[at], &mut *self.schedulers[at]);
        let fired = self.drives[lane].fire(now, replica, scheduler, cost, books);
        self.tell(at, books)?;
        let effect = fired.map_err(|s| self.stop(at, s))?;
        if effect || !self.drives[lane].is_idle() {
            self.reschedule(lane);
        }
        if effect {
            self.wake_others(lane, books)?;
            self.hand_over(at, books)?;
        } else if lanes.clone().all(|lane| self.drives[lane].ticket.is_none())
            && self.replicas[at].waiting() > 0
            && !self.replicas[at].has_transfers()
        {
            return Err(self.stop(at, Stop::Stalled));
        }
        Ok(())
    }

    /// The other lanes of the same replica see at their next boundary what has changed.
    pub(super) fn wake_others<R: Recorder>(&mut self, lane: usize, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let at = self.drives[lane].replica;
        for other in self.lanes_of(at).filter(|&other| other != lane) {
            let busy = !self.drives[lane].is_idle();
            let (drive, replica) = (&mut self.drives[other], &mut self.replicas[at]);
            let factor = self.sharing[at].as_ref().map_or(drive.scale, |sharing| sharing.factor(drive.lane, busy));
            if factor == drive.scale && replica.ready() == 0 {
                // Nothing to decide and no other rate: only blocks may be fewer.
                drive.trim(replica);
            } else {
                let cut = drive.interrupt(self.now, StopReason::Lane, replica, books);
                let rescaled = cut.and_then(|()| drive.rescale(self.now, factor, replica, books));
                rescaled.map_err(|s| self.stop(at, s))?;
            }
            self.reschedule(other);
        }
        Ok(())
    }

    /// New shares are ready: idle lanes take theirs now, busy ones at their next boundary.
    pub(super) fn switch<R: Recorder>(&mut self, at: usize, books: &mut Books<'_, R>) -> Result<(), RunError> {
        self.settle(at, books)?;
        for lane in self.lanes_of(at) {
            let drive = &mut self.drives[lane];
            if let (true, Some(sharing)) = (drive.is_idle(), &mut self.sharing[at]) {
                sharing.boundary(drive.lane, self.now);
            }
            let cut = drive.interrupt(self.now, StopReason::Lane, &mut self.replicas[at], books);
            cut.map_err(|s| self.stop(at, s))?;
            self.reschedule(lane);
        }
        Ok(())
    }
}
