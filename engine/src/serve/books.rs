//! The figures of a server's life, in memory that does not grow with it.

use std::collections::HashMap;

use overbook_sim::results::rows::{RecordError, Recorder, RequestRow};
use overbook_sim::results::summary::{Slo, Summary};
use overbook_sim::results::timeline::Timeline;
use overbook_sim::serving::replica::{Happened, Limits};
use overbook_sim::time::Time;

use crate::driver::{Ledger, Levels, Observer, StepLog};

/// Gathers figures and hands rows on as they are made. Requests arrive when their HTTP request was there.
pub struct Books<'a> {
    ledger: Ledger,
    recorder: &'a mut dyn Recorder,
    /// The first row that could not be kept; serving goes on, recording does not.
    fault: Option<RecordError>,
    /// When requests that are here were sent.
    sent: HashMap<u64, Time>,
}

impl<'a> Books<'a> {
    /// Empty books that count goodput against `slo`.
    pub fn new(slo: Slo, recorder: &'a mut dyn Recorder) -> Self {
        Books { ledger: Ledger::new(slo), recorder, fault: None, sent: HashMap::new() }
    }

    /// Closes the books of a replica.
    ///
    /// # Errors
    /// A row could not be kept.
    pub fn finish(self, limits: &Limits) -> Result<(Summary, Timeline), RecordError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.ledger.finish(limits.lanes.work().len() as u32, limits.blocks, &["all".to_owned()])),
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
        self.ledger.timeline.arrival(scheduled.min(now));
    }

    fn held(&mut self, from: Time, to: Time, levels: Levels) {
        self.ledger.held(from, to, levels);
    }

    fn step(&mut self, step: &StepLog, gaps: u64, plans: u64) {
        self.ledger.step(step, gaps, plans);
        self.keep(|recorder| recorder.step(&step.row));
    }

    fn happened(&mut self, now: Time, what: &Happened, _: u64, _: u64) {
        match what {
            Happened::FirstToken { ttft, .. } => self.ledger.timeline.first_token(now, *ttft),
            Happened::Gap { span } => self.ledger.gap(*span),
            Happened::Ended(row) => {
                let sent = self.sent.remove(&row.request).unwrap_or(row.arrival);
                let row = RequestRow { arrival: sent, ..row.clone() };
                self.ledger.ended(&row);
                self.keep(|recorder| recorder.request(&row));
            }
            Happened::Admitted { .. } | Happened::Preempted { .. } => {}
        }
    }
}
