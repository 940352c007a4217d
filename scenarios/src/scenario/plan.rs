//! What a capacity plan may choose from, and what it costs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use overbook_sim::time::Span;
use overbook_sim::units::Duration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

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
    /// What an hour of any of these GPUs costs, as `2.5/gpu-h`.
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

/// What an hour of a GPU costs [USD], from a tenth of a cent to a million. Written `2.5/gpu-h`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Price(pub f64);

/// What an hour of a GPU may cost [USD].
const PRICES: std::ops::RangeInclusive<f64> = 0.001..=1e6;

/// What a price is written with.
const PRICE_UNIT: &str = "/gpu-h";

impl FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Price, String> {
        let told = |why: &str| format!("`{text}` {why}; write dollars per GPU and hour, e.g. 2.5{PRICE_UNIT}");
        let plain = text.trim().trim_start_matches('$');
        let Some(number) = plain.strip_suffix(PRICE_UNIT) else { return Err(told("has no unit of a price")) };
        let value: f64 = number.trim().parse().map_err(|_| told("is not a price"))?;
        if PRICES.contains(&value) {
            Ok(Price(value))
        } else {
            Err(told("is not a price from a tenth of a cent to a million dollars"))
        }
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}{PRICE_UNIT}", self.0))
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Price, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// A price as it is written; a number alone is told what it lacks.
struct Written;

impl de::Visitor<'_> for Written {
    type Value = Price;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a price, e.g. 2.5{PRICE_UNIT}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Price, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Price, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Price, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Price, E> {
        self.visit_str(&number.to_string())
    }
}

impl JsonSchema for Price {
    fn schema_name() -> Cow<'static, str> {
        "Price".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\$?[0-9]*\.?[0-9]+/gpu-h$",
            "description": "Dollars per GPU and hour, as 2.5/gpu-h"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_has_a_unit_and_can_be_one() {
        assert_eq!("2.5/gpu-h".parse(), Ok(Price(2.5)));
        assert_eq!("$10/gpu-h".parse(), Ok(Price(10.0)));
        for wrong in ["2.5", "2.5/h", "-1/gpu-h", "0/gpu-h", "x/gpu-h", "inf/gpu-h", "1e9/gpu-h", "0.00001/gpu-h"] {
            let told = wrong.parse::<Price>().expect_err(wrong);
            assert!(told.contains("2.5/gpu-h") && told.contains(wrong), "{told}");
        }
    }

    #[test]
    fn a_type_without_a_price_of_its_own_has_the_common_one() {
        let prices = BTreeMap::from([("h200".to_owned(), Price(3.0))]);
        let spec = PlanSpec { price: Some(Price(2.0)), prices, ..PlanSpec::default() };
        assert_eq!((spec.price_of("h200"), spec.price_of("l4")), (Some(3.0), Some(2.0)));
        assert!(spec.problems().is_empty());
    }
}
