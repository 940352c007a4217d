//! Host times of engine families, fitted on stated runs (VALIDATION.md says which, and how well they carry over).

use overbook_sim::cost::HostCost;
use overbook_sim::policy::SchedulerSpec;
use overbook_sim::time::Span;
use overbook_sim::units::Duration;

use super::MeasuredRun;
use super::words;

/// Clients that state no temperature, so that the server's defaults for the model hold: top-k, top-p, penalties.
const SAMPLING_CLIENTS: [&str; 3] = ["vllm bench serve", "GuideLLM", "inference-perf"];

/// Servers take the model's own defaults since about that version, where the client states nothing. (`vllm bench serve` still
/// stated temperature 0 in 2024; that it no longer does is told in its logs of September 2025.)
const SAMPLING_SINCE: (u32, u32) = (0, 9);

/// To draw a token by top-k and top-p over 128 to 152 thousand words, with penalties.
const DRAWN_US: u64 = 34;

/// To apply penalties to as many words, and take the likeliest.
const PENALISED_US: u64 = 12;

const fn us(us: u64) -> Duration {
    Duration(Span(us * 1000))
}

/// Host time of a run's engine.
pub(super) fn host(run: &MeasuredRun, scheduler: &SchedulerSpec, notes: &mut Vec<String>) -> HostCost {
    let (base, per_seq) = match scheduler {
        // Hidden behind the device, unless that is quicker.
        SchedulerSpec::Vllm(spec) if spec.async_scheduling => (600, 10),
        SchedulerSpec::Vllm(_) => (800, 0),
        SchedulerSpec::VllmV0(_) => (1200, 30),
        SchedulerSpec::Trtllm(_) => (350, 8),
        SchedulerSpec::LightllmMain(_) => (600, 0),
        _ => return HostCost::default(),
    };
    let sampling = match (draws(run), penalises(run)) {
        (true, _) => {
            notes.push("the client states no temperature: tokens are drawn by the model's own defaults".to_owned());
            DRAWN_US
        }
        (false, true) => {
            notes.push("temperature 0, with the model's own repetition penalty".to_owned());
            PENALISED_US
        }
        (false, false) => 0,
    };
    HostCost { base: us(base), per_seq: us(per_seq), sampling: us(sampling) }
}

/// Whether the model's own defaults penalise repetition even at temperature 0: generation_config.json of Qwen2.5-Instruct.
fn penalises(run: &MeasuredRun) -> bool {
    let recent = words::version(run.text("engine_version")).is_none_or(|version| version >= SAMPLING_SINCE);
    let model = words::model(run.text("model"));
    let over_http = run.text("latency_clock").starts_with("client");
    run.text("engine") == "vllm" && recent && over_http && model.contains("Qwen2.5") && model.ends_with("-Instruct")
}

/// Whether tokens were drawn rather than taken greedily.
fn draws(run: &MeasuredRun) -> bool {
    let said = [run.text("arrival_process"), run.text("set"), run.text("output_spec")].join(" ");
    let recent = words::version(run.text("engine_version")).is_some_and(|version| version >= SAMPLING_SINCE);
    recent && SAMPLING_CLIENTS.iter().any(|client| said.contains(client)) && !said.contains("temperature 0")
}
