//! Drives one replica around real steps: the wall-clock counterpart of the simulator's lanes.
//!
//! ```text
//!   inbox ──► enqueue ─► Replica::plan ─► Batch ─► Executor
//!               ▲              (up to `depth` in flight)  │
//!             clients ◄── tokens ◄── Replica::complete ◄──┘
//! ```
//!
//! Everything happens in *turns*. A turn has one reading of the clock: what has arrived by then enters the queue, the step that
//! has just ended is completed, and steps are planned until `depth` are in flight. The simulator's events at one moment
//! come in that order too, so that a run is reproduced from the turns at which requests arrived and steps ended
//! (law 12; the replay of a run).

mod client;
mod ledger;
mod store;
mod turn;

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use overbook_sim::cost::PrefillPart;
use overbook_sim::kv::blocks::BlockMove;
use overbook_sim::kv::{StoreSpec, TierSpec, TierTraffic};
use overbook_sim::results::rows::StepRow;
use overbook_sim::serving::Scheduler;
use overbook_sim::serving::replica::{Happened, Limits, Replica};
use overbook_sim::serving::step::Infeasible;
use overbook_sim::time::{Span, Time};

use crate::executor::{Batch, Begin, Executor, ExecutorError, Output, Seat, Sequence, TableChange};
use crate::tables::BlockTables;

use client::{Client, Limit};
pub(crate) use ledger::Ledger;
pub(crate) use store::unfit_store;

pub use client::{Event, Message, Stop, Submission};

/// How often several lanes are looked at.
const LOOK_EVERY: Duration = Duration::from_micros(20);

/// The clock of a run: nanoseconds since its start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// Time zero is `epoch`, which may lie ahead.
    pub fn new(epoch: Instant) -> Self {
        Clock { epoch }
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.at(Instant::now())
    }

    /// A moment of the machine's clock; what lies before the epoch is zero.
    pub fn at(&self, instant: Instant) -> Time {
        Time(instant.saturating_duration_since(self.epoch).as_nanos() as u64)
    }

    /// The machine's clock at a time of the run.
    pub fn instant(&self, at: Time) -> Instant {
        self.epoch + Duration::from_nanos(at.0)
    }
}

/// A completed step.
#[derive(Clone, PartialEq, Debug)]
pub struct StepLog {
    /// The step as the simulator would book it: from the later of its plan and the end of the step before it, to the turn
    /// that completed it.
    pub row: StepRow,
    /// Its prefill parts.
    pub parts: Vec<PrefillPart>,
    /// Prefills that end in it.
    pub prefill_ends: u32,
    /// Tokens that it delivered.
    pub delivered: u32,
    /// The turn that planned it.
    pub planned: Time,
    /// Its place among all steps of the run as they were planned.
    pub number: u64,
    /// When it was handed to the executor.
    pub submitted: Time,
    /// When the device began with it, and when its tokens were there.
    pub device: (Time, Time),
}

impl StepLog {
    /// Positions computed.
    pub fn tokens(&self) -> u64 {
        u64::from(self.row.decode_seqs) + u64::from(self.row.prefill_tokens)
    }

    /// Time on the device.
    pub fn device_span(&self) -> Span {
        self.device.1 - self.device.0
    }
}

/// Levels between two turns.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Levels {
    /// Requests that hold blocks.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Blocks in use.
    pub used_blocks: u64,
    /// Blocks of the pool.
    pub pool_blocks: u64,
}

/// What a driver reports, in order.
pub trait Observer {
    /// A request was sent at `scheduled` and taken in now.
    fn arrived(&mut self, id: u64, scheduled: Time, now: Time);
    /// Levels stood from one turn to the next.
    fn held(&mut self, from: Time, to: Time, levels: Levels);
    /// A step was completed; `gap` is the time since the members' tokens before, of `gaps` of them.
    fn step(&mut self, step: &StepLog, gaps: u64, plans: u64);
    /// Something happened to a request; `steps` and `busy` [ns] are the lane's so far.
    fn happened(&mut self, now: Time, what: &Happened, steps: u64, busy: u64);
    /// What has gone through a tier below the pool by the end of a turn.
    fn stored(&mut self, _tier: &TierSpec, _traffic: &TierTraffic) {}
}

