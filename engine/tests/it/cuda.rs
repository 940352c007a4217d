//! Greedy tokens of the CUDA executor and of the CPU executor.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use overbook_engine::config::Config;
use overbook_engine::cpu::{self, CpuExecutor};
use overbook_engine::cuda::{CudaExecutor, Model};
use overbook_engine::executor::{
    Bans, Batch, Begin, Capacity, Copied, Executor, ExecutorError, Lanes, Output, Sampling, Sequence, TableChange,
    TierCopy,
};
use overbook_engine::history::Histories;
use overbook_engine::weights::{Dtype, Loud, Weights};
use overbook_sim::counter;

use crate::emulator::emulated;
use crate::parity;

fn capacity(config: &Config) -> Capacity {
    Capacity {
        blocks: 64,
        block_tokens: 16,
        max_model_len: 256,
        vocab: config.vocab as u32,
        step_tokens: 256,
        sequences: 8,
        lanes: Lanes::One,
        host_blocks: 0,
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
    emulated("cuda::greedy_tokens_are_the_cpu_engines", &[], || {
        let config = Config::preset("tiny").expect("a preset");
        let source = Loud { seed: 1, factor: 5.0 };
        let weights = Weights::from_source(&config, &source, Dtype::Bf16).expect("weights");
        let mut cpu = CpuExecutor::new(config.clone(), Arc::new(weights), capacity(&config), 1).expect("an executor");
        let model = Model::load(0, config.clone(), &source).expect("a model");
        let mut cuda = CudaExecutor::new(model, capacity(&config)).expect("an executor");
        let (wanted, got) = (generate(&mut cpu, 8), generate(&mut cuda, 8));
        assert_eq!(wanted, got);
    });
}

/// A CUDA executor beside the CPU's forward pass, which computes the same batches and takes over the tokens drawn.
pub(crate) struct Shadow {
    cuda: CudaExecutor,
    model: cpu::Model,
    histories: Histories,
    /// Sequences of the steps that are out, what the CPU has not computed of them yet.
    out: [VecDeque<Batch>; 2],
    watched: Arc<Mutex<Watched>>,
}

/// What was compared.
#[derive(Default, Debug)]
pub(crate) struct Watched {
    pub(crate) tokens: u64,
    /// Tokens that were not the CPU's likeliest, and how far its logits lay apart.
    pub(crate) ties: Vec<f32>,
    /// Differences of the CPU's first and second logit, to know what the distance of a tie is worth.
    pub(crate) gaps: Vec<f32>,
    /// Of tokens that are not the likeliest on purpose: how far the draw's number lies from the token's share of the CPU's.
    pub(crate) draws: Vec<f64>,
}

/// Two logits that lie no further apart are a tie: activations of eight bits leave that much open, where the likeliest logits here
/// are between 2 and 5. The largest distance seen is 0.06.
const TIE: f32 = 0.1;
/// As much of the probability may lie elsewhere.
const DRAW: f64 = 0.02;

impl Shadow {
    pub(crate) fn new(
        cuda: CudaExecutor,
        config: &Config,
        weights: Arc<Weights>,
        watched: Arc<Mutex<Watched>>,
    ) -> Shadow {
        let capacity = cuda.capacity();
        Shadow {
            cuda,
            model: cpu::Model::new(config.clone(), weights, &capacity).expect("memory"),
            histories: Histories::new(capacity),
            out: [const { VecDeque::new() }; 2],
            watched,
        }
    }

    fn two_lanes(&self) -> bool {
        self.cuda.capacity().lanes != Lanes::One
    }
}

impl Executor for Shadow {
    fn capacity(&self) -> Capacity {
        self.cuda.capacity()
    }

    fn submit(&mut self, lane: usize, batch: Batch) -> Result<(), ExecutorError> {
        let mut own = batch.clone();
        if self.two_lanes() {
            // One step is out in each: what is in a step that is out has not ended.
            let (ends, begins) = (std::mem::take(&mut own.ends), std::mem::take(&mut own.begins));
            self.histories.update(&ends, begins, &std::mem::take(&mut own.tables))?;
        }
        self.out[lane].push_back(own);
        self.cuda.submit(lane, batch)
    }

    fn copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        self.cuda.copy(copies)
    }

    fn copied(&mut self) -> Result<Copied, ExecutorError> {
        self.cuda.copied()
    }

    fn give_contexts(&mut self) -> Result<(), ExecutorError> {
        self.cuda.give_contexts()
    }

    fn ready(&mut self, lane: usize) -> Result<bool, ExecutorError> {
        self.cuda.ready(lane)
    }

    fn wait(&mut self, lane: usize) -> Result<Output, ExecutorError> {
        let output = self.cuda.wait(lane)?;
        let Batch { ends, begins, tables, sequences, .. } = self.out[lane].pop_front().expect("a step is out");
        self.histories.update(&ends, begins, &tables)?;
        let inputs = self.histories.inputs(&sequences)?;
        let tables = self.histories.tables(&sequences);
        let logits = if inputs.is_empty() { &mut [][..] } else { self.model.forward(&inputs, &sequences, &tables) };
        let samples = sequences.iter().filter(|sequence| sequence.samples);
        let mut watched = self.watched.lock().expect("no panic");
        for ((sequence, logits), (seat, token)) in
            samples.zip(logits.chunks(self.cuda.capacity().vocab as usize)).zip(&output.tokens)
        {
            assert_eq!(sequence.seat, *seat);
            let (pending, sampling, _) = self.histories.draw(sequence).expect("it has begun");
            let given = self.histories.is_known(pending);
            assert!((*token as usize) < logits.len(), "token {token} is none of the vocabulary in {sequence:?}");
            // One that is given, and of a sequence that has ended before its step, may be the one drawn.
            self.histories.take(pending, *token);
            if given {
                continue;
            }
            watched.tokens += 1;
            if sampling.temperature > 0.0 {
                let apart = beside(logits, sampling, pending.position, *token);
                assert!(apart <= DRAW, "the draw lies {apart} beside the CPU's share of token {token} in {sequence:?}");
                watched.draws.push(apart);
                continue;
            }
            let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
            for logit in logits {
                (first, second) = if *logit > first { (*logit, first) } else { (first, second.max(*logit)) };
            }
            watched.gaps.push(first - second);
            let apart = first - logits[*token as usize];
            if apart > 0.0 {
                assert!(apart <= TIE, "token {token} lies {apart} below the CPU's in {sequence:?}");
                watched.ties.push(apart);
            }
        }
        Ok(output)
    }
}

