//! Files of tests, and the groups of tests that need more than the clone.
//!
//! Most tests need nothing beside the clone: their files lie in `traces/data`, see [`in_clone`]. The others stand in a
//! group. Cargo lists the tests of a group as ignored, with the reason, until the group's variable is set; then they run,
//! and fail where something is missing. `cargo test --workspace whole_files` runs one group alone.
//!
//! | group | variable | value |
//! |---|---|---|
//! | [`whole_files!`] | `OVERBOOK_DATA` | absolute path of the folder of whole files (`traces/data/README.md`) |
//! | [`in_browser!`] | `OVERBOOK_BROWSER` | name of Chromium or Chrome |
//! | [`on_full_disk!`] | `OVERBOOK_MOUNT` | `1` where `unshare -rm` or root may mount a file system |
//! | [`by_nvrtc!`] | `OVERBOOK_NVRTC` | absolute path of the folder of `libnvrtc.so.13` (`pip install nvidia-cuda-nvrtc==13.0.88`) |
//!
//! A group is a list of functions at the end of a file: `whole_files!(the_function, another);`.

use std::path::{Path, PathBuf};

/// A file of `traces/data`.
///
/// # Panics
/// If it is not there.
pub fn in_clone(path: &str) -> PathBuf {
    there(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../traces/data")).join(path))
}

/// A file or folder of the whole files, below `OVERBOOK_DATA`.
///
/// # Panics
/// If it is not there, or if the variable was not set when the tests were compiled.
pub fn whole(path: &str) -> PathBuf {
    let Some(folder) = option_env!("OVERBOOK_DATA") else {
        panic!("{path}: OVERBOOK_DATA is not set, see traces/data/README.md")
    };
    there(Path::new(folder).join(path))
}

/// The browser that `OVERBOOK_BROWSER` names.
///
/// # Panics
/// If the variable was not set when the tests were compiled.
pub fn browser() -> &'static str {
    option_env!("OVERBOOK_BROWSER").unwrap_or_else(|| panic!("OVERBOOK_BROWSER is not set"))
}

/// The folder of NVIDIA's compiler that `OVERBOOK_NVRTC` names.
///
/// # Panics
/// If the variable was not set when the tests were compiled, or there is none.
pub fn nvrtc() -> PathBuf {
    let folder = Path::new(option_env!("OVERBOOK_NVRTC").unwrap_or_else(|| panic!("OVERBOOK_NVRTC is not set")));
    let library = folder.join("libnvrtc.so.13");
    assert!(library.exists(), "{}: there is no such file", library.display());
    folder.to_owned()
}

fn there(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{}: there is no such file; see traces/data/README.md", path.display());
    path
}

/// Tests that read whole files: see [`whole`].
#[cfg(overbook_data)]
#[macro_export]
macro_rules! whole_files {
    ($($test:ident),+ $(,)?) => {
        mod whole_files {
            $(#[test] fn $test() { super::$test(); })+
        }
    };
}

/// Tests that read whole files: see [`whole`].
#[cfg(not(overbook_data))]
#[macro_export]
macro_rules! whole_files {
    ($($test:ident),+ $(,)?) => {
        mod whole_files {
            $(#[test] #[ignore = "needs OVERBOOK_DATA: see traces/data/README.md"] fn $test() { super::$test(); })+
        }
    };
}

/// Tests that look at a page in a browser: see [`browser`].
#[cfg(overbook_browser)]
#[macro_export]
macro_rules! in_browser {
    ($($test:ident),+ $(,)?) => {
        mod in_browser {
            $(#[test] fn $test() { super::$test(); })+
        }
    };
}

/// Tests that look at a page in a browser: see [`browser`].
#[cfg(not(overbook_browser))]
#[macro_export]
macro_rules! in_browser {
    ($($test:ident),+ $(,)?) => {
        mod in_browser {
            $(#[test] #[ignore = "needs OVERBOOK_BROWSER, e.g. chromium"] fn $test() { super::$test(); })+
        }
    };
}

/// Tests that mount a file system of some KiB and fill it.
#[cfg(overbook_mount)]
#[macro_export]
macro_rules! on_full_disk {
    ($($test:ident),+ $(,)?) => {
        mod on_full_disk {
            $(#[test] fn $test() { super::$test(); })+
        }
    };
}

/// Tests that mount a file system of some KiB and fill it.
#[cfg(not(overbook_mount))]
#[macro_export]
macro_rules! on_full_disk {
    ($($test:ident),+ $(,)?) => {
        mod on_full_disk {
            $(#[test] #[ignore = "needs OVERBOOK_MOUNT=1 and leave to mount"] fn $test() { super::$test(); })+
        }
    };
}

/// Tests that compile with NVIDIA's compiler: see [`nvrtc`].
#[cfg(overbook_nvrtc)]
#[macro_export]
macro_rules! by_nvrtc {
    ($($test:ident),+ $(,)?) => {
        mod by_nvrtc {
            $(#[test] fn $test() { super::$test(); })+
        }
    };
}

/// Tests that compile with NVIDIA's compiler: see [`nvrtc`].
#[cfg(not(overbook_nvrtc))]
#[macro_export]
macro_rules! by_nvrtc {
    ($($test:ident),+ $(,)?) => {
        mod by_nvrtc {
            $(#[test] #[ignore = "needs OVERBOOK_NVRTC: a folder with libnvrtc.so.13, of nvidia-cuda-nvrtc 13.0.88"] fn $test() { super::$test(); })+
        }
    };
}
