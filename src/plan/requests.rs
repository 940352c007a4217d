//! The requests of a plan: those of the busiest stretch in memory, and what is known of all.

use overbook_reports::format::{Unit, count, number};
use overbook_scenarios::Point;
use overbook_scenarios::scenario::PlanSpec;
use overbook_sim::time::{Span, Time};
use overbook_sim::units::Duration;
use overbook_traces::{Growth, Held, Stretch, busiest};

use super::hours::HOUR;
use super::judge::Promises;
use super::trial::Load;
use crate::{Error, Options};

/// An overload that a stretch does not show: from here on it is said, and above this no window is so short.
const UNSEEN_TOLD: f64 = 0.02;
const UNSEEN_MAX: f64 = 0.1;

/// Headroom is looked for on drawn requests that come for so many times as long as one may wait, if these are no more than so many, and no more than
/// so many times those that are stated: a plan is to take seconds.
const LONG: f64 = 300.0;
const REQUESTS_MOST: u64 = 200_000;
const TIMES_MOST: u64 = 20;

/// The requests of a plan.
pub(crate) struct Requests {
    /// Those of the busiest stretch.
    pub(crate) load: Load,
    pub(crate) stretch: Stretch,
    window: Span,
    /// Whether their times were recorded, and not drawn from a rate.
    recorded: bool,
    output_mean: f64,
}

impl Requests {
    /// Finds the busiest stretch and reads it. `None` if the user has stopped it.
    ///
    /// # Errors
    /// The requests cannot be read, there are none, they follow on answers, or `plan.window` is too short for the promises.
    pub(crate) fn read(
        point: &Point,
        spec: &PlanSpec,
        promises: &Promises,
        options: &Options,
    ) -> Result<Option<Requests>, Error> {
        let window = spec.window.0;
        let Some((stretch, held)) = part(point, window, options)? else { return Ok(None) };
        let tokens: u64 = held.arrivals().iter().map(|arrival| u64::from(arrival.output_tokens)).sum();
        let output_mean = tokens as f64 / held.arrivals().len().max(1) as f64;
        let load = Load::new(held, stretch.span(), promises);
        if let Some(patience) = promises.patience().filter(|_| !stretch.is_whole()) {
            let unseen = patience / window.as_secs_f64();
            if unseen > UNSEEN_MAX {
                let told = format!(
                    "`plan.window` is {}: a fleet may fall behind by {} a request before a promise shows it, so that {} more than it can serve would \
                     pass; make it {} or more",
                    Duration(window),
                    Unit::Seconds.show(patience),
                    Unit::Share.show(unseen),
                    Unit::Seconds.show(patience / UNSEEN_TOLD)
                );
                return Err(Error::Plan(told));
            }
        }
        let recorded = point.scenario.workload.trace.is_some();
        Ok(Some(Requests { load, stretch, window, recorded, output_mean }))
    }

    /// The busiest stretch of the same workload under another seed. `None` if the user has stopped it.
    pub(crate) fn again(&self, point: &Point, promises: &Promises, options: &Options) -> Result<Option<Load>, Error> {
        let part = part(point, self.window, options)?;
        Ok(part.map(|(stretch, held)| Load::new(held, stretch.span(), promises)))
    }

