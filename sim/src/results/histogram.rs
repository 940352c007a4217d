//! A mergeable log-linear histogram of integers: percentiles in constant memory, within 0.05 %.

use std::ops::AddAssign;

/// Sub-buckets per octave, as a power of two: 1024 of them put a bucket's middle within 1/2048 of its values.
const SUB_BITS: u32 = 10;
const SUB: usize = 1 << SUB_BITS;
/// Pages of [`SUB`] buckets that cover all of `u64`.
const PAGES: usize = 64 - SUB_BITS as usize + 1;

type Page = Box<[u64; SUB]>;

/// Counts of `u64` values (times in ns, as a rule) in log-linear buckets.
///
/// Exact below 2048; above, a value is known within 0.05 % (half a bucket). `count`, `sum`, `min` and `max` are exact.
/// Memory is 8 KiB per octave in which values lie, whatever their number; merging is exact and commutative.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    pages: [Option<Page>; PAGES],
    count: u64,
    sum: u128,
    /// Further part of the sum, from ramps in fixed point [2⁻²⁰].
    fine_sum: u128,
    min: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { pages: [const { None }; PAGES], count: 0, sum: 0, fine_sum: 0, min: u64::MAX, max: 0 }
    }
}

/// How far values of this size are shifted to find their bucket: a bucket is `1 << shift` wide.
fn shift_of(value: u64) -> u32 {
    (63 - SUB_BITS) - (value | SUB as u64).leading_zeros()
}

fn index_of(value: u64) -> usize {
    let shift = shift_of(value);
    ((shift as usize) << SUB_BITS) + (value >> shift) as usize
}

/// Smallest and largest value of a bucket.
fn bounds_of(index: usize) -> (u64, u64) {
    let shift = (index >> SUB_BITS).saturating_sub(1) as u32;
    let low = ((index - ((shift as usize) << SUB_BITS)) as u64) << shift;
    (low, low + ((1u64 << shift) - 1))
}

impl Histogram {
    /// An empty histogram; it owns no buckets yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts the same value `n` times.
    #[inline]
    pub fn record_n(&mut self, value: u64, n: u64) {
        if n == 0 {
            return;
        }
        self.add_to_bucket(index_of(value), n);
        self.count += n;
        self.sum += u128::from(value) * u128::from(n);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Counts `first`, `first + step`, … (`n_values` of them) given in fixed point [2⁻²⁰], each `weight` times, rounded down to
    /// integers for their bucket. Any split of a ramp counts the same: the sum is kept in fixed point.
    pub fn record_ramp_fixed(&mut self, first: u64, step: u64, n_values: u64, weight: u64) {
        const SHIFT: u32 = 20;
        if n_values == 0 || weight == 0 {
            return;
        }
        let last = first + step * (n_values - 1);
        let (mut value, mut left) = (first, n_values);
        loop {
            let index = index_of(value >> SHIFT);
            let top = u128::from(bounds_of(index).1 + 1) << SHIFT;
            let here = match step {
                0 => left,
                _ => (((top - 1 - u128::from(value)) / u128::from(step) + 1) as u64).min(left),
            };
            self.add_to_bucket(index, here * weight);
            left -= here;
            if left == 0 {
                break;
            }
            value += here * step;
        }
        self.count += n_values * weight;
        let doubled = u128::from(n_values) * (u128::from(first) + u128::from(last));
        self.fine_sum += doubled / 2 * u128::from(weight);
        self.min = self.min.min(first >> SHIFT);
        self.max = self.max.max(last >> SHIFT);
    }

    #[inline]
    fn add_to_bucket(&mut self, index: usize, n: u64) {
        let page = self.pages[index >> SUB_BITS].get_or_insert_with(|| Box::new([0; SUB]));
        page[index & (SUB - 1)] += n;
    }

    /// Adds everything `other` has counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.pages.iter_mut().zip(&other.pages) {
            let Some(theirs) = theirs else { continue };
            let mine = mine.get_or_insert_with(|| Box::new([0; SUB]));
            mine.iter_mut().zip(theirs.iter()).for_each(|(a, b)| *a += b);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.fine_sum += other.fine_sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their exact sum.
    pub fn sum(&self) -> u128 {
        self.sum + (self.fine_sum >> 20)
    }

    /// The smallest value, exactly.
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The largest value, exactly.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The mean, from the exact sum.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum() as f64 / self.count as f64)
    }

    /// The nearest-rank quantile: the smallest value with at least `p` of all values at or below it, within 0.05 %.
    ///
    /// `p` counts to nine decimals and is clamped to 0..=1; 0 gives the minimum.
    pub fn quantile(&self, p: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        // In integers: 0.07 * 100 exceeds 7 in floating point and would give the eighth value.
        let parts = (p.clamp(0.0, 1.0) * 1e9).round() as u128;
        let rank = (parts * u128::from(self.count)).div_ceil(1_000_000_000).max(1) as u64;
        if rank == 1 {
            return Some(self.min);
        }
        let mut seen = 0;
        self.iter().find_map(|(value, n)| {
            seen += n;
            (seen >= rank).then_some(if rank == self.count { self.max } else { value })
        })
    }

    /// The share of values at or below `value`, counting a bucket when its middle is (so `value` itself is ± 0.05 %).
    pub fn fraction_at_most(&self, value: u64) -> Option<f64> {
        let below: u64 = self.iter().take_while(|&(v, _)| v <= value).map(|(_, n)| n).sum();
        (self.count > 0).then(|| below as f64 / self.count as f64)
    }

    /// The buckets in use in ascending order: (middle, clamped to min and max; count). Cumulated, they are the ECDF.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let pages = self.pages.iter().enumerate().filter_map(|(p, page)| Some((p, page.as_ref()?)));
        pages.flat_map(move |(p, page)| {
            let used = page.iter().enumerate().filter(|&(_, &n)| n > 0);
            used.map(move |(i, &n)| {
                let (low, high) = bounds_of((p << SUB_BITS) + i);
                ((low + (high - low) / 2).clamp(self.min, self.max), n)
            })
        })
    }
}

impl AddAssign<&Histogram> for Histogram {
    fn add_assign(&mut self, other: &Histogram) {
        self.merge(other);
    }
}

#[cfg(test)]
mod tests;
