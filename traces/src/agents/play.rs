//! The sessions of a trace as a workload: opened one by one, or read on as they were recorded.

mod open;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use overbook_sim::time::{Span, Time};
use overbook_sim::units::Rate;
use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};
use overbook_sim::workload::sessions::{Followed, Opened, Sessions, Turn};
use rand::rngs::ChaCha8Rng;

use super::line::Place;
use super::session::{Builder, Cut, Session};
use crate::counts::Counts;
use crate::draw::{stream, uniform};
use crate::error::TraceError;
use crate::fault::about_row;
use crate::format::Format;
use crate::json;
use crate::lines::Lines;
use crate::load::Failures;
use crate::session_spec::{Pace, SessionTraceSpec};
use crate::spec::TraceSpec;
use open::{Open, Slots};

/// Sessions of a trace that play as a [`Workload`]. In memory are those that are open, and the next one.
pub struct SessionReplay {
    spec: TraceSpec,
    sessions: SessionTraceSpec,
    builder: Builder,
    lines: Lines,
    /// Sessions of the file that were passed over, and taken, in this copy.
    skipped: u64,
    taken: u64,
    copy: u64,
    /// Sessions of all copies so far.
    number: u64,
    counts: Counts,
    /// The next session, and when it starts, once that is known.
    next: Option<(Session, Option<Time>)>,
    starts: Option<Starts>,
    slots: Slots,
    /// Reading on: requests of the open sessions by time, the earlier session first; and when the last one ends.
    queue: BinaryHeap<Reverse<(Time, u64, Turn)>>,
    last_end: Time,
}

/// A Poisson process.
struct Starts {
    rate: f64,
    draws: ChaCha8Rng,
    at: Time,
}

impl TraceSpec {
    /// Whether the file holds sessions. A file that can be read only once must be named by its format.
    pub(crate) fn is_of_sessions(&self) -> Result<bool, TraceError> {
        match self.format {
            Format::KvCacheTester => Ok(true),
            Format::Auto if self.columns.is_none() && self.path.is_file() => {
                let mut lines = Lines::open(&self.path)?;
                // Whatever else it is, its own reader says.
                let first = lines.next_line().ok().flatten();
                let keys =
                    first.and_then(|(_, line)| json::keys(line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)).ok());
                Ok(keys.is_some_and(|keys| {
                    Format::KvCacheTester.columns().iter().all(|key| keys.contains(&key.as_bytes()))
                }))
            }
            _ => Ok(false),
        }
    }
}

impl TraceSpec {
    /// How many tokens one id of contents stands for in the file [tokens], as its first request has them; `None` if it names no
    /// contents. Blocks of this size lose nothing and split nothing.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn id_tokens(&self) -> Result<Option<u32>, TraceError> {
        // Blocks of one token divide those of any file.
        let tokens = TraceSpec { block_tokens: 1, ..self.clone() };
        if tokens.is_of_sessions()? {
            return Ok(SessionReplay::open(&tokens, 0)?.id_tokens());
        }
        Ok(tokens.replay()?.id_tokens())
    }
}

impl SessionReplay {
    /// Opens the file and reads its first session.
    pub(crate) fn open(spec: &TraceSpec, seed: u64) -> Result<SessionReplay, TraceError> {
        let problems = spec.session_problems();
        if !problems.is_empty() {
            return Err(TraceError::Spec(problems));
        }
        let mut replay = SessionReplay::unread(spec, seed)?;
        replay.peek()?;
        if replay.next.is_none() {
            return Err(replay.no_requests());
        }
        Ok(replay)
    }

    fn unread(spec: &TraceSpec, seed: u64) -> Result<SessionReplay, TraceError> {
        let sessions = spec.sessions.clone().unwrap_or_default();
        let cut = Cut {
            prompt_tokens: sessions.max_prompt_tokens.unwrap_or(u32::MAX),
            output_tokens: spec.max_output_tokens.unwrap_or(u32::MAX),
            pause_ns: sessions.max_think_time.map_or(u64::MAX, |think| think.0.0),
        };
        let starts = sessions.rate.map(|Rate(rate)| Starts { rate, draws: stream(seed, *b"starts  "), at: Time::ZERO });
        Ok(SessionReplay {
            builder: Builder::new(cut, spec.block_tokens),
            lines: Lines::open(&spec.path)?,
            skipped: 0,
            taken: 0,
            copy: 0,
            number: 0,
            counts: Counts::default(),
            next: None,
            starts,
            slots: Slots::default(),
            queue: BinaryHeap::new(),
            last_end: Time::ZERO,
            sessions,
            spec: spec.clone(),
        })
    }

