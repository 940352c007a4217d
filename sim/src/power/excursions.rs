//! Times in which a row draws more than its budget: how much, for how long.

use crate::power::meter::{Energy, MilliWatts};
use crate::time::{Span, Time};

/// Excursions that are kept one by one.
const KEPT: usize = 20;

/// One stretch of periods above the budget.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Excursion {
    /// When it began.
    pub at: Time,
    /// How long it lasted.
    pub span: Span,
    /// The most that the row drew above its budget, mean of a period.
    pub most: MilliWatts,
    /// Energy above the budget.
    pub energy: Energy,
}

/// All excursions of a run.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Excursions {
    /// How many.
    pub count: u64,
    /// All of them together: the sums of times and energies, the largest excess.
    pub all: Excursion,
    /// The longest.
    pub longest: Span,
    /// The first ones.
    pub first: Vec<Excursion>,
    open: Option<Excursion>,
}

impl Excursions {
    /// A period that ended at `end`, with that mean power.
    pub fn period(&mut self, end: Time, span: Span, power: MilliWatts, budget: MilliWatts) {
        if power <= budget {
            return self.finish();
        }
        let over = MilliWatts(power.0 - budget.0);
        let open =
            self.open.get_or_insert(Excursion { at: Time(end.0.saturating_sub(span.0)), ..Excursion::default() });
        open.span = Span(open.span.0.saturating_add(span.0));
        open.most = open.most.max(over);
        open.energy += over.over(span);
    }

    /// The run is over, or the row is below its budget again.
    pub fn finish(&mut self) {
        let Some(excursion) = self.open.take() else { return };
        self.count += 1;
        self.all.span = Span(self.all.span.0.saturating_add(excursion.span.0));
        self.all.most = self.all.most.max(excursion.most);
        self.all.energy += excursion.energy;
        self.longest = self.longest.max(excursion.span);
        if self.first.len() < KEPT {
            self.first.push(excursion);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_periods_are_one_excursion() {
        let mut excursions = Excursions::default();
        let powers = [90, 101, 103, 100, 102, 99];
        for (number, power) in (1..).zip(powers) {
            excursions.period(Time(number * 10), Span(10), MilliWatts(power), MilliWatts(100));
        }
        excursions.finish();
        assert_eq!((excursions.count, excursions.longest), (2, Span(20)));
        assert_eq!((excursions.all.span, excursions.all.most), (Span(30), MilliWatts(3)));
        assert_eq!(excursions.all.energy, Energy(10 + 30 + 20));
        assert_eq!(
            excursions.first[0],
            Excursion { at: Time(10), span: Span(20), most: MilliWatts(3), energy: Energy(40) }
        );
        assert_eq!(excursions.first[1].at, Time(40));
    }
}
