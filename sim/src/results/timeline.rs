//! What the fleet did over time, in a fixed number of bins that widen as the run grows.

use crate::time::{Span, Time};

/// Width of a bin at the start [ns]; it doubles whenever the run outgrows the bins.
const WIDTH_MIN: u64 = 10_000_000;

/// Bins of a timeline without a stated size.
const BINS: usize = 480;

/// Sums of one bin. Levels are integrals over time (level × ns), summed over replicas; the rest are counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Sums {
    running: u128,
    waiting: u128,
    used_blocks: u128,
    /// Times to first token of those that were delivered [ns].
    ttft: u128,
    arrivals: u64,
    first_tokens: u64,
    tokens: u64,
    finished: u64,
    preempted: u64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.running += other.running;
        self.waiting += other.waiting;
        self.used_blocks += other.used_blocks;
        self.ttft += other.ttft;
        self.arrivals += other.arrivals;
        self.first_tokens += other.first_tokens;
        self.tokens += other.tokens;
        self.finished += other.finished;
        self.preempted += other.preempted;
    }
}

/// One bin as a reader wants it: levels as means over the bin, summed over replicas.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bin {
    /// Where it begins.
    pub from: Time,
    /// Where it ends (the last one ends with the run).
    pub to: Time,
    /// Mean number of running requests.
    pub running: f64,
    /// Mean number of waiting requests.
    pub waiting: f64,
    /// Mean number of used KV blocks.
    pub used_blocks: f64,
    /// Requests that arrived.
    pub arrivals: u64,
    /// First tokens delivered.
    pub first_tokens: u64,
    /// Mean time to first token of those, without the front end [s]; `None` where none was delivered.
    pub ttft_mean: Option<f64>,
    /// Tokens delivered.
    pub tokens: u64,
    /// Requests that ended, however they ended.
    pub finished: u64,
    /// Preemptions.
    pub preempted: u64,
}

impl Bin {
    /// Length of the bin [s].
    pub fn seconds(&self) -> f64 {
        (self.to - self.from).as_secs_f64()
    }
}

/// Load over time in integer sums: memory is fixed, the result independent of the order of calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeline {
    bins: Box<[Sums]>,
    /// A bin is `WIDTH_MIN << doublings` wide.
    doublings: u32,
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline::new(BINS)
    }
}

impl Timeline {
    /// A timeline of `bins` bins, made even and at least 2.
    pub fn new(bins: usize) -> Self {
        let bins = bins.max(2).next_multiple_of(2);
        Timeline { bins: vec![Sums::default(); bins].into(), doublings: 0 }
    }

    /// Width of a bin now [ns].
    pub fn width(&self) -> u64 {
        WIDTH_MIN << self.doublings
    }

    /// The given levels stood on one replica from `from` until `to`.
    #[inline]
    pub fn hold(&mut self, from: Time, to: Time, running: u32, waiting: u32, used_blocks: u64) {
        if to <= from {
            return;
        }
        let (running, waiting) = (u128::from(running), u128::from(waiting));
        self.spread(from, to, |bin, ns| {
            let ns = u128::from(ns);
            bin.running += running * ns;
            bin.waiting += waiting * ns;
            bin.used_blocks += u128::from(used_blocks) * ns;
        });
    }

    /// A request arrived.
    #[inline]
    pub fn arrival(&mut self, at: Time) {
        self.bin_at(at).arrivals += 1;
    }

    /// A request's first token was delivered, so long after its arrival.
    #[inline]
    pub fn first_token(&mut self, at: Time, ttft: Span) {
        let bin = self.bin_at(at);
        bin.first_tokens += 1;
        bin.ttft += u128::from(ttft.0);
    }

    /// `n` tokens were delivered at one moment.
    #[inline]
    pub fn tokens(&mut self, at: Time, n: u64) {
        self.bin_at(at).tokens += n;
    }

