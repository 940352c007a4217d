//! Static batching, as FasterTransformer and naive serving loops do it.

use serde::{Deserialize, Serialize};

/// Settings of static batching.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StaticSpec {
    /// Requests per batch at most.
    pub batch_size: u32,
}

impl Default for StaticSpec {
    fn default() -> Self {
        StaticSpec { batch_size: 32 }
    }
}
