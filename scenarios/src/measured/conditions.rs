//! From a run's conditions to a scenario that has them.

use overbook_sim::hardware::model::{KvDtype, WeightDtype};
use overbook_sim::hardware::parallel::ExpertParallel;

use super::engine::{self, Engine};
use super::gap::Gap;
use super::workload::Window;
use super::{Constants, MeasuredRun, words, workload};
use crate::catalog::Catalog;
use crate::import::catalog_name;
use crate::scenario::{EngineSpec, FleetSpec, FrontendSpec, MaxModelLen, ModelChoice, Scenario, VERSION, WorkloadSpec};

/// A scenario with the conditions of a measured run.
#[derive(Clone, PartialEq, Debug)]
pub struct Imitation {
    /// What is simulated.
    pub scenario: Scenario,
    /// What the run does not say, and was taken to be so.
    pub assumptions: Vec<String>,
    /// What its figures are of.
    pub window: Window,
    /// The mean of prompts whose lengths were not published with the run, and were taken from what others published of the data set
    /// [tokens].
    pub assumed_prompt: Option<u32>,
}

impl MeasuredRun {
    /// The scenario that has this run's conditions. Nothing in it depends on the run's results, but for what they show of the
    /// conditions: how many tokens prompts and outputs had in all, and how many requests a client that fell behind its rate had
    /// under way.
    ///
    /// # Errors
    /// Something is not known of the run, or cannot be simulated yet.
    pub fn scenario(&self, constants: &Constants) -> Result<Imitation, Gap> {
        self.scenario_with_prompts(constants, 1.0)
    }

    /// The same with prompts `times` as long, where their lengths are those of a data set that the run only names: what moves with them
    /// hangs on that assumption.
    ///
    /// # Errors
    /// As [`MeasuredRun::scenario`].
    pub fn scenario_with_prompts(&self, constants: &Constants, times: f64) -> Result<Imitation, Gap> {
        let mut notes = Vec::new();
        // Conditions that are unknown are reported before those that the simulator lacks.
        let requests = workload::requests(self, times, &mut notes)?;
        if self.itl_contradicts() {
            notes.push("its inter-token latency contradicts its other latencies: not compared".to_owned());
        }
        let name = words::model(self.text("model"));
        let (model, _) =
            catalog_name(name).ok_or_else(|| Gap(format!("the catalog has no model `{}`", self.text("model"))))?;
        let gpu = words::gpu(self.text("gpu"))
            .ok_or_else(|| Gap(format!("the catalog has no GPU `{}`", self.text("gpu"))))?;
        if !self.text("spec_decode").is_empty() {
            return Err(Gap("speculative decoding".to_owned()));
        }
        if self.number("pp").is_some_and(|stages| stages > 1.0) {
            return Err(Gap("a pipeline with several steps in flight".to_owned()));
        }
        let served = engine::engine(self, gpu, model, &mut notes)?;
        let fleet = self.layout(model, &served, &mut notes)?;
        let served = served.of_ranks(fleet.dp_attention);
        let client_time = constants.client_time(self);
        let host = Some(constants.host(self, model, &served, &mut notes));
        let mut engine = EngineSpec { host, ..self.engine(&served, model, client_time.is_some(), &mut notes)? };
        // Engines state the pool of one rank.
        engine.kv_tokens = engine.kv_tokens.map(|tokens| tokens * u64::from(fleet.dp_attention));
        let scenario = Scenario {
            version: VERSION,
            name: self.id().to_owned(),
            description: Some(format!(
                "{} {} on {}, as measured ({})",
                self.text("engine"),
                self.text("engine_version"),
                self.text("gpu"),
                self.text("set")
            )),
            seed: self.whole("seed").unwrap_or(0),
            workload: WorkloadSpec { client_time, ..requests.workload },
            model: ModelChoice::Named(model.to_owned()),
            gpu: gpu.to_owned(),
            fleet,
            engine,
            scheduler: served.into(),
            power: None,
            economics: None,
            slo: crate::scenario::Slo::default(),
            audit: false,
            sweep: None,
            plan: None,
            expect: Vec::new(),
        };
        Ok(Imitation { scenario, assumptions: notes, window: requests.window, assumed_prompt: requests.assumed_prompt })
    }

