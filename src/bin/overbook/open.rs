//! Shows a page in the browser of the desktop.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::anyhow;

use crate::output::Failure;

/// The program that opens files as the desktop does.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// Opens a file and waits until the opener has handed it on.
///
/// # Errors
/// There is no opener, or it fails, as it does without a desktop.
pub(crate) fn page(page: &Path) -> Result<(), Failure> {
    let path = page.canonicalize().unwrap_or_else(|_| page.to_path_buf());
    let by_hand = format!("open file://{} in a browser", path.display());
    let ran = Command::new(OPENER).arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match ran {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Run(anyhow!("{OPENER} could not show the page ({status}): {by_hand}"))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Failure::Run(anyhow!("cannot show the page: there is no {OPENER} here; {by_hand}")))
        }
        Err(error) => Err(Failure::Run(anyhow!("cannot start {OPENER}: {error}; {by_hand}"))),
    }
}
