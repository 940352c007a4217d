//! The paper's controller (semi-PD §4.4, Algorithm 1): service times inversely proportional to the share, an M/M/1 queue before
//! the prompts, constants fitted to what was seen.

use serde::{Deserialize, Serialize};

use super::{ControllerSpec, FirstToken, PartitionPolicy, Partitioner, Seen, Shares, Window, raise};
use crate::check::Check;
use crate::time::Span;

/// Shapes of the two models before anything was fitted: TTFT = a / (x - λ) + b and TPOT = a / y + b over shares of the SMs
/// (Figure 10: Llama-3-8B, ShareGPT, normalised), as (a, b).
const TTFT_SHAPE: (f64, f64) = (0.6809, 0.022);
const TPOT_SHAPE: (f64, f64) = (0.6284, 0.3818);
/// The nearest that a share comes to the load: beyond, the queue has no end.
const STABLE: f64 = 0.01;

/// time = a · feature + b, by least squares over the latest observation at every feature.
#[derive(Debug)]
struct Line {
    shape: (f64, f64),
    seen: Vec<(f64, f64)>,
}

impl Line {
    fn new(shape: (f64, f64)) -> Line {
        Line { shape, seen: Vec::new() }
    }

    fn observe(&mut self, feature: f64, time: f64) {
        self.seen.retain(|&(old, _)| (old - feature).abs() > 1e-9);
        self.seen.push((feature, time));
    }

    /// Predicted time at a feature: by the fit, once two points say how it falls; before that by the paper's shape, scaled to
    /// what was seen last.
    fn at(&self, feature: f64) -> f64 {
        let n = self.seen.len() as f64;
        let (x, y) = self.seen.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / n, sum.1 + point.1 / n));
        let spread: f64 = self.seen.iter().map(|point| (point.0 - x).powi(2)).sum();
        let slope = self.seen.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
        if self.seen.len() > 1 && slope > 0.0 {
            return y + slope * (feature - x);
        }
        let form = |feature: f64| self.shape.0 * feature + self.shape.1;
        self.seen.last().map_or(0.0, |&(at, time)| time * form(feature) / form(at))
    }
}

/// Settings of the paper's controller.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PaperSpec(pub ControllerSpec);

impl PartitionPolicy for PaperSpec {
    fn start(&self) -> Shares {
        self.0.start
    }

    fn preparation(&self) -> Span {
        self.0.preparation.0
    }

    fn check(&self, check: &mut Check<'_>) {
        self.0.check(check);
    }

    fn build(&self) -> Option<Box<dyn Partitioner>> {
        Some(Box::new(Paper::new(self.0.clone())))
    }
}

#[derive(Debug)]
struct Paper {
    spec: ControllerSpec,
    window: Window,
    ttft: Line,
    tpot: Line,
}

/// A side's part of the SMs, 0 to 1.
fn part(own: u32, other: u32) -> f64 {
    f64::from(own) / f64::from((own + other).max(100))
}

impl Paper {
    fn new(spec: ControllerSpec) -> Self {
        Paper { spec, window: Window::default(), ttft: Line::new(TTFT_SHAPE), tpot: Line::new(TPOT_SHAPE) }
    }

    fn decide(&mut self, seen: Seen, shares: Shares) -> Shares {
        let Shares { prefill, decode } = shares;
        let (ttft, tpot) = (seen.first.ttft, seen.tpot);
        let (x, y) = (part(prefill, decode), part(decode, prefill));
        // Load λ of the prompts as a share of the SMs.
        let load = x * seen.utilization;
        let queue = |x: f64| 1.0 / (x - load).max(STABLE);
        self.ttft.observe(queue(x), ttft.0 as f64);
        self.tpot.observe(1.0 / y, tpot.0 as f64);
        let ttft_meets = |own: u32, other: u32| self.ttft.at(queue(part(own, other))) <= self.spec.ttft.0.0 as f64;
        let tpot_meets = |own: u32, other: u32| self.tpot.at(1.0 / part(own, other)) <= self.spec.tpot.0.0 as f64;
        match (ttft <= self.spec.ttft.0, tpot <= self.spec.tpot.0) {
            (true, true) | (false, false) => shares,
            (false, true) => {
                let (prefill, decode) = self.shift(prefill, decode, ttft_meets);
                Shares { prefill, decode }
            }
            (true, false) => {
                let (decode, prefill) = self.shift(decode, prefill, tpot_meets);
                Shares { prefill, decode }
            }
        }
    }

    /// Raises `own`; where it has all, lowers `other` instead.
    fn shift(&self, own: u32, other: u32, meets: impl Fn(u32, u32) -> bool) -> (u32, u32) {
        if own < 100 {
            return (raise(own, &self.spec, |share| meets(share, other)), other);
        }
        let mut other = other;
        for _ in 0..self.spec.max_steps {
            if other <= self.spec.step || meets(own, other) {
                break;
            }
            other -= self.spec.step;
        }
        (own, other)
    }
}

impl Partitioner for Paper {
    fn first_token(&mut self, seen: FirstToken) {
        self.window.first_tokens.push(seen);
    }

    fn finished(&mut self, tpot: Span, shares: Shares) -> Option<Shares> {
        self.window.finished(tpot, &self.spec).map(|seen| self.decide(seen, shares))
    }

    fn forget(&mut self) {
        self.window.clear();
    }
}
