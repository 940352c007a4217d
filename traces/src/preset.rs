//! Columns of the records that load generators, proxies and routers write.
//!
//! | format | written by | fields read from |
//! |---|---|---|
//! | `aiperf` | `AIPerf`, `profile_export.jsonl` | ai-dynamo/aiperf, records of `--export-level records` |
//! | `vllm-bench` | `vllm bench serve --save-result --save-detailed` | vllm-project/vllm, `vllm/benchmarks/serve.py` |
//! | `sglang-bench` | `sglang.bench_serving --output-details` | sgl-project/sglang, `bench_serving.py` |
//! | `guidellm` | `guidellm benchmark --output-path *.json` | vllm-project/guidellm, `schemas/request_stats.py` |
//! | `inference-perf` | `per_request_lifecycle_metrics.json` | kubernetes-sigs/inference-perf, `apis/base.py` |
//! | `litellm` | the proxy's spend logs, as CSV or JSON | BerriAI/litellm, `LiteLLM_SpendLogs` |
//! | `dynamo` | `DYN_REQUEST_TRACE=1`, `dynamo.request.trace.v1` | ai-dynamo/dynamo, docs on request traces |
//!
//! All of them are sorted: most write a request when it has ended.

use crate::columns::Columns;
use crate::format::Format;
use crate::header::Header;
use crate::number::TimeUnit;

/// Rows that are requests, by the value of a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Those with this value.
    With(&'static str, &'static str),
    /// Those without it.
    Without(&'static str, &'static str),
}

/// How the file of another program is read.
pub(crate) struct Preset {
    pub(crate) columns: Columns,
    /// Whether rows have times.
    pub(crate) timed: bool,
    pub(crate) wanted: Option<Wanted>,
    /// Column with the tokens that a hash id stands for; the last id may stand for fewer.
    pub(crate) id_tokens: Option<&'static str>,
}

/// How a file of a format is read; `None` if the format has a decoder of its own.
pub(crate) fn preset(format: Format, header: &Header) -> Option<Preset> {
    let has = |name: &str| header.position(name).map(|_| name.to_owned());
    let one_of = |names: &str| {
        let found = names.split('|').find(|name| header.position(name).is_some());
        found.or_else(|| names.split('|').next()).unwrap_or_default().to_owned()
    };
    let columns = |arrival: &str, unit, prompt: &str, output: &str| Columns {
        unit,
        ..Columns::new(&one_of(arrival), &one_of(prompt), &one_of(output))
    };
    let preset = |columns| Preset { columns, timed: true, wanted: None, id_tokens: None };
    Some(match format {
        Format::Aiperf => Preset {
            wanted: Some(Wanted::With("metadata.benchmark_phase", "profiling")),
            ..preset(Columns {
                session: has("metadata.x_correlation_id").or_else(|| has("metadata.conversation_id")),
                ..columns(
                    "metadata.request_start_ns",
                    TimeUnit::Ns,
                    "metrics.input_sequence_length.value",
                    "metrics.output_sequence_length.value",
                )
            })
        },
        Format::VllmBench => preset(columns("start_times", TimeUnit::S, "input_lens", "output_lens")),
        // There is no column of times: that of the prompts stands in, and is not read.
        Format::SglangBench => {
            Preset { timed: false, ..preset(columns("input_lens", TimeUnit::S, "input_lens", "output_lens")) }
        }
        Format::Guidellm => {
            preset(columns("request_start_time|start_time", TimeUnit::S, "prompt_tokens", "output_tokens"))
        }
        Format::InferencePerf => preset(columns(
            "start_time",
            TimeUnit::S,
            "info.request_metrics.text.input_tokens|info.input_tokens",
            "info.response_metrics.output_tokens|info.output_tokens",
        )),
        Format::Litellm => Preset {
            // What the proxy answers from its own cache reaches no engine.
            wanted: has("cache_hit").map(|_| Wanted::Without("cache_hit", "True")),
            ..preset(Columns {
                class: has("model"),
                session: has("session_id"),
                ..columns("startTime", TimeUnit::Datetime, "prompt_tokens", "completion_tokens")
            })
        },
        Format::Dynamo => Preset {
            wanted: Some(Wanted::With("event_type", "request_end")),
            id_tokens: has("request.replay.input_sequence_hashes")
                .and(has("request.replay.trace_block_size"))
                .map(|_| "request.replay.trace_block_size"),
            ..preset(Columns {
                class: has("request.model"),
                session: has("agent_context.session_id"),
                hash_ids: has("request.replay.input_sequence_hashes"),
                ..columns(
                    "request.request_received_ms",
                    TimeUnit::Ms,
                    "request.replay.input_length|request.input_tokens",
                    "request.output_tokens",
                )
            })
        },
        Format::Auto
        | Format::BurstGpt
        | Format::Azure
        | Format::Vidur
        | Format::Mooncake
        | Format::Bailian
        | Format::KvCacheTester
        | Format::Columns => return None,
    })
}