    /// The meanings of "more load" that differ: of drawn arrivals a larger rate is the only one.
    pub(crate) fn growths(&self) -> &'static [Growth] {
        if self.recorded { &Growth::ALL } else { &[Growth::Faster] }
    }

    /// What twice the load is, in words.
    pub(crate) fn twice(&self, growth: Growth) -> &'static str {
        if self.recorded { growth.twice() } else { "twice the rate of arrivals" }
    }

    /// Until when requests of the whole run are judged, how many there are at most, and how many there are.
    pub(crate) fn judged_of_all(&self, promises: &Promises) -> (Time, u64, u64) {
        (promises.judged_until(self.stretch.last, self.output_mean), self.stretch.of, self.stretch.of)
    }

    /// The middle of the busiest stretch, in its own time.
    pub(crate) fn fails_at(&self) -> String {
        Duration(Span(self.stretch.span().0 / 2)).to_string()
    }

    /// The middle of the busiest stretch, in the time of the whole run.
    pub(crate) fn whole_fails_at(&self) -> String {
        Duration(Span(self.stretch.from.0 + self.stretch.span().0 / 2)).to_string()
    }

    /// The number of the hour in which the last request arrives, counted from that of the first.
    pub(crate) fn last_hour(&self) -> u64 {
        let first = if self.stretch.is_whole() { self.stretch.from.0 } else { 0 };
        self.stretch.last.0 / HOUR - first / HOUR
    }

    /// Requests per second in the busiest stretch.
    pub(crate) fn rate(&self) -> f64 {
        self.stretch.requests as f64 / self.stretch.span().as_secs_f64().max(1e-9)
    }

    /// Gives a generated workload of so many requests more of them, so that it is long enough at so many times the load: a queue that grows without
    /// end must have the time to be seen, and what a fleet holds for good is asked for. Recorded requests, and those of a stated time, are what they are.
    pub(crate) fn lengthen(&self, point: &mut Point, factor: f64, promises: &Promises) {
        let length = self.load.length_s() / factor;
        let wanted = promises.patience().map_or(1.0, |patience| LONG * patience / length.max(1e-9));
        let generated = point.scenario.workload.generate.as_mut();
        if let Some(requests) = generated.and_then(|made| made.requests.as_mut()).filter(|_| self.stretch.is_whole()) {
            let most = (REQUESTS_MOST / *requests).clamp(1, TIMES_MOST);
            *requests *= (wanted.ceil() as u64).clamp(1, most);
        }
    }

    /// The largest overload that the requests would not show at so many times the load, as a share of it, where that is not little: promises leave
    /// queues the time to grow.
    pub(crate) fn unseen(&self, growth: Growth, factor: f64, promises: &Promises) -> Option<f64> {
        let length = self.load.length_s() / if growth == Growth::Faster { factor } else { 1.0 };
        promises.patience().map(|patience| patience / length.max(1e-9)).filter(|unseen| *unseen > UNSEEN_TOLD)
    }

    /// What decides, in a line.
    pub(crate) fn told(&self) -> String {
        let Stretch { from, requests, of, .. } = self.stretch;
        let rate = number(self.rate());
        if self.stretch.is_whole() {
            return format!("{} requests, {rate} a second on average", count(of as f64));
        }
        let span = Duration(self.stretch.span());
        let begin = Duration(Span(from.0 / 1_000_000_000 * 1_000_000_000));
        format!(
            "{} requests; the busiest {span} begin {begin} after the start: {} requests, {rate} a second",
            count(of as f64),
            count(requests as f64)
        )
    }
}

/// The busiest stretch of a workload, and its requests.
fn part(point: &Point, window: Span, options: &Options) -> Result<Option<(Stretch, Held)>, Error> {
    let go_on = || !options.cancel.is_cancelled();
    let mut workload = point.workload()?;
    if workload.sessions().is_some() {
        let told = "a plan is for requests that come by themselves: those of this workload follow on answers; plan for a trace with \
                    times, or compare fleets with `overbook compare`";
        return Err(Error::Plan(told.to_owned()));
    }
    let stretch = busiest(&mut *workload, window, &go_on).map_err(Error::Requests)?;
    let Some(stretch) = stretch else {
        return if go_on() { Err(Error::Plan("the workload has no request".to_owned())) } else { Ok(None) };
    };
    let held =
        Held::part(&mut *point.workload()?, &stretch, options.shared_bytes_max, &go_on).map_err(Error::Requests)?;
    match held {
        Some(held) => Ok(Some((stretch, held))),
        None if go_on() => {
            let told = format!(
                "the busiest stretch has {} requests, more than memory is meant for; make `plan.window` shorter",
                count(stretch.requests as f64)
            );
            Err(Error::Plan(told))
        }
        None => Ok(None),
    }
}
