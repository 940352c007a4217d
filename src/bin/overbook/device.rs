//! What `--on` means: a model, its weights, and something that runs steps.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use overbook::TOOL;
use overbook_engine::calibrate::PROMPTS;
use overbook_engine::config::Config;
use overbook_engine::cuda::CudaError;
use overbook_engine::device::{self, DeviceError, DeviceKind};
use overbook_engine::executor::{BuildError, Capacity, Executor, Lanes};
use overbook_engine::nvml::{Meter, StandIn, Told};
use overbook_engine::serve::tokenizer::Tokenizer;
use overbook_engine::weights::WeightsError;
use overbook_reports::manifest::host_cpu;
use overbook_scenarios::Point;
use overbook_scenarios::scenario::ModelChoice;
use overbook_sim::calibrate::{Hardware, ProfiledEngine};
use overbook_sim::fleet::ClusterSpec;
use overbook_sim::hardware::model::{KvDtype, ModelSpec, WeightDtype};
use overbook_sim::partitioners::PartitionSpec;
use overbook_sim::power::StepWork;
use overbook_sim::schedulers::{Needs, SchedulerSpec};
use overbook_sim::serving::replica::Limits;

use crate::cli::{DeviceArgs, Globals, On};
use crate::output::{Failure, note};
use crate::tuning::{Teller, warn_unless_kept};

/// Positions of a step beyond which a device computes it in parts: activations of a prompt of 100,000 tokens are worth more as
/// KV memory.
const STEP_TOKENS: u32 = 16_384;

/// A model on a device.
pub(crate) struct Device {
    config: Config,
    place: Box<dyn device::Device>,
    needs: Needs,
    /// Where the weights come from; `None` if they are dummies.
    folder: Option<PathBuf>,
    /// Steps are launched kernel by kernel (`engine.enforce_eager`).
    eager: bool,
    quiet: bool,
    /// What draws in place of an emulated GPU, and the work of steps of the model.
    instead: Option<(Arc<StandIn>, StepWork)>,
}

impl Device {
    /// Loads or makes the weights of a point's model.
    pub(crate) fn open(point: &Point, args: &DeviceArgs, globals: &Globals) -> Result<Device, Failure> {
        let kind = match args.on {
            Some(On::Cuda) if args.threads.is_some() => {
                return Err(Failure::Input("--threads is for --on cpu: a GPU has no compute threads".into()));
            }
            Some(On::Cuda) => DeviceKind::Cuda,
            Some(On::Cpu) | None => DeviceKind::Cpu { threads: args.threads },
        };
        possible(point)?;
        let (config, folder) = config(point, args.weights.as_ref())?;
        fits(&config, &point.model)?;
        let mut place = device::open(kind, config.clone(), folder.as_deref()).map_err(not_opened)?;
        if let Some(retention) = &point.scenario.engine.retention {
            place.retain(retention, point.scenario.seed)?;
        }
        if kind == DeviceKind::Cuda {
            warn_unless_kept();
        }
        Ok(Device::made(point, config, place, folder, globals))
    }

    fn made(
        point: &Point,
        config: Config,
        place: Box<dyn device::Device>,
        folder: Option<PathBuf>,
        globals: &Globals,
    ) -> Device {
        let (needs, quiet) = (point.scenario.scheduler.needs(), globals.quiet);
        // The CPU engine has no graphs that could be left out.
        let eager = point.scenario.engine.enforce_eager && place.threads().is_none();
        Device { config, place, needs, folder, eager, quiet, instead: None }
    }

    /// A device that has a point's model, with dummy weights, already.
    pub(crate) fn with(point: &Point, place: Box<dyn device::Device>, globals: &Globals) -> Result<Device, Failure> {
        possible(point)?;
        let (config, folder) = config(point, None)?;
        fits(&config, &point.model)?;
        Ok(Device::made(point, config, place, folder, globals))
    }

    /// An executor for a replica's limits and its KV store, its cache empty.
    pub(crate) fn executor(&self, spec: &ClusterSpec) -> Result<Box<dyn Executor>, BuildError> {
        let host = spec.store.tiers.first().map_or(0, |tier| tier.blocks);
        self.build(&spec.limits, self.lanes()?, 0, host)
    }

