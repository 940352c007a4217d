//! Partitions: which shares of a GPU's SMs two lanes have, what a share costs, and what changes it (semi-PD, arXiv 2504.19867).

mod paper;
mod released;

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::cost::UNIT;
use crate::time::{Span, Time};
use crate::units::Duration;

pub use paper::PaperSpec;
pub use released::ReleasedSpec;

/// Shares of the SMs that the two lanes may use [percent]. Together they may be more than 100: then the lanes compete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Of the lane for prompts, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub prefill: u32,
    /// Of the lane for decodes, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub decode: u32,
}

impl Default for Shares {
    /// Those of the SGLang version (`SEMI_PD_PREFILL_SM_PERCENTILE`, `SEMI_PD_DECODE_SM_PERCENTILE`).
    fn default() -> Self {
        Shares { prefill: 80, decode: 100 }
    }
}

impl Shares {
    fn check(self, check: &mut Check<'_>) {
        check.range("prefill", self.prefill, 1, 100);
        check.range("decode", self.decode, 1, 100);
    }

    /// What a lane gets [percent]: its share; or its part of all, where both lanes are busy and have more than there is.
    fn effective(self, own: u32, both_busy: bool) -> f64 {
        let sum = self.prefill + self.decode;
        if both_busy && sum > 100 { 100.0 * f64::from(own) / f64::from(sum) } else { f64::from(own) }
    }
}

/// The part of a step's time on the device that is inversely proportional to its share of the SMs; the rest does not change.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShareScaling {
    /// Of prompts, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub prefill: f64,
    /// Of decodes, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub decode: f64,
}

impl Default for ShareScaling {
    /// semi-PD's own fits for Llama-3-8B on an A100 (`distserve/single_stage_engine.py`): prompts 0.732 z + 0.319, tokens
    /// 0.610 z + 0.415, with z = 100 / share.
    fn default() -> Self {
        ShareScaling { prefill: 0.732 / (0.732 + 0.319), decode: 0.610 / (0.610 + 0.415) }
    }
}

impl ShareScaling {
    /// The rules on its settings.
    pub(crate) fn check(self, check: &mut Check<'_>) {
        check.share("prefill", self.prefill);
        check.share("decode", self.decode);
    }
}

/// Time at a share, in times at all SMs.
fn slowdown(scaled: f64, share: f64) -> f64 {
    scaled * 100.0 / share + 1.0 - scaled
}

/// What sets the shares.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PartitionSpec {
    /// Constant shares.
    Static(Shares),
    /// The paper's Algorithm 1: a queueing model fitted to what was seen.
    Paper(#[schemars(with = "ControllerSpec")] PaperSpec),
    /// The released controller: fixed fits, shares from 80 to 100.
    Released(#[schemars(with = "ControllerSpec")] ReleasedSpec),
}

impl Default for PartitionSpec {
    fn default() -> Self {
        PartitionSpec::Static(Shares::default())
    }
}

/// Settings of a controller of shares.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerSpec {
    /// Promised time to first token.
    pub ttft: Duration,
    /// Promised time per output token.
    pub tpot: Duration,
    /// Share of the requests that should get them.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub percentile: f64,
    /// Shares at the start.
    pub start: Shares,
    /// Finished requests between two decisions.
    #[schemars(range(min = 1))]
    pub window: u32,
    /// Smallest change [percent of the SMs].
    #[schemars(range(min = 1, max = 100))]
    pub step: u32,
    /// Smallest changes made at once at most.
    #[schemars(range(min = 1))]
    pub max_steps: u32,
    /// Time to prepare the processes that take over; each lane switches at its first step boundary after that.
    pub preparation: Duration,
}

impl Default for ControllerSpec {
    fn default() -> Self {
        ControllerSpec {
            ttft: Duration(Span(500_000_000)),
            tpot: Duration(Span(100_000_000)),
            percentile: 0.9,
            start: Shares { prefill: 100, decode: 100 },
            window: 400,
            step: 2,
            max_steps: 3,
            preparation: Duration(Span(1_000_000_000)),
        }
    }
}

