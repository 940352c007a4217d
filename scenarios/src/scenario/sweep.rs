//! Values to vary.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The values of one axis.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum Values {
    /// Shown as they are written.
    Plain(Vec<Value>),
    /// Each with the name that tables and figures show.
    Named(BTreeMap<String, Value>),
}

/// What a value is drawn from.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[allow(dead_code, reason = "only its schema is used")]
enum Draw {
    /// The lowest and the highest value, e.g. `[0.8, 0.95]` or `[1/s, 20/s]`; all between are equally likely. Whole numbers without a unit
    /// give whole numbers.
    Uniform([Value; 2]),
    /// The lowest and the highest value, above 0; the logarithms of all between are equally likely.
    LogUniform([Value; 2]),
    /// Values, equally likely, as an axis lists them.
    Choice(Values),
}

/// Seeds of replicates.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum Seeds {
    /// So many, from the scenario's `seed` on.
    Count(u32),
    /// These.
    List(Vec<u64>),
}

/// Values to vary: every combination of the axes, with the zipped lists as one more axis, drawn points as others, and the seeds as the
/// last one.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SweepSpec {
    /// Dotted path of a setting to the values it takes, as a list, or as a map from the name that tables show to the value;
    /// all combinations are run, the last axis varying fastest.
    #[schemars(with = "BTreeMap<String, Values>")]
    pub axes: Map<String, Value>,
    /// Dotted paths to lists or maps of equal length, walked in step.
    #[schemars(with = "BTreeMap<String, Values>")]
    pub zip: Map<String, Value>,
    /// Points drawn independently of each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<DrawSpec>,
    /// Points of a Latin hypercube: each range is cut into as many equal parts as there are points, and each part has one of them
    /// (McKay, Beckman, Conover 1979).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lhs: Option<DrawSpec>,
    /// Seeds that every point is run with, 2 to 1,000 of them: a number, or a list. Tables then show means with their 95 % intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Seeds>")]
    pub seeds: Option<Value>,
}

/// Points that are drawn.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrawSpec {
    /// How many, 1 to 10,000.
    #[schemars(range(min = 1, max = 10_000))]
    pub points: u32,
    /// Seed of the draws, by default 0. That of the runs does not count.
    #[serde(default)]
    pub seed: u64,
    /// Dotted path of a setting to what its values are drawn from.
    #[schemars(with = "BTreeMap<String, Draw>")]
    pub over: Map<String, Value>,
}