/// How far a draw among all tokens lies outside of a token's share of the probability.
fn beside(logits: &[f32], sampling: Sampling, position: u32, token: u32) -> f64 {
    assert!(sampling.top_k == 0 && sampling.top_p >= 1.0, "all tokens, in their order");
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = logits.iter().map(|logit| f64::from((logit - top) / sampling.temperature).exp());
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum();
    let number = counter::draw(counter::draw(sampling.seed, 0), u64::from(position)) >> 11;
    let number = number as f64 / (1_u64 << 53) as f64;
    let before = weights[..token as usize].iter().sum::<f64>() / total;
    let after = before + weights[token as usize] / total;
    (before - number).max(number - after).max(0.0)
}

#[test]
fn every_scheduler_makes_the_simulators_batches_and_draws_the_cpus_tokens() {
    let test = "cuda::every_scheduler_makes_the_simulators_batches_and_draws_the_cpus_tokens";
    emulated(test, &[], || {
        let tiny = Config::preset("tiny").expect("a preset");
        let config = Config { layers: 2, hidden: 64, intermediate: 96, heads: 4, kv_heads: 2, vocab: 256, ..tiny };
        let source = Loud { seed: 3, factor: 8.0 };
        let weights = Arc::new(Weights::from_source(&config, &source, Dtype::Bf16).expect("weights"));
        let model = Model::load(0, config.clone(), &source).expect("a model");
        let watched = Arc::new(Mutex::new(Watched::default()));
        // One of each kind: the rehearsal goes through all their settings.
        let mut schedulers = parity::schedulers();
        schedulers.dedup_by_key(|(_, scheduler)| scheduler.name());
        let covered = parity::every_scheduler(schedulers, 20, 20, &mut |spec| {
            let needs = spec.scheduler.needs();
            let capacity = Capacity {
                blocks: parity::BLOCKS,
                block_tokens: parity::BLOCK,
                max_model_len: parity::LONGEST,
                vocab: config.vocab as u32,
                // Smaller than some steps, so that they are cut.
                step_tokens: needs.step_tokens.at(parity::LONGEST).min(160),
                // A step has no more; more may have blocks.
                sequences: needs.max_seqs.min(20),
                lanes: parity::lanes(spec),
                host_blocks: 0,
            };
            let cuda = CudaExecutor::new(model.clone(), capacity).expect("an executor");
            Box::new(Shadow::new(cuda, &config, weights.clone(), watched.clone()))
        });
        let watched = watched.lock().expect("no panic");
        let Watched { tokens, ties, gaps, .. } = &*watched;
        let close = gaps.iter().filter(|gap| **gap <= TIE).count();
        assert!(covered.preempted > 20 && covered.cached > 200 && covered.gone > 10, "{covered:?}");
        // A tie is what the arithmetic leaves open, not a licence.
        assert!(
            *tokens > 3000 && ties.len() * 40 < gaps.len() && close * 3 < gaps.len(),
            "{close} of {tokens} close, {ties:?}"
        );
    });
}
