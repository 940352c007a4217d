//! The arrivals of all clients, merged by time. Memory grows with clients and their windows, not with requests.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use overbook_sim::time::NS_PER_S;
use overbook_sim::units::Rate;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use super::rates::{ClientRates, Pattern, Span600, WINDOW_NS};
use crate::arrivals::Gaps;

/// One arrival: when, whose, and the start of the client's window [ns since the start of the file].
pub(super) struct Next {
    pub(super) at_ns: u64,
    /// Place of the client in the list.
    pub(super) client: usize,
    pub(super) window_ns: u64,
}

/// What comes next of a client. Ties go by its place in the list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    /// [ns since the start of the file].
    at_ns: u64,
    client: u32,
    /// A request, or else the start of its next window.
    is_request: bool,
}

/// A client in the window that it is in.
struct Member {
    rates: ClientRates,
    /// The window that comes next.
    next_window: usize,
    gaps: Option<Gaps>,
    start_ns: u64,
    /// Expected requests of the window, and those up to the last arrival.
    requests: f64,
    position: f64,
    ns_per_request: f64,
}

/// The merged arrivals.
pub(super) struct Merged {
    members: Vec<Member>,
    due: BinaryHeap<Reverse<Due>>,
    played: Span600,
    /// Wanted rates over recorded ones.
    factor: f64,
    seed: u64,
}

impl Merged {
    pub(super) fn new(clients: Vec<ClientRates>, played: Span600, rate: Option<Rate>, seed: u64) -> Merged {
        let recorded: f64 = clients.iter().map(ClientRates::requests).sum();
        let seconds = (played.to_ns - played.from_ns) as f64 / NS_PER_S as f64;
        let factor = rate.map_or(1.0, |Rate(rate)| rate * seconds / recorded);
        let begin = |rates: ClientRates| Member {
            rates,
            next_window: 0,
            gaps: None,
            start_ns: 0,
            requests: 0.0,
            position: 0.0,
            ns_per_request: 0.0,
        };
        let members: Vec<Member> = clients.into_iter().map(begin).collect();
        let due = members.iter().enumerate().filter_map(|(at, member)| member.window_due(at as u32));
        Merged { due: due.map(Reverse).collect(), members, played, factor, seed }
    }

    pub(super) fn next_arrival(&mut self) -> Option<Next> {
        loop {
            let mut top = self.due.peek_mut()?;
            let Reverse(due) = *top;
            let member = &mut self.members[due.client as usize];
            if !due.is_request {
                member.enter(self.factor, self.seed);
            }
            let window_ns = member.start_ns / WINDOW_NS * WINDOW_NS;
            match member.due(due.client) {
                Some(next) => *top = Reverse(next),
                None => drop(PeekMut::pop(top)),
            }
            if due.is_request {
                let at_ns = due.at_ns - self.played.from_ns;
                return Some(Next { at_ns, client: due.client as usize, window_ns });
            }
        }
    }
}

impl Member {
    /// The start of the next window.
    fn window_due(&self, client: u32) -> Option<Due> {
        let window = self.rates.windows.get(self.next_window)?;
        Some(Due { at_ns: window.start_ns, client, is_request: false })
    }

    /// Begins the next window, with randomness of its own: neither other clients nor the part that is played matter.
    fn enter(&mut self, factor: f64, seed: u64) {
        let window = &self.rates.windows[self.next_window];
        self.next_window += 1;
        let rate = window.rate * factor;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Named streams are ASCII: their highest bit is free.
        rng.set_stream(1 << 63 | u64::from(self.rates.id) << 32 | (window.start_ns / WINDOW_NS) & 0xffff_ffff);
        self.gaps = Some(match window.pattern {
            Pattern::Gamma => Gaps::random(window.shape, rng),
            Pattern::Weibull => Gaps::weibull(window.shape, rng),
        });
        self.start_ns = window.start_ns;
        self.requests = rate * window.length_ns as f64 / NS_PER_S as f64;
        self.position = 0.0;
        self.ns_per_request = NS_PER_S as f64 / rate;
    }

    /// The next request of this window, or else the start of the next window.
    fn due(&mut self, client: u32) -> Option<Due> {
        self.position += self.gaps.as_mut()?.draw();
        if self.position < self.requests {
            let at_ns = self.start_ns + (self.position * self.ns_per_request) as u64;
            return Some(Due { at_ns, client, is_request: true });
        }
        self.window_due(client)
    }
}
