//! Operational time: a piecewise constant rate, integrated. One unit of it is one expected request.

use overbook_sim::time::{NS_PER_S, Span};

/// Turns gaps in operational time into nanoseconds; the profile starts over after its last window.
pub(crate) struct Profile {
    windows: Vec<Window>,
    window_ns: u64,
    /// Expected requests of one round through all windows.
    round: f64,
    index: usize,
    /// Start of the current window [ns].
    start_ns: u64,
    /// Expected requests from the start of the current window to the last arrival.
    position: f64,
}

struct Window {
    /// Expected requests in the window.
    requests: f64,
    ns_per_request: f64,
}

impl Profile {
    /// The rates are in requests/s, none below zero, one above.
    pub(crate) fn new(rates: &[f64], window: Span) -> Profile {
        let make =
            |rate: &f64| Window { requests: rate * window.as_secs_f64(), ns_per_request: NS_PER_S as f64 / rate };
        let windows: Vec<Window> = rates.iter().map(make).collect();
        let round = windows.iter().map(|window| window.requests).sum();
        Profile { windows, window_ns: window.0, round, index: 0, start_ns: 0, position: 0.0 }
    }

    /// The time of the arrival that comes `gap` expected requests after the last one [ns]; `None` beyond 584 years.
    pub(crate) fn advance(&mut self, gap: f64) -> Option<u64> {
        self.position += gap;
        if self.position >= self.round {
            self.skip_rounds()?;
        }
        // At most one round, but for rounding.
        while self.position >= self.windows[self.index].requests {
            self.position -= self.windows[self.index].requests;
            self.index = (self.index + 1) % self.windows.len();
            self.start_ns = self.start_ns.checked_add(self.window_ns)?;
        }
        let into_window = (self.position * self.windows[self.index].ns_per_request) as u64;
        self.start_ns.checked_add(into_window.min(self.window_ns))
    }

    /// Number of the window of the last arrival.
    pub(crate) fn window(&self) -> usize {
        self.index
    }

    /// Passes whole rounds at once, so that a long gap costs no more than a short one.
    #[cold]
    fn skip_rounds(&mut self) -> Option<()> {
        let rounds = (self.position / self.round).floor();
        let round_ns = self.window_ns.checked_mul(self.windows.len() as u64)?;
        self.start_ns = self.start_ns.checked_add(round_ns.checked_mul(rounds as u64)?)?;
        self.position = (self.position - rounds * self.round).max(0.0);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_pass_through_windows() {
        // 2 requests, none, 1 request in three windows of one second.
        let mut profile = Profile::new(&[2.0, 0.0, 1.0], Span(NS_PER_S));
        let times: Vec<Option<u64>> = [0.5, 1.0, 0.5, 0.5, 0.5, 30.0, 2.5].map(|gap| profile.advance(gap)).into();
        let seconds = [0.25, 0.75, 2.0, 2.5, 3.0, 33.0, 35.5];
        assert_eq!(times, seconds.map(|s| Some((s * 1e9) as u64)));
    }

    #[test]
    fn a_gap_past_the_end_of_time_is_none() {
        let mut profile = Profile::new(&[1e-3], Span(NS_PER_S));
        assert_eq!(profile.advance(1e30), None);
    }
}
