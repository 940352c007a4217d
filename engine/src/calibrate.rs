//! Measures whole steps on an executor: the step costs of the simulator.
//!
//! A plan of shapes (decode batches × contexts on both sides of every power of two; prompts × what is there already;
//! both together; skewed contexts) is measured in random order. Anchors, a few shapes that come again and again, tell
//! drift from noise. KV need not be computed to be attended to: contexts are given, not grown.

mod measure;
mod plan;
pub(crate) mod profile;

use std::time::Duration;

use overbook_sim::calibrate::AnchorTime;
use overbook_sim::calibrate::steps::{StepSample, fit_host};
use overbook_sim::cost::HostCost;
use overbook_sim::fleet::{Clients, ClusterSpec, Traffic};
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};

use crate::executor::{BuildError, Executor, ExecutorError};
use crate::run::{EngineError, Pressure, PressureGauge, run};
pub use measure::{Bench, Streamed};
pub use plan::{PROMPTS, Shape, ShapePlan};
pub use profile::Described;

/// A shape that is repeated over the whole measurement.
#[derive(Clone, PartialEq, Debug)]
pub struct Anchor {
    /// Its name, in words.
    pub name: String,
    /// Its times, each the mean of some repeats, in order [µs].
    pub times_us: Vec<f64>,
}

impl Anchor {
    /// Its mean over all, as a profile keeps it.
    pub fn time(&self) -> AnchorTime {
        let mean = self.times_us.iter().sum::<f64>() / self.times_us.len().max(1) as f64;
        AnchorTime { name: self.name.clone(), us: mean }
    }

    /// How far its times lie apart, as a share of their mean.
    pub fn drift(&self) -> f64 {
        let (least, most) = self.times_us.iter().fold((f64::MAX, f64::MIN), |(l, m), v| (v.min(l), v.max(m)));
        if most > least { (most - least) / self.time().us } else { 0.0 }
    }
}

/// What was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Calibration {
    /// The steps, in the order in which they were measured.
    pub samples: Vec<StepSample>,
    /// The shapes that were repeated in every round.
    pub anchors: Vec<Anchor>,
    /// Single steps ÷ the mean of their shape, of shapes that were repeated often.
    pub ratios: Vec<f64>,
    /// Host time per step, around steps that do not overlap.
    pub host: HostCost,
    /// What others took of the CPU meanwhile.
    pub pressure: Option<Pressure>,
}

