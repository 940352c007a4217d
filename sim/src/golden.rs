//! Golden schedules: replays workloads recorded from vLLM's own scheduler (and [SGLang's](sglang)) and states, line by line, what
//! ours decides.
//!
//! The folder format is one JSON line per workload (`workloads.jsonl`) and one per engine step (`steps.jsonl`); this module
//! knows the content, not the files.

pub mod sglang;

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::results::rows::Outcome;
use crate::schedulers::vllm::Vllm;
use crate::schedulers::{SchedulerPolicy as _, VllmSpec};
use crate::serving::QueueOrder;
use crate::serving::replica::{Happened, Limits, Replica};
use crate::serving::step::Infeasible;
use crate::time::Time;
use crate::workload::arrival::{Arrival, Content};

/// One recorded workload.
#[derive(Clone, Debug, Deserialize)]
pub struct GoldenWorkload {
    /// Its number; the steps refer to it.
    pub w: u64,
    /// What it exercises.
    pub kind: String,
    /// Settings of the scheduler and the pool.
    pub cfg: GoldenConfig,
    /// Requests: (arrival step, prompt length, output limit, priority, run-length coded contents), by arrival step.
    pub req: Vec<(u64, u32, u32, i32, Vec<u64>)>,
}

impl GoldenWorkload {
    /// What no engine can be set to, if anything: replaying it would be meaningless.
    pub fn problem(&self) -> Option<&'static str> {
        let cfg = &self.cfg;
        let zero = cfg.num_blocks < 2 || cfg.block_size == 0 || cfg.max_model_len < 2;
        if zero {
            return Some(
                "needs num_blocks of 2 or more (block 0 is vLLM's null block), a block_size and a max_model_len",
            );
        }
        if cfg.max_num_seqs == 0 || cfg.max_num_batched_tokens == 0 || cfg.prefill_schedule_interval == 0 {
            return Some("max_num_seqs, max_num_batched_tokens and prefill_schedule_interval are at least 1");
        }
        if !(0.0..1.0).contains(&cfg.watermark) {
            return Some("watermark is a share of the blocks, from 0 to below 1");
        }
        let requests = &self.req;
        if !requests.is_sorted_by_key(|request| request.0) {
            return Some("requests are in order of arrival step");
        }
        if requests.iter().any(|&(_, prompt, output, ..)| prompt == 0 || output == 0) {
            return Some("a request has at least one prompt token and one output token");
        }
        // Contents are stated for full blocks of prompt and output, run by run.
        let overlong = |&(_, prompt, output, _, ref runs): &(u64, u32, u32, i32, Vec<u64>)| {
            let most = (u64::from(prompt) + u64::from(output)) / u64::from(cfg.block_size);
            let total = runs.iter().skip(1).step_by(2).try_fold(0u64, |sum, &run| sum.checked_add(run));
            let inside = runs.chunks_exact(2).all(|run| run[0].checked_add(run[1]).is_some());
            runs.len() % 2 != 0 || !inside || total.is_none_or(|total| total > most)
        };
        requests.iter().any(overlong).then_some("blocks are pairs of first id and count, as many as the request fills")
    }
}

/// vLLM's settings, with vLLM's names.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names and meanings are vLLM's; see `VllmSpec`")]
pub struct GoldenConfig {
    pub mode: Mode,
    pub policy: QueueOrder,
    pub arrival_time: ArrivalTime,
    pub prefix_caching: bool,
    pub num_blocks: u64,
    pub block_size: u32,
    pub max_model_len: u32,
    pub max_num_batched_tokens: u32,
    pub max_num_scheduled_tokens: Option<u32>,
    pub max_num_seqs: u32,
    pub max_num_active_seqs: Option<u32>,
    pub long_prefill_token_threshold: u32,
    pub long_prefill_token_threshold_adaptive: bool,
    pub enable_chunked_prefill: bool,
    pub scheduler_reserve_full_isl: bool,
    pub watermark: f64,
    pub prefill_schedule_interval: u32,
}

/// Whether the recorded engine planned one step ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `schedule()`, run, `update_from_output()`.
    Sync,
    /// A queue of two batches.
    Async,
}

/// What a request's arrival time was set to, which orders equal priorities.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArrivalTime {
    /// Its number: all distinct.
    Index,
    /// Its arrival step: ties exist.
    Step,
}

