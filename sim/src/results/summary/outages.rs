//! Times at which replicas were down, and what requests lived through then.

use super::Slo;
use super::tally::meets;
use crate::results::histogram::Histogram;
use crate::results::rows::{Outcome, RequestRow};
use crate::time::Time;

/// Outages that have figures of their own; those after them count in the figures of all.
const OWN_FIGURES: usize = 20;

/// A time at which one or more replicas were down: from the first failure until all are back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outage {
    /// The first failure.
    pub from: Time,
    /// When all are back, or the run's end.
    pub to: Time,
    /// Most replicas that were down at once.
    pub replicas: u32,
}

/// What requests lived through in an outage.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hit {
    /// Attempts that came to nothing: the replica failed under them, or none took requests.
    pub lost: u64,
    /// Those of them that their clients sent again.
    pub retried: u64,
    /// Requests that arrived in the outage and have ended.
    pub requests: u64,
    /// Those of them that finished.
    pub finished: u64,
    /// Those of the finished that met the [`Slo`].
    pub good: u64,
    /// First token - arrival, of the finished [ns].
    pub ttft: Histogram,
}

/// All outages of a run. Nothing is down where it is empty.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outages {
    /// Replicas that are down now.
    down: u32,
    spans: Vec<Outage>,
    each: Vec<Hit>,
    all: Hit,
}

impl Outages {
    /// A replica fails and is down.
    pub fn begin(&mut self, now: Time) {
        if self.down == 0 && self.spans.last().is_none_or(|last| last.to < now) {
            self.spans.push(Outage { from: now, to: Time::MAX, replicas: 0 });
            if self.each.len() < OWN_FIGURES {
                self.each.push(Hit::default());
            }
        }
        self.down += 1;
        if let Some(last) = self.spans.last_mut() {
            last.to = Time::MAX;
            last.replicas = last.replicas.max(self.down);
        }
    }

    /// A replica is back.
    pub fn end(&mut self, now: Time) {
        self.down -= 1;
        if let (0, Some(last)) = (self.down, self.spans.last_mut()) {
            last.to = now;
        }
    }

    /// Where the outage of a moment stands in the list. A failure's own moment belongs to it, also where the replica is back at once.
    fn at(&self, moment: Time) -> Option<usize> {
        let before = self.spans.partition_point(|span| span.from <= moment);
        let (at, span) = (before.checked_sub(1)?, self.spans.get(before - 1)?);
        (moment < span.to || moment == span.from).then_some(at)
    }

    fn count(&mut self, moment: Time, count: impl Fn(&mut Hit)) {
        if let Some(at) = self.at(moment) {
            count(&mut self.all);
            if let Some(own) = self.each.get_mut(at) {
                count(own);
            }
        }
    }

    /// An attempt has ended; its client may send the request again.
    pub fn attempt(&mut self, row: &RequestRow, again: bool) {
        if row.outcome == Outcome::Failed {
            self.count(row.end, |hit| {
                hit.lost += 1;
                hit.retried += u64::from(again);
            });
        }
    }

    /// A request has ended for good.
    pub fn request(&mut self, row: &RequestRow, slo: &Slo) {
        if row.outcome == Outcome::FailedInTrace {
            return;
        }
        let (ttft, gap) = (row.ttft(), row.longest_gap);
        let promises = [(ttft, slo.ttft), (row.tpot(), slo.tpot), (gap, slo.mtpot), (Some(row.e2el()), slo.e2el)];
        let good = promises.into_iter().all(|(value, limit)| meets(value, limit));
        self.count(row.arrival, |hit| {
            hit.requests += 1;
            if row.outcome == Outcome::Finished {
                hit.finished += 1;
                hit.good += u64::from(good);
                if let Some(ttft) = ttft {
                    hit.ttft.record(ttft.0);
                }
            }
        });
    }

    /// The run has ended: nothing is down after it.
    #[must_use]
    pub fn finish(mut self, end: Time) -> Outages {
        self.spans.retain(|span| span.from <= end);
        self.spans.iter_mut().for_each(|span| span.to = span.to.min(end));
        self.each.truncate(self.spans.len());
        self
    }

    /// The outages, in order, none of which touches another.
    pub fn spans(&self) -> &[Outage] {
        &self.spans
    }

    /// Outages with their own figures: the first ones.
    pub fn each(&self) -> impl ExactSizeIterator<Item = (&Outage, &Hit)> {
        self.spans.iter().zip(&self.each)
    }

    /// The figures of all outages together.
    pub fn all(&self) -> &Hit {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;
    use crate::workload::arrival::{Arrival, ClassId};

    fn row(arrival: u64, end: u64, outcome: Outcome) -> RequestRow {
        let arrival = Arrival { class: ClassId(0), ..Arrival::new(Time(arrival), 10, 5) };
        let row = RequestRow::without_service(0, 0, &arrival, outcome, Time(end));
        RequestRow { arrival: arrival.at, first_token: Some(Time(end)), ..row }
    }

    fn spans(outages: &Outages) -> Vec<(u64, u64, u32)> {
        outages.spans().iter().map(|span| (span.from.0, span.to.0, span.replicas)).collect()
    }

    #[test]
    fn outages_that_overlap_or_touch_are_one() {
        let mut outages = Outages::default();
        outages.begin(Time(10));
        outages.begin(Time(15));
        outages.end(Time(20));
        outages.end(Time(30));
        outages.begin(Time(30));
        outages.end(Time(40));
        outages.begin(Time(60));
        outages.end(Time(60));
        outages.begin(Time(90));
        assert_eq!(spans(&outages.clone().finish(Time(95))), [(10, 40, 2), (60, 60, 1), (90, 95, 1)]);
        assert_eq!(spans(&outages.finish(Time(70))), [(10, 40, 2), (60, 60, 1)]);
    }

    #[test]
    fn requests_count_for_the_outage_in_which_they_arrived_and_attempts_for_that_in_which_they_were_lost() {
        let mut outages = Outages::default();
        let slo = Slo { ttft: Some(Span(5)), ..Slo::default() };
        outages.begin(Time(10));
        outages.attempt(&row(2, 10, Outcome::Failed), true);
        outages.attempt(&row(11, 11, Outcome::Failed), false);
        outages.attempt(&row(11, 11, Outcome::Expired), true);
        outages.end(Time(20));
        outages.begin(Time(50));
        outages.attempt(&row(45, 50, Outcome::Failed), true);
        outages.end(Time(50));
        for (arrival, end) in [(9, 12), (10, 14), (19, 40), (20, 22), (50, 51), (51, 52)] {
            outages.request(&row(arrival, end, Outcome::Finished), &slo);
        }
        outages.request(&row(11, 11, Outcome::Failed), &slo);
        outages.request(&row(12, 12, Outcome::FailedInTrace), &slo);
        let outages = outages.finish(Time(100));
        let figures = |hit: &Hit| (hit.lost, hit.retried, hit.requests, hit.finished, hit.good, hit.ttft.count());
        let each: Vec<_> = outages.each().map(|(_, hit)| figures(hit)).collect();
        assert_eq!(each, [(2, 1, 3, 2, 1, 2), (1, 1, 1, 1, 1, 1)]);
        assert_eq!(figures(outages.all()), (3, 2, 4, 3, 2, 3));
    }
}
