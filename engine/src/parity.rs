//! Law 12: given when requests came in and how long steps took, the simulator makes the engine's batches, preemptions and
//! evictions. A check that the two drive the serving code alike. It says nothing of how well steps are predicted.

use std::collections::{BTreeMap, VecDeque};

use overbook_sim::cost::{COST_PER_NS, Cost, CostModel, DecodeCost, DecodeParts, Parts, StepCost, StepShape};
use overbook_sim::fleet::{Cluster, ClusterSpec, Controllers, Patience, RunError, Traffic};
use overbook_sim::kv::{KvTraffic, StoreSpec};
use overbook_sim::partitioners::ShareScaling;
use overbook_sim::results::rows::{Outcome, RecordError, Recorder, RequestRow, StepRow};
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::time::Span;
use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};

use crate::run::Measured;

/// What a replay found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parity {
    /// Steps compared: batches, contexts, blocks, preemptions, times.
    pub steps: usize,
    /// Requests compared: every column of their rows.
    pub requests: usize,
    /// Rows that differ, or that only one of the two has.
    pub differences: usize,
    /// The first of them, in words.
    pub first: Vec<String>,
    /// Whether the digests of all events agree.
    pub digest: bool,
}

impl Parity {
    /// Whether nothing differs.
    pub fn holds(&self) -> bool {
        self.differences == 0 && self.digest
    }
}

/// How many differences are put into words.
const TOLD: usize = 8;

/// The arrivals of a run, as its replica saw them.
struct Recorded {
    arrivals: VecDeque<Arrival>,
}

impl Workload for Recorded {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        Ok(self.arrivals.pop_front())
    }

    fn classes(&self) -> &[String] {
        &[]
    }
}

/// What the steps of a run took, one after the other.
struct Durations {
    left: VecDeque<u64>,
    last: Cost,
}

impl Durations {
    fn next(&mut self) -> Cost {
        // More steps than the engine made are a difference, which the rows show.
        self.last = Cost(self.left.pop_front().unwrap_or(1) * COST_PER_NS);
        self.last
    }
}

impl CostModel for Durations {
    fn step(&mut self, _: &StepShape<'_>) -> StepCost {
        StepCost { device: self.next(), host: Cost(0) }
    }

    fn decode(&mut self, _: u32, _: u64) -> DecodeCost {
        DecodeCost { base: self.next(), per_context: Cost(0), valid_below: u64::MAX, host: Cost(0) }
    }

    // What was measured whole has no parts: no clock changes it.
    fn parts(&mut self, _: &StepShape<'_>) -> Parts {
        Parts::host(self.last)
    }

    fn decode_parts(&mut self, _: u32, _: u64) -> DecodeParts {
        DecodeParts { base: Parts::host(self.last), per_context: Parts::default() }
    }
}

#[derive(Default)]
struct Rows {
    requests: Vec<RequestRow>,
    steps: Vec<StepRow>,
}

impl Recorder for Rows {
    fn request(&mut self, row: &RequestRow) -> Result<(), RecordError> {
        self.requests.push(row.clone());
        Ok(())
    }

    fn step(&mut self, row: &StepRow) -> Result<(), RecordError> {
        self.steps.push(row.clone());
        Ok(())
    }
}

/// Arrivals as the replica saw them, of requests as they were sent. The replay gets what the engine found out: how long
/// outputs were, and when clients gave up ([`gave_up`]).
fn as_seen(measured: &Measured) -> VecDeque<Arrival> {
    let mut sent = measured.sent.clone();
    for row in &measured.seen {
        let arrival = &mut sent[row.request as usize];
        arrival.at = row.arrival;
        match row.outcome {
            Outcome::Finished => arrival.output_tokens = row.output_tokens,
            Outcome::Cancelled => arrival.cancel_after = Some(row.end - row.arrival),
            Outcome::Expired | Outcome::Rejected | Outcome::Failed | Outcome::FailedInTrace => {}
        }
    }
    sent.into()
}

