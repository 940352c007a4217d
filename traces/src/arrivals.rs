//! When generated requests arrive: renewal processes, in plain time or in the operational time of a rate profile.
//!
//! Gaps are Gamma distributed around the mean `1 / rate` with CV `1 / sqrt(shape)`; shape 1 is a Poisson process.
//! The first gap is drawn as if the process had been running for ever (the equilibrium distribution), so that the
//! expected number of requests in every interval is exactly the integral of the rate. Only `constant` is not random:
//! its k-th request arrives at `k / rate`.

use overbook_sim::time::{NS_PER_S, Span};
use overbook_sim::units::{Duration, Rate};
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Gamma};
use serde::{Deserialize, Serialize};

use crate::draw::{stream, uniform};
use crate::error::Problem;
use crate::figures::{BURSTGPT_HOURLY_MEAN, HOUR};
use crate::profile::Profile;

/// How requests arrive.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ArrivalSpec {
    /// Equal gaps.
    Constant {
        /// Requests per second.
        rate: Rate,
    },
    /// Independent arrivals at a fixed rate.
    Poisson {
        /// Mean requests per second.
        rate: Rate,
    },
    /// Gamma distributed gaps.
    Gamma {
        /// Mean requests per second.
        rate: Rate,
        /// Shape of the gaps, vLLM's "burstiness": 1 is Poisson, below 1 is burstier; CV = 1/sqrt(shape).
        shape: f64,
    },
    /// A rate that changes from window to window and starts over after the last.
    Profile {
        /// Mean requests per second in each window.
        rates: Vec<Rate>,
        /// Length of a window.
        window: Duration,
        /// Shape of the gaps, 1 is Poisson.
        #[serde(default = "poisson")]
        shape: f64,
    },
    /// The mean day of `BurstGPT_1` in 24 hourly windows, from midnight, scaled to a mean rate.
    BurstgptDay {
        /// Mean requests per second over the day.
        mean_rate: Rate,
        /// Shape of the gaps, 1 is Poisson.
        #[serde(default = "poisson")]
        shape: f64,
    },
}

fn poisson() -> f64 {
    1.0
}

/// Shapes accepted: CV from 0.001 to 32. Outside it, almost all gaps underflow to zero or the gaps are constant.
const SHAPES: std::ops::RangeInclusive<f64> = 1e-3..=1e6;

/// Rates accepted at most [requests/s]: one per nanosecond.
const RATE_MAX: f64 = 1e9;

impl ArrivalSpec {
    /// Everything that is wrong with the values, as (path below `prefix`, message).
    pub(crate) fn problems(&self, prefix: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: Option<String>| {
            problems.extend(message.map(|message| (format!("{prefix}.{path}"), message)));
        };
        match self {
            ArrivalSpec::Constant { rate } => add("constant.rate", rate_problem(*rate)),
            ArrivalSpec::Poisson { rate } => add("poisson.rate", rate_problem(*rate)),
            ArrivalSpec::Gamma { rate, shape } => {
                add("gamma.rate", rate_problem(*rate));
                add("gamma.shape", shape_problem(*shape));
            }
            ArrivalSpec::Profile { rates, window, shape } => {
                for (at, rate) in rates.iter().enumerate().filter(|(_, rate)| rate.0 != 0.0) {
                    add(&format!("profile.rates.{at}"), rate_problem(*rate));
                }
                if rates.iter().all(|rate| rate.0 == 0.0) {
                    add("profile.rates", Some("need at least one rate above 0".to_owned()));
                }
                let zero = window.0 == Span::ZERO;
                add("profile.window", zero.then(|| "is 0; a window must last some time".to_owned()));
                add("profile.shape", shape_problem(*shape));
            }
            ArrivalSpec::BurstgptDay { mean_rate, shape } => {
                add("burstgpt-day.mean_rate", rate_problem(*mean_rate));
                add("burstgpt-day.shape", shape_problem(*shape));
            }
        }
        problems
    }
}

fn rate_problem(Rate(rate): Rate) -> Option<String> {
    let good = rate > 0.0 && rate <= RATE_MAX;
    let shown = if rate > RATE_MAX { format!("{rate:e}") } else { rate.to_string() };
    (!good).then(|| format!("is {shown}/s; it must be above 0 and at most {RATE_MAX}/s"))
}

