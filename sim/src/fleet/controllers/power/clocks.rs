//! The clocks of the servers: what was ordered, what has landed, and what the brake makes of it.

use std::collections::BTreeMap;

use crate::power::figures::Priority;
use crate::power::policies::Clocks;
use crate::time::{Span, Time};

/// One server.
#[derive(Clone, Copy, Debug)]
struct Server {
    low: bool,
    /// The clock that the last command asked for, and the one that holds without the brake [MHz].
    ordered: u32,
    landed: u32,
    /// The order that has landed: one that was sent earlier changes nothing any more.
    order: u32,
    /// Since when its clock is what it is, and time below the highest.
    since: Time,
    capped: Span,
}

/// All servers of a row.
#[derive(Debug)]
pub(super) struct ServerClocks {
    max: u32,
    brake: u32,
    braking: bool,
    servers: Vec<Server>,
    /// Orders on their way, and how many servers each has yet to reach.
    orders: BTreeMap<u32, (Clocks, u32)>,
    next: u32,
    pub(super) commands: u64,
}

impl ServerClocks {
    /// All at the highest clock.
    pub(super) fn new(low: impl Iterator<Item = bool>, max: u32, brake: u32) -> ServerClocks {
        let server = |low| Server { low, ordered: max, landed: max, order: 0, since: Time::ZERO, capped: Span::ZERO };
        ServerClocks {
            max,
            brake,
            braking: false,
            servers: low.map(server).collect(),
            orders: BTreeMap::new(),
            next: 1,
            commands: 0,
        }
    }

    fn of(clocks: Clocks, low: bool) -> u32 {
        if low { clocks.low } else { clocks.high }
    }

    /// Whether any server was ordered below the highest clock.
    pub(super) fn slowed(&self) -> bool {
        self.servers.iter().any(|server| server.ordered < self.max)
    }

    /// Orders clocks. Returns the order's number and the servers that it goes to: those that were not told so already.
    pub(super) fn order(&mut self, clocks: Clocks) -> (u32, Vec<u32>) {
        let mut told = Vec::new();
        for (at, server) in (0..).zip(&mut self.servers) {
            let wanted = ServerClocks::of(clocks, server.low);
            if wanted != server.ordered {
                server.ordered = wanted;
                told.push(at);
            }
        }
        let order = self.next;
        if !told.is_empty() {
            self.next += 1;
            self.commands += told.len() as u64;
            self.orders.insert(order, (clocks, told.len() as u32));
        }
        (order, told)
    }

    /// An order has reached a server. Returns whether its clock is another one now.
    pub(super) fn land(&mut self, at: usize, order: u32, now: Time) -> bool {
        let Some((clocks, left)) = self.orders.get_mut(&order) else { return false };
        let clocks = *clocks;
        *left -= 1;
        if *left == 0 {
            self.orders.remove(&order);
        }
        let before = self.clock(at);
        self.book(at, now);
        let server = &mut self.servers[at];
        if order > server.order {
            (server.order, server.landed) = (order, ServerClocks::of(clocks, server.low));
        }
        self.clock(at) != before
    }

    /// The brake takes hold, or lets go.
    pub(super) fn brake(&mut self, on: bool, now: Time) {
        (0..self.servers.len()).for_each(|at| self.book(at, now));
        self.braking = on;
    }

    /// The clock that holds on a server [MHz].
    pub(super) fn clock(&self, at: usize) -> u32 {
        let landed = self.servers[at].landed;
        if self.braking { landed.min(self.brake) } else { landed }
    }

    fn book(&mut self, at: usize, now: Time) {
        let capped = self.clock(at) < self.max;
        let server = &mut self.servers[at];
        if capped {
            server.capped = server.capped + now.since(server.since);
        }
        server.since = now;
    }

    /// Mean clocks now, of low and of high priority [MHz]; the highest where there is no such server.
    pub(super) fn means(&self) -> (f64, f64) {
        let mean = |low: bool| {
            let of = |(at, server): (usize, &Server)| (server.low == low).then(|| u64::from(self.clock(at)));
            let (sum, count) =
                self.servers.iter().enumerate().filter_map(of).fold((0, 0), |(s, n), mhz| (s + mhz, n + 1));
            if count == 0 { f64::from(self.max) } else { sum as f64 / f64::from(count) }
        };
        (mean(true), mean(false))
    }

    /// Servers and their time below the highest clock, of low and of high priority.
    pub(super) fn finish(&mut self, now: Time) -> (Priority, Priority) {
        (0..self.servers.len()).for_each(|at| self.book(at, now));
        let of = |low: bool| {
            let own = self.servers.iter().filter(|server| server.low == low);
            own.fold(Priority::default(), |sum, server| Priority {
                servers: sum.servers + 1,
                capped: Span(sum.capped.0.saturating_add(server.capped.0)),
            })
        };
        (of(true), of(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Clocks = Clocks { low: 1410, high: 1410 };
    const BASE: Clocks = Clocks { low: 1275, high: 1410 };
    const LOW: Clocks = Clocks { low: 1110, high: 1410 };

    #[test]
    fn only_servers_whose_clock_changes_are_told() {
        let mut clocks = ServerClocks::new([true, false].into_iter(), 1410, 288);
        assert_eq!(clocks.order(FULL).1, Vec::<u32>::new());
        let (order, told) = clocks.order(BASE);
        assert_eq!(told, [0]);
        assert_eq!(clocks.order(BASE).1, Vec::<u32>::new(), "it is on its way");
        assert_eq!(clocks.clock(0), 1410);
        assert!(clocks.land(0, order, Time(10)));
        assert_eq!((clocks.clock(0), clocks.commands), (1275, 1));
        let (low, high) = clocks.finish(Time(40));
        assert_eq!((low, high), (Priority { servers: 1, capped: Span(30) }, Priority { servers: 1, capped: Span(0) }));
    }

    #[test]
    fn a_newer_order_that_has_landed_stands() {
        let mut clocks = ServerClocks::new([true].into_iter(), 1410, 288);
        let (first, _) = clocks.order(LOW);
        let (second, _) = clocks.order(BASE);
        assert!(clocks.land(0, second, Time(5)));
        assert!(!clocks.land(0, first, Time(9)));
        assert_eq!(clocks.clock(0), 1275);
    }

    #[test]
    fn the_brake_stands_over_all_clocks() {
        let mut clocks = ServerClocks::new([true, false].into_iter(), 1410, 288);
        clocks.brake(true, Time(0));
        let (order, _) = clocks.order(LOW);
        assert!(!clocks.land(0, order, Time(4)), "it is at the brake's clock");
        assert_eq!(clocks.means(), (288.0, 288.0));
        clocks.brake(false, Time(10));
        assert_eq!(clocks.means(), (1110.0, 1410.0));
        assert_eq!(clocks.finish(Time(10)).1, Priority { servers: 1, capped: Span(10) });
    }
}
