//! Which rows of a trace are wanted.

use serde::{Deserialize, Serialize};

/// Rows to keep. An empty list keeps everything; names are compared without regard to case.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Models, e.g. `ChatGPT`, `GPT-4`.
    pub model: Vec<String>,
    /// Log types, in full (`Conversation log`) or short (`conversation`, `api`).
    pub log_type: Vec<String>,
    /// Classes: values of the class column, or model and log type (`GPT-4/api`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class: Vec<String>,
}

impl Keep {
    /// Whether nothing is filtered out.
    pub fn is_all(&self) -> bool {
        self.model.is_empty() && self.log_type.is_empty() && self.class.is_empty()
    }

    pub(crate) fn keeps_class(&self, name: &str) -> bool {
        self.class.is_empty() || self.class.iter().any(|class| class.trim().eq_ignore_ascii_case(name))
    }
}
