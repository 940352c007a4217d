//! From other tools' tables to a cost profile.

use std::path::Path;

use overbook_sim::calibrate::{FitError, Profile, ProfileSource, fit};

use super::tables::TablesError;
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

/// The catalog's name of a GPU that drivers and tables call so.
pub fn catalog_gpu(device: &str) -> Option<&'static str> {
    let device = device.to_ascii_lowercase();
    DEVICES.iter().find(|(name, _)| *name == device).map(|(_, catalog)| *catalog)
}

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
