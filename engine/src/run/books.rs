//! The figures of a real run, by the very definitions that simulated runs have.

use overbook_sim::cluster::{Effort, RunResult};
use overbook_sim::cost::COST_PER_NS;
use overbook_sim::digest::{Digest, Kind};
use overbook_sim::replica::Happened;
use overbook_sim::rows::{Outcome, RequestRow};
use overbook_sim::summary::{Fleet, Slo, Tally};
use overbook_sim::time::{Span, Time};
use overbook_sim::timeline::Timeline;
use tokio::sync::mpsc::UnboundedSender;

use crate::driver::{Levels, Observer, StepLog};

/// What a run writes down while it goes on.
#[derive(Debug)]
pub(super) struct Books {
    tally: Tally,
    timeline: Timeline,
    digest: Digest,
    effort: Effort,
    end: Time,
    /// When each request was to be sent, and the turn that took it in; by number.
    pub(super) arrivals: Vec<(Time, Time)>,
    /// Rows as the replica saw them: requests arrive in the turn that took them in.
    pub(super) seen: Vec<RequestRow>,
    /// Rows as clients see them: requests arrive when they were to be sent.
    pub(super) rows: Vec<RequestRow>,
    pub(super) steps: Vec<StepLog>,
    /// Hears of every request that ends.
    ended: Option<UnboundedSender<u64>>,
}

impl Books {
    pub(super) fn new(slo: Slo, ended: UnboundedSender<u64>) -> Self {
        Books {
            tally: Tally::new(slo),
            timeline: Timeline::default(),
            digest: Digest::default(),
            effort: Effort::default(),
            end: Time::ZERO,
            arrivals: Vec::new(),
            seen: Vec::new(),
            rows: Vec::new(),
            steps: Vec::new(),
            ended: Some(ended),
        }
    }

    /// Nothing ends any more.
    pub(super) fn close(&mut self) {
        self.ended = None;
    }

    /// Closes the books of a run on one replica with a pool of `blocks`.
    pub(super) fn finish(&mut self, blocks: u64, classes: &[String], interrupted: bool) -> RunResult {
        let fleet = Fleet { replicas: 1, lanes: 1, blocks, served: None };
        let tally = std::mem::replace(&mut self.tally, Tally::new(Slo::default()));
        RunResult {
            summary: tally.finish(fleet, classes),
            timeline: std::mem::take(&mut self.timeline),
            end: self.end,
            digest: self.digest,
            effort: self.effort,
            interrupted,
        }
    }

    fn ended(&mut self, now: Time, row: &RequestRow, steps: u64, busy: u64) {
        let kind = if row.outcome == Outcome::Finished { Kind::Finish } else { Kind::End };
        self.digest.add(now, kind, row.request, 0, steps, busy);
        self.seen.push(row.clone());
        let (scheduled, _) = self.arrivals[row.request as usize];
        let row = RequestRow { arrival: scheduled.min(row.arrival), ..row.clone() };
        self.timeline.finish(now);
        self.tally.request(&row);
        self.rows.push(row.clone());
        self.ended.as_ref().map(|ended| ended.send(row.request));
    }
}

impl Observer for Books {
    fn arrived(&mut self, id: u64, scheduled: Time, now: Time) {
        debug_assert_eq!(id, self.arrivals.len() as u64);
        self.arrivals.push((scheduled, now));
        self.timeline.arrival(scheduled.min(now));
    }

    fn held(&mut self, from: Time, to: Time, levels: Levels) {
        let Levels { running, waiting, used_blocks, pool_blocks } = levels;
        self.tally.hold(from, to, running, waiting, used_blocks, pool_blocks);
        self.timeline.hold(from, to, running, waiting, used_blocks);
        self.end = to;
    }

    fn step(&mut self, step: &StepLog, gaps: u64, plans: u64) {
        let row = &step.row;
        self.tally.gap_ramp_fixed((row.end - row.start).0 * COST_PER_NS, 0, 1, gaps);
        self.tally.step(row);
        self.tally.plans(plans);
        self.effort.steps += 1;
        self.effort.plans += plans;
        self.effort.unavoidable += plans;
        self.timeline.tokens(row.end, u64::from(step.delivered));
        if row.preempted > 0 {
            self.timeline.preempt(row.start, u64::from(row.preempted));
        }
        self.steps.push(step.clone());
    }

    fn happened(&mut self, now: Time, what: &Happened, steps: u64, busy: u64) {
        let (kind, request) = match what {
            Happened::Admitted { request } => (Kind::Admit, *request),
            Happened::FirstToken { request, .. } => {
                self.timeline.first_token(now);
                (Kind::FirstToken, *request)
            }
            Happened::Preempted { request } => (Kind::Preempt, *request),
            Happened::Gap { span: Span(ns) } => return self.tally.gaps(*ns, 1),
            Happened::Ended(row) => return self.ended(now, row, steps, busy),
        };
        self.digest.add(now, kind, request, 0, steps, busy);
    }
}