    /// An executor for steps of given shape: one lane, and room for the mixed ones.
    pub(crate) fn bench(&self, limits: &Limits) -> Result<Box<dyn Executor>, BuildError> {
        self.build(limits, Lanes::One, PROMPTS, 0)
    }

    fn build(
        &self,
        limits: &Limits,
        lanes: Lanes,
        more: u32,
        host_blocks: u32,
    ) -> Result<Box<dyn Executor>, BuildError> {
        let blocks = u32::try_from(limits.blocks).map_err(|_| {
            BuildError::Unfit(format!("{} KV blocks are more than the engine can number", limits.blocks))
        })?;
        let capacity = Capacity {
            blocks,
            block_tokens: limits.block_tokens,
            max_model_len: limits.max_model_len,
            vocab: self.config.vocab as u32,
            step_tokens: self.needs.step_tokens.at(limits.max_model_len).min(STEP_TOKENS),
            // Each of them holds a block at least.
            sequences: self.needs.max_seqs.min(blocks) + more,
            lanes,
            host_blocks,
        };
        if let Some(room) = self.place.room(&capacity)?
            && room.most < limits.blocks
        {
            if room.blocks == 0 {
                return Err(BuildError::Unfit(format!(
                    "{} has no room for KV beside weights and the activations of {} positions and {} sequences a step; \
                     lower the scheduler's limits, or choose a smaller model",
                    self.processor(),
                    capacity.step_tokens,
                    capacity.sequences
                )));
            }
            let tokens = |blocks: u64| blocks * u64::from(limits.block_tokens);
            return Err(BuildError::Unfit(format!(
                "{} has room for {} tokens of KV beside weights and activations, and the pool has {}: it needs {} bytes, and {} \
                 bytes are available; set `engine.kv_tokens: {}` or less",
                self.processor(),
                tokens(room.blocks),
                tokens(limits.blocks),
                limits.blocks.saturating_mul(room.block_bytes),
                room.free,
                tokens(room.blocks)
            )));
        }
        let mut teller = Teller::new(self.quiet);
        let executor = self.place.executor(capacity, self.eager, &mut |at| teller.show(at))?;
        Ok(match &self.instead {
            None => executor,
            Some((instead, steps)) => Box::new(Told::new(executor, instead.clone(), steps.clone())),
        })
    }

    /// What reads its power.
    pub(crate) fn meter(&self) -> Meter {
        self.instead.as_ref().map_or_else(|| self.place.meter(), |(instead, _)| Meter::stand_in(instead.clone()))
    }

    /// From now on a stand-in draws what its steps would; for an emulated GPU, whose own watts mean nothing.
    pub(crate) fn draw_as(&mut self, instead: Arc<StandIn>, steps: StepWork) {
        self.instead = Some((instead, steps));
    }

    /// A lane, or two with the scheduler's shares.
    fn lanes(&self) -> Result<Lanes, BuildError> {
        let Some(shares) = &self.needs.sm_shares else { return Ok(Lanes::One) };
        match &shares.partition {
            PartitionSpec::Static(shares) => Ok(Lanes::Two { prefill: shares.prefill, decode: shares.decode }),
            PartitionSpec::Paper(_) | PartitionSpec::Released(_) => Err(BuildError::Unfit(
                "the real engine does not move shares of the GPU while it runs; set `scheduler.semi-pd.partition.static`"
                    .to_owned(),
            )),
        }
    }

