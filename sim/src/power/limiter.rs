//! How late a device keeps a limit: a reactive limiter of first order.
//!
//! ```text
//! P = D − g · max(D − L, 0)        dg/dt = (1 − g) / τ  while D > L,   −g / τ  otherwise
//! ```
//!
//! The demand `D` is what the law says at the clock that was asked for, `L` the limit. The grip `g` is the share of the excess that the
//! limiter has taken away. A short spike passes over the limit, a long one does not; that is what prompts do to capped GPUs (POLCA,
//! section 3).

use crate::time::Span;
use crate::units::Duration;

/// The state of a device's limiter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limiter {
    reaction: f64,
    grip: f64,
}

/// A stretch of time under a limiter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limited {
    /// Mean draw [W]: the energy of the stretch over its time, exactly.
    pub watts: f64,
    /// Highest draw [W].
    pub peak: f64,
}

impl Limiter {
    /// A limiter at rest with that time constant.
    pub fn new(reaction: Duration) -> Limiter {
        Limiter { reaction: reaction.0.as_secs_f64(), grip: 0.0 }
    }

    /// Share of an excess that is taken away now, 0 to 1.
    pub fn grip(&self) -> f64 {
        self.grip
    }

    /// A stretch of constant demand and limit [W].
    pub fn advance(&mut self, demand: f64, limit: f64, span: Span) -> Limited {
        let excess = (demand - limit).max(0.0);
        let time = span.as_secs_f64() / self.reaction;
        let (before, target) = (self.grip, if excess > 0.0 { 1.0 } else { 0.0 });
        let decay = (-time).exp();
        self.grip = target + (before - target) * decay;
        // Mean of an exponential, which is its start where the stretch is too short to tell.
        let mean = if time > 0.0 { target + (before - target) * (1.0 - decay) / time } else { before };
        Limited { watts: demand - mean * excess, peak: demand - before * excess }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn limiter() -> Limiter {
        Limiter::new(Duration(Span(50 * MS)))
    }

    #[test]
    fn a_short_spike_passes_and_a_long_one_is_taken_down() {
        let spike = limiter().advance(500.0, 400.0, Span(MS));
        assert!(spike.watts > 498.0 && (spike.peak - 500.0).abs() < 1e-9, "{spike:?}");
        let mut device = limiter();
        device.advance(500.0, 400.0, Span(500 * MS));
        let settled = device.advance(500.0, 400.0, Span(MS));
        assert!((settled.watts - 400.0).abs() < 0.01, "{settled:?}");
    }

    #[test]
    fn below_the_limit_nothing_is_taken_and_the_grip_goes() {
        let mut device = limiter();
        device.advance(500.0, 400.0, Span(200 * MS));
        let calm = device.advance(300.0, 400.0, Span(50 * MS));
        assert!((calm.watts - 300.0).abs() < 1e-12);
        assert!((device.grip() - (1.0 - (-4.0_f64).exp()) * (-1.0_f64).exp()).abs() < 1e-12);
    }

    /// Energy and state do not depend on how a stretch is cut.
    #[test]
    fn cuts_change_nothing() {
        let (mut whole, mut cut) = (limiter(), limiter());
        let once = whole.advance(650.0, 400.0, Span(90 * MS)).watts * 90.0;
        let parts: f64 =
            [1, 7, 30, 52].map(|ms| cut.advance(650.0, 400.0, Span(ms * MS)).watts * ms as f64).iter().sum();
        assert!((once - parts).abs() < 1e-9, "{once} {parts}");
        assert!((whole.grip() - cut.grip()).abs() < 1e-12);
    }
}
