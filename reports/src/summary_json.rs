//! `summary.json`: every figure of a run under the names of `vllm bench serve`, in a fixed order.

use overbook_sim::results::histogram::Histogram;
use overbook_sim::results::rows::Outcome;
use overbook_sim::results::summary::{
    Batches, Class, Hit, LATENCIES, Outage, PoolSummary, QUANTILES, SessionFigures, Slo, Summary,
};
use overbook_sim::results::trust::Trust;
use overbook_sim::time::{Span, Time};

use crate::json::{self, Json};
use crate::report::{Report, Side, Traffic};

const NS_PER_MS: f64 = 1e6;

/// Metrics that stand under their own name; units: shares from 0 to 1, rates per second.
const FIGURES: [&str; 21] = [
    "request_throughput",
    "request_goodput",
    "token_goodput",
    "goodput_fraction",
    "output_throughput",
    "total_token_throughput",
    "replica_hours",
    "utilization",
    "running_mean",
    "running_max",
    "waiting_mean",
    "waiting_max",
    "kv_usage_mean",
    "kv_usage_max",
    "prefix_hit_rate",
    "recompute_tax",
    "mean_jump",
    "preemptions",
    "attempts",
    "steps",
    "decode_steps",
];

type Entries = Vec<(String, Json)>;

/// The file's text. It holds no fact of the wall clock: equal runs give equal bytes.
pub fn summary_json(report: &Report) -> String {
    let summary = &report.summary;
    let mut entries: Entries = vec![
        ("definitions".into(), "vllm".into()),
        ("percentiles".into(), "nearest rank, within 0.05 %; latencies of finished requests".into()),
        ("title".into(), report.title.as_str().into()),
        // An interrupted run has the figures of what ended before.
        ("status".into(), report.status.name().into()),
        ("duration_s".into(), summary.metric("makespan").into()),
        ("completed".into(), summary.count(Outcome::Finished).into()),
        ("outcomes".into(), outcomes(&summary.outcomes)),
        ("tokens".into(), tokens(summary)),
    ];
    entries.extend(FIGURES.iter().map(|&name| (name.to_owned(), summary.metric(name).into())));
    entries.push(("plans".into(), summary.work.plans.into()));
    entries.push(("segments".into(), summary.work.segments.into()));
    for name in LATENCIES {
        if let Some(histogram) = summary.latency(name) {
            latency(&mut entries, name, histogram);
        }
    }
    batches(&mut entries, summary);
    // Generated requests have no rows.
    if !report.trace_rows.is_empty() {
        let rows = report.trace_rows.iter().map(|&(name, rows)| (name.to_owned(), rows.into()));
        entries.push(("trace_rows".into(), Json::Object(rows.collect())));
    }
    entries.push(("traffic".into(), traffics(report)));
    entries.push(("slo".into(), slo(summary)));
    entries.push(("all_targets_met".into(), Json::Bool(report.all_met())));
    entries.push(("targets".into(), targets(report)));
    entries.push(("per_class".into(), Json::List(summary.classes.iter().map(|of| class(of, summary)).collect())));
    // Most fleets have no outages.
    if !summary.outages.spans().is_empty() {
        entries.push(("outages".into(), outages(summary)));
    }
    // Most caches are on the GPUs alone.
    entries.extend(crate::kv_traffic::entry(summary).map(|kv| ("prefix_cache".to_owned(), kv)));
    entries.extend(crate::retained::entry(summary).map(|kept| ("retention".to_owned(), kept)));
    entries.extend(crate::speculation::entry(summary).map(|drafts| ("speculation".to_owned(), drafts)));
    entries.extend(crate::limiter::entry(summary).map(|limiter| ("limiter".to_owned(), limiter)));
    entries.extend(crate::power::entry(summary).map(|power| ("power".to_owned(), power)));
    entries.extend(crate::economics::entry(summary).map(|money| ("economics".to_owned(), money)));
    if let Some(figures) = &summary.sessions {
        entries.push(("sessions".into(), sessions(figures, summary)));
    }
    // A uniform fleet has no pools.
    if !summary.pools.is_empty() {
        let pools = summary.pools.iter().map(|of| pool(of, summary)).collect();
        entries.push(("per_pool".into(), Json::List(pools)));
    }
    let facts = report.assumptions.iter().map(|(what, value)| (what.clone(), value.as_str().into()));
    entries.push(("assumptions".into(), Json::Object(facts.collect())));
    if !report.remarks.is_empty() {
        let remarks = report.remarks.iter().map(|remark| remark.as_str().into());
        entries.push(("remarks".into(), Json::List(remarks.collect())));
    }
    entries.push(("trust".into(), report.trust.as_ref().map_or(Json::Null, trust)));
    entries.push(("calibration".into(), report.calibration.as_str().into()));
    json::document(&Json::Object(entries))
}

