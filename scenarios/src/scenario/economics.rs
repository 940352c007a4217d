//! What GPUs, energy and carbon cost.

use std::collections::BTreeMap;
use std::path::PathBuf;

use overbook_sim::check::Check;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::price::{EnergyPrice, Price};

/// What GPUs, energy and carbon cost: changes no run, only what reports say of it. Energy and carbon need watts (`power` or `fleet.row`);
/// the price of tokens does not. `overbook plan` takes its prices from here where `plan` has none.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EconomicsSpec {
    /// Rent of an hour of any GPU, as `2.5/gpu-h`. A rent holds the energy, unless `energy` is given too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Rent of an hour of a GPU of each type: names in the catalog.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, Price>,
    /// What GPUs were bought for, in place of a rent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capex: Option<CapexSpec>,
    /// Share of the paid hours in which the fleet serves as in this run, above 0 and at most 1; by default all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1))]
    pub utilization: Option<f64>,
    /// Price of energy, as `0.09/kWh`; by default that of `fleet.row.site`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy: Option<EnergyPrice>,
    /// Power of the facility ÷ power of its servers, at least 1; by default that of `fleet.row.site`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pue: Option<f64>,
    /// Carbon dioxide of the facility's energy; by default that of `fleet.row.site`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carbon: Option<CarbonSpec>,
    /// What an output token costs, in prompt tokens, as price lists have it: splits the money of a run between both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_weight: Option<f64>,
}

/// What a GPU was bought for, and for how long it serves.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapexSpec {
    /// Dollars for a GPU, with its share of server, network and building.
    pub usd_per_gpu: f64,
    /// Years over which that is paid.
    pub years: f64,
}

/// Hours of a year.
const YEAR_H: f64 = 8760.0;

/// Carbon dioxide of energy [g/kWh].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CarbonSpec {
    /// The same at all times.
    GPerKwh(f64),
    /// Each hour of the day, from the start of the run: 24 values.
    Hourly(Vec<f64>),
    /// Each hour from the start of the run, row by row of a CSV file; after the last it starts over.
    File {
        /// The file, relative to the scenario's folder. Its first line names the columns.
        path: PathBuf,
        /// The column.
        #[serde(default = "carbon_column", skip_serializing_if = "is_carbon_column")]
        column: String,
    },
}

fn carbon_column() -> String {
    "g_per_kwh".to_owned()
}

fn is_carbon_column(column: &str) -> bool {
    column == carbon_column()
}

/// Carbon intensities accepted at most [g/kWh]: burning lignite gives some 1,200.
pub(crate) const CARBON_MAX: f64 = 10_000.0;

impl EconomicsSpec {
    /// What an hour of a GPU costs [USD], if that is said: rent, or capital over the hours of its life; before `utilization`.
    pub fn price_of(&self, gpu: &str) -> Option<f64> {
        let rent = self.prices.get(gpu).copied().or(self.price).map(|price| price.0);
        rent.or_else(|| self.capex.map(|capex| capex.usd_per_gpu / (capex.years * YEAR_H)))
    }

    /// The same for an hour in which it serves.
    pub fn useful_hour(&self, gpu: &str) -> Option<f64> {
        Some(self.price_of(gpu)? / self.utilization.unwrap_or(1.0))
    }

    /// The rules on it.
    pub(super) fn check(&self, check: &mut Check<'_>) {
        let rent = self.price.is_some() || !self.prices.is_empty();
        check.that(!rent || self.capex.is_none(), "capex", "cannot be combined with a rent; GPUs are bought or rented");
        if let Some(CapexSpec { usd_per_gpu, years }) = self.capex {
            let sound = |value: f64, most: f64| value > 0.0 && value <= most;
            check.that(sound(usd_per_gpu, 1e7), "capex.usd_per_gpu", format!("is {usd_per_gpu}; it must be above 0"));
            let told = format!("is {years}; it must be above 0 and at most 50");
            check.that(sound(years, 50.0), "capex.years", told);
        }
        if let Some(utilization) = self.utilization {
            check.share_above_zero("utilization", utilization);
        }
        if let Some(pue) = self.pue {
            let told = format!("is {pue}; a facility draws at least what its servers draw: from 1 to 10");
            check.that((1.0..=10.0).contains(&pue), "pue", told);
        }
        if let Some(weight) = self.output_weight {
            let told = format!("is {weight}; it must be above 0 and at most 1000");
            check.that(weight > 0.0 && weight <= 1000.0, "output_weight", told);
        }
        let mut carbon = |key: &str, value: f64| {
            let told = format!("is {value}; grams per kilowatt-hour, from 0 to {CARBON_MAX}");
            check.that((0.0..=CARBON_MAX).contains(&value), key, told);
        };
        match &self.carbon {
            Some(CarbonSpec::GPerKwh(value)) => carbon("carbon.g_per_kwh", *value),
            Some(CarbonSpec::Hourly(values)) => {
                values.iter().enumerate().for_each(|(at, value)| carbon(&format!("carbon.hourly.{at}"), *value));
                let told = format!("has {} values; a day has 24 hours (longer series: `file`)", values.len());
                check.that(values.len() == 24, "carbon.hourly", told);
            }
            Some(CarbonSpec::File { .. }) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_a_gpu_is_rented_or_bought() {
        let prices = BTreeMap::from([("h200".to_owned(), Price(3.0))]);
        let rented = EconomicsSpec { price: Some(Price(2.0)), prices, ..EconomicsSpec::default() };
        assert_eq!((rented.price_of("h200"), rented.price_of("l4")), (Some(3.0), Some(2.0)));
        let capex = Some(CapexSpec { usd_per_gpu: 35_040.0, years: 4.0 });
        let bought = EconomicsSpec { capex, utilization: Some(0.5), ..EconomicsSpec::default() };
        assert_eq!((bought.price_of("l4"), bought.useful_hour("l4")), (Some(1.0), Some(2.0)));
        assert_eq!(EconomicsSpec::default().price_of("l4"), None);
    }

    #[test]
    fn senseless_values_are_refused() {
        let spec = EconomicsSpec {
            price: Some(Price(2.0)),
            capex: Some(CapexSpec { usd_per_gpu: 0.0, years: f64::NAN }),
            utilization: Some(1.5),
            pue: Some(0.9),
            carbon: Some(CarbonSpec::Hourly(vec![-1.0])),
            output_weight: Some(0.0),
            ..EconomicsSpec::default()
        };
        let mut found = Vec::new();
        spec.check(&mut Check::new("economics", &mut found));
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.trim_start_matches("economics.")).collect();
        let expected = [
            "capex",
            "capex.usd_per_gpu",
            "capex.years",
            "utilization",
            "pue",
            "output_weight",
            "carbon.hourly.0",
            "carbon.hourly",
        ];
        assert_eq!(keys, expected);
    }
}
