//! Greedy tokens of the CUDA executor and of the CPU executor.

use std::sync::Arc;

use overbook_engine::config::Config;
use overbook_engine::cpu::CpuExecutor;
use overbook_engine::cuda::{CudaExecutor, Model};
use overbook_engine::executor::{Bans, Batch, Begin, Capacity, Executor, Sampling, Sequence, TableChange};
use overbook_engine::weights::{Dtype, Dummy, Weights};

use crate::emulator::emulated;

fn capacity(config: &Config) -> Capacity {
    Capacity {
        blocks: 64,
        block_tokens: 16,
        max_model_len: 256,
        vocab: config.vocab as u32,
        step_tokens: 256,
        sequences: 8,
        lanes: 1,
    }
}

fn prompt(len: u32, seed: u32) -> Vec<u32> {
    (0..len).map(|i| (i * i * 7 + i * 31 + seed * 57 + 3) % 512).collect()
}

/// Three prompts in one step, then decodes.
fn generate(executor: &mut dyn Executor, steps: u32) -> Vec<Vec<u32>> {
    let lens = [5, 40, 17];
    let mut drawn = vec![Vec::new(); lens.len()];
    for step in 0..steps {
        let mut batch = Batch::default();
        for (seat, len) in (0..).zip(lens) {
            if step == 0 {
                let begin =
                    Begin { seat, prompt: prompt(len, seat), sampling: Sampling::GREEDY, bans: Bans::default() };
                batch.begins.push(begin);
                batch.tables.push(TableChange { seat, from: 0, blocks: (0..6).map(|i| 6 * seat + 5 - i).collect() });
            }
            let (past, tokens) = if step == 0 { (0, len) } else { (len + step - 1, 1) };
            batch.sequences.push(Sequence { seat, past, tokens, samples: true });
        }
        executor.submit(0, batch).expect("submits");
        for (seat, token) in executor.wait(0).expect("computes").tokens {
            drawn[seat as usize].push(token);
        }
    }
    drawn
}

#[test]
fn greedy_tokens_are_the_cpu_engines() {
    emulated("tokens::greedy_tokens_are_the_cpu_engines", &[], || {
        let config = Config::preset("tiny").expect("a preset");
        let source = Dummy { seed: 1 };
        let weights = Weights::from_source(&config, &source, Dtype::Bf16).expect("weights");
        let mut cpu = CpuExecutor::new(config.clone(), Arc::new(weights), capacity(&config), 1).expect("an executor");
        let start = std::time::Instant::now();
        let model = Model::load(0, config.clone(), &source).expect("a model");
        println!("loaded {:?}", start.elapsed());
        let mut cuda = CudaExecutor::new(model, capacity(&config)).expect("an executor");
        println!("opened {:?}", start.elapsed());
        let (wanted, got) = (generate(&mut cpu, 8), generate(&mut cuda, 8));
        println!("ran {:?}", start.elapsed());
        println!("{wanted:?}\n{got:?}");
        assert_eq!(wanted, got);
    });
}
