//! Workloads from a server's metrics: rates from counters, lengths from buckets, and what is wrong with files.

use std::fmt::Write as _;
use std::path::Path;

use overbook_sim::time::Span;
use overbook_traces::{ArrivalSpec, LengthDist, LengthSpec, Metrics, MetricsError, MetricsFit, MetricsOptions};

use crate::drain;

const SECOND: u64 = 1_000_000_000;

/// vLLM's buckets for a context of 8,192 tokens.
const BOUNDS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];

/// A server that has answered requests of these lengths.
#[derive(Default)]
struct Server {
    lengths: Vec<(u32, u32)>,
    aborted: usize,
}

impl Server {
    /// What its `/metrics` says, with an optional timestamp [ms] on each line.
    fn scrape(&self, engine: u32, at_ms: Option<u64>) -> String {
        let stamp = at_ms.map_or_else(String::new, |ms| format!(" {ms}"));
        let labels = format!("engine=\"{engine}\",model_name=\"meta-llama/Llama-3.1-8B\"");
        let mut text = String::from("# HELP vllm:request_success_total Count of successfully processed requests.\n");
        text.push_str("# TYPE vllm:request_success_total counter\npython_info{version=\"3.12\"} 1.0\n");
        let finished = self.lengths.len() - self.aborted;
        for (reason, count) in [("stop", finished), ("length", 0), ("abort", self.aborted)] {
            let _ =
                writeln!(text, "vllm:request_success_total{{{labels},finished_reason=\"{reason}\"}} {count}.0{stamp}");
            let _ =
                writeln!(text, "vllm:request_success_created{{{labels},finished_reason=\"{reason}\"}} 1.76e9{stamp}");
        }
        let _ = writeln!(text, "vllm:num_requests_running{{{labels}}} 12.0{stamp}");
        for (name, of) in [("prompt", 0), ("generation", 1)] {
            let values: Vec<u32> = self.lengths.iter().map(|pair| if of == 0 { pair.0 } else { pair.1 }).collect();
            for bound in BOUNDS.into_iter().chain([f64::INFINITY]) {
                let le = if bound.is_finite() { format!("{bound:.1}") } else { "+Inf".to_owned() };
                let count = values.iter().filter(|value| f64::from(**value) <= bound).count();
                let _ = writeln!(text, "vllm:request_{name}_tokens_bucket{{{labels},le=\"{le}\"}} {count}.0{stamp}");
            }
            let sum: u64 = values.iter().map(|value| u64::from(*value)).sum();
            let _ = writeln!(text, "vllm:request_{name}_tokens_sum{{{labels}}} {sum}.0{stamp}");
            let _ = writeln!(text, "vllm:request_{name}_tokens_count{{{labels}}} {}.0{stamp}", values.len());
        }
        text
    }

    /// Answers `n` more requests, of lengths that vary.
    fn serve(&mut self, n: usize) {
        for _ in 0..n {
            let i = self.lengths.len() as u32;
            self.lengths.push((1 + i * 7919 % 1500, 1 + i * 104_729 % 300));
        }
    }
}

fn options(window_s: u64) -> MetricsOptions {
    MetricsOptions { window: Span(window_s * SECOND), every: None, model: None }
}

fn fit(text: &str, options: &MetricsOptions) -> Result<MetricsFit, MetricsError> {
    let mut metrics = Metrics::default();
    metrics.add(Path::new("metrics.txt"), text)?;
    metrics.fit(options)
}

/// Scrapes every 30 s of an hour: 3/s in the first half, 9/s in the second.
fn hour(stamped: bool) -> (String, Server) {
    let mut server = Server::default();
    // What was served before the first scrape does not count.
    server.serve(777);
    let mut text = String::new();
    for scrape in 0..=120u64 {
        text += &server.scrape(0, stamped.then_some(1_700_000_000_000 + scrape * 30_000));
        server.serve(if scrape < 60 { 90 } else { 270 });
    }
    (text, server)
}

