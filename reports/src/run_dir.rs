//! The run directory: made aside, moved into place at the end, so that no half-written result stands as a whole one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ReportError;
use crate::manifest::Manifest;

/// File name of the manifest; a directory is a run directory when it has one.
pub const MANIFEST: &str = "manifest.json";

/// A run directory in the making: a sibling of its target, `<target>.partial-<pid>`.
///
/// [`RunDir::finish`] moves it into place; dropped before that, it removes what it has written.
#[derive(Debug)]
pub struct RunDir {
    target: PathBuf,
    partial: PathBuf,
    force: bool,
    finished: bool,
    /// Folders that had to be made above the target, the deepest first.
    made: Vec<PathBuf>,
}

impl RunDir {
    /// Begins a run directory that will stand at `target`. An existing one is replaced at the end if `force`.
    ///
    /// # Errors
    /// `target` exists and `force` is not given, it is not a run directory, or nothing can be written there.
    pub fn create(target: &Path, force: bool) -> Result<RunDir, ReportError> {
        check(target, force)?;
        let partial = sibling(target, "partial")?;
        let parents = target.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        let made = parents.take_while(|parent| !parent.exists()).map(Path::to_owned).collect();
        let dir = RunDir { target: target.to_owned(), partial, force, finished: false, made };
        if let Some(parent) = dir.made.first() {
            fs::create_dir_all(parent).map_err(ReportError::io(parent))?;
        }
        // Left by a process that had the same number and was killed.
        remove(&dir.partial)?;
        fs::create_dir(&dir.partial).map_err(ReportError::io(&dir.partial))?;
        Ok(dir)
    }

    /// Where files go until the end.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Where the directory will stand.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes one file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<(), ReportError> {
        let path = self.partial.join(name);
        fs::write(&path, contents).map_err(ReportError::io(&path))
    }

    /// Writes the manifest, which says whether the results are whole, and moves the directory into place.
    ///
    /// # Errors
    /// Something cannot be written or moved. A directory that was to be replaced is still there then.
    pub fn finish(mut self, manifest: &Manifest) -> Result<PathBuf, ReportError> {
        self.write(MANIFEST, manifest.to_json())?;
        check(&self.target, self.force)?;
        if self.target.exists() {
            self.replace()?;
        } else {
            self.move_into_place()?;
        }
        self.finished = true;
        Ok(self.target.clone())
    }

    /// Moves the old result away, the new one in its place, and then deletes the old one.
    fn replace(&self) -> Result<(), ReportError> {
        let old = sibling(&self.target, "old")?;
        remove(&old)?;
        fs::rename(&self.target, &old).map_err(ReportError::io(&old))?;
        if let Err(error) = self.move_into_place() {
            // The first error is the one to tell; the old result at least should stand again.
            let _ = fs::rename(&old, &self.target);
            return Err(error);
        }
        remove(&old)
    }

    fn move_into_place(&self) -> Result<(), ReportError> {
        fs::rename(&self.partial, &self.target).map_err(ReportError::io(&self.target))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to be told; the name says that it is partial.
            let _ = fs::remove_dir_all(&self.partial);
            // What another run has put into them by now keeps the folders.
            let _ = self.made.iter().try_for_each(fs::remove_dir);
        }
    }
}

/// Whether a result may stand at `target`.
fn check(target: &Path, force: bool) -> Result<(), ReportError> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ReportError::io(target)(error)),
        Ok(_) if !force => Err(ReportError::Exists(target.to_owned())),
        Ok(found) if found.is_dir() && (target.join(MANIFEST).exists() || is_empty(target)) => Ok(()),
        Ok(_) => Err(ReportError::NotARunDirectory(target.to_owned())),
    }
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// `<target>.<what>-<pid>`, beside the target so that a rename can move one to the other.
fn sibling(target: &Path, what: &str) -> Result<PathBuf, ReportError> {
    let name = target.file_name().ok_or_else(|| ReportError::NotARunDirectory(target.to_owned()))?;
    let mut name = OsString::from(name);
    name.push(format!(".{what}-{}", std::process::id()));
    Ok(target.with_file_name(name))
}

fn remove(dir: &Path) -> Result<(), ReportError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ReportError::io(dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Status;
    use crate::sample::manifest;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_result_appears_only_when_it_is_whole() {
        let home = tempfile::tempdir().expect("temp dir");
        let target = home.path().join("runs/a");
        let run = RunDir::create(&target, false).expect("new");
        run.write("summary.json", "{}").expect("write");
        assert!(!target.exists() && run.path().join("summary.json").exists());
        assert_eq!(run.finish(&manifest(Status::Complete)).expect("finish"), target);
        assert_eq!(names(&target), ["manifest.json", "summary.json"]);
        assert_eq!(names(&home.path().join("runs")), ["a"]);
    }

    #[test]
    fn a_dropped_run_leaves_nothing() {
        let home = tempfile::tempdir().expect("temp dir");
        for target in ["a", "runs/deep/a"] {
            let run = RunDir::create(&home.path().join(target), false).expect("new");
            run.write("x", "y").expect("write");
            drop(run);
            assert!(names(home.path()).is_empty());
        }
    }

    #[test]
    fn an_existing_directory_is_refused_or_replaced_by_force() {
        let home = tempfile::tempdir().expect("temp dir");
        let target = home.path().join("a");
        let first = RunDir::create(&target, false).expect("new");
        first.write("old", "").expect("write");
        first.finish(&manifest(Status::Complete)).expect("finish");
        let error = RunDir::create(&target, false).expect_err("exists").to_string();
        assert!(error.contains("/a ") && error.contains("--force") && error.contains("--out"), "{error}");
        let second = RunDir::create(&target, true).expect("forced");
        assert_eq!(names(&target), ["manifest.json", "old"], "the old one stands until the end");
        second.write("new", "").expect("write");
        second.finish(&manifest(Status::Interrupted)).expect("finish");
        assert_eq!(names(&target), ["manifest.json", "new"]);
        assert_eq!(names(home.path()), ["a"]);
        let text = fs::read_to_string(target.join(MANIFEST)).expect("manifest");
        assert!(text.contains("\"status\": \"interrupted\""));
    }

    #[test]
    fn force_replaces_run_directories_only() {
        let home = tempfile::tempdir().expect("temp dir");
        fs::write(home.path().join("precious"), "").expect("write");
        assert!(matches!(RunDir::create(home.path(), true), Err(ReportError::NotARunDirectory(_))));
        assert!(matches!(RunDir::create(Path::new("/"), true), Err(ReportError::NotARunDirectory(_))));
        let file = home.path().join("precious");
        assert!(matches!(RunDir::create(&file, true), Err(ReportError::NotARunDirectory(_))));
        let error = RunDir::create(&file.join("below"), false).expect_err("below a file").to_string();
        assert!(error.contains("precious"), "{error}");
    }

    #[test]
    fn a_directory_that_appeared_meanwhile_is_not_overwritten() {
        let home = tempfile::tempdir().expect("temp dir");
        let target = home.path().join("a");
        let run = RunDir::create(&target, false).expect("new");
        fs::create_dir(&target).expect("another process");
        assert!(matches!(run.finish(&manifest(Status::Complete)), Err(ReportError::Exists(_))));
    }
}