/// Standing, by what, and the measured runs behind it; shares from 0 to 1.
fn trust(trust: &Trust) -> Json {
    let runs = trust.runs.as_ref();
    let entries = [
        ("standing", trust.standing.name().into()),
        ("why", trust.standing.why().as_str().into()),
        ("runs_confirmed", runs.map_or(Json::Null, |runs| u64::from(runs.confirmed).into())),
        ("runs", runs.map_or(Json::Null, |runs| u64::from(runs.of).into())),
        ("within", runs.map(|runs| runs.within).into()),
        ("error", runs.map(|runs| runs.error).into()),
        ("text", trust.to_string().as_str().into()),
    ];
    Json::Object(entries.map(|(name, value)| (name.to_owned(), value)).into())
}

/// When replicas were down; the first ones, and all together, with what requests lived through.
fn outages(summary: &Summary) -> Json {
    let hit = |hit: &Hit| {
        let mut entries: Entries = vec![
            ("lost_attempts".into(), hit.lost.into()),
            ("retried".into(), hit.retried.into()),
            ("arrived".into(), hit.requests.into()),
            ("completed".into(), hit.finished.into()),
            ("good".into(), good(hit.good, summary)),
        ];
        latency(&mut entries, "ttft", &hit.ttft);
        entries
    };
    let seconds = |time: Time| Json::Float(time.as_secs_f64());
    let one = |(outage, own): (&Outage, &Hit)| {
        let mut entries: Entries = vec![
            ("from_s".into(), seconds(outage.from)),
            ("to_s".into(), seconds(outage.to)),
            ("replicas".into(), u64::from(outage.replicas).into()),
        ];
        entries.extend(hit(own));
        Json::Object(entries)
    };
    let outages = &summary.outages;
    let mut entries: Entries = vec![("count".into(), (outages.spans().len() as u64).into())];
    entries.extend(hit(outages.all()));
    entries.push(("each".into(), Json::List(outages.each().map(one).collect())));
    Json::Object(entries)
}

/// Sessions that are over; latencies of theirs stand with the others.
fn sessions(figures: &SessionFigures, summary: &Summary) -> Json {
    let mut entries: Entries = vec![
        ("opened".into(), figures.opened.into()),
        ("over".into(), figures.over.into()),
        ("completed".into(), figures.finished.into()),
        ("session_throughput".into(), summary.metric("session_throughput").into()),
        ("gpu_seconds_per_session".into(), summary.metric("session_gpu_seconds").into()),
    ];
    let SessionFigures { requests, prompt, cached, computed, .. } = figures;
    for (name, histogram) in
        [("requests", requests), ("prompt_tokens", prompt), ("cached_tokens", cached), ("computed_tokens", computed)]
    {
        statistics(&mut entries, name, 1.0, histogram);
    }
    Json::Object(entries)
}

/// Statistics over steps: `mean_batch_seqs`, `p99_batch_tokens`, `p50_step_time_ms`, …; null if there was no step.
fn batches(entries: &mut Entries, summary: &Summary) {
    let Batches { seqs, tokens, time } = &summary.batches;
    for (name, scale, histogram) in
        [("batch_seqs", 1.0, seqs), ("batch_tokens", 1.0, tokens), ("step_time_ms", NS_PER_MS, time)]
    {
        statistics(entries, name, scale, histogram);
    }
}

