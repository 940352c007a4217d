//! What an engine takes where a scenario says nothing, and how that is known: limits by the GPU's memory, host time, the time to
//! draw tokens, the server's front end. Resolved scenarios state all of it, and reports say where it is from.

use overbook_sim::cost::HostCost;
use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::{ModelSpec, WeightDtype};
use overbook_sim::hardware::server::ServerSpec;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::time::Span;
use overbook_sim::units::{Bytes, Duration};

use crate::import::published;
use crate::measured::{ASYNC_SINCE, Constants, Drawing, vllm_limits};
use crate::scenario::{EngineVersion, FrontendSpec, MaxModelLen, ModelChoice, PoolSpec, Scenario};
use crate::yaml::Node;

/// Time per request that vLLM's front end adds: TTFT of powertrace's run (vLLM 0.10.1, Qwen3-8B on an H100, client on the same
/// node, 6.6 requests at once, prompts of 332 tokens) is 7.1 ms above what its engine takes, of which 1.1 ms are [`PER_RUNNING`]'s and
/// 1.0 ms [`PER_PROMPT_TOKEN`]'s.
const FRONTEND: Span = Span(5_000_000);

/// What each token of the prompt adds, to be tokenised: at 4 to 8 requests at once, TTFT of prompts of 7,373 tokens is 18 to 21 ms further
/// above what the engine takes than that of prompts of 922, whether two GPUs compute them or four (InferenceX, vLLM 0.11 and 0.13,
/// gpt-oss-120b on H100).
const PER_PROMPT_TOKEN: Span = Span(3_100);

/// What each request that runs beside it adds: KubeCon's ladder (vLLM 0.11, Llama-3.1-8B on an H100) from 17 to 92 requests at once
/// raises TTFT by 10.2 ms beyond what the engine takes.
const PER_RUNNING: Span = Span(140_000);

/// A setting that has the value which its engine takes by itself, stated or not, and how that value is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assumed {
    /// The setting, as a dotted path.
    pub path: String,
    /// Its value, as a scenario would state it.
    pub value: String,
    /// Where the value is from.
    pub why: String,
}

/// SGLang's server: tokens of a chunk, sequences of its largest CUDA graph, and the share of the memory for weights and KV
/// (`server_args.py`, `_handle_gpu_memory_settings`, of 0.5).
fn sglang_limits(memory: Bytes, gpus: u32, stages: u32) -> (u32, u32, f64) {
    let small_group = gpus < 4;
    let (chunk, graph) = match memory.0 >> 30 {
        0..20 => (2048, if small_group { 8 } else { 80 }),
        20..35 => (2048, if small_group { 24 } else { 80 }),
        35..60 => (4096, if small_group { 32 } else { 160 }),
        60..160 => (8192, if small_group { 256 } else { 512 }),
        _ => (16_384, 512),
    };
    let mib = memory.0 as f64 / f64::from(1 << 20);
    let reserved = 512.0 + 1.5 * f64::from(chunk) + 2.0 * f64::from(graph) + f64::from(gpus * stages) / 8.0 * 1024.0;
    let reserved = if mib > 60.0 * 1024.0 { reserved.max(10.0 * 1024.0) } else { reserved };
    (chunk, graph, ((mib - reserved) / mib * 1000.0).round() / 1000.0)
}

/// Looks up which settings are written, in the scenario or in the pool that is looked at.
pub(crate) struct Written<'a> {
    pub(crate) tree: &'a Node,
    pub(crate) pool: Option<&'a PoolSpec>,
}

impl Written<'_> {
    fn has(&self, path: &str) -> bool {
        let of_pool = self.pool.zip(path.strip_prefix("engine.")).is_some_and(|(pool, key)| pool.engine.says(key));
        of_pool || self.is_in_tree(path)
    }

    fn is_in_tree(&self, path: &str) -> bool {
        path.split('.').try_fold(self.tree, |node, key| node.entry(key).map(|entry| &entry.value)).is_some()
    }
}

/// What an engine takes its limits by: the GPU, and the version of vLLM if one is stated.
pub(crate) struct Kind<'a> {
    pub(crate) gpu: &'a GpuSpec,
    pub(crate) version: Option<(u32, u32)>,
}

