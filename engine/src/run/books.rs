//! The figures of a real run, by the very definitions that simulated runs have.

use overbook_sim::digest::{Digest, EventKind};
use overbook_sim::fleet::{Effort, RunResult};
use overbook_sim::results::rows::{Outcome, RequestRow};
use overbook_sim::results::summary::Slo;
use overbook_sim::serving::replica::{Happened, Limits};
use overbook_sim::time::Time;
use tokio::sync::mpsc::UnboundedSender;

use crate::driver::{Ledger, Levels, Observer, StepLog};

/// What a run writes down while it goes on.
#[derive(Debug)]
pub(super) struct Books {
    ledger: Ledger,
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
            ledger: Ledger::new(slo),
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

    /// Up to when the books go.
    pub(super) fn end(&self) -> Time {
        self.end
    }

    /// Nothing ends any more.
    pub(super) fn close(&mut self) {
        self.ended = None;
    }

    /// Closes the books of a run on one replica.
    pub(super) fn finish(&mut self, limits: &Limits, classes: &[String], interrupted: bool) -> RunResult {
        let ledger = std::mem::replace(&mut self.ledger, Ledger::new(Slo::default()));
        let (summary, timeline) = ledger.finish(limits.lanes.work().len() as u32, limits.blocks, classes);
        RunResult {
            summary,
            timeline,
            readings: Vec::new(),
            end: self.end,
            digest: self.digest,
            effort: self.effort,
            interrupted,
            halted: None,
        }
    }

    fn ended(&mut self, now: Time, row: &RequestRow, steps: u64, busy: u64) {
        let kind = if row.outcome == Outcome::Finished { EventKind::Finish } else { EventKind::End };
        self.digest.add(now, kind, row.request, 0, steps, busy);
        self.seen.push(row.clone());
        let (scheduled, _) = self.arrivals[row.request as usize];
        let row = RequestRow { arrival: scheduled.min(row.arrival), ..row.clone() };
        self.ledger.ended(&row);
        self.rows.push(row.clone());
        self.ended.as_ref().map(|ended| ended.send(row.request));
    }
}

impl Observer for Books {
    fn arrived(&mut self, id: u64, scheduled: Time, now: Time) {
        assert_eq!(id, self.arrivals.len() as u64);
        self.arrivals.push((scheduled, now));
        self.ledger.timeline.arrival(scheduled.min(now));
    }

    fn held(&mut self, from: Time, to: Time, levels: Levels) {
        self.ledger.held(from, to, levels);
        self.end = to;
    }

    fn step(&mut self, step: &StepLog, gaps: u64, plans: u64) {
        self.ledger.step(step, gaps, plans);
        self.effort.steps += 1;
        self.effort.plans += plans;
        self.effort.unavoidable += plans;
        self.steps.push(step.clone());
    }

    fn happened(&mut self, now: Time, what: &Happened, steps: u64, busy: u64) {
        let (kind, request) = match what {
            Happened::Admitted { request } => (EventKind::Admit, *request),
            Happened::FirstToken { request, ttft, .. } => {
                self.ledger.timeline.first_token(now, *ttft);
                (EventKind::FirstToken, *request)
            }
            Happened::Preempted { request } => (EventKind::Preempt, *request),
            Happened::Gap { span } => return self.ledger.gap(*span),
            Happened::Ended(row) => return self.ended(now, row, steps, busy),
        };
        self.digest.add(now, kind, request, 0, steps, busy);
    }
}