    /// What the device is called on the command line.
    pub(crate) fn name(&self) -> &'static str {
        self.place.name()
    }

    /// What the device is called on the command line, with its settings.
    pub(crate) fn flags(&self) -> String {
        let threads = self.place.threads().map_or_else(String::new, |threads| format!(" --threads {threads}"));
        format!("--on {}{threads}", self.place.name())
    }

    /// Compute threads, of a device that is made of such.
    pub(crate) fn threads(&self) -> Option<u32> {
        self.place.threads()
    }

    /// Whether steps are launched kernel by kernel although the device has graphs.
    pub(crate) fn eager(&self) -> bool {
        self.eager
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
            executor: self.place.name().to_owned(),
            threads: self.place.threads(),
            weights: "bf16".to_owned(),
            block_tokens,
        }
    }

    /// What a profile says of this machine.
    pub(crate) fn hardware(&self) -> Hardware {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        let software = self.place.software();
        Hardware {
            device: self.processor(),
            count: if self.place.threads().is_some() { cores } else { 1 },
            system: if software.is_empty() { system } else { format!("{system}, {software}") },
        }
    }

    /// The processor, as the system calls it.
    pub(crate) fn processor(&self) -> String {
        let host = || host_cpu().unwrap_or_else(|| format!("a CPU ({})", std::env::consts::ARCH));
        self.place.processor().unwrap_or_else(host)
    }

    /// Whether its weights are those of a file, and no dummies.
    pub(crate) fn has_weights(&self) -> bool {
        self.folder.is_some()
    }

    /// What runs the steps, in words.
    pub(crate) fn describe(&self) -> String {
        let (processor, software) = (self.processor(), self.place.software());
        let origin = self.folder.as_ref().map_or_else(|| "dummy weights".to_owned(), |path| path.display().to_string());
        let graphs = if self.eager { " without graphs" } else { "" };
        match self.place.threads() {
            Some(threads) => format!("CPU engine, {threads} threads, {processor}; bf16, {origin}"),
            None => format!("CUDA engine{graphs}, {processor}, {software}; bf16, {origin}"),
        }
    }
}

/// The work of steps of a point's model on the real engine: one device, bf16.
pub(crate) fn step_work(point: &Point) -> Result<StepWork, Failure> {
    StepWork::new(&point.model, 1, WeightDtype::Bf16, KvDtype::Bf16).map_err(Failure::input)
}

/// A file that the user named and that is not what it should be is invalid input; what the machine lacks or fails at is not.
fn not_opened(error: DeviceError) -> Failure {
    let named = |kind| matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory);
    match error {
        DeviceError::Weights(WeightsError::Read { path, source }) if !named(source.kind()) => {
            Failure::Run(anyhow::Error::new(WeightsError::Read { path, source }))
        }
        DeviceError::Weights(error) => Failure::input(error),
        DeviceError::Cuda(CudaError::Unfit(why)) => Failure::Input(why),
        DeviceError::Cuda(error) => Failure::Run(anyhow::Error::new(error)),
    }
}

/// Whether the real engine can run a point at all.
fn possible(point: &Point) -> Result<(), Failure> {
    if !point.pools.is_empty() {
        return Err(Failure::Input("the real engine is one replica; leave out `fleet.pools`".into()));
    }
    if point.scenario.engine.weights != WeightDtype::Bf16 {
        return Err(Failure::Input("the real engine has bf16 weights; set `engine.weights: bf16`".into()));
    }
    if point.scenario.engine.kv != KvDtype::Bf16 {
        return Err(Failure::Input("the real engine keeps keys and values in bf16; set `engine.kv: bf16`".into()));
    }
    if point.scenario.engine.speculation.is_some() {
        return Err(Failure::Input("the real engine drafts no tokens; leave out `engine.speculation`".into()));
    }
    let retention = point.scenario.engine.retention.as_ref();
    if retention.is_some_and(|retention| retention.shrink_to.is_some()) {
        return Err(Failure::Input(
            "the real engine does not shrink requests while they run; leave out `engine.retention.shrink_to`".into(),
        ));
    }
    if retention.is_some() && point.scenario.scheduler.needs().prefix_caching {
        return Err(Failure::Input(
            "the real engine shares no prefixes where requests keep only some tokens; set `enable_prefix_caching: false`"
                .into(),
        ));
    }
    if matches!(&point.scenario.scheduler, SchedulerSpec::Vllm(spec) if spec.leaves_names()) {
        return Err(Failure::Input(
            "by vLLM's rule a preemption under `policy: priority` may leave blocks in the prefix cache that were never computed, and the \
             real engine would read them; set `scheduler.vllm.enable_prefix_caching: false` or `preemption_victim`"
                .into(),
        ));
    }
    if point.scenario.fleet.gpus_per_replica() > 1 {
        return Err(Failure::Input("the real engine is one device; set `fleet.tensor_parallel: 1`".into()));
    }
    overbook_engine::run::check(&point.cluster().map_err(Failure::input)?).map_err(Failure::input)
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
