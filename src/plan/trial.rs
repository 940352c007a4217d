//! One fleet on one load: whether it keeps the promises, and why not.

use std::sync::Arc;

use overbook_reports::format::{Unit, label};
use overbook_reports::plan::Binds;
use overbook_scenarios::Point;
use overbook_sim::cost::CostModel;
use overbook_sim::fleet::RunError;
use overbook_sim::results::summary::Summary;
use overbook_sim::results::timeline::Timeline;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_traces::{Growth, Held, Playback};

use super::judge::{Both, Kept, Promises, Verdict};
use crate::policies::Policies;
use crate::simulate::fleet;
use crate::{Error, Options};

/// Requests that a fleet is tried on, and how many of them are judged.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    requests: Arc<Held>,
    /// Time over which they come.
    length: Span,
    until: Time,
    /// Requests judged at most.
    of: u64,
}

impl Load {
    pub(crate) fn new(requests: Held, length: Span, promises: &Promises) -> Load {
        let arrivals = requests.arrivals();
        let outputs: u64 = arrivals.iter().map(|arrival| u64::from(arrival.output_tokens)).sum();
        let last = arrivals.last().map_or(Time::ZERO, |arrival| arrival.at);
        let until = promises.judged_until(last, outputs as f64 / arrivals.len().max(1) as f64);
        let of = arrivals.iter().filter(|arrival| arrival.at <= until && !arrival.failed_in_trace).count() as u64;
        Load { requests: Arc::new(requests), length, until, of }
    }

    /// At so many times the load.
    pub(crate) fn grown(&self, growth: Growth, factor: f64, seed: u64, promises: &Promises) -> Load {
        let scale = if growth == Growth::Faster { 1.0 / factor } else { 1.0 };
        let length = Span((self.length.0 as f64 * scale) as u64);
        Load::new(self.requests.grown(growth, factor, self.length, seed), length, promises)
    }

    /// The requests that are judged, in order of arrival.
    pub(crate) fn judged(&self) -> impl Iterator<Item = &Arrival> {
        self.requests.arrivals().iter().take_while(|arrival| arrival.at <= self.until).filter(|a| !a.failed_in_trace)
    }

    /// The requests, from the first one on.
    pub(crate) fn play(&self) -> Playback {
        self.requests.play()
    }

    pub(crate) fn arrivals(&self) -> &[Arrival] {
        self.requests.arrivals()
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.arrivals().len()
    }

    pub(crate) fn judged_count(&self) -> u64 {
        self.of
    }

    pub(crate) fn until(&self) -> Time {
        self.until
    }

    /// Time over which they come [s].
    pub(crate) fn length_s(&self) -> f64 {
        self.length.as_secs_f64()
    }
}

/// What the servers of a fleet drew over a trial [W].
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Watts {
    /// Mean of the GPUs alone.
    pub(crate) gpus: f64,
    /// Mean of the servers.
    pub(crate) mean: f64,
    /// The highest reading of the servers together.
    pub(crate) peak: f64,
    /// Power of the facility over that of its servers, where it is known.
    pub(crate) pue: Option<f64>,
}

/// What a trial shows.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) verdict: Verdict,
    /// The figures of a run that came to its end.
    pub(crate) summary: Option<Summary>,
    /// Load over time of a run that kept its promises.
    pub(crate) timeline: Option<Box<Timeline>>,
    /// Latencies of the judged requests [s]: median and 99th percentile of the first token, then of later ones.
    pub(crate) latencies: [Option<f64>; 4],
    /// What binds its steps, of a fleet that was looked at.
    pub(crate) binds: Option<Binds>,
    /// Why it did not come to its end, if not for its promises.
    pub(crate) failed: Option<String>,
    /// Whether the user has stopped it: it says nothing.
    pub(crate) interrupted: bool,
}

impl Trial {
    pub(crate) fn held(&self) -> bool {
        self.verdict.held && self.failed.is_none()
    }

    /// What the servers drew, of a run that came to its end and counts watts.
    pub(crate) fn watts(&self) -> Option<Watts> {
        let summary = self.summary.as_ref()?;
        let row = &summary.power.as_ref()?.figures.row;
        Some(Watts {
            gpus: row.parts.gpus.mean_over(row.span).as_watts_f64(),
            mean: row.mean().as_watts_f64(),
            peak: row.peak.as_watts_f64(),
            pue: summary.economics.as_ref().and_then(|economics| economics.pue),
        })
    }

    /// The figure that comes nearest to its bound, over that bound, of a run that came to its end.
    pub(crate) fn nearest_to_bound(&self) -> Option<f64> {
        self.summary.as_ref()?;
        self.verdict.kept.iter().filter_map(Kept::use_of_bound).reduce(f64::max)
    }

    /// How far it came before it was hopeless: a share of the requests.
    pub(crate) fn came(&self) -> f64 {
        self.verdict.stopped.map_or(1.0, |(seen, of)| seen as f64 / of.max(1) as f64)
    }

    /// Why it lost, with numbers; how it won, if it did.
    pub(crate) fn reason(&self) -> String {
        if let Some(why) = &self.failed {
            return why.clone();
        }
        let kept = &self.verdict.kept;
        let missed: Vec<String> =
            kept.iter().filter(|one| one.met == Some(false)).map(|one| self.missed(one)).collect();
        if missed.is_empty() {
            return kept.iter().map(Kept::figure).collect::<Vec<_>>().join("; ");
        }
        missed.join("; ")
    }

