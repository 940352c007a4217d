//! What is asked for is what comes.

use overbook_sim::cost::Cost;
use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::kv::{TierSpec, WriteRule};
use overbook_sim::time::Span;
use serde_json::json;

use super::*;

fn chat(at: SocketAddr, body: &serde_json::Value) -> Answered {
    call(at, "POST", "/v1/chat/completions", "", &body.to_string())
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let server = Running::quick();
    let ask = json!({ "model": "rehearsal", "prompt": "hello", "max_tokens": 40, "ignore_eos": true, "seed": 7 });
    let whole = post(server.at, &ask);
    assert_eq!((whole.status, whole.json()["object"].as_str()), (200, Some("text_completion")));
    let whole = whole.json();
    let usage = json!({ "prompt_tokens": 5, "total_tokens": 45, "completion_tokens": 40 });
    assert_eq!((&whole["usage"], &whole["choices"][0]["finish_reason"]), (&usage, &json!("length")));
    let mut ask = ask;
    ask["stream"] = json!(true);
    ask["stream_options"] = json!({ "include_usage": true, "continuous_usage_stats": true });
    let stream = post(server.at, &ask);
    assert!(stream.head.contains("content-type: text/event-stream"), "{}", stream.head);
    let events = stream.events();
    assert_eq!(events.len(), 41, "one per token and the usage");
    let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(Some(text.as_str()), whole["choices"][0]["text"].as_str());
    assert_eq!(events[2]["usage"]["completion_tokens"], 3);
    assert_eq!(
        (&events[39]["choices"][0]["finish_reason"], &events[38]["choices"][0]["finish_reason"]),
        (&json!("length"), &json!(null))
    );
    assert_eq!((&events[40]["choices"], &events[40]["usage"]), (&json!([]), &usage));
    assert_eq!(server.stop().rows.len(), 2);
}

#[test]
fn a_chat_begins_with_a_role() {
    let server = Running::quick();
    let ask =
        json!({ "messages": [{ "role": "user", "content": "hi" }], "max_completion_tokens": 6, "ignore_eos": true });
    let whole = chat(server.at, &ask).json();
    assert_eq!((&whole["object"], &whole["usage"]["completion_tokens"]), (&json!("chat.completion"), &json!(6)));
    let mut ask = ask;
    ask["stream"] = json!(true);
    let events = chat(server.at, &ask).events();
    assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(Some(text.as_str()), whole["choices"][0]["message"]["content"].as_str());
    assert_eq!((events.len(), &events[6]["choices"][0]["finish_reason"]), (7, &json!("length")));
    server.stop();
}

#[test]
fn answers_end_where_they_should() {
    let server = Running::quick();
    let base = json!({ "prompt": [1, 2, 3], "max_tokens": 3000, "seed": 1 });
    let with = |more: serde_json::Value| {
        let mut ask = base.clone();
        more.as_object().expect("fields").iter().for_each(|(name, value)| ask[name] = value.clone());
        post(server.at, &ask).json()
    };
    // The end token is one of 300, drawn evenly: it comes long before 3,000 tokens.
    let natural = with(json!({}));
    let tokens = natural["usage"]["completion_tokens"].as_u64().expect("a count");
    assert_eq!((&natural["choices"][0]["finish_reason"], tokens < 2900), (&json!("stop"), true), "{tokens}");
    assert_eq!(with(json!({ "ignore_eos": true }))["usage"]["completion_tokens"], 3000);
    let later = with(json!({ "min_tokens": tokens + 1 }))["usage"]["completion_tokens"].as_u64().expect("a count");
    assert!(later > tokens, "{later} after {tokens}");
    // A character of the text as a stop text: the text ends before it.
    let text = natural["choices"][0]["text"].as_str().expect("text").to_owned();
    let (at, stop) = text.char_indices().filter(|&(_, c)| c.is_ascii_alphabetic()).nth(3).expect("letters");
    let stopped = with(json!({ "stop": ["never to be seen", stop.to_string()] }));
    let first = text.find(stop).expect("it is there");
    assert!(first <= at);
    assert_eq!(
        stopped["choices"][0],
        json!({ "index": 0, "text": text[..first], "logprobs": null,
        "finish_reason": "stop", "stop_reason": stop.to_string() })
    );
    let end = with(json!({ "ignore_eos": true, "stop_token_ids": [Tokenizer::bytes().ends()[0]] }));
    assert_eq!(end["usage"]["completion_tokens"], tokens);
    assert_eq!(end["choices"][0]["stop_reason"], Tokenizer::bytes().ends()[0], "asked for, and so reported");
    assert!(natural["choices"][0]["stop_reason"].is_null(), "the end of text is no news");
    server.stop();
}

