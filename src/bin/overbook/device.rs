//! What `--on` means: a model, its weights, and something that runs steps.

use std::path::PathBuf;
use std::sync::Arc;

use overbook::TOOL;
use overbook_engine::config::Config;
use overbook_engine::cpu::CpuExecutor;
use overbook_engine::executor::{Capacity, Executor, ExecutorError};
use overbook_engine::serve::tokenizer::Tokenizer;
use overbook_engine::weights::{Dtype, Weights};
use overbook_reports::manifest::host_cpu;
use overbook_scenarios::Point;
use overbook_scenarios::scenario::ModelChoice;
use overbook_sim::calibrate::{Hardware, ProfiledEngine};
use overbook_sim::hardware::model::{ModelSpec, WeightDtype};
use overbook_sim::serving::replica::Limits;

use crate::cli::DeviceArgs;
use crate::output::{Failure, note};

/// A model on a device.
pub(crate) struct Device {
    config: Config,
    weights: Arc<Weights>,
    threads: usize,
    /// Where the weights come from; `None` if they are dummies.
    folder: Option<PathBuf>,
}

impl Device {
    /// Loads or makes the weights of a point's model.
    pub(crate) fn open(point: &Point, args: &DeviceArgs) -> Result<Device, Failure> {
        if !point.pools.is_empty() {
            return Err(Failure::Input("the real engine is one replica; leave out `fleet.pools`".into()));
        }
        if point.scenario.engine.weights != WeightDtype::Bf16 {
            return Err(Failure::Input("the CPU engine has bf16 weights; set `engine.weights: bf16`".into()));
        }
        if point.scenario.fleet.gpus_per_replica() > 1 {
            return Err(Failure::Input("the CPU engine is one device; set `fleet.tensor_parallel: 1`".into()));
        }
        overbook_engine::run::check(&point.cluster().map_err(Failure::input)?).map_err(Failure::input)?;
        let (config, folder) = config(point, args.weights.as_ref())?;
        fits(&config, &point.model)?;
        let weights = match &folder {
            Some(path) => Weights::load(&config, path, Dtype::Bf16),
            None => Weights::dummy(&config, 0, Dtype::Bf16),
        };
        let weights = Arc::new(weights.map_err(Failure::input)?);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // With a compute thread on every core requests were sent and steps planned milliseconds late.
        let spare = (cores - 1).max(1);
        Ok(Device { config, weights, threads: args.threads.map_or(spare, usize::from), folder })
    }

    /// An executor for a replica's limits, its cache empty.
    pub(crate) fn executor(&self, limits: &Limits) -> Result<Box<dyn Executor>, ExecutorError> {
        let blocks = u32::try_from(limits.blocks)
            .map_err(|_| ExecutorError(format!("{} KV blocks are more than the engine can number", limits.blocks)))?;
        let vocab = self.config.vocab as u32;
        let capacity = Capacity::unbounded(blocks, limits.block_tokens, limits.max_model_len, vocab);
        Ok(Box::new(CpuExecutor::new(self.config.clone(), self.weights.clone(), capacity, self.threads)?))
    }

    /// Compute threads.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// What makes tokens of text: the tokenizer beside the weights, or bytes.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        let bytes = || Tokenizer::bytes().ending(&self.config.eos);
        let Some(folder) = &self.folder else { return Ok(bytes()) };
        let words = Tokenizer::load(folder, self.config.vocab, &self.config.eos).map_err(Failure::input)?;
        Ok(words.unwrap_or_else(|| {
            note(&format!(
                "warning: {} has no tokenizer.json, so that text is taken and given as bytes; send token ids instead",
                folder.display()
            ));
            bytes()
        }))
    }

    /// What a profile says of the engine.
    pub(crate) fn profiled(&self, block_tokens: u32) -> ProfiledEngine {
        ProfiledEngine {
            name: TOOL.to_owned(),
            executor: "cpu".to_owned(),
            threads: Some(self.threads as u32),
            weights: "bf16".to_owned(),
            block_tokens,
        }
    }

    /// What a profile says of this machine.
    pub(crate) fn hardware() -> Hardware {
        Hardware {
            device: Device::processor(),
            count: std::thread::available_parallelism().map_or(1, usize::from) as u32,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }

    /// The processor, as the system calls it.
    pub(crate) fn processor() -> String {
        host_cpu().unwrap_or_else(|| format!("a CPU ({})", std::env::consts::ARCH))
    }

    /// What runs the steps, in words.
    pub(crate) fn describe(&self) -> String {
        let processor = Device::processor();
        let origin = self.folder.as_ref().map_or_else(|| "dummy weights".to_owned(), |path| path.display().to_string());
        format!("CPU engine, {} threads, {processor}; bf16, {origin}", self.threads)
    }
}

/// The model's configuration, and the folder of its weights if there is one.
fn config(point: &Point, weights: Option<&PathBuf>) -> Result<(Config, Option<PathBuf>), Failure> {
    if let Some(path) = weights {
        return Ok((Config::load(path).map_err(Failure::input)?, Some(path.clone())));
    }
    match &point.scenario.model {
        ModelChoice::Named(name) => Config::preset(name).map(|config| (config, None)).map_err(|error| {
            Failure::Input(format!("{error}; or give the folder of its config.json and weights with --weights"))
        }),
        ModelChoice::Inline(_) => Err(Failure::Input(
            "a model written in the scenario has no weights; give a folder with config.json and weights with --weights"
                .into(),
        )),
    }
}

/// Whether the engine's model is the one that the scenario simulates.
fn fits(config: &Config, model: &ModelSpec) -> Result<(), Failure> {
    match config.difference(model) {
        Some((what, ours, theirs)) => Err(Failure::Input(format!(
            "the weights are of another model than {}: {what} {ours}, not {theirs}",
            model.name
        ))),
        None => Ok(()),
    }
}
