//! The figures of a server's life, in memory that does not grow with it.

use std::collections::HashMap;

use overbook_sim::cost::COST_PER_NS;
use overbook_sim::replica::Happened;
use overbook_sim::rows::{RecordError, Recorder, RequestRow};
use overbook_sim::summary::{Fleet, Slo, Summary, Tally};
use overbook_sim::time::{Span, Time};
use overbook_sim::timeline::Timeline;

use crate::driver::{Levels, Observer, StepLog};

/// Gathers figures and hands rows on as they are made. Requests arrive when their HTTP request was there.
pub struct Books<'a> {
    tally: Tally,
    timeline: Timeline,
    recorder: &'a mut dyn Recorder,
    /// The first row that could not be kept; serving goes on, recording does not.
    fault: Option<RecordError>,
    /// When requests that are here were sent.
    sent: HashMap<u64, Time>,
}

impl<'a> Books<'a> {
    /// Empty books that count goodput against `slo`.
    pub fn new(slo: Slo, recorder: &'a mut dyn Recorder) -> Self {
        Books { tally: Tally::new(slo), timeline: Timeline::default(), recorder, fault: None, sent: HashMap::new() }
    }

    /// Closes the books of a replica with a pool of `blocks`.
    ///
    /// # Errors
    /// A row could not be kept.
    pub fn finish(self, blocks: u64) -> Result<(Summary, Timeline), RecordError> {
        let fleet = Fleet { replicas: 1, lanes: 1, blocks, served: None };
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok((self.tally.finish(fleet, &["all".to_owned()]), self.timeline)),
        }
    }

    fn keep(&mut self, write: impl FnOnce(&mut dyn Recorder) -> Result<(), RecordError>) {
        if self.fault.is_none() {
            self.fault = write(self.recorder).err();
        }
    }
}

impl Observer for Books<'_> {
    fn arrived(&mut self, id: u64, scheduled: Time, now: Time) {
        self.sent.insert(id, scheduled.min(now));
        self.timeline.arrival(scheduled.min(now));
    }

    fn held(&mut self, from: Time, to: Time, levels: Levels) {
        let Levels { running, waiting, used_blocks, pool_blocks } = levels;
        self.tally.hold(from, to, running, waiting, used_blocks, pool_blocks);
        self.timeline.hold(from, to, running, waiting, used_blocks);
    }

    fn step(&mut self, step: &StepLog, gaps: u64, plans: u64) {
        let row = &step.row;
        self.tally.gap_ramp_fixed((row.end - row.start).0 * COST_PER_NS, 0, 1, gaps);
        self.tally.step(row);
        self.tally.plans(plans);
        self.timeline.tokens(row.end, u64::from(step.delivered));
        if row.preempted > 0 {
            self.timeline.preempt(row.start, u64::from(row.preempted));
        }
        self.keep(|recorder| recorder.step(row));
    }

    fn happened(&mut self, now: Time, what: &Happened, _: u64, _: u64) {
        match what {
            Happened::FirstToken { .. } => self.timeline.first_token(now),
            Happened::Gap { span: Span(ns) } => self.tally.gaps(*ns, 1),
            Happened::Ended(row) => {
                let sent = self.sent.remove(&row.request).unwrap_or(row.arrival);
                let row = RequestRow { arrival: sent, ..row.clone() };
                self.timeline.finish(now);
                self.tally.request(&row);
                self.keep(|recorder| recorder.request(&row));
            }
            Happened::Admitted { .. } | Happened::Preempted { .. } => {}
        }
    }
}
