//! What comes out of a replica: tokens of completed steps, and requests that end.

use super::{Happened, Replica, hash_to, name_own, publish};
use crate::kv::Seat;
use crate::kv::retention::Keep;
use crate::results::rows::{Outcome, RequestRow};
use crate::serving::lane::Flight;
use crate::serving::request::Phase;
use crate::time::{Span, Time};

impl Replica {
    /// The steps that [`Replica::complete`] gets next took up to `longest` [ns]; the first of them ends at `first`, the
    /// last at `last`.
    pub fn note_gaps(&mut self, lane: usize, longest: u64, first: Time, last: Time) {
        let lane = &mut self.lanes[lane];
        lane.longest.push(last, longest);
        for &(seat, generation) in lane.flights.front().iter().flat_map(|flight| &flight.resumed) {
            let request = &mut self.requests[seat as usize];
            if request.generation == generation && request.is_decoding() {
                request.longest_gap = request.longest_gap.max(first.since(request.last_token).0);
            }
        }
    }

    /// Steps to complete until a delivery needs the driver's attention: a prefill ends, or a request does.
    pub fn steps_to_event(&mut self, lane: usize) -> Option<u64> {
        let lane = &mut self.lanes[lane];
        let mut ahead = 0;
        let mut special = None;
        for flight in &lane.flights {
            ahead += flight.unfinished;
            if !flight.emits.is_empty() || !flight.late.is_empty() {
                special = Some(ahead);
                break;
            }
        }
        let end = lane.steps_to_first_end(&self.requests);
        special.into_iter().chain(end).min()
    }

    /// Processes the outputs of the `steps` oldest steps in flight, the last of which ended `now`. Only the last of them may
    /// end requests or prefills. Returns the tokens delivered by that last step.
    pub fn complete(&mut self, lane_index: usize, steps: u64, now: Time) -> u32 {
        let lane = &mut self.lanes[lane_index];
        let mut left = steps;
        let mut flight = Flight::default();
        let mut delivered = 0;
        while left > 0 {
            let front = lane.flights.front_mut().expect("completed steps were planned");
            let part = left.min(front.unfinished);
            front.unfinished -= part;
            front.resumed.clear();
            left -= part;
            delivered = front.seqs;
            if front.unfinished == 0 {
                let popped = lane.flights.pop_front().expect("just seen");
                assert!(left == 0 || popped.emits.is_empty(), "law 13: the end of a prompt was skipped");
                flight = popped;
            }
        }
        lane.done += steps;
        assert!(lane.done <= lane.planned, "laws 4, 12: a step is done that was not planned");
        let done = lane.done;
        self.kv.free_cut();
        if self.kv.is_watched() {
            self.kv.at(now);
            self.kv.done(lane_index, done);
        }
        delivered += self.deliver_exceptions(lane_index, &flight, now);
        let lane = &mut self.lanes[lane_index];
        lane.last_done = now;
        lane.note_late_tokens(&mut self.requests);
        delivered += self.accept_drafts(lane_index);
        self.drain(lane_index);
        let lane = &mut self.lanes[lane_index];
        while let Some(&(last, seat, generation)) = lane.draining.front() {
            let request = &self.requests[seat as usize];
            let current = request.generation == generation && request.phase == Phase::Draining;
            if current && last > lane.done {
                break;
            }
            lane.draining.pop_front();
            if current {
                self.ended.push(seat);
            }
        }
        while let Some(seat) = lane.pop_ended(&self.requests) {
            self.ended.push(seat);
        }
        if self.kv.tree().is_some() {
            self.publish_prompts(&flight, now);
        }
        let lane = &mut self.lanes[lane_index];
        if flight.emits.capacity() > 0 && lane.spare.len() < lane.depth as usize {
            flight.emits.clear();
            flight.late.clear();
            lane.spare.push(flight);
        }
        if !self.ended.is_empty() {
            let mut ended = std::mem::take(&mut self.ended);
            ended.sort_unstable_by_key(|&seat| self.requests[seat as usize].seq);
            for &seat in &ended {
                self.end(seat, Outcome::Finished, now);
            }
            ended.clear();
            self.ended = ended;
        }
        delivered
    }

