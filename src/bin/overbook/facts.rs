//! Facts of this process for manifests: what it was built from, and the command line.

use overbook_reports::manifest::Build;

/// What this binary was built from.
pub(crate) const BUILD: Build = Build {
    tool_version: env!("CARGO_PKG_VERSION"),
    commit: env!("OVERBOOK_COMMIT"),
    dirty: env!("OVERBOOK_DIRTY"),
    target: env!("OVERBOOK_TARGET"),
    rustc: env!("OVERBOOK_RUSTC"),
};

/// The command line; what of it is no UTF-8 (a path may be none) shows as `�`.
pub(crate) fn command() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The command line, for files that others may read: without the value of `--api-key`.
pub(crate) fn open_command() -> Vec<String> {
    let mut words = command();
    for at in 0..words.len() {
        if words[at].starts_with("--api-key=") {
            "--api-key=…".clone_into(&mut words[at]);
        } else if at > 0 && words[at - 1] == "--api-key" {
            "…".clone_into(&mut words[at]);
        }
    }
    words
}
