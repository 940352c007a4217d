//! Scenario files from text to studies and messages.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the laws bind the library; its tests read files"
)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod bad_input;
mod fleet;
mod import;
mod measured;
mod mutations;
mod pools;
mod power;
mod profile;
mod ranks;
mod retention;
mod round_trip;
mod rules;
mod schema;
mod sources;
mod speculation;
mod sweeps;

use overbook_scenarios::{Problems, Source, Study};

/// A scenario that sets nearly everything.
const FULL: &str = "\
version: 1
name: full
description: everything at once
seed: 7
workload:
  generate:
    arrivals: { poisson: { rate: 20/s } }
    lengths: burstgpt
    requests: 1000
  clients: { count: 32, think_time: 1s }
  max_new_tokens: { fixed: 1024 }
  limits: { max_wait: 30s, deadline: 2min, cancel_after: 1min }
  retry: { attempts: 4, backoff: 1s, max_backoff: 10s, jitter: 0, on: [failed, rejected] }
model: llama-3.1-8b
gpu: h200
fleet: { replicas: 4, tensor_parallel: 1, router: power-of-two, controllers: { router_view: { interval: 1s, delay: 100ms }, failures: [{ at: 1min, replica: 3, down_for: 30s }], faults: { mtbf: 1d, mttr: 10min } } }
engine:
  weights: fp8
  kv: fp8
  block_tokens: 16
  gpu_memory_utilization: 0.85
  kv_tokens: 100000
  max_model_len: 8192
  cost: { constant: { device: 10ms, host: 1ms } }
  host: { base: 1ms, per_seq: 4us }
scheduler: { vllm: { max_num_seqs: 64 } }
slo: { ttft_p99: 2s, tpot_p99: 50ms, e2el_p99_9: 10s, goodput: { ttft: 1s, tpot: 50ms, share: 0.9 } }
audit: true
";

/// The least that makes a scenario.
const LEAST: &str = "\
version: 1
name: least
workload: { generate: { arrivals: { poisson: { rate: 20/s } }, lengths: burstgpt, requests: 1000 } }
model: llama-3.1-8b
gpu: h200
";

fn resolve(text: &str) -> Result<Study, Problems> {
    Source::from_text("test.yaml", text).resolve()
}

fn study(text: &str) -> Study {
    resolve(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems as `line:column: message (help)`.
fn problems(text: &str) -> Vec<String> {
    told(&resolve(text).expect_err("must have problems"))
}

fn told(problems: &Problems) -> Vec<String> {
    let help = |help: &Option<String>| help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
    let told = |d: &overbook_scenarios::Diagnostic| format!("{}:{}: {}{}", d.line, d.column, d.message, help(&d.help));
    problems.list().iter().map(told).collect()
}
