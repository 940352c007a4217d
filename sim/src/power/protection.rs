//! What trips when a row draws too much for too long: its breaker, and the supply behind a failover.
//!
//! ```text
//! dθ/dt = ((P / rated)² − θ) / τ       trips at θ = θ_trip
//! ```
//!
//! `τ` and `θ_trip` follow from two points of the breaker's curve: an overload, and the time from cold until it trips. A supply tolerates an
//! overload band for so long and no longer. Whether an excursion matters depends on its size and its length (Fu, Wang, Lefurgy).

use crate::power::share::Share;
use crate::time::Span;

/// A point of a curve: an overload, and the time that it is borne.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Borne {
    /// Power ÷ rated power.
    pub load: f64,
    /// Time [s].
    pub seconds: f64,
}

/// The points that UL 489 asks of a moulded breaker of its smallest frame: 135 % within an hour, 200 % within two minutes.
pub const BREAKER_CURVE: [Borne; 2] = [Borne { load: 1.35, seconds: 3600.0 }, Borne { load: 2.0, seconds: 120.0 }];

/// The shortest times that makers of supplies state.
pub const UPS_BANDS: [Borne; 4] = [
    Borne { load: 1.03, seconds: 600.0 },
    Borne { load: 1.25, seconds: 30.0 },
    Borne { load: 1.5, seconds: 10.0 },
    Borne { load: 2.0, seconds: 0.2 },
];

/// A breaker that warms up.
#[derive(Clone, PartialEq, Debug)]
pub struct Breaker {
    tau: f64,
    trip: f64,
    theta: f64,
    hottest: f64,
    trips: u64,
}

impl Breaker {
    /// A cold breaker with a curve through these two points, the smaller overload first.
    ///
    /// None where no curve of the form goes through them: the smaller overload must last longer, and `(load₁/load₂)²` must lie above the
    /// ratio of the times, inverted.
    pub fn through([slow, fast]: [Borne; 2]) -> Option<Breaker> {
        // From cold: θ(t) = r² (1 − exp(−t/τ)); both points give the same θ_trip.
        let theta = |point: Borne, tau: f64| point.load.powi(2) * -(-point.seconds / tau).exp_m1();
        let gap = |tau: f64| theta(slow, tau) - theta(fast, tau);
        let (mut low, mut high) = (fast.seconds * 1e-3, slow.seconds * 1e3);
        let sound = slow.load > 1.0 && fast.load > slow.load && slow.seconds > fast.seconds && fast.seconds > 0.0;
        if !(sound && gap(low) < 0.0 && gap(high) > 0.0) {
            return None;
        }
        for _ in 0..200 {
            let middle = (low * high).sqrt();
            if gap(middle) < 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        let tau = (low * high).sqrt();
        Some(Breaker { tau, trip: theta(fast, tau), theta: 0.0, hottest: 0.0, trips: 0 })
    }

    /// A stretch of constant load, a share of the rated power.
    pub fn advance(&mut self, load: Share, span: Span) {
        let target = load.as_f64().powi(2);
        let before = self.theta;
        self.theta = target + (before - target) * (-span.as_secs_f64() / self.tau).exp();
        self.hottest = self.hottest.max(self.theta);
        if before < self.trip && self.theta >= self.trip {
            self.trips += 1;
        }
    }

    /// How near it came to tripping: 1 is there.
    pub fn nearest(&self) -> f64 {
        self.hottest / self.trip
    }

    /// Times that it would have tripped. The run goes on: it is a finding, not an event.
    pub fn trips(&self) -> u64 {
        self.trips
    }
}

/// The supply that carries the row: how long each overload band has lasted.
#[derive(Clone, PartialEq, Debug)]
pub struct Supply {
    bands: Vec<Borne>,
    /// How long the load has been in each band or above it.
    within: Vec<Span>,
    overloads: u64,
}

impl Supply {
    /// A supply with these bands.
    pub fn new(bands: &[Borne]) -> Supply {
        Supply { bands: bands.to_vec(), within: vec![Span::ZERO; bands.len()], overloads: 0 }
    }

    /// A stretch of constant load, a share of the rated power.
    pub fn advance(&mut self, load: Share, span: Span) {
        for (band, within) in self.bands.iter().zip(&mut self.within) {
            if load < Share::from_f64(band.load) {
                *within = Span::ZERO;
                continue;
            }
            let borne = Span::from_secs_f64(band.seconds);
            let before = *within <= borne;
            *within = Span(within.0.saturating_add(span.0));
            self.overloads += u64::from(before && *within > borne);
        }
    }

    /// Times that a band lasted longer than it is borne.
    pub fn overloads(&self) -> u64 {
        self.overloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn breaker() -> Breaker {
        Breaker::through(BREAKER_CURVE).expect("a curve of the form")
    }

    #[test]
    fn a_breaker_trips_on_its_curve_and_holds_below_it() {
        for Borne { load, seconds } in BREAKER_CURVE {
            let mut breaker = breaker();
            let almost = Span::from_secs_f64(seconds * 0.98);
            breaker.advance(Share::from_f64(load), almost);
            assert!(breaker.trips() == 0 && breaker.nearest() > 0.9, "{load}: {}", breaker.nearest());
            breaker.advance(Share::from_f64(load), Span::from_secs_f64(seconds * 0.03));
            assert_eq!(breaker.trips(), 1, "{load}");
        }
        let mut breaker = breaker();
        breaker.advance(Share::from_f64(1.0), Span(86_400 * S));
        assert_eq!(breaker.trips(), 0, "rated load is borne for ever");
        assert_eq!(Breaker::through([BREAKER_CURVE[1], BREAKER_CURVE[0]]), None);
    }

    /// How a stretch is cut does not matter.
    #[test]
    fn cuts_of_a_stretch_change_nothing() {
        let (mut whole, mut cut) = (breaker(), breaker());
        whole.advance(Share::from_f64(1.2), Span(100 * S));
        (0..100).for_each(|_| cut.advance(Share::from_f64(1.2), Span(S)));
        assert!((whole.nearest() - cut.nearest()).abs() < 1e-9);
    }

    #[test]
    fn a_supply_counts_each_overload_once() {
        let mut supply = Supply::new(&UPS_BANDS);
        (0..20).for_each(|_| supply.advance(Share::from_f64(1.3), Span(2 * S)));
        // 40 s at 130 %: the band of 125 % bears 30 s, that of 103 % ten minutes.
        assert_eq!(supply.overloads(), 1);
        supply.advance(Share::from_f64(0.9), Span(2 * S));
        (0..20).for_each(|_| supply.advance(Share::from_f64(1.3), Span(2 * S)));
        assert_eq!(supply.overloads(), 2);
    }
}
