//! Files that are whole or not there: written aside, then moved into place.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::output::Failure;

/// Writes aside and moves the file into place at the end.
pub(crate) fn write<T>(out: &Path, write: impl FnOnce(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
    let partial = out.with_extension(format!("partial-{}", std::process::id()));
    let written = write(&partial).and_then(|written| {
        fs::rename(&partial, out).with_context(|| format!("cannot write {}", out.display()))?;
        Ok(written)
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    }
    written
}