fn shape_problem(shape: f64) -> Option<String> {
    let message = || format!("is {shape}; it must be between {} and {}", SHAPES.start(), SHAPES.end());
    (!SHAPES.contains(&shape)).then(message)
}

/// Draws arrival times, in order.
pub(crate) struct Arrivals {
    gaps: Gaps,
    clock: Clock,
}

enum Clock {
    Steady(Steady),
    Profile(Profile),
}

impl Arrivals {
    /// The specification has no problems.
    pub(crate) fn new(spec: &ArrivalSpec, seed: u64) -> Arrivals {
        let random = |shape: f64| Gaps::random(shape, stream(seed, *b"arrivals"));
        let (gaps, clock) = match spec {
            ArrivalSpec::Constant { rate } => (Gaps::Equal, Clock::Steady(Steady::new(*rate))),
            ArrivalSpec::Poisson { rate } => (random(1.0), Clock::Steady(Steady::new(*rate))),
            ArrivalSpec::Gamma { rate, shape } => (random(*shape), Clock::Steady(Steady::new(*rate))),
            ArrivalSpec::Profile { rates, window, shape } => {
                let rates: Vec<f64> = rates.iter().map(|rate| rate.0).collect();
                (random(*shape), Clock::Profile(Profile::new(&rates, window.0)))
            }
            ArrivalSpec::BurstgptDay { mean_rate, shape } => {
                let mean = BURSTGPT_HOURLY_MEAN.iter().sum::<f64>() / BURSTGPT_HOURLY_MEAN.len() as f64;
                let rates = BURSTGPT_HOURLY_MEAN.map(|requests| requests / mean * mean_rate.0);
                (random(*shape), Clock::Profile(Profile::new(&rates, HOUR)))
            }
        };
        Arrivals { gaps, clock }
    }

    /// The next arrival [ns]; `None` if it lies beyond the range of virtual time.
    pub(crate) fn next_ns(&mut self) -> Option<u64> {
        let gap = self.gaps.draw();
        match &mut self.clock {
            Clock::Steady(clock) => clock.advance(gap),
            Clock::Profile(clock) => clock.advance(gap),
        }
    }
}

/// Gaps with mean 1.
enum Gaps {
    Equal,
    Exponential(ChaCha8Rng),
    Gamma {
        rng: ChaCha8Rng,
        gap: Gamma<f64>,
        /// Length-biased gap, until the first arrival is drawn: the gap that an outside observer falls into.
        first: Option<Gamma<f64>>,
    },
}

impl Gaps {
    fn random(shape: f64, rng: ChaCha8Rng) -> Gaps {
        let exponential = (shape - 1.0).abs() < f64::EPSILON;
        match (Gamma::new(shape, 1.0 / shape), Gamma::new(shape + 1.0, 1.0 / shape)) {
            (Ok(gap), Ok(first)) if !exponential => Gaps::Gamma { rng, gap, first: Some(first) },
            _ => Gaps::Exponential(rng),
        }
    }

    fn draw(&mut self) -> f64 {
        match self {
            Gaps::Equal => 1.0,
            // The exponential distribution is its own equilibrium distribution.
            Gaps::Exponential(rng) => Exp1.sample(rng),
            Gaps::Gamma { rng, gap, first } => match first.take() {
                Some(first) => first.sample(rng) * uniform(rng),
                None => gap.sample(rng),
            },
        }
    }
}

/// Time at a fixed rate: whole nanoseconds, the fraction carried on so that the mean rate is exact.
struct Steady {
    /// Mean gap [ns].
    period: f64,
    /// Last arrival [ns].
    now: u64,
    /// Below 1 [ns].
    carry: f64,
}

impl Steady {
    fn new(Rate(rate): Rate) -> Steady {
        Steady { period: NS_PER_S as f64 / rate, now: 0, carry: 0.0 }
    }

    fn advance(&mut self, gap: f64) -> Option<u64> {
        let ns = gap * self.period + self.carry;
        let whole = ns as u64;
        self.carry = ns - whole as f64;
        self.now = self.now.checked_add(whole)?;
        Some(self.now)
    }
}
