//! The file of a cost profile.

use std::path::Path;

use overbook_sim::calibrate::{Profile, StepProfile};
use serde::de::DeserializeOwned;

use super::WorldError;
use crate::diagnostics::{Problems, Sources};
use crate::small_file;
use crate::yaml;

/// Reads a profile of kernels. Everything wrong with the file is reported with its place.
pub(crate) fn read(path: &Path) -> Result<Profile, WorldError> {
    decode(path, |profile: &Profile| profile.version)
}

/// Reads a profile of whole steps, likewise.
pub(crate) fn read_steps(path: &Path) -> Result<StepProfile, WorldError> {
    decode(path, |profile: &StepProfile| profile.version)
}

fn decode<T: DeserializeOwned>(path: &Path, version: impl Fn(&T) -> u32) -> Result<T, WorldError> {
    let failed = |message: String| WorldError::Profile { path: path.to_owned(), message };
    let text = small_file::read_text(path, small_file::SETTINGS_MAX).map_err(|error| failed(error.to_string()))?;
    let mut sources = Sources::default();
    let id = sources.add(&path.display().to_string(), &text);
    let (tree, faults) = yaml::parse(id, &text);
    let mut problems = Problems::new(sources);
    problems.extend(faults);
    let decoded = tree.map(|tree| yaml::decode::<T>(&tree));
    let profile = decoded.and_then(|decoded| {
        problems.extend(decoded.faults);
        decoded.value
    });
    match profile {
        Some(profile) if problems.is_empty() && version(&profile) == 1 => Ok(profile),
        Some(profile) if problems.is_empty() => {
            Err(failed(format!("its version is {}; this Overbook reads 1", version(&profile))))
        }
        _ => Err(failed(format!("it is not valid\n{}", problems.render(false)))),
    }
}
