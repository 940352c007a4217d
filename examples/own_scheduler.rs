//! A scheduler of one's own beside vLLM's, on the same requests: `cargo run --release --example own_scheduler`

#![allow(clippy::print_stdout, reason = "a program prints")]

use overbook::{Error, Experiment, Horizon, Infeasible, Options, Outcome, Scheduler, StepBuilder};

/// Whole prompts, one a step, and only while the running requests leave a tenth of the KV pool free: first tokens wait, tokens
/// after the first come evenly.
#[derive(Debug)]
struct OneByOne {
    max_running: usize,
}

impl Scheduler for OneByOne {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        // Where the decodes need more blocks than are free, the request that joined last gives way.
        while step.free_blocks() < step.member_blocks() {
            let last = step.running_at(step.running() - 1);
            step.preempt(last.seat)?;
        }
        step.decode_all()?;
        let reserve = step.limits().blocks / 10;
        if step.running() < self.max_running
            && let Some(head) = step.head()
            && (step.running() == 0 || step.free_blocks() > step.blocks_for(head.tokens) + reserve)
        {
            step.admit(&head, head.tokens - head.cached)?;
        }
        // Every step is planned anew: right for any policy. A certificate of what stays the same would make it faster.
        Ok(Horizon::ONE)
    }
}

const CHAT: &str = "
version: 1
name: chat
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 20/s } }, lengths: burstgpt-conversation, requests: 3000 }
scheduler: { vllm: { max_num_seqs: 128, enable_prefix_caching: false } }
";

fn main() -> Result<(), Error> {
    let vllm = Experiment::from_text("chat", CHAT);
    let own = vllm.clone().with_scheduler("one prompt a step", |_| Box::new(OneByOne { max_running: 128 }));
    let options = Options { audit: true, ..Options::default() };
    print("vLLM", &vllm.run(&options)?);
    print("one prompt a step", &own.run(&options)?);
    Ok(())
}

fn print(name: &str, outcome: &Outcome) {
    let ms = |metric: &str| outcome.metric(metric).unwrap_or(f64::NAN) * 1e3;
    let (finished, preempted) = (outcome.metric("finished"), outcome.metric("preemptions"));
    println!(
        "{name:<18} TTFT p50 {:>6.1} ms, p99 {:>7.1} ms; gap between tokens p99 {:>5.1} ms; {} finished, {} preemptions",
        ms("ttft_p50"),
        ms("ttft_p99"),
        ms("itl_p99"),
        finished.unwrap_or(0.0),
        preempted.unwrap_or(0.0)
    );
}
