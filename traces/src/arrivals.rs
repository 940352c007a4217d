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

use crate::burstgpt_hours::{BURSTGPT_1_CONVERSATION, BURSTGPT_1_HOURLY, BURSTGPT_1_HOURS};
use crate::draw::{stream, uniform};
use crate::error::Problem;
use crate::figures::{BURSTGPT_FAILURES, BURSTGPT_HOURLY_MEAN, BURSTGPT_SHAPE, HOUR};
use crate::load::Failures;
use crate::profile::Profile;
use crate::week::{self, WeekSpec};

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
        /// Family of the gaps within a window.
        #[serde(default, skip_serializing_if = "GapFamily::is_gamma")]
        gaps: GapFamily,
    },
    /// A rate that follows the hour and the day of the week; it starts over after a week.
    Week(WeekSpec),
    /// Weibull distributed gaps.
    Weibull {
        /// Mean requests per second.
        rate: Rate,
        /// Shape of the gaps: 1 is Poisson, below 1 is burstier (ServeGen's bursty clients: 0.44 to 0.5, CV 3).
        shape: f64,
    },
    /// All 61 days of `BurstGPT_1`, hour by hour as recorded; starts over after the last hour. Inside an hour it is a
    /// model. For the recorded arrivals, replay the file with `trace`.
    Burstgpt {
        /// Mean requests per second over the hours played; by default that of the trace. Dropped failures do not count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mean_rate: Option<Rate>,
        /// First hour, from midnight of the first day, local time. Hour 216 begins the first day of API bursts.
        #[serde(default)]
        from_hour: u32,
        /// Hours to play before starting over; by default all 1,461.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hours: Option<u32>,
        /// Shape of the gaps, 1 is Poisson; by default as measured in conversation traffic.
        #[serde(default = "burstgpt_shape")]
        shape: f64,
        /// What the 1.78 % of the recorded requests become that failed: they are in the hourly counts. `redraw` gives them
        /// sizes, `keep` lets them arrive and fail.
        #[serde(default, skip_serializing_if = "Failures::is_drop")]
        failures: Failures,
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

/// Family of the gaps between requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GapFamily {
    /// Gamma.
    #[default]
    Gamma,
    /// Weibull.
    Weibull,
}

impl GapFamily {
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_gamma(&self) -> bool {
        *self == GapFamily::Gamma
    }
}

fn poisson() -> f64 {
    1.0
}

fn burstgpt_shape() -> f64 {
    BURSTGPT_SHAPE
}

/// Shapes accepted: CV from 0.001 to 32. Outside it, almost all gaps underflow to zero or the gaps are constant.
pub(crate) const SHAPES: std::ops::RangeInclusive<f64> = 1e-3..=1e6;

/// Weibull shapes accepted: at 0.1 the CV is 430.
pub(crate) const WEIBULL_SHAPES: std::ops::RangeInclusive<f64> = 0.1..=100.0;

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
            ArrivalSpec::Profile { rates, window, shape, gaps } => {
                for (at, rate) in rates.iter().enumerate().filter(|(_, rate)| rate.0 != 0.0) {
                    add(&format!("profile.rates.{at}"), rate_problem(*rate));
                }
                if rates.iter().all(|rate| rate.0 == 0.0) {
                    add("profile.rates", Some("need at least one rate above 0".to_owned()));
                }
                let zero = window.0 == Span::ZERO;
                add("profile.window", zero.then(|| "is 0; a window must last some time".to_owned()));
                let weibull = *gaps == GapFamily::Weibull;
                add("profile.shape", within(*shape, if weibull { &WEIBULL_SHAPES } else { &SHAPES }));
            }
            ArrivalSpec::Week(week) => {
                add("week.peak", rate_problem(week.peak));
                add("week.shape", shape_problem(week.shape));
                week.faults().into_iter().for_each(|(key, told)| add(&format!("week.{key}"), Some(told)));
            }
            ArrivalSpec::Weibull { rate, shape } => {
                add("weibull.rate", rate_problem(*rate));
                add("weibull.shape", within(*shape, &WEIBULL_SHAPES));
            }
            ArrivalSpec::Burstgpt { mean_rate, from_hour, hours, shape, failures: _ } => {
                add("burstgpt.mean_rate", mean_rate.and_then(rate_problem));
                add("burstgpt.shape", shape_problem(*shape));
                let late = *from_hour >= HOURS;
                add(
                    "burstgpt.from_hour",
                    late.then(|| format!("is {from_hour}; the trace has hours 0 to {}", HOURS - 1)),
                );
                let played = hours.unwrap_or(HOURS);
                if !(1..=HOURS).contains(&played) {
                    add("burstgpt.hours", Some(format!("is {played}; it must be between 1 and {HOURS}")));
                } else if !late && burstgpt_hours(*from_hour, *hours).all(|hour| BURSTGPT_1_HOURLY[hour] == 0) {
                    add("burstgpt.hours", Some("hold no request; choose others".to_owned()));
                }
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
    within(shape, &SHAPES)
}