    /// `n` tokens were delivered evenly between `from` and `to`: what a segment of many steps does.
    pub fn tokens_over(&mut self, from: Time, to: Time, n: u64) {
        let total = to.since(from).0;
        if total == 0 {
            return self.tokens(to, n);
        }
        // Cumulative shares, so that the parts add up to `n` exactly.
        let (mut passed, mut given) = (0u64, 0u64);
        self.spread(from, to, |bin, ns| {
            passed += ns;
            let due = (u128::from(n) * u128::from(passed) / u128::from(total)) as u64;
            bin.tokens += due - given;
            given = due;
        });
    }

    /// A request ended.
    #[inline]
    pub fn finish(&mut self, at: Time) {
        self.bin_at(at).finished += 1;
    }

    /// `n` requests were preempted.
    #[inline]
    pub fn preempt(&mut self, at: Time, n: u64) {
        self.bin_at(at).preempted += n;
    }

    /// Adds everything `other` has seen.
    ///
    /// # Panics
    /// The two have different numbers of bins.
    pub fn merge(&mut self, other: &Timeline) {
        assert_eq!(self.bins.len(), other.bins.len(), "timelines of different sizes");
        let mut other = other.clone();
        while self.doublings < other.doublings {
            self.double();
        }
        while other.doublings < self.doublings {
            other.double();
        }
        self.bins.iter_mut().zip(&other.bins).for_each(|(mine, theirs)| mine.add(theirs));
    }

    /// The bins that a run from zero until `end` has reached; the last one ends at `end` and includes it.
    pub fn bins(&self, end: Time) -> impl ExactSizeIterator<Item = Bin> + '_ {
        let width = self.width();
        let reached = (end.0.div_ceil(width) as usize).min(self.bins.len());
        (0..reached).map(move |i| {
            let mut sums = self.bins[i];
            if i + 1 == reached {
                self.bins[reached..].iter().for_each(|late| sums.add(late));
            }
            let from = i as u64 * width;
            let to = if i + 1 == reached { end.0 } else { from + width };
            let mean = |level: u128| level as f64 / (to - from) as f64;
            Bin {
                from: Time(from),
                to: Time(to),
                running: mean(sums.running),
                waiting: mean(sums.waiting),
                used_blocks: mean(sums.used_blocks),
                arrivals: sums.arrivals,
                first_tokens: sums.first_tokens,
                ttft_mean: (sums.first_tokens > 0).then(|| sums.ttft as f64 / sums.first_tokens as f64 * 1e-9),
                tokens: sums.tokens,
                finished: sums.finished,
                preempted: sums.preempted,
            }
        })
    }

    /// Gives each bin that `from..to` touches its share of nanoseconds.
    #[inline]
    fn spread(&mut self, from: Time, to: Time, mut give: impl FnMut(&mut Sums, u64)) {
        self.reach(Time(to.0 - 1));
        let (mut index, last) = (self.index_of(from), self.index_of(Time(to.0 - 1)));
        if index == last {
            return give(&mut self.bins[index], to.0 - from.0);
        }
        let (mut from, width) = (from.0, self.width());
        while from < to.0 {
            let border = (index as u64 + 1).saturating_mul(width).min(to.0);
            give(&mut self.bins[index], border - from);
            from = border;
            index += 1;
        }
    }

    #[inline]
    fn index_of(&self, at: Time) -> usize {
        ((at.0 / WIDTH_MIN) >> self.doublings) as usize
    }

    #[inline]
    fn reach(&mut self, at: Time) {
        while self.index_of(at) >= self.bins.len() {
            self.double();
        }
    }

    #[inline]
    fn bin_at(&mut self, at: Time) -> &mut Sums {
        self.reach(at);
        let index = self.index_of(at);
        &mut self.bins[index]
    }

    #[cold]
    fn double(&mut self) {
        let half = self.bins.len() / 2;
        for i in 0..half {
            let mut pair = self.bins[2 * i];
            pair.add(&self.bins[2 * i + 1]);
            self.bins[i] = pair;
        }
        self.bins[half..].fill(Sums::default());
        self.doublings += 1;
    }
}

#[cfg(test)]
mod tests;
