//! What the results must be, as a scenario file says it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::amount::Amount;
use crate::metric::Metric;

/// A figure that the results must meet: `value` within `tolerance`, or between `min` and `max`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectSpec {
    /// The metric.
    pub metric: Metric,
    /// The point of the study: swept paths and their values. Paths with one value may be left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub at: BTreeMap<String, Coordinate>,
    /// Swept paths over whose values the figure is a mean, e.g. `[seed]`; `at` then leaves them out. A ratio is that of two means.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean_over: Vec<String>,
    /// Divide by the metric at another point; the figure is then a ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<OverSpec>,
    /// The figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Amount>,
    /// How far off the figure may be: in percent of it, or in its own dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Amount>,
    /// The figure at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Amount>,
    /// The figure at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Amount>,
    /// What the figure stands on; by default the source states it.
    #[serde(default, skip_serializing_if = "Basis::is_figure")]
    pub basis: Basis,
    /// Where the figure comes from.
    pub source: String,
}

/// What an expectation stands on. Only [`Basis::Figure`] can confirm what a source says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The source states the figure, and the gate is that figure.
    #[default]
    Figure,
    /// The source states a figure, and the gate asks for its direction or order of magnitude alone.
    Direction,
    /// It follows from what the figures mean: no run can be beyond it.
    Bound,
    /// Our own run had it: the gate keeps it from changing, and says nothing of the world.
    Regression,
}

impl Basis {
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_figure(&self) -> bool {
        *self == Basis::Figure
    }
}

/// The other side of a ratio.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverSpec {
    /// The point of the study; what is left out is as in the expectation's `at`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub at: BTreeMap<String, Coordinate>,
    /// The metric; by default the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
}

/// A swept value as text: scalars as they are, everything else as JSON.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Coordinate(pub String);

impl<'de> Deserialize<'de> for Coordinate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Coordinate, D::Error> {
        Ok(Coordinate(match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        }))
    }
}

impl Serialize for Coordinate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Coordinate {
    fn schema_name() -> Cow<'static, str> {
        "Coordinate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A swept value, written as in the sweep" })
    }
}
