//! Virtual time: integer nanoseconds, never floats.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A point in virtual time [ns since the start of the run]. Sums saturate at [`Time::MAX`]: a fleet that would come to it
/// stops with an error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Time(pub u64);

/// A length of virtual time [ns]. Sums saturate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Span(pub u64);

/// Nanoseconds in one second.
pub const NS_PER_S: u64 = 1_000_000_000;

impl Time {
    /// The start of the run.
    pub const ZERO: Time = Time(0);
    /// Later than every event.
    pub const MAX: Time = Time(u64::MAX);

    /// Seconds since the start, for printing and floating-point statistics only.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NS_PER_S as f64
    }

    /// Time since `earlier`, zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// Rounds to the nearest nanosecond; negative and NaN become zero, huge values saturate.
    pub fn from_secs_f64(seconds: f64) -> Time {
        Time(Span::from_secs_f64(seconds).0)
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// Rounds to the nearest nanosecond; negative and NaN become zero, huge values saturate.
    pub fn from_secs_f64(seconds: f64) -> Span {
        Span((seconds * NS_PER_S as f64).round() as u64)
    }

    /// Seconds, for printing and floating-point statistics only.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NS_PER_S as f64
    }

    /// Milliseconds, for printing only.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Span> for Time {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Sub for Time {
    type Output = Span;
    fn sub(self, earlier: Time) -> Span {
        assert!(earlier <= self, "law 3: time never decreases: {self} after {earlier}");
        Span(self.0 - earlier.0)
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.as_secs_f64())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0;
        match ns {
            0..=999 => write!(f, "{ns} ns"),
            1_000..=999_999 => write!(f, "{:.3} µs", ns as f64 / 1e3),
            1_000_000..=999_999_999 => write!(f, "{:.3} ms", ns as f64 / 1e6),
            _ => write!(f, "{:.3} s", ns as f64 / 1e9),
        }
    }
}