    /// GPUs of a replica and how they share a model. vLLM's `dp` ranks of a model with experts step together, as one group.
    fn layout(&self, model: &str, served: &Engine, notes: &mut Vec<String>) -> Result<FleetSpec, Gap> {
        let size = |column: &str| self.whole(column).and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1);
        let (mut tensor, ranks, experts) = (size("tp"), size("dp"), size("ep"));
        let spread = experts > 1;
        // ML.ENERGY writes a group that splits attention and spreads experts as tp 1, ep n; its code starts it with `--tensor-parallel-size n`.
        if self.text("origin_repo").starts_with("ml-energy/") && ranks == 1 && tensor == 1 {
            tensor = experts;
        }
        let fleet = FleetSpec { tensor_parallel: tensor, ..FleetSpec::default() };
        if ranks == 1 && !spread {
            return Ok(fleet);
        }
        if !matches!(served, Engine::Vllm(_)) {
            let what = if ranks > 1 { "data-parallel attention" } else { "this engine's spread of experts" };
            return Err(Gap(what.to_owned()));
        }
        let gpus = tensor.saturating_mul(ranks);
        if self.whole("n_gpus").is_some_and(|n| n != u64::from(gpus)) {
            return Err(Gap(format!("attention on {tensor} x {ranks} of its {} GPUs", self.text("n_gpus"))));
        }
        if Catalog::embedded().model(model).is_ok_and(|spec| spec.moe.is_none()) {
            return Ok(FleetSpec { replicas: ranks, ..fleet });
        }
        if ranks > 1 {
            notes.push(format!("its {ranks} ranks are taken as evenly loaded; limits not stated are those of each"));
        }
        let expert_parallel = spread.then(ExpertParallel::default);
        Ok(FleetSpec { tensor_parallel: gpus, dp_attention: ranks, expert_parallel, ..fleet })
    }

    fn engine(
        &self,
        served: &Engine,
        model: &str,
        client_fitted: bool,
        notes: &mut Vec<String>,
    ) -> Result<EngineSpec, Gap> {
        let stated = self.text("weight_dtype");
        let weights = match stated.strip_suffix(" (checkpoint default)").unwrap_or(stated) {
            "bf16" | "bfloat16" | "fp16" | "float16" => WeightDtype::Bf16,
            "fp8" => WeightDtype::Fp8,
            "mxfp4" => WeightDtype::Mxfp4,
            other => return Err(Gap(format!("weights in {other}"))),
        };
        let kv = match self.text("kv_dtype") {
            "bf16" | "fp16" | "auto" | "bf16 (auto)" | "" => KvDtype::Bf16,
            kind if kind.starts_with("fp8") => KvDtype::Fp8,
            other => return Err(Gap(format!("keys and values in `{other}`"))),
        };
        let defaults = EngineSpec::default();
        let other = self.text("engine_other");
        let share = words::setting(other, "gpu_memory_utilization");
        let share = share.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let block_tokens = self.whole("kv_block_size").map_or(defaults.block_tokens, |tokens| tokens as u32);
        // One block of vLLM's is its null block, which holds nothing.
        let null = if matches!(served, Engine::Vllm(_)) { u64::from(block_tokens) } else { 0 };
        let kv_tokens = self.whole("kv_tokens").map(|tokens| tokens.saturating_sub(null));
        if kv_tokens.is_none() {
            notes.push("KV pool: what the memory model leaves".to_owned());
        }
        let eager = words::setting(other, "enforce_eager") == Some("true") || other.contains("CUDA graphs off");
        if eager {
            notes.push("without CUDA graphs: the time to launch a layer is inferred".to_owned());
        }
        // The time of clients that were fitted has the server's front end in it; an engine's own clock has none.
        let over_http = self.text("latency_clock").starts_with("client") && !client_fitted;
        Ok(EngineSpec {
            weights,
            kv,
            block_tokens,
            gpu_memory_utilization: share.unwrap_or(defaults.gpu_memory_utilization),
            kv_tokens,
            max_model_len: self.max_model_len(served, model, notes),
            enforce_eager: eager,
            frontend: (!over_http).then_some(FrontendSpec::NONE),
            ..defaults
        })
    }

    /// The longest sequence: as stated, at most what the model was made for, and what a step holds if prompts are not split.
    fn max_model_len(&self, served: &Engine, model: &str, notes: &mut Vec<String>) -> Option<MaxModelLen> {
        let stated = self.whole("max_model_len").and_then(|tokens| u32::try_from(tokens).ok());
        let context = Catalog::embedded().model(model).ok()?.context;
        let step = match served {
            Engine::Trtllm(spec) if !spec.enable_chunked_context => spec.max_num_tokens,
            Engine::Trtllm(_) | Engine::Vllm(_) | Engine::VllmV0(_) | Engine::SLora(_) => u32::MAX,
        };
        let least = stated.unwrap_or(context).min(context).min(step);
        if stated.unwrap_or(context) != least {
            notes.push(format!("max_model_len: {least}, for the model or the step hold no more"));
        }
        (stated.is_some() || least != context).then_some(MaxModelLen::Tokens(least))
    }
}
