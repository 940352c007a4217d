//! Where steps can run: the one place where the command line learns what `cpu` and `cuda` are.

mod cuda;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::cpu::CpuExecutor;
use crate::cuda::CudaError;
use crate::executor::{Capacity, Executor, ExecutorError};
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
}

/// A model on a device.
pub trait Device {
    /// What it is called where devices are chosen: `cpu`, `cuda`.
    fn name(&self) -> &'static str;

    /// The processor, as its maker calls it; `None` if it does not say.
    fn processor(&self) -> Option<String>;

    /// Software between the engine and the processor, with versions; empty if there is none.
    fn software(&self) -> String;

    /// Compute threads, of a device that is made of such.
    fn threads(&self) -> Option<u32>;

    /// Blocks for which there is memory, of a capacity whose own number does not count; `None` if only the system can say.
    ///
    /// # Errors
    /// The device cannot have such blocks at all, or is lost.
    fn room(&self, capacity: &Capacity) -> Result<Option<Room>, ExecutorError>;

    /// Something that runs steps of the model, its cache empty.
    ///
    /// # Errors
    /// The device cannot run steps of this capacity.
    fn executor(&self, capacity: Capacity) -> Result<Box<dyn Executor>, ExecutorError>;
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
pub fn open(kind: DeviceKind, config: Config, weights: Option<&Path>) -> Result<Box<dyn Device>, DeviceError> {
    let files = weights.map(Files::open).transpose()?;
    let source: &dyn Source = files.as_ref().map_or(&Dummy { seed: 0 }, |files| files as &dyn Source);
    match kind {
        DeviceKind::Cuda => Ok(Box::new(CudaDevice::open(config, source)?)),
        DeviceKind::Cpu { threads } => {
            let weights = Arc::new(Weights::from_source(&config, source, Dtype::Bf16)?);
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            // With a compute thread on every core requests were sent and steps planned milliseconds late.
            let threads = threads.map_or((cores - 1).max(1), usize::from);
            Ok(Box::new(CpuDevice { config, weights, threads }))
        }
    }
}

/// The CPU.
struct CpuDevice {
    config: Config,
    weights: Arc<Weights>,
    threads: usize,
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

    fn threads(&self) -> Option<u32> {
        Some(self.threads as u32)
    }

    fn room(&self, _: &Capacity) -> Result<Option<Room>, ExecutorError> {
        Ok(None)
    }

    fn executor(&self, capacity: Capacity) -> Result<Box<dyn Executor>, ExecutorError> {
        if capacity.lanes.count() > 1 {
            return Err(ExecutorError(
                "the CPU engine has one lane; a scheduler with two needs `--on cuda`".to_owned(),
            ));
        }
        Ok(Box::new(CpuExecutor::new(self.config.clone(), self.weights.clone(), capacity, self.threads)?))
    }
}
