//! One run: does a replica keep its promise, and how far can it be loaded? `cargo run --release --example run`

#![allow(clippy::print_stdout, reason = "a program prints")]

use overbook::{Error, Experiment, Options};

const CHAT: &str = "
version: 1
name: chat
description: Llama-3.1-8B on one H100, chat traffic
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 10/s } }, lengths: burstgpt-conversation, requests: 5000 }
slo:
  ttft_p99: 500ms
  tpot_p99: 30ms
";

fn main() -> Result<(), Error> {
    let chat = Experiment::from_text("chat", CHAT);
    for rate in [10, 20, 40] {
        let outcome = chat
            .clone()
            .set("workload.generate.arrivals.poisson.rate", format!("{rate}/s"))?
            .run(&Options::default())?;
        let ms = |metric: &str| outcome.metric(metric).unwrap_or(f64::NAN) * 1e3;
        let verdict = if outcome.keeps_targets() { "kept" } else { "missed" };
        println!("{rate} requests/s: TTFT p99 {:.0} ms, TPOT p99 {:.1} ms: {verdict}", ms("ttft_p99"), ms("tpot_p99"));
        for missed in outcome.verdicts.iter().filter(|verdict| !verdict.met()) {
            println!("  {} {}, got {}", missed.label(), missed.target_text(), missed.value_text());
        }
        if rate == 10 {
            println!("  trust: {}", outcome.trust.map_or_else(String::new, |trust| trust.to_string()));
        }
    }
    Ok(())
}
