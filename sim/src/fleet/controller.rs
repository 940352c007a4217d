//! Controllers: rules around the replicas, each of which hears what happens, looks at the fleet, and says what is to be done.
//!
//! A controller knows none of the others. What it wants done that ends requests, or sends some, it returns as [`Action`]s, which
//! the cluster takes in order; the rest (timers, holds, moves of KV) it asks of the [`Kernel`] at once. The order of the
//! controllers is fixed: it is part of what a scenario means.

use super::kernel::Kernel;
use super::outcome::RunError;
use crate::cost::OperatingPoint;
use crate::kv::Seat;
use crate::results::rows::{Outcome, RequestRow};
use crate::time::{Span, Time};
use crate::workload::arrival::Arrival;
use crate::workload::sessions::Turn;

/// Events that a controller can hear, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Topics(u16);

impl Topics {
    pub(super) const NONE: Topics = Topics(0);
    /// [`Controller::place`] is asked.
    pub(super) const PLACING: Topics = Topics(1);
    /// [`Controller::ended`] is asked.
    pub(super) const ENDED: Topics = Topics(1 << 1);
    pub(super) const ARRIVED: Topics = Topics(1 << 2);
    pub(super) const ENTERED: Topics = Topics(1 << 3);
    pub(super) const MOVED: Topics = Topics(1 << 4);
    pub(super) const BOUNDARY: Topics = Topics(1 << 5);
    pub(super) const TOLD: Topics = Topics(1 << 6);
    pub(super) const LEFT: Topics = Topics(1 << 7);
    pub(super) const DOORS: Topics = Topics(1 << 8);
    pub(super) const BOOKED: Topics = Topics(1 << 9);
    pub(super) const DUE: Topics = Topics(1 << 10);
    pub(super) const TIMERS: Topics = Topics(1 << 11);
    pub(super) const TICKS: Topics = Topics(1 << 12);
    pub(super) const POINTS: Topics = Topics(1 << 13);
    /// [`Event::Start`], which every controller hears.
    pub(super) const START: Topics = Topics(u16::MAX);

    pub(super) const fn and(self, other: Topics) -> Topics {
        Topics(self.0 | other.0)
    }

    pub(super) fn has(self, other: Topics) -> bool {
        self.0 & other.0 != 0
    }
}

/// Something that has happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'e> {
    /// The run begins.
    Start,
    /// A client sends a request for the first time.
    Arrived { request: u64, arrival: &'e Arrival },
    /// A request with limits to its client's patience is in the queue of a replica.
    Entered { request: u64, place: Place, limits: Limits },
    /// A request has left for this place on another replica.
    Moved { request: u64, place: Place },
    /// A lane has come to a step boundary at which something changed.
    Boundary { replica: usize },
    /// All events of a replica were handed on.
    Told { replica: usize },
    /// Requests of a replica were ended from outside.
    Left,
    /// A replica has lost all it had.
    Failed { replica: usize },
    /// KV has arrived at a replica, from another one or from a tier below its GPUs.
    Landed { replica: usize },
    /// A replica takes no requests any more.
    Closed { replica: usize },
    /// A replica takes requests again.
    Opened,
    /// A request has ended for good, and is in the books.
    Booked { row: &'e RequestRow },
    /// A limit of a request in its place has run out.
    Due { place: Place, limit: Limit },
    /// A timer that the run waits for.
    Timer(Timer),
    /// A timer that the run does not wait for.
    Tick(Tick),
    /// A lane runs at another point from now on. What it has done by now it did at the one `before`.
    Repointed { replica: usize, lane: usize, before: OperatingPoint },
}

impl Event<'_> {
    pub(super) fn topic(&self) -> Topics {
        match self {
            Event::Start => Topics::START,
            Event::Arrived { .. } => Topics::ARRIVED,
            Event::Entered { .. } => Topics::ENTERED,
            Event::Moved { .. } => Topics::MOVED,
            Event::Boundary { .. } => Topics::BOUNDARY,
            Event::Told { .. } => Topics::TOLD,
            Event::Left | Event::Failed { .. } | Event::Landed { .. } => Topics::LEFT,
            Event::Closed { .. } | Event::Opened => Topics::DOORS,
            Event::Booked { .. } => Topics::BOOKED,
            Event::Due { .. } => Topics::DUE,
            Event::Timer(_) => Topics::TIMERS,
            Event::Tick(_) => Topics::TICKS,
            Event::Repointed { .. } => Topics::POINTS,
        }
    }
}

