//! The CUDA executor: own kernels and cuBLASLt, whole steps as graphs.
//!
//! ```text
//!   Batch ─► step: what each position is, in pinned memory ──copy stream──► device
//!                                                              │ event
//!            forward: launches, or one graph for a batch of decodes ──compute stream──► tokens ─► pinned memory
//! ```
//!
//! NVIDIA's libraries are looked for when an executor is opened: the same binary runs without them. Everything that is `unsafe` in the
//! engine is in this folder.
#![allow(unsafe_code, reason = "the driver's calls take addresses; each use says why it is sound")]

mod blas;
mod ceilings;
pub mod check;
pub mod compile;
mod driver;
mod executor;
mod forward;
mod host;
mod kernels;
mod lane;
mod partition;
mod retained;
mod step;
mod stream;
mod tuning;
mod upload;
mod weights;

use crate::executor::{BuildError, ExecutorError};
use crate::weights::WeightsError;

pub use ceilings::{Ceiling, Ceilings, SquareProduct};
pub use driver::{Facts, Found, Gpu};
pub use executor::{CudaExecutor, Fit, Model};
pub use retained::Retained;

/// Why CUDA cannot be used, or failed.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// No driver.
    #[error("no NVIDIA driver on this machine: libcuda.so is not found; use `--on cpu`")]
    NoDriver,
    /// A driver before CUDA 12.8.
    #[error("the NVIDIA driver is for CUDA {}.{}; 12.8 or newer is needed", version / 1000, version % 1000 / 10)]
    OldDriver {
        /// As `cuDriverGetVersion` counts.
        version: i32,
    },
    /// No such GPU.
    #[error(
        "there is no GPU number {number}: the NVIDIA driver sees {count}; GPUs are numbered from 0, and \
             CUDA_VISIBLE_DEVICES may hide some"
    )]
    NoDevice {
        /// What was asked for.
        number: u32,
        /// GPUs that there are.
        count: i32,
    },
    /// A GPU before Ampere.
    #[error(
        "{name} has compute capability {}.{}; the kernels need 8.0 (A100) or newer",
        sm / 10, sm % 10
    )]
    OldGpu {
        /// Its name.
        name: String,
        /// Its compute capability.
        sm: u32,
    },
    /// A compiler whose code the driver does not take.
    #[error(
        "NVRTC {}.{} writes code for newer drivers: the NVIDIA driver is for CUDA {}.{}; update the driver, or name the folder of an \
         NVRTC {}.x in LD_LIBRARY_PATH",
        nvrtc.0, nvrtc.1, driver / 1000, driver % 1000 / 10, driver / 1000
    )]
    NewCompiler {
        /// Its version: major, minor.
        nvrtc: (i32, i32),
        /// As `cuDriverGetVersion` counts.
        driver: i32,
    },
    /// A library is missing.
    #[error(
        "{name} is not found: install the CUDA toolkit, or name the folder of its libraries in LD_LIBRARY_PATH \
         (PyTorch brings them: site-packages/nvidia/*/lib)"
    )]
    NoLibrary {
        /// Which.
        name: &'static str,
    },
    /// Too little memory.
    #[error("the GPU has {} MiB free, and {} MiB are needed", free >> 20, wanted.div_ceil(1 << 20))]
    Memory {
        /// What was asked for [bytes].
        wanted: u64,
        /// What there was [bytes].
        free: u64,
    },
    /// The model or the capacity is not for these kernels.
    #[error("{0}")]
    Unfit(String),
    /// A source does not compile.
    #[error("the kernels do not compile: {0}")]
    Compile(String),
    /// A call of the driver failed.
    #[error("{call} failed: {code}")]
    Driver {
        /// Which.
        call: &'static str,
        /// The driver's code.
        code: String,
    },
    /// A call of cuBLASLt failed.
    #[error("{call} failed: {status}")]
    Blas {
        /// Which.
        call: &'static str,
        /// The library's status.
        status: String,
    },
    /// The weights cannot be had.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The caller wanted no more of it.
    #[error("interrupted")]
    Interrupted,
}

/// NVIDIA's software on this machine, in words: driver, NVRTC and cuBLASLt.
///
/// # Errors
/// One of them is missing.
pub fn software(gpu: &Gpu) -> Result<String, CudaError> {
    let driver = gpu.facts().driver;
    let (major, minor) = compile::Compiler::find_for(driver)?.version();
    blas::Blas::find()?;
    let blas = blas::Blas::version();
    Ok(format!(
        "driver for CUDA {}.{}, NVRTC {major}.{minor}, cuBLASLt {}.{}.{}",
        driver / 1000,
        driver % 1000 / 10,
        blas / 10_000,
        blas / 100 % 100,
        blas % 100
    ))
}

impl From<CudaError> for BuildError {
    fn from(error: CudaError) -> Self {
        match error {
            CudaError::Unfit(why) => BuildError::Unfit(why),
            CudaError::Interrupted => BuildError::Interrupted,
            error => BuildError::Failed(error.to_string()),
        }
    }
}

impl From<CudaError> for ExecutorError {
    fn from(error: CudaError) -> Self {
        ExecutorError(error.to_string())
    }
}
