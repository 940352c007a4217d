//! Times of kernels by what binds them [µs]: floats inside a model, before they become [`Parts`].

use std::iter::Sum;
use std::ops::{Add, Mul, Sub};

use super::{Cost, Parts};

/// A time and what binds it. What is left of `us` are launches and other fixed times. The arithmetic on `us` is that of a plain number, so a sum
/// over kernels is the very float that it would be without parts.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Bound {
    /// All of it.
    pub us: f64,
    /// Bound by arithmetic.
    pub compute: f64,
    /// Bound by memory.
    pub memory: f64,
    /// Bound by links.
    pub link: f64,
}

impl Bound {
    /// Bound by arithmetic.
    pub fn compute(us: f64) -> Bound {
        Bound { us, compute: us, ..Bound::default() }
    }

    /// Bound by memory.
    pub fn memory(us: f64) -> Bound {
        Bound { us, memory: us, ..Bound::default() }
    }

    /// Bound by links.
    pub fn link(us: f64) -> Bound {
        Bound { us, link: us, ..Bound::default() }
    }

    /// A fixed time.
    pub fn fixed(us: f64) -> Bound {
        Bound { us, ..Bound::default() }
    }

    /// A kernel that computes for so long and moves data for so long: `(c^p + m^p)^(1/p)`. Each limit gets the part by which the time
    /// grows with it, `c^p / (c^p + m^p)`: all goes to the longer one as `p` grows.
    pub fn roof(compute_us: f64, memory_us: f64, sharpness: f64) -> Bound {
        let (c, m) = (compute_us.powf(sharpness), memory_us.powf(sharpness));
        let us = (c + m).powf(1.0 / sharpness);
        if c + m > 0.0 {
            Bound { us, compute: us * c / (c + m), memory: us * m / (c + m), link: 0.0 }
        } else {
            Bound::fixed(us)
        }
    }

    /// The longer of both.
    #[must_use]
    pub fn max(self, other: Bound) -> Bound {
        if other.us > self.us { other } else { self }
    }

    /// Rounded to fixed point.
    pub fn cost(&self) -> Cost {
        Cost::from_us(self.us)
    }

    /// Rounded to fixed point, each for itself; together the parts are never more than the whole.
    pub fn parts(&self) -> Parts {
        let whole = self.cost();
        let compute = Cost::from_us(self.compute).min(whole);
        let memory = Cost::from_us(self.memory).min(Cost(whole.0 - compute.0));
        let link = Cost::from_us(self.link).min(Cost(whole.0 - compute.0 - memory.0));
        Parts { whole, compute, memory, link }
    }

    fn each(self, other: Bound, f: impl Fn(f64, f64) -> f64) -> Bound {
        Bound {
            us: f(self.us, other.us),
            compute: f(self.compute, other.compute),
            memory: f(self.memory, other.memory),
            link: f(self.link, other.link),
        }
    }
}

impl Add for Bound {
    type Output = Bound;
    fn add(self, other: Bound) -> Bound {
        self.each(other, |a, b| a + b)
    }
}

impl Sub for Bound {
    type Output = Bound;
    fn sub(self, other: Bound) -> Bound {
        self.each(other, |a, b| a - b)
    }
}

impl Mul<f64> for Bound {
    type Output = Bound;
    fn mul(self, times: f64) -> Bound {
        self.each(self, |a, _| a * times)
    }
}

impl Sum for Bound {
    fn sum<I: Iterator<Item = Bound>>(times: I) -> Bound {
        times.fold(Bound::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roof_is_split_as_its_time_grows() {
        let kernel = Bound::roof(3.0, 4.0, 2.0);
        assert!((kernel.us - 5.0).abs() < 1e-12);
        assert!((kernel.compute - 1.8).abs() < 1e-12 && (kernel.memory - 3.2).abs() < 1e-12);
        // The slope in the arithmetic's time is its part.
        let longer = Bound::roof(3.0 * 1.000_001, 4.0, 2.0);
        assert!(((longer.us - kernel.us) / 1e-6 - kernel.compute).abs() < 1e-4);
        assert_eq!(Bound::roof(0.0, 0.0, 2.0), Bound::default());
    }

    #[test]
    fn parts_never_exceed_the_whole() {
        let third = Bound::compute(1.0 / 3.0) + Bound::memory(1.0 / 3.0) + Bound::link(1.0 / 3.0);
        let parts = third.parts();
        assert!(parts.compute + parts.memory + parts.link <= parts.whole);
        assert!(parts.of_host() <= Cost(3), "{parts:?}");
    }
}