    /// Delivers first tokens, tokens after a recompute, and tokens of requests preempted while they were in flight. Returns
    /// how many: tokens of requests that have ended meanwhile are lost.
    fn deliver_exceptions(&mut self, lane: usize, flight: &Flight, now: Time) -> u32 {
        let mut delivered = 0;
        let emits = flight.emits.iter().map(|&e| (e, true));
        let late = flight.late.iter().map(|&e| (e, false));
        for ((seat, generation), ends_prefill) in emits.chain(late) {
            let request = &mut self.requests[seat as usize];
            if request.generation != generation {
                continue;
            }
            delivered += 1;
            if request.has_first {
                request.longest_gap = request.longest_gap.max((now - request.last_token).0);
                self.happened.push_back(Happened::Gap { span: now - request.last_token });
            } else {
                request.has_first = true;
                request.first_token = now;
                request.gaps_from = now;
                let (ttft, wait) = (now - request.arrival, request.start - request.arrival);
                let (id, prompt) = (request.id, request.prompt);
                self.happened.push_back(Happened::FirstToken { request: id, ttft, wait, prompt });
            }
            assert!(ends_prefill || request.phase == Phase::Waiting, "law 4: late tokens are of preempted requests");
            if matches!(request.phase, Phase::Waiting | Phase::Prefilled) {
                request.generated += 1;
                request.last_token = now;
            }
            if self.lanes[lane].generated(request) == request.output {
                self.ended.push(seat);
            } else if request.phase == Phase::Prefilled {
                request.phase = Phase::Ready;
                let lane = &mut self.lanes[lane];
                lane.running.remove(lane.position(request.seq));
                self.ready.push_back((seat, generation));
                self.ready_len += 1;
            }
        }
        delivered
    }

    /// Puts prompts whose first token was delivered into the tree of cached runs, and ends those of them that end with it, in the
    /// order of the batch.
    fn publish_prompts(&mut self, flight: &Flight, now: Time) {
        for &(seat, generation) in &flight.emits {
            let request = &mut self.requests[seat as usize];
            if request.generation != generation {
                continue;
            }
            if let Some(at) = self.ended.iter().position(|&ended| ended == seat) {
                self.ended.remove(at);
                self.end(seat, Outcome::Finished, now);
            } else if request.is_decoding() {
                let target = request.target;
                publish(&mut self.kv, seat, request, target);
            }
        }
    }

    /// Ends a request because its client went: at once if it waits, else at the next [`Replica::reap`].
    /// Returns whether it must be reaped.
    pub fn cancel(&mut self, seat: Seat, outcome: Outcome, now: Time) -> bool {
        let request = &mut self.requests[seat as usize];
        if matches!(request.phase, Phase::Waiting | Phase::Ready) {
            self.end(seat, outcome, now);
            return false;
        }
        request.doomed = true;
        self.doomed.push((seat, request.generation, outcome));
        true
    }

    /// Ends every request as failed: the replica has lost its memory. Waiting requests are lost too.
    pub fn fail(&mut self, now: Time) {
        for seat in 0..self.requests.len() as Seat {
            let request = &mut self.requests[seat as usize];
            match request.phase {
                Phase::Vacant => {}
                Phase::Waiting | Phase::Ready => self.end(seat, Outcome::Failed, now),
                _ if request.doomed => {}
                _ => {
                    request.doomed = true;
                    self.doomed.push((seat, request.generation, Outcome::Failed));
                }
            }
        }
    }

    /// Whether a request has not been part of any step yet.
    pub fn never_started(&self, seat: Seat) -> bool {
        !self.requests[seat as usize].started
    }

    /// Ends the running requests of a lane whose clients went. Called at step boundaries, before planning.
    pub fn reap(&mut self, lane: usize, now: Time) {
        for (seat, generation, outcome) in std::mem::take(&mut self.doomed) {
            let request = &self.requests[seat as usize];
            if request.generation != generation {
                continue;
            }
            if usize::from(request.lane) == lane && !matches!(request.phase, Phase::Arriving | Phase::Loading) {
                self.end(seat, outcome, now);
            } else {
                self.doomed.push((seat, generation, outcome));
            }
        }
    }