#[test]
fn rates_and_lengths_are_read_off() {
    let (text, server) = hour(true);
    let found = fit(&text, &options(1800)).expect("fits");
    assert_eq!((found.requests, found.resets, found.span), (21_600.0, 0, Span(3600 * SECOND)));
    assert_eq!(found.rates.iter().map(|rate| (rate * 1e6).round() / 1e6).collect::<Vec<_>>(), [3.0, 9.0]);
    assert_eq!((found.running, found.waiting), (Some(12.0), None));
    let spec = found.spec();
    assert_eq!(spec.problems(), []);
    let arrivals = drain(&mut *spec.open(1).expect("opens")).expect("generates");
    assert!((arrivals.len() as f64 / 21_600.0 - 1.0).abs() < 0.04, "{}", arrivals.len());
    // The lengths behind the buckets, which the fit has not seen.
    let served = &server.lengths[777..777 + 21_600];
    let mean = |of: &dyn Fn(usize) -> u32, n: usize| (0..n).map(|i| f64::from(of(i))).sum::<f64>() / n as f64;
    let prompt = mean(&|i| served[i].0, served.len());
    assert!((mean(&|i| arrivals[i].prompt_tokens, arrivals.len()) / prompt - 1.0).abs() < 0.03);
    assert!((found.prompt.mean / prompt - 1.0).abs() < 1e-9 && (found.prompt.fitted_mean / prompt - 1.0).abs() < 1e-3);
    let mut sorted: Vec<u32> = served.iter().map(|pair| pair.1).collect();
    sorted.sort_unstable();
    let mut drawn: Vec<u32> = arrivals.iter().map(|arrival| arrival.output_tokens).collect();
    drawn.sort_unstable();
    // More than the bucket of a quantile cannot be known.
    let bucket = |tokens: u32| BOUNDS.iter().position(|bound| f64::from(tokens) <= *bound);
    for p in [0.1, 0.3, 0.6, 0.9] {
        let at = |values: &[u32]| values[(p * values.len() as f64) as usize];
        assert_eq!(bucket(at(&drawn)), bucket(at(&sorted)), "{p}: {} {}", at(&drawn), at(&sorted));
    }
    // The same without timestamps, the time between scrapes given; and as several files.
    let (text, _) = hour(false);
    let every = MetricsOptions { every: Some(Span(30 * SECOND)), ..options(1800) };
    let again = fit(&text, &every).expect("fits");
    assert_eq!((again.rates.len(), again.requests, &again.prompt), (2, 21_600.0, &found.prompt));
}

#[test]
fn resets_servers_and_aborted_requests() {
    let mut metrics = Metrics::default();
    let (mut one, mut two) = (Server::default(), Server::default());
    for scrape in 0..=10u64 {
        // The second server is restarted after the fifth scrape.
        if scrape == 6 {
            two = Server::default();
            two.serve(50);
        }
        for (engine, server) in [(0, &one), (1, &two)] {
            metrics.add(Path::new("x"), &server.scrape(engine, Some(scrape * 15_000))).expect("reads");
        }
        one.serve(60);
        one.aborted += 6;
        two.serve(60);
    }
    let fit = metrics.fit(&options(3600)).expect("fits");
    // The restart costs the requests since the scrape before, less those counted after it.
    assert!((fit.requests - (600.0 + 600.0 - 60.0 + 50.0)).abs() < 1e-9, "{fit:?}");
    assert_eq!(fit.resets, 1);
    assert!((fit.aborted_share.expect("counted") - 60.0 / 1190.0).abs() < 1e-9 && fit.running == Some(24.0), "{fit:?}");
    let ArrivalSpec::Poisson { rate } = fit.spec().arrivals else { panic!("{fit:?}") };
    assert!((rate.0 - 1190.0 / 150.0).abs() < 1e-4, "{rate:?}");
    assert_eq!(fit.window, Span(150 * SECOND));
}

