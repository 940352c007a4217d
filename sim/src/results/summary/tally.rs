//! Gathers the figures of a run while it goes, in memory that does not grow with the number of requests.

use super::{
    Attained, Batches, Class, ClientLatencies, Fleet, Latencies, Load, Outages, SessionFigures, Slo, Summary, Tokens,
    Work,
};
use crate::results::histogram::Histogram;
use crate::results::rows::{Outcome, RequestRow, SessionRow, StepRow};
use crate::time::{Span, Time};

/// What a class gathers; the fleet's latencies are the classes' merged.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct ClassTally {
    outcomes: [u64; Outcome::ALL.len()],
    good: u64,
    latencies: Latencies,
}

/// Integrals over time (level × ns, summed over replicas) and maxima.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Levels {
    running: u128,
    waiting: u128,
    used_blocks: u128,
    running_max: u32,
    waiting_max: u32,
    /// Fullest pool seen: (used, of).
    fullest: (u64, u64),
}

/// Gathers the figures of one run; [`Tally::finish`] states them. Tallies of shards merge exactly.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    slo: Slo,
    attained_ttft: u64,
    attained_tpot: u64,
    attained_mtpot: u64,
    attained_e2el: u64,
    tokens: Tokens,
    single_token: u64,
    attempts: u64,
    first_arrival: Time,
    last_end: Time,
    classes: Vec<ClassTally>,
    itl: Histogram,
    queue_time: Histogram,
    client: Option<ClientLatencies>,
    sessions: Option<Box<SessionFigures>>,
    work: Work,
    batches: Batches,
    levels: Levels,
}

pub(super) fn meets(value: Option<Span>, limit: Option<Span>) -> bool {
    match (value, limit) {
        (Some(value), Some(limit)) => value <= limit,
        _ => true,
    }
}

impl Tally {
    /// An empty tally that counts goodput against `slo`.
    pub fn new(slo: Slo) -> Self {
        Tally {
            slo,
            attained_ttft: 0,
            attained_tpot: 0,
            attained_mtpot: 0,
            attained_e2el: 0,
            tokens: Tokens::default(),
            single_token: 0,
            attempts: 0,
            first_arrival: Time::MAX,
            last_end: Time::ZERO,
            classes: Vec::new(),
            itl: Histogram::new(),
            queue_time: Histogram::new(),
            client: None,
            sessions: None,
            work: Work::default(),
            batches: Batches::default(),
            levels: Levels { running: 0, waiting: 0, used_blocks: 0, running_max: 0, waiting_max: 0, fullest: (0, 1) },
        }
    }

    /// A request has ended.
    #[inline]
    pub fn request(&mut self, row: &RequestRow) {
        self.first_arrival = self.first_arrival.min(row.arrival);
        self.last_end = self.last_end.max(row.end);
        self.attempt(row);
        if let Some(start) = row.start {
            self.queue_time.record((start - row.arrival).0);
        }
        let index = usize::from(row.class.0);
        if index >= self.classes.len() {
            self.classes.resize_with(index + 1, ClassTally::default);
        }
        self.classes[index].outcomes[row.outcome as usize] += 1;
        if row.outcome == Outcome::Finished {
            self.finished(row, index);
        }
    }

    /// A request has finished, and its client learns of every token `later` than the engine.
    pub fn client(&mut self, row: &RequestRow, later: Span) {
        let client = self.client.get_or_insert_default();
        if let Some(ttft) = row.ttft() {
            client.ttft.record((ttft + later).0);
        }
        client.e2el.record((row.e2el() + later).0);
    }

    /// A session is opened.
    pub fn session_opens(&mut self) {
        self.sessions.get_or_insert_default().opened += 1;
    }

    /// A request of a session has ended: its first one, or a later one.
    pub fn turn(&mut self, row: &RequestRow, first: bool) {
        if row.outcome == Outcome::Finished {
            self.sessions.get_or_insert_default().turn(row, first);
        }
    }

    /// A session is over.
    pub fn session(&mut self, row: &SessionRow) {
        self.sessions.get_or_insert_default().over(row);
    }

