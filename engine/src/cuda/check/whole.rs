//! Whole models: what is drawn, and the logits that it is drawn from, beside the CPU engine's; and that the ways to run a step differ
//! in nothing: recorded as a graph or launched kernel by kernel, one step out or two.

use std::sync::Arc;

use crate::config::Config;
use crate::cpu;
use crate::cuda::{CudaExecutor, Model};
use crate::executor::{
    Bans, Batch, Begin, Capacity, Executor as _, ExecutorError, Lanes, Sampling, Seat, Sequence, TableChange,
};
use crate::history::Histories;
use crate::weights::{Dtype, Source, Weights};

/// How far logits of the two engines may lie apart: length of the difference over the length of the CPU's. Activations of the CUDA
/// engine are rounded to eight bits between kernels.
pub const LOGITS: f64 = 0.06;
/// The CPU's logits of two tokens that lie no further apart than this share of their root mean square are a tie, which rounding may
/// decide.
pub const TIE: f64 = 0.1;

/// A model, run twice.
#[derive(Clone, PartialEq, Debug)]
pub struct WholeCheck {
    /// What was compared with what.
    pub what: String,
    /// Tokens that were drawn; where survivors are compared, cuts of a head.
    pub tokens: u64,
    /// Those that are not the same, but tied: the CPU's logits, or scores, of both are as close.
    pub ties: u64,
    /// Those that are not the same, and are no ties.
    pub wrong: u64,
    /// Largest distance of two tied tokens.
    pub tie: f64,
    /// How far the logits lie apart, at most; where nothing may differ, how many numbers do.
    pub error: f64,
    /// What the error may be.
    pub bound: f64,
}

impl WholeCheck {
    /// Whether both are the same, as far as they must be.
    pub fn passed(&self) -> bool {
        self.wrong == 0 && self.error <= self.bound && self.tokens > 0
    }
}

/// How long prompts are, and how often steps decode after them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// Prompts of the first step: four, for which there is a graph.
    pub prompts: [u32; 4],
    /// A prompt that comes later, in two parts, beside decodes.
    pub later: u32,
    /// Steps of decodes before it, and as many after it.
    pub decodes: u32,
}

/// Tokens of a block.
pub(super) const BLOCK: u32 = 16;

impl Script {
    fn longest(&self) -> u32 {
        self.prompts.into_iter().max().unwrap_or(0).max(self.later) + 2 * self.decodes + 3
    }

    pub(super) fn capacity(&self, config: &Config) -> Capacity {
        let max_model_len = self.longest().next_multiple_of(BLOCK);
        Capacity {
            blocks: 5 * max_model_len / BLOCK,
            block_tokens: BLOCK,
            max_model_len,
            vocab: config.vocab as u32,
            step_tokens: self.prompts.iter().sum::<u32>().max(self.later + 4),
            sequences: 8,
            lanes: Lanes::One,
            host_blocks: 0,
        }
    }

    /// The steps: prompts, decodes, and if `later` a prompt beside them.
    pub(super) fn steps(&self, vocab: u32, later: bool) -> Vec<Batch> {
        let blocks = self.longest().div_ceil(BLOCK);
        let begin = |batch: &mut Batch, seat: Seat, len: u32| {
            let prompt = (0..len).map(|i| (i * i * 7 + i * 31 + seat * 57 + 3) % vocab).collect();
            batch.begins.push(Begin { seat, prompt, sampling: Sampling::GREEDY, bans: Bans::default() });
            // Blocks of different sequences take turns, backwards.
            let blocks = (0..blocks).map(|i| 5 * (blocks - 1 - i) + seat).collect();
            batch.tables.push(TableChange { seat, from: 0, blocks });
        };
        let mut lens = self.prompts.to_vec();
        let mut first = Batch::default();
        for (seat, &len) in (0..).zip(&lens) {
            begin(&mut first, seat, len);
            first.sequences.push(Sequence { seat, past: 0, tokens: len, samples: true });
        }
        let decodes = |lens: &mut [u32]| {
            let sequence = |(seat, len): (Seat, &mut u32)| {
                *len += 1;
                Sequence { seat, past: *len - 1, tokens: 1, samples: true }
            };
            (0..).zip(lens).map(sequence).collect::<Vec<_>>()
        };
        let mut steps = vec![first];
        let decode = |steps: &mut Vec<Batch>, lens: &mut Vec<u32>| {
            (0..self.decodes).for_each(|_| steps.push(Batch { sequences: decodes(lens), ..Batch::default() }));
        };
        decode(&mut steps, &mut lens);
        if later {
            let half = self.later / 2;
            for (past, tokens) in [(0, half), (half, self.later - half)] {
                let mut batch = Batch { sequences: decodes(&mut lens), ..Batch::default() };
                if past == 0 {
                    begin(&mut batch, 4, self.later);
                }
                batch.sequences.push(Sequence { seat: 4, past, tokens, samples: past > 0 });
                steps.push(batch);
            }
            lens.push(self.later);
        }
        decode(&mut steps, &mut lens);
        steps
    }
}

/// Draws of a step.
pub(super) fn draws(batch: &Batch) -> usize {
    batch.sequences.iter().filter(|sequence| sequence.samples).count()
}

