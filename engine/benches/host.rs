//! The host's part of a captured decode step of the CUDA executor: `cargo bench -p overbook-engine --bench host`.
//!
//! The emulated driver's null device does nothing, at once. What is left is what one thread does to hand over a step and to take
//! its tokens back, two steps in flight, the calls into the stand-in included. Batches are made before; every sequence gets a block
//! every [`BLOCK`] steps. The table has the median step, which no other program has interrupted, and the slowest twentieth, where
//! blocks are given; beside them the mean CPU time of the thread, in which the caches suffer from whatever else runs (Linux).
//! Where the time goes, `perf record -g` says: the program starts itself anew with the stand-in's folder in `LD_LIBRARY_PATH`.

#![allow(clippy::print_stdout, reason = "a table is the result")]

#[allow(dead_code, unreachable_pub, reason = "the tests use more of it")]
#[path = "../tests/it/emulator.rs"]
mod emulator;

use std::process::ExitCode;
use std::time::Instant;

use overbook_engine::config::Config;
use overbook_engine::cuda::{CudaExecutor, Model};
use overbook_engine::executor::{Bans, Batch, Begin, Capacity, Executor, Lanes, Sampling, Sequence, TableChange};
use overbook_engine::weights::Dummy;

const BLOCK: u32 = 16;
const STEPS: u32 = 400;
const ROUNDS: u32 = 12;
const PROMPT: u32 = 8;
/// Longest time of a step [µs] at the largest batch.
const BAR: f64 = 60.0;

fn main() -> ExitCode {
    if std::env::var_os("OVERBOOK_EMULATOR_NULL").is_none() {
        let program = std::env::current_exe().expect("this program");
        let mut command = emulator::command(&program, &[("OVERBOOK_EMULATOR_NULL", "1")]);
        let status = command.status().expect("it starts");
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    println!("batch | submit, us | wait, us | a step, us | the slowest twentieth | CPU time of a step, us");
    let slowest = [1, 64, 256].map(measure).into_iter().fold(0.0, f64::max);
    println!("bar: {BAR} us");
    if slowest <= BAR { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// CPU time of this thread so far [s]; NaN where the system does not say.
fn running() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn measure(batch: u32) -> f64 {
    let config = Config::preset("tiny").expect("a preset");
    let blocks = batch * (PROMPT + STEPS + 1).div_ceil(BLOCK);
    let capacity = Capacity {
        blocks,
        block_tokens: BLOCK,
        max_model_len: 512,
        vocab: config.vocab as u32,
        step_tokens: batch * PROMPT,
        sequences: batch,
        lanes: Lanes::One,
        host_blocks: 0,
    };
    let model = Model::load(0, config, &Dummy { seed: 1 }).expect("a model");
    let mut executor = CudaExecutor::new(model, capacity).expect("an executor");
    let (mut submits, mut waits, mut running) = (Vec::new(), Vec::new(), 0.0);
    for round in 0..ROUNDS {
        running += run(&mut executor, batch, round > 0, &mut submits, &mut waits);
    }
    let mut steps: Vec<f64> = submits.iter().zip(&waits).map(|(submit, wait)| submit + wait).collect();
    let part = |times: &mut Vec<f64>, share: f64| {
        times.sort_by(f64::total_cmp);
        times[((times.len() - 1) as f64 * share) as usize] * 1e6
    };
    let (submit, wait, step) = (part(&mut submits, 0.5), part(&mut waits, 0.5), part(&mut steps, 0.5));
    let (slow, cpu) = (part(&mut steps, 0.95), running / f64::from(ROUNDS * STEPS) * 1e6);
    println!("{batch} | {submit:.1} | {wait:.1} | {step:.1} | {slow:.1} | {cpu:.1}");
    step
}

/// Times of the two calls of all decode steps of a round; gives the thread's CPU time [s].
fn run(executor: &mut CudaExecutor, batch: u32, again: bool, submits: &mut Vec<f64>, waits: &mut Vec<f64>) -> f64 {
    let mut batches: Vec<Batch> = (0..=STEPS).map(|step| step_of(batch, step)).collect();
    batches[0].ends = if again { (0..batch).collect() } else { Vec::new() };
    let mut batches = batches.into_iter();
    executor.submit(0, batches.next().expect("prompts")).expect("submits");
    executor.wait(0).expect("computes");
    let start = running();
    executor.submit(0, batches.next().expect("a step")).expect("submits");
    for batch in batches {
        let began = Instant::now();
        executor.submit(0, batch).expect("submits");
        let between = Instant::now();
        executor.wait(0).expect("computes");
        waits.push(between.elapsed().as_secs_f64());
        submits.push((between - began).as_secs_f64());
    }
    executor.wait(0).expect("computes");
    running() - start
}

/// Step 0 computes all prompts; the others decode.
fn step_of(batch: u32, step: u32) -> Batch {
    let mut made = Batch::default();
    for seat in 0..batch {
        let (past, tokens) = if step == 0 { (0, PROMPT) } else { (PROMPT + step - 1, 1) };
        if step == 0 {
            let (prompt, sampling) = (vec![1; PROMPT as usize], Sampling::GREEDY);
            made.begins.push(Begin { seat, prompt, sampling, bans: Bans::default() });
        }
        if step == 0 || past.is_multiple_of(BLOCK) {
            let from = past.div_ceil(BLOCK);
            made.tables.push(TableChange { seat, from, blocks: vec![from * batch + seat] });
        }
        made.sequences.push(Sequence { seat, past, tokens, samples: true });
    }
    made
}
