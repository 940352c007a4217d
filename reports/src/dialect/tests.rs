use serde_json::Value;

use super::*;
use crate::sample as made_up;

fn exported(dialect: Dialect) -> Value {
    let (mut requests, _) = made_up::rows(4);
    // Four requests worked by hand: arrival 0, first token after 1 s, 2 s, 3 s, 4 s; 1, 2, 3 and 5 tokens, 100 ms apart.
    for (i, row) in requests.iter_mut().enumerate() {
        let s = 1_000_000_000u64;
        let ttft = (i as u64 + 1) * s;
        row.outcome = Outcome::Finished;
        row.arrival = overbook_sim::time::Time(0);
        row.first_token = Some(overbook_sim::time::Time(ttft));
        row.output_tokens = [1, 2, 3, 5][i];
        row.prompt_tokens = 100;
        row.end = overbook_sim::time::Time(ttft + u64::from(row.output_tokens - 1) * s / 10);
    }
    let mut lost = requests[0].clone();
    lost.outcome = Outcome::Cancelled;
    requests.push(lost);
    let home = tempfile::tempdir().expect("temp dir");
    let run = made_up::run_dir(&home.path().join("a"), &requests, &[]);
    let text = export(&run, dialect).expect("exported");
    assert_eq!(text, export(&run, dialect).expect("exported"), "the same bytes");
    serde_json::from_str(&text).expect("JSON")
}

fn near(value: &Value, want: f64) {
    let got = value.as_f64().unwrap_or(f64::NAN);
    assert!((got - want).abs() <= 1e-9 * want.abs(), "{value} is not {want}");
}

#[test]
fn vllm_has_its_keys_and_interpolates() {
    let json = exported(Dialect::Vllm);
    assert_eq!((json["completed"].as_u64(), json["failed"].as_u64()), (Some(4), Some(1)));
    near(&json["duration"], 4.4);
    near(&json["mean_ttft_ms"], 2500.0);
    near(&json["median_ttft_ms"], 2500.0);
    near(&json["p99_ttft_ms"], 3970.0);
    near(&json["std_ttft_ms"], 1.25f64.sqrt() * 1000.0);
    near(&json["mean_tpot_ms"], 100.0);
    near(&json["output_throughput"], 11.0 / 4.4);
    near(&json["total_token_throughput"], 411.0 / 4.4);
    assert!(json["request_goodput"].is_number() && json["mean_itl_ms"].is_number());
}

#[test]
fn guidellm_counts_the_first_token_and_weighs_by_tokens() {
    let json = exported(Dialect::Guidellm);
    let benchmark = &json["benchmarks"][0];
    assert_eq!(benchmark["scheduler_metrics"]["requests_made"]["incomplete"].as_u64(), Some(1));
    let metric = |name: &str| &benchmark["metrics"][name]["successful"];
    // (1.0 + 2.1 + 3.2 + 4.4) s over 11 tokens.
    near(&metric("time_per_output_token_ms")["mean"], 10_700.0 / 11.0);
    assert_eq!(metric("time_per_output_token_ms")["count"].as_u64(), Some(11));
    near(&metric("inter_token_latency_ms")["mean"], 100.0);
    assert_eq!(metric("inter_token_latency_ms")["count"].as_u64(), Some(7));
    near(&metric("request_latency")["percentiles"]["p50"], 2.1);
    near(&metric("time_to_first_token_ms")["percentiles"]["p99"], 4000.0);
    near(&metric("requests_per_second")["mean"], 4.0 / 4.4);
}

#[test]
fn aiperf_states_units_and_samples() {
    let json = exported(Dialect::Aiperf);
    near(&json["time_to_first_token"]["avg"], 2500.0);
    near(&json["time_to_first_token"]["std"], (5.0f64 / 3.0).sqrt() * 1000.0);
    assert_eq!(json["time_to_first_token"]["unit"], "ms");
    near(&json["inter_token_latency"]["p50"], 100.0);
    assert_eq!(json["inter_token_latency"]["count"].as_u64(), Some(3));
    near(&json["output_token_throughput_per_user"]["avg"], 10.0);
    near(&json["output_token_throughput"]["avg"], 11.0 / 4.4);
    assert!(json["request_throughput"]["p50"].is_null());
}

#[test]
fn tools_are_known_by_name() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.name().parse::<Dialect>().expect("known"), dialect);
    }
    let error = "sglang".parse::<Dialect>().expect_err("unknown").to_string();
    assert!(error.contains("`sglang`") && error.contains("vllm, guidellm, aiperf"), "{error}");
}

#[test]
fn a_run_without_finished_requests_has_nulls() {
    let home = tempfile::tempdir().expect("temp dir");
    let run = made_up::run_dir(&home.path().join("a"), &[], &[]);
    for dialect in Dialect::ALL {
        let text = export(&run, dialect).expect("exported");
        assert!(text.contains("null") && !text.contains("NaN"), "{text}");
    }
}