/// Why a driver stopped.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The executor failed.
    #[error("the executor failed: {0}")]
    Executor(#[from] ExecutorError),
    /// The scheduler made an impossible plan.
    #[error("{0}")]
    Plan(#[from] Infeasible),
    /// Requests wait, nothing is in flight, and nothing is planned (law 14).
    #[error("stalled with {waiting} requests waiting: the scheduler plans nothing")]
    Stalled {
        /// How many.
        waiting: u32,
    },
    /// The requests preempt each other for ever (law 14).
    #[error(
        "no progress: {requests} requests preempt each other, and {plans} plans in a row only computed again what was dropped; give the scheduler more KV memory, or choose another one"
    )]
    NoProgress {
        /// Unfinished requests.
        requests: u32,
        /// Plans in a row that led nowhere.
        plans: u64,
    },
    /// Block tables and pool disagree: a bug.
    #[error("block tables broken: {0}")]
    Blocks(String),
    /// The executor was not built for these limits.
    #[error("{0}")]
    Unfit(String),
}

/// A planned step that is out.
#[derive(Debug)]
struct InFlight {
    log: StepLog,
    /// Requests that get a token, in the batch's order.
    marks: Vec<(Seat, u32)>,
    plans: u64,
}

/// What a driver keeps of a lane.
#[derive(Debug, Default)]
struct Lane {
    flights: VecDeque<InFlight>,
    /// The last step's end.
    last_done: Time,
    /// Preemptions, and blocks copied, by plans that made no step since the last one that did.
    preempted: u32,
    swapped: u64,
    /// Plans made since the last step that was put in flight.
    plans: u64,
}

impl Lane {
    /// Tokens of the steps in flight that nobody is to get: their requests compute them again.
    fn forget(&mut self, thrown: &[(Seat, u32)]) {
        for mark in self.flights.iter_mut().flat_map(|flight| &mut flight.marks) {
            if thrown.contains(mark) {
                mark.0 = Seat::MAX;
            }
        }
    }
}

/// One replica on one executor.
pub struct Driver {
    replica: Replica,
    store: StoreSpec,
    scheduler: Box<dyn Scheduler>,
    executor: Box<dyn Executor>,
    tables: BlockTables,
    /// By seat.
    clients: Vec<Option<Client>>,
    /// Of the requests that are here, by number.
    seats: HashMap<u64, Seat>,
    lanes: Vec<Lane>,
    depth: usize,
    /// Patience that ends, earliest first.
    patience: BinaryHeap<Limit>,
    arrived: u64,
    last_turn: Time,
    levels: Levels,
    steps: u64,
    busy: u64,
    /// Steps planned so far.
    planned: u64,
    ends: Vec<Seat>,
    moves: Vec<BlockMove>,
}

impl Driver {
    /// An idle driver of one replica, which this scheduler plans, with vLLM's prefix cache.
    ///
    /// # Errors
    /// As [`Driver::with_store`].
    pub fn new(limits: Limits, scheduler: Box<dyn Scheduler>, executor: Box<dyn Executor>) -> Result<Self, DriveError> {
        Driver::with_store(limits, &StoreSpec::default(), scheduler, executor)
    }

