//! Drives one lane in virtual time: plans steps, prices them, lets them end, and jumps over equal ones.
//!
//! A jump is a segment that stands: it is not applied when it is planned. Whatever looks at a replica before its end (routers,
//! cancellations, timers, another lane) first settles it, which applies exactly the steps that are complete by then. The calendar has a
//! ticket for the end of the jump, which can be cancelled. A jump ends at the first of: the scheduler's horizon, a member that
//! leaves, a shortage of blocks, an event that wakes the scheduler, and the context at which the cost has other coefficients.
//!
//! Decisions wait for step boundaries, rates do not: when clocks or shares of the SMs change, the step in flight keeps what it has done, the
//! rest of it and the steps behind it take their time at the new rate (`reprice.rs`).

mod effort;
mod price;
mod reprice;

use std::collections::VecDeque;

use super::sink::Sink;
use super::spec::ClusterSpec;
use crate::cost::{COST_PER_NS, Cost, OperatingPoint, Slowdown};
use crate::fleet::calendar::Ticket;
use crate::fleet::devices::Pricing;
use crate::fleet::segment::Segment;
use crate::power::work::Work;
use crate::results::rows::{RecordError, StepRow};
use crate::serving::Scheduler;
use crate::serving::replica::{Limits, Replica};
use crate::serving::step::Infeasible;
use crate::streams::{Purpose, keyed};
use crate::time::{Span, Time};

pub use effort::{Effort, StopReason};

/// One lane of a replica in virtual time.
#[derive(Debug)]
pub(crate) struct Drive {
    /// The replica, and which of its lanes this is.
    pub(crate) replica: usize,
    pub(crate) lane: usize,
    segments: VecDeque<Segment>,
    pub(crate) ticket: Option<Ticket>,
    /// Steps that will be complete when the ticket fires.
    expect: u64,
    depth: u64,
    /// Whether the host plans while the device computes, though a lane of depth 1 knows what the step before has brought.
    overlaps: bool,
    /// Of the draws by which steps lie apart.
    seed: u64,
    jumps: bool,
    /// A stop rule that is off by one step.
    #[cfg(feature = "planted-faults")]
    planted: Option<StopReason>,
    /// At which clock and on which SMs it runs.
    pub(crate) point: OperatingPoint,
    /// How much longer steps take there, and where lanes share the SMs.
    pub(crate) pace: Slowdown,
    /// Steps planned so far, those of a jump counted once.
    planned: u64,
    /// What the step that is planned takes of its cost, if steps lie apart.
    apart: Option<f64>,
    /// Fraction of a nanosecond carried between segments.
    remainder: u64,
    /// Version of the decode set that the latest plan was made of, and that it left behind.
    version_planned: u64,
    version_left: u64,
    pub(crate) effort: Effort,
    /// Busy time so far [2⁻²⁰ ns], and the work of it where that is counted.
    busy: u128,
    work: Work,
    /// When the last two segments to complete began and ended.
    last: [(Time, Time); 2],
    /// Preemptions, and blocks copied to the host or back, of plans since the last step.
    preempted: u32,
    swapped: u64,
    /// Up to when, and up to which completed step, the levels are in the books.
    level_from: Time,
    level_steps: u64,
}

/// Why a lane cannot go on.
#[derive(Debug)]
pub(crate) enum Stop {
    Plan(Infeasible),
    Record(RecordError),
    Stalled,
    NoProgress,
    StepTooLong,
    Audit(String),
}

impl From<Infeasible> for Stop {
    fn from(e: Infeasible) -> Self {
        Stop::Plan(e)
    }
}

impl From<RecordError> for Stop {
    fn from(e: RecordError) -> Self {
        Stop::Record(e)
    }
}

