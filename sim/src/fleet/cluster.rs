//! The fleet as a user runs it: takes events from the calendar and the workload in order, hands them to the controllers, and
//! carries out their actions.

mod follow;

use super::controller::{Action, Controller, Event, Place, Placement, Tick, Topics};
use super::controllers;
use super::drive::Stop;
use super::intake::Intake;
use super::kernel::{Entry, Fired, Kernel, PointCommand, RANK_ARRIVAL, RANK_PATIENCE};
use super::outcome::{Halt, Progress, RunError, RunResult};
use super::policies::Policies;
use super::pools::{Pools, ReplicaPool};
use super::sink::Sink;
use super::spec::{ClusterSpec, Controllers};
use crate::cost::CostModel;
use crate::digest::EventKind;
use crate::kv::eviction::BlockEviction;
use crate::kv::retention::RetentionFigures;
use crate::kv::{KvTraffic, StoreSpec};
use crate::partitioners::{FirstToken, Sharing};
use crate::results::rows::{Outcome, Recorder, RequestRow};
use crate::results::summary::Fleet;
use crate::routers::Router;
use crate::serving::Scheduler;
use crate::serving::replica::{CacheKind, Happened, Limits, Replica};
use crate::time::{Span, Time};
use crate::workload::arrival::{Arrival, Workload};

/// A fleet that has not run yet.
#[derive(Debug)]
pub struct Cluster {
    spec: ClusterSpec,
    schedulers: Vec<Box<dyn Scheduler>>,
    sharing: Vec<Option<Sharing>>,
    router: Box<dyn Router>,
    /// Of each replica; empty where the policy of the specification's store says what goes.
    evictions: Vec<Box<dyn BlockEviction>>,
    probes: Vec<Time>,
    #[cfg(feature = "planted-faults")]
    planted: Option<super::StopReason>,
    #[cfg(feature = "planted-faults")]
    leak: Option<super::Leak>,
    #[cfg(feature = "planted-faults")]
    power: Option<super::PowerFault>,
}

/// Events between two calls of the watcher.
const WATCH_EVERY: u64 = 1 << 14;

impl Cluster {
    /// A fleet at time zero.
    ///
    /// # Errors
    /// The pool cannot hold a single request of the maximal length.
    pub fn new(spec: ClusterSpec) -> Result<Self, RunError> {
        let policies = Policies::from(&spec);
        Cluster::with_policies(spec, &policies)
    }

    /// A fleet at time zero with these policies in place of those that `spec` names.
    ///
    /// # Errors
    /// The pool cannot hold a single request of the maximal length.
    pub fn with_policies(spec: ClusterSpec, policies: &Policies<'_>) -> Result<Self, RunError> {
        let pools = spec.replica_pools();
        pools.iter().try_for_each(ReplicaPool::holds_the_longest)?;
        pools.iter().try_for_each(|pool| pool.can_speculate(&spec))?;
        let replicas: u32 = pools.iter().map(|pool| pool.replicas).sum();
        let mut evictions = Vec::new();
        if let Some(make) = &policies.eviction {
            let limits: Vec<Limits> =
                pools.iter().flat_map(|pool| std::iter::repeat_n(pool.limits, pool.replicas as usize)).collect();
            limits.iter().try_for_each(evicts_blocks)?;
            // A cache numbers its blocks by 32 bits.
            let blocks = |limits: &Limits| u32::try_from(limits.blocks).unwrap_or(u32::MAX - 3);
            evictions = (0..).zip(&limits).map(|(replica, limits)| make(spec.seed, replica, blocks(limits))).collect();
        }
        Ok(Cluster {
            schedulers: (0..replicas).map(|replica| (policies.scheduler)(spec.seed, replica)).collect(),
            sharing: (0..replicas).map(|replica| (policies.sharing)(replica)).collect(),
            router: (policies.router)(spec.seed),
            evictions,
            probes: Vec::new(),
            #[cfg(feature = "planted-faults")]
            planted: None,
            #[cfg(feature = "planted-faults")]
            leak: None,
            #[cfg(feature = "planted-faults")]
            power: None,
            spec,
        })
    }