/// Timers on the calendar: a run goes on until they have fired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// A closed-loop client sends its next request, or opens its next session.
    Client,
    /// A request of an open session is sent.
    Turn(Turn),
    /// A failure of the specification, by its number.
    Failure(u32),
    /// A client sends a request again.
    Retry(u64),
    /// The KV of a transfer has arrived.
    Landed(u32),
}

/// Timers beside the calendar: none of them keeps a run from its end, and at equal times they come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tick {
    /// The replicas report to the router.
    Report,
    /// The replicas of a fault domain fail at random.
    Fault(u32),
    /// A replica is back.
    Back(u32),
    /// The autoscaler of a group decides.
    Scale(u32),
    /// A replica has started.
    Started(u32),
    /// A command to set a point arrives; the cluster keeps it to itself.
    Point(u32),
    /// What the lanes have done is read.
    Read,
    /// The GPUs' limiters look at what they draw.
    Limit,
    /// A span of the row's resolution is over.
    Power,
    /// A reading of the row has come.
    PowerReading,
    /// A clock that was ordered has reached its server.
    ClockLands { server: u32, order: u32 },
    /// The power brake holds.
    Brake,
    /// It lets go.
    Unbrake,
}

/// A request's place on a replica. The generation distinguishes it from earlier requests on the seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) replica: u32,
    pub(super) seat: Seat,
    pub(super) generation: u32,
}

/// What a client's patience ends by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Limit {
    /// Not started in time.
    MaxWait,
    /// Not finished in time.
    Deadline,
    /// The client disconnects.
    Cancel,
}

impl Limit {
    pub(super) const ALL: [Limit; 3] = [Limit::MaxWait, Limit::Deadline, Limit::Cancel];
}

/// By [`Limit`], from the arrival on.
pub(super) type Limits = [Option<Span>; 3];

/// Where an arriving request shall go, as far as the controllers have said so.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Placement {
    /// The replica; none if all are down.
    pub(super) replica: Option<usize>,
    /// Where it will decode, as things stand, if elsewhere.
    pub(super) decodes_at: Option<usize>,
    /// It is refused.
    pub(super) refused: bool,
}

/// What a controller wants done.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// A request is sent again.
    Submit { request: u64, arrival: Box<Arrival> },
    /// The next request of the workload is sent now, or its next session is opened.
    Next,
    /// The request of a turn is sent now.
    Turn(Turn),
    /// A request has ended, and its client knows since then: what follows on it is sent in time. If nothing is left of what the
    /// request belongs to, its client goes on after a pause.
    Follow { request: u64, known: Time, pause: Option<Span> },
    /// A request leaves its place.
    Cancel { place: Place, outcome: Outcome },
    /// A replica loses all it has.
    Fail { replica: usize },
    /// Lanes of a replica (all without `lane`) run at another point, `delay` from now. Commands arrive each on its own: one with less delay
    /// overtakes one on its way, which still arrives.
    SetPoint { replica: usize, lane: Option<usize>, point: OperatingPoint, delay: Span },
    /// The KV of a request has arrived at its place; the sender may reuse its own. Or it was lost with the sender.
    Land { request: u64, from: usize, place: Place, lost: bool },
}

/// A rule around the replicas.
pub(super) trait Controller: std::fmt::Debug {
    /// Events that it hears, besides the start.
    fn hears(&self) -> Topics;

    /// Something has happened.
    ///
    /// # Errors
    /// The run must stop.
    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError>;

    /// A request looks for its replica: changes what the controllers before this one have said of it.
    ///
    /// # Errors
    /// The run must stop.
    fn place(
        &mut self,
        _arrival: &mut Arrival,
        _placement: &mut Placement,
        _kernel: &mut Kernel<'_>,
    ) -> Result<(), RunError> {
        Ok(())
    }

    /// The run is over: figures that are the controller's own go into the sink.
    fn finish(&mut self, _kernel: &mut Kernel<'_>) {}

    /// An attempt has ended. Returns when the request is sent again, if it is.
    fn ended(&mut self, _row: &mut RequestRow, _kernel: &mut Kernel<'_>) -> Option<Time> {
        None
    }
}
