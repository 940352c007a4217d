//! The kernel of a fleet: replicas, their lanes, one clock, one sink. It decides nothing: controllers do.

mod doors;
mod lanes;
mod moves;
mod points;

use super::calendar::Calendar;
use super::controller::{Event, Limit, Place, Tick, Timer};
use super::devices::{DeviceSpec, Reading};
use super::drive::{Drive, Effort, Stop, StopReason};
use super::outcome::{Halt, RunError};
use super::pools::Pools;
use super::sink::Sink;
use super::spec::ClusterSpec;
use crate::cost::CostModel;
use crate::digest::{Digest, EventKind};
use crate::partitioners::Sharing;
use crate::results::rows::{Outcome, RequestRow};
use crate::results::speculation::SpeculationFigures;
use crate::serving::Scheduler;
use crate::serving::replica::{Lanes, Limits, Replica};
use crate::time::{Span, Time};
use doors::{Doors, Presence};

pub(super) use doors::Hold;
pub(super) use lanes::Fired;
pub(super) use points::PointCommand;

/// What the calendar holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// A lane's step boundary, by the number of its drive.
    Lane(u32),
    /// A limit of a request, which goes with the request.
    Due { place: Place, limit: Limit },
    /// A controller's timer.
    Timer(Timer),
    /// New shares of the SMs are ready for the lanes of a replica.
    Switch(u32),
    /// KV has come up from a tier below the GPUs of a replica.
    Loaded(u32),
    /// Every replica is settled, for tests.
    Probe,
}

const _: () = assert!(size_of::<Entry>() <= 24);

/// Ranks at equal times: clients leave, requests arrive, then lanes look at what is there.
pub(super) const RANK_PATIENCE: u32 = 0;
pub(super) const RANK_ARRIVAL: u32 = 1;
/// And lane by lane: lanes are rescheduled at different moments with and without jumps, so that their sequence must
/// not matter.
const RANK_LANE: u32 = 2;

/// Requests by where they are (law 1).
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Counts {
    pub(super) arrived: u64,
    pub(super) ended: u64,
    /// With their clients, which will send them again.
    pub(super) resting: u64,
    /// Held by a controller until one of its ticks: ticks go on for them when nothing else happens.
    pub(super) held: u64,
}

/// A fleet in virtual time.
pub(super) struct Kernel<'a> {
    pub(super) replicas: Vec<Replica>,
    /// What the specification calls the schedulers.
    policy: &'static str,
    /// One for each replica.
    schedulers: Vec<Box<dyn Scheduler>>,
    /// How the lanes of each replica share its SMs, if there are several.
    sharing: Vec<Option<Sharing>>,
    /// All lanes, replica by replica.
    pub(super) drives: Vec<Drive>,
    /// Where the lanes of each replica begin, and end.
    first_drive: Vec<usize>,
    /// What steps cost, by pool.
    costs: Vec<&'a mut dyn CostModel>,
    /// Their GPUs, by pool; empty where clocks stay and no work is counted.
    devices: Vec<DeviceSpec>,
    /// Commands on their way, by the number of their tick.
    commands: Vec<Option<PointCommand>>,
    pub(super) readings: Vec<Reading>,
    pub(super) pools: Pools,
    doors: Doors,
    presence: Presence,
    pub(super) calendar: Calendar<Entry>,
    /// Length of the calendar at which it is cleared of what can no longer happen.
    calendar_max: usize,
    ticks: Calendar<Tick>,
    /// Events for the controllers, as soon as the current one has answered.
    notices: Vec<Event<'static>>,
    pub(super) now: Time,
    pub(super) counts: Counts,
    pub(super) digest: Digest,
    pub(super) sink: Sink<'a>,
    /// A fault that a test has planted into the power of the row.
    #[cfg(feature = "planted-faults")]
    pub(super) power_fault: Option<PowerFault>,
}

/// Faults of power that tests plant: a brake that takes three times as long, a meter that takes the clock at the end of a span
/// for that of all of it, limiters that let everything pass.
#[cfg(feature = "planted-faults")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerFault {
    /// The brake comes late.
    LateBrake,
    /// The meter does not hear that a clock changes.
    ClockBlind,
    /// The GPUs' limiters do not look.
    StuckLimiter,
}

