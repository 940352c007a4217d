//! One turn: what has come in, what has ended, what is planned.

use std::collections::BTreeSet;

use overbook_sim::results::rows::{Outcome, RequestRow, StepRow};
use overbook_sim::serving::replica::Happened;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::Arrival;

use super::client::{Client, Event, Limit, Message, Submission, Why};
use super::{Clock, DriveError, Driver, InFlight, Observer, StepLog};
use crate::executor::Output;

/// Which lanes with nothing to do look at what there is.
#[derive(Clone, Copy)]
struct Looks {
    /// All: a request has ended.
    all: bool,
    /// The one that reads the queue: a request has come.
    queue: bool,
}

impl Driver {
    /// Takes in the news, completes the step that has ended, and plans unless the driver is about to stop.
    pub(super) fn turn(
        &mut self,
        clock: Clock,
        output: Option<(usize, Output)>,
        news: &mut Vec<Message>,
        plans: bool,
        observer: &mut dyn Observer,
    ) -> Result<(), DriveError> {
        // Never at the same moment as the turn before: no step takes no time.
        let now = clock.now().max(self.last_turn + Span(1));
        observer.held(self.last_turn, now, self.levels);
        self.last_turn = now;
        let mut looks = Looks { all: self.lose_patience(now) || (output.is_none() && news.is_empty()), queue: false };
        for message in news.drain(..) {
            // The next request may get the seat of one that has just ended.
            self.tell(now, observer);
            match message {
                Message::Submit(submission) => looks.queue |= self.submit(*submission, now, observer),
                Message::End { id, outcome } => looks.all |= self.end(id, outcome, now),
                Message::Halt => {}
            }
        }
        self.tell(now, observer);
        self.boundaries(looks, output, clock, now, plans, observer)?;
        let stuck = self.is_idle() && (0..self.lanes.len()).any(|lane| self.replica.has_work(lane));
        if plans && stuck && self.replica.waiting() > 0 {
            return Err(DriveError::Stalled { waiting: self.replica.waiting() });
        }
        self.levels.running = self.replica.running();
        self.levels.waiting = self.replica.waiting();
        self.levels.used_blocks = self.replica.pool().used();
        for (tier, traffic) in self.store.tiers.iter().zip(self.replica.tier_traffic()) {
            observer.stored(tier, traffic);
        }
        Ok(())
    }

    /// Lanes at a boundary, the first ones first: the one whose step has ended, and those with nothing to do for which there may
    /// be something now. The simulator's lanes look at the same moments.
    fn boundaries(
        &mut self,
        looks: Looks,
        output: Option<(usize, Output)>,
        clock: Clock,
        now: Time,
        plans: bool,
        observer: &mut dyn Observer,
    ) -> Result<(), DriveError> {
        let mut ended = output;
        let mut due: BTreeSet<usize> = ended.iter().map(|(lane, _)| *lane).collect();
        let asked = |lane: &usize| looks.all || (looks.queue && *lane == 0);
        due.extend((0..self.lanes.len()).filter(asked).filter(|lane| self.lanes[*lane].flights.is_empty()));
        while let Some(lane) = due.pop_first() {
            let before = self.replica.ended_count();
            let output = ended.take_if(|(of, _)| *of == lane);
            if let Some((_, output)) = &output {
                self.complete(lane, clock, output, now, observer);
            }
            self.replica.reap(lane, now);
            let mut effect = output.is_some() || self.replica.ended_count() != before;
            self.tell(now, observer);
            effect |= plans && self.plan(lane, clock, now, observer)?;
            if plans {
                effect |= self.land(now, observer);
            }
            if plans && effect {
                // What it has taken or given is news for those that have nothing to do.
                let idle = |other: &usize| self.lanes[*other].flights.is_empty() && self.replica.has_work(*other);
                due.extend((0..self.lanes.len()).filter(idle));
            }
        }
        Ok(())
    }