impl GoldenConfig {
    /// The scheduler under these settings.
    pub fn scheduler(&self) -> VllmSpec {
        VllmSpec {
            policy: self.policy,
            preemption_victim: None,
            max_num_batched_tokens: self.max_num_batched_tokens,
            max_num_scheduled_tokens: self.max_num_scheduled_tokens,
            max_num_seqs: self.max_num_seqs,
            max_num_active_seqs: self.max_num_active_seqs,
            long_prefill_token_threshold: self.long_prefill_token_threshold,
            long_prefill_token_threshold_adaptive: self.long_prefill_token_threshold_adaptive,
            enable_chunked_prefill: self.enable_chunked_prefill,
            scheduler_reserve_full_isl: self.scheduler_reserve_full_isl,
            watermark: self.watermark,
            prefill_schedule_interval: self.prefill_schedule_interval,
            async_scheduling: self.mode == Mode::Async,
            enable_prefix_caching: self.prefix_caching,
        }
    }

    fn limits(&self) -> Limits {
        // Block 0 is vLLM's null block.
        self.scheduler().needs().limits(self.num_blocks.saturating_sub(1), self.block_size, self.max_model_len)
    }
}

/// Replays one workload, a line at a time.
#[derive(Debug)]
pub struct GoldenReplay<'a> {
    workload: &'a GoldenWorkload,
    replica: Replica,
    scheduler: Vllm,
    next_request: usize,
    t: u64,
    /// Batches not yet processed: (step, whether it holds work).
    queue: VecDeque<(u64, bool)>,
    unannounced: bool,
}

impl<'a> GoldenReplay<'a> {
    /// Starts before step 0.
    pub fn new(workload: &'a GoldenWorkload) -> Self {
        GoldenReplay {
            workload,
            replica: Replica::new(0, workload.cfg.limits()),
            scheduler: Vllm::with_equal_times(workload.cfg.scheduler()),
            next_request: 0,
            t: 0,
            queue: VecDeque::new(),
            unannounced: false,
        }
    }

    /// The replica, for audits.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    fn arrive(&mut self) {
        let requests = &self.workload.req;
        while self.next_request < requests.len() && requests[self.next_request].0 <= self.t {
            let id = self.next_request;
            let (step, prompt, max_tokens, priority, ref runs) = requests[id];
            let mut arrival = Arrival::new(Time(step), prompt, max_tokens);
            arrival.max_new_tokens = Some(max_tokens);
            arrival.priority = priority;
            if !runs.is_empty() {
                let ids = runs.chunks_exact(2).flat_map(|run| run[0]..run[0] + run[1]).collect();
                arrival.content = Some(Box::new(Content { block_tokens: self.workload.cfg.block_size, ids }));
            }
            if let Ok(seat) = self.replica.enqueue(id as u64, arrival)
                && self.workload.cfg.arrival_time == ArrivalTime::Index
            {
                self.replica.set_arrival_key(seat, id as u64);
            }
            self.next_request += 1;
        }
    }

    /// The next line of the schedule, `None` at the end.
    ///
    /// # Errors
    /// The scheduler made an infeasible plan.
    pub fn next_line(&mut self) -> Result<Option<String>, Infeasible> {
        self.arrive();
        if self.replica.outstanding() == 0 && !self.unannounced && self.queue.is_empty() {
            let Some(next) = self.workload.req.get(self.next_request) else { return Ok(None) };
            self.t = next.0;
            self.arrive();
        }
        let mut line = format!("{{\"w\":{},\"t\":{}", self.workload.w, self.t);
        let mut early = false;
        if self.replica.outstanding() > 0 || self.unannounced {
            let busy = self.replica.plan(0, Time(self.t), &mut self.scheduler)?;
            self.unannounced = false;
            self.write_plan(&mut line);
            self.queue.push_back((self.t, busy));
            let deep = self.workload.cfg.mode == Mode::Async;
            early = deep && self.queue.len() == 1 && (busy || self.replica.outstanding() > 0);
        }
        if !early {
            self.process(&mut line);
        }
        while self.replica.pop_happened().is_some() {}
        line.push('}');
        self.t += 1;
        Ok(Some(line))
    }

    fn write_plan(&self, line: &mut String) {
        let replica = &self.replica;
        let step = replica.step();
        let mut scheduled = Vec::new();
        let mut past = step.decode_context - u64::from(step.decode_seqs);
        for seat in replica.running_seats(0) {
            if step.admitted.iter().any(|a| a.seat == seat) {
                continue;
            }
            let id = replica.request_id(seat);
            if let Some(chunk) = step.chunks.iter().find(|c| c.seat == seat) {
                scheduled.extend([id, u64::from(chunk.tokens)]);
                past += u64::from(chunk.past);
            } else if replica.is_member(seat) && (step.all_members || step.decoded.contains(&seat)) {
                scheduled.extend([id, 1]);
            }
        }
        write_list(line, "s", &scheduled);
        let mut admitted = Vec::new();
        for admission in &step.admitted {
            let chunk = step.chunks.iter().find(|c| c.seat == admission.seat).expect("an admission has a chunk");
            let id = replica.request_id(admission.seat);
            admitted.extend([id, chunk.tokens.into(), admission.cached.into(), admission.resumed.into()]);
        }
        write_list(line, "a", &admitted);
        write_list(line, "p", &step.preempted);
        let _ = write!(line, ",\"q\":[{},{},{},{past}]", replica.running(), replica.waiting(), replica.pool().free());
    }

    fn process(&mut self, line: &mut String) {
        let Some((step, busy)) = self.queue.pop_front() else { return };
        if step != self.t {
            let _ = write!(line, ",\"u\":{step}");
        }
        let delivered = if busy { self.replica.complete(0, 1, Time(self.t)) } else { 0 };
        let mut finished = Vec::new();
        while let Some(happened) = self.replica.pop_happened() {
            if let Happened::Ended(row) = happened {
                assert_eq!(row.outcome, Outcome::Finished, "golden runs have no other ends");
                finished.push(row.request);
            }
        }
        self.unannounced |= !finished.is_empty();
        write_list(line, "f", &finished);
        let (running, waiting) = (self.replica.running(), self.replica.waiting());
        let _ = write!(line, ",\"e\":[{running},{waiting},{},{delivered}]", self.replica.pool().free());
        if self.workload.cfg.prefix_caching {
            let (contents, sum) = self.replica.pool().cached_contents();
            let _ = write!(line, ",\"x\":[{contents},{sum}]");
        }
    }
}