/// Why a calibration stopped.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// There is no executor.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The executor failed.
    #[error("the executor failed: {0}")]
    Executor(#[from] ExecutorError),
    /// The run that host times are taken from failed.
    #[error(transparent)]
    Run(#[from] EngineError),
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// How far a calibration is.
#[derive(Clone, Copy, Debug)]
pub struct Measuring {
    /// Shapes measured.
    pub done: usize,
    /// Shapes of the plan, anchors included.
    pub of: usize,
}

/// Rounds of anchors when they are measured alone.
const ROUNDS: usize = 3;

/// Measures the anchors of a plan alone: a few seconds' work that shows how fast the machine is at the moment. The first round is
/// for the processor, which runs faster for a moment after it has rested: a plan is measured without rests.
///
/// # Errors
/// The executor failed.
pub fn anchors(plan: &ShapePlan, executor: Box<dyn Executor>) -> Result<Vec<AnchorTime>, ExecutorError> {
    let mut bench = Bench::new(executor, plan.seed)?;
    let shapes = plan.anchors();
    let mut anchors: Vec<Anchor> =
        shapes.iter().map(|shape| Anchor { name: shape.name(), times_us: Vec::new() }).collect();
    for round in 0..ROUNDS {
        for (shape, anchor) in shapes.iter().zip(&mut anchors) {
            let sample = bench.measure(shape, plan.repeat_for, plan.repeats)?;
            if round > 0 {
                anchor.times_us.push(sample.device_us);
            }
        }
    }
    Ok(anchors.iter().map(Anchor::time).collect())
}

/// Measures a plan. `build` gives an executor, twice: for the steps, and for the run that host times come from. `watch` is
/// called after every shape; it returns `false` to stop.
///
/// # Errors
/// There is no executor, it failed, or it was interrupted.
pub fn calibrate(
    plan: &ShapePlan,
    build: &mut dyn FnMut() -> Result<Box<dyn Executor>, BuildError>,
    watch: &mut dyn FnMut(Measuring) -> bool,
) -> Result<Calibration, CalibrateError> {
    let mut gauge = PressureGauge::start();
    let order = plan.order();
    let mut bench = Bench::new(build()?, plan.seed)?;
    // With their places in the order, which show drift.
    let mut samples: Vec<(usize, StepSample)> = Vec::new();
    let mut anchors: Vec<Anchor> = Vec::new();
    let mut rounds: Vec<usize> = Vec::new();
    for (done, shape) in order.iter().enumerate() {
        let sample = bench.measure(shape, plan.repeat_for, plan.repeats)?;
        if shape.kind == "anchor" {
            let name = shape.name();
            if anchors.first().is_none_or(|first| first.name == name) {
                rounds.push(done);
            }
            match anchors.iter_mut().find(|anchor| anchor.name == name) {
                Some(anchor) => anchor.times_us.push(sample.device_us),
                None => anchors.push(Anchor { name, times_us: vec![sample.device_us] }),
            }
        } else {
            samples.push((done, sample));
        }
        gauge.look();
        if !watch(Measuring { done: done + 1, of: order.len() }) {
            return Err(CalibrateError::Interrupted);
        }
    }
    let ratios = std::mem::take(&mut bench.ratios);
    drop(bench);
    let samples = without_drift(samples, &rounds, &slowness(&anchors));
    let host = host_times(build()?, plan)?;
    Ok(Calibration { samples, anchors, ratios, host, pressure: gauge.read() })
}

/// How much more time than in the mean the machine took in each round of anchors: the geometric mean over the anchors, of which
/// the middle one of three rounds counts, as a spell that is over before the next round says nothing of the steps between.
fn slowness(anchors: &[Anchor]) -> Vec<f64> {
    let rounds = anchors.iter().map(|anchor| anchor.times_us.len()).min().unwrap_or(0);
    let of = |round: usize| {
        let logs: f64 = anchors.iter().map(|anchor| (anchor.times_us[round] / anchor.time().us).ln()).sum();
        (logs / anchors.len() as f64).exp()
    };
    let rough: Vec<f64> = (0..rounds).map(of).collect();
    let middle = |at: usize| {
        let mut near = rough[at.saturating_sub(1)..(at + 2).min(rounds)].to_vec();
        near.sort_by(f64::total_cmp);
        // At either end there are two.
        if near.len() == 2 { rough[at] } else { near[near.len() / 2] }
    };
    let smooth: Vec<f64> = (0..rounds).map(middle).collect();
    let mean = smooth.iter().sum::<f64>() / rounds.max(1) as f64;
    smooth.iter().map(|slowness| slowness / mean).collect()
}

/// What the steps would have taken on the machine as it was in the mean: its slowness is linear between two rounds of anchors.
fn without_drift(samples: Vec<(usize, StepSample)>, rounds: &[usize], slowness: &[f64]) -> Vec<StepSample> {
    let at = |place: usize| {
        let after = rounds.partition_point(|&round| round <= place);
        match (after.checked_sub(1).and_then(|k| slowness.get(k)), slowness.get(after)) {
            (Some(before), Some(behind)) => {
                let (from, to) = (rounds[after - 1], rounds[after]);
                before + (behind - before) * (place - from) as f64 / (to - from) as f64
            }
            (Some(end), None) | (None, Some(end)) => *end,
            (None, None) => 1.0,
        }
    };
    let bare = samples.into_iter().map(|(place, mut sample)| {
        sample.device_us /= at(place);
        sample
    });
    bare.collect()
}

/// A few clients, one after the other, with short requests.
struct Chatter {
    left: u32,
    longest: u32,
}

impl Workload for Chatter {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        self.left = self.left.saturating_sub(1);
        let prompt = 8 + self.left * 5 % 24;
        let output = (16 + self.left * 7 % 32).min(self.longest.saturating_sub(prompt)).max(1);
        Ok((self.left > 0).then(|| Arrival::new(Time::ZERO, prompt, output)))
    }

    fn classes(&self) -> &[String] {
        &[]
    }
}

/// What the driver takes around steps that do not overlap.
fn host_times(executor: Box<dyn Executor>, plan: &ShapePlan) -> Result<HostCost, CalibrateError> {
    let capacity = executor.capacity();
    let scheduler = SchedulerSpec::Vllm(VllmSpec { async_scheduling: false, ..VllmSpec::default() });
    let mut pairs = Vec::new();
    let seqs = plan.max_seqs.min(capacity.blocks / capacity.max_model_len.div_ceil(capacity.block_tokens)).max(1);
    let limits = scheduler.needs().limits(u64::from(capacity.blocks), capacity.block_tokens, capacity.max_model_len);
    let clients = Some(Clients { count: seqs, think_time: Span(1) });
    let traffic = Traffic { clients, ..Traffic::default() };
    let spec = ClusterSpec { limits, scheduler, traffic, seed: plan.seed, ..ClusterSpec::default() };
    let until = std::time::Instant::now() + plan.host_for;
    let mut chatter = Chatter { left: 4 * seqs + 40, longest: capacity.max_model_len };
    let measured = run(&spec, &mut chatter, executor, &mut |_| std::time::Instant::now() < until)?;
    for step in &measured.steps {
        let host = (step.row.end - step.row.start).0.saturating_sub(step.device_span().0);
        pairs.push((u64::from(step.row.decode_seqs + step.row.prefill_seqs), host as f64 / 1e3));
    }
    // The typical step by batch size: a thread that was put off for a moment is no property of the host.
    Ok(fit_host(&medians(&mut pairs)))
}

fn medians(pairs: &mut [(u64, f64)]) -> Vec<(u64, f64)> {
    pairs.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let groups = pairs.chunk_by(|a, b| a.0 == b.0);
    groups.filter(|group| group.len() >= 3).map(|group| group[group.len() / 2]).collect()
}

impl Default for ShapePlan {
    /// 64 sequences of up to 2,048 tokens, 512 tokens a step; a third of a second a shape.
    fn default() -> Self {
        ShapePlan {
            max_seqs: 64,
            max_tokens: 512,
            max_model_len: 2048,
            blocks: 4096,
            block_tokens: 16,
            seed: 0,
            repeat_for: Duration::from_millis(300),
            repeats: (5, 50),
            host_for: Duration::from_secs(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(device_us: f64) -> StepSample {
        StepSample {
            kind: "decode",
            decode_seqs: 1,
            decode_context: 16,
            prefill: Vec::new(),
            prefill_ends: 0,
            device_us,
            spread: 0.0,
            repeats: 1,
        }
    }

    #[test]
    fn a_machine_that_gets_slower_is_told_from_longer_steps() {
        let anchor = |name: &str, times_us: &[f64]| Anchor { name: name.to_owned(), times_us: times_us.to_vec() };
        // One spell at the third round, and slower for good from the fifth on.
        let speeds = [1.0, 1.0, 3.0, 1.0, 1.5, 1.5];
        let anchors = [anchor("a", &speeds.map(|speed| 100.0 * speed)), anchor("b", &speeds.map(|speed| 50.0 * speed))];
        let slowness = slowness(&anchors);
        for (got, want) in slowness.iter().zip([1.0, 1.0, 1.0, 1.5, 1.5, 1.5]) {
            assert!((got / slowness[0] - want).abs() < 1e-12, "{slowness:?}");
        }
        assert!((slowness.iter().sum::<f64>() / 6.0 - 1.0).abs() < 1e-12, "the mean is the machine as it was");
        let places = [(1, 10.0), (12, 10.0), (15, 11.0), (25, 12.0)];
        let samples = places.map(|(place, us)| (place, sample(us))).into();
        let bare: Vec<f64> =
            without_drift(samples, &[0, 10, 20], &[1.0, 1.0, 1.2]).iter().map(|s| s.device_us).collect();
        for (got, want) in bare.iter().zip([10.0, 10.0 / 1.04, 10.0, 10.0]) {
            assert!((got - want).abs() < 1e-9, "{bare:?}");
        }
        let alone = without_drift(vec![(3, sample(7.0))], &[], &[]);
        assert!((alone[0].device_us - 7.0).abs() < 1e-12, "no anchors, no drift");
    }
}
