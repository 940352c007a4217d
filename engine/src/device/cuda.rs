//! CUDA as a device.

use std::sync::Arc;

use super::Device;
use crate::config::Config;
use crate::cuda::{CudaError, CudaExecutor, Model, software};
use crate::executor::{Capacity, Executor, ExecutorError};
use crate::weights::Source;

/// A model on the first GPU.
pub(super) struct CudaDevice {
    model: Arc<Model>,
    software: String,
}

impl CudaDevice {
    /// Looks for the libraries, opens the GPU and loads the weights.
    pub(super) fn open(config: Config, source: &dyn Source) -> Result<CudaDevice, CudaError> {
        // Libraries first: weights take a while to load.
        let software = software()?;
        Ok(CudaDevice { model: Model::load(0, config, source)?, software })
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