fn within(shape: f64, shapes: &std::ops::RangeInclusive<f64>) -> Option<String> {
    let message = || format!("is {shape}; it must be between {} and {}", shapes.start(), shapes.end());
    (!shapes.contains(&shape)).then(message)
}

const HOURS: u32 = BURSTGPT_1_HOURS as u32;

/// The hours played, wrapping around the end of the trace.
fn burstgpt_hours(from_hour: u32, hours: Option<u32>) -> impl Iterator<Item = usize> + Clone {
    (0..hours.unwrap_or(HOURS)).map(move |hour| ((from_hour + hour) % HOURS) as usize)
}

/// Draws arrival times, in order.
pub(crate) struct Arrivals {
    gaps: Gaps,
    clock: Clock,
    /// Share of conversation requests in each window of the profile, if known.
    conversation: Vec<f64>,
    /// Draws for failed requests, if they are kept.
    failures: Option<ChaCha8Rng>,
}

enum Clock {
    Steady(Steady),
    Profile(Profile),
}

impl Arrivals {
    /// The specification has no problems.
    pub(crate) fn new(spec: &ArrivalSpec, seed: u64) -> Arrivals {
        let mut conversation = Vec::new();
        let mut kept_failures = None;
        let random = |shape: f64| Gaps::random(shape, stream(seed, *b"arrivals"));
        let (gaps, clock) = match spec {
            ArrivalSpec::Constant { rate } => (Gaps::Equal, Clock::Steady(Steady::new(*rate))),
            ArrivalSpec::Poisson { rate } => (random(1.0), Clock::Steady(Steady::new(*rate))),
            ArrivalSpec::Gamma { rate, shape } => (random(*shape), Clock::Steady(Steady::new(*rate))),
            ArrivalSpec::Profile { rates, window, shape, gaps } => {
                let rates: Vec<f64> = rates.iter().map(|rate| rate.0).collect();
                let gaps = match gaps {
                    GapFamily::Gamma => random(*shape),
                    GapFamily::Weibull => Gaps::weibull(*shape, stream(seed, *b"arrivals")),
                };
                (gaps, Clock::Profile(Profile::new(&rates, window.0)))
            }
            ArrivalSpec::Week(week) => (random(week.shape), Clock::Profile(Profile::new(&week.rates(), week::WINDOW))),
            ArrivalSpec::Weibull { rate, shape } => {
                (Gaps::weibull(*shape, stream(seed, *b"arrivals")), Clock::Steady(Steady::new(*rate)))
            }
            ArrivalSpec::Burstgpt { mean_rate, from_hour, hours, shape, failures } => {
                kept_failures = (*failures == Failures::Keep).then(|| stream(seed, *b"failures"));
                let arriving = if *failures == Failures::Drop { 1.0 - BURSTGPT_FAILURES } else { 1.0 };
                let hours = burstgpt_hours(*from_hour, *hours);
                let requests: Vec<f64> = hours.clone().map(|hour| f64::from(BURSTGPT_1_HOURLY[hour])).collect();
                let mean = requests.iter().sum::<f64>() / requests.len() as f64;
                // Requests per hour to requests/s.
                let factor = mean_rate.map_or(arriving / HOUR.as_secs_f64(), |rate| rate.0 / mean);
                let share =
                    |hour: usize| f64::from(BURSTGPT_1_CONVERSATION[hour]) / f64::from(BURSTGPT_1_HOURLY[hour].max(1));
                conversation = hours.map(share).collect();
                let rates: Vec<f64> = requests.iter().map(|requests| requests * factor).collect();
                (random(*shape), Clock::Profile(Profile::new(&rates, HOUR)))
            }
            ArrivalSpec::BurstgptDay { mean_rate, shape } => {
                let mean = BURSTGPT_HOURLY_MEAN.iter().sum::<f64>() / BURSTGPT_HOURLY_MEAN.len() as f64;
                let rates = BURSTGPT_HOURLY_MEAN.map(|requests| requests / mean * mean_rate.0);
                (random(*shape), Clock::Profile(Profile::new(&rates, HOUR)))
            }
        };
        Arrivals { gaps, clock, conversation, failures: kept_failures }
    }

