//! The layouts of trace files that are known by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Layout of a trace file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The header decides.
    #[default]
    Auto,
    /// `BurstGPT` v1 and v1.2, and excerpts with relative timestamps.
    #[serde(rename = "burstgpt")]
    BurstGpt,
    /// Azure LLM inference traces of 2023 and 2024.
    Azure,
    /// Request files of the vidur simulator.
    Vidur,
    /// Mooncake's JSON lines, and others with its keys.
    Mooncake,
    /// Qwen-Bailian's JSON lines: seconds, ids of 16-token blocks, turns that name the turn before.
    Bailian,
    /// Sessions of coding agents, as kv-cache-tester records them: JSON lines, one session each.
    KvCacheTester,
    /// Any layout, with `columns`.
    Columns,
}

impl Format {
    /// The formats that a file of rows can have; Bailian's files have Mooncake's keys too.
    pub(crate) const ALL: [Format; 5] =
        [Format::BurstGpt, Format::Azure, Format::Vidur, Format::Bailian, Format::Mooncake];

    /// Columns that the format needs; `|` separates alternatives.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Format::Auto | Format::Columns => &[],
            Format::KvCacheTester => &["id", "block_size", "requests"],
            Format::BurstGpt => {
                &["Timestamp|Relative timestamp", "Model", "Request tokens", "Response tokens", "Log Type"]
            }
            Format::Azure => &["TIMESTAMP", "ContextTokens", "GeneratedTokens"],
            Format::Vidur => &["arrived_at", "num_prefill_tokens", "num_decode_tokens"],
            Format::Bailian => &["chat_id", "parent_chat_id", "type", "timestamp", "input_length", "output_length"],
            Format::Mooncake => &["timestamp", "input_length", "output_length"],
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Auto => "auto",
            Format::BurstGpt => "burstgpt",
            Format::Azure => "azure",
            Format::Vidur => "vidur",
            Format::Bailian => "bailian",
            Format::Mooncake => "mooncake",
            Format::KvCacheTester => "kv-cache-tester",
            Format::Columns => "columns",
        })
    }
}

/// What each format needs, for messages.
pub(crate) fn needs() -> String {
    let needs = Format::ALL.into_iter().chain([Format::KvCacheTester]);
    let needs: Vec<String> = needs.map(|format| format!("{format} ({})", format.columns().join(", "))).collect();
    needs.join("; ")
}