/// Books the next `part` steps of a segment as gaps between tokens. For members that were left out of the steps before it,
/// the first one ends a longer gap.
fn book_gaps(segment: &Segment, part: u64, lane: usize, replica: &Replica, sink: &mut Sink<'_>) {
    let seqs = u64::from(replica.front_seqs(lane));
    let end = segment.end_of(segment.done + 1);
    let mut resumed = 0;
    for last in replica.resumed(lane) {
        sink.tally.gaps(end.since(last).0, 1);
        resumed += 1;
    }
    let (cost, growth) = (segment.cost_of(segment.done).0, segment.growth.0);
    if resumed == 0 {
        return sink.tally.gap_ramp_fixed(cost, growth, part, seqs);
    }
    sink.tally.gap_ramp_fixed(cost, growth, 1, seqs - resumed);
    if part > 1 {
        sink.tally.gap_ramp_fixed(cost + growth, growth, part - 1, seqs);
    }
}

impl Drive {
    pub(crate) fn new(at: (usize, usize), limits: Limits, spec: &ClusterSpec) -> Self {
        let depth = limits.depth;
        Drive {
            replica: at.0,
            lane: at.1,
            segments: VecDeque::with_capacity(depth as usize + 1),
            ticket: None,
            expect: 0,
            depth: u64::from(depth),
            overlaps: limits.drafts.overlaps,
            seed: spec.seed,
            jumps: spec.jumps,
            #[cfg(feature = "planted-faults")]
            planted: None,
            point: OperatingPoint::NOMINAL,
            pace: Slowdown::NONE,
            planned: 0,
            apart: None,
            remainder: 0,
            version_planned: 0,
            version_left: 0,
            effort: Effort::default(),
            busy: 0,
            work: Work::default(),
            last: [(Time::ZERO, Time::ZERO); 2],
            preempted: 0,
            swapped: 0,
            level_from: Time::ZERO,
            level_steps: 0,
        }
    }

    /// Steps by which a stop rule is off: none, unless a test has planted some.
    #[cfg(not(feature = "planted-faults"))]
    #[expect(clippy::unused_self, reason = "tests plant faults by drive")]
    fn planted(&self, _: StopReason) -> u64 {
        0
    }

