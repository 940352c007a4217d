//! Probes of servers whose step costs are known. Costs are read from answers in virtual time; with real servers only what does not
//! depend on how busy the machine is.

mod exact;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use overbook_sim::calibrate::inferred::{client_time_us, without_client};
use overbook_sim::calibrate::steps::fit_steps;
use overbook_sim::cost::steps::Steps;
use overbook_sim::cost::{CostModel as _, HostCost, PrefillPart, StepShape};
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};

use super::super::Target;
use super::*;
use crate::serve::tests::{Running, VOCAB};

const STEP: Duration = Duration::from_millis(12);
const TOKEN: Duration = Duration::from_micros(150);

fn plan() -> ProbePlan {
    ProbePlan {
        max_seqs: 6,
        max_tokens: 128,
        max_model_len: 512,
        kv_tokens: 8192,
        budget: Duration::from_secs(120),
        rounds: 1,
        seed: 3,
    }
}

fn server(at: SocketAddr) -> Server {
    let target = Target::parse(&format!("http://{at}")).expect("an address");
    Server { target, api_key: None, model: None, vocab: VOCAB, body: serde_json::Map::new() }
}

fn vllm(tokens: u32) -> SchedulerSpec {
    SchedulerSpec::Vllm(VllmSpec { max_num_batched_tokens: tokens, max_num_seqs: 6, ..VllmSpec::default() })
}

/// What a fit to the probes says of a step [µs].
fn priced(seen: &[SeenStep], seqs: u32, prompt: u32) -> f64 {
    let steps = without_client(seen.to_vec(), client_time_us(seen));
    let (form, _) = fit_steps(&steps);
    let prefill: Vec<PrefillPart> =
        [prompt].into_iter().filter(|&tokens| tokens > 0).map(|tokens| PrefillPart { tokens, past: 0 }).collect();
    let prefill_ends = prefill.len() as u32;
    let shape = StepShape { decode_seqs: seqs, decode_context: u64::from(seqs) * 40, prefill: &prefill, prefill_ends };
    Steps::new(form, HostCost::ZERO).step(&shape).device.as_ns_f64() / 1e3
}

#[test]
fn costs_of_a_step_and_of_a_token_are_found_again() {
    let plan = plan();
    let mut readings = exact::readings(&plan, 128);
    let steps = readings.steps(&plan);
    let true_us = |tokens: u32| (STEP + TOKEN * tokens).as_secs_f64() * 1e6;
    for (seqs, prompt) in [(1, 0), (4, 0), (6, 0), (1, 64), (4, 100), (0, 128)] {
        let (got, want) = (priced(&steps, seqs, prompt), true_us(seqs + prompt));
        assert!(
            (got / want - 1.0).abs() < 0.02,
            "{seqs} sequences, prompt of {prompt}: {got:.0} us, truly {want:.0} us"
        );
    }
    let token = (priced(&steps, 1, 120) - priced(&steps, 1, 20)) / 100.0;
    assert!((token / 150.0 - 1.0).abs() < 0.02, "{token} us a token, truly 150");
    // Prompts of several steps were distinguished by the context before them.
    assert!(steps.iter().any(|s| s.sample.kind == "mixed" && s.sample.prefill[0].past > 0));
    assert!(steps.iter().any(|s| s.sample.kind == "prefill" && s.sample.prefill[0].past > 0));
    assert_eq!((readings.mixes(), readings.other_steps(), readings.chunked), (Some(true), None, true));
    assert!(readings.short.is_empty(), "{:?}", readings.short);
    // A server with half the tokens in a step: a prompt of 128 takes two steps, and is no sample.
    let mut half = exact::readings(&plan, 64);
    assert_eq!(half.other_steps().map(|(_, steps)| steps > 1), Some(true));
    let longest = half.steps(&plan).iter().flat_map(|s| &s.sample.prefill).map(|part| part.tokens).max();
    assert!(longest <= Some(68), "{longest:?}");
}

#[test]
fn all_probes_are_sent_to_a_server_and_its_metrics_are_read() {
    let running = Running::with((STEP, TOKEN), vllm(128), |_| {});
    let mut seen = Vec::new();
    let mut watch = |at: &Probing| {
        seen.push(at.done);
        true
    };
    let probed = probe(&server(running.at), &plan(), &mut watch).expect("it answers");
    running.stop();
    assert!(seen.windows(2).all(|pair| pair[0] <= pair[1]) && seen.last().is_some_and(|&done| done > 5));
    let (before, after) = probed.metrics.expect("it has metrics");
    assert!(after.steps > before.steps && after.blocks > 0.0);
    assert!(probed.steps.iter().any(|step| step.sample.kind == "decode"));
    assert!(probed.unidentified.iter().all(|text| !text.starts_with("KV pool")), "{:?}", probed.unidentified);
    assert_eq!(probed.probes.0, probed.probes.1);
}