impl<'a> Kernel<'a> {
    /// A fleet at time zero, with a scheduler for each replica, and what shares out its SMs if it has several lanes.
    pub(super) fn new(
        spec: &ClusterSpec,
        (schedulers, sharing): (Vec<Box<dyn Scheduler>>, Vec<Option<Sharing>>),
        costs: Vec<&'a mut dyn CostModel>,
        sink: Sink<'a>,
    ) -> Kernel<'a> {
        let pools = Pools::new(spec);
        let count = pools.replicas() as usize;
        // One scheduler for all: they have the same lanes.
        let limits = pools.limits(0);
        let roles = |id: u32| match spec.controllers.disaggregation {
            None => limits.lanes,
            Some(apart) if id < apart.prefill => Lanes::Prefill,
            Some(_) => Lanes::Decode,
        };
        let limits_of = |id| Limits { lanes: roles(id), ..pools.limits(id as usize) };
        let replica = |id| {
            let mut replica = Replica::with_store(id, limits_of(id), &spec.store);
            if let Some(acceptance) = &spec.speculation {
                replica.speculate(acceptance.clone(), spec.seed);
            }
            replica
        };
        let lanes = limits.lanes.work().len();
        let places = (0..count).flat_map(|replica| (0..lanes).map(move |lane| (replica, lane)));
        let entrances = spec.controllers.disaggregation.map_or(count, |apart| apart.prefill as usize);
        Kernel {
            replicas: (0..count as u32).map(replica).collect(),
            policy: spec.scheduler.name(),
            sharing,
            drives: places.map(|at| Drive::new(at, limits, spec)).collect(),
            first_drive: (0..=count).map(|replica| replica * lanes).collect(),
            schedulers,
            costs,
            devices: spec.devices.clone(),
            commands: Vec::new(),
            readings: Vec::new(),
            pools,
            doors: Doors::new(count, entrances),
            presence: Presence::new(count),
            calendar: Calendar::new(),
            calendar_max: 1024,
            ticks: Calendar::new(),
            notices: Vec::new(),
            now: Time::ZERO,
            counts: Counts::default(),
            digest: Digest::default(),
            sink,
            #[cfg(feature = "planted-faults")]
            power_fault: None,
        }
    }

    /// What became of drafts on all replicas, if they speculate.
    pub(super) fn speculation_figures(&self) -> Option<SpeculationFigures> {
        let mut all: Option<SpeculationFigures> = None;
        for figures in self.replicas.iter().filter_map(Replica::speculation_figures) {
            all.get_or_insert_default().add(figures);
        }
        all
    }

    /// Requests that have been sent and have not ended.
    pub(super) fn under_way(&self) -> u64 {
        self.counts.arrived - self.counts.ended
    }

    /// Schedules a controller's timer, for which the run goes on.
    pub(super) fn timer(&mut self, at: Time, rank: u32, timer: Timer) {
        self.calendar.schedule(at, rank, Entry::Timer(timer));
    }

    /// Schedules a controller's timer, for which the run does not go on.
    pub(super) fn tick(&mut self, at: Time, tick: Tick) {
        self.ticks.schedule(at, 0, tick);
    }

    /// The next tick, if it comes before anything else does.
    pub(super) fn due_tick(&mut self, next: Option<Time>) -> Option<(Time, Tick)> {
        let (at, _) = self.ticks.peek()?;
        let due = next.map_or(self.counts.held > 0, |next| at <= next);
        if due { self.ticks.pop() } else { None }
    }

    /// Schedules the end of a client's patience.
    pub(super) fn due(&mut self, at: Time, place: Place, limit: Limit) {
        self.calendar.schedule(at, RANK_PATIENCE, Entry::Due { place, limit });
    }

    /// Drops the limits of requests that have ended, once such entries are the larger part of the calendar.
    pub(super) fn forget_ended(&mut self) {
        if self.calendar.len() < self.calendar_max {
            return;
        }
        let replicas = &self.replicas;
        self.calendar.retain(|entry| match *entry {
            Entry::Due { place, .. } => replicas[place.replica as usize].generation(place.seat) == place.generation,
            Entry::Lane(_) | Entry::Timer(_) | Entry::Switch(_) | Entry::Loaded(_) | Entry::Probe => true,
        });
        self.calendar_max = 2 * self.calendar.len() + 1024;
    }

    /// Queues an event for the controllers.
    pub(super) fn notify(&mut self, event: Event<'static>) {
        self.notices.push(event);
    }

    /// Whether an event for the controllers is queued.
    pub(super) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Takes the queued events for the controllers, the first one first.
    pub(super) fn take_notices(&mut self) -> Vec<Event<'static>> {
        std::mem::take(&mut self.notices)
    }

    /// What steps on a replica cost.
    pub(super) fn cost_of(&mut self, at: usize) -> &mut dyn CostModel {
        &mut *self.costs[self.pools.of(at)]
    }

    /// When the steps end that a replica's first lane has planned; `None` if there are none.
    pub(super) fn free_at(&self, at: usize) -> Option<Time> {
        self.drives[self.first_drive[at]].free_at()
    }

    /// Steps that a replica has completed, and their time [ns], over its lanes.
    pub(super) fn work_of(&self, at: usize) -> (u64, u64) {
        let drives = &self.drives[self.lanes_of(at)];
        drives.iter().fold((0, 0), |sum, drive| (sum.0 + drive.effort.steps, sum.1 + drive.busy_ns()))
    }

    /// The work of all lanes.
    pub(super) fn effort(&self) -> Effort {
        let mut effort = Effort::default();
        self.drives.iter().for_each(|drive| effort.add(&drive.effort));
        effort
    }

    /// The end of an attempt, for the digest.
    pub(super) fn note_end(&mut self, at: usize, row: &RequestRow) {
        let (steps, busy) = self.work_of(at);
        let kind = if row.outcome == Outcome::Finished { EventKind::Finish } else { EventKind::End };
        self.digest.add(self.now, kind, row.request, at as u32, steps, busy);
    }

    /// Makes every lane of a replica plan at its next boundary: something is about to change from outside.
    pub(super) fn interrupt(&mut self, at: usize) -> Result<(), RunError> {
        self.settle(at)?;
        for lane in self.lanes_of(at) {
            let (drive, replica) = (&mut self.drives[lane], &mut self.replicas[at]);
            let cut = drive.interrupt(self.now, StopReason::End, replica, &mut self.sink);
            cut.map_err(|stop| self.stop(at, stop))?;
        }
        Ok(())
    }

    /// Settles every replica, which nothing may notice (law 13).
    pub(super) fn settle_all(&mut self) -> Result<(), RunError> {
        (0..self.replicas.len()).try_for_each(|at| self.settle(at))
    }

    /// Whether no request waits at the end of this moment, and some still run.
    pub(super) fn only_runs(&mut self) -> bool {
        let waits = self.counts.resting > 0 || self.replicas.iter().any(|replica| replica.waiting() > 0);
        !waits
            && self.replicas.iter().any(|replica| replica.running() > 0)
            && self.calendar.peek().is_none_or(|(at, _)| at > self.now)
    }

    /// Ends the run after this moment: what is complete is booked, what is not is dropped.
    pub(super) fn cut_off(&mut self) -> Result<(), RunError> {
        self.now += Span(1);
        self.settle_all()?;
        for drive in 0..self.drives.len() {
            if let Err(stop) = self.drives[drive].close(self.now, &mut self.sink) {
                return Err(self.stop(self.drives[drive].replica, stop));
            }
        }
        self.sink.tally.stop(self.now);
        Ok(())
    }

    /// Laws 1, 2 and 4 over the fleet.
    pub(super) fn audit(&self) -> Result<(), RunError> {
        let mut outstanding = 0;
        for (at, replica) in self.replicas.iter().enumerate() {
            replica.audit().map_err(|what| self.stop(at, Stop::Audit(what)))?;
            outstanding += u64::from(replica.outstanding());
        }
        let Counts { arrived, ended, resting, .. } = self.counts;
        if arrived != ended + outstanding + resting {
            let what = format!("{arrived} arrived, {ended} ended, {outstanding} are here, {resting} will come again");
            return Err(self.stop(0, Stop::Audit(what)));
        }
        Ok(())
    }

    /// Law 14 at the end of a run: no request is left.
    pub(super) fn check_served(&self) -> Result<(), RunError> {
        match self.replicas.iter().position(|replica| replica.outstanding() > 0) {
            Some(at) => Err(self.stop(at, Stop::Stalled)),
            None => Ok(()),
        }
    }

    pub(super) fn stop(&self, at: usize, stop: Stop) -> RunError {
        let replica = at as u32;
        match stop {
            Stop::Plan(e) => RunError::Plan(e),
            Stop::Record(e) => RunError::Record(e),
            Stop::StepTooLong => RunError::StepTooLong { replica, at: self.now },
            Stop::Stalled => Halt::Stalled {
                policy: self.policy,
                replica,
                at: self.now,
                requests: self.replicas[at].outstanding(),
                waiting: self.replicas[at].waiting(),
            }
            .into(),
            Stop::NoProgress => Halt::NoProgress {
                policy: self.policy,
                replica,
                at: self.now,
                requests: self.replicas[at].outstanding(),
                plans: self.replicas[at].barren_max(),
            }
            .into(),
            Stop::Audit(what) => RunError::Audit { replica, at: self.now, what },
        }
    }
}
