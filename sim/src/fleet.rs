//! The world: replicas on one calendar, a router, open-loop arrivals or closed-loop clients.

mod attempts;
pub mod calendar;
mod client;
mod door;
mod drive;
mod faults;
mod lanes;
mod outcome;
mod policies;
mod pools;
mod reject;
mod scale;
mod segment;
mod spec;
mod transfer;

use crate::cost::CostModel;
use crate::digest::{Digest, Kind};
use crate::fleet::calendar::Calendar;
use crate::fleet::drive::{Books, Drive, Stop};
use crate::kv::Seat;
use crate::partitioners::{FirstToken, Sharing};
use crate::results::rows::{Outcome, Recorder, RequestRow};
use crate::results::summary::{Fleet, PoolSummary, Tally};
use crate::results::timeline::Timeline;
use crate::routers::{Reports, Router};
use crate::serving::Scheduler;
use crate::serving::replica::{Happened, Lanes, Limits, Replica};
use crate::time::{Span, Time};
use crate::workload::arrival::{Arrival, Unsorted, Workload};

pub use crate::fleet::drive::{Effort, StopReason};
pub use attempts::Retry;
pub use client::ClientTime;
pub use faults::{Failure, Faults};
pub use outcome::{Progress, RunError, RunResult};
pub use policies::Policies;
pub use pools::ReplicaPool;
pub use reject::EarlyRejection;
pub use scale::{Autoscale, ScaleTarget};
pub use spec::{Clients, ClusterSpec, OutputLimit, Patience};
pub use transfer::Disaggregation;

use attempts::Attempts;
use client::ClientTimes;
use faults::Health;
use pools::Costs;
use scale::Scaling;
use transfer::Transfers;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    /// A lane's step boundary, by the number of its drive.
    Lane(u32),
    /// A client's patience ends.
    Patience { replica: u32, seat: Seat, generation: u32, why: Why },
    /// A closed-loop client sends its next request.
    Client,
    /// A replica fails: which of the specified failures.
    Failure(u32),
    /// A client sends its request again.
    Retry(u64),
    /// The KV of a request has arrived at another replica.
    Landed(u32),
    /// New shares of the SMs are ready for the lanes of a replica.
    Switch(u32),
    /// Everybody is settled, for tests.
    Probe,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Why {
    MaxWait,
    Deadline,
    Cancel,
}

const _: () = assert!(size_of::<Event>() <= 24);

/// What happens at its time, but only while the run goes on: none of these keeps a run from its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tick {
    /// The replicas report to the router.
    Report,
    /// A replica fails at random.
    Fault(u32),
    /// A replica is back.
    Back(u32),
    /// The autoscaler decides.
    Scale,
    /// A replica has started.
    Started(u32),
}

/// Ranks at equal times: clients leave, requests arrive, then lanes look at what is there.
const RANK_PATIENCE: u32 = 0;
const RANK_ARRIVAL: u32 = 1;
/// And lane by lane: lanes are rescheduled at different moments with and without jumps, so that their sequence must
/// not matter.
const RANK_LANE: u32 = 2;

