//! The figures of real steps and requests, by the definitions that simulated ones have.

use overbook_sim::cost::COST_PER_NS;
use overbook_sim::results::rows::RequestRow;
use overbook_sim::results::summary::{Fleet, Slo, Summary, Tally};
use overbook_sim::results::timeline::Timeline;
use overbook_sim::time::{Span, Time};

use super::{Levels, StepLog};

/// What every book of a driver has: running sums and levels over time.
#[derive(Debug)]
pub(crate) struct Ledger {
    tally: Tally,
    pub(crate) timeline: Timeline,
}

impl Ledger {
    /// Empty; goodput counts against `slo`.
    pub(crate) fn new(slo: Slo) -> Self {
        Ledger { tally: Tally::new(slo), timeline: Timeline::default() }
    }

    /// Levels stood.
    pub(crate) fn held(&mut self, from: Time, to: Time, levels: Levels) {
        let Levels { running, waiting, used_blocks, pool_blocks } = levels;
        self.tally.hold(from, to, running, waiting, used_blocks, pool_blocks);
        self.timeline.hold(from, to, running, waiting, used_blocks);
    }

    /// A step was completed.
    pub(crate) fn step(&mut self, step: &StepLog, gaps: u64, plans: u64) {
        let row = &step.row;
        self.tally.gap_ramp_fixed((row.end - row.start).0 * COST_PER_NS, 0, 1, gaps);
        self.tally.step(row);
        self.tally.plans(plans);
        self.timeline.tokens(row.end, u64::from(step.delivered));
        if row.preempted > 0 {
            self.timeline.preempt(row.start, u64::from(row.preempted));
        }
    }

    /// A token came after a gap other than its step.
    pub(crate) fn gap(&mut self, span: Span) {
        self.tally.gaps(span.0, 1);
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, row: &RequestRow) {
        self.timeline.finish(row.end);
        self.tally.request(row);
    }

    /// The figures, of one replica of so many lanes with a pool of `blocks`.
    pub(crate) fn finish(self, lanes: u32, blocks: u64, classes: &[String]) -> (Summary, Timeline) {
        let fleet = Fleet { replicas: 1, lanes, blocks, served: None, gpu_time: None };
        (self.tally.finish(fleet, classes), self.timeline)
    }
}
