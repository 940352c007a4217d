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
    /// Columns with the lengths of prompt and output in records that do not have the first ones.
    pub(crate) instead: [Option<String>; 2],
}

/// Columns, each given by its name or by alternatives with `|` between, of which the first that is there counts.
fn of_columns(header: &Header, arrival: &str, unit: TimeUnit, lengths: [&str; 2]) -> Preset {
    let there =
        |names: &str| names.split('|').filter(|name| header.position(name).is_some()).map(str::to_owned).collect();
    let [arrival, prompt, output] = [arrival, lengths[0], lengths[1]].map(|names| {
        let there: Vec<String> = there(names);
        let first = names.split('|').next().unwrap_or_default();
        (there.first().map_or_else(|| first.to_owned(), String::clone), there.get(1).cloned())
    });
    Preset {
        columns: Columns { unit, ..Columns::new(&arrival.0, &prompt.0, &output.0) },
        timed: true,
        wanted: None,
        id_tokens: None,
        instead: [prompt.1, output.1],
    }
}

/// Dynamo's request traces.
fn dynamo(header: &Header) -> Preset {
    let has = |name: &str| header.position(name).map(|_| name.to_owned());
    let lengths = ["request.replay.input_length|request.input_tokens", "request.output_tokens"];
    let preset = of_columns(header, "request.request_received_ms", TimeUnit::Ms, lengths);
    let (hashes, size) = ("request.replay.input_sequence_hashes", "request.replay.trace_block_size");
    Preset {
        wanted: Some(Wanted::With("event_type", "request_end")),
        id_tokens: has(hashes).and(has(size)).map(|_| size),
        columns: Columns {
            class: has("request.model"),
            session: has("agent_context.session_id"),
            hash_ids: has(hashes),
            ..preset.columns
        },
        ..preset
    }
}

/// How a file of a format is read; `None` if the format has a decoder of its own.
pub(crate) fn preset(format: Format, header: &Header) -> Option<Preset> {
    let has = |name: &str| header.position(name).map(|_| name.to_owned());
    let preset = |arrival, unit, prompt, output| of_columns(header, arrival, unit, [prompt, output]);
    Some(match format {
        Format::Aiperf => {
            let preset = preset(
                "metadata.request_start_ns",
                TimeUnit::Ns,
                "metrics.input_sequence_length.value",
                "metrics.output_sequence_length.value",
            );
            let session = has("metadata.x_correlation_id").or_else(|| has("metadata.conversation_id"));
            Preset {
                wanted: Some(Wanted::With("metadata.benchmark_phase", "profiling")),
                columns: Columns { session, ..preset.columns },
                ..preset
            }
        }
        Format::VllmBench => preset("start_times", TimeUnit::S, "input_lens", "output_lens"),
        // There is no column of times: that of the prompts stands in, and is not read.
        Format::SglangBench => {
            Preset { timed: false, ..preset("input_lens", TimeUnit::S, "input_lens", "output_lens") }
        }
        Format::Guidellm => preset("request_start_time|start_time", TimeUnit::S, "prompt_tokens", "output_tokens"),
        Format::InferencePerf => preset(
            "start_time",
            TimeUnit::S,
            "info.request_metrics.text.input_tokens|info.input_tokens",
            "info.response_metrics.output_tokens|info.output_tokens",
        ),
        Format::Litellm => {
            let preset = preset("startTime", TimeUnit::Datetime, "prompt_tokens", "completion_tokens");
            Preset {
                // What the proxy answers from its own cache reaches no engine.
                wanted: has("cache_hit").map(|_| Wanted::Without("cache_hit", "True")),
                columns: Columns { class: has("model"), session: has("session_id"), ..preset.columns },
                ..preset
            }
        }
        Format::Dynamo => dynamo(header),
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