    /// Whether the last arrival failed in the trace, and is kept.
    pub(crate) fn failed(&mut self) -> bool {
        self.failures.as_mut().is_some_and(|draws| uniform(draws) < BURSTGPT_FAILURES)
    }

    /// Share of conversation requests at the time of the last arrival, if the arrivals know it.
    pub(crate) fn conversation_share(&self) -> Option<f64> {
        match &self.clock {
            Clock::Steady(_) => None,
            Clock::Profile(profile) => self.conversation.get(profile.window()).copied(),
        }
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
pub(crate) enum Gaps {
    Equal,
    Exponential(ChaCha8Rng),
    Gamma {
        rng: ChaCha8Rng,
        gap: Gamma<f64>,
        /// Length-biased gap, until the first arrival is drawn: the gap that an outside observer falls into.
        first: Option<Gamma<f64>>,
    },
    Weibull {
        rng: ChaCha8Rng,
        /// One over the shape.
        power: f64,
        /// Makes the mean 1.
        scale: f64,
        /// As above: of the length-biased gap, to the power of the shape.
        first: Option<Gamma<f64>>,
    },
}

impl Gaps {
    pub(crate) fn random(shape: f64, rng: ChaCha8Rng) -> Gaps {
        let exponential = (shape - 1.0).abs() < f64::EPSILON;
        match (Gamma::new(shape, 1.0 / shape), Gamma::new(shape + 1.0, 1.0 / shape)) {
            (Ok(gap), Ok(first)) if !exponential => Gaps::Gamma { rng, gap, first: Some(first) },
            _ => Gaps::Exponential(rng),
        }
    }

    pub(crate) fn weibull(shape: f64, rng: ChaCha8Rng) -> Gaps {
        let power = 1.0 / shape;
        let first = Gamma::new(1.0 + power, 1.0).ok();
        Gaps::Weibull { rng, power, scale: (-ln_gamma(1.0 + power)).exp(), first }
    }

    pub(crate) fn draw(&mut self) -> f64 {
        match self {
            Gaps::Weibull { rng, power, scale, first } => {
                let (unit, part): (f64, f64) = match first.take() {
                    Some(first) => (first.sample(rng), uniform(rng)),
                    None => (Exp1.sample(rng), 1.0),
                };
                unit.powf(*power) * *scale * part
            }
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

/// Logarithm of the gamma function for x of at least 1, to ten digits (Stirling's series).
fn ln_gamma(x: f64) -> f64 {
    // Shifted up, where the series is exact enough.
    let shifted = x + 10.0;
    let product: f64 = (0..10).map(|i| x + f64::from(i)).product();
    let series = 1.0 / (12.0 * shifted) - 1.0 / (360.0 * shifted.powi(3)) + 1.0 / (1260.0 * shifted.powi(5));
    (shifted - 0.5) * shifted.ln() - shifted + 0.5 * std::f64::consts::TAU.ln() + series - product.ln()
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