    /// What became of the requests so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many tokens one id of contents stands for in the next session.
    fn id_tokens(&self) -> Option<u32> {
        self.next.as_ref().map(|(session, _)| session.block_size)
    }

    /// All that is wrong with the first sessions of the file, in its order.
    pub(crate) fn faults(spec: &TraceSpec, sessions_max: u64) -> Result<(Counts, bool, Vec<TraceError>), TraceError> {
        let problems = spec.session_problems();
        if !problems.is_empty() {
            return Err(TraceError::Spec(problems));
        }
        let mut replay = SessionReplay::unread(spec, 0)?;
        let (mut faults, mut read) = (Vec::new(), 0);
        while read < sessions_max {
            read += 1;
            match replay.read_line() {
                Ok(Some(session)) => replay.count(&session),
                Ok(None) => return Ok((replay.counts, true, faults)),
                Err(error) if about_row(&error).is_some() => faults.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((replay.counts, false, faults))
    }

    /// The session of the next line.
    fn read_line(&mut self) -> Result<Option<Session>, TraceError> {
        let Some((line, text)) = self.lines.next_line()? else { return Ok(None) };
        self.builder.build(text, Place { path: &self.spec.path, line }).map(Some)
    }

    /// The next session that has requests to send, of this copy of the file or the next one.
    fn read(&mut self) -> Result<Option<Session>, TraceError> {
        loop {
            let enough = self.sessions.take.is_some_and(|take| self.taken >= take);
            let session = if enough { None } else { self.read_line()? };
            let Some(session) = session else {
                self.copy += 1;
                if self.copy >= self.spec.repeat || self.taken == 0 {
                    return Ok(None);
                }
                (self.skipped, self.taken) = (0, 0);
                self.lines = Lines::open(&self.spec.path)?;
                continue;
            };
            if self.skipped < self.sessions.skip {
                self.skipped += 1;
                let requests = session.requests.len() as u64 + session.cut_off;
                self.counts.rows += requests;
                self.counts.skipped += requests;
                continue;
            }
            self.taken += 1;
            let sends = session.requests.iter().any(|request| !self.leaves_out(request.failed()));
            self.count(&session);
            if sends {
                return Ok(Some(session));
            }
        }
    }

    fn leaves_out(&self, failed: bool) -> bool {
        failed && self.spec.failures == Failures::Drop
    }

    fn count(&mut self, session: &Session) {
        let (all, failed) =
            (session.requests.len(), session.requests.iter().filter(|request| request.failed()).count());
        let left_out = if self.leaves_out(true) { failed } else { 0 };
        self.counts.rows += all as u64 + session.cut_off;
        self.counts.cut_off += session.cut_off;
        self.counts.failed += failed as u64;
        self.counts.dropped += left_out as u64;
        self.counts.taken += (all - left_out) as u64;
    }

    /// Makes sure that the next session is read, if there is one.
    fn peek(&mut self) -> Result<(), TraceError> {
        if self.next.is_none() {
            self.next = self.read()?.map(|session| (session, None));
        }
        Ok(())
    }

    /// Opens a session at a place of its own.
    fn begin(&mut self, session: Session, now: Time) -> Open {
        self.number += 1;
        Open::new(session, self.number, self.copy, now, &self.spec)
    }

    /// The requests to be sent, and those that follow on requests that are left out.
    fn ready(&mut self, turns: Vec<(Time, Turn)>) -> Vec<(Time, Turn)> {
        match self.spec.failures {
            Failures::Drop => self.slots.pass_over_failed(turns),
            Failures::Keep | Failures::Redraw => turns,
        }
    }

    /// All requests of a session that is open, at their recorded times.
    fn recorded(&mut self, number: u32) -> Vec<(Time, Turn)> {
        let drops = self.leaves_out(true);
        let all = self.slots.at(number).all(drops);
        all.into_iter().map(|(at, turn)| (at, Turn { session: number, turn })).collect()
    }

    fn no_requests(&self) -> TraceError {
        let help = match () {
            () if self.counts.failed > 0 => "choose a file with successful requests, or set `failures: keep`",
            () if self.counts.skipped > 0 => "`sessions.skip` must be below the number of sessions",
            () => "the file holds no requests of the wanted length; look at `sessions.max_prompt_tokens`",
        };
        let (path, line) = (self.spec.path.clone(), self.lines.number());
        TraceError::NoRequests { path, line, counts: Box::new(self.counts), help: help.to_owned() }
    }

    /// When the next session starts, reading on: at its time, else when the one before has ended by the record.
    fn recorded_start(&mut self) -> Result<Option<Time>, TraceError> {
        if self.starts.is_some() {
            return self.start();
        }
        self.peek()?;
        Ok(self.next.is_some().then_some(self.last_end))
    }

    /// When the next session starts.
    fn start(&mut self) -> Result<Option<Time>, TraceError> {
        self.peek()?;
        let Some((_, at)) = &mut self.next else { return Ok(None) };
        if let Some(at) = at {
            return Ok(Some(*at));
        }
        let Some(starts) = &mut self.starts else {
            return Err(TraceError::NoStarts { path: self.spec.path.clone() });
        };
        let start = starts.at;
        let gap_s = -(1.0 - uniform(&mut starts.draws)).ln() / starts.rate;
        starts.at = start + Span::from_secs_f64(gap_s);
        *at = Some(start);
        Ok(Some(start))
    }
}

impl Sessions for SessionReplay {
    fn waits(&self) -> bool {
        self.sessions.pace == Pace::Answered
    }

    fn next_start(&mut self) -> Result<Option<Time>, WorkloadError> {
        Ok(self.start()?)
    }

    fn open(&mut self, now: Time) -> Result<Option<Opened>, WorkloadError> {
        self.peek()?;
        let Some((session, _)) = self.next.take() else { return Ok(None) };
        let open = self.begin(session, now);
        let (session, requests) = (open.id(), open.left());
        let number = self.slots.put(open);
        let turns = if self.waits() {
            let first = self.slots.at(number).first();
            self.ready(first.into_iter().map(|(at, turn)| (at, Turn { session: number, turn })).collect())
        } else {
            self.recorded(number)
        };
        Ok(Some(Opened { number, session, requests, turns }))
    }

    fn send(&mut self, turn: Turn, now: Time) -> Arrival {
        self.slots.at(turn.session).arrival(turn.turn, now)
    }

    fn ended(&mut self, turn: Turn, at: Time) -> Followed {
        let waits = self.waits();
        let turns = self.slots.at(turn.session).end(turn.turn, waits.then_some(at));
        let turns = turns.into_iter().map(|(at, next)| (at, Turn { session: turn.session, turn: next })).collect();
        let turns = self.ready(turns);
        let over = self.slots.close_if_over(turn.session);
        Followed { turns, over }
    }
}

impl Workload for SessionReplay {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        loop {
            let start = self.recorded_start()?;
            let due = self.queue.peek().map(|Reverse((at, ..))| *at);
            let open_next = start.filter(|&start| due.is_none_or(|due| start < due));
            let Some(start) = open_next else {
                let Some(Reverse((at, _, turn))) = self.queue.pop() else { return Ok(None) };
                let arrival = self.slots.at(turn.session).arrival(turn.turn, at);
                self.slots.at(turn.session).end(turn.turn, None);
                self.slots.close_if_over(turn.session);
                return Ok(Some(arrival));
            };
            let Some((session, _)) = self.next.take() else { return Ok(None) };
            self.last_end = self.last_end.max(start + Span(session.end_ns()));
            let open = self.begin(session, start);
            let number = self.slots.put(open);
            let order = self.number;
            for (at, turn) in self.recorded(number) {
                self.queue.push(Reverse((at, order, turn)));
            }
        }
    }

    fn classes(&self) -> &[String] {
        &self.builder.classes
    }

    fn sessions(&mut self) -> Option<&mut dyn Sessions> {
        Some(self)
    }

    fn rows(&self) -> Vec<(&'static str, u64)> {
        self.counts.named().to_vec()
    }
}
