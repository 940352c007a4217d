//! What a capacity plan may choose from, and what it costs.

use std::collections::BTreeMap;

use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Watts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::price::Price;
use super::sweep::Values;

/// What `overbook plan` may choose from, what it costs, and how sure the answer must be. Every combination of the values is a shape
/// of fleet; of each the smallest number of replicas is looked for that keeps `slo`. Other commands play the scenario as it stands
/// above.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanSpec {
    /// GPU types: names in the catalog; by default the scenario's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Servers, in place of `gpus`: names in the catalog, each with its GPUs and links. Then servers are counted, and watts where the catalog
    /// knows what a server draws.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// What the fleet shall have the least of; by default dollars, and without prices GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<PlanObjective>,
    /// What the fleet's servers may draw at their peak, e.g. `40kW`: the highest reading of the row in the busiest stretch and over all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_most: Option<Watts>,
    /// What an hour of any of these GPUs costs, as `2.5/gpu-h`; by default what `economics` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// What an hour of a GPU of each type costs, where types differ.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, Price>,
    /// What an hour of any of these GPUs costs that is taken on demand, hour by hour. Then `price` is that of GPUs which are reserved for all
    /// hours, and the answer says how many of its GPUs should be which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<Price>,
    /// What an hour of a GPU of each type costs on demand, where types differ.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub on_demand_prices: BTreeMap<String, Price>,
    /// GPUs that split a copy of the model, 1 to 64; by default 1, 2, 4 and 8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensor_parallel: Vec<u32>,
    /// How replicas work: all alike, or some for prompts and the others for decodes; by default both are tried.
    pub modes: Vec<PlanMode>,
    /// Where prompts and decodes are apart, each side may have GPUs and `tensor_parallel` of its own: all pairs of them are tried.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mixed: bool,
    /// The link that carries KV where prompts and decodes are apart: a name in the catalog. By default that of `fleet.server`, and
    /// without a server `infiniband-ndr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Further settings to choose: dotted paths to the values they take, as in `sweep`. Where none is about the scheduler, vLLM is
    /// also tried with steps of 2,048 tokens.
    #[schemars(with = "BTreeMap<String, Values>")]
    pub axes: Map<String, Value>,
    /// GPUs of a fleet at most, 1 to 4096.
    #[schemars(range(min = 1, max = 4096))]
    pub gpus_most: u32,
    /// Promises must be kept over all requests, and in the busiest stretch of this length too: candidates are sifted there.
    pub window: Duration,
    /// Runs with seeds of their own behind the headroom, 2 to 100; where their interval is wide, up to 24 are run.
    #[schemars(range(min = 2, max = 100))]
    pub seeds: u32,
    /// Multiples of today's load for which the fleet is also sized, each from 1 to 100.
    pub growth: Vec<f64>,
    /// Replicas that the fleet must be able to lose in the middle of its busiest stretch: 0 or 1.
    #[schemars(range(min = 0, max = 1))]
    pub survive: u32,
}

/// How the replicas of a fleet work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlanMode {
    /// All replicas compute prompts and decode.
    Together,
    /// Some compute prompts, the others decode.
    Apart,
}

/// What a plan spares.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlanObjective {
    /// Dollars an hour.
    Usd,
    /// GPUs.
    Gpus,
    /// Servers.
    Servers,
    /// Kilowatts that the servers draw at their peak.
    Kw,
}

/// GPUs of a fleet at most, if nothing is said.
const GPUS_MOST: u32 = 256;

impl Default for PlanSpec {
    fn default() -> Self {
        PlanSpec {
            gpus: Vec::new(),
            servers: Vec::new(),
            objective: None,
            power_most: None,
            price: None,
            prices: BTreeMap::new(),
            on_demand: None,
            on_demand_prices: BTreeMap::new(),
            tensor_parallel: Vec::new(),
            modes: vec![PlanMode::Together, PlanMode::Apart],
            mixed: false,
            link: None,
            axes: Map::new(),
            gpus_most: GPUS_MOST,
            window: Duration(Span(3_600_000_000_000)),
            seeds: 5,
            growth: Vec::new(),
            survive: 0,
        }
    }
}