    /// Ends a request in any phase and frees what it holds.
    #[expect(clippy::too_many_lines, reason = "each phase ends in its own way; it is to be split")]
    pub(crate) fn end(&mut self, seat: Seat, outcome: Outcome, now: Time) {
        self.kv.at(now);
        let request = &mut self.requests[seat as usize];
        let lane = &mut self.lanes[usize::from(request.lane)];
        let output_tokens = lane.generated(request);
        let gaps = outcome == Outcome::Finished && output_tokens > 1;
        let name = if self.own_waiting > 0 { name_own } else { hash_to };
        let longest_gap = gaps.then(|| Span(request.longest_gap.max(lane.longest.since(request.gaps_from))));
        match request.phase {
            Phase::Waiting => {
                self.waiting.remove(seat, request);
                self.own_waiting -= u32::from(request.preemptions > 0 && self.limits.prefix_caching);
                self.waiting_tokens -= if request.kv.below() == 0 { u64::from(request.prompt) } else { 0 };
                self.kv.drop_swapped(&mut request.kv);
            }
            Phase::Prefill => lane.prefilling.retain(|&s| s != seat),
            Phase::Prefilled => {}
            Phase::Ready => self.ready_len -= 1,
            Phase::Arriving => self.arriving -= 1,
            Phase::Loading => self.own_waiting -= u32::from(request.preemptions > 0 && self.limits.prefix_caching),
            Phase::Decode => {
                // At depth 2 the step in flight has planned one token more, which is thrown away.
                let in_flight = (lane.planned - lane.done.max(request.joined)) as u32;
                lane.forget_in_flight(seat, request);
                lane.leave(request);
                if outcome == Outcome::Finished {
                    name(&mut self.kv, seat, request, request.kv.positions() - in_flight);
                }
            }
            Phase::Draining => {
                if outcome == Outcome::Finished {
                    name(&mut self.kv, seat, request, request.kv.positions());
                } else {
                    lane.forget_in_flight(seat, request);
                }
            }
            Phase::Vacant => unreachable!("a vacant seat has no request to end"),
        }
        if !matches!(request.phase, Phase::Waiting | Phase::Loading | Phase::Ready | Phase::Arriving) {
            let at = lane.position(request.seq);
            lane.running.remove(at);
        }
        if request.is_decoding() {
            // Of a token that was computed too much nothing is known.
            let tokens = request.kv.positions().min(request.prompt + output_tokens);
            publish(&mut self.kv, seat, request, tokens);
        }
        if outcome == Outcome::Finished && self.limits.retention != Keep::ALL {
            let budget = if request.kv.budget() == 0 { self.limits.retention.budget } else { request.kv.budget() };
            self.retained.finish(budget, output_tokens, (request.kv.positions(), request.kv.kept()));
        }
        if request.phase != Phase::Waiting {
            self.kv.release(seat, &mut request.kv);
            if lane.running.is_empty() {
                lane.longest.clear();
            }
        }
        let row = RequestRow {
            request: request.id,
            replica: self.id,
            class: request.class,
            session: request.session,
            outcome,
            arrival: request.arrival,
            start: request.started.then_some(request.start),
            first_token: request.has_first.then_some(request.first_token),
            end: now,
            prompt_tokens: request.prompt,
            output_tokens,
            cached_tokens: request.cached,
            preemptions: request.preemptions,
            recomputed_tokens: request.recomputed,
            longest_gap,
            frontend: Span::ZERO,
            swapped_tokens: self.swapped.get_mut(seat as usize).map_or(0, std::mem::take),
            attempts: 1,
        };
        self.progress.forget(seat);
        request.phase = Phase::Vacant;
        request.generation = request.generation.wrapping_add(1);
        request.content = None;
        if outcome == Outcome::Finished {
            self.finished.push(output_tokens);
        }
        self.waiting.close_gaps(&self.requests);
        self.vacant.push(seat);
        self.outstanding -= 1;
        self.ended_count += 1;
        self.happened.push_back(Happened::Ended(row));
    }
}
