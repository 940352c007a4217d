//! Batches, histories and draws as the executor's contract has them.

use std::sync::Arc;

use overbook_engine::config::Config;
use overbook_engine::cpu::CpuExecutor;
use overbook_engine::cuda::{CudaExecutor, Model};
use overbook_engine::executor::{
    Bans, Batch, Begin, BuildError, Capacity, Executor, Lanes, Sampling, Sequence, TableChange,
};
use overbook_engine::weights::{Dtype, Loud, Weights};

const SOURCE: Loud = Loud { seed: 1, factor: 5.0 };
const CAPACITY: Capacity = Capacity {
    blocks: 32,
    block_tokens: 16,
    max_model_len: 128,
    vocab: 512,
    step_tokens: 64,
    sequences: 8,
    lanes: Lanes::One,
    host_blocks: 0,
};

/// What a test runs on.
type Open<'a> = &'a dyn Fn() -> Box<dyn Executor>;

fn cpu() -> Box<dyn Executor> {
    let config = Config::preset("tiny").unwrap();
    let weights = Weights::from_source(&config, &SOURCE, Dtype::Bf16).unwrap();
    Box::new(CpuExecutor::new(config, Arc::new(weights), CAPACITY, 2).unwrap())
}

fn cuda() -> Box<dyn Executor> {
    let model = Model::load(0, Config::preset("tiny").unwrap(), &SOURCE).unwrap();
    Box::new(CudaExecutor::new(model, CAPACITY).unwrap())
}

/// A test over both executors.
macro_rules! both {
    ($name:ident, $body:ident) => {
        mod $name {
            #[test]
            fn on_the_cpu() {
                super::$body(&super::cpu);
            }

            #[test]
            fn on_cuda() {
                let test = concat!("protocol::", stringify!($name), "::on_cuda");
                crate::emulator::emulated(test, &[], || super::$body(&super::cuda));
            }
        }
    };
}

fn prompt(len: u32, seed: u32) -> Vec<u32> {
    (0..len).map(|i| (i * 37 + seed * 101 + 5) % 512).collect()
}

/// One sequence's part of a step, in blocks from `first` on.
fn part(seat: u32, past: u32, tokens: u32, samples: bool, first: u32) -> Batch {
    let blocks: Vec<u32> = (first..first + (past + tokens).div_ceil(16)).collect();
    let tables = vec![TableChange { seat, from: 0, blocks }];
    Batch { sequences: vec![Sequence { seat, past, tokens, samples }], tables, ..Batch::default() }
}

fn begin(mut batch: Batch, prompt: Vec<u32>, sampling: Sampling) -> Batch {
    let seat = batch.sequences[0].seat;
    batch.begins.push(Begin { seat, prompt, sampling, bans: Bans::default() });
    batch
}

fn run(executor: &mut dyn Executor, batch: Batch) -> Vec<(u32, u32)> {
    executor.submit(0, batch).unwrap();
    executor.wait(0).unwrap().tokens
}

/// The first `count` tokens of a sequence that runs alone, one step at a time.
fn generate(executor: &mut dyn Executor, sampling: Sampling, count: u32) -> Vec<u32> {
    let mut tokens = vec![run(executor, begin(part(0, 0, 20, true, 0), prompt(20, 1), sampling))[0].1];
    for at in 1..count {
        tokens.push(run(executor, part(0, 19 + at, 1, true, 0))[0].1);
    }
    run(executor, Batch { ends: vec![0], ..Batch::default() });
    tokens
}

const WARM: Sampling = Sampling { temperature: 1.0, top_k: 50, top_p: 0.9, seed: 11 };

both!(two_steps_may_be_out_and_come_back_in_order, two_steps_may_be_out_and_come_back_in_order_body);

fn two_steps_may_be_out_and_come_back_in_order_body(open: Open) {
    let mut executor = open();
    let wanted = generate(&mut *executor, WARM, 4);
    // The second step is submitted before the first one's token is known.
    executor.submit(0, begin(part(0, 0, 20, true, 0), prompt(20, 1), WARM)).unwrap();
    executor.submit(0, part(0, 20, 1, true, 0)).unwrap();
    let first = executor.wait(0).unwrap();
    executor.submit(0, part(0, 21, 1, true, 0)).unwrap();
    let second = executor.wait(0).unwrap();
    assert!(first.start < first.end && first.end <= second.start && second.start < second.end);
    assert_eq!((first.tokens, second.tokens), (vec![(0, wanted[0])], vec![(0, wanted[1])]));
    assert_eq!(executor.wait(0).unwrap().tokens, [(0, wanted[2])]);
    assert_eq!(executor.wait(0).unwrap_err().to_string(), "waited for a step, and none is out");
}

both!(
    draws_depend_on_the_seed_alone_and_not_on_the_company,
    draws_depend_on_the_seed_alone_and_not_on_the_company_body
);

