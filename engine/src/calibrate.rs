//! Measures whole steps on an executor, to tell the simulator what they cost.
//!
//! A plan of shapes (decode batches × contexts on both sides of every power of two; prompts × what is there already;
//! both together; skewed contexts) is measured in random order. Anchors, a few shapes that come again and again, tell
//! drift from noise. KV need not be computed to be attended to: contexts are given, not grown.

mod measure;
mod plan;

use std::time::Duration;

use overbook_sim::arrival::{Arrival, Workload, WorkloadError};
use overbook_sim::calibrate::AnchorTime;
use overbook_sim::calibrate::steps::{StepSample, fit_host};
use overbook_sim::cluster::{Clients, ClusterSpec};
use overbook_sim::cost::HostCost;
use overbook_sim::policy::{SchedulerSpec, VllmSpec};
use overbook_sim::replica::Limits;
use overbook_sim::time::{Span, Time};

use crate::executor::{Executor, ExecutorError};
use crate::run::{Pressure, PressureGauge, RunError, run};
use measure::Bench;

pub use plan::{Shape, ShapePlan};

/// A shape that was measured again and again.
#[derive(Clone, PartialEq, Debug)]
pub struct Anchor {
    /// What it is.
    pub name: String,
    /// Its medians in order of time [µs].
    pub medians_us: Vec<f64>,
}

impl Anchor {
    /// Its median over all, as a profile keeps it.
    pub fn time(&self) -> AnchorTime {
        let mut sorted = self.medians_us.clone();
        sorted.sort_by(f64::total_cmp);
        AnchorTime { name: self.name.clone(), us: sorted.get(sorted.len() / 2).copied().unwrap_or(0.0) }
    }

    /// How far its medians lie apart, as a share of their median.
    pub fn drift(&self) -> f64 {
        let mut sorted = self.medians_us.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.as_slice() {
            [least, .., most] => (most - least) / sorted[sorted.len() / 2],
            [] | [_] => 0.0,
        }
    }
}

/// What was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Calibration {
    /// The steps, in the order in which they were measured.
    pub samples: Vec<StepSample>,
    /// What came again and again.
    pub anchors: Vec<Anchor>,
    /// Host time per step, around steps that do not overlap.
    pub host: HostCost,
    /// What others took of the CPU meanwhile.
    pub pressure: Option<Pressure>,
}

impl Calibration {
    /// Median over the samples of the spread of repeats: less than that cannot be told apart.
    pub fn noise(&self) -> f64 {
        let mut spreads: Vec<f64> = self.samples.iter().map(|sample| sample.spread).collect();
        spreads.sort_by(f64::total_cmp);
        spreads.get(spreads.len() / 2).copied().unwrap_or(0.0)
    }
}

/// Why a calibration stopped.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The executor failed.
    #[error("the executor failed: {0}")]
    Executor(#[from] ExecutorError),
    /// The run that host times are taken from failed.
    #[error(transparent)]
    Run(#[from] RunError),
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

/// Measures the anchors of a plan alone: a second's work that tells how fast the machine is at the moment.
///
/// # Errors
/// The executor failed.
pub fn anchors(plan: &ShapePlan, executor: Box<dyn Executor>) -> Result<Vec<AnchorTime>, ExecutorError> {
    let mut bench = Bench::new(executor, plan.seed);
    let measure = |shape: &Shape| {
        let sample = bench.measure(shape, plan.repeat_for, plan.repeats)?;
        Ok(AnchorTime { name: shape.name(), us: sample.device_us })
    };
    plan.anchors().iter().map(measure).collect()
}

/// Measures a plan. `build` gives an executor, twice: for the steps, and for the run that host times come from. `watch` is
/// called after every shape; it returns `false` to stop.
///
/// # Errors
/// The executor failed, or it was interrupted.
pub fn calibrate(
    plan: &ShapePlan,
    build: &mut dyn FnMut() -> Result<Box<dyn Executor>, ExecutorError>,
    watch: &mut dyn FnMut(Measuring) -> bool,
) -> Result<Calibration, CalibrateError> {
    let mut gauge = PressureGauge::start();
    let order = plan.order();
    let mut bench = Bench::new(build()?, plan.seed);
    let mut samples = Vec::new();
    let mut anchors: Vec<Anchor> = Vec::new();
    for (done, shape) in order.iter().enumerate() {
        let sample = bench.measure(shape, plan.repeat_for, plan.repeats)?;
        if shape.kind == "anchor" {
            let name = shape.name();
            match anchors.iter_mut().find(|anchor| anchor.name == name) {
                Some(anchor) => anchor.medians_us.push(sample.device_us),
                None => anchors.push(Anchor { name, medians_us: vec![sample.device_us] }),
            }
        } else {
            samples.push(sample);
        }
        gauge.look();
        if !watch(Measuring { done: done + 1, of: order.len() }) {
            return Err(CalibrateError::Interrupted);
        }
    }
    drop(bench);
    let host = host_times(build()?, plan)?;
    Ok(Calibration { samples, anchors, host, pressure: gauge.read() })
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
    let limits = Limits {
        blocks: u64::from(capacity.blocks),
        block_tokens: capacity.block_tokens,
        max_model_len: capacity.max_model_len,
        prefix_caching: true,
        depth: 1,
        order: scheduler.queue_order(),
        lanes: scheduler.lanes(),
        ..ClusterSpec::default().limits
    };
    let clients = Some(Clients { count: seqs, think_time: Span(1) });
    let spec = ClusterSpec { limits, scheduler, clients, seed: plan.seed, ..ClusterSpec::default() };
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
            repeats: (3, 50),
            host_for: Duration::from_secs(20),
        }
    }
}
