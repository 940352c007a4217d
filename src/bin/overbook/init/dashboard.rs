//! Figures beside the names under which a dashboard shows them.

use overbook_reports::format::Unit;
use overbook_sim::results::summary::Summary;

use crate::trace::columns;

/// Figure, and vLLM's and SGLang's metrics of Prometheus that show it.
const FIGURES: [(&str, &str, &str); 8] = [
    ("request_throughput", "rate of vllm:request_success_total", "rate of sglang:num_requests_total"),
    ("output_throughput", "rate of vllm:generation_tokens_total", "sglang:gen_throughput"),
    ("ttft_mean", "vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds"),
    ("itl_mean", "vllm:inter_token_latency_seconds", "sglang:inter_token_latency_seconds"),
    ("e2el_mean", "vllm:e2e_request_latency_seconds", "sglang:e2e_request_latency_seconds"),
    ("running_mean", "vllm:num_requests_running", "sglang:num_running_reqs"),
    ("waiting_mean", "vllm:num_requests_waiting", "sglang:num_queue_reqs"),
    ("kv_usage_mean", "vllm:kv_cache_usage_perc", "sglang:token_usage"),
];

/// The table: means over the whole run, as `sum ÷ count` of a histogram gives them.
pub(super) fn table(summary: &Summary) -> String {
    let head = ["figure", "simulated", "vLLM's dashboard", "SGLang's"].map(str::to_owned).to_vec();
    let rows = FIGURES.iter().filter_map(|&(metric, vllm, sglang)| {
        let value = Unit::of(metric).show(summary.metric(metric)?);
        Some(vec![metric.to_owned(), value, vllm.to_owned(), sglang.to_owned()])
    });
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    format!(
        "\nCompare with your dashboard, over the time of the log (of histograms rate of _sum ÷ rate of _count):\n{}",
        columns::left(&rows)
    )
}
