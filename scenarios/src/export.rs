//! From a scenario to the commands that serve it for real.

mod kubernetes;
mod speculation;

use std::fmt::Display;

use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::hardware::parallel::Exchange;
use overbook_sim::schedulers::sglang::{RetractionPolicy, SglangVersion};
use overbook_sim::schedulers::{SchedulePolicy, SchedulerSpec, SglangSpec, VllmSpec};
use overbook_sim::serving::QueueOrder;

use crate::import::repository;
use crate::point::Point;
use crate::scenario::{MaxModelLen, ModelChoice, Scenario};

pub use kubernetes::kubernetes;

/// Commands that start one replica of a scenario; a fleet is so many of them behind a router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServeFlags {
    /// `vllm serve …`
    pub vllm: String,
    /// `python -m sglang.launch_server …`: the nearest that SGLang has, whose scheduler is another.
    pub sglang: String,
    /// What the commands cannot say.
    pub notes: Vec<String>,
}

/// The commands that serve each kind of replica of a point, all that it decides spelled out.
pub fn serve_flags_of(point: &Point) -> Vec<ServeFlags> {
    let flags = |kind: &Point| {
        let mut scenario = kind.scenario.clone();
        // What the pool holds of the model's context is a number for the engine, too.
        if let Ok((limits, _)) = kind.limits()
            && (scenario.engine.max_model_len == Some(MaxModelLen::Auto) || limits.max_model_len < kind.model.context)
        {
            scenario.engine.max_model_len = Some(MaxModelLen::Tokens(limits.max_model_len));
        }
        serve_flags(&scenario)
    };
    point.kinds().iter().map(flags).collect()
}

/// The commands that serve a scenario whose replicas are all alike, all that it decides spelled out.
pub fn serve_flags(scenario: &Scenario) -> ServeFlags {
    let mut notes: Vec<String> = scenario.scheduler.nearest().unsaid.map(str::to_owned).into_iter().collect();
    let spec = nearest(scenario);
    let model = match &scenario.model {
        ModelChoice::Named(name) => repository(name).unwrap_or(name),
        ModelChoice::Inline(shape) => {
            notes.push(format!("`{}` is a shape of the scenario: put the checkpoint's path in its place", shape.name));
            &shape.name
        }
    };
    if matches!(scenario.engine.weights, WeightDtype::Bits(_)) {
        let bits = scenario.engine.weights;
        notes.push(format!("{bits} weights are what a method of research makes: no engine has a flag for them"));
    }
    if scenario.engine.weights == WeightDtype::Int4 {
        notes.push("int4 weights need a checkpoint that is quantised so: put its path in the model's place".to_owned());
    }
    if scenario.fleet.stages() > 1 {
        notes.push("the engines keep as many steps in flight as the pipeline has stages; the scenario one".to_owned());
    }
    let exchanges = scenario.fleet.expert_parallel.is_some_and(|experts| experts.exchange == Exchange::AllToAll);
    if exchanges && scenario.fleet.dp_attention == 1 {
        notes.push(
            "vLLM exchanges tokens between GPUs only with data-parallel attention; it will all-reduce".to_owned(),
        );
    }
    let ranks = scenario.fleet.dp_attention;
    if ranks > 1 && (!spec.max_num_seqs.is_multiple_of(ranks) || !spec.max_num_batched_tokens.is_multiple_of(ranks)) {
        notes.push(format!("vLLM states its limits for one of the {ranks} ranks: they are rounded up"));
    }
    if ranks > 1 && scenario.fleet.expert_parallel.is_none() {
        notes.push("vLLM splits experts by width over all ranks only without `--enable-expert-parallel`".to_owned());
    }
    if scenario.engine.prefix_cache.is_some() {
        notes.push(
            "the commands have each engine's own order of eviction and no tiers below the GPUs: `engine.prefix_cache` is not in them"
                .to_owned(),
        );
    }
    if scenario.engine.retention.is_some() {
        notes.push(
            "neither engine throws away tokens inside a request: `engine.retention` is not in the commands".to_owned(),
        );
    }
    notes.extend(speculation::notes(scenario));
    if scenario.fleet.controllers.disaggregation.is_some() {
        notes.push(
            "prompts and decodes on different replicas need a KV connector on each: the commands start plain replicas"
                .to_owned(),
        );
    }
    if scenario.fleet.replicas > 1 {
        notes.push(format!("{} replicas: start so many, behind a router", scenario.fleet.replicas));
    }
    ServeFlags { vllm: vllm(scenario, &spec, model), sglang: sglang(scenario, &spec, model), notes }
}

