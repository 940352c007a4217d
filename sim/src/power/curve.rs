//! A row's power and clocks over time, in a fixed number of bins that widen as the run grows.

use crate::power::meter::{Energy, MilliWatts};
use crate::time::{Span, Time};

/// Bins at most; an even number.
const BINS: usize = 480;

/// One bin.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Sums {
    span: u64,
    energy: Energy,
    peak: MilliWatts,
    /// Clocks × time [MHz ns], means over the servers of a priority.
    low: u128,
    high: u128,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.span += other.span;
        self.energy += other.energy;
        self.peak = self.peak.max(other.peak);
        self.low += other.low;
        self.high += other.high;
    }
}

/// A stretch of the curve, as a reader wants it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CurveBin {
    /// Where it begins.
    pub from: Time,
    /// Mean power of the row.
    pub mean: MilliWatts,
    /// The highest reading in it.
    pub peak: MilliWatts,
    /// Mean clock of the servers of low priority [MHz].
    pub low: f64,
    /// Mean clock of the servers of high priority [MHz].
    pub high: f64,
}

/// Power and clocks over time. Periods come in order; each counts for the bin in which it ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Curve {
    bins: Vec<Sums>,
    width: u64,
}

impl Curve {
    /// For a row that is read once a period.
    ///
    /// # Panics
    /// The period is zero.
    pub fn new(period: Span) -> Curve {
        assert!(period > Span::ZERO, "a row is read once a period");
        Curve { bins: Vec::new(), width: period.0 }
    }

    /// Width of a bin.
    pub fn width(&self) -> Span {
        Span(self.width)
    }

    /// A period that ended at `end`: the row's mean power, and the mean clocks of low and high priority [MHz].
    pub fn period(&mut self, end: Time, span: Span, power: MilliWatts, (low, high): (f64, f64)) {
        let at = |width: u64| (end.0.saturating_sub(1) / width) as usize;
        while at(self.width) >= BINS {
            let halves = self.bins.chunks(2).map(|pair| {
                let mut both = pair[0];
                pair[1..].iter().for_each(|second| both.add(second));
                both
            });
            self.bins = halves.collect();
            self.width *= 2;
        }
        let at = at(self.width);
        if self.bins.len() <= at {
            self.bins.resize(at + 1, Sums::default());
        }
        let times = |clock: f64| u128::from(clock.round() as u64) * u128::from(span.0);
        let (low, high) = (times(low), times(high));
        self.bins[at].add(&Sums { span: span.0, energy: power.over(span), peak: power, low, high });
    }

    /// The bins with a period in them, in order.
    pub fn bins(&self) -> impl Iterator<Item = CurveBin> + '_ {
        let number = |(at, sums)| (at as u64, sums);
        self.bins.iter().enumerate().map(number).filter(|(_, sums): &(u64, &Sums)| sums.span > 0).map(|(at, sums)| {
            let clock = |sum: u128| sum as f64 / sums.span as f64;
            CurveBin {
                from: Time(at * self.width),
                mean: sums.energy.mean_over(Span(sums.span)),
                peak: sums.peak,
                low: clock(sums.low),
                high: clock(sums.high),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_widen_and_lose_no_energy() {
        let mut curve = Curve::new(Span(10));
        let mut energy = Energy::default();
        for step in 1..=2000_u64 {
            let power = MilliWatts(step % 97 + 1);
            energy += power.over(Span(10));
            curve.period(Time(step * 10), Span(10), power, (1000.0, 1410.0));
        }
        assert_eq!(curve.width(), Span(80));
        let bins: Vec<CurveBin> = curve.bins().collect();
        assert_eq!((bins.len(), bins[0].from, bins[1].from), (250, Time(0), Time(80)));
        assert_eq!(curve.bins.iter().fold(Energy::default(), |sum, bin| sum + bin.energy), energy);
        assert_eq!(bins.iter().map(|bin| bin.peak).max(), Some(MilliWatts(97)));
        assert!(bins.iter().all(|bin| (bin.low - 1000.0).abs() < 1e-9 && (bin.high - 1410.0).abs() < 1e-9));
    }
}
