//! Golden schedules of SGLang 0.5.23: who is prefilled with how many tokens and which hit, who decodes, who goes, and what memory there
//! is, turn by turn of its event loop.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde::Deserialize;

use super::write_list;
use crate::counter::mix;
use crate::results::rows::Outcome;
use crate::schedulers::sglang::v0_5::Constants;
use crate::schedulers::sglang::{RetractionPolicy, SglangV05, SglangVersion};
use crate::schedulers::{SchedulePolicy, SchedulerPolicy as _, SglangSpec};
use crate::serving::replica::{Happened, Limits, Replica};
use crate::serving::step::Infeasible;
use crate::time::Time;
use crate::workload::arrival::{Arrival, Content};

/// A request: (arrival step, prompt as pairs of segment and length, output limit, priority, whether it ignores the end of sequence).
pub type SglangRequest = (u64, Vec<(i64, u32)>, u32, i32, u8);

/// One recorded workload.
///
/// A prompt is made of the beginnings of segments, one after the other. Tokens of different segments, and at different places of one,
/// are distinct. Segment `-(i + 1)` is what request `i` generates.
#[derive(Clone, Debug, Deserialize)]
pub struct SglangWorkload {
    /// Its number; the steps refer to it.
    pub w: u64,
    /// What it exercises.
    pub kind: String,
    /// Settings of the scheduler and the pool.
    pub cfg: SglangConfig,
    /// Requests, by arrival step.
    pub req: Vec<SglangRequest>,
}

/// SGLang's settings, with SGLang's names.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names and meanings are SGLang's; see `SglangSpec`")]
pub struct SglangConfig {
    pub page_size: u32,
    pub schedule_policy: SchedulePolicy,
    pub chunked_prefill_size: Option<u32>,
    pub max_prefill_tokens: u32,
    pub enable_mixed_chunk: bool,
    pub schedule_conservativeness: f64,
    pub radix_cache: bool,
    pub overlap: bool,
    pub enable_priority_scheduling: bool,
    pub schedule_low_priority_values_first: bool,
    pub disable_priority_preemption: bool,
    pub priority_scheduling_preemption_threshold: u32,
    pub retraction_policy: RetractionPolicy,
    pub prefill_max_requests: Option<u32>,
    pub prefill_decode_interval: Option<u32>,
    pub prefill_decode_interval_min_bs: u32,
    pub min_free_slots_delay: Option<u32>,
    pub radix_eviction_policy: RadixEviction,
    pub max_running_requests: u32,
    pub max_total_tokens: u64,
    pub context_len: u32,
    pub clip_max_new_tokens: u32,
}

/// Which cached run goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RadixEviction {
    /// The one that was looked at longest ago.
    Lru,
}

impl SglangWorkload {
    /// What no engine can be set to, if anything: replaying it would be meaningless.
    pub fn problem(&self) -> Option<&'static str> {
        let cfg = &self.cfg;
        if cfg.page_size == 0 || cfg.context_len < 3 || cfg.max_total_tokens < 2 * u64::from(cfg.page_size) {
            return Some("needs a page_size, a context_len of 3 or more and max_total_tokens of two pages or more");
        }
        if cfg.max_total_tokens > u64::from(u32::MAX) {
            return Some("max_total_tokens is below 2³²");
        }
        if cfg.max_running_requests == 0 || cfg.max_prefill_tokens == 0 || cfg.chunked_prefill_size == Some(0) {
            return Some("max_running_requests, max_prefill_tokens and chunked_prefill_size are at least 1");
        }
        if !(cfg.schedule_conservativeness >= 0.0 && cfg.schedule_conservativeness.is_finite()) {
            return Some("schedule_conservativeness is 0 or more");
        }
        if !self.req.is_sorted_by_key(|request| request.0) {
            return Some("requests are in order of arrival step");
        }
        let limits = cfg.limits();
        let fits = |prompt: &[(i64, u32)]| {
            let tokens = prompt.iter().try_fold(0u32, |sum, &(_, length)| sum.checked_add(length));
            tokens.is_some_and(|tokens| tokens > 0 && limits.room(tokens) >= 0)
        };
        let bad = |(_, prompt, limit, ..): &SglangRequest| *limit == 0 || !fits(prompt);
        self.req.iter().any(bad).then_some("a request has a prompt that fits into the pool, and an output limit")
    }
}

