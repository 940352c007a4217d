//! Whether a run keeps its promises, known as early as it can be.
//!
//! Judged are the requests that arrive early enough to end under the full load if they are served as promised: the last ones meet a
//! fleet that is emptying. All others are load. A run whose promises cannot be kept any more, whatever comes, is stopped.

use overbook_scenarios::Point;
use overbook_sim::results::histogram::Histogram;
use overbook_sim::results::rows::{Outcome, RecordError, Recorder, RequestRow, StepRow};
use overbook_sim::results::summary::{QUANTILES, Slo, Summary};
use overbook_sim::time::{Span, Time};

/// Largest part of the time that is left unjudged at its end.
const UNJUDGED_MAX: f64 = 0.1;

/// A latency of a request that rows tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Measure {
    Ttft,
    Tpot,
    E2el,
}

impl Measure {
    const ALL: [Measure; 3] = [Measure::Ttft, Measure::Tpot, Measure::E2el];

    fn named(name: &str) -> Option<Measure> {
        Measure::ALL.into_iter().find(|measure| measure.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Measure::Ttft => "ttft",
            Measure::Tpot => "tpot",
            Measure::E2el => "e2el",
        }
    }

    fn of(self, row: &RequestRow) -> Option<Span> {
        match self {
            Measure::Ttft => row.ttft(),
            Measure::Tpot => row.tpot(),
            Measure::E2el => Some(row.e2el()),
        }
    }
}

/// What is promised.
#[derive(Clone, PartialEq, Debug)]
enum Promise {
    /// A quantile of a latency.
    Quantile { metric: String, measure: Measure, most: Span, share: f64 },
    /// A mean of a latency.
    Mean { metric: String, measure: Measure, most: Span },
    /// What each of a share of the requests gets.
    Goodput { slo: Slo, share: f64 },
    /// A figure of the whole run that rows do not tell, at most.
    Figure { metric: String, most: f64 },
    /// A figure of the whole run, at least.
    AtLeast { metric: String, least: f64 },
}

/// The promises of a scenario, and which requests are judged.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Promises(Vec<Promise>);

impl Promises {
    pub(crate) fn of(point: &Point) -> Promises {
        let slo = &point.scenario.slo;
        let mut all = Vec::new();
        for (metric, most) in slo.bounds() {
            let (name, statistic) = metric.split_once('_').unwrap_or((metric, ""));
            let quantile = QUANTILES.iter().find(|(known, _)| *known == statistic).map(|(_, share)| *share);
            let metric = metric.to_owned();
            all.push(match (Measure::named(name), quantile) {
                (Some(measure), Some(share)) => Promise::Quantile { metric, measure, most: most.0, share },
                (Some(measure), None) => Promise::Mean { metric, measure, most: most.0 },
                (None, _) => Promise::Figure { metric, most: most.0.as_secs_f64() },
            });
        }
        if let Some(goodput) = &slo.goodput {
            let of = |bound: Option<overbook_sim::units::Duration>| bound.map(|bound| bound.0);
            let slo = Slo {
                ttft: of(goodput.ttft),
                tpot: of(goodput.tpot),
                mtpot: of(goodput.mtpot),
                e2el: of(goodput.e2el),
            };
            all.push(Promise::Goodput { slo, share: goodput.share });
        }
        if let Some(least) = slo.quality.as_ref().and_then(|quality| quality.at_least) {
            all.push(Promise::AtLeast { metric: "quality".to_owned(), least });
        }
        Promises(all)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The longest time to first token that is promised to a share of the requests, and that share.
    pub(crate) fn ttft(&self) -> Option<(Span, f64)> {
        self.tightest(Measure::Ttft, |slo| slo.ttft)
    }

    /// The longest time per output token that is promised to a share of the requests, and that share.
    pub(crate) fn tpot(&self) -> Option<(Span, f64)> {
        self.tightest(Measure::Tpot, |slo| slo.tpot)
    }

    fn tightest(&self, wanted: Measure, good: fn(&Slo) -> Option<Span>) -> Option<(Span, f64)> {
        let bounds = self.0.iter().filter_map(|promise| match promise {
            Promise::Quantile { measure, most, share, .. } if *measure == wanted => Some((*most, *share)),
            Promise::Goodput { slo, share } => Some((good(slo)?, *share)),
            _ => None,
        });
        bounds.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }

    /// Until when requests that arrive are judged: those after it have not the time to end, as promised, before the last arrival.
    pub(crate) fn judged_until(&self, last: Time, output_mean: f64) -> Time {
        let of = |bound: Option<(Span, f64)>| bound.map_or(0.0, |(most, _)| most.0 as f64);
        let needed = of(self.ttft()) + of(self.tpot()) * output_mean;
        Time(last.0 - needed.min(last.0 as f64 * UNJUDGED_MAX) as u64)
    }

    /// How far a request may fall behind the arrivals without missing a promise [s]: the longest promised time to first token, and without one the
    /// longest promised time in all. A queue that grows less than that over a stretch does not show in it.
    pub(crate) fn patience(&self) -> Option<f64> {
        let bound = self.ttft().or_else(|| self.tightest(Measure::E2el, |slo| slo.e2el));
        bound.map(|(most, _)| most.as_secs_f64())
    }

    /// Judges so many requests at most: those that arrive until then. Where a replica fails, `fails_at`, those that it had then and lost are
    /// not judged; all that come later must be served.
    pub(crate) fn judge(&self, until: Time, of: u64, fails_at: Option<Time>) -> Judge<'_> {
        let over = vec![0; self.0.len()];
        Judge {
            promises: &self.0,
            until,
            of,
            fails_at,
            seen: 0,
            without_tpot: 0,
            over,
            lost: 0,
            rejected: 0,
            sums: Vec::new(),
            latencies: Vec::new(),
            misses: (0, 0),
            hopeless: false,
        }
        .begun()
    }
}

