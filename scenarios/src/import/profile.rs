//! From other tools' tables to a cost profile.

use std::path::{Path, PathBuf};

use overbook_sim::calibrate::{CollectiveRow, ExpertsRow, FitError, Profile, ProfileSource, Samples, fit};
use overbook_sim::hardware::model::WeightDtype;

use super::tables::{Cells, Table, TablesError};
use super::{aiconfigurator, vidur};
use crate::catalog::{Catalog, CatalogError};
use crate::yaml;

/// A tool whose tables can be imported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tool {
    /// NVIDIA's AIConfigurator.
    AiConfigurator,
    /// Microsoft's Vidur.
    Vidur,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileImportError {
    /// The tables cannot be read.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The GPU is not in the catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// There are too few rows.
    #[error(transparent)]
    Fit(#[from] FitError),
}

/// A profile, and what was found on the way.
#[derive(Clone, PartialEq, Debug)]
pub struct ImportedProfile {
    /// The profile.
    pub profile: Profile,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl ImportedProfile {
    /// The profile as YAML text.
    pub fn to_yaml(&self) -> String {
        let value = serde_json::to_value(&self.profile).unwrap_or_default();
        yaml::emit(&value)
    }
}

/// What was read of a tool's tables.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    tool: &'static str,
    licence: &'static str,
    /// As the tables call it; empty: they do not say.
    pub(super) device: String,
    pub(super) engine: String,
    pub(super) tables: Vec<PathBuf>,
    pub(super) samples: Samples,
    /// fp8 experts with a scale per block, beside those with one per tensor.
    pub(super) block_scaled: Vec<ExpertsRow>,
    /// NCCL's own all-reduce, for want of the engine's.
    pub(super) nccl_all_reduce: Vec<CollectiveRow>,
    pub(super) notes: Vec<String>,
}

impl Measured {
    pub(super) fn new(tool: &'static str, licence: &'static str) -> Measured {
        Measured {
            tool,
            licence,
            device: String::new(),
            engine: String::new(),
            tables: Vec::new(),
            samples: Samples::default(),
            block_scaled: Vec::new(),
            nccl_all_reduce: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes device and engine from a row that names them; all rows must be of one device.
    pub(super) fn seen(&mut self, table: &Table, row: Cells<'_>) -> Result<(), TablesError> {
        if table.has("device") {
            let device = row.text("device")?;
            if self.device.is_empty() {
                device.clone_into(&mut self.device);
            } else if self.device != device {
                let message =
                    format!("the tables are of {} and of {device}; name the folder of one system", self.device);
                return Err(TablesError::Mixed(message));
            }
        }
        if table.has("framework") && table.has("version") {
            let engine = format!("{} {}", row.text("framework")?, row.text("version")?);
            if !self.engine.split(", ").any(|known| known == engine) {
                let comma = if self.engine.is_empty() { "" } else { ", " };
                self.engine = format!("{}{comma}{engine}", self.engine);
            }
        }
        Ok(())
    }

    /// Decides between tables of the same thing: the faster of two fp8 kernels, balanced routing before skewed, the engine's
    /// all-reduce before NCCL's.
    pub(super) fn balance(&mut self) {
        let samples = &mut self.samples;
        let key =
            |row: &ExpertsRow| (row.hidden, row.width, row.experts, row.tensor, row.spread, row.balanced, row.tokens);
        let fp8: Vec<&ExpertsRow> = samples.experts.iter().filter(|row| row.dtype == WeightDtype::Fp8).collect();
        let pairs = self
            .block_scaled
            .iter()
            .filter_map(|block| fp8.iter().find(|row| key(row) == key(block)).map(|row| (block.us, row.us)));
        let (block_us, tensor_us) = pairs.fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        if !self.block_scaled.is_empty() && (fp8.is_empty() || block_us < tensor_us) {
            samples.experts.retain(|row| row.dtype != WeightDtype::Fp8);
            samples.experts.append(&mut self.block_scaled);
            self.notes
                .push("moe_perf: of two fp8 kernels the one with a scale per block was faster and taken".to_owned());
        }
        for dtype in [WeightDtype::Bf16, WeightDtype::Fp8] {
            let of = |row: &ExpertsRow| row.dtype == dtype;
            if samples.experts.iter().any(|row| of(row) && row.balanced) {
                samples.experts.retain(|row| !of(row) || row.balanced);
            } else if samples.experts.iter().any(of) {
                self.notes.push(format!("moe_perf: {dtype} experts have skewed routing only, taken as random"));
            }
        }
        let known: Vec<u32> = samples.all_reduce.iter().map(|row| row.gpus).collect();
        samples.all_reduce.extend(self.nccl_all_reduce.iter().filter(|row| !known.contains(&row.gpus)));
    }
}

/// What tables call GPUs of the catalog. Other parts of a family (PCIe, NVL) have other constants.
const DEVICES: [(&str, &str); 13] = [
    ("nvidia a100-sxm4-80gb", "a100-80"),
    ("nvidia a100-sxm4-40gb", "a100-40"),
    ("nvidia h100 80gb hbm3", "h100"),
    ("nvidia h200", "h200"),
    ("nvidia b200", "b200"),
    ("nvidia l40s", "l40s"),
    ("nvidia l4", "l4"),
    ("nvidia a10g", "a10g"),
    ("nvidia rtx pro 6000 blackwell server edition", "rtx-pro-6000"),
    ("nvidia geforce rtx 4090", "rtx-4090"),
    ("amd instinct mi300x", "mi300x"),
    // Vidur's folders.
    ("a100", "a100-80"),
    ("h100", "h100"),
];

/// Reads a tool's tables and fits the cost model's forms to them. `gpu` names the GPU where the tables do not or the
/// catalog calls it otherwise; `select` is a part of the path of the table that is meant, where there are several; `today` is
/// the day of the import.
///
/// # Errors
/// The folder has no such tables, several of one kind, or rows that are none; the GPU is not known; too few rows.
pub fn import_profile(
    tool: Tool,
    folder: &Path,
    gpu: Option<&str>,
    select: Option<&str>,
    today: &str,
) -> Result<ImportedProfile, ProfileImportError> {
    let measured = match tool {
        Tool::AiConfigurator => aiconfigurator::read(folder, select)?,
        Tool::Vidur => vidur::read(folder, select)?,
    };
    let catalog = Catalog::embedded();
    let device = measured.device.to_lowercase();
    let known = DEVICES.into_iter().find(|(name, _)| *name == device).map(|(_, gpu)| gpu);
    let Some(gpu) = gpu.or(known) else {
        let known: Vec<&str> = catalog.gpu_names().collect();
        let device = if measured.device.is_empty() { "an unnamed device" } else { &measured.device };
        return Err(TablesError::Gpu { device: device.to_owned(), known: known.join(", ") }.into());
    };
    let spec = catalog.gpu(gpu)?;
    let source = ProfileSource {
        tool: measured.tool.to_owned(),
        engine: measured.engine,
        device: measured.device,
        licence: measured.licence.to_owned(),
        imported: today.to_owned(),
        tables: measured.tables.iter().map(|path| path.display().to_string()).collect(),
    };
    let name = format!("{} {}", source.tool, source.device);
    let profile = fit(&spec, gpu, name.trim(), source, &measured.samples)?;
    Ok(ImportedProfile { profile, notes: measured.notes })
}
