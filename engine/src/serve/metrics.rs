//! `/metrics`: what vLLM 0.1x exports, with its names, types and bucket bounds, so that its dashboards and our own
//! `trace fit --prometheus` read it.
//!
//! The clocks: a request's times count from when its HTTP request was there to the turn of the driver that delivered the
//! token. Prompt tokens and prefix-cache hits count when a request ends, not when it is scheduled.

mod histogram;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use overbook_sim::kv::{TierSpec, TierTraffic};
use overbook_sim::results::rows::{Outcome, RequestRow};
use overbook_sim::serving::replica::{Happened, Limits};
use overbook_sim::time::{Span, Time};

use crate::driver::{Levels, Observer, StepLog};
use histogram::{Histogram, one_two_five};

const LATENCY: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];
const FIRST_TOKEN: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
const TOKEN: [f64; 19] =
    [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
const ITERATION: [f64; 13] = [1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// Why a request ended, as vLLM's `finished_reason`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// An end token or a stop text.
    Stop,
    /// The output limit.
    Length,
    /// Its client left, or its time was up.
    Abort,
    /// The engine lost it.
    Error,
}

impl Reason {
    const ALL: [Reason; 4] = [Reason::Stop, Reason::Length, Reason::Abort, Reason::Error];

    pub(super) fn name(self) -> &'static str {
        match self {
            Reason::Stop => "stop",
            Reason::Length => "length",
            Reason::Abort => "abort",
            Reason::Error => "error",
        }
    }
}

/// All counts.
#[derive(Debug)]
pub(super) struct Metrics {
    labels: String,
    limits: Limits,
    running: HashSet<u64>,
    /// Requests that are here, running or not.
    here: u64,
    used_blocks: u64,
    preemptions: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    generation_tokens: u64,
    /// What has gone through the tier below the pool, by its name, if there is one.
    tier: Option<(String, TierTraffic)>,
    success: [u64; Reason::ALL.len()],
    iteration_tokens: Histogram,
    /// Tokens of the last step that put out any. Prompts count with their first token, which is heard of after the step.
    last_step: Option<u64>,
    first_token: Histogram,
    inter_token: Histogram,
    per_output_token: Histogram,
    e2e: Histogram,
    queue: Histogram,
    inference: Histogram,
    prefill: Histogram,
    decode: Histogram,
    request_prompt: Histogram,
    request_generation: Histogram,
    request_max: Histogram,
}

impl Metrics {
    fn new(model: &str, limits: Limits) -> Self {
        let model = model.replace('\\', "\\\\").replace('"', "\\\"");
        let lengths = || Histogram::new(&one_two_five(limits.max_model_len));
        Metrics {
            labels: format!("model_name=\"{model}\",engine=\"0\""),
            limits,
            running: HashSet::new(),
            here: 0,
            used_blocks: 0,
            preemptions: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            generation_tokens: 0,
            tier: None,
            success: [0; Reason::ALL.len()],
            iteration_tokens: Histogram::new(&ITERATION),
            last_step: None,
            first_token: Histogram::new(&FIRST_TOKEN),
            inter_token: Histogram::new(&TOKEN),
            per_output_token: Histogram::new(&TOKEN),
            e2e: Histogram::new(&LATENCY),
            queue: Histogram::new(&LATENCY),
            inference: Histogram::new(&LATENCY),
            prefill: Histogram::new(&LATENCY),
            decode: Histogram::new(&LATENCY),
            request_prompt: lengths(),
            request_generation: lengths(),
            request_max: lengths(),
        }
    }

    /// The first token came this long after the request.
    pub(super) fn first_token(&mut self, ttft: Span) {
        self.generation_tokens += 1;
        self.first_token.observe(ttft.as_secs_f64());
    }

    /// A further token came this long after the one before it.
    pub(super) fn next_token(&mut self, gap: Span) {
        self.generation_tokens += 1;
        self.inter_token.observe(gap.as_secs_f64());
    }