/// The requests of `n` that may be above a quantile.
fn allowed(n: u64, share: f64) -> u64 {
    n - ((n as f64 * share).ceil() as u64).min(n)
}

/// Counts while a run goes.
pub(crate) struct Judge<'a> {
    promises: &'a [Promise],
    until: Time,
    /// Requests to be judged at most.
    of: u64,
    fails_at: Option<Time>,
    /// Judged so far; those of them that have no time per output token.
    seen: u64,
    without_tpot: u64,
    /// Requests above the bound of each promise.
    over: Vec<u64>,
    /// Requests that came to nothing, and those of them that were rejected.
    lost: u64,
    rejected: u64,
    /// Sums of the latencies [ns], and all of them, by measure.
    sums: Vec<u128>,
    latencies: Vec<Histogram>,
    /// Requests that missed goodput by their first token, and by what came after it.
    misses: (u64, u64),
    hopeless: bool,
}

/// The run was stopped: its promises cannot be kept any more.
#[derive(Debug, thiserror::Error)]
#[error("the promises cannot be kept any more")]
struct Hopeless;

impl Judge<'_> {
    fn begun(mut self) -> Self {
        self.sums = vec![0; Measure::ALL.len()];
        self.latencies = Measure::ALL.map(|_| Histogram::new()).into();
        self
    }

    /// Whether all promises can still be kept.
    fn hopes(&self) -> bool {
        self.promises.iter().zip(&self.over).all(|(promise, &over)| match promise {
            Promise::Quantile { share, .. } | Promise::Goodput { share, .. } => over <= allowed(self.of, *share),
            Promise::Mean { measure, most, .. } => {
                self.lost == 0 && self.sums[*measure as usize] <= u128::from(most.0) * u128::from(self.of)
            }
            Promise::Figure { .. } | Promise::AtLeast { .. } => true,
        })
    }

    fn count(&mut self, row: &RequestRow) {
        let finished = match row.outcome {
            Outcome::FailedInTrace | Outcome::Cancelled => return,
            Outcome::Failed if self.fails_at.is_some_and(|fails_at| row.arrival <= fails_at) => return,
            Outcome::Finished => true,
            Outcome::Expired | Outcome::Rejected | Outcome::Failed => false,
        };
        self.seen += 1;
        self.lost += u64::from(!finished);
        self.rejected += u64::from(row.outcome == Outcome::Rejected);
        self.without_tpot += u64::from(finished && row.tpot().is_none());
        for measure in Measure::ALL {
            if let Some(latency) = measure.of(row).filter(|_| finished) {
                self.sums[measure as usize] += u128::from(latency.0);
                self.latencies[measure as usize].record(latency.0);
            }
        }
        for (promise, over) in self.promises.iter().zip(&mut self.over) {
            *over += u64::from(match promise {
                Promise::Quantile { measure, most, .. } => {
                    !finished || measure.of(row).is_some_and(|latency| latency > *most)
                }
                Promise::Goodput { slo, .. } => {
                    let above = |value: Option<Span>, most: Option<Span>| {
                        most.is_some_and(|most| value.is_some_and(|v| v > most))
                    };
                    let late = above(row.ttft(), slo.ttft);
                    let slow = above(row.tpot(), slo.tpot) || above(row.longest_gap, slo.mtpot);
                    self.misses.0 += u64::from(finished && late);
                    self.misses.1 += u64::from(finished && slow);
                    !finished || late || slow || above(Some(row.e2el()), slo.e2el)
                }
                Promise::Mean { .. } | Promise::Figure { .. } | Promise::AtLeast { .. } => false,
            });
        }
    }

    /// What came of each promise. `summary` is that of a run that came to its end.
    pub(crate) fn verdict(&self, summary: Option<&Summary>) -> Verdict {
        let kept = self.promises.iter().zip(&self.over).map(|(promise, &over)| self.kept(promise, over, summary));
        let kept: Vec<Kept> = kept.collect();
        Verdict {
            held: !self.hopeless && self.seen > 0 && kept.iter().all(|one| one.met == Some(true)),
            stopped: self.hopeless.then_some((self.seen, self.of)),
            misses: self.misses,
            seen: self.seen,
            lost: self.lost,
            rejected: self.rejected,
            kept,
        }
    }

    fn kept(&self, promise: &Promise, over: u64, summary: Option<&Summary>) -> Kept {
        let whole = summary.is_some();
        match promise {
            Promise::Quantile { metric, measure, most, share } => {
                let n = self.seen - if *measure == Measure::Tpot { self.without_tpot } else { 0 };
                let may = if whole { allowed(n, *share) } else { allowed(self.of, *share) };
                // Requests that came to nothing are above every bound.
                let rank = (n as f64 * share).ceil() / (n - self.lost.min(n)).max(1) as f64;
                let value = self.latencies[*measure as usize].quantile(rank.min(1.0)).filter(|_| rank <= 1.0 && whole);
                // As in a run: what no request has is no promise kept.
                let met = if over > may { Some(false) } else { whole.then_some(n > 0) };
                Kept {
                    metric: metric.clone(),
                    bound: most.as_secs_f64(),
                    value: value.map(seconds),
                    over,
                    may,
                    met,
                    least: false,
                }
            }
            Promise::Mean { metric, measure, most } => {
                let value = self.latencies[*measure as usize].mean().filter(|_| whole).map(|ns| ns * 1e-9);
                let over_all = self.sums[*measure as usize] > u128::from(most.0) * u128::from(self.of) || self.lost > 0;
                let met =
                    value.map(|value| value <= most.as_secs_f64() && self.lost == 0).or(over_all.then_some(false));
                Kept { metric: metric.clone(), bound: most.as_secs_f64(), value, over, may: 0, met, least: false }
            }
            Promise::Goodput { share, .. } => {
                let may = allowed(if whole { self.seen } else { self.of }, *share);
                let value = whole.then(|| 1.0 - over as f64 / self.seen.max(1) as f64);
                let met = if over > may { Some(false) } else { whole.then_some(true) };
                Kept { metric: "goodput_fraction".to_owned(), bound: *share, value, over, may, met, least: true }
            }
            Promise::Figure { metric, most } => {
                let value = summary.and_then(|summary| summary.metric(metric));
                let met = whole.then(|| value.is_some_and(|value| value <= *most));
                Kept { metric: metric.clone(), bound: *most, value, over, may: 0, met, least: false }
            }
            Promise::AtLeast { metric, least } => {
                let value = summary.and_then(|summary| summary.metric(metric));
                let met = whole.then(|| value.is_some_and(|value| value >= *least));
                Kept { metric: metric.clone(), bound: *least, value, over, may: 0, met, least: true }
            }
        }
    }

    /// The `share` quantile of a latency of the requests judged [s].
    pub(crate) fn quantile(&self, name: &str, share: f64) -> Option<f64> {
        self.latencies[Measure::named(name)? as usize].quantile(share).map(seconds)
    }
}