    /// Settles every replica at `at`, which nothing may notice (law 13): only for tests.
    #[doc(hidden)]
    pub fn probe(&mut self, at: Time) {
        self.probes.push(at);
    }

    /// Plants an off-by-one into a rule that ends jumps, to prove that the laws' tests have teeth.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, reason: super::StopReason) {
        self.planted = Some(reason);
    }

    /// Plants a block that is not given back, for the same purpose.
    #[cfg(feature = "planted-faults")]
    pub fn plant_leak(&mut self, leak: super::Leak) {
        self.leak = Some(leak);
    }

    /// Plants a fault into the power of the row, for the same purpose.
    #[cfg(feature = "planted-faults")]
    pub fn plant_power(&mut self, fault: super::PowerFault) {
        self.power = Some(fault);
    }

    /// Runs the workload to its end on replicas of one kind. `watch` is called now and then; it returns `false` to stop early.
    ///
    /// # Errors
    /// The workload or the recorder failed, or a policy or the simulator has a bug.
    ///
    /// # Panics
    /// The fleet has several pools.
    pub fn run(
        self,
        workload: &mut dyn Workload,
        cost: &mut dyn CostModel,
        recorder: &mut dyn Recorder,
        watch: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<RunResult, RunError> {
        self.run_pools(workload, &mut [cost], recorder, watch)
    }

    /// Runs the workload to its end, with what steps cost in each pool.
    ///
    /// # Errors
    /// As [`Cluster::run`].
    ///
    /// # Panics
    /// There are not as many cost models as pools, or as many devices, if there are any. Points, readings or limiters are asked for without them, or points
    /// of replicas or lanes that there are not.
    pub fn run_pools(
        self,
        workload: &mut dyn Workload,
        costs: &mut [&mut dyn CostModel],
        recorder: &mut dyn Recorder,
        watch: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<RunResult, RunError> {
        let Cluster { spec, schedulers, sharing, router, evictions, probes, .. } = self;
        assert_eq!(costs.len(), spec.pools.len().max(1), "one cost model per pool");
        assert!(spec.devices.is_empty() || spec.devices.len() == costs.len(), "devices: none, or one per pool");
        let Controllers { points, readings, .. } = &spec.controllers;
        let asked = !(points.is_empty() && readings.is_empty() && spec.limiter.is_none());
        assert!(
            !asked || !spec.devices.is_empty(),
            "points, readings and limiters need `ClusterSpec::devices`, one for each pool"
        );
        let intake = Intake::new(workload, spec.traffic.max_concurrency)?;
        let controllers = controllers::build(&spec, router, &Pools::new(&spec), intake.has_sessions());
        let costs: Vec<&mut dyn CostModel> = costs.iter_mut().map(|cost| &mut **cost as &mut dyn CostModel).collect();
        let mut kernel = Kernel::new(&spec, (schedulers, sharing), costs, Sink::new(spec.slo, recorder));
        let evicts = !evictions.is_empty();
        for (replica, policy) in kernel.replicas.iter_mut().zip(evictions) {
            replica.evict_by(policy, &spec.store);
        }
        #[cfg(feature = "planted-faults")]
        if let Some(reason) = self.planted {
            kernel.drives.iter_mut().for_each(|drive| drive.plant(reason));
        }
        #[cfg(feature = "planted-faults")]
        if let Some(leak) = self.leak {
            kernel.replicas.iter_mut().for_each(|replica| replica.plant(leak));
        }
        #[cfg(feature = "planted-faults")]
        {
            kernel.power_fault = self.power;
        }
        for at in probes {
            kernel.calendar.schedule(at, RANK_PATIENCE, Entry::Probe);
        }
        let topics: Vec<Topics> = controllers.iter().map(|controller| controller.hears()).collect();
        let heard = topics.iter().fold(Topics::NONE, |all, &topics| all.and(topics));
        Running { spec: &spec, evicts, kernel, intake, controllers, topics, heard }.run(watch)
    }
}

/// Refuses an eviction policy where nothing would ask it.
fn evicts_blocks(limits: &Limits) -> Result<(), RunError> {
    match (limits.prefix_caching, limits.cache) {
        (true, CacheKind::Blocks) => Ok(()),
        (true, CacheKind::Tree) => {
            Err(RunError::Eviction("the scheduler's prefix cache is a tree of runs with an order of its own"))
        }
        (false, _) => Err(RunError::Eviction("prefix caching is off")),
    }
}

/// A fleet that runs.
struct Running<'a> {
    spec: &'a ClusterSpec,
    /// Whether a policy outside the specification says which cached blocks go.
    evicts: bool,
    kernel: Kernel<'a>,
    intake: Intake<'a>,
    controllers: Vec<Box<dyn Controller>>,
    /// What each controller hears, and what any of them does.
    topics: Vec<Topics>,
    heard: Topics,
}