    /// An idle driver of one replica, which this scheduler plans.
    ///
    /// # Errors
    /// The executor's pool, block size, longest sequence, lanes or slots on the host are not the limits' and the store's; or the
    /// scheduler swaps.
    pub fn with_store(
        limits: Limits,
        store: &StoreSpec,
        scheduler: Box<dyn Scheduler>,
        executor: Box<dyn Executor>,
    ) -> Result<Self, DriveError> {
        let capacity = executor.capacity();
        let unfit = |what: String| Err(DriveError::Unfit(what));
        let (lanes, needed) = (capacity.lanes.count(), limits.lanes.work().len());
        if lanes != needed {
            let has = if lanes == 1 { "one lane".to_owned() } else { format!("{lanes} lanes") };
            return unfit(format!("the executor has {has}, and the scheduler needs {needed}"));
        }
        if lanes > 1 && limits.depth > 1 {
            return unfit("several lanes with several steps in flight each".into());
        }
        if limits.swap.blocks > 0 {
            return unfit("the engine does not swap KV to the host; use `preemption_mode: recompute`".into());
        }
        let (blocks, tokens, len) = (u64::from(capacity.blocks), capacity.block_tokens, capacity.max_model_len);
        if blocks < limits.blocks || tokens != limits.block_tokens || len < limits.max_model_len {
            return unfit(format!(
                "the executor has {blocks} blocks of {tokens} tokens for sequences up to {len}; {} of {} up to {} are needed",
                limits.blocks, limits.block_tokens, limits.max_model_len
            ));
        }
        if let Some(why) = unfit_store(store) {
            return unfit(why.to_owned());
        }
        let (slots, wanted) = (capacity.host_blocks, store.tiers.first().map_or(0, |tier| tier.blocks));
        if slots < wanted {
            return unfit(format!("the executor keeps {slots} blocks on the host; {wanted} are needed"));
        }
        let mut replica = Replica::with_store(0, limits, &store.instant());
        replica.track_blocks();
        Ok(Driver {
            levels: Levels { pool_blocks: limits.blocks, ..Levels::default() },
            replica,
            store: store.clone(),
            scheduler,
            executor,
            tables: BlockTables::new(capacity.blocks),
            clients: Vec::new(),
            seats: HashMap::new(),
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            depth: limits.depth as usize,
            patience: BinaryHeap::new(),
            arrived: 0,
            last_turn: Time::ZERO,
            steps: 0,
            busy: 0,
            planned: 0,
            ends: Vec::new(),
            moves: Vec::new(),
        })
    }

    /// Serves what comes in until the inbox is closed and all that came in has ended, or it is stopped.
    ///
    /// # Errors
    /// The executor failed, or there is a bug in a policy or here. Clients that still wait get a failure.
    pub fn run(
        &mut self,
        inbox: &Receiver<Message>,
        clock: Clock,
        observer: &mut dyn Observer,
    ) -> Result<(), DriveError> {
        let served = self.serve(inbox, clock, observer);
        if served.is_err() {
            self.fail_all(clock.now(), observer);
        }
        served
    }

