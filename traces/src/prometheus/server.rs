//! The servers whose metrics are read, and what these are called.
//!
//! | server | source of the names |
//! |---|---|
//! | vLLM | `vllm/v1/metrics/loggers.py` |
//! | `SGLang` | `srt/observability/metrics_collector.py`; lengths need `--enable-metrics --collect-tokens-histogram` |
//! | TGI | `router/src/server.rs` and `docs/source/reference/metrics.md` of text-generation-inference |

/// Where a server counts requests that were aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aborted {
    /// Among the finished ones, by this label and value.
    Label(&'static str, &'static str),
    /// In a counter of their own; those that ran by then are among the finished ones, too.
    Counter(&'static str),
    /// Nowhere.
    Uncounted,
}

/// Names of a server's metrics.
#[derive(Debug)]
pub(super) struct Server {
    /// What it is called.
    pub(super) name: &'static str,
    /// What its metrics begin with, without the `:` or `_` behind it.
    prefix: &'static str,
    /// What stands behind the prefix.
    joint: char,
    /// Finished requests; further names are those of other versions.
    pub(super) requests: &'static [&'static str],
    pub(super) aborted: Aborted,
    /// Histograms of the lengths [tokens].
    pub(super) prompt: &'static str,
    pub(super) output: &'static str,
    pub(super) running: &'static str,
    pub(super) waiting: &'static str,
    /// What to do where a metric is missing.
    pub(super) help: &'static str,
}

/// All servers that are known.
pub(super) const SERVERS: [Server; 3] = [
    Server {
        name: "vLLM",
        prefix: "vllm",
        joint: ':',
        requests: &["vllm:request_success_total"],
        aborted: Aborted::Label("finished_reason", "abort"),
        prompt: "vllm:request_prompt_tokens",
        output: "vllm:request_generation_tokens",
        running: "vllm:num_requests_running",
        waiting: "vllm:num_requests_waiting",
        help: "scrape /metrics of a vLLM server, or query this series as well",
    },
    Server {
        name: "SGLang",
        prefix: "sglang",
        joint: ':',
        requests: &["sglang:num_requests_total"],
        aborted: Aborted::Counter("sglang:num_aborted_requests_total"),
        prompt: "sglang:prompt_tokens_histogram",
        output: "sglang:generation_tokens_histogram",
        running: "sglang:num_running_reqs",
        waiting: "sglang:num_queue_reqs",
        help: "start SGLang with --enable-metrics --collect-tokens-histogram, or query this series as well",
    },
    Server {
        name: "TGI",
        prefix: "tgi",
        joint: '_',
        requests: &["tgi_request_success", "tgi_request_success_total"],
        aborted: Aborted::Uncounted,
        prompt: "tgi_request_input_length",
        output: "tgi_request_generated_tokens",
        running: "tgi_batch_current_size",
        waiting: "tgi_queue_size",
        help: "scrape /metrics of a TGI server, or query this series as well",
    },
];

impl Server {
    /// The name of a metric of this server as it has it; Ray puts a prefix before it and has no colons. `None` if it is another's.
    pub(super) fn named(&self, name: &str) -> Option<String> {
        let name = name.strip_prefix("ray_").unwrap_or(name);
        let rest = name.strip_prefix(self.prefix)?.strip_prefix([':', '_'])?;
        Some(format!("{}{}{rest}", self.prefix, self.joint))
    }
}
