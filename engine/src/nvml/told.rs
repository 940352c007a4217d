//! An executor whose steps a stand-in for a meter is told of, as the emulated GPU's draw nothing that means anything.

use std::collections::VecDeque;
use std::sync::Arc;

use overbook_sim::cost::{PrefillPart, StepShape};
use overbook_sim::power::{StepWork, Work};

use super::StandIn;
use crate::executor::{Batch, Capacity, Copied, Executor, ExecutorError, Output, TierCopy};

/// Tells of each step when it has ended what it did.
pub struct Told {
    executor: Box<dyn Executor>,
    instead: Arc<StandIn>,
    steps: StepWork,
    /// Work of the steps that are out, lane by lane.
    out: Vec<VecDeque<Work>>,
}

impl Told {
    /// An executor that runs the steps, and the work of steps of its model.
    pub fn new(executor: Box<dyn Executor>, instead: Arc<StandIn>, steps: StepWork) -> Told {
        let lanes = executor.capacity().lanes.count();
        Told { executor, instead, steps, out: vec![VecDeque::new(); lanes] }
    }
}

/// The work of a batch: its sequences of one position behind others decode.
fn work(steps: &StepWork, batch: &Batch) -> Work {
    let (mut decode_seqs, mut decode_context, mut prefill_ends) = (0, 0, 0);
    let mut prefill = Vec::new();
    for sequence in &batch.sequences {
        if sequence.tokens == 1 && sequence.past > 0 && sequence.samples {
            decode_seqs += 1;
            decode_context += u64::from(sequence.past) + 1;
        } else {
            prefill.push(PrefillPart { tokens: sequence.tokens, past: sequence.past });
            prefill_ends += u32::from(sequence.samples);
        }
    }
    steps.of(&StepShape { decode_seqs, decode_context, prefill: &prefill, prefill_ends })
}

impl Executor for Told {
    fn capacity(&self) -> Capacity {
        self.executor.capacity()
    }

    fn submit(&mut self, lane: usize, batch: Batch) -> Result<(), ExecutorError> {
        let work = work(&self.steps, &batch);
        self.instead.begin();
        self.executor.submit(lane, batch)?;
        if let Some(out) = self.out.get_mut(lane) {
            out.push_back(work);
        }
        Ok(())
    }

    fn wait(&mut self, lane: usize) -> Result<Output, ExecutorError> {
        let output = self.executor.wait(lane)?;
        let work = self.out.get_mut(lane).and_then(VecDeque::pop_front).unwrap_or_default();
        self.instead.end(|seconds| self.instead.law().activity(&self.steps, work, seconds));
        Ok(output)
    }

    fn copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        self.executor.copy(copies)
    }

    fn copied(&mut self) -> Result<Copied, ExecutorError> {
        self.executor.copied()
    }

    fn give_contexts(&mut self) -> Result<(), ExecutorError> {
        self.executor.give_contexts()
    }

    fn ready(&mut self, lane: usize) -> Result<bool, ExecutorError> {
        self.executor.ready(lane)
    }
}