impl PlanSpec {
    /// What an hour of a GPU costs, if that is said.
    pub fn price_of(&self, gpu: &str) -> Option<f64> {
        self.prices.get(gpu).copied().or(self.price).map(|price| price.0)
    }

    /// What an hour of a GPU costs on demand, if that is said.
    pub fn on_demand_of(&self, gpu: &str) -> Option<f64> {
        self.on_demand_prices.get(gpu).copied().or(self.on_demand).map(|price| price.0)
    }

    /// Whether GPUs on demand have a price.
    pub fn has_on_demand(&self) -> bool {
        self.on_demand.is_some() || !self.on_demand_prices.is_empty()
    }

    /// The GPU types to choose from; `gpu` is the scenario's.
    pub fn gpus_of(&self, gpu: &str) -> Vec<String> {
        if self.gpus.is_empty() { vec![gpu.to_owned()] } else { self.gpus.clone() }
    }

    /// Everything that is wrong with the values, as (path below `plan`, message, help).
    pub(crate) fn problems(&self) -> Vec<(String, String, Option<String>)> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: String| problems.push((path.to_owned(), message, None));
        if self.modes.is_empty() {
            add("modes", "names no mode; give `together`, `apart` or both".to_owned());
        }
        if !(1..=4096).contains(&self.gpus_most) {
            add("gpus_most", format!("is {}; it must be between 1 and 4096", self.gpus_most));
        }
        if self.window.0 == Span::ZERO {
            add("window", "is 0; the busiest stretch must last some time".to_owned());
        }
        if !(2..=100).contains(&self.seeds) {
            add("seeds", format!("is {}; an interval needs between 2 and 100", self.seeds));
        }
        if self.survive > 1 {
            add("survive", format!("is {}; the loss of one replica is what can be planned for", self.survive));
        }
        for (at, parallel) in self.tensor_parallel.iter().enumerate().filter(|(_, n)| !(1..=64).contains(*n)) {
            add(&format!("tensor_parallel.{at}"), format!("is {parallel}; it must be between 1 and 64"));
        }
        if !self.gpus.is_empty() && !self.servers.is_empty() {
            add("servers", "says what `gpus` says: each server has its GPUs; give one of the two".to_owned());
        }
        if self.mixed && !self.modes.contains(&PlanMode::Apart) {
            add("mixed", "has no effect without the mode `apart`: it is the two sides that may differ".to_owned());
        }
        if self.power_most.is_some_and(|watts| watts.0 <= 0.0) {
            add("power_most", "is 0; it must be above 0".to_owned());
        }
        if let Some(at) = again(&self.servers) {
            add(&format!("servers.{at}"), format!("`{}` is there twice", self.servers[at]));
        }
        if let Some(at) = again(&self.modes) {
            add(&format!("modes.{at}"), "stands there already".to_owned());
        }
        if let Some(at) = again(&self.tensor_parallel) {
            add(&format!("tensor_parallel.{at}"), format!("{} stands there already", self.tensor_parallel[at]));
        }
        if let Some(at) = again(&self.growth) {
            add(&format!("growth.{at}"), format!("{} stands there already", self.growth[at]));
        }
        if self.axes.contains_key("seed") {
            add("axes.seed", "is nothing to choose: `plan.seeds` says how many are tried".to_owned());
        }
        for (at, growth) in self.growth.iter().enumerate().filter(|(_, n)| !(1.0..=100.0).contains(*n)) {
            add(&format!("growth.{at}"), format!("is {growth}; it must be between 1 and 100 times the load"));
        }
        problems
    }
}

/// Where a value stands that stood before.
fn again<T: PartialEq>(values: &[T]) -> Option<usize> {
    (1..values.len()).find(|&at| values[..at].contains(&values[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_without_a_price_of_its_own_has_the_common_one() {
        let prices = BTreeMap::from([("h200".to_owned(), Price(3.0))]);
        let spec = PlanSpec { price: Some(Price(2.0)), prices, ..PlanSpec::default() };
        assert_eq!((spec.price_of("h200"), spec.price_of("l4")), (Some(3.0), Some(2.0)));
        assert!(spec.problems().is_empty());
    }
}