fn outcomes(counts: &[u64; Outcome::ALL.len()]) -> Json {
    let named = Outcome::ALL.iter().zip(counts);
    Json::Object(named.map(|(outcome, &n)| (outcome.name().to_owned(), n.into())).collect())
}

fn tokens(summary: &Summary) -> Json {
    let t = &summary.tokens;
    let entries = [
        ("total_input_tokens", t.finished_prompt),
        ("total_output_tokens", t.finished_output),
        ("prompt_tokens_started", t.prompt),
        ("output_tokens_delivered", t.output),
        ("cached_tokens", t.cached),
        ("computed_tokens", t.computed),
        ("recomputed_tokens", t.recomputed),
        ("swapped_tokens", t.swapped),
    ];
    Json::Object(entries.map(|(name, n)| (name.to_owned(), n.into())).into())
}

/// `mean_ttft_ms`, `p99_ttft_ms`, …; null where no request has the latency.
fn latency(entries: &mut Entries, name: &str, histogram: &Histogram) {
    entries.push((format!("count_{name}"), histogram.count().into()));
    statistics(entries, &format!("{name}_ms"), NS_PER_MS, histogram);
}

/// Mean, percentiles and maximum, divided by `scale`.
fn statistics(entries: &mut Entries, name: &str, scale: f64, histogram: &Histogram) {
    let scaled = |value: Option<f64>| Json::from(value.map(|value| value / scale));
    entries.push((format!("mean_{name}"), scaled(histogram.mean())));
    for (quantile, p) in QUANTILES {
        // vLLM writes the percentile as a number: p99.9_ttft_ms.
        let quantile = quantile.replace('_', ".");
        entries.push((format!("{quantile}_{name}"), scaled(histogram.quantile(p).map(|v| v as f64))));
    }
    entries.push((format!("max_{name}"), scaled(histogram.max().map(|v| v as f64))));
}

/// Rates [requests/s] and burstiness of the requests as they arrived and, if the scenario changes that, as recorded.
fn traffics(report: &Report) -> Json {
    let named = [("as_recorded", &report.recorded_traffic), ("as_played", &report.traffic)];
    let known = named.into_iter().filter_map(|(name, of)| Some((name.to_owned(), traffic(of.as_ref()?))));
    Json::Object(known.collect())
}

fn traffic(traffic: &Traffic) -> Json {
    let mut entries: Entries =
        vec![("requests".into(), traffic.requests.into()), ("mean_rate".into(), traffic.mean_rate.into())];
    for (cell, scale) in ["1s", "1min", "1h"].into_iter().zip(traffic.scales) {
        entries.push((format!("peak_rate_{cell}"), scale.peak_rate.into()));
        entries.push((format!("peak_over_mean_{cell}"), scale.peak_over_mean.into()));
        entries.push((format!("dispersion_{cell}"), scale.dispersion.into()));
    }
    Json::Object(entries)
}

/// The promises per request that goodput counts, and how many finished requests kept each.
fn slo(summary: &Summary) -> Json {
    let Slo { ttft, tpot, mtpot, e2el } = summary.slo;
    let attained = summary.attained;
    let promise = |name: &str, limit: Option<Span>, met: Option<u64>| {
        let limit = limit?;
        let entries = vec![
            ("limit_ms".to_owned(), Json::Float(limit.as_millis_f64())),
            ("met".to_owned(), met.unwrap_or(0).into()),
        ];
        Some((name.to_owned(), Json::Object(entries)))
    };
    let promises = [
        promise("ttft", ttft, attained.ttft),
        promise("tpot", tpot, attained.tpot),
        promise("mtpot", mtpot, attained.mtpot),
        promise("e2el", e2el, attained.e2el),
        Some(("good_requests".to_owned(), good(attained.all, summary))),
    ];
    Json::Object(promises.into_iter().flatten().collect())
}