pub(crate) fn write_list(line: &mut String, key: &str, values: &[u64]) {
    for (i, value) in values.iter().enumerate() {
        let _ = if i == 0 { write!(line, ",\"{key}\":[{value}") } else { write!(line, ",{value}") };
    }
    if !values.is_empty() {
        line.push(']');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A sound workload with a change.
    fn problem(change: impl FnOnce(&mut GoldenWorkload)) -> Option<&'static str> {
        let text = r#"{ "w": 0, "kind": "plain", "cfg": { "mode": "sync", "policy": "fcfs", "arrival_time": "index",
            "prefix_caching": true, "num_blocks": 64, "block_size": 16, "max_model_len": 512, "max_num_batched_tokens": 256,
            "max_num_scheduled_tokens": null, "max_num_seqs": 8, "max_num_active_seqs": null, "long_prefill_token_threshold": 0,
            "long_prefill_token_threshold_adaptive": false, "enable_chunked_prefill": true, "scheduler_reserve_full_isl": false,
            "watermark": 0.0, "prefill_schedule_interval": 1 },
            "req": [[0, 40, 8, 0, [1, 3]], [2, 20, 4, 0, []]] }"#;
        let mut workload: GoldenWorkload = serde_json::from_str(text).unwrap();
        change(&mut workload);
        workload.problem()
    }

    #[test]
    fn impossible_workloads_are_named() {
        assert_eq!(problem(|_| ()), None);
        let starts = |found: Option<&'static str>, with: &str| found.is_some_and(|text| text.starts_with(with));
        assert!(starts(problem(|w| w.cfg.num_blocks = 1), "needs num_blocks"));
        assert!(starts(problem(|w| w.cfg.max_num_seqs = 0), "max_num_seqs"));
        assert!(starts(problem(|w| w.cfg.watermark = 1.0), "watermark"));
        assert!(starts(problem(|w| w.req[0].0 = 3), "requests are in order"));
        assert!(starts(problem(|w| w.req[1].2 = 0), "a request has at least one prompt token"));
        // 48 tokens fill three blocks.
        assert!(starts(problem(|w| w.req[0].4 = vec![1, 4]), "blocks are pairs"));
        assert!(starts(problem(|w| w.req[0].4 = vec![u64::MAX, 2]), "blocks are pairs"));
        assert!(starts(problem(|w| w.req[0].4 = vec![1]), "blocks are pairs"));
    }
}
