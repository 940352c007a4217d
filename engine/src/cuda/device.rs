//! CUDA as a device.

use std::sync::Arc;

use super::blas::Blas;
use super::compile::Compiler;
use super::executor::{CudaExecutor, Model};
use super::{CudaError, Gpu};
use crate::config::Config;
use crate::device::Device;
use crate::executor::{Capacity, Executor, ExecutorError};
use crate::weights::Source;

/// A model on the first GPU.
pub struct CudaDevice {
    model: Arc<Model>,
    software: String,
}

impl CudaDevice {
    /// Looks for the libraries, opens the GPU and loads the weights.
    ///
    /// # Errors
    /// Something of it is missing, or the weights do not fit.
    pub fn open(config: Config, source: &dyn Source) -> Result<CudaDevice, CudaError> {
        // Libraries first: weights take minutes to load.
        Gpu::open(0)?;
        Compiler::find()?;
        Blas::find()?;
        CudaDevice::of(Model::load(0, config, source)?)
    }

    /// A model that is on a GPU already.
    ///
    /// # Errors
    /// A library is missing.
    pub fn of(model: Arc<Model>) -> Result<CudaDevice, CudaError> {
        let compiler = Compiler::find()?;
        Blas::find()?;
        let (driver, (major, minor), blas) = (model.gpu().facts().driver, compiler.version(), Blas::version());
        let software = format!(
            "driver for CUDA {}.{}, NVRTC {major}.{minor}, cuBLASLt {}.{}.{}",
            driver / 1000,
            driver % 1000 / 10,
            blas / 10_000,
            blas / 100 % 100,
            blas % 100
        );
        Ok(CudaDevice { model, software })
    }
}

impl Device for CudaDevice {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn processor(&self) -> Option<String> {
        Some(self.model.gpu().facts().name.clone())
    }

    fn software(&self) -> String {
        self.software.clone()
    }

    fn threads(&self) -> Option<u32> {
        None
    }

    fn room(&self, capacity: &Capacity) -> Result<Option<u64>, ExecutorError> {
        Ok(Some(self.model.fit(capacity)?.blocks))
    }

    fn executor(&self, capacity: Capacity) -> Result<Box<dyn Executor>, ExecutorError> {
        Ok(Box::new(CudaExecutor::new(self.model.clone(), capacity)?))
    }
}
