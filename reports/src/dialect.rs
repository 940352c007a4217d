//! The figures of a run under the names and definitions of other tools, so that a simulated run stands beside a measured one.
//!
//! All are computed from the rows of `requests.parquet`, exactly, over *finished* requests; only gaps between single tokens come
//! from `summary.json` (mean and maximum exact, percentiles nearest-rank within 0.05 %), since rows do not hold them.
//!
//! | Overbook | `vllm` (`vllm bench serve`) | `guidellm` | `aiperf` |
//! |---|---|---|---|
//! | `ttft` | `*_ttft_ms` | `time_to_first_token_ms` | `time_to_first_token` [ms] |
//! | `tpot` | `*_tpot_ms` | `inter_token_latency_ms`, weighted by output tokens − 1 | `inter_token_latency` [ms] |
//! | `itl` | `*_itl_ms` | – | – (`inter_chunk_latency` is a list per request) |
//! | `e2el` | `*_e2el_ms` | `request_latency` [s] | `request_latency` [ms] |
//! | `e2el` ÷ output tokens | – | `time_per_output_token_ms`, weighted by output tokens: **the first token and its wait count** | – |
//! | 1 ÷ `tpot` | – | – | `output_token_throughput_per_user` |
//! | prompt tokens ÷ `ttft` | – | – | `prefill_throughput_per_user` |
//! | `makespan` | `duration` | – | `benchmark_duration` |
//! | `request_throughput` | `request_throughput` | `requests_per_second` | `request_throughput` |
//! | `output_throughput` | `output_throughput` | `output_tokens_per_second` | `output_token_throughput` |
//! | `total_token_throughput` | `total_token_throughput` | `tokens_per_second` | `total_token_throughput` |
//! | `request_goodput` | `request_goodput` (null without promises) | – | `goodput` |
//! | every end but `finished` | `failed` | `requests_made.errored` (cancelled: `incomplete`) | `error_request_count` |
//!
//! Percentiles: vLLM and AIPerf interpolate linearly between neighbours (numpy's default), GuideLLM takes the nearest rank of the
//! weighted values. Standard deviations are those of the population for vLLM and GuideLLM, of a sample for AIPerf. A
//! one-token output has no `tpot` anywhere; GuideLLM gives it weight 0. GuideLLM's throughputs are distributions over time;
//! here only their mean is stated. What only a live client knows (errors, texts, per-second maxima) is left out.

use std::str::FromStr;

use overbook_sim::results::rows::Outcome;

use crate::json::{self, Json};
use crate::read::RunData;
use crate::{ReportError, dialect::sample::Sample};

mod sample;

/// A tool whose names and definitions a result can be written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `vllm bench serve --save-result`.
    Vllm,
    /// GuideLLM's `benchmarks.json`: the `metrics` of one benchmark.
    Guidellm,
    /// AIPerf's `profile_export_aiperf.json`.
    Aiperf,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Dialect; 3] = [Dialect::Vllm, Dialect::Guidellm, Dialect::Aiperf];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Vllm => "vllm",
            Dialect::Guidellm => "guidellm",
            Dialect::Aiperf => "aiperf",
        }
    }
}

impl FromStr for Dialect {
    type Err = ReportError;

    fn from_str(name: &str) -> Result<Dialect, ReportError> {
        let known = Dialect::ALL.map(Dialect::name).join(", ");
        let found = Dialect::ALL.into_iter().find(|dialect| dialect.name() == name);
        found.ok_or_else(|| ReportError::Asked(format!("no tool `{name}` is known; there are {known}")))
    }
}

const MS: f64 = 1e-6;
const S: f64 = 1e-9;

type Entries = Vec<(String, Json)>;

/// Everything that the tools' figures need. Memory: about 50 bytes per finished request.
#[derive(Default)]
struct Finished {
    prompt: Vec<(f64, f64)>,
    output: Vec<(f64, f64)>,
    ttft: Vec<(f64, f64)>,
    /// Weighted by the gaps that it is the mean of.
    tpot: Vec<(f64, f64)>,
    e2el: Vec<(f64, f64)>,
    /// Weighted by output tokens.
    per_token: Vec<(f64, f64)>,
    prefill_rate: Vec<(f64, f64)>,
    cancelled: u64,
    others: u64,
    first: u64,
    last: u64,
}

impl Finished {
    fn of(run: &RunData) -> Result<Finished, ReportError> {
        let mut all = Finished { first: u64::MAX, ..Finished::default() };
        run.each_request(|row| {
            all.first = all.first.min(row.arrival.0);
            all.last = all.last.max(row.end.0);
            match row.outcome {
                Outcome::Finished => {}
                Outcome::Cancelled => {
                    all.cancelled += 1;
                    return true;
                }
                _ => {
                    all.others += 1;
                    return true;
                }
            }
            let (prompt, output, e2el) =
                (f64::from(row.prompt_tokens), f64::from(row.output_tokens), row.e2el().0 as f64);
            all.prompt.push((prompt, 1.0));
            all.output.push((output, 1.0));
            all.e2el.push((e2el, 1.0));
            if output > 0.0 {
                all.per_token.push((e2el / output, output));
            }
            if let Some(first) = row.first_token {
                let ttft = first.since(row.arrival).0 as f64;
                all.ttft.push((ttft, 1.0));
                if ttft > 0.0 {
                    all.prefill_rate.push((prompt / (ttft * S), 1.0));
                }
                if output > 1.0 {
                    // Not rounded to nanoseconds as a row's own `tpot` is.
                    all.tpot.push((row.end.since(first).0 as f64 / (output - 1.0), output - 1.0));
                }
            }
            true
        })?;
        Ok(all)
    }