    /// A request that came at `sent` has ended.
    pub(super) fn ended(&mut self, row: &RequestRow, sent: Time, max_tokens: u32, reason: Reason) {
        self.success[reason as usize] += 1;
        let Some(start) = row.start else { return };
        self.prompt_tokens += u64::from(row.prompt_tokens);
        self.cached_tokens += u64::from(row.cached_tokens);
        self.e2e.observe(row.end.since(sent).as_secs_f64());
        // vLLM's engine has it from when it knows the request.
        self.queue.observe(start.since(row.arrival).as_secs_f64());
        self.inference.observe(row.end.since(start).as_secs_f64());
        self.request_prompt.observe(f64::from(row.prompt_tokens));
        self.request_generation.observe(f64::from(row.output_tokens));
        self.request_max.observe(f64::from(max_tokens));
        let Some(first) = row.first_token else { return };
        self.prefill.observe(first.since(start).as_secs_f64());
        let decode = row.end.since(first).as_secs_f64();
        self.decode.observe(decode);
        if row.outcome == Outcome::Finished && row.output_tokens > 1 {
            self.per_output_token.observe(decode / f64::from(row.output_tokens - 1));
        }
    }

    /// The last step is heard of to its end: what began in it has been told.
    fn count_step(&mut self) {
        if let Some(tokens) = self.last_step.take() {
            self.iteration_tokens.observe(tokens as f64);
        }
    }

    /// Prometheus' text format.
    pub(super) fn text(&mut self) -> String {
        self.count_step();
        let mut out = String::with_capacity(16 << 10);
        let labels = &self.labels;
        let mut one = |kind: &str, name: &str, help: &str, value: f64| {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let name = format!("vllm:{name}{suffix}");
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{{labels}}} {value:?}");
        };
        let running = self.running.len() as u64;
        one("gauge", "num_requests_running", "Number of requests in model execution batches.", running as f64);
        let waiting = self.here.saturating_sub(running);
        one("gauge", "num_requests_waiting", "Number of requests waiting to be processed.", waiting as f64);
        let usage = self.used_blocks as f64 / self.limits.blocks.max(1) as f64;
        one("gauge", "kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", usage);
        for (name, help, value) in [
            ("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", self.prompt_tokens),
            ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", self.cached_tokens),
            ("num_preemptions", "Cumulative number of preemption from the engine.", self.preemptions),
            ("prompt_tokens", "Number of prefill tokens processed.", self.prompt_tokens),
            ("generation_tokens", "Number of generation tokens processed.", self.generation_tokens),
        ] {
            // Without prefix caching nothing is asked for.
            let off = name == "prefix_cache_queries" && !self.limits.prefix_caching;
            one("counter", name, help, if off { 0.0 } else { value as f64 });
        }
        self.write_tier(&mut out);
        let _ = writeln!(out, "# HELP vllm:request_success_total Count of successfully processed requests.");
        let _ = writeln!(out, "# TYPE vllm:request_success_total counter");
        for reason in Reason::ALL {
            let (name, count) = (reason.name(), self.success[reason as usize] as f64);
            let _ = writeln!(out, "vllm:request_success_total{{{labels},finished_reason=\"{name}\"}} {count:?}");
        }
        for (name, help, histogram) in self.histograms() {
            histogram.write(&mut out, &format!("vllm:{name}"), help, labels);
        }
        self.write_cache_config(&mut out);
        out
    }

    fn histograms(&self) -> [(&'static str, &'static str, &Histogram); 13] {
        [
            ("iteration_tokens_total", "Histogram of number of tokens per engine_step.", &self.iteration_tokens),
            ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", &self.first_token),
            ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", &self.inter_token),
            // The name of the same histogram before vLLM 0.11.
            ("time_per_output_token_seconds", "Histogram of time per output token in seconds.", &self.inter_token),
            (
                "request_time_per_output_token_seconds",
                "Histogram of time_per_output_token_seconds per request.",
                &self.per_output_token,
            ),
            ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", &self.e2e),
            ("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", &self.queue),
            (
                "request_inference_time_seconds",
                "Histogram of time spent in RUNNING phase for request.",
                &self.inference,
            ),
            ("request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", &self.prefill),
            ("request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", &self.decode),
            ("request_prompt_tokens", "Number of prefill tokens processed.", &self.request_prompt),
            ("request_generation_tokens", "Number of generation tokens processed.", &self.request_generation),
            ("request_params_max_tokens", "Histogram of the max_tokens request parameter.", &self.request_max),
        ]
    }

    /// The tier below the pool: vLLM's count of what it gave back, and under names of our own all that went through it.
    fn write_tier(&self, out: &mut String) {
        let Some((name, traffic)) = &self.tier else { return };
        let labels = &self.labels;
        let mut one = |metric: &str, help: &str, tier: &str, blocks: u64| {
            let tokens = (blocks * u64::from(self.limits.block_tokens)) as f64;
            let _ =
                writeln!(out, "# HELP {metric} {help}\n# TYPE {metric} counter\n{metric}{{{labels}{tier}}} {tokens:?}");
        };
        let help = "Tokens of cached blocks that came from a tier below the KV pool.";
        one("vllm:external_prefix_cache_hits_total", help, "", traffic.loaded);
        let tier = format!(",tier=\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
        for (metric, help, blocks) in [
            ("loaded", "Tokens found in the tier and copied to the KV pool.", traffic.loaded),
            ("passed", "Tokens found in the tier and computed again.", traffic.passed),
            ("written", "Tokens copied into the tier.", traffic.written),
            ("dropped", "Tokens dropped from the tier to make room.", traffic.dropped),
        ] {
            one(&format!("overbook:tier_{metric}_tokens_total"), help, &tier, blocks);
        }
    }

    fn write_cache_config(&self, out: &mut String) {
        let name = "vllm:cache_config_info";
        // vLLM's number has a block more than requests can have: its null block.
        let (size, blocks) = (self.limits.block_tokens, self.limits.blocks + 1);
        // As Python prints it.
        let caching = if self.limits.prefix_caching { "True" } else { "False" };
        let _ = writeln!(out, "# HELP {name} Information of the LLMEngine CacheConfig\n# TYPE {name} gauge");
        let _ = writeln!(
            out,
            "{name}{{block_size=\"{size}\",num_gpu_blocks=\"{blocks}\",enable_prefix_caching=\"{caching}\",engine=\"0\"}} 1.0"
        );
    }
}

