//! Values to vary.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Values to vary: every combination of the axes, with the zipped lists as one more axis.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SweepSpec {
    /// Dotted path of a setting to the values it takes; all combinations are run, the last axis varying fastest.
    #[schemars(with = "std::collections::BTreeMap<String, Vec<Value>>")]
    pub axes: Map<String, Value>,
    /// Dotted paths to lists of equal length, walked in step.
    #[schemars(with = "std::collections::BTreeMap<String, Vec<Value>>")]
    pub zip: Map<String, Value>,
}
