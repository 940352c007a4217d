//! A workload that ends early.

use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};

/// The beginning of a workload: so many requests, those up to a time, or both.
pub struct Bounded {
    workload: Box<dyn Workload>,
    left: u64,
    end: Time,
}

impl Bounded {
    /// Cuts a workload. What is not given is no bound.
    pub fn new(workload: Box<dyn Workload>, requests: Option<u64>, duration: Option<Span>) -> Bounded {
        Bounded { workload, left: requests.unwrap_or(u64::MAX), end: Time(duration.map_or(u64::MAX, |span| span.0)) }
    }
}

impl Workload for Bounded {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        if self.left == 0 {
            return Ok(None);
        }
        let arrival = self.workload.next_arrival()?.filter(|arrival| arrival.at <= self.end);
        self.left = if arrival.is_some() { self.left - 1 } else { 0 };
        Ok(arrival)
    }

    fn classes(&self) -> &[String] {
        self.workload.classes()
    }

    fn rows(&self) -> Vec<(&'static str, u64)> {
        self.workload.rows()
    }
}
