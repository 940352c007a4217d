//! Figures of each pool of a fleet whose replicas differ.

use super::tally::meets;
use super::{Latencies, Slo};
use crate::results::rows::{Outcome, RequestRow};
use crate::time::Span;

/// What the replicas of one pool have done.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PoolSummary {
    /// What reports call it.
    pub name: String,
    /// Replicas.
    pub replicas: u32,
    /// Lanes of all its replicas together.
    pub lanes: u32,
    /// KV blocks of all its replicas together.
    pub blocks: u64,
    /// Requests that finished here.
    pub finished: u64,
    /// Those of them that met the [`Slo`].
    pub good: u64,
    /// Requests that ended here in another way.
    pub others: u64,
    /// Tokens delivered to the finished requests.
    pub output_tokens: u64,
    /// Latencies of the finished requests.
    pub latencies: Latencies,
    /// Time in steps, summed over lanes.
    pub busy: Span,
}

impl PoolSummary {
    /// A request has ended on one of the replicas.
    pub(crate) fn request(&mut self, row: &RequestRow, slo: &Slo) {
        match row.outcome {
            Outcome::Finished => {}
            // No replica has seen it.
            Outcome::FailedInTrace => return,
            _ => return self.others += 1,
        }
        let (ttft, tpot, gap, e2el) = (row.ttft(), row.tpot(), row.longest_gap, Some(row.e2el()));
        let Latencies { ttft: first, tpot: each, mtpot: longest, e2el: whole } = &mut self.latencies;
        for (histogram, value) in [(first, ttft), (each, tpot), (longest, gap), (whole, e2el)] {
            if let Some(value) = value {
                histogram.record(value.0);
            }
        }
        self.finished += 1;
        self.output_tokens += u64::from(row.output_tokens);
        let promises = [(ttft, slo.ttft), (tpot, slo.tpot), (gap, slo.mtpot), (e2el, slo.e2el)];
        self.good += u64::from(promises.into_iter().all(|(value, limit)| meets(value, limit)));
    }

    /// Share of the makespan in which a lane was busy, 0 to 1.
    pub fn utilization(&self, makespan: Span) -> Option<f64> {
        let there = makespan.as_secs_f64() * f64::from(self.lanes);
        (there > 0.0).then(|| self.busy.as_secs_f64() / there)
    }
}