/// Judges the requests that arrive early enough, and all: a fleet that holds keeps its promises both ways, so that `overbook run` says
/// the same.
pub(crate) struct Both<'a> {
    pub(crate) early: Judge<'a>,
    pub(crate) all: Judge<'a>,
}

impl Both<'_> {
    pub(crate) fn is_hopeless(&self) -> bool {
        self.early.hopeless || self.all.hopeless
    }

    /// What came of each promise: over the early requests, unless only all of them show that one is missed.
    pub(crate) fn verdict(&self, summary: Option<&Summary>) -> Verdict {
        let (early, all) = (self.early.verdict(summary), self.all.verdict(summary));
        let only_all = early.held && !all.held || self.all.hopeless && !self.early.hopeless;
        if only_all { all } else { early }
    }
}

impl Recorder for Both<'_> {
    fn request(&mut self, row: &RequestRow) -> Result<(), RecordError> {
        self.early.request(row)?;
        self.all.request(row)
    }

    fn step(&mut self, _: &StepRow) -> Result<(), RecordError> {
        Ok(())
    }

    fn wants_steps(&self) -> bool {
        false
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 * 1e-9
}

impl Judge<'_> {
    fn request(&mut self, row: &RequestRow) -> Result<(), RecordError> {
        if row.arrival > self.until {
            return Ok(());
        }
        self.count(row);
        self.hopeless = !self.hopes();
        if self.hopeless { Err(Box::new(Hopeless)) } else { Ok(()) }
    }
}

/// What came of the promises of a run.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Verdict {
    pub(crate) held: bool,
    /// Requests judged when it was stopped, and how many there would have been at most.
    pub(crate) stopped: Option<(u64, u64)>,
    /// Requests that missed goodput by their first token, and by what came after it.
    pub(crate) misses: (u64, u64),
    pub(crate) seen: u64,
    /// Requests that came to nothing, and those of them that were rejected.
    pub(crate) lost: u64,
    pub(crate) rejected: u64,
    pub(crate) kept: Vec<Kept>,
}

/// A promise, and what came.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Kept {
    pub(crate) metric: String,
    /// In SI units.
    pub(crate) bound: f64,
    /// What came, of a run that came to its end.
    pub(crate) value: Option<f64>,
    /// Requests above the bound, and how many may be.
    pub(crate) over: u64,
    pub(crate) may: u64,
    /// `None` if the run was stopped before it was known.
    pub(crate) met: Option<bool>,
    /// Whether the bound is a least.
    pub(crate) least: bool,
}
