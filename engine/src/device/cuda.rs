//! CUDA as a device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};

use super::{Device, Room};
use crate::config::Config;
use crate::cuda::{CudaError, CudaExecutor, Gpu, Model, Retained, software};
use crate::executor::{BuildError, Capacity, Executor, Watch};
use crate::nvml::Meter;
use crate::weights::Source;

/// A model on the first GPU.
pub struct CudaDevice {
    model: Arc<Model>,
    /// Where the weights are from; `None`: they are random.
    folder: Option<PathBuf>,
    software: String,
    retained: Option<Arc<Retained>>,
}

impl CudaDevice {
    /// Looks for the libraries, opens the GPU and loads the weights.
    pub(super) fn open(config: Config, source: &dyn Source, folder: Option<&Path>) -> Result<CudaDevice, CudaError> {
        // Libraries first: weights take a while to load.
        let gpu = Gpu::open(0)?;
        let software = software(&gpu)?;
        let (model, folder) = (Model::on(&gpu, config, source)?, folder.map(Path::to_owned));
        Ok(CudaDevice { model, folder, software, retained: None })
    }

    /// A model that is on a GPU already, its weights random.
    ///
    /// # Errors
    /// A library is missing.
    pub fn of(model: Arc<Model>) -> Result<CudaDevice, CudaError> {
        let software = software(model.gpu())?;
        Ok(CudaDevice { model, folder: None, software, retained: None })
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

    fn meter(&self) -> Meter {
        self.model.gpu().uuid().map_or_else(|_| Meter::none(), |uuid| Meter::of(&uuid))
    }

    fn threads(&self) -> Option<u32> {
        None
    }

    fn room(&self, capacity: &Capacity) -> Result<Option<Room>, BuildError> {
        let fit = self.model.fit_with(capacity, self.retained.as_deref())?;
        let free = fit.free.saturating_sub(fit.work);
        Ok(Some(Room { blocks: fit.blocks, most: fit.most, block_bytes: fit.block_bytes, free }))
    }

    fn retain(&mut self, spec: &RetentionSpec, seed: u64) -> Result<(), BuildError> {
        if spec.policy == RetentionPolicy::Full {
            self.retained = None;
            return Ok(());
        }
        // Before anything is read: what the GPU cannot do is said first.
        Retained::can(&spec.policy)?;
        let retention = super::retention(spec, self.model.config(), self.folder.as_deref(), seed)?;
        self.retained = Some(Retained::new(&self.model, retention, seed)?);
        Ok(())
    }

    fn executor(&self, capacity: Capacity, eager: bool, watch: Watch<'_>) -> Result<Box<dyn Executor>, BuildError> {
        Ok(Box::new(CudaExecutor::retaining(self.model.clone(), capacity, self.retained.clone(), !eager, watch)?))
    }
}