impl<'a> Kind<'a> {
    pub(crate) fn of(scenario: &Scenario, gpu: &'a GpuSpec) -> Kind<'a> {
        Kind { gpu, version: scenario.engine.version.as_ref().map(EngineVersion::numbers) }
    }
}

/// Fills what the catalog knows of a server's power, where watts are counted and the scenario does not say it.
pub(crate) fn row(scenario: &mut Scenario, server: &ServerSpec) {
    if scenario.power.is_none() && scenario.fleet.row.is_none() {
        return;
    }
    let row = scenario.fleet.row.get_or_insert_default();
    if row.server.is_none() {
        row.server.clone_from(&server.power);
    }
    if row.rated.is_none() {
        row.rated = server.power_max.as_ref().map(|power| power.watts);
    }
}

/// Fills limits that engines take by the memory of their GPUs; between pools the smallest hold for all, which share a scheduler.
pub(crate) fn limits(
    scenario: &mut Scenario,
    written: &Written<'_>,
    model: &ModelSpec,
    kinds: &[Kind<'_>],
) -> Vec<Assumed> {
    let known: Vec<&Kind<'_>> = kinds.iter().filter(|kind| kind.gpu.memory.0 > 0).collect();
    let mut assumed = Vec::new();
    if known.is_empty() {
        return assumed;
    }
    let longest = scenario.engine.max_model_len.and_then(MaxModelLen::tokens).unwrap_or(model.context);
    let mut names: Vec<&str> = known.iter().map(|kind| kind.gpu.name.as_str()).collect();
    names.dedup();
    let shared = if names.len() > 1 { "the least of " } else { "" };
    let named = format!("{shared}{}", names.join(", "));
    let mut take = |key: &str, slot: &mut u32, value: u32, why: &str| {
        let path = format!("scheduler.{key}");
        if !written.has(&path) {
            *slot = value;
        }
        if *slot == value {
            assumed.push(Assumed { path, value: value.to_string(), why: format!("{why} on {named}") });
        }
    };
    match &mut scenario.scheduler {
        SchedulerSpec::Vllm(spec) => {
            let each = known.iter().map(|kind| vllm_limits(&kind.gpu.name, kind.gpu.memory, kind.version));
            let (tokens, seqs) = each.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).unwrap_or((2048, 256));
            // Without chunks a step must hold the longest prompt.
            let tokens = if spec.enable_chunked_prefill { tokens } else { tokens.max(longest) };
            // Every rank of data-parallel attention is an engine with limits of its own.
            let ranks = scenario.fleet.dp_attention.max(1);
            let why = if ranks > 1 { format!("vLLM's server, {ranks} ranks,") } else { "vLLM's server".to_owned() };
            let (tokens, seqs) = (tokens.saturating_mul(ranks), seqs.saturating_mul(ranks));
            take("vllm.max_num_batched_tokens", &mut spec.max_num_batched_tokens, tokens, &why);
            take("vllm.max_num_seqs", &mut spec.max_num_seqs, seqs, &why);
            // The pools share a scheduler: they plan ahead if the oldest version does.
            if let Some(version) = known.iter().filter_map(|kind| kind.version).min() {
                let ahead = version >= ASYNC_SINCE;
                if !written.has("scheduler.vllm.async_scheduling") {
                    spec.async_scheduling = ahead;
                }
                if spec.async_scheduling == ahead {
                    let (path, value) = ("scheduler.vllm.async_scheduling".to_owned(), ahead.to_string());
                    assumed.push(Assumed { path, value, why: format!("vLLM {}.{}", version.0, version.1) });
                }
            }
        }
        SchedulerSpec::Sglang(spec) => {
            let group = (scenario.fleet.tensor_parallel, scenario.fleet.stages());
            let chunk = known.iter().map(|kind| sglang_limits(kind.gpu.memory, group.0, group.1).0).min();
            if let Some(size) = &mut spec.chunked_prefill_size {
                take("sglang.chunked_prefill_size", size, chunk.unwrap_or(8192), "SGLang's server");
            }
            take("sglang.max_running_requests", &mut spec.max_running_requests, 2048, "SGLang's server, at least,");
        }
        _ => {}
    }
    assumed
}

/// Fills what a replica's engine and server take where neither the scenario nor the pool says it.
pub(crate) fn engine(scenario: &mut Scenario, written: &Written<'_>, model: &ModelSpec, gpu: &GpuSpec) -> Vec<Assumed> {
    let mut assumed = Vec::new();
    let mut say = |path: &str, value: String, why: &str| {
        assumed.push(Assumed { path: path.to_owned(), value, why: why.to_owned() });
    };
    let Scenario { engine, scheduler, workload, fleet, model: named, .. } = scenario;
    let published = if let ModelChoice::Named(name) = named { published(name) } else { None };
    // Four bits are MXFP4 where nothing else is to be had.
    let four = engine.weights == WeightDtype::Int4 && published == Some(WeightDtype::Mxfp4);
    if let Some(weights) = published.filter(|_| four || !written.has("engine.weights")) {
        engine.weights = weights;
    }
    if let Some(weights) = published.filter(|weights| engine.weights == *weights) {
        say("engine.weights", weights.to_string(), "as the model is published");
    }
    if matches!(scheduler, SchedulerSpec::Sglang(_)) && gpu.memory.0 > 0 {
        let (.., share) = sglang_limits(gpu.memory, fleet.tensor_parallel, fleet.stages());
        if !written.has("engine.gpu_memory_utilization") {
            engine.gpu_memory_utilization = share;
        }
        // The rule has three digits.
        if (engine.gpu_memory_utilization - share).abs() < 1e-9 {
            say("engine.gpu_memory_utilization", share.to_string(), "SGLang's mem_fraction_static");
        }
    }
    if !engine.has_roofline() {
        return assumed;
    }
    let drawing = drawing(workload.temperature, model, scheduler);
    let host = Constants::shared().host_of(scheduler, drawing, model.vocab);
    if *engine.host.get_or_insert(host) == host {
        let HostCost { base, per_seq, sampling } = host;
        let why = match drawing {
            Some(Drawing::Drawn) => "published runs; tokens drawn by the model's generation_config",
            Some(Drawing::Penalised) => "published runs; temperature 0, the model's own penalty",
            None => "published runs; tokens taken greedily",
        };
        say("engine.host", format!("base {base}, per_seq {per_seq}, sampling {sampling}"), why);
    }
    let frontend = FrontendSpec {
        base: Duration(FRONTEND),
        per_running: Duration(PER_RUNNING),
        per_prompt_token: Duration(PER_PROMPT_TOKEN),
    };
    if *engine.frontend.get_or_insert(frontend) == frontend {
        let FrontendSpec { base, per_running, per_prompt_token } = frontend;
        let values = format!("base {base}, per_running {per_running}, per_prompt_token {per_prompt_token}");
        say("engine.frontend", values, "published runs of vLLM");
    }
    assumed
}

/// Settings that are stated and change nothing beside the others, in words.
pub(crate) fn without_effect(scenario: &Scenario, model: &ModelSpec) -> Vec<String> {
    let Scenario { engine, scheduler, workload, .. } = scenario;
    let mut notes = Vec::new();
    if engine.version.is_some() && !matches!(scheduler, SchedulerSpec::Vllm(_)) {
        notes.push(format!("`engine.version` changes defaults of `vllm` alone, not of `{}`", scheduler.name()));
    }
    if let SchedulerSpec::Sglang(sglang) = scheduler
        && sglang.order() != sglang.schedule_policy
    {
        notes.push(
            "`scheduler.sglang.schedule_policy` is `fcfs`, as SGLang takes it: without `enable_radix_cache` there are no prefixes to go by"
                .to_owned(),
        );
    }
    if engine.enforce_eager && !engine.has_roofline() {
        notes.push("`engine.enforce_eager` changes nothing: `engine.cost` states what steps take".to_owned());
    }
    if let Some(temperature) = workload.temperature {
        let usual = Constants::shared().host_of(scheduler, drawing(Some(temperature), model, scheduler), model.vocab);
        let stated = engine.host.filter(|host| host.sampling != usual.sampling);
        if !engine.has_roofline() {
            notes.push("`workload.temperature` changes nothing: `engine.cost` states what steps take".to_owned());
        } else if stated.is_some() {
            notes.push("`workload.temperature` changes nothing: `engine.host` states what drawing takes".to_owned());
        }
    }
    notes
}

/// How tokens are drawn; `None`: greedily, or on an engine whose host time was fitted with it.
fn drawing(temperature: Option<f64>, model: &ModelSpec, scheduler: &SchedulerSpec) -> Option<Drawing> {
    let with_host = matches!(
        scheduler,
        SchedulerSpec::Trtllm(_)
            | SchedulerSpec::LightllmMain(_)
            | SchedulerSpec::PastFuture(_)
            | SchedulerSpec::Aggressive(_)
            | SchedulerSpec::Conservative(_)
    );
    match temperature {
        _ if with_host => None,
        // generation_config.json of gpt-oss has neither top-k nor top-p: nothing is sorted, and what is left to do is not measured.
        _ if model.name.starts_with("gpt-oss") => None,
        Some(0.0) => model.name.starts_with("Qwen2.5").then_some(Drawing::Penalised),
        _ => Some(Drawing::Drawn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, Study};

    fn study(engine: &str, more: &str) -> Study {
        let text = format!(
            "version: 1\nname: x\nmodel: llama-3.1-8b\ngpu: h100\nworkload: {{ temperature: 0, generate: {{ arrivals: {{ constant: {{ rate: 1/s }} \
             }}, lengths: {{ fixed: {{ prompt: 9, output: 9 }} }}, requests: 1 }} }}\nscheduler: sglang\nengine: {engine}\n{more}"
        );
        Source::from_text("x", &text).resolve().expect("a scenario")
    }

    #[test]
    fn tokens_that_nothing_sorts_for_cost_no_sampling() {
        let sampling = |model: &str, temperature: &str| {
            let text = format!(
                "version: 1\nname: x\nmodel: {model}\ngpu: h100\nfleet: {{ tensor_parallel: 4 }}\nworkload: {{ {temperature} generate: {{ arrivals: \
                 {{ constant: {{ rate: 1/s }} }}, lengths: {{ fixed: {{ prompt: 9, output: 9 }} }}, requests: 1 }} }}\n"
            );
            let study = Source::from_text("x", &text).resolve().expect("a scenario");
            study.points()[0].scenario.engine.host.expect("a host time").sampling.0.0
        };
        for temperature in ["", "temperature: 0.7,", "temperature: 0,"] {
            assert_eq!(sampling("gpt-oss-120b", temperature), 0, "{temperature}");
        }
        assert!(sampling("llama-3.1-8b", "") > 0 && sampling("llama-3.1-8b", "temperature: 0.7,") > 0);
        assert_eq!(sampling("llama-3.1-8b", "temperature: 0,"), 0);
    }

    #[test]
    fn what_a_pool_states_stands() {
        let pools = "fleet: { pools: [{ replicas: 1 }, { replicas: 1, engine: { gpu_memory_utilization: 0.5 } }] }\n";
        let study = study("{}", pools);
        let shares: Vec<f64> =
            study.points()[0].pools.iter().map(|pool| pool.scenario.engine.gpu_memory_utilization).collect();
        assert!((shares[0] - 0.834).abs() < 1e-9 && (shares[1] - 0.5).abs() < 1e-9, "{shares:?}");
    }

    #[test]
    fn a_resolved_scenario_has_the_same_defaults() {
        let first = study("{}", "");
        let text = first.points()[0].scenario.to_yaml();
        let again = Source::from_text("again", &text).resolve().expect("a scenario");
        assert_eq!(first.points(), again.points());
        assert!(first.points()[0].assumed.iter().any(|one| one.path == "engine.gpu_memory_utilization"));
        assert!(first.notes().is_empty() && again.notes().is_empty(), "{:?}", again.notes());
    }

    #[test]
    fn what_changes_nothing_is_said() {
        let given = study("{ version: '0.4', enforce_eager: true, cost: { constant: { device: 1ms } } }", "");
        let notes = given.notes().join("\n");
        for setting in ["engine.version", "engine.enforce_eager", "workload.temperature"] {
            assert!(notes.contains(setting), "{setting}: {notes}");
        }
    }

    #[test]
    fn sglang_reserves_by_chunk_and_graphs() {
        // An H100 as SGLang's own code computes it: 512 + 12288 + 512 + 128 MiB of 81,559.
        assert_eq!(sglang_limits(Bytes(81_559 << 20), 1, 1), (8192, 256, 0.835));
        assert_eq!(sglang_limits(Bytes(24_564 << 20), 1, 1).0, 2048);
    }
}
