//! The longest step since any moment: every gap between two tokens of a running request spans the steps in it.

use crate::time::Time;

/// When steps ended and how long they took [ns], as far as a later one has not been longer: lengths fall from entry to entry.
#[derive(Clone, Default, Debug)]
pub(crate) struct LongestSteps(Vec<(Time, u64)>);

impl LongestSteps {
    /// Steps took up to so long, the last of them until `end`.
    pub(crate) fn push(&mut self, end: Time, ns: u64) {
        while self.0.last().is_some_and(|last| last.1 <= ns) {
            self.0.pop();
        }
        self.0.push((end, ns));
    }

    /// The longest step that ended after a moment [ns]; 0 if none did.
    pub(crate) fn since(&self, moment: Time) -> u64 {
        let at = self.0.partition_point(|&(end, _)| end <= moment);
        self.0.get(at).map_or(0, |entry| entry.1)
    }

    /// Earlier moments are not asked for any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_of_those_that_ended_later(lengths in prop::collection::vec(1..20_u64, 0..40), moment in 0..500_u64) {
            let mut longest = LongestSteps::default();
            let mut end = 0;
            let mut wanted = 0;
            for &ns in &lengths {
                end += ns;
                longest.push(Time(end), ns);
                wanted = if end > moment { wanted.max(ns) } else { 0 };
            }
            prop_assert_eq!(longest.since(Time(moment)), wanted);
        }
    }
}
