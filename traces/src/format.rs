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
    /// `AIPerf`'s `profile_export.jsonl`.
    Aiperf,
    /// `vllm bench serve --save-result --save-detailed`.
    VllmBench,
    /// `sglang.bench_serving --output-details`: lengths without times.
    SglangBench,
    /// guidellm's JSON report.
    Guidellm,
    /// inference-perf's `per_request_lifecycle_metrics.json`.
    InferencePerf,
    /// `LiteLLM`'s spend logs.
    Litellm,
    /// Dynamo's request traces.
    Dynamo,
    /// Any layout, with `columns`.
    Columns,
}

impl Format {
    /// The formats that a file of rows can have; Bailian's files have Mooncake's keys too.
    pub(crate) const ALL: [Format; 12] = [
        Format::BurstGpt,
        Format::Azure,
        Format::Vidur,
        Format::Bailian,
        Format::Mooncake,
        Format::Aiperf,
        Format::VllmBench,
        Format::SglangBench,
        Format::Guidellm,
        Format::InferencePerf,
        Format::Litellm,
        Format::Dynamo,
    ];

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
            Format::Aiperf => &["metadata.request_start_ns", "metadata.benchmark_phase"],
            Format::VllmBench => &["input_lens", "output_lens", "start_times"],
            Format::SglangBench => &["input_lens", "output_lens"],
            Format::Guidellm => &[
                "request_start_time|start_time",
                "prompt_tokens",
                "output_tokens",
                "request_latency",
                "output_tokens_per_second",
            ],
            Format::InferencePerf => {
                &["start_time", "end_time", "info.request_metrics.text.input_tokens|info.input_tokens"]
            }
            Format::Litellm => &["startTime", "endTime", "prompt_tokens", "completion_tokens"],
            Format::Dynamo => &["event_type", "request.request_received_ms", "request.output_tokens"],
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
            Format::Aiperf => "aiperf",
            Format::VllmBench => "vllm-bench",
            Format::SglangBench => "sglang-bench",
            Format::Guidellm => "guidellm",
            Format::InferencePerf => "inference-perf",
            Format::Litellm => "litellm",
            Format::Dynamo => "dynamo",
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
