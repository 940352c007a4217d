//! Predictions from the lengths of requests that have finished lately.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Draw, LengthModel, LengthPolicy, possible};
use crate::check::Check;
use crate::serving::request::Phase;
use crate::serving::step::RequestView;
use crate::streams::{Purpose, keyed};

/// Settings of the history, with the window of LightLLM's router.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HistorySpec {
    /// Finished requests that are remembered, 2 or more (LightLLM's `WINDOW_SIZE`).
    #[schemars(range(min = 2, max = 1_000_000))]
    pub window: u32,
    /// Length with which half of the window is filled at first [tokens].
    pub initial: u32,
}

impl Default for HistorySpec {
    fn default() -> Self {
        HistorySpec { window: 200, initial: 1024 }
    }
}

impl LengthPolicy for HistorySpec {
    fn check(&self, check: &mut Check<'_>) {
        Window::check(self.window, check);
    }

    fn build(&self, seed: u64, replica: u32) -> Box<dyn LengthModel> {
        Box::new(History { window: Window::new(self.window, self.initial), seed, replica })
    }
}

/// Settings of the quantile.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuantileSpec {
    /// Share of the requests that are no longer than predicted, from 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub quantile: f64,
    /// Finished requests that are remembered, 2 or more.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub window: u32,
    /// Length with which half of the window is filled at first [tokens].
    pub initial: u32,
}

impl Default for QuantileSpec {
    fn default() -> Self {
        let HistorySpec { window, initial } = HistorySpec::default();
        QuantileSpec { quantile: 0.9, window, initial }
    }
}

impl LengthPolicy for QuantileSpec {
    fn check(&self, check: &mut Check<'_>) {
        Window::check(self.window, check);
        check.share("quantile", self.quantile);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn LengthModel> {
        Box::new(Quantile { window: Window::new(self.window, self.initial), quantile: self.quantile })
    }
}

/// The lengths that finished last: a ring, and the same lengths in order.
#[derive(Clone, Debug)]
struct Window {
    ring: VecDeque<u32>,
    sorted: Vec<u32>,
    size: usize,
}

impl Window {
    /// Half of it is filled at first, and may not be empty.
    fn check(size: u32, check: &mut Check<'_>) {
        check.range("window", size, 2, 1_000_000);
    }

    fn new(size: u32, initial: u32) -> Window {
        let half = vec![initial; size as usize / 2];
        Window { ring: half.clone().into(), sorted: half, size: size as usize }
    }

    fn push(&mut self, length: u32) {
        if self.ring.len() == self.size
            && let Some(oldest) = self.ring.pop_front()
        {
            let at = self.sorted.partition_point(|&l| l < oldest);
            self.sorted.remove(at);
        }
        self.ring.push_back(length);
        let at = self.sorted.partition_point(|&l| l < length);
        self.sorted.insert(at, length);
    }

    /// The length below which a share `u` of the outputs ends, `u` from 0 to 1.
    ///
    /// Of a request that runs: among those that get as far as it has. The distribution is linear between what it has
    /// generated, the remembered lengths above that, and the longest possible one; every gap between two neighbours is
    /// as likely as the others. Of one that waits: a remembered length as it is.
    fn quantile(&self, request: &RequestView, u: f64) -> u32 {
        if request.phase == Phase::Waiting {
            let at = ((u * self.sorted.len() as f64) as usize).min(self.sorted.len() - 1);
            return possible(f64::from(self.sorted[at]), request);
        }
        let above = &self.sorted[self.sorted.partition_point(|&l| l <= request.generated)..];
        let longest = above.last().map_or(request.limit, |&last| last.max(request.limit));
        let knot = |i: usize| match i {
            0 => request.generated,
            i => above.get(i - 1).copied().unwrap_or(longest),
        };
        let place = u * (above.len() + 1) as f64;
        let gap = (place as usize).min(above.len());
        let (low, high) = (f64::from(knot(gap)), f64::from(knot(gap + 1)));
        possible(low + (high - low) * (place - gap as f64), request)
    }
}

/// Draws from the history (Past-Future, ASPLOS '25; `FuturePastReqQueue` of the paper's artifact).
#[derive(Clone, Debug)]
struct History {
    window: Window,
    seed: u64,
    replica: u32,
}

impl LengthModel for History {
    fn predict(&self, request: &RequestView, draw: Draw) -> u32 {
        let key = [u64::from(self.replica), draw.attempt, u64::from(draw.list), request.id];
        self.window.quantile(request, keyed(self.seed, Purpose::Lengths, &key))
    }

    fn finished(&mut self, output_tokens: u32) {
        self.window.push(output_tokens);
    }

    fn is_random(&self) -> bool {
        true
    }
}

/// A fixed quantile of the history.
#[derive(Clone, Debug)]
struct Quantile {
    window: Window,
    quantile: f64,
}

impl LengthModel for Quantile {
    fn predict(&self, request: &RequestView, _: Draw) -> u32 {
        self.window.quantile(request, self.quantile)
    }

    fn finished(&mut self, output_tokens: u32) {
        self.window.push(output_tokens);
    }
}