    /// An attempt has ended, and its client will send the request again: what it took counts, the request does not yet.
    #[inline]
    pub fn attempt(&mut self, row: &RequestRow) {
        self.attempts += 1;
        self.tokens.output += u64::from(row.output_tokens);
        self.tokens.cached += u64::from(row.cached_tokens);
        self.tokens.recomputed += row.recomputed_tokens;
        self.tokens.swapped += row.swapped_tokens;
        if row.start.is_some() {
            self.tokens.prompt += u64::from(row.prompt_tokens);
        }
    }

    #[inline]
    fn finished(&mut self, row: &RequestRow, class: usize) {
        let (ttft, tpot, e2el) = (row.ttft(), row.tpot(), row.e2el());
        let class = &mut self.classes[class];
        if let Some(ttft) = ttft {
            class.latencies.ttft.record(ttft.0);
        }
        match tpot {
            Some(tpot) => class.latencies.tpot.record(tpot.0),
            None => self.single_token += 1,
        }
        if let Some(gap) = row.longest_gap {
            class.latencies.mtpot.record(gap.0);
        }
        class.latencies.e2el.record(e2el.0);
        let (slo, gap) = (&self.slo, row.longest_gap);
        let (in_ttft, in_tpot) = (meets(ttft, slo.ttft), meets(tpot, slo.tpot));
        let (in_mtpot, in_e2el) = (meets(gap, slo.mtpot), meets(Some(e2el), slo.e2el));
        self.attained_ttft += u64::from(in_ttft);
        self.attained_tpot += u64::from(in_tpot);
        self.attained_mtpot += u64::from(in_mtpot);
        self.attained_e2el += u64::from(in_e2el);
        if in_ttft && in_tpot && in_mtpot && in_e2el {
            class.good += 1;
            self.tokens.good += u64::from(row.prompt_tokens) + u64::from(row.output_tokens);
        }
        self.tokens.finished_prompt += u64::from(row.prompt_tokens);
        self.tokens.finished_output += u64::from(row.output_tokens);
    }

    /// `count` gaps of `ns` between consecutive tokens of a request (its `itl`).
    #[inline]
    pub fn gaps(&mut self, ns: u64, count: u64) {
        self.itl.record_n(ns, count);
    }

    /// `n` steps of a lane, which took `first`, `first + step`, … in fixed point [2⁻²⁰ ns]: each is a gap of `weight` requests. Any
    /// split of a segment adds up to the same.
    #[inline]
    pub fn gap_ramp_fixed(&mut self, first: u64, step: u64, n: u64, weight: u64) {
        self.itl.record_ramp_fixed(first, step, n, weight);
        self.batches.time.record_ramp_fixed(first, step, n, 1);
    }

    /// A segment is complete.
    #[inline]
    pub fn step(&mut self, row: &StepRow) {
        self.segment(row.steps, u64::from(row.decode_seqs), u64::from(row.prefill_tokens), row.end - row.start);
        self.preemptions(u64::from(row.preempted));
        let (decode, prefill) = (u64::from(row.decode_seqs), u64::from(row.prefill_seqs));
        self.batches.seqs.record_n(decode + prefill, row.steps);
        self.batches.tokens.record_n(decode + u64::from(row.prefill_tokens), row.steps);
    }

    /// A segment of `steps` steps is complete, each of which decoded `decode_seqs` tokens, and that took `busy` in all.
    #[inline]
    pub fn segment(&mut self, steps: u64, decode_seqs: u64, prefill_tokens: u64, busy: Span) {
        self.work.segments += 1;
        self.work.steps += steps;
        self.work.decode_steps += if decode_seqs > 0 { steps } else { 0 };
        self.work.busy = self.work.busy + busy;
        self.tokens.computed += steps * decode_seqs + prefill_tokens;
    }

    /// A scheduler was asked for a plan `n` times.
    #[inline]
    pub fn plans(&mut self, n: u64) {
        self.work.plans += n;
    }