impl ControllerSpec {
    fn check(&self, check: &mut Check<'_>) {
        self.start.check(&mut check.below("start"));
        check.time("ttft", self.ttft);
        check.time("tpot", self.tpot);
        check.share_above_zero("percentile", self.percentile);
        check.positive("window", self.window);
        check.range("step", self.step, 1, 100);
        check.positive("max_steps", self.max_steps);
    }
}

/// What a controller learns when a request gets its first token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirstToken {
    /// From arrival to first token.
    pub ttft: Span,
    /// From arrival to the first step.
    pub wait: Span,
}

/// Sets the shares of two lanes by what it sees of their service.
pub trait Partitioner: std::fmt::Debug {
    /// A request got its first token.
    fn first_token(&mut self, seen: FirstToken);

    /// A request has finished, with this time per output token. Returns the shares that the lanes should have, if others.
    fn finished(&mut self, tpot: Span, shares: Shares) -> Option<Shares>;

    /// Forgets what it has seen: the shares have changed.
    fn forget(&mut self);
}

/// The settings of what sets the shares: they check themselves, and build it.
pub trait PartitionPolicy {
    /// The shares at the start.
    fn start(&self) -> Shares;

    /// Time to prepare a change.
    fn preparation(&self) -> Span;

    /// The rules on its settings.
    fn check(&self, check: &mut Check<'_>);

    /// The controller of one replica; `None` if the shares stay.
    fn build(&self) -> Option<Box<dyn Partitioner>>;
}

impl PartitionPolicy for Shares {
    fn start(&self) -> Shares {
        *self
    }

    fn preparation(&self) -> Span {
        Span::ZERO
    }

    fn check(&self, check: &mut Check<'_>) {
        Shares::check(*self, check);
    }

    fn build(&self) -> Option<Box<dyn Partitioner>> {
        None
    }
}

impl PartitionSpec {
    /// Its name in scenarios, and its settings.
    fn policy(&self) -> (&'static str, &dyn PartitionPolicy) {
        match self {
            PartitionSpec::Static(shares) => ("static", shares),
            PartitionSpec::Paper(settings) => ("paper", settings),
            PartitionSpec::Released(settings) => ("released", settings),
        }
    }

    /// Every partition, and what to call it: shares that do not compete, and controllers that act within the short runs of a test.
    pub fn every() -> Vec<(&'static str, PartitionSpec)> {
        let eager = ControllerSpec {
            ttft: Duration(Span(3_000_000)),
            tpot: Duration(Span(1_000_000)),
            window: 3,
            preparation: Duration(Span(20_000_000)),
            ..ControllerSpec::default()
        };
        let every = [
            PartitionSpec::Static(Shares { prefill: 60, decode: 40 }),
            PartitionSpec::Paper(PaperSpec(eager.clone())),
            PartitionSpec::Released(ReleasedSpec(eager)),
        ];
        every.map(|partition| (partition.policy().0, partition)).into()
    }

    /// The rules on its settings, below its name.
    pub fn check(&self, check: &mut Check<'_>) {
        let (name, policy) = self.policy();
        policy.check(&mut check.below(name));
    }
}

/// How a lane for prompts and a lane for decodes share the SMs of a replica: which shares they have, and what a share costs.
#[derive(Clone, PartialEq, Debug)]
pub struct SmShares {
    /// Which shares, and what changes them.
    pub partition: PartitionSpec,
    /// How much of a step's time grows as its share shrinks.
    pub scaling: ShareScaling,
}

impl SmShares {
    /// The sharing of one replica.
    pub fn build(&self) -> Sharing {
        let (_, policy) = self.partition.policy();
        Sharing::new(self.scaling, policy.start(), policy.preparation(), policy.build())
    }
}

/// What a controller has seen since it decided last.
#[derive(Debug, Default)]
struct Window {
    first_tokens: Vec<FirstToken>,
    tpots: Vec<Span>,
}

impl Window {
    fn clear(&mut self) {
        self.first_tokens.clear();
        self.tpots.clear();
    }

