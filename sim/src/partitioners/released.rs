//! The controller that was released with semi-PD (branch `distserve_base`, `distserve/single_stage_engine.py`). It differs from the
//! paper's: fixed fits instead of a model fitted online, and shares between 80 and 100 only.

use serde::{Deserialize, Serialize};

use super::{ControllerSpec, FirstToken, PartitionPolicy, Partitioner, Seen, Shares, Window, raise};
use crate::check::Check;
use crate::time::Span;

/// No side gives away more than this leaves it.
const LEAST: u32 = 80;
/// The time per token counts as this much longer than it was.
const TPOT_MARGIN: f64 = 1.1;

/// Times at a share in times at all SMs, up to a factor: z = 100 / share.
fn tpot_at(share: u32) -> f64 {
    0.610 * z(share) + 0.415
}

fn prefill_at(share: u32) -> f64 {
    0.732 * z(share) + 0.319
}

fn wait_at(share: u32) -> f64 {
    1.405 * z(share) * z(share) - 3.159 * z(share) + 2.873
}

fn z(share: u32) -> f64 {
    100.0 / f64::from(share)
}

/// Settings of the released controller.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleasedSpec(pub ControllerSpec);

impl PartitionPolicy for ReleasedSpec {
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
        Some(Box::new(Released::new(self.0.clone())))
    }
}

#[derive(Debug)]
struct Released {
    spec: ControllerSpec,
    window: Window,
}

impl Released {
    fn new(spec: ControllerSpec) -> Self {
        Released { spec, window: Window::default() }
    }

    fn decide(&self, seen: Seen, shares: Shares) -> Shares {
        let Seen { first, tpot, .. } = seen;
        let Shares { prefill, decode } = shares;
        let ttft_max = self.spec.ttft.0.0 as f64;
        let tpot_max = self.spec.tpot.0.0 as f64;
        let (wait, latency) = (first.wait.0 as f64, (first.ttft.0 - first.wait.0) as f64);
        let ttft_meets = |share: u32| {
            wait * wait_at(share) / wait_at(prefill) + latency * prefill_at(share) / prefill_at(prefill) <= ttft_max
        };
        let tpot_meets = |share: u32| TPOT_MARGIN * tpot.0 as f64 * tpot_at(share) / tpot_at(decode) <= tpot_max;
        match (ttft_meets(prefill), tpot_meets(decode)) {
            (false, false) if prefill < 100 && decode < 100 => Shares { prefill: 100, decode: 100 },
            (true, true) | (false, false) => shares,
            (false, true) if prefill < 100 => Shares { prefill: raise(prefill, &self.spec, ttft_meets), decode },
            (false, true) => Shares { prefill, decode: self.lower(decode, tpot_meets) },
            (true, false) if decode < 100 => Shares { prefill, decode: raise(decode, &self.spec, tpot_meets) },
            (true, false) => Shares { prefill: self.lower(prefill, ttft_meets), decode },
        }
    }

    /// Lowers one side, as long as its own promise is kept.
    fn lower(&self, from: u32, meets: impl Fn(u32) -> bool) -> u32 {
        let mut share = from;
        for _ in 0..self.spec.max_steps {
            let next = share.saturating_sub(self.spec.step);
            if next < LEAST || !meets(next) {
                break;
            }
            share = next;
        }
        share
    }
}

impl Partitioner for Released {
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
