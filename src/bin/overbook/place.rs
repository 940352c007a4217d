//! Where results go: looked at before the work that makes them.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use overbook_reports::RunDir;
use overbook_reports::run_dir::left_by_killed;

use crate::output::{Failure, note};

/// Directories of killed runs that are named before the rest is only counted.
const LEFT_SHOWN: usize = 3;

/// Begins a run directory, and names those beside it that killed runs have left.
pub(crate) fn run_dir(out: &Path, force: bool) -> Result<RunDir, Failure> {
    let dir = RunDir::create(out, force)?;
    let left = left_by_killed(out);
    for path in left.iter().take(LEFT_SHOWN) {
        note(&format!("note: {} is of a run that was killed: look into it or remove it", path.display()));
    }
    if left.len() > LEFT_SHOWN {
        note(&format!("note: and {} more beside it", left.len() - LEFT_SHOWN));
    }
    Ok(dir)
}

/// Makes a folder that may be there already, and tries to write into it.
pub(crate) fn folder(out: &Path) -> Result<(), Failure> {
    fs::create_dir_all(out).and_then(|()| writable(&out.join(aside()))).map_err(|error| refused(out, &error))
}

/// Refuses a file that is there already, unless it may be replaced, and one that cannot be written.
pub(crate) fn file(out: &Path, force: bool) -> Result<(), Failure> {
    if out.exists() && !out.is_file() {
        return Err(Failure::Input(format!("{} is a folder or a device; name a file", out.display())));
    }
    if out.exists() && !force {
        return Err(Failure::Input(format!("{} exists already; use --force to replace it", out.display())));
    }
    writable(&out.with_file_name(aside())).map_err(|error| refused(out, &error))
}

/// Whether two paths lead to one file: through links, or by another spelling.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(one), Ok(other)) = (fs::metadata(one), fs::metadata(other)) {
        use std::os::unix::fs::MetadataExt as _;
        return (one.dev(), one.ino()) == (other.dev(), other.ino());
    }
    // Nothing is there by one of the names.
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn aside() -> String {
    format!(".overbook-{}", std::process::id())
}

fn writable(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path).and_then(|_| fs::remove_file(path))
}

fn refused(out: &Path, error: &io::Error) -> Failure {
    Failure::Input(format!("cannot write {}: {error}", out.display()))
}
