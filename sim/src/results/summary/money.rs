//! What a run cost, by [`Economics`].

use super::Summary;
use crate::results::economics::{Economics, KWH, per_mtoken};

/// The money of a run [USD].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Money {
    /// Hours of GPUs.
    pub hardware: f64,
    /// Energy that is paid beside them; 0 where none is, or none is known.
    pub energy: f64,
}

impl Money {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.hardware + self.energy
    }
}

/// A line of the table that says what the price of tokens hangs on.
#[derive(Clone, PartialEq, Debug)]
pub struct Sensitivity {
    /// What changes.
    pub of: &'static str,
    /// USD of a million output tokens with a fifth less of it, and with a fifth more.
    pub usd: (f64, f64),
}

/// Multiplies one factor.
type Change = fn(&mut Economics, f64);

/// The change that sensitivities are told for.
const FIFTH: f64 = 0.2;

impl Summary {
    /// Energy at the feed of the servers [kWh], where watts are counted.
    fn server_kwh(&self) -> Option<f64> {
        Some(self.power.as_ref()?.figures.server_joules() / KWH)
    }

    /// Energy of the facility [J]; none where its overhead is not known.
    pub fn facility_joules(&self) -> Option<f64> {
        Some(self.power.as_ref()?.figures.server_joules() * self.economics.as_ref()?.pue?)
    }

    /// Carbon dioxide of the facility [g].
    pub fn carbon_grams(&self) -> Option<f64> {
        let Economics { pue, carbon, .. } = self.economics.as_deref()?;
        Some(carbon.as_ref()?.grams(&self.power.as_ref()?.figures.row.hours, (*pue)?))
    }

    /// Cost of the facility's energy [USD], whoever pays it.
    pub fn energy_cost(&self) -> Option<f64> {
        self.energy_cost_by(self.economics.as_deref()?)
    }

    fn energy_cost_by(&self, economics: &Economics) -> Option<f64> {
        Some(self.server_kwh()? * economics.pue? * economics.energy?)
    }

    /// What the run cost; none where no price of GPUs is known, or not how many there were.
    pub fn money(&self) -> Option<Money> {
        self.money_by(self.economics.as_deref()?)
    }

    fn money_by(&self, economics: &Economics) -> Option<Money> {
        let hours = self.fleet.gpu_time?.as_secs_f64() / 3600.0;
        let hardware = hours * economics.gpu_hour? / economics.utilization;
        let energy = if economics.energy_beside { self.energy_cost_by(economics) } else { None };
        Some(Money { hardware, energy: energy.unwrap_or(0.0) })
    }

    /// USD of a million output tokens of finished requests: all the money on them alone.
    pub fn cost_per_mtoken_output(&self) -> Option<f64> {
        per_mtoken(self.money()?.total(), self.tokens.finished_output)
    }

    /// Prices of a million prompt and of a million output tokens [USD] at which finished requests pay for the run.
    pub fn break_even(&self) -> Option<(f64, f64)> {
        let weight = self.economics.as_ref()?.output_weight?;
        let tokens = self.tokens.finished_prompt as f64 + weight * self.tokens.finished_output as f64;
        let input = (tokens > 0.0).then(|| self.money().map(|money| money.total() / (tokens * 1e-6)))??;
        Some((input, input * weight))
    }

    /// What the price of a million output tokens hangs on: each factor that enters it, a fifth less and a fifth more of it, as far as
    /// that can be: nothing is used more than all the time, and no facility has a PUE below 1.
    pub fn sensitivities(&self) -> Vec<Sensitivity> {
        let Some(base) = self.economics.as_deref() else { return Vec::new() };
        let tokens = self.tokens.finished_output;
        let usd = |change: Change, factor: f64| {
            let mut economics = base.clone();
            change(&mut economics, factor);
            per_mtoken(self.money_by(&economics)?.total(), tokens)
        };
        let changes: [(&'static str, Change); 4] = [
            ("price of a GPU hour", |economics, factor| {
                economics.gpu_hour = economics.gpu_hour.map(|usd| usd * factor);
            }),
            ("utilization", |economics, factor| economics.utilization = (economics.utilization * factor).min(1.0)),
            ("PUE", |economics, factor| economics.pue = economics.pue.map(|pue| (pue * factor).max(1.0))),
            ("price of energy", |economics, factor| economics.energy = economics.energy.map(|usd| usd * factor)),
        ];
        let energy = self.money().is_some_and(|money| money.energy > 0.0);
        let counted = if energy { 4 } else { 2 };
        let line = |&(of, change): &(&'static str, Change)| {
            Some(Sensitivity { of, usd: (usd(change, 1.0 - FIFTH)?, usd(change, 1.0 + FIFTH)?) })
        };
        changes[..counted].iter().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fleet, Slo, Tally};
    use super::*;
    use crate::time::Span;

    /// Two GPUs for an hour and a half; 3 M prompt tokens, 1 M output tokens; no watts.
    fn summary(economics: Economics) -> Summary {
        let fleet = Fleet { gpu_time: Some(Span(3 * 3_600_000_000_000)), ..Fleet::default() };
        let mut summary = Tally::new(Slo::default()).finish(fleet, &["all".to_owned()]);
        (summary.tokens.finished_prompt, summary.tokens.finished_output) = (3_000_000, 1_000_000);
        summary.economics = Some(Box::new(economics));
        summary
    }

    #[test]
    fn tokens_have_a_price_without_watts() {
        let economics =
            Economics { gpu_hour: Some(2.0), utilization: 0.5, output_weight: Some(3.0), ..Economics::default() };
        let summary = summary(economics);
        assert_eq!(summary.money(), Some(Money { hardware: 12.0, energy: 0.0 }));
        assert_eq!(summary.metric("cost_per_mtoken_output"), Some(12.0));
        assert_eq!(summary.metric("cost_per_mtoken"), Some(3.0));
        assert_eq!(summary.break_even(), Some((2.0, 6.0)));
        assert_eq!((summary.energy_cost(), summary.carbon_grams(), summary.facility_joules()), (None, None, None));
    }

    #[test]
    fn without_a_price_nothing_is_said() {
        let summary = summary(Economics { output_weight: Some(3.0), ..Economics::default() });
        assert_eq!((summary.money(), summary.break_even(), summary.sensitivities()), (None, None, Vec::new()));
    }

    #[test]
    fn what_enters_the_price_moves_it() {
        let lines = summary(Economics { gpu_hour: Some(2.0), ..Economics::default() }).sensitivities();
        let told: Vec<_> = lines.iter().map(|line| (line.of, line.usd)).collect();
        assert_eq!(told.len(), 2, "energy does not enter: {told:?}");
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(told[0].1.0, 4.8) && near(told[0].1.1, 7.2), "{told:?}");
        // Used all the time already.
        assert!(near(told[1].1.0, 7.5) && near(told[1].1.1, 6.0), "{told:?}");
    }
}
