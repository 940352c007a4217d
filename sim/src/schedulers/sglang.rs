//! SGLang's scheduler: prefill first, admission by an estimate of what the running requests will still generate.
//!
//! Two versions, since much has changed between them: 0.4.4 of early 2025, and 0.5.23 of late 2026, which is checked line by line
//! against schedules recorded from SGLang's own classes ([`golden::sglang`](crate::golden::sglang)).

pub mod v0_4;
pub mod v0_5;

use serde::{Deserialize, Serialize};

use super::{Nearest, Needs, Prompts, QueueOrder, Scheduler, SchedulerPolicy, StepTokens};
use crate::check::Check;
use crate::serving::replica::{CacheKind, OutputRoom};

pub use v0_4::SglangV04;
pub use v0_5::SglangV05;

/// Which SGLang.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub enum SglangVersion {
    /// 0.4.4 (March 2025).
    #[default]
    #[serde(rename = "0.4.4")]
    V04,
    /// 0.5.23 (November 2026).
    #[serde(rename = "0.5.23")]
    V05,
}

/// Order of the waiting queue (`schedule_policy.py`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SchedulePolicy {
    /// First come, first served.
    #[default]
    Fcfs,
    /// Longest cached prefix first, as long as few requests wait; needs the radix cache.
    Lpm,
    /// Longest output first, by the limit that the client states.
    Lof,
    /// Depth first through the radix cache, to where most requests wait (0.5.23).
    DfsWeight,
    /// Highest response ratio next: waiting time, in prompt tokens computed, over tokens to compute (0.5.23).
    Hrrn,
    /// Fewest tokens to compute first, in front of the rest of a long prompt too; needs the radix cache (0.5.23).
    ShortestPrefillFirst,
}

impl SchedulePolicy {
    /// Whether it goes by what is cached.
    fn is_cache_aware(self) -> bool {
        !matches!(self, SchedulePolicy::Fcfs | SchedulePolicy::Lof)
    }
}

/// Which running request is retracted first when memory runs out (0.5.23).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetractionPolicy {
    /// The one that has generated least.
    #[default]
    Length,
    /// The least urgent one, then the one that has generated least.
    Priority,
}

/// Settings of SGLang's scheduler, with SGLang's names and defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SglangSpec {
    /// Whose rules hold.
    pub version: SglangVersion,
    /// Order of the waiting queue.
    pub schedule_policy: SchedulePolicy,
    /// Running requests at most.
    #[schemars(range(min = 1))]
    pub max_running_requests: u32,
    /// Prompt tokens of one prefill step; longer prompts are split. `null` is off.
    #[schemars(range(min = 1))]
    pub chunked_prefill_size: Option<u32>,
    /// Prompt tokens of one prefill step, unless its only request has more.
    #[schemars(range(min = 1))]
    pub max_prefill_tokens: u32,
    /// Scales the share of their output limits that running requests are expected to use: larger admits less.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub schedule_conservativeness: f64,
    /// Output limits above this count as this when memory is estimated [tokens].
    #[schemars(range(min = 1))]
    pub clip_max_new_tokens: u32,
    /// Prefill steps also decode.
    pub enable_mixed_chunk: bool,
    /// Plan step t+1 while step t runs (lane depth 2).
    pub enable_overlap_schedule: bool,
    /// Keep and share the KV blocks of equal prefixes.
    pub enable_radix_cache: bool,
    /// Serve by the priorities of requests, and preempt for them (0.5.23).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_priority_scheduling: bool,
    /// Smaller priorities are more urgent, as everywhere else here; SGLang's default is the opposite (0.5.23).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub schedule_low_priority_values_first: bool,
    /// Serve by priority, but preempt nobody (0.5.23).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_priority_preemption: bool,
    /// By how much a priority must be more urgent than that of a request that is preempted for it (0.5.23).
    #[serde(skip_serializing_if = "is_threshold")]
    pub priority_scheduling_preemption_threshold: u32,
    /// Who is retracted first when memory runs out (0.5.23).
    #[serde(skip_serializing_if = "is_length")]
    pub retraction_policy: RetractionPolicy,
    /// Prompts of one prefill step at most (0.5.23).
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_max_requests: Option<u32>,
    /// Turns after a prefill step in which none is tried; 0 is off (0.5.23).
    #[serde(skip_serializing_if = "is_zero")]
    pub prefill_decode_interval: u32,
    /// Below so many running requests prefill is tried all the same (0.5.23).
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "is_one")]
    pub prefill_decode_interval_min_bs: u32,
    /// Beside running requests, prefill is tried once so many may join at least (0.5.23).
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free_slots_delay: Option<u32>,
}

