//! The most memory that a batch will need: Past-Future's M* (arXiv 2507.10150, ASPLOS '25).
//!
//! All requests of a batch decode in lock step. When the one with the i-th most tokens left is about to finish, exactly the i
//! longest are there, and each has grown by what that one had left. With `held` tokens now and `left` tokens to go, sorted
//! by `left` from most to least,
//!
//! ```text
//!   M* = max over i of (held_1 + … + held_i) + i · left_i
//! ```
//!
//! A decode step moves one token of every request from `left` to `held` and leaves M* as it is. M* grows with every `held` and
//! `left`, and is at least what is held.

/// What a request holds and will yet add [tokens].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Growth {
    /// KV tokens now.
    pub held: u64,
    /// KV tokens that it will add before it finishes.
    pub left: u64,
}

/// M* of a batch, computed anew in O(n log n) [tokens].
pub fn future_peak(batch: &mut [Growth]) -> u64 {
    batch.sort_unstable_by_key(|growth| std::cmp::Reverse(growth.left));
    let (mut held, mut peak) = (0, 0);
    for (i, growth) in (1..).zip(batch.iter()) {
        held += growth.held;
        peak = peak.max(held + i * growth.left);
    }
    peak
}

/// A batch whose M* is known at any moment.
///
/// What M* would be with one more request takes O(log n): that request lengthens the sum of every shorter one, so the
/// moments after it has finished keep their memory and those before gain `held + left_i`, whose largest is kept for every place.
/// To add or to remove one takes a pass over the places.
///
/// (A tree of sums and maxima would not do: an insertion adds `left_i`, which differs from place to place, to all that come
/// after it, so which of a subtree is the largest depends on how many requests stand before it.)
#[derive(Clone, Default, Debug)]
pub struct FuturePeak {
    /// By `left`, most first.
    batch: Vec<Growth>,
    /// At every place, the sum of `held` up to it.
    held: Vec<u64>,
    /// At every place, the most memory in the moments up to it (of the longest requests).
    longest: Vec<u64>,
    /// At every place, the most of memory + `left` in the moments from it on (of the shortest requests).
    shortest: Vec<u64>,
}

impl FuturePeak {
    /// A batch.
    pub fn new(mut batch: Vec<Growth>) -> FuturePeak {
        batch.sort_unstable_by_key(|growth| std::cmp::Reverse(growth.left));
        let mut peak = FuturePeak { batch, ..FuturePeak::default() };
        peak.refresh(0);
        peak
    }

    /// M* [tokens]; 0 without requests.
    pub fn get(&self) -> u64 {
        self.longest.last().copied().unwrap_or(0)
    }

    /// M* with one more request [tokens].
    pub fn with(&self, growth: Growth) -> u64 {
        let at = self.place(growth.left);
        let (held, longest) = if at == 0 { (0, 0) } else { (self.held[at - 1], self.longest[at - 1]) };
        let own = held + growth.held + (at as u64 + 1) * growth.left;
        let shortest = self.shortest.get(at).map_or(0, |most| most + growth.held);
        longest.max(own).max(shortest)
    }

    /// Adds a request.
    pub fn insert(&mut self, growth: Growth) {
        let at = self.place(growth.left);
        self.batch.insert(at, growth);
        self.refresh(at);
    }

    /// Removes a request; `false` if there is none like it.
    pub fn remove(&mut self, growth: Growth) -> bool {
        let after = self.place(growth.left);
        let before = self.batch[..after].partition_point(|g| g.left > growth.left);
        let Some(at) = self.batch[before..after].iter().position(|&g| g == growth) else { return false };
        self.batch.remove(before + at);
        self.refresh(before + at);
        true
    }

    /// Where a request with so much left goes: after its equals.
    fn place(&self, left: u64) -> usize {
        self.batch.partition_point(|growth| growth.left >= left)
    }

    /// Brings the sums and maxima up to date, after a change at the place `from`.
    fn refresh(&mut self, from: usize) {
        self.held.truncate(from);
        self.longest.truncate(from);
        let (mut held, mut most) = match from.checked_sub(1) {
            Some(before) => (self.held[before], self.longest[before]),
            None => (0, 0),
        };
        self.shortest.resize(self.batch.len(), 0);
        for (at, growth) in self.batch.iter().enumerate().skip(from) {
            held += growth.held;
            let memory = held + (at as u64 + 1) * growth.left;
            most = most.max(memory);
            self.held.push(held);
            self.longest.push(most);
            self.shortest[at] = memory + growth.left;
        }
        let mut most = 0;
        for at in (from..self.batch.len()).rev() {
            most = most.max(self.shortest[at]);
            self.shortest[at] = most;
        }
        for at in (0..from).rev() {
            let growth = self.batch[at];
            most = most.max(self.held[at] + (at as u64 + 2) * growth.left);
            self.shortest[at] = most;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Memory at every moment, the batch decoded step by step.
    fn over_time(batch: &[Growth]) -> u64 {
        let last = batch.iter().map(|growth| growth.left).max().unwrap_or(0);
        let memory = |t: u64| -> u64 { batch.iter().filter(|g| g.left >= t).map(|g| g.held + t).sum() };
        (0..=last).map(memory).max().unwrap_or(0)
    }

    fn growth() -> impl Strategy<Value = Growth> {
        (0..60_u64, prop_oneof![0..4_u64, 0..80_u64]).prop_map(|(held, left)| Growth { held, left })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn both_forms_are_the_most_over_time(
            batch in prop::collection::vec(growth(), 0..14),
            changes in prop::collection::vec((growth(), any::<prop::sample::Index>(), any::<bool>()), 0..12),
        ) {
            let mut held = batch.clone();
            let mut peak = FuturePeak::new(batch);
            for (new, which, leaves) in changes {
                prop_assert_eq!(peak.get(), over_time(&held));
                prop_assert_eq!(future_peak(&mut held), over_time(&held));
                let mut more = held.clone();
                more.push(new);
                prop_assert_eq!(peak.with(new), over_time(&more));
                if leaves && !held.is_empty() {
                    let gone = held.swap_remove(which.index(held.len()));
                    prop_assert!(peak.remove(gone));
                } else {
                    peak.insert(new);
                    held = more;
                }
            }
            prop_assert_eq!(peak.get(), over_time(&held));
        }

        #[test]
        fn steps_leave_it_and_growth_raises_it(batch in prop::collection::vec(growth(), 1..14), which: prop::sample::Index) {
            let peak = over_time(&batch);
            let later: Vec<Growth> =
                batch.iter().map(|g| Growth { held: g.held + 1, left: g.left.saturating_sub(1) }).collect();
            if batch.iter().all(|g| g.left > 0) {
                prop_assert_eq!(FuturePeak::new(later).get(), peak);
            }
            prop_assert!(peak >= batch.iter().map(|g| g.held).sum());
            for (held, left) in [(1, 0), (0, 1)] {
                let mut larger = batch.clone();
                let one = &mut larger[which.index(batch.len())];
                *one = Growth { held: one.held + held, left: one.left + left };
                prop_assert!(FuturePeak::new(larger).get() >= peak);
            }
        }
    }

    #[test]
    fn a_stranger_cannot_be_removed() {
        let mut peak = FuturePeak::new(vec![Growth { held: 3, left: 5 }]);
        assert!(!peak.remove(Growth { held: 4, left: 5 }) && !peak.remove(Growth { held: 3, left: 6 }));
        assert!(peak.remove(Growth { held: 3, left: 5 }) && peak.get() == 0);
    }
}
