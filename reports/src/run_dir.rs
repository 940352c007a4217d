//! The run directory: made aside, moved into place at the end, so that no half-written result stands as a whole one.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ReportError;
use crate::manifest::Manifest;
use crate::parquet::{REQUESTS, SESSIONS, STEPS};
use crate::points::POINTS;
use crate::study::{REPLICATES, STUDY};

/// File name of the manifest; a directory is a run directory when it has one.
pub const MANIFEST: &str = "manifest.json";
/// File name of the figures.
pub const SUMMARY: &str = "summary.json";

/// Files that runs, replays, studies and comparisons leave in their directories, beside those of single points.
const OWN: [&str; 22] = [
    "ledger.parquet",
    "load.csv",
    "plan.md",
    "study.md",
    MANIFEST,
    SUMMARY,
    REQUESTS,
    STEPS,
    SESSIONS,
    STUDY,
    REPLICATES,
    POINTS,
    "report.html",
    "scenario.resolved.yaml",
    "server.csv",
    "trace.json.gz",
    "fidelity.html",
    "fidelity.json",
    "plan.json",
    "ledger.csv",
    "answer.yaml",
    "kubernetes.yaml",
];
/// Between the name of a directory and the process that writes it, and that moves an old one away.
const ASIDE: [&str; 2] = ["partial", "old"];

/// Whether a file of a run directory is one of ours: all others are the user's.
fn is_own(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let of_point = |rest: &str| {
        let (number, kind) = rest.split_once('.').unwrap_or((rest, ""));
        number.bytes().all(|byte| byte.is_ascii_digit()) && ["summary.json", "resolved.yaml"].contains(&kind)
    };
    OWN.contains(&name) || name.strip_prefix("point-").is_some_and(of_point)
}

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
    /// Begins a run directory that will stand at `target`. An existing one is replaced at the end if `force`; files in it that no
    /// run writes stay.
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
        debug_assert!(is_own(OsStr::new(name)), "{name} is missing in OWN");
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

    /// Moves the old result away, the new one in its place, what the user has put beside the old one back, and deletes the rest.
    fn replace(&self) -> Result<(), ReportError> {
        let old = sibling(&self.target, "old")?;
        fs::rename(&self.target, &old).map_err(ReportError::io(&old))?;
        if let Err(error) = self.move_into_place() {
            // The first error is the one to report; the old result at least should stand again.
            let _ = fs::rename(&old, &self.target);
            return Err(error);
        }
        for entry in fs::read_dir(&old).map_err(ReportError::io(&old))? {
            let path = entry.map_err(ReportError::io(&old))?.path();
            let Some(name) = path.file_name().filter(|name| !is_own(name)) else { continue };
            fs::rename(&path, self.target.join(name)).map_err(ReportError::io(&path))?;
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
            // An error cannot be reported from here; the name says that it is partial.
            let _ = fs::remove_dir_all(&self.partial);
            // What another run has put into them by now keeps the folders.
            let _ = self.made.iter().try_for_each(fs::remove_dir);
        }
    }
}

/// Directories beside `target` that runs have left which were killed, in order: `NAME.partial-PID`, where no process has that
/// number. Where the system does not say (it has no `/proc`) there are none.
pub fn left_by_killed(target: &Path) -> Vec<PathBuf> {
    let folder = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    if !Path::new("/proc/self").exists() {
        return Vec::new();
    }
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut left: Vec<_> = names.filter(|name| is_left(name)).map(|name| target.with_file_name(name)).collect();
    left.retain(|path| path.is_dir());
    left.sort();
    left
}

/// Whether a name is that of a directory in the making whose process is gone.
fn is_left(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.rsplit_once('-'));
    let Some((before, process)) = parts.and_then(|(before, process)| Some((before, process.parse::<u32>().ok()?)))
    else {
        return false;
    };
    let is_aside = ASIDE.iter().any(|what| before.ends_with(&format!(".{what}")));
    is_aside && !Path::new("/proc").join(process.to_string()).exists()
}