/// When clients gave up, by request: at the turn that found them late, and not at their deadlines. Those stay what they were, since
/// policies go by them.
fn gave_up(measured: &Measured) -> BTreeMap<u64, Span> {
    let expired = measured.seen.iter().filter(|row| row.outcome == Outcome::Expired);
    expired.map(|row| (row.request, row.end - row.arrival)).collect()
}

/// The scheduler, with lanes that take as long as they did, whatever they share.
fn unscaled(scheduler: &SchedulerSpec) -> SchedulerSpec {
    let mut scheduler = scheduler.clone();
    if let SchedulerSpec::SemiPd(spec) = &mut scheduler {
        spec.scaling = ShareScaling { prefill: 0.0, decode: 0.0 };
    }
    scheduler
}

/// Replays a run on the simulator.
///
/// # Errors
/// The simulator stops: a difference too large to go on with.
pub fn replay(spec: &ClusterSpec, measured: &Measured) -> Result<Parity, RunError> {
    let stores = spec.store != StoreSpec::default();
    let spec = ClusterSpec {
        jumps: false,
        traffic: Traffic { client_time: spec.traffic.client_time, drain: spec.traffic.drain, ..Traffic::default() },
        controllers: Controllers {
            patience: Patience::default(),
            gave_up: gave_up(measured),
            // Measured steps took what they took at the clocks that there were.
            points: Vec::new(),
            readings: Vec::new(),
            ..spec.controllers.clone()
        },
        scheduler: unscaled(&spec.scheduler),
        devices: Vec::new(),
        // Copies are part of the steps that follow them.
        store: spec.store.instant(),
        ..spec.clone()
    };
    let mut workload = Recorded { arrivals: as_seen(measured) };
    // Steps are priced as they are planned, and written down as they end.
    let mut planned: Vec<(u64, u64)> =
        measured.steps.iter().map(|step| (step.number, (step.row.end - step.row.start).0)).collect();
    planned.sort_unstable();
    let mut cost = Durations { left: planned.into_iter().map(|(_, length)| length).collect(), last: Cost(0) };
    let mut rows = Rows::default();
    let result = Cluster::new(spec)?.run(&mut workload, &mut cost, &mut rows, &mut |_| true)?;
    let mut parity = Parity {
        steps: measured.steps.len(),
        requests: measured.seen.len(),
        differences: 0,
        first: Vec::new(),
        digest: result.digest == measured.result.digest,
    };
    let steps: Vec<StepRow> = measured.steps.iter().map(|step| step.row.clone()).collect();
    compare("step", &steps, &rows.steps, &mut parity);
    let by_number = |mut rows: Vec<RequestRow>| {
        rows.sort_by_key(|row| row.request);
        rows
    };
    compare("request", &by_number(measured.seen.clone()), &by_number(rows.requests), &mut parity);
    if stores {
        let [ours, theirs] = [&measured.result, &result].map(|run| run.summary.kv.as_ref().map(untimed));
        compare("prefix cache", ours.as_slice(), theirs.as_slice(), &mut parity);
    }
    Ok(parity)
}

/// What has gone through a store, without the time that it took.
fn untimed(traffic: &KvTraffic) -> KvTraffic {
    let mut traffic = traffic.clone();
    traffic.tiers.iter_mut().for_each(|tier| tier.traffic.busy = 0);
    traffic
}

fn compare<T: PartialEq + std::fmt::Debug>(what: &str, engine: &[T], simulator: &[T], parity: &mut Parity) {
    for index in 0..engine.len().max(simulator.len()) {
        let (ours, theirs) = (engine.get(index), simulator.get(index));
        if ours == theirs {
            continue;
        }
        parity.differences += 1;
        if parity.first.len() < TOLD {
            let tell = |row: Option<&T>| row.map_or("nothing".to_owned(), |row| format!("{row:?}"));
            parity.first.push(format!("{what} {index}: engine {}, simulator {}", tell(ours), tell(theirs)));
        }
    }
}