/// A fleet in virtual time.
#[derive(Debug)]
pub struct Cluster {
    spec: ClusterSpec,
    replicas: Vec<Replica>,
    /// The pool of each.
    pool_of: Vec<u32>,
    /// What load on each counts for a router; empty where all count the same.
    weights: Vec<u32>,
    /// What each pool has done; empty in a uniform fleet.
    by_pool: Vec<PoolSummary>,
    /// One for each replica.
    schedulers: Vec<Box<dyn Scheduler>>,
    /// How the lanes of each replica share its SMs, if there are several.
    sharing: Vec<Option<Sharing>>,
    transfers: Transfers,
    /// All lanes, replica by replica.
    drives: Vec<Drive>,
    /// Where the lanes of each replica begin, and end.
    first_drive: Vec<usize>,
    router: Box<dyn Router>,
    /// What the router knows, if it does not see the replicas live.
    reports: Option<Reports>,
    /// Replicas that take requests.
    open: Vec<u32>,
    health: Health,
    scaling: Scaling,
    attempts: Attempts,
    client_times: ClientTimes,
    ticks: Calendar<Tick>,
    calendar: Calendar<Event>,
    /// Length of the calendar at which it is cleared of what can no longer happen.
    calendar_max: usize,
    now: Time,
    arrived: u64,
    ended: u64,
    digest: Digest,
    next: Option<Arrival>,
    /// When a client that had as many requests under way as it may could send the next one.
    freed: Time,
    /// The workload has no further request.
    exhausted: bool,
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
    pub fn with_policies(mut spec: ClusterSpec, policies: &Policies<'_>) -> Result<Self, RunError> {
        let pools = spec.replica_pools();
        pools.iter().try_for_each(ReplicaPool::holds_the_longest)?;
        let numbered = (0..).zip(&pools);
        let pool_of: Vec<u32> = numbered.flat_map(|(at, pool)| (0..pool.replicas).map(move |_| at)).collect();
        spec.replicas = pool_of.len() as u32;
        // One scheduler for all: they have the same lanes.
        let limits = pools[0].limits;
        let weighted = pools.iter().any(|pool| pool.weight != pools[0].weight);
        let weight = |&at: &u32| pools[at as usize].weight;
        let roles = |id: u32| match spec.disaggregation {
            None => limits.lanes,
            Some(apart) if id < apart.prefill => Lanes::Prefill,
            Some(_) => Lanes::Decode,
        };
        let lanes = limits.lanes.work().len();
        let places = (0..spec.replicas as usize).flat_map(|replica| (0..lanes).map(move |lane| (replica, lane)));
        let replica = |id| Replica::new(id, Limits { lanes: roles(id), ..pools[pool_of[id as usize] as usize].limits });
        let mut replicas: Vec<Replica> = (0..spec.replicas).map(replica).collect();
        let router = (policies.router)(spec.seed);
        let follow = router.needs().prefixes;
        let reports = spec.router_view.map(|view| Reports::new(view.delay, &mut replicas, follow));
        Ok(Cluster {
            replicas,
            weights: if weighted { pool_of.iter().map(weight).collect() } else { Vec::new() },
            by_pool: spec.pools.iter().map(ReplicaPool::begin).collect(),
            pool_of,
            transfers: Transfers::new(spec.replicas as usize),
            schedulers: (0..spec.replicas).map(|replica| (policies.scheduler)(spec.seed, replica)).collect(),
            sharing: (0..spec.replicas).map(|replica| (policies.sharing)(replica)).collect(),
            drives: places.map(|at| Drive::new(at, limits.depth, spec.seed, spec.jumps, spec.sabotage)).collect(),
            first_drive: (0..=spec.replicas as usize).map(|replica| replica * lanes).collect(),
            router,
            reports,
            open: Vec::new(),
            scaling: Scaling::new(spec.replicas as usize, spec.autoscale.map_or(spec.replicas, |auto| auto.min)),
            health: Health::new(spec.replicas as usize),
            attempts: Attempts::default(),
            client_times: ClientTimes::default(),
            ticks: Calendar::new(),
            calendar: Calendar::new(),
            calendar_max: 1024,
            now: Time::ZERO,
            arrived: 0,
            ended: 0,
            digest: Digest::default(),
            next: None,
            freed: Time::ZERO,
            exhausted: false,
            spec,
        })
    }

    /// Settles every replica at `at`, which nobody may notice (law 13): only for tests.
    #[doc(hidden)]
    pub fn probe(&mut self, at: Time) {
        self.calendar.schedule(at, RANK_PATIENCE, Event::Probe);
    }