/// Good requests; null where nothing is promised.
fn good(requests: u64, summary: &Summary) -> Json {
    if summary.slo.is_set() { requests.into() } else { Json::Null }
}

fn targets(report: &Report) -> Json {
    let target = |v: &crate::Verdict| {
        let side = if v.side == Side::AtMost { "at_most" } else { "at_least" };
        Json::Object(vec![
            ("metric".into(), v.metric.as_str().into()),
            (side.into(), Json::Float(v.target)),
            ("value".into(), v.value.into()),
            ("met".into(), Json::Bool(v.met())),
        ])
    };
    Json::List(report.verdicts.iter().map(target).collect())
}

/// What one pool of replicas has done; requests count for the replica on which they ended.
fn pool(pool: &PoolSummary, summary: &Summary) -> Json {
    let mut entries: Entries = vec![
        ("pool".into(), pool.name.as_str().into()),
        ("replicas".into(), u64::from(pool.replicas).into()),
        ("kv_blocks".into(), pool.blocks.into()),
        ("completed".into(), pool.finished.into()),
        ("good_requests".into(), good(pool.good, summary)),
        ("other_ends".into(), pool.others.into()),
        ("total_output_tokens".into(), pool.output_tokens.into()),
        ("utilization".into(), pool.utilization(summary.makespan()).into()),
    ];
    latency(&mut entries, "ttft", &pool.latencies.ttft);
    latency(&mut entries, "tpot", &pool.latencies.tpot);
    latency(&mut entries, "e2el", &pool.latencies.e2el);
    Json::Object(entries)
}

fn class(class: &Class, summary: &Summary) -> Json {
    let mut entries: Entries = vec![
        ("class".into(), class.name.as_str().into()),
        ("outcomes".into(), outcomes(&class.outcomes)),
        ("good_requests".into(), good(class.good, summary)),
    ];
    latency(&mut entries, "ttft", &class.latencies.ttft);
    latency(&mut entries, "tpot", &class.latencies.tpot);
    latency(&mut entries, "e2el", &class.latencies.e2el);
    Json::Object(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_names_are_vllms_and_the_figures_the_summarys() {
        let report = sample::report();
        let text = summary_json(&report);
        let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let p99 = report.summary.metric("ttft_p99").expect("measured") * 1e3;
        assert!((parsed["p99_ttft_ms"].as_f64().expect("number") - p99).abs() < 1e-6);
        assert_eq!(parsed["completed"].as_u64(), Some(report.summary.outcomes[0]));
        assert_eq!(parsed["definitions"], "vllm");
        assert_eq!(parsed["targets"][0]["metric"], "ttft_p99");
        assert_eq!(parsed["traffic"]["as_played"]["peak_over_mean_1min"], 2.5);
        assert!(parsed["traffic"]["as_played"]["dispersion_1h"].is_null());
        assert!(parsed["traffic"].get("as_recorded").is_none());
        assert_eq!(parsed["per_class"].as_array().map(Vec::len), Some(report.summary.classes.len()));
        for key in [
            "mean_itl_ms",
            "p99.9_e2el_ms",
            "p99_batch_seqs",
            "mean_step_time_ms",
            "request_goodput",
            "total_token_throughput",
        ] {
            assert!(parsed[key].is_number(), "{key}");
        }
    }

    #[test]
    fn bytes_are_stable_and_in_order() {
        let text = summary_json(&sample::report());
        assert_eq!(text, summary_json(&sample::report()));
        let order = ["definitions", "duration_s", "outcomes", "mean_ttft_ms", "slo", "per_class"];
        let at: Vec<_> = order.iter().map(|key| text.find(&format!("\"{key}\""))).collect();
        assert!(at.is_sorted() && at.iter().all(Option::is_some), "{at:?}");
    }

    #[test]
    fn an_empty_run_has_nulls_not_zeros() {
        let parsed: serde_json::Value = serde_json::from_str(&summary_json(&sample::empty())).expect("JSON");
        assert!(parsed["p99_ttft_ms"].is_null() && parsed["request_throughput"].is_null());
        assert_eq!(parsed["completed"], 0);
    }
}