#[test]
fn equal_prefixes_are_shared_and_change_nothing() {
    let server = Running::quick();
    let prompt: Vec<u32> = (0..100).collect();
    let ask = json!({ "prompt": prompt, "max_tokens": 8, "ignore_eos": true, "seed": 3 });
    let first = post(server.at, &ask).json();
    let second = post(server.at, &ask).json();
    assert_eq!(first["choices"], second["choices"]);
    let metrics = get(server.at, "/metrics").body;
    assert!((figure(&metrics, "vllm:prefix_cache_hits_total") - 96.0).abs() < 0.5, "six full blocks of 16");
    assert!((figure(&metrics, "vllm:prefix_cache_queries_total") - 200.0).abs() < 0.5);
    let rows = server.stop().rows;
    assert_eq!((rows[0].cached_tokens, rows[1].cached_tokens), (0, 96));
}

/// A pool of 16 blocks holds one of two prompts; the tier gives the first one back.
#[test]
fn metrics_count_what_went_through_a_tier() {
    let tier = TierSpec {
        name: "host \"a\"".to_owned(),
        blocks: 64,
        latency: Span::ZERO,
        block_cost: Cost(0),
        network: false,
        write: WriteRule::Through,
        eviction: EvictionSpec::Lru,
    };
    let store = StoreSpec { tiers: vec![tier], ..StoreSpec::default() };
    let server = Running::over_store(16, 256, &store);
    let of = |metrics: &str, name: &str| {
        figure(metrics, &format!("{name}{{model_name=\"rehearsal\",engine=\"0\",tier=\"host \\\"a\\\"\"}}"))
    };
    let ask = |first: u32| {
        let prompt: Vec<u32> = (first..first + 162).collect();
        let answer = post(server.at, &json!({ "prompt": prompt, "max_tokens": 2, "ignore_eos": true }));
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    ask(0);
    ask(100);
    // Ten full blocks of each prompt.
    server.wait_for("overbook:tier_written_tokens_total", |tokens| tokens >= 320.0);
    let before = get(server.at, "/metrics").body;
    assert!(of(&before, "overbook:tier_written_tokens_total") >= 320.0, "{before}");
    assert!(figure(&before, "vllm:external_prefix_cache_hits_total") < 0.5, "{before}");
    ask(0);
    server.wait_for("vllm:external_prefix_cache_hits_total", |tokens| tokens > 0.0);
    let after = get(server.at, "/metrics").body;
    let loaded = of(&after, "overbook:tier_loaded_tokens_total");
    assert!(loaded > 0.0 && loaded % 16.0 == 0.0, "{after}");
    assert!((figure(&after, "vllm:external_prefix_cache_hits_total") - loaded).abs() < 0.5);
    assert!(
        of(&after, "overbook:tier_passed_tokens_total") < 0.5 && of(&after, "overbook:tier_dropped_tokens_total") < 0.5
    );
    server.stop();
    let without = Running::quick();
    assert!(!get(without.at, "/metrics").body.contains("tier"), "there is none");
    without.stop();
}

#[test]
fn metrics_count_what_was_served() {
    let server = Running::start(Duration::from_millis(2), |_| {});
    for _ in 0..3 {
        post(server.at, &json!({ "prompt": "12345", "max_tokens": 4, "ignore_eos": true }));
    }
    server.wait_for(
        "vllm:request_success_total{model_name=\"rehearsal\",engine=\"0\",finished_reason=\"length\"}",
        |n| n >= 3.0,
    );
    let metrics = get(server.at, "/metrics").body;
    for (name, value) in [
        ("vllm:num_requests_running", 0.0),
        ("vllm:num_requests_waiting", 0.0),
        ("vllm:kv_cache_usage_perc", 0.0),
        ("vllm:prompt_tokens_total", 15.0),
        ("vllm:generation_tokens_total", 12.0),
        ("vllm:num_preemptions_total", 0.0),
        ("vllm:time_to_first_token_seconds_count", 3.0),
        ("vllm:inter_token_latency_seconds_count", 9.0),
        ("vllm:time_per_output_token_seconds_count", 9.0),
        ("vllm:e2e_request_latency_seconds_count", 3.0),
        ("vllm:request_queue_time_seconds_count", 3.0),
        ("vllm:request_prefill_time_seconds_count", 3.0),
        ("vllm:request_decode_time_seconds_count", 3.0),
        ("vllm:request_prompt_tokens_sum", 15.0),
        ("vllm:request_generation_tokens_sum", 12.0),
        // Steps that put something out: of each request four, the first with its prompt of 5 and a token.
        ("vllm:iteration_tokens_total_count", 12.0),
        ("vllm:iteration_tokens_total_sum", 27.0),
    ] {
        assert!((figure(&metrics, name) - value).abs() < 1e-9, "{name}: {}", figure(&metrics, name));
    }
    let itl = figure(&metrics, "vllm:inter_token_latency_seconds_sum") / 9.0;
    // A step begins on the device while the host still hears of the one before: a moment less than two milliseconds.
    assert!((0.0015..0.05).contains(&itl), "a step of 2 ms: {itl}");
    assert!(metrics.contains("vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"513\""));
    server.stop();
}

#[test]
fn the_rest_of_the_api_answers() {
    let server = Running::start(Duration::ZERO, |settings| settings.api_key = Some("secret".into()));
    assert_eq!(
        (get(server.at, "/health").status, get(server.at, "/metrics").status),
        (200, 200),
        "no secrets, as in vLLM"
    );
    assert_eq!(call(server.at, "POST", "/ping", "", "").status, 200);
    assert!(get(server.at, "/version").json()["version"].as_str().is_some_and(|v| v.starts_with("overbook ")));
    for key in ["", "authorization: Bearer wrong\r\n", "authorization: secret\r\n"] {
        let refused = call(server.at, "GET", "/v1/models", key, "");
        assert_eq!((refused.status, refused.json()["error"]["code"].as_u64()), (401, Some(401)));
        assert_eq!(call(server.at, "POST", "/v1/completions", key, "{\"prompt\": \"a\"}").status, 401);
    }
    let key = "authorization: Bearer secret\r\n";
    let models = call(server.at, "GET", "/v1/models", key, "").json();
    assert_eq!((&models["data"][0]["id"], &models["data"][0]["max_model_len"]), (&json!("rehearsal"), &json!(CONTEXT)));
    // The scheme's case does not matter, by RFC 7235; nor does the number of spaces behind it.
    for key in [key, "authorization: bearer secret\r\n", "Authorization: BEARER  secret\r\n"] {
        assert_eq!(call(server.at, "POST", "/v1/completions", key, "{\"prompt\": \"a\"}").status, 200, "{key}");
    }
    let (lost, wrong) = (get(server.at, "/v2/x"), get(server.at, "/metrics/x"));
    assert_eq!((lost.status, wrong.status), (404, 404));
    assert!(lost.json()["error"]["message"].as_str().is_some_and(|text| text.contains("/v2/x")));
    let method = call(server.at, "DELETE", "/health", "", "");
    assert_eq!((method.status, method.json()["error"]["code"].as_u64()), (405, Some(405)));
    server.stop();
}

#[test]
fn a_model_is_found_by_its_name() {
    let server = Running::start(Duration::ZERO, |settings| settings.model = "org/model".into());
    let listed = get(server.at, "/v1/models").json();
    for path in ["/v1/models/org/model", "/v1/models/org%2Fmodel"] {
        let found = get(server.at, path);
        assert_eq!((found.status, &found.json()), (200, &listed["data"][0]), "{path}");
    }
    let other = get(server.at, "/v1/models/gpt-5");
    assert_eq!((other.status, other.json()["error"]["type"].as_str()), (404, Some("NotFoundError")));
    server.stop();
}

#[test]
fn a_page_in_a_browser_cannot_drive_the_server() {
    let ask = "{\"prompt\": \"a\"}";
    let server = Running::start(Duration::ZERO, |settings| settings.allowed_hosts = vec!["llm.example".into()]);
    let post = |more: &str| call(server.at, "POST", "/v1/completions", more, ask).status;
    // What a page may send to a server that has not agreed.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "",
    ] {
        assert_eq!(post(&format!("content-type: {kind}\r\n")), 415, "{kind}");
    }
    assert_eq!(post("content-type: Application/JSON; charset=utf-8\r\n"), 200);
    for (host, status) in
        [("evil.example", 403), ("evil.example:8000", 403), ("llm.example:80", 200), ("[::1]:8000", 200)]
    {
        assert_eq!(post(&format!("host: {host}\r\n")), status, "{host}");
        assert_eq!(call(server.at, "GET", "/metrics", &format!("host: {host}\r\n"), "").status, status, "{host}");
    }
    server.stop();
    // A page does not know the key.
    let server = Running::start(Duration::ZERO, |settings| settings.api_key = Some("secret".into()));
    let known = "host: llm.example\r\nauthorization: Bearer secret\r\n";
    assert_eq!(call(server.at, "POST", "/v1/completions", known, ask).status, 200);
    server.stop();
}