#[test]
fn another_token_budget_than_the_scenarios_is_told() {
    let running = Running::with((STEP, TOKEN), vllm(64), |_| {});
    let probed = probe(&server(running.at), &plan(), &mut |_| true).expect("it answers");
    running.stop();
    let told = probed.unidentified.iter().find(|text| text.starts_with("tokens of a step")).expect("it is told");
    assert!(told.contains("and not the scenario's 128"), "{told}");
    let longest = probed.steps.iter().flat_map(|s| &s.sample.prefill).map(|part| part.tokens).max();
    assert!(longest <= Some(68), "a prompt of several steps is no sample: {longest:?}");
}

#[test]
fn a_server_that_stops_half_way_is_told() {
    let running = Running::with((STEP, TOKEN), vllm(128), |_| {});
    let mut watch = |at: &Probing| {
        if at.done >= 5 {
            running.tell_to_stop();
        }
        true
    };
    let error = probe(&server(running.at), &plan(), &mut watch).expect_err("it is gone").to_string();
    running.stop();
    assert!(error.contains("probe ") && error.contains(") failed: "), "{error}");
    assert!(["HTTP 503", "cannot connect", "connection broke"].iter().any(|what| error.contains(what)), "{error}");
}

#[test]
fn interruptions_and_small_budgets_give_nothing() {
    let running = Running::with((Duration::from_millis(2), Duration::ZERO), vllm(128), |_| {});
    let error = probe(&server(running.at), &plan(), &mut |at| at.done < 2).expect_err("it is stopped");
    assert!(matches!(error, ProbeError::Interrupted), "{error}");
    let short = ProbePlan { budget: Duration::ZERO, ..plan() };
    let error = probe(&server(running.at), &short, &mut |_| true).expect_err("no time").to_string();
    assert!(error.starts_with("only 0 of ") && error.contains("allow more time"), "{error}");
    running.stop();
}

/// A server without metrics, whose tokens come every so often whatever else runs.
fn plain(every: Duration, tokens_of: fn(u64) -> u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, every, tokens_of));
        }
    });
    at
}

fn answer(mut stream: TcpStream, every: Duration, tokens_of: fn(u64) -> u64) {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let (head, body) = loop {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(n) => bytes.extend_from_slice(&part[..n]),
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let mut say = |text: &str| stream.write_all(text.as_bytes());
    let head_of = |status| format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n");
    match head.split(' ').nth(1) {
        Some("/v1/models") => drop(say(&(head_of(200) + "{\"data\":[{\"id\":\"plain\"}]}"))),
        Some("/v1/completions") => {
            let asked: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let tokens = tokens_of(asked["max_tokens"].as_u64().expect("a number"));
            let _ = say(&head_of(200));
            for token in 0..tokens {
                std::thread::sleep(every);
                let end = if token + 1 == tokens { "\"length\"" } else { "null" };
                let event = format!("data: {{\"choices\":[{{\"text\":\"a\",\"finish_reason\":{end}}}]}}\n\n");
                if say(&event).is_err() {
                    return;
                }
            }
        }
        _ => drop(say(&(head_of(404) + "nothing"))),
    }
}

#[test]
fn a_server_without_metrics_is_probed_and_told() {
    let at = plain(Duration::from_millis(10), |asked| asked);
    let probed = probe(&server(at), &plan(), &mut |_| true).expect("it answers");
    assert!(probed.metrics.is_none());
    assert!(probed.warnings.iter().any(|text| text.contains("no metrics")), "{:?}", probed.warnings);
    assert!(probed.unidentified.iter().any(|text| text.starts_with("KV pool")), "{:?}", probed.unidentified);
    // Its tokens come one by one whatever runs: each of them was a step of its own.
    let decode = probed.steps.iter().filter(|step| step.sample.kind == "decode");
    assert!(decode.map(|step| step.sample.decode_seqs).max() == Some(6), "{:?}", probed.steps);
}

#[test]
fn answers_of_another_length_are_refused() {
    let at = plain(Duration::from_millis(1), |asked| asked.min(5));
    let error = probe(&server(at), &plan(), &mut |_| true).expect_err("too short").to_string();
    assert!(error.contains("asked for 12 tokens it gave 5") && error.contains("ignore_eos"), "{error}");
}
