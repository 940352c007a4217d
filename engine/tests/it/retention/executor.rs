//! The executor with retention: how many blocks it needs, what begins anew, what it refuses.

use std::sync::Arc;
use std::time::Duration;

use overbook_engine::config::{Config, Family};
use overbook_engine::cpu::CpuExecutor;
use overbook_engine::executor::{
    Bans, Batch, Begin, Capacity, Executor, ExecutorError, Rehearsal, Sampling, Sequence, Shrink, TableChange,
};
use overbook_engine::retention::{Extras, GateKind, Recorder, Retention};
use overbook_engine::weights::Dtype;
use overbook_sim::kv::retention::policies::{H2o, KvZap, StreamingLlm, TrimKv};
use overbook_sim::kv::retention::{Keep, RetentionPolicy, RetentionSpec};

use super::{capacity, config, extras, gates, part, tokens, weights};

const SEED: u64 = 4;

fn executor(spec: &RetentionSpec, capacity: Capacity) -> CpuExecutor {
    let config = config(Family::Llama);
    let retention = Retention::new(spec, &config, &extras(&config, spec, SEED)).expect("a retention");
    CpuExecutor::retaining(config.clone(), weights(&config, SEED, Dtype::F32), capacity, 2, retention).expect("starts")
}

fn begin(seat: u32, prompt: Vec<u32>) -> Begin {
    Begin { seat, prompt, sampling: Sampling::GREEDY, bans: Bans::default() }
}

fn table(seat: u32, from: u32, blocks: Vec<u32>) -> TableChange {
    TableChange { seat, from, blocks }
}

/// Runs a step, and gives the tokens that it draws.
fn run(executor: &mut CpuExecutor, batch: Batch) -> Result<Vec<u32>, ExecutorError> {
    executor.submit(0, batch)?;
    Ok(executor.wait(0)?.tokens.into_iter().map(|(_, token)| token).collect())
}

fn of(sequence: Sequence) -> Batch {
    Batch { sequences: vec![sequence], ..Batch::default() }
}

/// A prompt of 33 tokens in chunks of 5 and 30 tokens of output.
fn generated(executor: &mut CpuExecutor, prompt: &[Vec<u32>], decode: &[u32]) -> Vec<u32> {
    let mut drawn = Vec::new();
    for (index, past) in (0..33).step_by(5).enumerate() {
        let count = 5.min(33 - past);
        let mut batch = of(part(0, past, count, past + count == 33));
        if past == 0 {
            batch.begins.push(begin(0, tokens(33, 1)));
        }
        batch.tables.push(table(0, 0, prompt[index.min(prompt.len() - 1)].clone()));
        drawn.extend(run(executor, batch).expect("computes"));
    }
    for past in 33..62 {
        let mut batch = of(part(0, past, 1, true));
        if past == 33 {
            batch.tables.push(table(0, 0, decode.to_vec()));
        }
        drawn.extend(run(executor, batch).expect("computes"));
    }
    drawn
}

#[test]
fn a_long_sequence_needs_blocks_for_its_budget_and_a_chunk() {
    let config = config(Family::Llama);
    for policy in [RetentionPolicy::TrimKv(TrimKv::default()), RetentionPolicy::H2o(H2o::default())] {
        let spec = RetentionSpec::strict(policy, 9);
        // 9 slots and 5 more are four blocks of four; 9 and one more are three.
        let few = generated(&mut executor(&spec, capacity(&config, 4)), &[vec![2, 0, 3, 1]], &[2, 0, 3]);
        let blocks: Vec<u32> = (0..20).collect();
        let many = generated(&mut executor(&spec, capacity(&config, 20)), std::slice::from_ref(&blocks), &blocks);
        assert_eq!(few, many);
        assert_eq!(few.len(), 30);
        // One block fewer is refused.
        let mut executor = executor(&spec, capacity(&config, 4));
        let first = Batch {
            begins: vec![begin(0, tokens(33, 1))],
            tables: vec![table(0, 0, vec![0, 1])],
            ..of(part(0, 0, 8, false))
        };
        run(&mut executor, first).expect("computes");
        let second = Batch { tables: vec![table(0, 2, vec![2])], ..of(part(0, 8, 5, false)) };
        let error = run(&mut executor, second).unwrap_err().to_string();
        assert_eq!(error, "sequence in seat 0 has too few blocks for its positions");
    }
}