impl SglangConfig {
    fn scheduler(&self) -> SglangSpec {
        SglangSpec {
            version: SglangVersion::V05,
            schedule_policy: self.schedule_policy,
            max_running_requests: self.max_running_requests,
            chunked_prefill_size: self.chunked_prefill_size,
            max_prefill_tokens: self.max_prefill_tokens,
            schedule_conservativeness: self.schedule_conservativeness,
            clip_max_new_tokens: self.clip_max_new_tokens,
            enable_mixed_chunk: self.enable_mixed_chunk,
            enable_overlap_schedule: self.overlap,
            enable_radix_cache: self.radix_cache,
            enable_priority_scheduling: self.enable_priority_scheduling,
            schedule_low_priority_values_first: self.schedule_low_priority_values_first,
            disable_priority_preemption: self.disable_priority_preemption,
            priority_scheduling_preemption_threshold: self.priority_scheduling_preemption_threshold,
            retraction_policy: self.retraction_policy,
            prefill_max_requests: self.prefill_max_requests,
            prefill_decode_interval: self.prefill_decode_interval.unwrap_or(0),
            prefill_decode_interval_min_bs: self.prefill_decode_interval_min_bs,
            min_free_slots_delay: self.min_free_slots_delay,
        }
    }

    fn limits(&self) -> Limits {
        let pages = self.max_total_tokens / u64::from(self.page_size);
        self.scheduler().needs().limits(pages, self.page_size, self.context_len)
    }
}

/// Replays one workload, a line at a time.
#[derive(Debug)]
pub struct SglangReplay<'a> {
    workload: &'a SglangWorkload,
    replica: Replica,
    scheduler: SglangV05,
    next_request: usize,
    t: u64,
    /// Steps whose batches are not processed yet.
    queue: VecDeque<u64>,
    delivered: u64,
    ended: bool,
}

impl<'a> SglangReplay<'a> {
    /// Starts before step 0.
    pub fn new(workload: &'a SglangWorkload) -> Self {
        Self::with_constants(workload, Constants::default())
    }

    /// The same, as SGLang would be in another environment.
    pub fn with_constants(workload: &'a SglangWorkload, constants: Constants) -> Self {
        SglangReplay {
            workload,
            replica: Replica::new(0, workload.cfg.limits()),
            scheduler: SglangV05::with_constants(workload.cfg.scheduler(), constants),
            next_request: 0,
            t: 0,
            queue: VecDeque::new(),
            delivered: 0,
            ended: false,
        }
    }

