//! CUDA as a device.

use std::sync::Arc;

use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};

use super::{Device, Room};
use crate::config::Config;
use crate::cuda::{CudaError, CudaExecutor, Gpu, Model, software};
use crate::executor::{BuildError, Capacity, Executor, Watch};
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

    fn room(&self, capacity: &Capacity) -> Result<Option<Room>, BuildError> {
        let fit = self.model.fit(capacity)?;
        let free = fit.free.saturating_sub(fit.work);
        Ok(Some(Room { blocks: fit.blocks, most: fit.most, block_bytes: fit.block_bytes, free }))
    }

    fn retain(&mut self, spec: &RetentionSpec, _: u64) -> Result<(), BuildError> {
        let name = spec.policy.name();
        if spec.policy == RetentionPolicy::Full {
            return Ok(());
        }
        Err(BuildError::Unfit(format!(
            "the CUDA engine keeps every token; retention with `{name}` needs `--on cpu`, and `full` runs everywhere"
        )))
    }

    fn executor(&self, capacity: Capacity, eager: bool, watch: Watch<'_>) -> Result<Box<dyn Executor>, BuildError> {
        Ok(Box::new(CudaExecutor::build(self.model.clone(), capacity, !eager, watch)?))
    }
}
