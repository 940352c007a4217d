//! The few constants of engines, clients and GPUs that were fitted on stated runs (docs/validation.md says which, and how well they
//! carry over), by name, and what they mean for a run.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use overbook_sim::cost::HostCost;
use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::KvDtype;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::time::Span;
use overbook_sim::units::Duration;

use super::MeasuredRun;
use super::engine::Engine;
use super::words;
use crate::catalog::Catalog;
use crate::scenario::ClientTimeSpec;
use crate::yaml::{self, SourceId};

/// Clients that state no temperature, so that the server's defaults for the model hold: top-k, top-p, penalties.
const SAMPLING_CLIENTS: [&str; 3] = ["vllm bench serve", "GuideLLM", "inference-perf"];

/// Servers take the model's own defaults since about that version, where the client states nothing. (`vllm bench serve` still
/// stated temperature 0 in 2024; its logs of September 2025 show that it no longer does.)
const SAMPLING_SINCE: (u32, u32) = (0, 9);

/// The origin whose client draws tokens by default (github ml-energy/benchmark at c1d6557f, `mlenergy/benchmark/llm/benchmark.py`).
const MLENERGY: &str = "ml-energy/leaderboard";

/// Sets whose clients' own time was fitted, and the name of the client.
const CLIENTS: [(&str, &str); 2] = [("kubecon-inference-perf", "inference-perf"), ("trtllm-vs-vllm", "closed-loop")];

/// How an engine comes to tokens, where it does not just take the likeliest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drawing {
    /// Drawn by top-k, top-p and penalties.
    Drawn,
    /// The likeliest, after penalties.
    Penalised,
}

/// Fitted constants by name, each in the unit that its name ends with.
#[derive(Clone, PartialEq, Debug)]
pub struct Constants(BTreeMap<String, f64>);

/// Why a file of constants cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConstantsError {
    /// It is no list of numbers by name.
    #[error("{0}")]
    Format(String),
    /// It has a name that means nothing, or lacks one.
    #[error("the constants are {known}; `{name}` {what}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
        /// All names.
        known: String,
    },
}

/// A constant that `overbook validate --fit` searches.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fitted {
    /// Its name.
    pub name: &'static str,
    /// Where the search begins, and what holds where no training run knows better.
    pub start: f64,
    /// Least and largest value.
    pub bounds: (f64, f64),
}

const fn fitted(name: &'static str, start: f64, low: f64, high: f64) -> Fitted {
    Fitted { name, start, bounds: (low, high) }
}

impl Constants {
    /// All constants. Searches begin at one host time for all engines, at a plain guess for clients, and at the GPUs whose
    /// measured fractions the catalog lends (A100 for the A10G, L40S for the RTX 4090, H100 for the H100 64GB).
    pub const FITTED: [Fitted; 18] = [
        fitted("host.vllm-sync.base_us", 600.0, 50.0, 5000.0),
        fitted("host.vllm-v0.base_us", 600.0, 50.0, 5000.0),
        fitted("host.vllm-v0.per_seq_us", 10.0, 1.0, 200.0),
        fitted("host.tensorrt-llm.base_us", 600.0, 50.0, 5000.0),
        fitted("host.tensorrt-llm.per_seq_us", 10.0, 1.0, 200.0),
        fitted("host.s-lora.base_us", 600.0, 10.0, 50_000.0),
        fitted("sampling.drawn_ns_per_1000_words", 100.0, 10.0, 1000.0),
        fitted("sampling.penalised_ns_per_1000_words", 50.0, 5.0, 1000.0),
        fitted("client.inference-perf.base_us", 10_000.0, 1000.0, 100_000.0),
        fitted("client.closed-loop.base_us", 10_000.0, 1000.0, 100_000.0),
        fitted("client.closed-loop.per_concurrent_us", 1000.0, 10.0, 10_000.0),
        fitted("gpu.a10g.matmul_compute", 0.791, 0.4, 0.99),
        fitted("gpu.a10g.matmul_sharpness", 1.693, 1.0, 4.0),
        fitted("gpu.rtx-4090.matmul_compute", 0.6726, 0.4, 0.99),
        fitted("gpu.rtx-4090.matmul_memory", 0.771, 0.5, 0.99),
        fitted("gpu.rtx-4090.attention_memory", 0.8401, 0.5, 0.99),
        fitted("gpu.h100-64.bandwidth_gb_s", 2020.0, 1000.0, 3350.0),
        fitted("gpu.h100-64.small_kernel_floor_us", 2.0, 0.5, 10.0),
    ];

    /// Those that this version comes with.
    pub fn embedded() -> Constants {
        Constants::parse(include_str!("../../validation/constants.yaml")).unwrap_or_else(|_| Constants::start())
    }

