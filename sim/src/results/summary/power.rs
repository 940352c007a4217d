//! The power of a run beside its requests: energy per token, and what each priority of servers gave.

use super::{Latencies, Summary};
use crate::power::figures::PowerFigures;
use crate::results::rows::{Outcome, RequestRow};

/// What requests on servers of one priority got.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Served {
    /// Finished requests.
    pub finished: u64,
    /// Their output tokens.
    pub tokens: u64,
    /// Their latencies.
    pub latencies: Latencies,
}

impl Served {
    /// A request has ended on such a server.
    pub(crate) fn request(&mut self, row: &RequestRow) {
        if row.outcome != Outcome::Finished {
            return;
        }
        self.finished += 1;
        self.tokens += u64::from(row.output_tokens);
        let Latencies { ttft, tpot, mtpot, e2el } = &mut self.latencies;
        let times = [(ttft, row.ttft()), (tpot, row.tpot()), (mtpot, row.longest_gap), (e2el, Some(row.e2el()))];
        for (histogram, time) in times {
            if let Some(time) = time {
                histogram.record(time.0);
            }
        }
    }
}

/// The power of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct PowerSummary {
    /// The row.
    pub figures: PowerFigures,
    /// Requests on servers of low priority.
    pub low: Served,
    /// Requests on servers of high priority.
    pub high: Served,
}

impl Summary {
    /// Joules of an output token of finished requests: GPUs alone, servers, facility; the last where the site is known.
    pub fn joules_per_token(&self) -> Option<(f64, f64, Option<f64>)> {
        let figures = &self.power.as_ref()?.figures;
        let tokens = self.tokens.finished_output as f64;
        let per = |joules: f64| joules / tokens;
        let facility = self.facility_joules().map(per);
        (tokens > 0.0).then(|| (per(figures.gpu_joules()), per(figures.server_joules()), facility))
    }
}