    fn missed(&self, kept: &Kept) -> String {
        if kept.value.is_some() {
            return kept.figure();
        }
        let unit = Unit::of(&kept.metric);
        let bound = unit.short(kept.bound);
        let Kept { over, may, .. } = kept;
        match self.verdict.stopped {
            Some((seen, _)) if *over > 0 => {
                let sign = if kept.least { "<" } else { ">" };
                let lost = self.lost().map_or_else(String::new, |lost| format!(" ({lost})"));
                format!(
                    "{} {sign} {bound}: {over} of the first {seen} requests miss it, {may} may{lost}",
                    label(&kept.metric)
                )
            }
            _ => match self.lost() {
                Some(lost) => {
                    format!("{} has no value: of {} requests {lost}", label(&kept.metric), self.verdict.seen)
                }
                None if kept.over == 0 && !kept.least => {
                    format!("{} has no value: no request has one", label(&kept.metric))
                }
                None => format!("{} is beyond {bound}", label(&kept.metric)),
            },
        }
    }

    /// How many requests came to nothing, and why, if any did.
    fn lost(&self) -> Option<String> {
        let Verdict { lost, rejected, .. } = self.verdict;
        let why = match rejected {
            0 => "",
            _ if rejected == lost => ", rejected: too long for the context or the pool",
            _ => ", some of them rejected: too long for the context or the pool",
        };
        (lost > 0).then(|| format!("{lost} came to nothing{why}"))
    }
}

impl Kept {
    /// `TPOT p99 51.3 ms > 50 ms`.
    pub(crate) fn figure(&self) -> String {
        let unit = Unit::of(&self.metric);
        let value = self.value.map_or_else(|| "–".to_owned(), |value| unit.show(value));
        let sign = match (self.met == Some(true), self.least) {
            (true, false) => "≤",
            (true, true) => "≥",
            (false, false) => ">",
            (false, true) => "<",
        };
        format!("{} {value} {sign} {}", label(&self.metric), unit.short(self.bound))
    }

    /// What came over what is allowed: 1 at the limit, above it if missed.
    pub(crate) fn use_of_bound(&self) -> Option<f64> {
        let value = self.value?;
        let missed = |share: f64| 1.0 - share;
        Some(if self.least { missed(value) / missed(self.bound).max(1e-9) } else { value / self.bound.max(1e-12) })
    }
}

/// Runs fleets on loads.
pub(crate) struct Bench<'a> {
    pub(crate) promises: &'a Promises,
    pub(crate) policies: &'a Policies,
    pub(crate) options: &'a Options,
    /// What the servers may draw at their peak [W].
    pub(crate) power_most: Option<f64>,
}

impl Bench<'_> {
    /// The peak of a run and what it may be, if it is above that [W].
    pub(crate) fn too_many_watts(&self, trial: &Trial) -> Option<(f64, f64)> {
        let (peak, most) = (trial.watts()?.peak, self.power_most?);
        (peak > most).then_some((peak, most))
    }

    /// Whether the promises are kept, and the servers draw no more than they may.
    pub(crate) fn holds(&self, trial: &Trial) -> bool {
        trial.held() && self.too_many_watts(trial).is_none()
    }

    /// Tries a fleet on a load. `to_the_end` goes on though the promises cannot be kept any more.
    pub(crate) fn on(&self, point: &Point, load: &Load, to_the_end: bool) -> Result<Trial, Error> {
        let of = (load.until, load.of, load.requests() as u64);
        self.run(point, &mut load.play(), of, to_the_end)
    }

    /// Tries a fleet on requests that come from anywhere. Judged are those that arrive until then, so many at most, and all.
    pub(crate) fn run(
        &self,
        point: &Point,
        requests: &mut dyn Workload,
        (until, of, all): (Time, u64, u64),
        to_the_end: bool,
    ) -> Result<Trial, Error> {
        let (cluster, mut costs) = fleet(point, self.policies, self.options)?;
        let mut costs: Vec<_> = costs.iter_mut().map(|cost| &mut **cost as &mut dyn CostModel).collect();
        let fails_at = point.scenario.fleet.controllers.failures.iter().map(|failure| Time::ZERO + failure.at.0).min();
        let most = |requests: u64| if to_the_end { u64::MAX >> 1 } else { requests };
        let mut judge = Both {
            early: self.promises.judge(until, most(of), fails_at),
            all: self.promises.judge(Time::MAX, most(all), fails_at),
        };
        let mut watch = |_| !self.options.cancel.is_cancelled();
        let ran = cluster.run_pools(requests, &mut costs, &mut judge, &mut watch);
        let (summary, timeline, failed, interrupted) = match ran {
            Ok(ran) => {
                let timeline = Some(Box::new(ran.timeline));
                let mut summary = ran.summary;
                let used: Vec<u32> = summary.retained.iter().flat_map(|kept| kept.finished.keys().copied()).collect();
                // What cannot be told has no value, and misses its target.
                summary.quality = point.quality(used.into_iter()).ok().flatten();
                let halted = ran.halted.map(|halt| halt.to_string());
                (Some(summary).filter(|_| !ran.interrupted && halted.is_none()), timeline, halted, ran.interrupted)
            }
            Err(RunError::Record(_)) if judge.is_hopeless() => (None, None, None, false),
            Err(error @ (RunError::PoolTooSmall { .. } | RunError::StepTooLong { .. } | RunError::Plan(_))) => {
                (None, None, Some(error.to_string()), false)
            }
            Err(error) => return Err(error.into()),
        };
        let of = |name, share| judge.early.quantile(name, share);
        let verdict = judge.verdict(summary.as_ref());
        Ok(Trial {
            // Some fleet that holds is the answer; of the others nobody looks at the charts.
            timeline: timeline.filter(|_| verdict.held && summary.is_some()),
            verdict,
            latencies: [of("ttft", 0.5), of("ttft", 0.99), of("tpot", 0.5), of("tpot", 0.99)],
            summary,
            binds: None,
            failed,
            interrupted,
        })
    }
}