    /// Takes in a request. Returns whether it waits now.
    fn submit(&mut self, submission: Submission, now: Time, observer: &mut dyn Observer) -> bool {
        let Submission { arrival, prompt, sampling, bans, stop, client: sender } = submission;
        let (id, scheduled) = (self.arrived, arrival.at);
        self.arrived += 1;
        observer.arrived(id, scheduled, now);
        // The replica learns of it now, and that is what its policies go by.
        let arrival = Arrival { at: now, ..arrival };
        let fits = prompt.len() >= arrival.prompt_tokens as usize;
        let vocab = self.executor.capacity().vocab;
        let known = prompt.iter().all(|&token| token < vocab) && !bans.leave_none(vocab);
        let limits =
            [(arrival.max_wait, Why::MaxWait), (arrival.deadline, Why::Deadline), (arrival.cancel_after, Why::Cancel)];
        let entered = if fits && known { self.replica.enqueue(id, arrival) } else { Err(arrival) };
        if let Some(sender) = &sender {
            let _ = sender.send(Event::Accepted { id });
        }
        let seat = match entered {
            Ok(seat) => seat,
            Err(arrival) => {
                let row = RequestRow::without_service(id, 0, &arrival, Outcome::Rejected, now);
                observer.happened(now, &Happened::Ended(row.clone()), self.steps, self.busy);
                sender.map(|sender| sender.send(Event::Ended(Box::new(row))));
                return false;
            }
        };
        let generation = self.replica.generation(seat);
        for (span, why) in limits {
            if let Some(span) = span {
                self.patience.push(Limit { at: scheduled + span, seat, generation, why });
            }
        }
        let index = seat as usize;
        if self.clients.len() <= index {
            self.clients.resize_with(index + 1, || None);
        }
        self.seats.insert(id, seat);
        self.clients[index] =
            Some(Client { generation, prompt, begun: false, sampling, bans, stop, delivered: 0, sender });
        true
    }

    /// A client, or its server, ends a request.
    fn end(&mut self, id: u64, outcome: Outcome, now: Time) -> bool {
        let seat = self.seats.get(&id).copied();
        seat.map(|seat| self.replica.cancel(seat, outcome, now)).is_some()
    }

    /// Ends requests whose clients' patience has ended. Returns whether there were any.
    fn lose_patience(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(&Limit { at, seat, generation, why }) = self.patience.peek()
            && at <= now
        {
            self.patience.pop();
            let gone = self.replica.generation(seat) != generation;
            if !gone && (why != Why::MaxWait || self.replica.never_started(seat)) {
                let outcome = if why == Why::Cancel { Outcome::Cancelled } else { Outcome::Expired };
                self.replica.cancel(seat, outcome, now);
                any = true;
            }
        }
        any
    }

    /// The oldest step in flight has ended.
    fn complete(&mut self, lane: usize, clock: Clock, output: &Output, now: Time, observer: &mut dyn Observer) {
        let Some(InFlight { mut log, marks, plans }) = self.lanes[lane].flights.pop_front() else { return };
        log.device = (clock.at(output.start), clock.at(output.end));
        log.row.start = log.planned.max(self.lanes[lane].last_done);
        log.row.end = now;
        self.lanes[lane].last_done = now;
        self.steps += 1;
        let length = log.row.end - log.row.start;
        self.busy += length.0;
        let resumed: Vec<Time> = self.replica.resumed(lane).collect();
        for last in &resumed {
            observer.happened(now, &Happened::Gap { span: now.since(*last) }, self.steps, self.busy);
        }
        self.replica.note_gaps(lane, length.0, now, now);
        let gaps = u64::from(self.replica.front_seqs(lane)) - resumed.len() as u64;
        let stopped = self.deliver(output, &marks, now);
        log.delivered = self.replica.complete(lane, 1, now);
        for (seat, generation) in stopped {
            if self.replica.generation(seat) == generation {
                self.replica.cancel(seat, Outcome::Finished, now);
            }
        }
        observer.step(&log, gaps, plans);
    }