    /// A request has finished: with the last one of a window, what was seen in it. The next window begins.
    fn finished(&mut self, tpot: Span, spec: &ControllerSpec) -> Option<Seen> {
        self.tpots.push(tpot);
        if self.tpots.len() < spec.window as usize {
            return None;
        }
        self.first_tokens.sort_unstable_by_key(|seen| (seen.ttft, seen.wait));
        self.tpots.sort_unstable();
        let rank = |n: usize| ((spec.percentile * n as f64).ceil() as usize).clamp(1, n.max(1)) - 1;
        let first = self.first_tokens.get(rank(self.first_tokens.len())).copied();
        let tpot = self.tpots[rank(self.tpots.len())];
        let sum = |what: fn(&FirstToken) -> Span| self.first_tokens.iter().map(|f| what(f).0 as f64).sum::<f64>();
        let (wait, ttft) = (sum(|first| first.wait), sum(|first| first.ttft));
        let utilization = if ttft == 0.0 { 0.0 } else { wait / ttft };
        self.clear();
        first.map(|first| Seen { first, tpot, utilization })
    }
}

/// What was seen in a window.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The first token at the percentile of the time to it.
    first: FirstToken,
    /// Time per token at the percentile.
    tpot: Span,
    /// Utilisation ρ of the prompts' lane: in an M/M/1 queue the mean wait is ρ times the mean time to the end of service.
    utilization: f64,
}

/// Raises one side by small steps until `meets` says that the promise is kept there, or it has all.
fn raise(from: u32, spec: &ControllerSpec, meets: impl Fn(u32) -> bool) -> u32 {
    let mut share = from;
    for _ in 0..spec.max_steps {
        if share >= 100 {
            break;
        }
        share = (share + spec.step).min(100);
        if meets(share) {
            break;
        }
    }
    share
}

/// How two lanes share the SMs of their replica, from step to step.
#[derive(Debug)]
pub struct Sharing {
    scaling: ShareScaling,
    preparation: Span,
    controller: Option<Box<dyn Partitioner>>,
    /// Shares of the two lanes as they run.
    now: Shares,
    /// Shares to come, and when they are ready; each lane takes its own at its next boundary.
    next: Option<(Shares, Time)>,
}

impl Sharing {
    /// Lanes that begin with these shares. What `controller` asks for is ready after `preparation`; without one they keep them.
    pub fn new(
        scaling: ShareScaling,
        start: Shares,
        preparation: Span,
        controller: Option<Box<dyn Partitioner>>,
    ) -> Sharing {
        Sharing { scaling, preparation, controller, now: start, next: None }
    }

    /// Factor of a lane's time on the device (0: prompts, 1: decodes), in parts of [`UNIT`].
    pub(crate) fn factor(&self, lane: usize, both_busy: bool) -> u64 {
        let (own, scaled) =
            if lane == 0 { (self.now.prefill, self.scaling.prefill) } else { (self.now.decode, self.scaling.decode) };
        (slowdown(scaled, self.now.effective(own, both_busy)) * UNIT as f64).round() as u64
    }

    /// A lane is at a boundary: it takes its new share if that is ready.
    pub(crate) fn boundary(&mut self, lane: usize, now: Time) {
        let Some((next, at)) = self.next.filter(|&(_, at)| at <= now) else { return };
        if lane == 0 {
            self.now.prefill = next.prefill;
        } else {
            self.now.decode = next.decode;
        }
        self.next = (self.now != next).then_some((next, at));
        if self.next.is_none()
            && let Some(controller) = &mut self.controller
        {
            controller.forget();
        }
    }

    /// No statistics are gathered while a change is on its way.
    pub(crate) fn first_token(&mut self, seen: FirstToken) {
        if let (Some(controller), None) = (&mut self.controller, self.next) {
            controller.first_token(seen);
        }
    }

    /// Returns when new shares are ready, if the controller has just asked for some.
    pub(crate) fn finished(&mut self, tpot: Span, now: Time) -> Option<Time> {
        let controller = self.controller.as_mut().filter(|_| self.next.is_none())?;
        let shares = controller.finished(tpot, self.now).filter(|&shares| shares != self.now)?;
        let ready = now + self.preparation;
        self.next = Some((shares, ready));
        Some(ready)
    }
}

#[cfg(test)]
mod tests;