// What 0.4.4 does not have is written where it is set.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_threshold(threshold: &u32) -> bool {
    *threshold == SglangSpec::default().priority_scheduling_preemption_threshold
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_length(policy: &RetractionPolicy) -> bool {
    *policy == RetractionPolicy::Length
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(turns: &u32) -> bool {
    *turns == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(least: &u32) -> bool {
    *least == 1
}

impl Default for SglangSpec {
    fn default() -> Self {
        SglangSpec {
            version: SglangVersion::V04,
            schedule_policy: SchedulePolicy::Fcfs,
            max_running_requests: 256,
            chunked_prefill_size: Some(8192),
            max_prefill_tokens: 16_384,
            schedule_conservativeness: 1.0,
            clip_max_new_tokens: 4096,
            enable_mixed_chunk: false,
            enable_overlap_schedule: true,
            enable_radix_cache: true,
            enable_priority_scheduling: false,
            schedule_low_priority_values_first: false,
            disable_priority_preemption: false,
            priority_scheduling_preemption_threshold: 10,
            retraction_policy: RetractionPolicy::Length,
            prefill_max_requests: None,
            prefill_decode_interval: 0,
            prefill_decode_interval_min_bs: 1,
            min_free_slots_delay: None,
        }
    }
}

impl SglangSpec {
    /// The order that is in force: without the radix cache there are no prefixes to go by.
    pub fn order(&self) -> SchedulePolicy {
        let blind = self.schedule_policy.is_cache_aware() && !self.enable_radix_cache;
        if blind { SchedulePolicy::Fcfs } else { self.schedule_policy }
    }

    /// Whether running requests may have to go for more urgent ones.
    pub fn preempts(&self) -> bool {
        self.enable_priority_scheduling && !self.disable_priority_preemption
    }

    /// Settings that 0.4.4 does not have and that are not at their defaults.
    fn too_new(&self) -> Vec<&'static str> {
        let plain = SglangSpec::default();
        let orders = [SchedulePolicy::Fcfs, SchedulePolicy::Lpm, SchedulePolicy::Lof];
        let differs = [
            ("schedule_policy", !orders.contains(&self.schedule_policy)),
            ("enable_priority_scheduling", self.enable_priority_scheduling),
            ("schedule_low_priority_values_first", self.schedule_low_priority_values_first),
            ("disable_priority_preemption", self.disable_priority_preemption),
            (
                "priority_scheduling_preemption_threshold",
                self.priority_scheduling_preemption_threshold != plain.priority_scheduling_preemption_threshold,
            ),
            ("retraction_policy", self.retraction_policy != plain.retraction_policy),
            ("prefill_max_requests", self.prefill_max_requests.is_some()),
            ("prefill_decode_interval", self.prefill_decode_interval != 0),
            ("prefill_decode_interval_min_bs", self.prefill_decode_interval_min_bs != 1),
            ("min_free_slots_delay", self.min_free_slots_delay.is_some()),
        ];
        differs.into_iter().filter(|&(_, set)| set).map(|(key, _)| key).collect()
    }
}

impl SchedulerPolicy for SglangSpec {
    fn needs(&self) -> Needs {
        let budget = StepTokens::Fixed(self.chunked_prefill_size.unwrap_or(self.max_prefill_tokens));
        // A lone request may exceed `max_prefill_tokens`: no setting keeps it out.
        let prompts = if self.chunked_prefill_size.is_some() { Prompts::Split } else { Prompts::Whole(Vec::new()) };
        let plain = Needs {
            depth: 1 + u32::from(self.enable_overlap_schedule),
            prefix_caching: self.enable_radix_cache,
            // Beside prompts SGLang verifies no drafts.
            speculates: !self.enable_mixed_chunk,
            ..Needs::plain(self.max_running_requests, budget, prompts)
        };
        match self.version {
            SglangVersion::V04 => {
                let fcfs = self.order() == SchedulePolicy::Fcfs;
                let order = if fcfs { QueueOrder::Fcfs } else { QueueOrder::Keyed };
                Needs { order, serves_apart: true, ..plain }
            }
            SglangVersion::V05 => {
                Needs { order: QueueOrder::Keyed, cache: CacheKind::Tree, room: OutputRoom::Alone, ..plain }
            }
        }
    }

    fn nearest(&self) -> Nearest {
        Nearest::but("sglang admits and retracts in its own way: the vllm command is only the nearest")
    }

    fn check(&self, check: &mut Check<'_>) {
        check.positive("max_running_requests", self.max_running_requests);
        check.positive("max_prefill_tokens", self.max_prefill_tokens);
        check.positive("clip_max_new_tokens", self.clip_max_new_tokens);
        check.positive("chunked_prefill_size", self.chunked_prefill_size);
        check.positive("prefill_max_requests", self.prefill_max_requests);
        check.positive("prefill_decode_interval_min_bs", self.prefill_decode_interval_min_bs);
        check.positive("min_free_slots_delay", self.min_free_slots_delay);
        let scale = self.schedule_conservativeness;
        let holds = scale > 0.0 && scale.is_finite();
        check.that(holds, "schedule_conservativeness", format!("is {scale}; it must be above 0"));
        let newer = self.too_new().join("`, `");
        let told = format!("is 0.4.4, which has no such `{newer}`; set it to \"0.5.23\"");
        check.that(self.version != SglangVersion::V04 || newer.is_empty(), "version", told);
        let blind = self.schedule_policy == SchedulePolicy::ShortestPrefillFirst && !self.enable_radix_cache;
        check.that(!blind, "schedule_policy", "shortest-prefill-first needs `enable_radix_cache`".to_owned());
        let told = "has no effect without `enable_priority_scheduling`";
        let values = self.schedule_low_priority_values_first && !self.enable_priority_scheduling;
        check.that(!values, "schedule_low_priority_values_first", told);
        let spared = self.disable_priority_preemption && !self.enable_priority_scheduling;
        check.that(!spared, "disable_priority_preemption", told);
        let threshold = self.priority_scheduling_preemption_threshold;
        let idle = threshold != SglangSpec::default().priority_scheduling_preemption_threshold && !self.preempts();
        let told =
            if self.enable_priority_scheduling { "has no effect with `disable_priority_preemption`" } else { told };
        check.that(!idle, "priority_scheduling_preemption_threshold", told);
        // SGLang stops at these two as well (`validation_hook.py`).
        let retracts = self.retraction_policy == RetractionPolicy::Priority && !self.enable_priority_scheduling;
        check.that(!retracts, "retraction_policy", "priority needs `enable_priority_scheduling`");
        let ordered = matches!(self.schedule_policy, SchedulePolicy::Fcfs | SchedulePolicy::Lof);
        let told = "must be fcfs or lof with `enable_priority_scheduling`";
        check.that(ordered || !self.enable_priority_scheduling, "schedule_policy", told);
        let least = self.prefill_decode_interval_min_bs > 1 && self.prefill_decode_interval == 0;
        check.that(!least, "prefill_decode_interval_min_bs", "has no effect without `prefill_decode_interval`");
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        match self.version {
            SglangVersion::V04 => Box::new(SglangV04::new(self.clone())),
            SglangVersion::V05 => Box::new(SglangV05::new(self.clone())),
        }
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = SglangSpec::default();
        let serial = SglangSpec { enable_overlap_schedule: false, enable_radix_cache: false, ..plain.clone() };
        let small = SglangSpec { chunked_prefill_size: Some(40), max_running_requests: 6, ..plain.clone() };
        let bold = SglangSpec { schedule_conservativeness: 0.05, ..serial.clone() };
        let mixed = SglangSpec { enable_mixed_chunk: true, chunked_prefill_size: Some(64), ..bold.clone() };
        let whole = SglangSpec { chunked_prefill_size: None, max_prefill_tokens: 300, ..bold.clone() };
        let order = SchedulePolicy::Lpm;
        let prefixes = SglangSpec { schedule_policy: order, max_running_requests: 6, ..plain.clone() };
        let longest = SglangSpec { schedule_policy: SchedulePolicy::Lof, ..bold.clone() };
        let old = vec![
            ("", plain),
            ("lpm, few places", prefixes.clone()),
            ("lpm, bold", SglangSpec { schedule_conservativeness: 0.05, ..prefixes }),
            ("lof", longest),
            ("depth 1", serial),
            ("small chunks, few places", small),
            ("bold", bold.clone()),
            ("bold, depth 2", SglangSpec { enable_overlap_schedule: true, ..bold }),
            ("mixed", mixed.clone()),
            ("mixed, depth 2", SglangSpec { enable_overlap_schedule: true, ..mixed }),
            ("whole prompts", whole),
        ];
        old.into_iter().chain(v0_5::examples()).collect()
    }
}