/// A model on the GPU beside the same on the CPU.
///
/// # Errors
/// One of the two cannot be had or fails.
pub fn against_cpu(
    name: &str,
    model: &Arc<Model>,
    source: &dyn Source,
    script: &Script,
) -> Result<WholeCheck, ExecutorError> {
    let config = &model.config;
    let capacity = script.capacity(config);
    let mut cuda = CudaExecutor::new(model.clone(), capacity)?;
    let weights =
        Weights::from_source(config, source, Dtype::Bf16).map_err(|error| ExecutorError(error.to_string()))?;
    let mut cpu = cpu::Model::new(config.clone(), Arc::new(weights), &capacity)?;
    let mut histories = Histories::new(capacity);
    let what = format!("{name} beside the CPU engine");
    let mut check = WholeCheck { what, tokens: 0, ties: 0, wrong: 0, tie: 0.0, error: 0.0, bound: LOGITS };
    for batch in script.steps(capacity.vocab, true) {
        cuda.submit(0, batch.clone())?;
        let output = cuda.wait(0)?;
        let got = cuda.logits(draws(&batch))?;
        let Batch { ends, begins, tables, sequences, .. } = batch;
        histories.update(&ends, begins, &tables)?;
        let (inputs, tables) = (histories.inputs(&sequences)?, histories.tables(&sequences));
        let wanted = cpu.forward(&inputs, &sequences, &tables);
        let rows = wanted.chunks_exact(config.vocab).zip(got.chunks_exact(config.vocab));
        let samples = sequences.iter().filter(|sequence| sequence.samples);
        for ((sequence, (wanted, got)), (_, token)) in samples.zip(rows).zip(&output.tokens) {
            check.compare(wanted, got, *token);
            if let Some((pending, _, _)) = histories.draw(sequence) {
                // The GPU's goes on in both, so that one tie does not make all that follows differ.
                histories.take(pending, *token);
            }
        }
    }
    Ok(check)
}

impl WholeCheck {
    /// Takes in a row of the CPU's logits, of the GPU's, and the token that the GPU drew.
    pub(super) fn compare(&mut self, wanted: &[f32], got: &[f32], token: u32) {
        let square = |x: f64| x * x;
        let norm = wanted.iter().map(|x| square(f64::from(*x))).sum::<f64>().sqrt();
        let apart = wanted.iter().zip(got).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum::<f64>().sqrt();
        // What is no number stays.
        let error = apart / norm;
        self.error = if error <= self.error { self.error } else { error };
        self.tokens += 1;
        let most = wanted.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let drawn = wanted.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let distance = f64::from(most - drawn) / (norm / (wanted.len() as f64).sqrt());
        if distance > TIE || distance.is_nan() {
            self.wrong += 1;
        } else if distance > 0.0 {
            self.ties += 1;
            self.tie = self.tie.max(distance);
        }
    }
}

/// What a way to run the steps gave: tokens of all steps, and the bits of the last step's logits.
pub(super) struct Ran {
    tokens: Vec<Vec<(Seat, u32)>>,
    logits: Vec<u32>,
}

pub(super) fn run(mut executor: CudaExecutor, steps: &[Batch], depth: usize) -> Result<Ran, ExecutorError> {
    let mut tokens = Vec::new();
    for (at, batch) in steps.iter().enumerate() {
        executor.submit(0, batch.clone())?;
        if at + 1 >= depth {
            tokens.push(executor.wait(0)?.tokens);
        }
    }
    while tokens.len() < steps.len() {
        tokens.push(executor.wait(0)?.tokens);
    }
    let logits = executor.logits(steps.last().map_or(0, draws))?;
    Ok(Ran { tokens, logits: logits.into_iter().map(f32::to_bits).collect() })
}

/// Graphs beside single launches, and two steps out beside one: in these steps nothing may differ, not a bit.
///
/// # Errors
/// The GPU fails.
pub fn ways(name: &str, model: &Arc<Model>, script: &Script) -> Result<Vec<WholeCheck>, ExecutorError> {
    let capacity = script.capacity(&model.config);
    let steps = script.steps(capacity.vocab, false);
    let graphs = run(CudaExecutor::new(model.clone(), capacity)?, &steps, 1)?;
    let eager = run(CudaExecutor::eager(model.clone(), capacity)?, &steps, 1)?;
    let deep = run(CudaExecutor::new(model.clone(), capacity)?, &steps, 2)?;
    let what = |what: &str| format!("{name}, {what}");
    Ok(vec![
        graphs.beside(what("graphs beside single launches"), &eager),
        graphs.beside(what("two steps out beside one"), &deep),
    ])
}

impl Ran {
    /// Beside what another way gave, which may differ in nothing.
    pub(super) fn beside(&self, what: String, other: &Ran) -> WholeCheck {
        let pairs = self.tokens.iter().flatten().zip(other.tokens.iter().flatten());
        let bits = self.logits.iter().zip(&other.logits).filter(|(a, b)| a != b).count();
        WholeCheck {
            what,
            tokens: self.tokens.iter().map(|tokens| tokens.len() as u64).sum(),
            ties: 0,
            wrong: pairs.filter(|(a, b)| a != b).count() as u64,
            tie: 0.0,
            error: bits as f64,
            bound: 0.0,
        }
    }
}