    /// Plants an off-by-one into a rule that ends jumps.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn plant(&mut self, reason: StopReason) {
        self.planted = Some(reason);
    }

    #[cfg(feature = "planted-faults")]
    fn planted(&self, reason: StopReason) -> u64 {
        u64::from(self.planted == Some(reason))
    }

    /// Busy time so far [ns].
    pub(crate) fn busy_ns(&self) -> u64 {
        (self.busy >> crate::cost::COST_PER_NS.trailing_zeros()) as u64
    }

    fn unfinished(&self) -> u64 {
        self.segments.iter().map(Segment::unfinished).sum()
    }

    /// When the steps that are planned now end; `None` if there are none.
    pub(crate) fn free_at(&self) -> Option<Time> {
        self.segments.back().map(|back| back.end_of(back.planned))
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.segments.is_empty()
    }

    /// Books the levels of the replica up to `now`. Call before they change, on the lane with the standing set (the last
    /// one). The blocks in use grow from step to step of a jump, whether or not its steps are applied yet.
    pub(crate) fn book_levels(&mut self, now: Time, replica: &Replica, sink: &mut Sink<'_>) {
        if now <= self.level_from {
            return;
        }
        let lane = &replica.lanes[self.lane];
        // When a step completes, another one is planned, as long as there are any in the segments.
        let last = lane.done + self.unfinished();
        let mut done = self.level_steps.max(lane.done);
        let mut used = lane.used_at((done + self.depth).min(last), replica.pool().used());
        let (mut from, mut area) = (self.level_from, 0);
        let mut before = lane.done;
        for segment in &self.segments {
            let after = before + segment.unfinished();
            let completed = if segment.end_of(segment.steps) < now {
                after
            } else if segment.unfinished() == 1 {
                before
            } else {
                before + segment.completed_before(now) - segment.done
            };
            // The steps whose completion lets another one be planned, and those of them that need blocks.
            let growing = completed.min(last.saturating_sub(self.depth));
            if done < growing {
                lane.each_growth(done + self.depth, growing + self.depth, |clock, blocks| {
                    let end = segment.end_of(segment.done + (clock + 1 - self.depth - before));
                    area += u128::from(used) * u128::from(end.since(from).0);
                    (from, used) = (end, used + blocks);
                });
            }
            done = done.max(completed);
            if completed < after {
                break;
            }
            before = after;
        }
        area += u128::from(used) * u128::from(now.since(from).0);
        let (running, waiting, total) = (replica.running(), replica.waiting(), replica.pool().total());
        sink.tally.hold(self.level_from, now, running, waiting, 0, total);
        sink.tally.blocks(area, used, total);
        let mean =
            if from == self.level_from { used } else { (area / u128::from(now.since(self.level_from).0)) as u64 };
        sink.timeline.hold(self.level_from, now, running, waiting, mean);
        (self.level_from, self.level_steps) = (now, done);
    }

    /// A request joined the queue. Returns whether the lane's next event has moved.
    pub(crate) fn arrived(&mut self, now: Time, replica: &mut Replica, sink: &mut Sink<'_>) -> Result<bool, Stop> {
        match self.segments.back() {
            None => Ok(self.ticket.is_none()),
            Some(back) if back.wake_on_arrival && back.steps > back.planned => {
                self.interrupt(now, StopReason::Arrival, replica, sink)?;
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    /// Makes the lane plan at its next step boundary: steps not planned yet are dropped.
    pub(crate) fn interrupt(
        &mut self,
        now: Time,
        reason: StopReason,
        replica: &mut Replica,
        sink: &mut Sink<'_>,
    ) -> Result<(), Stop> {
        self.settle_before(now, replica, sink)?;
        self.cut(reason);
        Ok(())
    }

    /// Others have taken blocks: the newest segment keeps the steps that still fit. The lane is settled.
    pub(crate) fn trim(&mut self, replica: &mut Replica) {
        let more = replica.repeats_possible(self.lane).blocks;
        if let Some(back) = self.segments.back_mut()
            && back.steps > back.planned.saturating_add(more)
        {
            back.steps = back.planned + more;
            self.effort.stops[StopReason::Blocks as usize] += 1;
        }
    }

    /// Ends the newest segment with the steps that are planned.
    fn cut(&mut self, reason: StopReason) {
        let planted = self.planted(reason);
        if let Some(back) = self.segments.back_mut()
            && back.steps > back.planned
        {
            back.steps = (back.planned + planted).min(back.steps);
            self.effort.stops[reason as usize] += 1;
        }
    }

    /// Applies every step that ends before `now` (none of which ends a request: that would have been an event). The levels
    /// are booked already.
    pub(crate) fn settle_before(&mut self, now: Time, replica: &mut Replica, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let mut steps = 0;
        for segment in &self.segments {
            let completed = segment.completed_before(now) - segment.done;
            steps += completed;
            if completed < segment.unfinished() {
                break;
            }
        }
        // Between events `depth` steps are in flight at any moment.
        self.plan_until(steps + self.depth, replica);
        self.advance(steps, replica, sink)
    }

    /// Preemptions by plans after the last step.
    pub(crate) fn unbooked_preemptions(&self) -> u64 {
        u64::from(self.preempted)
    }

    /// Busy time after a moment, if no more than the steps that were in flight then have ended since: two at most.
    pub(crate) fn busy_after(&self, at: Time) -> Span {
        Span(self.last.iter().map(|&(start, end)| end.since(start.max(at)).0).sum())
    }

    /// The run ends now: books the steps that are complete, and drops those that are not but for the time that they have taken. The
    /// lane is settled.
    pub(crate) fn close(&mut self, now: Time, sink: &mut Sink<'_>) -> Result<(), Stop> {
        self.work = self.usage(now).work;
        let begun = self.segments.front().map_or(now, |front| front.end_of(front.done));
        let part = now.since(begun);
        self.busy += u128::from(part.0) * u128::from(COST_PER_NS);
        sink.tally.busy(part);
        if let Some(mut front) = self.segments.pop_front().filter(|front| front.done > 0) {
            front.steps = front.done;
            self.finish_segment(front, sink)?;
        }
        self.segments.clear();
        Ok(())
    }

    /// Applies the plans of the newest segment up to `frontier` steps beyond the completed ones.
    fn plan_until(&mut self, frontier: u64, replica: &mut Replica) {
        let before: u64 = self.segments.iter().rev().skip(1).map(Segment::unfinished).sum();
        if let Some(back) = self.segments.back_mut() {
            let due = (back.done + frontier.saturating_sub(before)).min(back.steps);
            if due > back.planned {
                replica.repeat(self.lane, due - back.planned);
                back.planned = due;
            }
        }
    }

    /// Completes the next `steps` steps. Their levels are booked already, by the set of members that made them.
    fn advance(&mut self, mut steps: u64, replica: &mut Replica, sink: &mut Sink<'_>) -> Result<(), Stop> {
        while steps > 0 {
            let Some(front) = self.segments.front_mut() else { return Ok(()) };
            let part = steps.min(front.unfinished());
            steps -= part;
            self.expect = self.expect.saturating_sub(part);
            let from = front.end_of(front.done);
            let to = front.end_of(front.done + part);
            book_gaps(front, part, self.lane, replica, sink);
            // Steps of a segment never become shorter.
            let longest = front.cost_of(front.done + part - 1).0 / COST_PER_NS;
            replica.note_gaps(self.lane, longest, front.end_of(front.done + 1), to);
            let seqs = u64::from(replica.front_seqs(self.lane));
            let delivered = replica.complete(self.lane, part, to);
            front.done += part;
            self.effort.steps += part;
            if part > 1 {
                sink.timeline.tokens_over(from, to, (part - 1) * seqs);
            }
            sink.timeline.tokens(to, u64::from(delivered));
            self.busy += front.length_between(front.done - part, front.done);
            if front.metered.is_some() {
                self.work = self.work + front.work_between(front.done - part, front.done);
            }
            if front.unfinished() == 0 {
                let front = self.segments.pop_front().expect("just seen");
                self.finish_segment(front, sink)?;
            }
        }
        Ok(())
    }

    fn finish_segment(&mut self, mut segment: Segment, sink: &mut Sink<'_>) -> Result<(), Stop> {
        segment.row.steps = segment.steps;
        segment.row.end = segment.end_of(segment.steps);
        self.remainder = segment.remainder_after(segment.steps);
        self.last = [self.last[1], (segment.row.start, segment.row.end)];
        sink.tally.step(&segment.row);
        if segment.row.preempted > 0 {
            sink.timeline.preempt(segment.row.start, u64::from(segment.row.preempted));
        }
        if sink.wants_steps {
            sink.recorder.step(&segment.row)?;
        }
        Ok(())
    }

    /// The lane's event: completes what has ended, then plans until `depth` steps are in flight. The levels are booked
    /// already. Returns whether anything came of it.
    pub(crate) fn fire(
        &mut self,
        now: Time,
        replica: &mut Replica,
        scheduler: &mut dyn Scheduler,
        mut pricing: Pricing<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<bool, Stop> {
        self.ticket = None;
        let before = replica.ended_count();
        let mut effect = self.expect > 0;
        if self.expect > 0 {
            self.plan_until(self.expect - 1 + self.depth, replica);
            self.advance(self.expect, replica, sink)?;
        }
        self.reprice(now, pricing.pace, replica, sink)?;
        replica.reap(self.lane, now);
        if replica.ended_count() != before {
            effect = true;
            let version = replica.version(self.lane);
            if self.segments.back().is_some_and(|b| b.wake_on_end || version != self.version_left) {
                self.cut(StopReason::End);
            }
        }
        let mut planned = true;
        // Without work the scheduler is not asked.
        while planned && self.unfinished() < self.depth && replica.has_work(self.lane) {
            planned = self.plan(now, replica, scheduler, &mut pricing)?;
            effect |= planned || !replica.step().preempted.is_empty();
        }
        Ok(effect)
    }

    /// Plans one step, and decides how many times it will repeat.
    fn plan(
        &mut self,
        now: Time,
        replica: &mut Replica,
        scheduler: &mut dyn Scheduler,
        pricing: &mut Pricing<'_>,
    ) -> Result<bool, Stop> {
        self.effort.plans += 1;
        let busy = replica.plan(self.lane, now, scheduler)?;
        if replica.is_stuck() {
            return Err(Stop::NoProgress);
        }
        let step = replica.step();
        // What a plan without a step has done goes with the next step.
        self.preempted += step.preempted.len() as u32;
        self.swapped += step.swapped_blocks;
        if !busy {
            return Ok(false);
        }
        let (preempted, swapped) = (std::mem::take(&mut self.preempted), std::mem::take(&mut self.swapped));
        let pure = step.parts.is_empty() && step.all_members;
        let members = replica.planned_version();
        self.effort.unavoidable += u64::from(!pure || members != self.version_planned);
        self.version_planned = members;
        self.version_left = replica.version(self.lane);
        let (start, remainder, idle) = match self.segments.back() {
            Some(back) => (back.end_of(back.steps), back.remainder_after(back.steps), false),
            // Where the host plans while the device computes, only the first step after a pause waits for it.
            None => (now, self.remainder, !(self.overlaps && self.planned > 0 && self.last[1].1 == now)),
        };
        self.planned += 1;
        self.apart = pricing.cost.jitter().map(|jitter| {
            let key = [self.replica as u64, self.lane as u64, self.planned];
            jitter.ratio(keyed(self.seed, Purpose::Jitter, &key))
        });
        let price = self.price(step, idle, replica.limits.swap.block_cost * swapped, pricing);
        if price.first == Cost::TOO_LONG {
            return Err(Stop::StepTooLong);
        }
        let (horizon, step_growing) = (step.horizon, step.growing);
        let row = StepRow {
            replica: replica.id(),
            lane: self.lane as u32,
            start,
            end: start,
            steps: 1,
            decode_seqs: step.decode_seqs,
            prefill_seqs: step.parts.len() as u32,
            prefill_tokens: step.parts.iter().map(|p| p.tokens).sum(),
            decode_context: step.decode_context,
            prefill_context: step.parts.iter().map(|p| u64::from(p.past)).sum(),
            running: replica.running(),
            waiting: replica.waiting(),
            used_blocks: replica.pool().used(),
            preempted,
            swapped_blocks: swapped,
        };
        let mut segment = Segment {
            start,
            remainder,
            first: price.first,
            growth: price.growth,
            growing: u64::from(step_growing),
            timing: price.timing,
            metered: price.metered,
            steps: price.most,
            planned: 1,
            done: 0,
            wake_on_arrival: horizon.wake_on_arrival,
            wake_on_end: horizon.wake_on_end,
            row,
        };
        // Plans are made with `depth - 1` steps still in flight.
        let wake = step.wake_at.map(|at| segment.completed_before(at).saturating_add(self.depth));
        segment.steps = self.jump_length((price.most, price.limit), wake, replica);
        if segment.steps == 1 {
            (segment.growth, segment.timing.growth) = (Cost(0), Cost(0));
        }
        self.segments.push_back(segment);
        Ok(true)
    }

    /// When the lane must be looked at next; remembers how many steps will have ended by then.
    pub(crate) fn next_event(&mut self, replica: &mut Replica) -> Option<Time> {
        let unfinished = self.unfinished();
        if unfinished == 0 {
            return None;
        }
        let to_plan = if unfinished >= self.depth { unfinished - (self.depth - 1) } else { unfinished };
        let steps = replica.steps_to_event(self.lane).map_or(to_plan, |e| e.min(to_plan)).max(1);
        self.expect = steps;
        let mut left = steps;
        for segment in &self.segments {
            if left <= segment.unfinished() {
                return Some(segment.end_of(segment.done + left));
            }
            left -= segment.unfinished();
        }
        None
    }
}