    fn seconds(&self) -> f64 {
        self.last.saturating_sub(self.first) as f64 * S
    }

    fn per_second(&self, n: f64) -> Json {
        let seconds = self.seconds();
        if seconds > 0.0 { Json::Float(n / seconds) } else { Json::Null }
    }
}

fn total(values: &[(f64, f64)]) -> f64 {
    values.iter().map(|&(value, _)| value).sum()
}

fn unweighted(values: &[(f64, f64)]) -> Vec<(f64, f64)> {
    values.iter().map(|&(value, _)| (value, 1.0)).collect()
}

/// A run's figures as `dialect` would write them: an indented JSON document.
///
/// # Errors
/// The rows of the requests cannot be read.
pub fn export(run: &RunData, dialect: Dialect) -> Result<String, ReportError> {
    let finished = Finished::of(run)?;
    let document = match dialect {
        Dialect::Vllm => vllm(run, finished),
        Dialect::Guidellm => guidellm(run, finished),
        Dialect::Aiperf => aiperf(run, finished),
    };
    Ok(json::document(&Json::Object(document)))
}

fn vllm(run: &RunData, finished: Finished) -> Entries {
    let (n, input, output) = (finished.e2el.len() as f64, total(&finished.prompt), total(&finished.output));
    let promised = run.summary()["slo"].as_object().is_some_and(|slo| slo.len() > 1);
    let goodput = run.figure("request_goodput").filter(|_| promised);
    let mut entries: Entries = vec![
        ("duration".into(), Json::Float(finished.seconds())),
        ("completed".into(), (n as u64).into()),
        ("failed".into(), (finished.cancelled + finished.others).into()),
        ("total_input_tokens".into(), (input as u64).into()),
        ("total_output_tokens".into(), (output as u64).into()),
        ("request_throughput".into(), finished.per_second(n)),
        ("request_goodput".into(), goodput.into()),
        ("output_throughput".into(), finished.per_second(output)),
        ("total_token_throughput".into(), finished.per_second(input + output)),
    ];
    for (name, values) in [("ttft", finished.ttft), ("tpot", unweighted(&finished.tpot))] {
        vllm_latency(&mut entries, name, values);
    }
    entries.push(("mean_itl_ms".into(), run.figure("mean_itl_ms").into()));
    entries.push(("median_itl_ms".into(), run.figure("p50_itl_ms").into()));
    for percentile in ["p50", "p90", "p95", "p99"] {
        let key = format!("{percentile}_itl_ms");
        entries.push((key.clone(), run.figure(&key).into()));
    }
    vllm_latency(&mut entries, "e2el", finished.e2el);
    entries
}

fn vllm_latency(entries: &mut Entries, name: &str, values: Vec<(f64, f64)>) {
    let sample = Sample::new(values, MS);
    entries.push((format!("mean_{name}_ms"), sample.mean().into()));
    entries.push((format!("median_{name}_ms"), sample.interpolated(0.5).into()));
    entries.push((format!("std_{name}_ms"), sample.variance().map(f64::sqrt).into()));
    for p in [50, 90, 95, 99] {
        entries.push((format!("p{p}_{name}_ms"), sample.interpolated(f64::from(p) / 100.0).into()));
    }
}

fn guidellm(run: &RunData, finished: Finished) -> Entries {
    let (n, input, output) = (finished.e2el.len() as f64, total(&finished.prompt), total(&finished.output));
    let made = [
        ("successful", n as u64),
        ("incomplete", finished.cancelled),
        ("errored", finished.others),
        ("total", n as u64 + finished.cancelled + finished.others),
    ];
    let made = made.map(|(status, n)| (status.to_owned(), Json::Int(n))).to_vec();
    let rate = |n: f64| {
        let mean = vec![("mean".to_owned(), finished.per_second(n))];
        Json::Object(vec![("successful".to_owned(), Json::Object(mean))])
    };
    let rates = [
        ("requests_per_second", rate(n)),
        ("output_tokens_per_second", rate(output)),
        ("prompt_tokens_per_second", rate(input)),
        ("tokens_per_second", rate(input + output)),
    ];
    let mut metrics: Entries = rates.map(|(name, rate)| (name.to_owned(), rate)).to_vec();
    metrics.push((
        "request_concurrency".into(),
        Json::Object(vec![(
            "successful".into(),
            Json::Object(vec![("mean".into(), finished.per_second(total(&finished.e2el) * S))]),
        )]),
    ));
    let both = finished.prompt.iter().zip(&finished.output).map(|(p, o)| (p.0 + o.0, 1.0)).collect();
    for (name, scale, values) in [
        ("request_latency", S, finished.e2el),
        ("prompt_token_count", 1.0, finished.prompt),
        ("output_token_count", 1.0, finished.output),
        ("total_token_count", 1.0, both),
        ("time_to_first_token_ms", MS, finished.ttft),
        ("time_per_output_token_ms", MS, finished.per_token),
        ("inter_token_latency_ms", MS, finished.tpot),
    ] {
        let successful = guidellm_distribution(&Sample::new(values, scale));
        metrics.push((name.into(), Json::Object(vec![("successful".into(), successful)])));
    }
    let benchmark = vec![
        ("type_".to_owned(), "generative_benchmark".into()),
        ("title".to_owned(), run.title().into()),
        ("scheduler_metrics".to_owned(), Json::Object(vec![("requests_made".into(), Json::Object(made))])),
        ("metrics".to_owned(), Json::Object(metrics)),
    ];
    vec![("benchmarks".into(), Json::List(vec![Json::Object(benchmark)]))]
}

