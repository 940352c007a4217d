//! The file of a cost profile.

use std::fs;
use std::path::Path;

use overbook_sim::calibrate::Profile;

use super::WorldError;
use crate::diagnostics::{Problems, Sources};
use crate::yaml;

/// Reads a profile. Everything wrong with the file is told with its place.
pub(crate) fn read(path: &Path) -> Result<Profile, WorldError> {
    let failed = |message: String| WorldError::Profile { path: path.to_owned(), message };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let mut sources = Sources::default();
    let id = sources.add(&path.display().to_string(), &text);
    let (tree, faults) = yaml::parse(id, &text);
    let mut problems = Problems::new(sources);
    problems.extend(faults);
    let decoded = tree.map(|tree| yaml::decode::<Profile>(&tree));
    let profile = decoded.and_then(|decoded| {
        problems.extend(decoded.faults);
        decoded.value
    });
    match profile {
        Some(profile) if problems.is_empty() && profile.version == 1 => Ok(profile),
        Some(profile) if problems.is_empty() => {
            Err(failed(format!("its version is {}; this Overbook reads 1", profile.version)))
        }
        _ => Err(failed(format!("it is not valid\n{}", problems.render(false)))),
    }
}