/// vLLM's settings that are nearest to a scheduler: its limits and habits under vLLM's names.
fn nearest(scenario: &Scenario) -> VllmSpec {
    let scheduler = &scenario.scheduler;
    if let SchedulerSpec::Vllm(spec) = scheduler {
        return spec.clone();
    }
    let default = VllmSpec::default();
    let needs = scheduler.needs();
    let longest = scenario.engine.max_model_len.and_then(MaxModelLen::tokens).unwrap_or(default.max_num_batched_tokens);
    let budget = needs.step_tokens.at(longest);
    let splits = needs.splits_prompts();
    VllmSpec {
        policy: scheduler.nearest().policy,
        max_num_seqs: needs.max_seqs,
        // vLLM refuses a step that could not hold a whole sequence, if prompts are not split.
        max_num_batched_tokens: if splits { budget } else { budget.max(longest) },
        enable_chunked_prefill: splits,
        async_scheduling: needs.depth > 1,
        enable_prefix_caching: needs.prefix_caching,
        ..default
    }
}

/// A command under construction.
struct Command(String);

impl Command {
    fn new(program: &str, model: &str) -> Command {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let quoted = if !model.is_empty() && model.chars().all(plain) {
            model.to_owned()
        } else {
            format!("'{}'", model.replace('\'', r"'\''"))
        };
        Command(format!("{program} {quoted}"))
    }

    fn with(mut self, flag: &str, value: impl Display) -> Command {
        self.0.extend([" ", flag, " ", &value.to_string()]);
        self
    }

    fn given(self, flag: &str, value: Option<impl Display>) -> Command {
        match value {
            Some(value) => self.with(flag, value),
            None => self,
        }
    }

    fn when(mut self, holds: bool, flag: &str) -> Command {
        if holds {
            self.0.extend([" ", flag]);
        }
        self
    }

    /// What SGLang 0.4.4 does not have.
    fn newer(self, own: Option<&SglangSpec>) -> Command {
        let Some(own) = own.filter(|own| own.version == SglangVersion::V05) else { return self };
        let by_priority = own.enable_priority_scheduling;
        let threshold = own.priority_scheduling_preemption_threshold;
        let interval = (own.prefill_decode_interval > 0).then_some(own.prefill_decode_interval);
        self.when(by_priority, "--enable-priority-scheduling")
            .when(own.schedule_low_priority_values_first, "--schedule-low-priority-values-first")
            .when(by_priority && own.disable_priority_preemption, "--disable-priority-preemption")
            .given("--priority-scheduling-preemption-threshold", own.preempts().then_some(threshold))
            .when(own.retraction_policy == RetractionPolicy::Priority, "--retraction-policy priority")
            .given("--prefill-max-requests", own.prefill_max_requests)
            .given("--prefill-decode-interval", interval)
            .given("--prefill-decode-interval-min-bs", interval.map(|_| own.prefill_decode_interval_min_bs))
            .given("--min-free-slots-delay", own.min_free_slots_delay)
    }
}