    /// The same, read once.
    pub(crate) fn shared() -> &'static Constants {
        static SHARED: OnceLock<Constants> = OnceLock::new();
        SHARED.get_or_init(Constants::embedded)
    }

    /// Where a search begins.
    pub fn start() -> Constants {
        Constants(Constants::FITTED.iter().map(|fitted| (fitted.name.to_owned(), fitted.start)).collect())
    }

    /// Reads `name: number` lines.
    ///
    /// # Errors
    /// A name is unknown or missing, or a value is no number.
    pub fn parse(text: &str) -> Result<Constants, ConstantsError> {
        let (tree, faults) = yaml::parse(SourceId::default(), text);
        let broken = || ConstantsError::Format("expected a line `name: number` for each constant".to_owned());
        let tree = tree.filter(|_| faults.is_empty()).ok_or_else(broken)?;
        let decoded = yaml::decode::<BTreeMap<String, f64>>(&tree);
        let values = decoded.value.filter(|_| decoded.faults.is_empty()).ok_or_else(broken)?;
        let error = |name: &str, what| {
            let known = Constants::FITTED.map(|fitted| fitted.name).join(", ");
            ConstantsError::Name { name: name.to_owned(), what, known }
        };
        if let Some(name) = values.keys().find(|name| Constants::FITTED.iter().all(|fitted| fitted.name != **name)) {
            return Err(error(name, "is none of them"));
        }
        match Constants::FITTED.iter().find(|fitted| !values.contains_key(fitted.name)) {
            Some(missing) => Err(error(missing.name, "is missing")),
            None => Ok(Constants(values)),
        }
    }

    /// As [`Constants::parse`] reads them.
    pub fn to_yaml(&self) -> String {
        Constants::FITTED.map(|fitted| format!("{}: {}\n", fitted.name, self.get(fitted.name))).concat()
    }

    /// A constant; those of [`Constants::FITTED`] are all there.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(f64::NAN)
    }

    /// The same with another value for one of them.
    #[must_use]
    pub fn with(&self, name: &str, value: f64) -> Constants {
        let mut changed = self.clone();
        changed.0.insert(name.to_owned(), value);
        changed
    }

    /// Puts what is fitted of a GPU of the catalog in place.
    pub fn apply(&self, name: &str, gpu: &mut GpuSpec) {
        let fitted = |what: &str| self.0.get(&format!("gpu.{name}.{what}")).copied();
        let matmul = &mut gpu.matmul.bf16;
        matmul.compute = fitted("matmul_compute").unwrap_or(matmul.compute);
        matmul.memory = fitted("matmul_memory").unwrap_or(matmul.memory);
        matmul.sharpness = fitted("matmul_sharpness").unwrap_or(matmul.sharpness);
        if let Some(memory) = fitted("attention_memory") {
            let fits = gpu.decode_attention.fits.iter_mut();
            fits.filter(|fit| (fit.kv, fit.head_dim) == (KvDtype::Bf16, 128)).for_each(|fit| fit.memory = memory);
        }
        gpu.small_kernels.floor_us = fitted("small_kernel_floor_us").unwrap_or(gpu.small_kernels.floor_us);
        gpu.bandwidth.0 = fitted("bandwidth_gb_s").map_or(gpu.bandwidth.0, |gb| gb * 1e9);
    }

    /// Host time of a run's engine.
    pub(super) fn host(&self, run: &MeasuredRun, model: &str, engine: &Engine, notes: &mut Vec<String>) -> HostCost {
        let drawing = match (draws(run), penalises(run)) {
            _ if run.text("origin_repo") == MLENERGY => {
                notes.push(
                    "temperature 0.8 and top-p 0.95, the defaults of the origin's client: tokens are drawn".to_owned(),
                );
                Some(Drawing::Drawn)
            }
            (true, _) => {
                notes.push("the client states no temperature: tokens are drawn by the model's own defaults".to_owned());
                Some(Drawing::Drawn)
            }
            (false, true) => {
                notes.push("temperature 0, with the model's own repetition penalty".to_owned());
                Some(Drawing::Penalised)
            }
            (false, false) => None,
        };
        let words = Catalog::embedded().model(model).map_or(0, |model| model.vocab);
        self.host_of(&engine.clone().into(), drawing, words)
    }

    /// Host time of the engine that a scheduler is of, and the time to draw tokens from a vocabulary of `words`.
    pub fn host_of(&self, scheduler: &SchedulerSpec, drawing: Option<Drawing>, words: u32) -> HostCost {
        let (base, per_seq) = match scheduler {
            SchedulerSpec::VllmV0(_) => (self.us("host.vllm-v0.base_us"), self.us("host.vllm-v0.per_seq_us")),
            SchedulerSpec::Trtllm(_) => (self.us("host.tensorrt-llm.base_us"), self.us("host.tensorrt-llm.per_seq_us")),
            // S-LoRA's engine is LightLLM's.
            SchedulerSpec::LightllmMain(_)
            | SchedulerSpec::PastFuture(_)
            | SchedulerSpec::Aggressive(_)
            | SchedulerSpec::Conservative(_) => (self.us("host.s-lora.base_us"), us(0.0)),
            // Hidden behind the device, unless that is quicker.
            ahead if ahead.needs().depth > 1 => (us(600.0), us(10.0)),
            _ => (self.us("host.vllm-sync.base_us"), us(0.0)),
        };
        let per_word = match drawing {
            None => 0.0,
            Some(Drawing::Drawn) => self.get("sampling.drawn_ns_per_1000_words"),
            Some(Drawing::Penalised) => self.get("sampling.penalised_ns_per_1000_words"),
        };
        // It goes over the whole vocabulary.
        HostCost { base, per_seq, sampling: us(per_word * f64::from(words) / 1e6) }
    }

    /// What the client of a run sees beyond the engine's clock, if it took the times and is one of those that are known.
    pub(super) fn client_time(&self, run: &MeasuredRun) -> Option<ClientTimeSpec> {
        let takes_times = run.text("latency_clock").starts_with("client");
        let (_, client) = CLIENTS.iter().find(|(set, _)| takes_times && run.text("set") == *set)?;
        let time = |what: &str| self.0.get(&format!("client.{client}.{what}")).copied().unwrap_or(0.0);
        Some(ClientTimeSpec { base: us(time("base_us")), per_concurrent: us(time("per_concurrent_us")) })
    }

    fn us(&self, name: &str) -> Duration {
        us(self.get(name))
    }
}

fn us(us: f64) -> Duration {
    Duration(Span((us * 1e3).round() as u64))
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