fn draws_depend_on_the_seed_alone_and_not_on_the_company_body(open: Open) {
    let mut executor = open();
    let wanted = generate(&mut *executor, WARM, 6);
    assert_eq!(generate(&mut *executor, WARM, 6), wanted);
    assert_ne!(generate(&mut *executor, Sampling { seed: 12, ..WARM }, 6), wanted);
    assert_ne!(generate(&mut *executor, Sampling::GREEDY, 6), wanted);
    // Beside another sequence, and cut in two.
    let other = Sampling { seed: 99, ..WARM };
    run(&mut *executor, begin(part(5, 0, 9, true, 20), prompt(9, 3), other));
    run(&mut *executor, begin(part(0, 0, 7, false, 0), prompt(20, 1), WARM));
    let mut past = (7, 9);
    for (at, wanted) in wanted.iter().enumerate() {
        let (a, b) = (part(0, past.0, if at == 0 { 13 } else { 1 }, true, 0), part(5, past.1, 1, true, 20));
        let mut batch = a;
        batch.tables.extend(b.tables);
        batch.sequences.extend(b.sequences);
        let tokens = run(&mut *executor, batch);
        assert_eq!((tokens[0], tokens[1].0), ((0, *wanted), 5));
        past = (past.0 + if at == 0 { 13 } else { 1 }, past.1 + 1);
    }
}

both!(a_preempted_sequence_is_recomputed_from_what_it_drew, a_preempted_sequence_is_recomputed_from_what_it_drew_body);

fn a_preempted_sequence_is_recomputed_from_what_it_drew_body(open: Open) {
    let mut executor = open();
    let wanted = generate(&mut *executor, Sampling::GREEDY, 6);
    run(&mut *executor, begin(part(0, 0, 20, true, 0), prompt(20, 1), Sampling::GREEDY));
    for at in 0..3 {
        run(&mut *executor, part(0, 20 + at, 1, true, 0));
    }
    // Its blocks are lost. A chunk that ends among known tokens gives the known one, whatever the logits say.
    assert_eq!(run(&mut *executor, part(0, 0, 21, true, 8)), [(0, wanted[1])]);
    assert!(run(&mut *executor, part(0, 21, 1, false, 8)).is_empty());
    assert_eq!(run(&mut *executor, part(0, 22, 2, true, 8)), [(0, wanted[4])]);
    assert_eq!(run(&mut *executor, part(0, 24, 1, true, 8)), [(0, wanted[5])]);
}

both!(wrong_batches_are_refused_and_stop_the_executor, wrong_batches_are_refused_and_stop_the_executor_body);

fn wrong_batches_are_refused_and_stop_the_executor_body(open: Open) {
    let begun = |batch: Batch| begin(batch, prompt(20, 1), Sampling::GREEDY);
    let mut far = begun(part(0, 0, 20, true, 0));
    far.tables[0].blocks = vec![31, 32];
    let mut short = begun(part(0, 0, 20, true, 0));
    short.tables[0].blocks.truncate(1);
    let unknown = Batch { tables: Vec::new(), ..part(3, 0, 20, true, 0) };
    let mut gap = begun(part(0, 0, 20, true, 0));
    gap.tables[0].from = 1;
    let mut long = begun(part(0, 0, 20, true, 0));
    long.tables[0].blocks = (0..9).collect();
    let mut twice = begun(part(0, 0, 20, true, 0));
    twice.begins.push(twice.begins[0].clone());
    let cold = Sampling { temperature: f32::NAN, ..Sampling::GREEDY };
    for (batch, message) in [
        (part(3, 0, 20, true, 0), "sequence in seat 3 gets blocks without having begun"),
        (unknown, "sequence in seat 3 is computed without having begun"),
        (begun(part(0, 0, 21, true, 0)), "sequence in seat 0 lacks the input of a position"),
        (begun(part(0, 0, 0, true, 0)), "sequence in seat 0 computes nothing, or more than the longest sequence"),
        (begun(part(0, 100, 29, true, 0)), "sequence in seat 0 has more blocks than the longest sequence"),
        (far, "sequence in seat 0 has a block that the cache does not have"),
        (short, "sequence in seat 0 has too few blocks for its positions"),
        (long, "sequence in seat 0 has more blocks than the longest sequence"),
        (gap, "sequence in seat 0 has a gap in its block table"),
        (twice, "sequence in seat 0 begins while it runs"),
        (Batch { ends: vec![4], ..Batch::default() }, "sequence in seat 4 ends without having begun"),
        (
            begin(part(0, 0, 1, true, 0), vec![512], Sampling::GREEDY),
            "sequence in seat 0 begins with no prompt, or with tokens outside the vocabulary",
        ),
        (
            begin(part(0, 0, 1, true, 0), vec![1], cold),
            "sequence in seat 0 samples with a temperature below 0 or a top_p outside (0, 1]",
        ),
    ] {
        let mut executor = open();
        let error = executor.submit(0, batch).and_then(|()| executor.wait(0)).unwrap_err();
        assert_eq!(error.to_string(), message);
        // Nothing runs any more; whether that shows on submission or after it is a race.
        let next = executor.submit(0, begun(part(0, 0, 20, true, 0))).and_then(|()| executor.wait(0).map(drop));
        assert!(next.is_err(), "{message}");
    }
}

#[test]
fn what_does_not_fit_the_model_is_refused() {
    let config = Config::preset("tiny").unwrap();
    let weights = Arc::new(Weights::dummy(&config, 1, Dtype::F32).unwrap());
    let refused = |capacity| -> BuildError {
        CpuExecutor::new(config.clone(), weights.clone(), capacity, 1).err().expect("refused")
    };
    let error = refused(Capacity { vocab: 500, ..CAPACITY });
    assert_eq!(error.to_string(), "a vocabulary of 500 for a model of 512");
    let error = refused(Capacity { max_model_len: 8193, ..CAPACITY });
    assert_eq!(error.to_string(), "sequences of 8193 tokens for a model made for 8192");
    assert!(refused(Capacity { blocks: 0, ..CAPACITY }).to_string().starts_with("no blocks"));
}