#[test]
fn a_preempted_sequence_begins_anew_with_its_first_budget() {
    let config = config(Family::Llama);
    let spec = RetentionSpec::strict(RetentionPolicy::TrimKv(TrimKv::default()), 12);
    let blocks: Vec<u32> = (0..20).collect();
    let mut executor = executor(&spec, capacity(&config, 20));
    let first = Batch {
        begins: vec![begin(0, tokens(20, 2))],
        tables: vec![table(0, 0, blocks.clone())],
        ..of(part(0, 0, 20, true))
    };
    let drawn = run(&mut executor, first).expect("computes");
    // Smaller while it runs: what it kept goes at once, and its last blocks with it.
    let shrinks = Batch {
        shrinks: vec![Shrink { seat: 0, budget: 3 }],
        tables: vec![table(0, 1, vec![])],
        ..of(part(0, 20, 1, true))
    };
    run(&mut executor, shrinks).expect("three slots and a new one are a block");
    // Anew from the start, its token known.
    let again = Batch { tables: vec![table(0, 0, blocks)], ..of(part(0, 0, 20, true)) };
    assert_eq!(run(&mut executor, again).expect("computes"), drawn);
    // 12 slots again, and a new one: more than three blocks.
    let short = Batch { tables: vec![table(0, 3, vec![])], ..of(part(0, 20, 1, true)) };
    assert!(run(&mut executor, short).unwrap_err().to_string().contains("too few blocks"));
}

/// What is said of a step after a prompt of ten tokens.
fn refused(spec: &RetentionSpec, batch: Batch) -> String {
    let config = config(Family::Llama);
    let mut executor = executor(spec, capacity(&config, 20));
    let tables = vec![table(0, 0, (0..10).collect())];
    let first = Batch { begins: vec![begin(0, tokens(10, 1))], tables, ..of(part(0, 0, 10, true)) };
    run(&mut executor, first).expect("computes");
    run(&mut executor, batch).unwrap_err().to_string()
}

#[test]
fn steps_that_cannot_be_are_refused() {
    let streaming = RetentionPolicy::StreamingLlm(StreamingLlm { sinks: 4 });
    let spec = RetentionSpec::strict(streaming, 8);
    let shrink = |seat, budget| Batch { shrinks: vec![Shrink { seat, budget }], ..of(part(0, 10, 1, true)) };
    let gap = "sequence in seat 0 goes on at position 12, and has computed 10; one that keeps only some tokens shares none with others";
    assert_eq!(refused(&spec, of(part(0, 12, 1, true))), gap);
    assert_eq!(refused(&spec, shrink(0, 4)), "a budget of 4 for `streaming-llm`, which needs 5 at least");
    assert_eq!(refused(&spec, shrink(3, 6)), "the budget of seat 3 shrinks, and nothing of it is computed");
    let full = RetentionSpec::strict(RetentionPolicy::Full, 8);
    assert_eq!(refused(&full, shrink(0, 6)), "the budget of seat 0 shrinks, and it keeps everything");
    // A sequence that finds its start in the prefix cache would overwrite what others read.
    let config = config(Family::Llama);
    let mut executor = executor(&spec, capacity(&config, 20));
    let tables = vec![table(1, 0, (0..10).collect())];
    let shared = Batch { begins: vec![begin(1, tokens(10, 1))], tables, ..of(part(1, 4, 6, true)) };
    let said = run(&mut executor, shared).unwrap_err().to_string();
    assert!(said.starts_with("sequence in seat 1 goes on at position 4, and has computed 0"), "{said}");
}