    /// `n` requests were preempted. [`Tally::step`] counts those of its row by itself.
    #[inline]
    pub fn preemptions(&mut self, n: u64) {
        self.work.preemptions += n;
    }

    /// The given levels stood on one replica, whose pool has `pool_blocks`, from `from` until `to`.
    #[inline]
    pub fn hold(&mut self, from: Time, to: Time, running: u32, waiting: u32, used_blocks: u64, pool_blocks: u64) {
        let ns = u128::from(to.since(from).0);
        let levels = &mut self.levels;
        levels.running += u128::from(running) * ns;
        levels.waiting += u128::from(waiting) * ns;
        levels.used_blocks += u128::from(used_blocks) * ns;
        levels.running_max = levels.running_max.max(running);
        levels.waiting_max = levels.waiting_max.max(waiting);
        levels.fullest = fuller(levels.fullest, (used_blocks, pool_blocks));
    }

    /// Blocks that were in use, as an integral over time [blocks × ns], and the most of them at once.
    #[inline]
    pub fn blocks(&mut self, area: u128, most: u64, pool_blocks: u64) {
        self.levels.used_blocks += area;
        self.levels.fullest = fuller(self.levels.fullest, (most, pool_blocks));
    }

    /// Lanes were busy for this long with steps that did not come to their end.
    pub fn busy(&mut self, part: Span) {
        self.work.busy = self.work.busy + part;
    }

    /// So much of the busy time lies after the last end: no part of the run.
    pub fn trim_busy(&mut self, after: Span) {
        self.work.busy = Span(self.work.busy.0.saturating_sub(after.0));
    }

    /// The first request arrives, whether or not it will have ended by the end.
    pub fn start(&mut self, now: Time) {
        self.first_arrival = self.first_arrival.min(now);
    }

    /// The run stops at `now`, whichever requests are still there.
    pub fn stop(&mut self, now: Time) {
        self.last_end = self.last_end.max(now);
    }

    /// Adds everything `other` has gathered. Both must count against the same [`Slo`].
    pub fn merge(&mut self, other: &Tally) {
        assert_eq!(self.slo, other.slo, "law 11: tallies of different promises");
        self.attained_ttft += other.attained_ttft;
        self.attained_tpot += other.attained_tpot;
        self.attained_mtpot += other.attained_mtpot;
        self.attained_e2el += other.attained_e2el;
        self.tokens.add(&other.tokens);
        self.single_token += other.single_token;
        self.attempts += other.attempts;
        self.first_arrival = self.first_arrival.min(other.first_arrival);
        self.last_end = self.last_end.max(other.last_end);
        if self.classes.len() < other.classes.len() {
            self.classes.resize_with(other.classes.len(), ClassTally::default);
        }
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.outcomes.iter_mut().zip(theirs.outcomes).for_each(|(a, b)| *a += b);
            mine.good += theirs.good;
            mine.latencies.merge(&theirs.latencies);
        }
        self.itl.merge(&other.itl);
        self.queue_time.merge(&other.queue_time);
        if let Some(client) = &other.client {
            let mine = self.client.get_or_insert_default();
            mine.ttft.merge(&client.ttft);
            mine.e2el.merge(&client.e2el);
        }
        if let Some(sessions) = &other.sessions {
            self.sessions.get_or_insert_default().merge(sessions);
        }
        self.work.add(&other.work);
        self.batches.merge(&other.batches);
        self.levels.add(&other.levels);
    }

    /// The first arrival and the last end so far.
    pub fn span(&self) -> (Time, Time) {
        (self.first_arrival.min(self.last_end), self.last_end)
    }

    /// The figures. `classes` are the workload's class names; a class without a name gets its number.
    pub fn finish(self, fleet: Fleet, classes: &[String]) -> Summary {
        let first_arrival = self.first_arrival.min(self.last_end);
        let makespan = self.last_end.since(first_arrival).0;
        let mut outcomes = [0; Outcome::ALL.len()];
        let mut latencies = Latencies::default();
        let mut good = 0;
        for class in &self.classes {
            outcomes.iter_mut().zip(class.outcomes).for_each(|(a, b)| *a += b);
            latencies.merge(&class.latencies);
            good += class.good;
        }
        let named = |(i, class): (usize, ClassTally)| Class {
            name: classes.get(i).cloned().unwrap_or_else(|| i.to_string()),
            outcomes: class.outcomes,
            good: class.good,
            latencies: class.latencies,
        };
        Summary {
            slo: self.slo,
            attained: Attained {
                ttft: self.slo.ttft.map(|_| self.attained_ttft),
                tpot: self.slo.tpot.map(|_| self.attained_tpot),
                mtpot: self.slo.mtpot.map(|_| self.attained_mtpot),
                e2el: self.slo.e2el.map(|_| self.attained_e2el),
                all: good,
            },
            fleet,
            outcomes,
            single_token: self.single_token,
            attempts: self.attempts,
            tokens: self.tokens,
            first_arrival,
            last_end: self.last_end,
            latencies,
            itl: self.itl,
            queue_time: self.queue_time,
            client: self.client,
            sessions: self.sessions,
            classes: self.classes.into_iter().enumerate().map(named).collect(),
            work: self.work,
            batches: self.batches,
            load: self.levels.load(makespan, &fleet),
            pools: Vec::new(),
            kv: None,
            retained: None,
            speculation: None,
            quality: None,
            power: None,
            economics: None,
            limiter: None,
            outages: Outages::default(),
        }
    }
}