fn vllm(scenario: &Scenario, spec: &VllmSpec, model: &str) -> String {
    let engine = &scenario.engine;
    let threshold = spec.long_prefill_token_threshold;
    let ranks = scenario.fleet.dp_attention;
    let blocks = engine.kv_tokens.map(|tokens| tokens / u64::from(engine.block_tokens.max(1)) / u64::from(ranks));
    Command::new("vllm serve", model)
        .with("--tensor-parallel-size", scenario.fleet.tensor_parallel / ranks)
        .given("--data-parallel-size", (ranks > 1).then_some(ranks))
        .given("--pipeline-parallel-size", (scenario.fleet.stages() > 1).then_some(scenario.fleet.stages()))
        .when(scenario.fleet.expert_parallel.is_some(), "--enable-expert-parallel")
        .with("--max-num-seqs", spec.max_num_seqs.div_ceil(ranks))
        .with("--max-num-batched-tokens", spec.max_num_batched_tokens.div_ceil(ranks))
        .with("--gpu-memory-utilization", engine.gpu_memory_utilization)
        .with("--block-size", engine.block_tokens)
        .given(
            "--max-model-len",
            engine.max_model_len.map(|len| len.tokens().map_or("auto".to_owned(), |n| n.to_string())),
        )
        .given("--num-gpu-blocks-override", blocks)
        .when(engine.weights == WeightDtype::Fp8, "--quantization fp8")
        .when(engine.enforce_eager, "--enforce-eager")
        .when(engine.disable_custom_all_reduce, "--disable-custom-all-reduce")
        .when(engine.kv == KvDtype::Fp8, "--kv-cache-dtype fp8")
        .given("--long-prefill-token-threshold", (threshold > 0).then_some(threshold))
        .when(spec.policy == QueueOrder::Priority, "--scheduling-policy priority")
        .when(spec.enable_prefix_caching, "--enable-prefix-caching")
        .when(!spec.enable_prefix_caching, "--no-enable-prefix-caching")
        .when(spec.enable_chunked_prefill, "--enable-chunked-prefill")
        .when(!spec.enable_chunked_prefill, "--no-enable-chunked-prefill")
        .when(spec.async_scheduling, "--async-scheduling")
        .when(!spec.async_scheduling, "--no-async-scheduling")
        .given("--speculative-config", speculation::vllm(scenario))
        .0
}

/// SGLang's name of an order.
fn order(policy: SchedulePolicy) -> &'static str {
    match policy {
        SchedulePolicy::Fcfs => "fcfs",
        SchedulePolicy::Lpm => "lpm",
        SchedulePolicy::Lof => "lof",
        SchedulePolicy::DfsWeight => "dfs-weight",
        SchedulePolicy::Hrrn => "hrrn",
        SchedulePolicy::ShortestPrefillFirst => "shortest-prefill-first",
    }
}

fn sglang(scenario: &Scenario, spec: &VllmSpec, model: &str) -> String {
    let engine = &scenario.engine;
    let own = if let SchedulerSpec::Sglang(own) = &scenario.scheduler { Some(own) } else { None };
    let exchanges = scenario.fleet.expert_parallel.is_some_and(|experts| experts.exchange == Exchange::AllToAll);
    let chunk = if spec.enable_chunked_prefill { i64::from(spec.max_num_batched_tokens) } else { -1 };
    Command::new("python -m sglang.launch_server --model-path", model)
        .with("--tp-size", scenario.fleet.tensor_parallel)
        .given("--pp-size", (scenario.fleet.stages() > 1).then_some(scenario.fleet.stages()))
        .given("--dp-size", (scenario.fleet.dp_attention > 1).then_some(scenario.fleet.dp_attention))
        .when(scenario.fleet.dp_attention > 1, "--enable-dp-attention")
        .given("--ep-size", scenario.fleet.expert_parallel.map(|_| scenario.fleet.tensor_parallel))
        .given("--moe-a2a-backend", exchanges.then_some("deepep"))
        .with("--max-running-requests", spec.max_num_seqs)
        .with("--chunked-prefill-size", chunk)
        .with("--mem-fraction-static", engine.gpu_memory_utilization)
        .with("--page-size", engine.block_tokens)
        .given("--context-length", engine.max_model_len.and_then(MaxModelLen::tokens))
        .given("--max-total-tokens", engine.kv_tokens)
        .when(engine.weights == WeightDtype::Fp8, "--quantization fp8")
        .when(engine.kv == KvDtype::Fp8, "--kv-cache-dtype fp8_e4m3")
        .with("--schedule-policy", own.map_or("fcfs", |own| order(own.schedule_policy)))
        .when(!spec.enable_prefix_caching, "--disable-radix-cache")
        .when(!spec.async_scheduling, "--disable-overlap-schedule")
        .when(engine.enforce_eager, "--disable-cuda-graph")
        .when(engine.disable_custom_all_reduce, "--disable-custom-all-reduce")
        .given("--max-prefill-tokens", own.map(|own| own.max_prefill_tokens))
        .given("--schedule-conservativeness", own.map(|own| own.schedule_conservativeness))
        .when(own.is_some_and(|own| own.enable_mixed_chunk), "--enable-mixed-chunk")
        .newer(own)
        .given("--speculative-algorithm", speculation::sglang(scenario))
        .0
}
