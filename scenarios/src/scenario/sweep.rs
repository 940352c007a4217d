//! Values to vary.

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
    Named(std::collections::BTreeMap<String, Value>),
}

/// Values to vary: every combination of the axes, with the zipped lists as one more axis.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SweepSpec {
    /// Dotted path of a setting to the values it takes, as a list, or as a map from the name that tables show to the value;
    /// all combinations are run, the last axis varying fastest.
    #[schemars(with = "std::collections::BTreeMap<String, Values>")]
    pub axes: Map<String, Value>,
    /// Dotted paths to lists or maps of equal length, walked in step.
    #[schemars(with = "std::collections::BTreeMap<String, Values>")]
    pub zip: Map<String, Value>,
}
