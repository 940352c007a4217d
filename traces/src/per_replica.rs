//! One generated workload for every replica: each has its own clients, who send their requests there.
//!
//! What replica `k` gets does not depend on how many there are, so that fleets of several sizes are compared on the same requests.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use overbook_sim::counter::keyed;
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};

use crate::error::GenerateError;
use crate::generate::{GenerateSpec, Generator};
use crate::lengths::Keeps;

/// Generated workloads side by side, merged by time; of equal times that of the lower replica comes first.
pub struct PerReplica {
    sources: Vec<Generator>,
    /// The next request of each, and when.
    next: Vec<Option<Arrival>>,
    due: BinaryHeap<Reverse<(Time, u32)>>,
    classes: Vec<String>,
}

impl PerReplica {
    /// One workload for each replica, with the classes that it serves.
    ///
    /// # Errors
    /// [`GenerateError::Spec`] if there are [`problems`](GenerateSpec::problems), or a replica serves classes that there are none of.
    pub fn open(spec: &GenerateSpec, seed: u64, replicas: &[Keeps]) -> Result<PerReplica, GenerateError> {
        if let Some(kept) = replicas.iter().find(|kept| !kept.keeps_any(&spec.lengths)) {
            let which = if *kept == Keeps::Low { "low priority (1 or more)" } else { "high priority (0 or less)" };
            let told = format!(
                "have no class of {which}, and some replicas serve nothing else; state each class's `priority`"
            );
            return Err(GenerateError::Spec(vec![("lengths".to_owned(), told)]));
        }
        let one = |(&keeps, number): (&Keeps, u64)| spec.keeping(keyed(seed, number), keeps);
        let sources = replicas.iter().zip(0..).map(one).collect::<Result<Vec<Generator>, GenerateError>>()?;
        let classes = sources.first().map_or_else(Vec::new, |source| source.classes().to_vec());
        let next = vec![None; sources.len()];
        let mut all = PerReplica { sources, next, due: BinaryHeap::new(), classes };
        for number in 0..all.sources.len() {
            all.read(number)?;
        }
        Ok(all)
    }

    fn read(&mut self, number: usize) -> Result<(), GenerateError> {
        let home = number as u32;
        self.next[number] = self.sources[number].next_request()?.map(|arrival| {
            self.due.push(Reverse((arrival.at, home)));
            Arrival { home: Some(home), ..arrival }
        });
        Ok(())
    }
}

impl Workload for PerReplica {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        let Some(Reverse((_, home))) = self.due.pop() else { return Ok(None) };
        let arrival = self.next[home as usize].take();
        self.read(home as usize)?;
        Ok(arrival)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}
