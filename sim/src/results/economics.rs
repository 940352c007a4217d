//! What a run costs: prices of GPUs and energy, the overhead of the facility, carbon.
//!
//! ```text
//! hardware [USD] = GPU hours · price ÷ utilization          energy [USD] = kWh at the feed · PUE · price
//! carbon [g]     = Σ over hours: kWh at the feed · PUE · intensity of that hour
//! ```

use crate::power::meter::Energy;

/// Joules in a kilowatt-hour.
pub const KWH: f64 = 3.6e6;

/// Prices and factors; each that is not known leaves the figures that need it undefined.
#[derive(Clone, PartialEq, Debug)]
pub struct Economics {
    /// What an hour of a GPU costs [USD]: rent, or capital over the hours of its life. The mean over the fleet's GPUs.
    pub gpu_hour: Option<f64>,
    /// Share of the paid hours in which the fleet serves as in this run, above 0 and at most 1.
    pub utilization: f64,
    /// Price of energy [USD/kWh].
    pub energy: Option<f64>,
    /// Whether energy is paid beside the hours of GPUs: a rent may hold it already.
    pub energy_beside: bool,
    /// Power of the facility ÷ power of its servers.
    pub pue: Option<f64>,
    /// Carbon dioxide of the facility's energy.
    pub carbon: Option<Carbon>,
    /// What an output token costs, in prompt tokens; splits the money of a run between both.
    pub output_weight: Option<f64>,
}

impl Default for Economics {
    fn default() -> Self {
        Economics {
            gpu_hour: None,
            utilization: 1.0,
            energy: None,
            energy_beside: false,
            pue: None,
            carbon: None,
            output_weight: None,
        }
    }
}

/// Carbon dioxide per energy [g/kWh], hour by hour from the start of a run; after the last it starts over.
#[derive(Clone, PartialEq, Debug)]
pub struct Carbon(Vec<f64>);

impl Carbon {
    /// One intensity at all times.
    pub fn flat(g_per_kwh: f64) -> Carbon {
        Carbon(vec![g_per_kwh])
    }

    /// One for each hour; `None` of no hours.
    pub fn hourly(g_per_kwh: Vec<f64>) -> Option<Carbon> {
        (!g_per_kwh.is_empty()).then_some(Carbon(g_per_kwh))
    }

    /// Grams for energies of the hours of a run, each times `factor`.
    pub fn grams(&self, hours: &[Energy], factor: f64) -> f64 {
        let of = |(energy, each): (&Energy, &f64)| energy.as_joules_f64() * factor / KWH * each;
        hours.iter().zip(self.0.iter().cycle()).map(of).sum()
    }
}

/// USD of a million tokens, for so many dollars and tokens; `None` of no tokens.
pub fn per_mtoken(usd: f64, tokens: u64) -> Option<f64> {
    (tokens > 0).then(|| usd / (tokens as f64 * 1e-6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::meter::MilliWatts;
    use crate::time::Span;

    #[test]
    fn carbon_follows_the_hours_and_starts_over() {
        let kwh = MilliWatts(1_000_000).over(Span(3_600_000_000_000));
        let carbon = Carbon::hourly(vec![100.0, 400.0]).expect("hours");
        assert!((carbon.grams(&[kwh, kwh, kwh], 1.5) - 1.5 * 600.0).abs() < 1e-9);
        assert!((Carbon::flat(300.0).grams(&[kwh, kwh], 1.0) - 600.0).abs() < 1e-9);
        assert_eq!(Carbon::hourly(Vec::new()), None);
    }

    #[test]
    fn a_million_tokens_have_a_price() {
        assert_eq!(per_mtoken(3.0, 1_500_000), Some(2.0));
        assert_eq!(per_mtoken(3.0, 0), None);
    }
}
