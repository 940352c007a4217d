//! Memory stays flat, however many requests pass.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::float_cmp)]

use std::sync::Arc;

use overbook_engine::config::Config;
use overbook_engine::cpu::CpuExecutor;
use overbook_engine::executor::{Bans, Batch, Begin, Capacity, Executor, Sampling, Sequence, TableChange};
use overbook_engine::weights::{Dtype, Weights};

/// Resident memory of this process [KiB].
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).expect("number").parse().expect("number")
}

/// Runs requests in groups of 20: a prefill of 12 tokens each in one step, then 3 decodes.
fn serve(executor: &mut CpuExecutor, config: &Config, requests: u32) {
    let seats = 0..20_u32;
    let part = |seat: u32, past: u32, tokens: u32| Sequence { seat, past, tokens, samples: true };
    for group in 0..requests / 20 {
        let begin = |seat: u32| {
            let sampling = Sampling { temperature: 1.0, top_k: 20, top_p: 0.9, seed: u64::from(group * 20 + seat) };
            Begin {
                seat,
                prompt: (0..12).map(|i| (i * 37 + group + seat) % 512).collect(),
                sampling,
                bans: Bans::default(),
            }
        };
        let ends = if group == 0 { Vec::new() } else { seats.clone().collect() };
        let begins = seats.clone().map(begin).collect();
        let sequences = seats.clone().map(|seat| part(seat, 0, 12)).collect();
        let tables = seats.clone().map(|seat| TableChange { seat, from: 0, blocks: vec![seat] }).collect();
        executor.submit(0, Batch { ends, begins, tables, sequences, ..Batch::default() }).unwrap();
        for at in 12..15 {
            let sequences = seats.clone().map(|seat| part(seat, at, 1)).collect();
            executor.submit(0, Batch { sequences, ..Batch::default() }).unwrap();
            assert_eq!(executor.wait(0).unwrap().tokens.len(), 20);
        }
        let last = executor.wait(0).unwrap().tokens;
        assert!(last.len() == 20 && last.iter().all(|(_, token)| *token < config.vocab as u32));
    }
    executor.submit(0, Batch { ends: seats.collect(), ..Batch::default() }).unwrap();
    assert!(executor.wait(0).unwrap().tokens.is_empty());
}

/// Alone in its process: what other tests take would count.
#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_requests_leave_nothing_behind() {
    // The tiny preset, smaller still, is quicker and keeps as much per request.
    let tiny = Config::preset("tiny").unwrap();
    let config = Config { layers: 1, hidden: 64, intermediate: 64, heads: 2, ..tiny };
    let weights = Weights::dummy(&config, 1, Dtype::Bf16).unwrap();
    let capacity = Capacity::unbounded(20, 16, 64, 512);
    let mut executor = CpuExecutor::new(config.clone(), Arc::new(weights), capacity, 2).unwrap();
    serve(&mut executor, &config, 1_000);
    let before = resident();
    serve(&mut executor, &config, 10_000);
    let grown = resident() - before;
    // The tokens of 10,000 requests alone would be 586 KiB.
    assert!(grown < 512, "{grown} KiB");
}
