//! CUDA as a device.

use std::sync::Arc;

use super::{Device, Room};
use crate::config::Config;
use crate::cuda::{CudaError, CudaExecutor, Gpu, Model, software};
use crate::executor::{Capacity, Executor, ExecutorError};
use crate::weights::Source;

/// A model on the first GPU.
pub struct CudaDevice {
    model: Arc<Model>,
    software: String,
}

impl CudaDevice {
    /// Looks for the libraries, opens the GPU and loads the weights.
    pub(super) fn open(config: Config, source: &dyn Source) -> Result<CudaDevice, CudaError> {
        // Libraries first: weights take a while to load.
        let gpu = Gpu::open(0)?;
        let software = software(&gpu)?;
        Ok(CudaDevice { model: Model::on(&gpu, config, source)?, software })
    }

    /// A model that is on a GPU already.
    ///
    /// # Errors
    /// A library is missing.
    pub fn of(model: Arc<Model>) -> Result<CudaDevice, CudaError> {
        let software = software(model.gpu())?;
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

    fn room(&self, capacity: &Capacity) -> Result<Option<Room>, ExecutorError> {
        let fit = self.model.fit(capacity)?;
        Ok(Some(Room { blocks: fit.blocks, most: fit.most }))
    }

    fn executor(&self, capacity: Capacity) -> Result<Box<dyn Executor>, ExecutorError> {
        Ok(Box::new(CudaExecutor::new(self.model.clone(), capacity)?))
    }
}
