//! Where steps can run: the one place where the command line learns what `cpu` and `cuda` are.

mod cuda;
mod memory;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use overbook_sim::kv::retention::RetentionSpec;

use crate::config::Config;
use crate::cpu::CpuExecutor;
use crate::cuda::CudaError;
use crate::executor::{BuildError, Capacity, Executor, Watch};
use crate::nvml::Meter;
use crate::retention::{Extras, GateKind, Gates, Retention};
use crate::weights::{Dtype, Dummy, Files, Source, Weights, WeightsError};
pub use cuda::CudaDevice;

/// Kinds of devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceKind {
    /// The CPU of this machine, with so many compute threads.
    Cpu {
        /// None: one per core less one, which the driver and the clients get.
        threads: Option<NonZeroUsize>,
    },
    /// The first NVIDIA GPU.
    Cuda,
}

/// Blocks that a device has memory for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// So many, with room for everything else.
    pub blocks: u64,
    /// So many at most.
    pub most: u64,
    /// Bytes of each.
    pub block_bytes: u64,
    /// Memory that blocks can have [bytes].
    pub free: u64,
}

/// A model on a device.
pub trait Device {
    /// What it is called where devices are chosen: `cpu`, `cuda`.
    fn name(&self) -> &'static str;

    /// The processor, as its maker calls it; `None` if it does not say.
    fn processor(&self) -> Option<String>;

    /// Software between the engine and the processor, with versions; empty if there is none.
    fn software(&self) -> String;

    /// What reads its power; [`Meter::none`] where nothing can.
    fn meter(&self) -> Meter;

    /// Compute threads, of a device that is made of such.
    fn threads(&self) -> Option<u32>;

    /// Blocks for which there is memory, of a capacity whose own number does not count; `None` if only the system can say.
    ///
    /// # Errors
    /// The device cannot have such blocks at all, or is lost.
    fn room(&self, capacity: &Capacity) -> Result<Option<Room>, BuildError>;

    /// From now on executors keep only some tokens of a sequence. Learned networks are looked for beside the weights; to random weights
    /// belong random ones.
    ///
    /// # Errors
    /// The device cannot do it, the settings are wrong, or what the policy needs is not there.
    fn retain(&mut self, spec: &RetentionSpec, seed: u64) -> Result<(), BuildError>;

    /// Something that runs steps of the model, its cache empty. `eager`: without graphs, where the device has such. `watch` is told how
    /// far the tuning is, where the device tunes.
    ///
    /// # Errors
    /// The device cannot run steps of this capacity, or `watch` has said no.
    fn executor(&self, capacity: Capacity, eager: bool, watch: Watch<'_>) -> Result<Box<dyn Executor>, BuildError>;
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The weights cannot be had.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// CUDA or the GPU cannot be used.
    #[error(transparent)]
    Cuda(CudaError),
}

impl From<CudaError> for DeviceError {
    fn from(error: CudaError) -> Self {
        match error {
            CudaError::Weights(error) => DeviceError::Weights(error),
            error => DeviceError::Cuda(error),
        }
    }
}

/// Puts a model on a device, in bf16: its weights from a file or a folder, or dummy weights.
///
/// # Errors
/// There is no such device, or the weights cannot be had or do not fit.
pub fn open(kind: DeviceKind, config: Config, path: Option<&Path>) -> Result<Box<dyn Device>, DeviceError> {
    let files = path.map(Files::open).transpose()?;
    let source: &dyn Source = files.as_ref().map_or(&Dummy { seed: 0 }, |files| files as &dyn Source);
    match kind {
        DeviceKind::Cuda => Ok(Box::new(CudaDevice::open(config, source, path)?)),
        DeviceKind::Cpu { threads } => {
            let weights = Arc::new(Weights::from_source(&config, source, Dtype::Bf16)?);
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            // With a compute thread on every core requests were sent and steps planned milliseconds late.
            let threads = threads.map_or((cores - 1).max(1), usize::from);
            let folder = path.map(Path::to_owned);
            Ok(Box::new(CpuDevice { config, weights, folder, threads, retention: None }))
        }
    }
}

/// The retention of a scenario. Learned networks lie beside the weights; to random weights belong random ones.
fn retention(spec: &RetentionSpec, config: &Config, folder: Option<&Path>, seed: u64) -> Result<Retention, BuildError> {
    let load = |kind| match folder {
        Some(folder) => Gates::load(config, &Gates::beside(folder), kind),
        None => Gates::dummy(config, 0, kind),
    };
    let gates = GateKind::of(&spec.policy).map(load).transpose();
    let gates = gates.map_err(|error| BuildError::Unfit(format!("`{}`: {error}", spec.policy.name())))?.map(Arc::new);
    Retention::new(spec, config, &Extras { gates, future: None, seed })
}

/// The CPU.
struct CpuDevice {
    config: Config,
    weights: Arc<Weights>,
    /// Where the weights are from; `None`: they are random.
    folder: Option<PathBuf>,
    threads: usize,
    retention: Option<Retention>,
}

impl Device for CpuDevice {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn processor(&self) -> Option<String> {
        None
    }

    fn software(&self) -> String {
        String::new()
    }

    fn meter(&self) -> Meter {
        Meter::none()
    }

    fn threads(&self) -> Option<u32> {
        Some(self.threads as u32)
    }

    fn room(&self, capacity: &Capacity) -> Result<Option<Room>, BuildError> {
        let slot = 2 * self.config.layers * self.config.kv_heads * self.config.head_dim * self.weights.dtype.bytes();
        let block_bytes = slot as u64 * u64::from(capacity.block_tokens);
        Ok(memory::available().map(|free| {
            // Activations and everything else take some of it.
            let blocks = (free - free / 20) / block_bytes;
            Room { blocks, most: free / block_bytes, block_bytes, free }
        }))
    }

    fn retain(&mut self, spec: &RetentionSpec, seed: u64) -> Result<(), BuildError> {
        self.retention = Some(retention(spec, &self.config, self.folder.as_deref(), seed)?);
        Ok(())
    }

    fn executor(&self, capacity: Capacity, _: bool, _: Watch<'_>) -> Result<Box<dyn Executor>, BuildError> {
        if capacity.lanes.count() > 1 {
            return Err(BuildError::Unfit(
                "the CPU engine has one lane; a scheduler with two needs `--on cuda`".to_owned(),
            ));
        }
        let (config, weights, threads) = (self.config.clone(), self.weights.clone(), self.threads);
        Ok(Box::new(match self.retention.clone() {
            None => CpuExecutor::new(config, weights, capacity, threads)?,
            Some(retention) => CpuExecutor::retaining(config, weights, capacity, threads, retention)?,
        }))
    }
}