/// Why there is no such retention.
fn unfit(spec: &RetentionSpec, extras: &Extras) -> String {
    Retention::new(spec, &config(Family::Llama), extras).unwrap_err().to_string()
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let config = config(Family::Llama);
    let strict = RetentionSpec::strict;
    let none = Extras::default();
    let trim = strict(RetentionPolicy::TrimKv(TrimKv::default()), 8);
    let needs = "`trim-kv` needs trained gates: a file gates.safetensors beside the weights";
    assert_eq!(unfit(&trim, &none), needs);
    let zap = Extras { gates: Some(gates(&config, 1, GateKind::Score)), ..none.clone() };
    assert_eq!(unfit(&trim, &zap), "gates `zap`, where the policy needs `gate`");
    let other = Config { layers: 3, ..config.clone() };
    let other = Extras { gates: Some(gates(&other, 1, GateKind::Retention)), ..none.clone() };
    let said = "gates of 3 layers, hidden size 64 and 2 KV heads for a model of 2, 64 and 2";
    assert_eq!(unfit(&trim, &other), said);
    let kv_zap = strict(RetentionPolicy::KvZap(KvZap { window: 128 }), 100);
    assert!(unfit(&kv_zap, &zap).starts_with("retention.budget is 100; `kv-zap` protects 128 tokens"));
    let oracle = strict(RetentionPolicy::Oracle, 8);
    let knows = "`oracle` knows attention to come: it can be evaluated on recorded sequences, and not run";
    assert_eq!(unfit(&oracle, &none), knows);
    // With a recording it can be evaluated, and still not run.
    let future = Extras { future: Some(Arc::new(Recorder::default().take())), ..none };
    let retention = Retention::new(&oracle, &config, &future).expect("a retention");
    let weights = weights(&config, SEED, Dtype::F32);
    let error = CpuExecutor::retaining(config.clone(), weights, capacity(&config, 4), 1, retention).map(|_| ());
    assert_eq!(error.unwrap_err().to_string(), knows);
}

/// A prompt of 20 tokens in chunks of 6 and ten tokens of output, then less of it, with as few blocks as its slots need.
fn rehearsed(keep: Keep, spoil: bool) -> Result<(), ExecutorError> {
    let capacity = Capacity::unbounded(8, 4, 128, 131);
    let mut executor = Rehearsal::retaining(capacity, Duration::ZERO, Duration::ZERO, keep);
    let step = |executor: &mut Rehearsal, batch: Batch| {
        executor.submit(0, batch)?;
        executor.wait(0).map(|_| ())
    };
    let mut begins = vec![begin(0, tokens(20, 1))];
    for past in (0..18).step_by(6).chain([18]) {
        let tables = vec![table(0, 0, vec![5, 1, 6, 2])];
        let count = 6.min(20 - past);
        let batch = of(part(0, past, count, past + count == 20));
        step(&mut executor, Batch { begins: std::mem::take(&mut begins), tables, ..batch })?;
    }
    for past in 20..30 {
        let tables = vec![table(0, 0, vec![5, 1, 6])];
        step(&mut executor, Batch { tables, ..of(part(0, past, 1, true)) })?;
    }
    let blocks = if spoil { vec![1] } else { vec![5] };
    let shrinks = vec![Shrink { seat: 0, budget: 3 }];
    step(&mut executor, Batch { shrinks, tables: vec![table(0, 0, blocks)], ..of(part(0, 30, 1, true)) })
}

#[test]
fn the_rehearsal_finds_every_kept_token_in_its_slot() {
    let keep = RetentionSpec { every: 2, ..RetentionSpec::strict(RetentionPolicy::Window, 10) }.keep();
    rehearsed(keep, false).expect("slots for the budget and a chunk, then two more");
    let error = rehearsed(keep, true).unwrap_err().to_string();
    assert!(error.starts_with("seat 0 has other KV at"), "{error}");
    // A larger budget than the blocks hold.
    let error = rehearsed(Keep { budget: 12, ..keep }, false).unwrap_err().to_string();
    assert!(error.starts_with("seat 0 has no block for position"), "{error}");
}