    fn serve(
        &mut self,
        inbox: &Receiver<Message>,
        clock: Clock,
        observer: &mut dyn Observer,
    ) -> Result<(), DriveError> {
        let mut news = Vec::new();
        let mut open = true;
        loop {
            let output = if self.is_idle() {
                let wants = (0..self.lanes.len()).any(|lane| self.replica.wants(lane));
                if !wants && !self.listen(inbox, clock, &mut news, &mut open) {
                    return Ok(());
                }
                None
            } else {
                self.step_or_news(inbox, clock, &mut news, &mut open)?
            };
            while open {
                match inbox.try_recv() {
                    Ok(message) => news.push(message),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => open = false,
                }
            }
            let halts = news.iter().any(|message| matches!(message, Message::Halt));
            self.turn(clock, output, &mut news, !halts, observer)?;
            if halts {
                while let Some(lane) = self.lanes.iter().position(|lane| !lane.flights.is_empty()) {
                    let output = self.executor.wait(lane)?;
                    self.turn(clock, Some((lane, output)), &mut news, false, observer)?;
                }
                self.fail_all(clock.now(), observer);
                return Ok(());
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.flights.is_empty())
    }

    /// Waits for a step to end. Where a lane has nothing to do beside one that has, also for what may be for it.
    fn step_or_news(
        &mut self,
        inbox: &Receiver<Message>,
        clock: Clock,
        news: &mut Vec<Message>,
        open: &mut bool,
    ) -> Result<Option<(usize, Output)>, DriveError> {
        if self.lanes.len() == 1 {
            return Ok(Some((0, self.executor.wait(0)?)));
        }
        loop {
            for lane in 0..self.lanes.len() {
                if !self.lanes[lane].flights.is_empty() && self.executor.ready(lane)? {
                    return Ok(Some((lane, self.executor.wait(lane)?)));
                }
            }
            if self.patience.peek().is_some_and(|limit| limit.at <= clock.now()) {
                return Ok(None);
            }
            if !*open {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            match inbox.recv_timeout(LOOK_EVERY) {
                Ok(message) => {
                    news.push(message);
                    return Ok(None);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => *open = false,
            }
        }
    }

    /// Waits, with nothing to do, for a message or for the end of a client's patience. `false` if neither can come any more.
    fn listen(&self, inbox: &Receiver<Message>, clock: Clock, news: &mut Vec<Message>, open: &mut bool) -> bool {
        if !*open {
            return !self.patience.is_empty() && self.replica.outstanding() > 0;
        }
        let got = match self.patience.peek().filter(|_| self.replica.outstanding() > 0) {
            Some(limit) => inbox.recv_timeout(clock.instant(limit.at).saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match got {
            Ok(message) => news.push(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => *open = false,
        }
        *open || self.replica.outstanding() > 0
    }

    /// Ends every request as failed and informs their clients.
    fn fail_all(&mut self, now: Time, observer: &mut dyn Observer) {
        self.replica.fail(now);
        (0..self.lanes.len()).for_each(|lane| self.replica.reap(lane, now));
        self.tell(now, observer);
    }

    fn begin(client: &mut Client, seat: Seat) -> Option<Begin> {
        let begins = !std::mem::replace(&mut client.begun, true);
        begins.then(|| Begin {
            seat,
            prompt: std::mem::take(&mut client.prompt),
            sampling: client.sampling,
            bans: std::mem::take(&mut client.bans),
        })
    }

    fn batch(&mut self, lane: usize) -> Result<(Batch, Vec<(Seat, u32)>), DriveError> {
        self.follow_blocks()?;
        let mut batch = Batch { ends: std::mem::take(&mut self.ends), ..Batch::default() };
        let mut marks = Vec::new();
        let block_tokens = self.replica.pool().block_tokens();
        for seat in self.tables.take_released() {
            // One that has ended is forgotten with its table, and the next in its seat has not begun.
            if matches!(self.clients.get(seat as usize), Some(Some(client)) if client.begun) {
                batch.tables.push(TableChange { seat, from: 0, blocks: Vec::new() });
            }
        }
        for part in self.replica.step_parts(lane) {
            let Some(Some(client)) = self.clients.get_mut(part.seat as usize) else {
                return Err(DriveError::Blocks(format!("seat {} has no client", part.seat)));
            };
            batch.begins.extend(Self::begin(client, part.seat));
            let blocks = part.slots.div_ceil(block_tokens);
            batch.tables.extend(self.tables.place(part.seat, blocks).map_err(DriveError::Blocks)?);
            let (seat, past, tokens, samples) = (part.seat, part.past, part.tokens, part.samples);
            batch.sequences.push(Sequence { seat, past, tokens, samples });
            if samples {
                marks.push((seat, part.generation));
            }
        }
        Ok((batch, marks))
    }

    /// Follows what the pool has done. What it has copied to or from the host is copied before the next step.
    fn follow_blocks(&mut self) -> Result<(), DriveError> {
        self.replica.take_block_moves(&mut self.moves);
        self.tables.apply(&self.moves).map_err(DriveError::Blocks)?;
        self.moves.clear();
        let copies = self.tables.take_copies();
        if !copies.is_empty() {
            self.executor.copy(&copies)?;
        }
        Ok(())
    }
}