    /// Hands the tokens of a step to their clients. Returns the requests that end with theirs.
    fn deliver(&mut self, output: &Output, marks: &[(u32, u32)], now: Time) -> Vec<(u32, u32)> {
        let mut stopped = Vec::new();
        for (&(seat, generation), &(_, token)) in marks.iter().zip(&output.tokens) {
            let Some(Some(client)) = self.clients.get_mut(seat as usize) else { continue };
            if client.generation != generation {
                continue;
            }
            client.delivered += 1;
            if client.stop.tokens.contains(&token) && client.delivered >= client.stop.min_tokens {
                stopped.push((seat, generation));
            }
            if let Some(sender) = &client.sender {
                let _ = sender.send(Event::Token { token, at: now });
            }
        }
        stopped
    }

    /// Plans steps of a lane until it is full. Returns whether anything came of it.
    fn plan(&mut self, lane: usize, clock: Clock, now: Time, observer: &mut dyn Observer) -> Result<bool, DriveError> {
        let mut effect = false;
        while self.lanes[lane].flights.len() < self.depth && self.replica.has_work(lane) {
            self.lanes[lane].plans += 1;
            let busy = self.replica.plan(lane, now, &mut *self.scheduler)?;
            self.tell(now, observer);
            if self.replica.is_stuck() {
                let (requests, plans) = (self.replica.outstanding(), self.replica.barren_max());
                return Err(DriveError::NoProgress { requests, plans });
            }
            let (step, own) = (self.replica.step(), &mut self.lanes[lane]);
            own.forget(&step.thrown);
            own.preempted += step.preempted.len() as u32;
            own.swapped += step.swapped_blocks;
            effect |= busy || !step.preempted.is_empty();
            if !busy {
                break;
            }
            let (batch, marks) = self.batch(lane)?;
            let log = self.log(lane, now, clock);
            self.executor.submit(lane, batch)?;
            let own = &mut self.lanes[lane];
            own.flights.push_back(InFlight { log, marks, plans: std::mem::take(&mut own.plans) });
        }
        self.follow_blocks()?;
        Ok(effect)
    }

    /// The step just planned; what is known only when it ends is filled in then.
    fn log(&mut self, lane: usize, now: Time, clock: Clock) -> StepLog {
        self.planned += 1;
        let own = &mut self.lanes[lane];
        let (preempted, swapped_blocks) = (std::mem::take(&mut own.preempted), std::mem::take(&mut own.swapped));
        let step = self.replica.step();
        let row = StepRow {
            replica: 0,
            lane: lane as u32,
            start: now,
            end: now,
            steps: 1,
            decode_seqs: step.decode_seqs,
            prefill_seqs: step.parts.len() as u32,
            prefill_tokens: step.parts.iter().map(|part| part.tokens).sum(),
            decode_context: step.decode_context,
            prefill_context: step.parts.iter().map(|part| u64::from(part.past)).sum(),
            running: self.replica.running(),
            waiting: self.replica.waiting(),
            used_blocks: self.replica.pool().used(),
            preempted,
            swapped_blocks,
        };
        StepLog {
            row,
            parts: step.parts.clone(),
            prefill_ends: step.prefill_ends,
            delivered: 0,
            planned: now,
            number: self.planned,
            submitted: clock.now(),
            device: (Time::ZERO, Time::ZERO),
        }
    }

    /// Reports the events of the replica.
    pub(super) fn tell(&mut self, now: Time, observer: &mut dyn Observer) {
        while let Some(happened) = self.replica.pop_happened() {
            observer.happened(now, &happened, self.steps, self.busy);
            let Happened::Ended(row) = happened else { continue };
            let Some(seat) = self.seats.remove(&row.request) else { continue };
            let Some(client) = self.clients[seat as usize].take() else { continue };
            if client.begun {
                self.ends.push(seat);
            }
            client.sender.map(|sender| sender.send(Event::Ended(Box::new(row))));
        }
    }
}