#[test]
fn what_lies_beyond_the_last_bucket_goes_to_the_next_step() {
    let mut server = Server::default();
    let before = server.scrape(0, Some(0));
    server.lengths = vec![(7000, 7); 100];
    let found = fit(&(before + &server.scrape(0, Some(60_000))), &options(60)).expect("fits");
    let LengthSpec::Independent { prompt: LengthDist::Quantiles(points), .. } = found.spec().lengths else { panic!() };
    assert_eq!((points[0].1, points[points.len() - 1].1), (5001, 10_000));
    assert!((found.prompt.beyond - 1.0).abs() < 1e-9 && (found.prompt.fitted_mean - 7000.0).abs() < 2.0, "{found:?}");
}

#[test]
fn a_range_query_of_prometheus() {
    let (text, _) = hour(true);
    let expected = fit(&text, &options(1800)).expect("fits");
    let mut series: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("vllm:")) {
        let (name, rest) = line.split_once('{').expect("labels");
        let (labels, rest) = rest.split_once("} ").expect("a value");
        let (value, ms) = rest.split_once(' ').expect("a timestamp");
        let labels = labels.replace("=\"", "\":\"").replace("\",", "\",\"");
        let key = format!("{{\"__name__\":\"{name}\",\"{labels}}}");
        series.entry(key).or_default().push(format!("[{}.000,\"{}\"]", &ms[..ms.len() - 3], value));
    }
    let found = series.iter().map(|(key, values)| format!("{{\"metric\":{key},\"values\":[{}]}}", values.join(",")));
    let found: Vec<_> = found.collect();
    let answer = |parts: &[String]| {
        format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{}]}}}}\n", parts.join(","))
    };
    // In one answer, or one after another.
    assert_eq!(fit(&answer(&found), &options(1800)).expect("fits"), expected);
    let (first, second) = found.split_at(7);
    assert_eq!(fit(&(answer(first) + &answer(second)), &options(1800)).expect("fits"), expected);
    // Ray's names for the same series.
    let ray = answer(&found).replace("vllm:", "ray_vllm_");
    assert_eq!(fit(&ray, &options(1800)).expect("fits"), expected);
}

#[test]
fn what_is_wrong_is_told() {
    let (stamped, _) = hour(true);
    let (plain, _) = hour(false);
    let one = Server::default().scrape(0, None);
    let other = options(1800);
    let renamed = |from: &str, to: &str| stamped.replace(from, to);
    let one_bound_less = stamped.replace("engine=\"0\"", "engine=\"1\"").replace("le=\"5.0\"", "le=\"6.0\"");
    let named = MetricsOptions { model: Some("gpt-oss".into()), ..options(1800) };
    let cases: [(&str, &MetricsOptions, &[&str]); 14] = [
        ("", &other, &["no `vllm:request_success_total`", "scrape /metrics of a vLLM server"]),
        (&renamed("request_success", "other"), &other, &["no `vllm:request_success_total`"]),
        (&renamed("generation_tokens_bucket", "x"), &other, &["no `vllm:request_generation_tokens_bucket`"]),
        (&stamped, &named, &["of model `gpt-oss`", "there are: meta-llama/Llama-3.1-8B"]),
        (&plain, &other, &["121 scrapes carry no times", "--every 15s"]),
        (&one, &other, &["two scrapes at different times, found 1"]),
        (&stamped, &options(5), &["windows of 5.000 s are shorter than the 30.000 s between scrapes"]),
        (&(stamped.clone() + &one_bound_less), &other, &["buckets of `vllm:request_prompt_tokens` are not the same"]),
        (&renamed("le=\"+Inf\"", "le=\"9999\""), &other, &["le=\"+Inf\"", "is missing"]),
        (&renamed("le=\"5.0\"", "le=\"five\""), &other, &["le=\"five\" is no number"]),
        ("<html>\n", &other, &["metrics.txt:1: expected a metric and its value, found `<html>`"]),
        ("a 1\nb{c=\"d 2\n", &other, &["metrics.txt:2: expected the closing quote of a label"]),
        ("{\"status\":\"error\",\"error\":\"bad query\"}", &other, &["Prometheus answers: bad query"]),
        (
            "{\"status\":\"success\",\"data\":{\"result\":[{\"metric\":{},\"values\":[[0,\"1\"]]}]}}",
            &other,
            &["a series has no name", "not rate()"],
        ),
    ];
    for (text, options, words) in cases {
        let told = fit(text, options).expect_err(words[0]).to_string();
        assert!(words.iter().all(|word| told.contains(word)) && told.contains("help: "), "{words:?}: {told}");
    }
    let still = Server::default().scrape(0, Some(0)) + &Server::default().scrape(0, Some(60_000));
    assert!(matches!(fit(&still, &other), Err(MetricsError::Idle)));
    assert!(matches!(fit("{\"status\": 5", &other), Err(MetricsError::Syntax { line: 1, .. })));
}

