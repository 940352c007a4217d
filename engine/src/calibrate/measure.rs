//! Runs single steps of given shape.

use std::time::{Duration, Instant};

use overbook_sim::calibrate::steps::StepSample;

use super::plan::Shape;
use crate::executor::{Bans, Batch, Begin, Executor, ExecutorError, Sampling, Seat, Sequence, TableChange};
use overbook_sim::counter::mix;

/// Fewer repeats have a mean of their own, which makes them look alike.
const OFTEN: usize = 5;

/// An executor on the bench.
pub struct Bench {
    executor: Box<dyn Executor>,
    lane: usize,
    /// Frames in an order that no kernel can profit from.
    frames: Vec<u32>,
    /// Sequences that the executor knows.
    known: Vec<Seat>,
    seed: u64,
    /// Single steps ÷ the mean of their shape, of shapes that were repeated often.
    pub(super) ratios: Vec<f64>,
}

/// Steps of one shape, one right after the other: the next is submitted before the one before is waited for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Streamed {
    /// How many.
    pub steps: u32,
    /// Mean time from the end of one to the end of the next, as the host sees it [µs].
    pub host_us: f64,
    /// Their mean time on the device [µs].
    pub device_us: f64,
}

impl Bench {
    /// Puts an executor on the bench. Contexts are given, not grown.
    ///
    /// # Errors
    /// The executor failed.
    pub fn new(mut executor: Box<dyn Executor>, seed: u64) -> Result<Self, ExecutorError> {
        executor.give_contexts()?;
        let mut frames: Vec<u32> = (0..executor.capacity().blocks).collect();
        frames.sort_by_key(|&frame| mix(seed, u64::from(frame)));
        Ok(Bench { executor, lane: 0, frames, known: Vec::new(), seed, ratios: Vec::new() })
    }

    /// Steps go to another lane from now on.
    pub fn use_lane(&mut self, lane: usize) {
        self.lane = lane;
    }

    /// Measures a shape for about `time`, `repeats` times at least and at most, after one step to get used to it.
    ///
    /// # Errors
    /// The executor failed.
    pub fn measure(&mut self, shape: &Shape, time: Duration, repeats: (u32, u32)) -> Result<StepSample, ExecutorError> {
        let mut batch = self.batch(shape);
        self.once(batch.clone())?;
        (batch.ends, batch.begins, batch.tables) = (Vec::new(), Vec::new(), Vec::new());
        let until = Instant::now() + time;
        let mut times = Vec::new();
        while times.len() < repeats.0 as usize || (times.len() < repeats.1 as usize && Instant::now() < until) {
            times.push(self.once(batch.clone())?.as_secs_f64() * 1e6);
        }
        times.sort_by(f64::total_cmp);
        // Not the median: a run's latencies are sums of steps, those that were held up included.
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        if times.len() >= OFTEN {
            self.ratios.extend(times.iter().map(|time| time / mean));
        }
        Ok(StepSample {
            kind: shape.kind,
            decode_seqs: shape.decode_past.len() as u32,
            decode_context: shape.decode_past.iter().map(|&past| u64::from(past) + 1).sum(),
            prefill: shape.prefill.clone(),
            prefill_ends: shape.prefill_ends,
            device_us: mean,
            // Of the middle half: one step in fifty that was put off is no spread of the others.
            spread: (times[times.len() * 3 / 4] - times[times.len() / 4]) / mean,
            repeats: times.len() as u32,
        })
    }

    /// Runs steps of a shape for about `time`, `least` of them at least, with always one more out than is waited for.
    ///
    /// # Errors
    /// The executor failed.
    pub fn stream(&mut self, shape: &Shape, time: Duration, least: u32) -> Result<Streamed, ExecutorError> {
        let mut batch = self.batch(shape);
        self.once(batch.clone())?;
        (batch.ends, batch.begins, batch.tables) = (Vec::new(), Vec::new(), Vec::new());
        self.executor.submit(self.lane, batch.clone())?;
        self.executor.submit(self.lane, batch.clone())?;
        self.executor.wait(self.lane)?;
        let began = Instant::now();
        let (mut steps, mut device) = (0, Duration::ZERO);
        while steps < least || began.elapsed() < time {
            self.executor.submit(self.lane, batch.clone())?;
            let output = self.executor.wait(self.lane)?;
            device += output.end - output.start;
            steps += 1;
        }
        let host = began.elapsed();
        self.executor.wait(self.lane)?;
        let mean = |all: Duration| all.as_secs_f64() * 1e6 / f64::from(steps.max(1));
        Ok(Streamed { steps, host_us: mean(host), device_us: mean(device) })
    }

    fn once(&mut self, batch: Batch) -> Result<Duration, ExecutorError> {
        self.executor.submit(self.lane, batch)?;
        let output = self.executor.wait(self.lane)?;
        Ok(output.end - output.start)
    }

    /// A step of that shape, with sequences of its own.
    fn batch(&mut self, shape: &Shape) -> Batch {
        let capacity = self.executor.capacity();
        let mut batch = Batch { ends: std::mem::take(&mut self.known), ..Batch::default() };
        let prefill =
            shape.prefill.iter().enumerate().map(|(i, part)| (part.past, part.tokens, (i as u32) < shape.prefill_ends));
        let decode = shape.decode_past.iter().map(|&past| (past, 1, true));
        let mut taken = 0;
        for (seat, (past, tokens, samples)) in prefill.chain(decode).enumerate() {
            let seat = seat as Seat;
            let end = past + tokens;
            let token = |position: u32| {
                (mix(mix(self.seed, u64::from(seat)), u64::from(position)) % u64::from(capacity.vocab)) as u32
            };
            let (prompt, bans) = ((0..end).map(token).collect(), Bans::default());
            batch.begins.push(Begin { seat, prompt, sampling: Sampling::GREEDY, bans });
            let blocks = self.frames[taken..][..end.div_ceil(capacity.block_tokens) as usize].to_vec();
            taken += blocks.len();
            batch.tables.push(TableChange { seat, from: 0, blocks });
            batch.sequences.push(Sequence { seat, past, tokens, samples });
            self.known.push(seat);
        }
        batch
    }
}