/// The counts, where server and driver reach them.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Metrics>>);

impl Shared {
    pub(super) fn new(model: &str, limits: Limits) -> Self {
        Shared(Arc::new(Mutex::new(Metrics::new(model, limits))))
    }

    /// A thread that panicked while counting has left a count at most one short.
    pub(super) fn lock(&self) -> MutexGuard<'_, Metrics> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Shared {
    fn arrived(&mut self, _: u64, _: Time, _: Time) {
        self.lock().here += 1;
    }

    fn held(&mut self, _: Time, _: Time, levels: Levels) {
        self.lock().used_blocks = levels.used_blocks;
    }

    fn step(&mut self, step: &StepLog, _: u64, _: u64) {
        let mut metrics = self.lock();
        metrics.count_step();
        // vLLM counts steps with outputs alone; of a prompt of several steps the last one, with all of the prompt.
        metrics.last_step = (step.delivered > 0).then_some(u64::from(step.delivered));
    }

    fn happened(&mut self, _: Time, what: &Happened, _: u64, _: u64) {
        let mut metrics = self.lock();
        match what {
            Happened::Admitted { request } => {
                metrics.running.insert(*request);
            }
            Happened::Preempted { request } => {
                metrics.running.remove(request);
                metrics.preemptions += 1;
            }
            Happened::Ended(row) => {
                metrics.running.remove(&row.request);
                metrics.here -= 1;
                if metrics.here == 0 {
                    // An idle driver has no turns that would update it.
                    metrics.used_blocks = 0;
                }
            }
            Happened::FirstToken { prompt, .. } => {
                if let Some(tokens) = &mut metrics.last_step {
                    *tokens += u64::from(*prompt);
                }
            }
            Happened::Gap { .. } => {}
        }
    }

    fn stored(&mut self, tier: &TierSpec, traffic: &TierTraffic) {
        let mut metrics = self.lock();
        match &mut metrics.tier {
            Some((_, told)) => *told = *traffic,
            none => *none = Some((tier.name.clone(), *traffic)),
        }
    }
}