/// Whether a result may stand at `target`.
fn check(target: &Path, force: bool) -> Result<(), ReportError> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ReportError::io(target)(error)),
        Ok(found) if !found.is_dir() => Err(ReportError::NotARunDirectory(target.to_owned())),
        Ok(_) if !force => Err(ReportError::Exists(target.to_owned())),
        Ok(_) if (target.join(MANIFEST).exists() || is_empty(target)) => Ok(()),
        Ok(_) => Err(ReportError::NotARunDirectory(target.to_owned())),
    }
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// `<target>.<what>-<pid>`, one of [`ASIDE`], beside the target so that a rename can move one to the other.
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
            run.write(SUMMARY, "y").expect("write");
            drop(run);
            assert!(names(home.path()).is_empty());
        }
    }

    #[test]
    fn an_existing_directory_is_refused_or_replaced_by_force() {
        let home = tempfile::tempdir().expect("temp dir");
        let target = home.path().join("a");
        let first = RunDir::create(&target, false).expect("new");
        first.write(STEPS, "").expect("write");
        first.finish(&manifest(Status::Complete)).expect("finish");
        let error = RunDir::create(&target, false).expect_err("exists").to_string();
        assert!(error.contains("/a ") && error.contains("--force") && error.contains("--out"), "{error}");
        let second = RunDir::create(&target, true).expect("forced");
        assert_eq!(names(&target), [MANIFEST, STEPS], "the old one stands until the end");
        second.write(SUMMARY, "").expect("write");
        second.finish(&manifest(Status::Interrupted)).expect("finish");
        assert_eq!(names(&target), [MANIFEST, SUMMARY]);
        assert_eq!(names(home.path()), ["a"]);
        let text = fs::read_to_string(target.join(MANIFEST)).expect("manifest");
        assert!(text.contains("\"status\": \"interrupted\""));
    }

    #[test]
    fn what_the_user_has_put_into_a_run_directory_stays() {
        let home = tempfile::tempdir().expect("temp dir");
        let target = home.path().join("a");
        let run = |force: bool| {
            let run = RunDir::create(&target, force).expect("new");
            run.write("point-0003.summary.json", "{}").expect("write");
            run.finish(&manifest(Status::Complete)).expect("finish");
        };
        run(false);
        fs::write(target.join("notes.txt"), "mine").expect("write");
        fs::write(target.join("point-of-view.summary.json"), "mine too").expect("write");
        fs::write(target.join("point-0009.resolved.yaml"), "of a run").expect("write");
        fs::create_dir_all(target.join("figures/deep")).expect("folders");
        run(true);
        let kept = ["figures", "manifest.json", "notes.txt", "point-0003.summary.json", "point-of-view.summary.json"];
        assert_eq!(names(&target), kept);
        assert_eq!(fs::read_to_string(target.join("notes.txt")).expect("text"), "mine");
        assert_eq!((names(home.path()), names(&target.join("figures"))), (vec!["a".into()], vec!["deep".into()]));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_killed_runs_have_left_is_found() {
        let home = tempfile::tempdir().expect("temp dir");
        // Larger than any process number that Linux gives.
        let dead = u32::MAX;
        let alive = std::process::id();
        for name in [
            format!("a.partial-{dead}"),
            format!("other.old-{dead}"),
            format!("a.partial-{alive}"),
            "a.partial-x".to_owned(),
            format!("notes-{dead}"),
        ] {
            fs::create_dir(home.path().join(name)).expect("a folder");
        }
        fs::write(home.path().join(format!("file.partial-{dead}")), "").expect("a file");
        let left = left_by_killed(&home.path().join("b"));
        let want = [format!("a.partial-{dead}"), format!("other.old-{dead}")];
        assert_eq!(left, want.map(|name| home.path().join(name)));
        assert!(left_by_killed(Path::new("/nowhere/at/all")).is_empty());
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
