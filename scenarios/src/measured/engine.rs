//! The engine of a run, as a scheduler with its settings.

use overbook_sim::schedulers::{Capacity, FairSpec, LightllmMainSpec, SchedulerSpec, TrtllmSpec, VllmSpec, VllmV0Spec};
use overbook_sim::serving::QueueOrder;
use overbook_sim::units::Bytes;

use super::MeasuredRun;
use super::gap::Gap;
use super::limits::{ASYNC_SINCE, vllm_limits};
use super::words;
use crate::catalog::Catalog;

/// S-LoRA's decode steps from one attempt to admit to the next (`max_wait_tokens` in its `router/manager.py`).
const SLORA_WAIT_TOKENS: u32 = 10;

/// The engines whose runs can be imitated, each with the settings of its scheduler.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    Vllm(VllmSpec),
    VllmV0(VllmV0Spec),
    Trtllm(TrtllmSpec),
    SLora(LightllmMainSpec),
}

impl Engine {
    /// The same with the limits of so many ranks together; each has those that the run states.
    pub(super) fn of_ranks(self, ranks: u32) -> Engine {
        match self {
            Engine::Vllm(spec) => Engine::Vllm(VllmSpec {
                max_num_batched_tokens: spec.max_num_batched_tokens.saturating_mul(ranks),
                max_num_seqs: spec.max_num_seqs.saturating_mul(ranks),
                ..spec
            }),
            other => other,
        }
    }
}

impl From<Engine> for SchedulerSpec {
    fn from(engine: Engine) -> SchedulerSpec {
        match engine {
            Engine::Vllm(spec) => SchedulerSpec::Vllm(spec),
            Engine::VllmV0(spec) => SchedulerSpec::VllmV0(spec),
            Engine::Trtllm(spec) => SchedulerSpec::Trtllm(spec),
            Engine::SLora(spec) => SchedulerSpec::LightllmMain(spec),
        }
    }
}

/// The engine of a run.
pub(super) fn engine(run: &MeasuredRun, gpu: &str, model: &str, notes: &mut Vec<String>) -> Result<Engine, Gap> {
    let (engine, version, policy) = (run.text("engine"), run.text("engine_version"), run.text("scheduler"));
    match engine {
        "vllm" if version.contains("V0") || words::version(version).is_some_and(|version| version < (0, 8)) => {
            Ok(Engine::VllmV0(vllm_v0(run, notes)))
        }
        "vllm" => Ok(Engine::Vllm(vllm(run, gpu, model, notes)?)),
        "tensorrt-llm" if policy == "GUARANTEED_NO_EVICT" => Ok(Engine::Trtllm(trtllm(run, notes))),
        _ if engine.starts_with("s-lora") => Ok(Engine::SLora(LightllmMainSpec {
            running_max_req_size: limit(run, "max_num_seqs", 1000, notes),
            batch_max_tokens: run.whole("max_num_batched_tokens").map(|tokens| tokens as u32),
            router_max_wait_tokens: SLORA_WAIT_TOKENS,
            fair: fair(policy, notes)?,
            ..LightllmMainSpec::default()
        })),
        _ => Err(Gap(format!("the engine `{engine}` with the scheduler `{policy}`"))),
    }
}

/// The order over S-LoRA's batches: of arrival, or by fair shares.
fn fair(order: &str, notes: &mut Vec<String>) -> Result<Option<FairSpec>, Gap> {
    let fair = match order {
        "fcfs" => return Ok(None),
        "least counter first" => FairSpec { lift: false, ..FairSpec::default() },
        "vtc with oracle length" => FairSpec { foreseen: true, ..FairSpec::default() },
        _ if order.starts_with("vtc (") => FairSpec::default(),
        _ => return Err(Gap(format!("the order `{order}` over S-LoRA's batches"))),
    };
    notes.push("shares of the clients not stated: equal".to_owned());
    Ok(Some(fair))
}

fn vllm(run: &MeasuredRun, gpu: &str, model: &str, notes: &mut Vec<String>) -> Result<VllmSpec, Gap> {
    let version = words::version(run.text("engine_version"));
    let memory = Catalog::embedded().gpu(gpu).map_or(Bytes(0), |gpu| gpu.memory);
    let (tokens, seqs) = vllm_limits(gpu, memory, version);
    let other = run.text("engine_other");
    let stated = match words::setting(other, "async_scheduling") {
        Some(word) => Some(word == "true"),
        None => other.contains("async scheduling").then_some(true),
    };
    let ahead = stated.or_else(|| version.map(|version| version >= ASYNC_SINCE)).unwrap_or_else(|| {
        notes.push("version not stated: plans one step ahead".to_owned());
        true
    });
    let policy = match run.text("scheduler") {
        "fcfs" | "" => QueueOrder::Fcfs,
        "priority" => QueueOrder::Priority,
        other => return Err(Gap(format!("vLLM's order `{other}`"))),
    };
    let hybrid = Catalog::embedded().model(model).is_ok_and(|model| model.recurrent.is_some());
    let said = run.text("prefix_caching");
    if hybrid && !said.starts_with("off") {
        notes.push("vLLM finds no prefixes of models with recurrent layers unless told to: off".to_owned());
    }
    Ok(VllmSpec {
        policy,
        max_num_batched_tokens: limit(run, "max_num_batched_tokens", tokens, notes),
        max_num_seqs: limit(run, "max_num_seqs", seqs, notes),
        enable_chunked_prefill: !run.text("chunked_prefill").starts_with("off"),
        async_scheduling: ahead,
        enable_prefix_caching: !said.starts_with("off") && !hybrid,
        ..VllmSpec::default()
    })
}

fn vllm_v0(run: &MeasuredRun, notes: &mut Vec<String>) -> VllmV0Spec {
    let defaults = VllmV0Spec::default();
    VllmV0Spec {
        max_num_seqs: limit(run, "max_num_seqs", defaults.max_num_seqs, notes),
        max_num_batched_tokens: run.whole("max_num_batched_tokens").map(|tokens| tokens as u32),
        ..defaults
    }
}

fn trtllm(run: &MeasuredRun, notes: &mut Vec<String>) -> TrtllmSpec {
    let defaults = TrtllmSpec::default();
    TrtllmSpec {
        max_batch_size: limit(run, "max_num_seqs", defaults.max_batch_size, notes),
        max_num_tokens: limit(run, "max_num_batched_tokens", defaults.max_num_tokens, notes),
        capacity_scheduler_policy: Capacity::GuaranteedNoEvict,
        // What is not said to be off must be on where a prompt may be longer than a step.
        enable_chunked_context: run.text("chunked_prefill").is_empty(),
    }
}

/// A limit of the run, else the engine's default, noted.
fn limit(run: &MeasuredRun, column: &str, default: u32, notes: &mut Vec<String>) -> u32 {
    run.whole(column).and_then(|value| u32::try_from(value).ok()).unwrap_or_else(|| {
        notes.push(format!("{column} not stated: {default}, the engine's default"));
        default
    })
}