impl Running<'_> {
    fn run(mut self, watch: &mut dyn FnMut(Progress) -> bool) -> Result<RunResult, RunError> {
        let (interrupted, halted) = match self.go(watch) {
            Ok(interrupted) => (interrupted, None),
            Err(RunError::Halted(halt)) => (false, Some(halt)),
            Err(error) => return Err(error),
        };
        if interrupted || halted.is_some() {
            self.kernel.cut_off()?;
        }
        Ok(self.finish(interrupted, halted))
    }

    /// Goes on until nothing is left to do, or the watcher stops it. Returns whether it did.
    fn go(&mut self, watch: &mut dyn FnMut(Progress) -> bool) -> Result<bool, RunError> {
        self.say(Event::Start)?;
        if self.spec.traffic.clients.is_none() {
            self.intake.open()?;
        }
        let mut events = 0u64;
        while self.turn()? {
            events += 1;
            if self.spec.audit {
                self.kernel.audit()?;
            }
            if !self.spec.traffic.drain && self.intake.exhausted() && self.kernel.only_runs() {
                self.kernel.cut_off()?;
                break;
            }
            if events.is_multiple_of(WATCH_EVERY) && !watch(self.progress()) {
                return Ok(true);
            }
        }
        if self.spec.traffic.drain {
            self.kernel.check_served()?;
        }
        Ok(false)
    }

    fn progress(&self) -> Progress {
        let Kernel { now, counts, .. } = &self.kernel;
        Progress { now: *now, arrived: counts.arrived, ended: counts.ended }
    }

    fn finish(mut self, interrupted: bool, halted: Option<Halt>) -> RunResult {
        for controller in &mut self.controllers {
            controller.finish(&mut self.kernel);
        }
        let effort = self.kernel.effort();
        self.kernel.sink.tally.plans(effort.plans);
        let (from, to) = self.kernel.sink.tally.span();
        for drive in &self.kernel.drives {
            self.kernel.sink.tally.trim_busy(drive.busy_after(to));
            self.kernel.sink.tally.preemptions(drive.unbooked_preemptions());
        }
        let scales = self.kernel.pools.scale();
        let fleet = Fleet {
            replicas: self.kernel.pools.replicas(),
            lanes: self.kernel.drives.len() as u32,
            blocks: self.kernel.replicas.iter().map(|replica| replica.pool().total()).sum(),
            served: scales.then(|| self.kernel.served((from, to), |_| 1)),
            gpu_time: self.kernel.gpu_time(from, to),
        };
        let kv = (self.evicts || self.spec.store != StoreSpec::default()).then(|| {
            let mut traffic = KvTraffic::new(&self.spec.store, self.kernel.pools.limits(0).block_tokens);
            self.kernel.replicas.iter().for_each(|replica| replica.add_kv_traffic(&mut traffic));
            traffic
        });
        let mut retained = RetentionFigures::default();
        self.kernel.replicas.iter().for_each(|replica| retained.add(replica.retained()));
        let speculation = self.kernel.speculation_figures();
        let pools = self.kernel.pools.finish(&self.kernel.drives, to);
        let Kernel { now, digest, readings, sink: Sink { tally, timeline, outages, power, limiter, .. }, .. } =
            self.kernel;
        let mut summary = tally.finish(fleet, self.intake.classes());
        summary.pools = pools;
        summary.kv = kv;
        summary.retained = (retained != RetentionFigures::default()).then_some(retained);
        summary.speculation = speculation;
        summary.outages = outages.finish(to);
        summary.power = power;
        summary.economics = self.spec.economics.clone().map(Box::new);
        summary.limiter = limiter;
        RunResult { summary, timeline, readings, end: now, digest, effort, interrupted, halted }
    }

    /// Handles the next event. Returns `false` when there is none.
    fn turn(&mut self) -> Result<bool, RunError> {
        let on_calendar = self.kernel.calendar.peek();
        let sent = self.intake.next_sent(self.kernel.under_way());
        let next = sent.into_iter().chain(on_calendar.map(|at| at.0)).min();
        if next == Some(Time::MAX) {
            return Err(RunError::EndOfTime { after: self.kernel.now });
        }
        if let Some((at, tick)) = self.kernel.due_tick(next) {
            self.kernel.now = at;
            match tick {
                Tick::Point(number) => {
                    self.kernel.arrived(number).map_or(Ok(()), |command| self.set_point(command))?;
                }
                tick => self.say(Event::Tick(tick))?,
            }
            return Ok(true);
        }
        if let Some(sent) = sent
            && on_calendar.is_none_or(|at| (sent, RANK_ARRIVAL) < at)
        {
            if self.intake.has_sessions() {
                self.kernel.now = sent;
                self.open_session()?;
            } else if let Some(arrival) = self.intake.take(sent, self.kernel.counts.arrived)? {
                self.kernel.now = sent;
                self.arrive(arrival)?;
            }
            return Ok(true);
        }
        let Some((now, entry)) = self.kernel.calendar.pop() else { return Ok(false) };
        assert!(now >= self.kernel.now, "law 3: time never decreases: {now} after {}", self.kernel.now);
        self.kernel.now = now;
        match entry {
            Entry::Lane(lane) => {
                let fired = self.kernel.fire(lane as usize)?;
                self.tell_fired(fired)?;
            }
            Entry::Due { place, limit } => self.say(Event::Due { place, limit })?,
            Entry::Timer(timer) => self.say(Event::Timer(timer))?,
            Entry::Switch(at) => self.kernel.switch(at as usize)?,
            Entry::Loaded(at) => {
                self.disturb(at as usize, Replica::land_loads)?;
                // Those that it was for may have gone: then there is room, and no step of the replica that would say so.
                self.say(Event::Landed { replica: at as usize })?;
            }
            Entry::Probe => self.kernel.settle_all()?,
        }
        Ok(true)
    }

    /// Hands an event to every controller that hears it, and carries out its actions before the next one's turn.
    fn say(&mut self, event: Event<'_>) -> Result<(), RunError> {
        let topic = event.topic();
        if !self.heard.has(topic) {
            return Ok(());
        }
        for at in 0..self.controllers.len() {
            if !self.topics[at].has(topic) {
                continue;
            }
            let actions = self.controllers[at].on(event, &mut self.kernel)?;
            if self.kernel.has_notices() {
                for notice in self.kernel.take_notices() {
                    self.say(notice)?;
                }
            }
            for action in actions {
                self.perform(action)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), RunError> {
        match action {
            Action::Submit { request, arrival } => {
                self.kernel.counts.resting -= 1;
                self.submit(request, Arrival { at: self.kernel.now, ..*arrival })
            }
            Action::Next if self.intake.has_sessions() => self.open_session(),
            Action::Next => match self.intake.take_now(self.kernel.now)? {
                Some(arrival) => self.arrive(arrival),
                None => Ok(()),
            },
            Action::Turn(turn) => match self.intake.send(turn, self.kernel.now, self.kernel.counts.arrived) {
                Some(arrival) => self.arrive(arrival),
                None => Ok(()),
            },
            Action::Follow { request, known, pause } => self.follow(request, known, pause),
            Action::Cancel { place, outcome } => {
                self.disturb(place.replica as usize, |replica, now| {
                    replica.cancel(place.seat, outcome, now);
                })?;
                self.say(Event::Left)
            }
            Action::Fail { replica } => {
                self.disturb(replica, Replica::fail)?;
                self.say(Event::Failed { replica })
            }
            Action::SetPoint { replica, lane, point, delay } => {
                let command = PointCommand { replica, lane, point };
                if delay > Span::ZERO {
                    self.kernel.command(command, delay);
                    return Ok(());
                }
                self.set_point(command)
            }
            Action::Land { request, from, place: Place { replica, seat, .. }, lost } => {
                let to = replica as usize;
                if lost {
                    self.kernel.replicas[to].cancel(seat, Outcome::Failed, self.kernel.now);
                }
                self.disturb(to, |replica, now| replica.land(seat, now))?;
                self.disturb(from, |replica, _| replica.sent(request))?;
                self.say(Event::Landed { replica: to })
            }
        }
    }

    /// Lanes of a replica run at another point from now on.
    fn set_point(&mut self, PointCommand { replica, lane, point }: PointCommand) -> Result<(), RunError> {
        let lanes = lane.map_or(0..self.kernel.lanes(replica), |lane| lane..lane + 1);
        for lane in lanes {
            if let Some(before) = self.kernel.set_point(replica, lane, point)? {
                self.say(Event::Repointed { replica, lane, before })?;
            }
        }
        Ok(())
    }

    /// A client sends a request for the first time.
    fn arrive(&mut self, mut arrival: Arrival) -> Result<(), RunError> {
        let now = self.kernel.now;
        let request = self.kernel.counts.arrived;
        self.kernel.counts.arrived += 1;
        self.kernel.sink.timeline.arrival(now);
        if request == 0 {
            self.kernel.sink.tally.start(now);
        }
        if arrival.failed_in_trace {
            // It ends where it arrives: neither router nor replicas learn of it.
            let row = RequestRow::without_service(request, 0, &arrival, Outcome::FailedInTrace, now);
            self.kernel.digest.add(now, EventKind::End, request, u32::MAX, 0, 0);
            return self.book(&row);
        }
        self.spec.traffic.output_limit.apply(&mut arrival);
        self.say(Event::Arrived { request, arrival: &arrival })?;
        self.submit(request, arrival)
    }

    /// A client sends a request, for the first time or again.
    fn submit(&mut self, request: u64, mut arrival: Arrival) -> Result<(), RunError> {
        let now = self.kernel.now;
        let mut placement = Placement::default();
        for (controller, topics) in self.controllers.iter_mut().zip(&self.topics) {
            if topics.has(Topics::PLACING) {
                controller.place(&mut arrival, &mut placement, &mut self.kernel)?;
                if placement.replica.is_none() || placement.refused {
                    break;
                }
            }
        }
        let Some(at) = placement.replica else {
            let row = RequestRow::without_service(request, 0, &arrival, Outcome::Failed, now);
            self.kernel.digest.add(now, EventKind::End, request, u32::MAX, 0, 0);
            return self.end_attempt(row);
        };
        if placement.refused {
            return self.reject(request, at, &arrival);
        }
        let limits = [arrival.max_wait, arrival.deadline, arrival.cancel_after];
        self.kernel.book_levels(at);
        let seat = match self.kernel.replicas[at].enqueue(request, arrival) {
            Ok(seat) => seat,
            Err(arrival) => return self.reject(request, at, &arrival),
        };
        let moved = self.kernel.queued(at)?;
        if limits.iter().any(Option::is_some) {
            let generation = self.kernel.replicas[at].generation(seat);
            let place = Place { replica: at as u32, seat, generation };
            self.say(Event::Entered { request, place, limits })?;
        }
        if moved {
            self.kernel.look_at_queue(at);
        }
        Ok(())
    }

    fn reject(&mut self, request: u64, at: usize, arrival: &Arrival) -> Result<(), RunError> {
        let row = RequestRow::without_service(request, at as u32, arrival, Outcome::Rejected, self.kernel.now);
        self.kernel.settle(at)?;
        self.kernel.note_end(at, &row);
        self.end_attempt(row)
    }

    /// Hands on what came of a lane's event.
    fn tell_fired(&mut self, fired: Fired) -> Result<(), RunError> {
        let at = fired.replica;
        self.tell(at)?;
        if self.kernel.fired(fired)? {
            self.say(Event::Boundary { replica: at })?;
        }
        Ok(())
    }

    /// Changes a replica from outside: requests that end wait for nothing (they may have blocked the queue), running ones end at
    /// the next boundary.
    fn disturb(&mut self, at: usize, what: impl FnOnce(&mut Replica, Time)) -> Result<(), RunError> {
        self.kernel.interrupt(at)?;
        what(&mut self.kernel.replicas[at], self.kernel.now);
        self.tell(at)?;
        self.kernel.reschedule_all(at);
        Ok(())
    }

    /// Books what happened on a replica.
    fn tell(&mut self, at: usize) -> Result<(), RunError> {
        let now = self.kernel.now;
        let (steps, busy) = self.kernel.work_of(at);
        while let Some(happened) = self.kernel.replicas[at].pop_happened() {
            let (kind, request) = match happened {
                Happened::Admitted { request } => (EventKind::Admit, request),
                Happened::FirstToken { request, ttft, wait, prompt } => {
                    // As targets count it; what runs may change until it ends, whose front end its row has.
                    let running = self.kernel.replicas[at].running();
                    let frontend = self.kernel.pools.frontend_time(at, running, prompt);
                    self.kernel.sink.timeline.first_token(now, ttft + frontend);
                    self.kernel.first_token(at, FirstToken { ttft, wait });
                    (EventKind::FirstToken, request)
                }
                Happened::Preempted { request } => (EventKind::Preempt, request),
                Happened::Gap { span } => {
                    self.kernel.sink.tally.gaps(span.0, 1);
                    continue;
                }
                Happened::Ended(row) => {
                    self.kernel.finished(at, &row);
                    self.kernel.note_end(at, &row);
                    self.end_attempt(row)?;
                    continue;
                }
            };
            self.kernel.digest.add(now, kind, request, at as u32, steps, busy);
        }
        self.say(Event::Told { replica: at })
    }

    /// An attempt has ended: its client sends the request again later, or it ends with it.
    fn end_attempt(&mut self, mut row: RequestRow) -> Result<(), RunError> {
        let mut again = false;
        if self.heard.has(Topics::ENDED) {
            for (controller, topics) in self.controllers.iter_mut().zip(&self.topics) {
                if topics.has(Topics::ENDED) {
                    again |= controller.ended(&mut row, &mut self.kernel).is_some();
                }
            }
        }
        self.kernel.sink.outages.attempt(&row, again);
        if !again {
            return self.book(&row);
        }
        self.kernel.sink.tally.attempt(&row);
        self.kernel.counts.resting += 1;
        Ok(())
    }

    /// A request has ended for good.
    fn book(&mut self, row: &RequestRow) -> Result<(), RunError> {
        let now = self.kernel.now;
        self.intake.ends(now, self.kernel.under_way());
        self.kernel.counts.ended += 1;
        self.kernel.sink.timeline.finish(now);
        self.kernel.sink.tally.request(row);
        if let Some(first) = self.intake.book(row) {
            self.kernel.sink.tally.turn(row, first);
        }
        self.kernel.pools.book(row);
        self.kernel.sink.outages.request(row, &self.spec.slo);
        self.kernel.sink.recorder.request(row).map_err(|error| self.kernel.stop(0, Stop::Record(error)))?;
        self.say(Event::Booked { row })
    }
}