/// The fuller of two pools (used, of), compared as fractions.
fn fuller(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    let b_is_fuller = u128::from(b.0) * u128::from(a.1) > u128::from(a.0) * u128::from(b.1);
    if b_is_fuller { b } else { a }
}

impl Levels {
    fn add(&mut self, other: &Levels) {
        self.running += other.running;
        self.waiting += other.waiting;
        self.used_blocks += other.used_blocks;
        self.running_max = self.running_max.max(other.running_max);
        self.waiting_max = self.waiting_max.max(other.waiting_max);
        self.fullest = fuller(self.fullest, other.fullest);
    }

    fn load(&self, makespan: u64, fleet: &Fleet) -> Load {
        let mean = |level: u128| {
            if makespan == 0 { 0.0 } else { level as f64 / makespan as f64 }
        };
        let share = |used: f64, of: f64| if of == 0.0 { 0.0 } else { used / of };
        let there = fleet.replica_seconds(Span(makespan)) * 1e9 / f64::from(fleet.replicas.max(1));
        Load {
            running_mean: mean(self.running),
            running_max: self.running_max,
            waiting_mean: mean(self.waiting),
            waiting_max: self.waiting_max,
            kv_usage_mean: share(self.used_blocks as f64, fleet.blocks as f64 * there),
            kv_usage_max: share(self.fullest.0 as f64, self.fullest.1 as f64),
        }
    }
}

impl Latencies {
    fn merge(&mut self, other: &Latencies) {
        self.ttft.merge(&other.ttft);
        self.tpot.merge(&other.tpot);
        self.mtpot.merge(&other.mtpot);
        self.e2el.merge(&other.e2el);
    }
}

impl Batches {
    fn merge(&mut self, other: &Batches) {
        self.seqs.merge(&other.seqs);
        self.tokens.merge(&other.tokens);
        self.time.merge(&other.time);
    }
}

impl Tokens {
    fn add(&mut self, other: &Tokens) {
        self.prompt += other.prompt;
        self.output += other.output;
        self.cached += other.cached;
        self.recomputed += other.recomputed;
        self.swapped += other.swapped;
        self.computed += other.computed;
        self.finished_prompt += other.finished_prompt;
        self.finished_output += other.finished_output;
        self.good += other.good;
    }
}

impl Work {
    fn add(&mut self, other: &Work) {
        self.steps += other.steps;
        self.decode_steps += other.decode_steps;
        self.plans += other.plans;
        self.segments += other.segments;
        self.preemptions += other.preemptions;
        self.busy = self.busy + other.busy;
    }
}