fn guidellm_distribution(sample: &Sample) -> Json {
    let percentiles = [
        ("p001", 0.001),
        ("p01", 0.01),
        ("p05", 0.05),
        ("p10", 0.1),
        ("p25", 0.25),
        ("p50", 0.5),
        ("p75", 0.75),
        ("p90", 0.9),
        ("p95", 0.95),
        ("p99", 0.99),
        ("p999", 0.999),
    ];
    let percentiles = percentiles.map(|(name, p)| (name.to_owned(), sample.nearest(p).into())).to_vec();
    let count = sample.weight();
    let entries = [
        ("mean", sample.mean().into()),
        ("median", sample.nearest(0.5).into()),
        ("variance", sample.variance().into()),
        ("std_dev", sample.variance().map(f64::sqrt).into()),
        ("min", sample.min().into()),
        ("max", sample.max().into()),
        ("count", Json::Int(count as u64)),
        ("total_sum", sample.mean().map(|mean| mean * count).into()),
        ("percentiles", Json::Object(percentiles)),
    ];
    Json::Object(entries.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

fn aiperf(run: &RunData, finished: Finished) -> Entries {
    let (n, input, output) = (finished.e2el.len() as f64, total(&finished.prompt), total(&finished.output));
    let single = |unit: &str, value: Json| Json::Object(vec![("unit".into(), unit.into()), ("avg".into(), value)]);
    let good = run.figure("slo/good_requests");
    let mut entries: Entries = vec![("schema_version".into(), "1.5".into())];
    let singles = [
        ("request_throughput", "requests/sec", finished.per_second(n)),
        ("request_count", "requests", Json::Float(n)),
        ("error_request_count", "requests", Json::Float((finished.cancelled + finished.others) as f64)),
        ("output_token_throughput", "tokens/sec", finished.per_second(output)),
        ("total_token_throughput", "tokens/sec", finished.per_second(input + output)),
        ("total_isl", "tokens", Json::Float(input)),
        ("total_osl", "tokens", Json::Float(output)),
        ("good_request_count", "requests", good.into()),
        ("goodput", "requests/sec", run.figure("request_goodput").into()),
        ("benchmark_duration", "sec", Json::Float(finished.seconds())),
    ];
    entries.extend(singles.map(|(name, unit, value)| (name.to_owned(), single(unit, value))));
    let per_user = finished.tpot.iter().filter(|t| t.0 > 0.0).map(|&(ns, _)| (1.0 / (ns * S), 1.0)).collect();
    for (name, unit, scale, values) in [
        ("request_latency", "ms", MS, finished.e2el),
        ("time_to_first_token", "ms", MS, finished.ttft),
        ("inter_token_latency", "ms", MS, unweighted(&finished.tpot)),
        ("output_token_throughput_per_user", "tokens/sec/user", 1.0, per_user),
        ("prefill_throughput_per_user", "tokens/sec/user", 1.0, finished.prefill_rate),
        ("input_sequence_length", "tokens", 1.0, finished.prompt),
        ("output_sequence_length", "tokens", 1.0, finished.output),
    ] {
        entries.push((name.into(), aiperf_distribution(unit, &Sample::new(values, scale))));
    }
    entries.push(("was_cancelled".into(), Json::Bool(!run.is_complete())));
    entries
}

fn aiperf_distribution(unit: &str, sample: &Sample) -> Json {
    let mut entries: Entries = vec![
        ("unit".into(), unit.into()),
        ("avg".into(), sample.mean().into()),
        ("min".into(), sample.min().into()),
        ("max".into(), sample.max().into()),
    ];
    for p in [1, 5, 10, 25, 50, 75, 90, 95, 99] {
        entries.push((format!("p{p}"), sample.interpolated(f64::from(p) / 100.0).into()));
    }
    entries.push(("std".into(), sample.sample_variance().map(f64::sqrt).into()));
    entries.push(("count".into(), Json::Int(sample.weight() as u64)));
    entries.push(("sum".into(), sample.mean().map(|mean| mean * sample.weight()).into()));
    Json::Object(entries)
}

#[cfg(test)]
mod tests;