/// The same traffic as other servers name it.
fn renamed(text: &str, names: &[(&str, &str)]) -> String {
    let counted = text.lines().filter(|line| !line.contains("_created")).map(|line| format!("{line}\n"));
    names.iter().fold(counted.collect::<Vec<_>>().concat(), |text, (from, to)| text.replace(from, to))
}

const SGLANG: [(&str, &str); 4] = [
    ("vllm:request_prompt_tokens", "sglang:prompt_tokens_histogram"),
    ("vllm:request_generation_tokens", "sglang:generation_tokens_histogram"),
    ("vllm:num_requests_running", "sglang:num_running_reqs"),
    ("vllm:request_success_total", "sglang:num_requests_total"),
];

const TGI: [(&str, &str); 4] = [
    ("vllm:request_prompt_tokens", "tgi_request_input_length"),
    ("vllm:request_generation_tokens", "tgi_request_generated_tokens"),
    ("vllm:num_requests_running", "tgi_batch_current_size"),
    ("vllm:request_success_total", "tgi_request_success"),
];

#[test]
fn other_servers_say_the_same_by_other_names() {
    let (text, _) = hour(true);
    let expected = fit(&text, &options(600)).expect("vLLM");
    let sglang = fit(&renamed(&text, &SGLANG), &options(600)).expect("SGLang");
    assert_eq!(MetricsFit { aborted_share: expected.aborted_share, ..sglang }, expected);
    // Every rank of a group counts the same requests.
    let rank = |rank: u32| renamed(&text, &SGLANG).replace("{model_name", &format!("{{tp_rank=\"{rank}\",model_name"));
    let ranks = fit(&(rank(0) + &rank(1)), &options(600)).expect("SGLang with ranks");
    assert_eq!(MetricsFit { aborted_share: expected.aborted_share, ..ranks }, expected);
    let tgi = fit(&renamed(&text, &TGI), &options(600)).expect("TGI");
    assert_eq!(tgi.aborted_share, None);
    assert_eq!(MetricsFit { aborted_share: expected.aborted_share, ..tgi }, expected);
    // SGLang counts what was aborted apart, and TGI not at all.
    let aborted = |at: u64, count: u32| {
        format!("sglang:num_aborted_requests_total{{model_name=\"meta-llama/Llama-3.1-8B\"}} {count} {at}000\n")
    };
    let counted = aborted(1_700_000_000, 100) + &aborted(1_700_003_600, 2260) + &renamed(&text, &SGLANG);
    assert!((fit(&counted, &options(600)).expect("SGLang").aborted_share.expect("counted") - 0.1).abs() < 1e-9);
    let without = renamed(&text, &SGLANG[2..]);
    let error = fit(&without.replace("vllm:request_", "x"), &options(600)).expect_err("no lengths").to_string();
    assert!(
        error.contains("no `sglang:prompt_tokens_histogram_bucket`") && error.contains("--collect-tokens-histogram"),
        "{error}"
    );
    let error = fit(&without, &options(600)).expect_err("two kinds").to_string();
    assert!(error.contains("metrics of vLLM and SGLang"), "{error}");
}
