//! What a capacity plan may choose from, and what it costs.

use std::collections::BTreeMap;

use overbook_sim::time::Span;
use overbook_sim::units::Duration;
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
    /// What an hour of any of these GPUs costs, as `2.5/gpu-h`; by default what `economics` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// What an hour of a GPU of each type costs, where types differ.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, Price>,
    /// GPUs that split a copy of the model, 1 to 64; by default 1, 2, 4 and 8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensor_parallel: Vec<u32>,
    /// How replicas work: all alike, or some for prompts and the others for decodes; by default both are tried.
    pub modes: Vec<PlanMode>,
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

/// GPUs of a fleet at most, if nothing is said.
const GPUS_MOST: u32 = 256;

impl Default for PlanSpec {
    fn default() -> Self {
        PlanSpec {
            gpus: Vec::new(),
            price: None,
            prices: BTreeMap::new(),
            tensor_parallel: Vec::new(),
            modes: vec![PlanMode::Together, PlanMode::Apart],
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
