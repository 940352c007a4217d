//! Requests that move from replica to replica with their KV.

use super::Kernel;
use crate::fleet::controller::{Event, Place};
use crate::fleet::outcome::RunError;
use crate::kv::Seat;

impl Kernel<'_> {
    /// A request whose prompt is computed at `from` leaves for `to`: it has a seat and blocks there at once, and keeps its blocks
    /// here until its KV has arrived. Returns its number and its place.
    pub(in crate::fleet) fn move_request(
        &mut self,
        from: usize,
        seat: Seat,
        to: usize,
    ) -> Result<(u64, Place), RunError> {
        self.settle(from)?;
        let moved = self.replicas[from].depart(seat);
        let request = moved.id;
        let seat = self.replicas[to].receive(moved);
        self.trim(to);
        let place = Place { replica: to as u32, seat, generation: self.replicas[to].generation(seat) };
        self.notify(Event::Moved { request, place });
        Ok((request, place))
    }
}