    /// Runs the workload to its end on replicas of one kind. `watch` is called now and then; it returns `false` to stop early.
    ///
    /// # Errors
    /// The workload or the recorder failed, or a policy or the simulator has a bug.
    ///
    /// # Panics
    /// The fleet has several pools.
    pub fn run<R: Recorder>(
        self,
        workload: &mut dyn Workload,
        cost: &mut dyn CostModel,
        recorder: &mut R,
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
    /// There are not as many cost models as pools.
    pub fn run_pools<R: Recorder>(
        mut self,
        workload: &mut dyn Workload,
        costs: &mut [&mut dyn CostModel],
        recorder: &mut R,
        watch: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<RunResult, RunError> {
        assert_eq!(costs.len(), self.spec.pools.len().max(1), "one cost model per pool");
        let mut tally = Tally::new(self.spec.slo);
        let mut timeline = Timeline::default();
        let wants_steps = recorder.wants_steps();
        let mut books = Books { tally: &mut tally, timeline: &mut timeline, recorder, wants_steps };
        self.start(workload)?;
        let mut interrupted = false;
        let mut events = 0u64;
        while self.turn(workload, costs, &mut books)? {
            events += 1;
            if self.spec.audit {
                self.audit()?;
            }
            if !self.spec.drain && self.is_over() {
                self.cut_off(&mut books)?;
                break;
            }
            if events.is_multiple_of(WATCH_EVERY)
                && !watch(Progress { now: self.now, arrived: self.arrived, ended: self.ended })
            {
                interrupted = true;
                break;
            }
        }
        if !interrupted
            && self.spec.drain
            && let Some(at) = self.replicas.iter().position(|replica| replica.outstanding() > 0)
        {
            return Err(self.stop(at, Stop::Stalled));
        }
        let mut effort = Effort::default();
        for drive in &self.drives {
            effort.add(&drive.effort);
        }
        tally.plans(effort.plans);
        let fleet = Fleet {
            replicas: self.spec.replicas,
            lanes: self.drives.len() as u32,
            blocks: self.replicas.iter().map(|replica| replica.pool().total()).sum(),
            served: self.spec.autoscale.map(|_| {
                let (from, to) = tally.span();
                self.scaling.served(from, to)
            }),
        };
        let mut summary = tally.finish(fleet, workload.classes());
        summary.pools = self.finish_pools();
        Ok(RunResult { summary, timeline, end: self.now, digest: self.digest, effort, interrupted })
    }

    fn start(&mut self, workload: &mut dyn Workload) -> Result<(), RunError> {
        for (number, failure) in self.spec.failures.iter().enumerate() {
            if failure.replica < self.spec.replicas {
                self.calendar.schedule(failure.at, RANK_PATIENCE, Event::Failure(number as u32));
            }
        }
        self.expect_faults();
        self.reopen();
        if let Some(auto) = self.spec.autoscale {
            self.ticks.schedule(Time::ZERO + auto.interval, 0, Tick::Scale);
        }
        if let Some(view) = self.spec.router_view {
            self.ticks.schedule(Time::ZERO + view.interval, 0, Tick::Report);
        }
        if let Some(clients) = self.spec.clients {
            for _ in 0..clients.count {
                self.calendar.schedule(Time::ZERO, RANK_ARRIVAL, Event::Client);
            }
        } else {
            self.next = workload.next_arrival().map_err(RunError::Workload)?;
            self.exhausted = self.next.is_none();
        }
        Ok(())
    }

    /// Whether nobody is left to arrive or to wait at the end of this moment, and somebody still runs.
    fn is_over(&mut self) -> bool {
        let nobody =
            self.exhausted && self.attempts.resting == 0 && self.replicas.iter().all(|replica| replica.waiting() == 0);
        let some = nobody && self.replicas.iter().any(|replica| replica.running() > 0);
        some && self.calendar.peek().is_none_or(|(at, _)| at > self.now)
    }

    /// Ends the run after this moment: what is complete is booked, what is not is dropped.
    fn cut_off<R: Recorder>(&mut self, books: &mut Books<'_, R>) -> Result<(), RunError> {
        self.now += Span(1);
        for at in 0..self.replicas.len() {
            self.settle(at, books)?;
        }
        for drive in &mut self.drives {
            if let Err(stop) = drive.close(books) {
                let at = drive.replica;
                return Err(self.stop(at, stop));
            }
        }
        books.tally.stop(self.now);
        Ok(())
    }

    /// Handles the next event. Returns `false` when there is none.
    fn turn<R: Recorder>(
        &mut self,
        workload: &mut dyn Workload,
        costs: &mut Costs<'_>,
        books: &mut Books<'_, R>,
    ) -> Result<bool, RunError> {
        let on_calendar = self.calendar.peek();
        let sent = self.next_sent();
        let next = sent.into_iter().chain(on_calendar.map(|at| at.0)).min();
        if let Some((at, tick)) = next.and_then(|next| self.due_tick(next)) {
            self.now = at;
            self.tick(tick, books)?;
            return Ok(true);
        }
        if let Some(sent) = sent
            && on_calendar.is_none_or(|at| (sent, RANK_ARRIVAL) < at)
        {
            let following = workload.next_arrival().map_err(RunError::Workload)?;
            self.exhausted = following.is_none();
            let mut arrival = std::mem::replace(&mut self.next, following).expect("just seen");
            if let Some(following) = &self.next
                && following.at < arrival.at
            {
                let (at, before) = (following.at, arrival.at);
                return Err(Unsorted { request: self.arrived + 1, at, before }.into());
            }
            arrival.at = sent;
            self.now = sent;
            self.arrive(arrival, costs, books)?;
            return Ok(true);
        }
        let Some((now, event)) = self.calendar.pop() else { return Ok(false) };
        debug_assert!(now >= self.now, "law 3: time never decreases");
        self.now = now;
        match event {
            Event::Lane(at) => self.fire(at as usize, costs, books)?,
            Event::Patience { replica, seat, generation, why } => {
                self.lose_patience(replica as usize, seat, generation, why, books)?;
            }
            Event::Failure(number) => {
                let Failure { replica, down_for, .. } = self.spec.failures[number as usize];
                self.fail(replica as usize, down_for, books)?;
            }
            Event::Retry(id) => self.retry(id, costs, books)?,
            Event::Landed(number) => self.landed(number, books)?,
            Event::Switch(at) => self.switch(at as usize, books)?,
            Event::Probe => {
                for at in 0..self.replicas.len() {
                    self.settle(at, books)?;
                }
            }
            Event::Client => {
                if let Some(mut arrival) = workload.next_arrival().map_err(RunError::Workload)? {
                    arrival.at = now;
                    self.arrive(arrival, costs, books)?;
                } else {
                    self.exhausted = true;
                }
            }
        }
        Ok(true)
    }

    /// When the next request of the workload is sent: at its time, or once the client has one less under way. `None` while it
    /// has as many as it may.
    fn next_sent(&self) -> Option<Time> {
        let free = self.spec.max_concurrency.is_none_or(|most| self.under_way() < u64::from(most));
        self.next.as_ref().filter(|_| free).map(|arrival| arrival.at.max(self.freed))
    }

    /// Requests that have been sent and have not ended.
    fn under_way(&self) -> u64 {
        self.arrived - self.ended
    }

    /// The next tick, if it comes before anything else does.
    fn due_tick(&mut self, next: Time) -> Option<(Time, Tick)> {
        let (at, _) = self.ticks.peek()?;
        if at <= next { self.ticks.pop() } else { None }
    }

    fn tick<R: Recorder>(&mut self, tick: Tick, books: &mut Books<'_, R>) -> Result<(), RunError> {
        match tick {
            Tick::Report => self.report(books),
            Tick::Fault(at) => self.fault(at as usize, books),
            Tick::Back(at) => self.back(at as usize, books),
            Tick::Scale => self.scale(books),
            Tick::Started(at) => {
                self.started(at as usize);
                Ok(())
            }
        }
    }

    /// Every replica reports to the router.
    fn report<R: Recorder>(&mut self, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let (Some(view), Some(mut reports)) = (self.spec.router_view, self.reports.take()) else { return Ok(()) };
        for at in 0..self.replicas.len() {
            self.settle(at, books)?;
            reports.take(at, self.now, &mut self.replicas[at]);
        }
        reports.deliver(self.now);
        self.reports = Some(reports);
        self.ticks.schedule(self.now + view.interval, 0, Tick::Report);
        Ok(())
    }

    /// Steps that a replica has completed, and their time [ns], over its lanes.
    fn work_of(&self, at: usize) -> (u64, u64) {
        let drives = &self.drives[self.lanes_of(at)];
        drives.iter().fold((0, 0), |sum, drive| (sum.0 + drive.effort.steps, sum.1 + drive.busy_ns()))
    }

    /// Books what happened on a replica.
    fn tell<R: Recorder>(&mut self, at: usize, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let now = self.now;
        let (steps, busy) = self.work_of(at);
        while let Some(happened) = self.replicas[at].pop_happened() {
            let (kind, request) = match happened {
                Happened::Admitted { request } => (Kind::Admit, request),
                Happened::FirstToken { request, ttft, wait } => {
                    books.timeline.first_token(now);
                    if let Some(sharing) = &mut self.sharing[at] {
                        sharing.first_token(FirstToken { ttft, wait });
                    }
                    (Kind::FirstToken, request)
                }
                Happened::Preempted { request } => (Kind::Preempt, request),
                Happened::Gap { span } => {
                    books.tally.gaps(span.0, 1);
                    continue;
                }
                Happened::Ended(row) => {
                    if let (Some(sharing), Some(tpot)) = (&mut self.sharing[at], row.tpot())
                        && let Some(ready) = sharing.finished(tpot, now)
                    {
                        self.calendar.schedule(ready, RANK_PATIENCE, Event::Switch(at as u32));
                    }
                    self.book_end(at, row, books)?;
                    continue;
                }
            };
            self.digest.add(now, kind, request, at as u32, steps, busy);
        }
        self.leave_if_drained(at);
        Ok(())
    }

    fn book_end<R: Recorder>(&mut self, at: usize, row: RequestRow, books: &mut Books<'_, R>) -> Result<(), RunError> {
        let (steps, busy) = self.work_of(at);
        let kind = if row.outcome == Outcome::Finished { Kind::Finish } else { Kind::End };
        self.digest.add(self.now, kind, row.request, at as u32, steps, busy);
        self.attempt_ended(row, books)
    }

    fn book_row<R: Recorder>(&mut self, row: &RequestRow, books: &mut Books<'_, R>) -> Result<(), RunError> {
        if self.spec.max_concurrency.is_some_and(|most| self.under_way() == u64::from(most)) {
            // A moment later, like a closed-loop client: whatever else ends at the same time does so first.
            self.freed = self.now + Span(1);
        }
        self.ended += 1;
        self.transfers.forget(row.request);
        books.timeline.finish(self.now);
        books.tally.request(row);
        self.book_in_pool(row);
        let at_client = self.client_receives(row, books.tally);
        books.recorder.request(row).map_err(RunError::Record)?;
        if let Some(clients) = self.spec.clients {
            // Never at this same moment: lanes that are due now may have planned already.
            let pause = (clients.think_time + at_client).max(Span(1));
            self.calendar.schedule(self.now + pause, RANK_ARRIVAL, Event::Client);
        }
        Ok(())
    }

    fn lose_patience<R: Recorder>(
        &mut self,
        at: usize,
        seat: Seat,
        generation: u32,
        why: Why,
        books: &mut Books<'_, R>,
    ) -> Result<(), RunError> {
        let replica = &self.replicas[at];
        if replica.generation(seat) != generation || (why == Why::MaxWait && !replica.never_started(seat)) {
            return Ok(());
        }
        let outcome = if why == Why::Cancel { Outcome::Cancelled } else { Outcome::Expired };
        self.disturb(at, books, |replica, now| {
            replica.cancel(seat, outcome, now);
        })?;
        self.fetch_all(books)
    }

    /// Ends requests from outside: waiting ones now (they may have blocked the queue), running ones at the next boundary.
    fn disturb<R: Recorder>(
        &mut self,
        at: usize,
        books: &mut Books<'_, R>,
        what: impl FnOnce(&mut Replica, Time),
    ) -> Result<(), RunError> {
        self.settle(at, books)?;
        for lane in self.lanes_of(at) {
            let cut = self.drives[lane].interrupt(self.now, StopReason::End, &mut self.replicas[at], books);
            cut.map_err(|s| self.stop(at, s))?;
        }
        what(&mut self.replicas[at], self.now);
        self.tell(at, books)?;
        self.lanes_of(at).for_each(|lane| self.reschedule(lane));
        Ok(())
    }

    /// Laws 1, 2 and 4 over the fleet.
    fn audit(&self) -> Result<(), RunError> {
        let mut outstanding = 0;
        for (at, replica) in self.replicas.iter().enumerate() {
            replica.audit().map_err(|what| self.stop(at, Stop::Audit(what)))?;
            outstanding += u64::from(replica.outstanding());
        }
        let resting = self.attempts.resting;
        if self.arrived != self.ended + outstanding + resting {
            let (arrived, ended) = (self.arrived, self.ended);
            let what = format!("{arrived} arrived, {ended} ended, {outstanding} are here, {resting} will come again");
            return Err(self.stop(0, Stop::Audit(what)));
        }
        Ok(())
    }

    fn stop(&self, at: usize, stop: Stop) -> RunError {
        let replica = at as u32;
        match stop {
            Stop::Plan(e) => RunError::Plan(e),
            Stop::Record(e) => RunError::Record(e),
            Stop::Stalled => RunError::Stalled { replica, at: self.now, waiting: self.replicas[at].waiting() },
            Stop::Audit(what) => RunError::Audit { replica, at: self.now, what },
        }
    }
}