    /// The replica, for audits.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    fn arrive(&mut self) {
        while let Some(request) = self.workload.req.get(self.next_request).filter(|request| request.0 <= self.t) {
            let id = self.next_request;
            let arrival = self.arrival(id, request);
            let taken = self.replica.enqueue(id as u64, arrival);
            assert!(taken.is_ok(), "a workload without problems has no request that does not fit");
            self.next_request += 1;
        }
    }

    fn arrival(&self, id: usize, &(step, ref prompt, limit, priority, ignore_eos): &SglangRequest) -> Arrival {
        let tokens = prompt.iter().map(|&(_, length)| length).sum();
        let block_tokens = self.workload.cfg.page_size;
        let output = i64::from(limit).min(self.replica.limits.room(tokens)).max(1) as u32;
        let own = (-(id as i64) - 1, output);
        let ids = contents(prompt.iter().copied().chain([own]), block_tokens);
        Arrival {
            max_new_tokens: Some(limit),
            ignore_eos: ignore_eos != 0,
            priority,
            content: Some(Box::new(Content { block_tokens, ids })),
            ..Arrival::new(Time(step), tokens, limit)
        }
    }

    /// The next line of the schedule, `None` at the end.
    ///
    /// # Errors
    /// The scheduler made an infeasible plan.
    pub fn next_line(&mut self) -> Result<Option<String>, Infeasible> {
        if self.ended {
            return Ok(None);
        }
        self.arrive();
        let mut line = format!("{{\"w\":{},\"t\":{}", self.workload.w, self.t);
        let idle = self.replica.outstanding() == 0 && self.queue.is_empty();
        let busy = !idle && self.replica.plan(0, Time(self.t), &mut self.scheduler)?;
        if !idle {
            self.write_batch(&mut line);
        }
        self.write_queue(&mut line, idle);
        let deep = self.workload.cfg.overlap;
        let due = if deep { self.queue.pop_front() } else { busy.then_some(self.t) };
        if deep && busy {
            self.queue.push_back(self.t);
        }
        if let Some(step) = due {
            if deep {
                let _ = write!(line, ",\"u\":{step}");
            }
            self.process(&mut line);
        }
        if idle {
            line.push_str(",\"i\":1");
        }
        let [idle_tokens, evictable, locked] = self.memory();
        let _ = write!(line, ",\"e\":[{idle_tokens},{evictable},{locked},{}]}}", self.delivered);
        while self.replica.pop_happened().is_some() {}
        self.t += 1;
        if idle {
            match self.workload.req.get(self.next_request) {
                Some(next) => self.t = self.t.max(next.0),
                None => self.ended = true,
            }
        }
        Ok(Some(line))
    }

    fn write_batch(&self, line: &mut String) {
        let step = self.replica.step();
        let mode = match (step.chunks.is_empty(), step.decode_seqs) {
            (true, 0) => "",
            (true, _) => "d",
            (false, 0) => "x",
            (false, _) => "m",
        };
        if !mode.is_empty() {
            let _ = write!(line, ",\"m\":\"{mode}\"");
        }
        let mut prompts = Vec::new();
        for chunk in &step.chunks {
            let admission = step.admitted.iter().find(|admission| admission.seat == chunk.seat);
            let kind = admission.map_or(2, |admission| u64::from(admission.resumed));
            prompts.extend([self.replica.request_id(chunk.seat), chunk.past.into(), chunk.tokens.into(), kind]);
        }
        write_list(line, "x", &prompts);
        let parts = self.replica.step_parts(0).skip(step.chunks.len());
        let decodes = parts.filter(|_| step.decode_seqs > 0).map(|part| self.replica.request_id(part.seat));
        write_list(line, "d", &decodes.collect::<Vec<_>>());
        let displaced = self.scheduler.displaced();
        let mut gone = step.preempted.clone();
        gone.retain(|id| !displaced.contains(id));
        write_list(line, "r", &gone);
        write_list(line, "v", displaced);
    }

    /// Free, evictable and locked tokens.
    fn memory(&self) -> [u64; 3] {
        let pool = self.replica.pool();
        [pool.idle(), pool.cached_free(), pool.locked()].map(|pages| pages * u64::from(self.workload.cfg.page_size))
    }

    fn write_queue(&self, line: &mut String, idle: bool) {
        let open = self.replica.lanes[0].prefilling.first();
        let open = open.map_or_else(|| "-1".to_owned(), |&seat| self.replica.request_id(seat).to_string());
        let [free, evictable, locked] = self.memory();
        // An idle turn finds nobody in the list, and nothing marked on it.
        let (listed, full) = if idle { (0, 0) } else { (self.scheduler.listed(), u8::from(self.scheduler.is_full())) };
        let (ratio, waiting) = (self.scheduler.new_token_ratio(), self.replica.waiting());
        let _ = write!(line, ",\"n\":{ratio:?},\"q\":[{listed},{waiting},{free},{evictable},{locked},{full},{open}]");
    }

    fn process(&mut self, line: &mut String) {
        // A turn's results are there when the next one begins.
        self.delivered += u64::from(self.replica.complete(0, 1, Time(self.t + 1)));
        let mut finished = Vec::new();
        while let Some(happened) = self.replica.pop_happened() {
            if let Happened::Ended(row) = happened {
                assert_eq!(row.outcome, Outcome::Finished, "golden runs have no other ends");
                finished.push(row.request);
            }
        }
        write_list(line, "f", &finished);
    }
}

/// Chained ids of the full pages of a sequence of segments.
fn contents(segments: impl Iterator<Item = (i64, u32)>, page_size: u32) -> Box<[u64]> {
    let tokens = segments.flat_map(|(segment, length)| (0..length).map(move |at| (segment as u64, u64::from(at))));
    let chained = tokens.scan(0, |id, (segment, at)| {
        *id = mix(mix(*id, segment), at);
        Some(*id)
    });
    chained.skip(page_size as usize - 1).step_by(page_size as usize).collect()
}
