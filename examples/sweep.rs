//! A study: how many replicas, and which scheduler? `cargo run --release --example sweep`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use overbook::study::Asked;
use overbook::{Error, Experiment, Options};

const SERVICE: &str = "
version: 1
name: service
description: Llama-3.1-8B behind a chat service
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { gamma: { rate: 60/s, shape: 0.5 } }, lengths: burstgpt-conversation, requests: 5000 }
fleet: { router: least-outstanding }
slo:
  ttft_p99: 500ms
  goodput: { ttft: 500ms, tpot: 30ms, share: 0.95 }
";

fn main() -> Result<(), Error> {
    let study = Experiment::from_text("service", SERVICE)
        .vary("fleet.replicas", "2, 3, 4")
        .vary("scheduler", "vllm, sglang, sarathi")
        .study()?;
    let options = Options::default();
    // A handler of Ctrl-C would call this token's `cancel`: points that have ended are kept, the others are marked.
    let _token = options.cancel.clone();
    let outcome = study.run(&options, &|done| eprintln!("{} of {} points", done.finished, done.of))?;
    let metrics = ["goodput_fraction", "ttft_p99", "tpot_p99", "output_throughput", "kv_usage_mean"];
    let asked = Asked { metrics: &metrics, command: "cargo run --example sweep".to_owned(), by_load: false };
    println!("{}", outcome.table(&study, &asked).terminal());
    println!("the requests were made {} time(s) for {} points", outcome.workloads_opened, study.points().len());
    let enough = study.points().iter().zip(outcome.points.iter().flatten()).find(|(_, point)| point.keeps_targets());
    match enough {
        Some((point, _)) => println!("the first point that keeps its targets: {}", overbook::study::place(point)),
        None => println!("no point keeps its targets"),
    }
    Ok(())
}
