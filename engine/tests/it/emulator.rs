//! Builds the stand-in for NVIDIA's libraries and runs tests in processes that find it: the loader reads its path when a process
//! starts. The tests of the command line have it too.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Set in a child: which test it is.
const CHILD: &str = "OVERBOOK_TEST_CHILD";

fn sources() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["tests/emulator", "../tests/emulator"].map(|place| package.join(place));
    places.into_iter().find(|place| place.is_dir()).expect("the emulator's sources")
}

/// Hash of all that the library is built from.
fn hash() -> String {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(sources()).expect("sources").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.file_name().expect("a name").as_encoded_bytes());
        hasher.update(&std::fs::read(&file).expect("a source"));
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The folder with the stand-in's libraries and its self-test, built once for all processes.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("emulator-{}", hash()));
        if !folder.exists() {
            let unfinished = folder.with_extension(std::process::id().to_string());
            let built = Command::new("sh").arg(sources().join("build.sh")).arg(&unfinished).output().expect("sh runs");
            let said = String::from_utf8_lossy(&built.stderr).into_owned();
            assert!(built.status.success(), "the emulator needs a C++17 compiler, `c++` or $CXX: {said}");
            // Another process may have been faster.
            let _ = std::fs::rename(&unfinished, &folder);
        }
        folder
    })
}

/// A command that finds the stand-in, with a seed and folders of its own kind of tests.
pub(crate) fn command(program: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    // What edits of sources and other ways to compile them have made is for nobody else.
    let ways = ["OVERBOOK_EMULATOR_EDIT", "OVERBOOK_EMULATOR_RACES"];
    let ways: Vec<_> = settings.iter().filter(|(name, _)| ways.contains(name)).map(|(_, value)| *value).collect();
    let hash = |ways: &str| blake3::hash(ways.as_bytes()).to_hex()[..12].to_owned();
    let kept = if ways.is_empty() { "kept".to_owned() } else { hash(&ways.join("\n")) };
    command
        .env("LD_LIBRARY_PATH", folder())
        .env("OVERBOOK_EMULATOR_SOURCE", sources())
        // Named by all that goes in: safe to share.
        .env("OVERBOOK_EMULATOR_CACHE", folder().join("compiled"))
        .env("OVERBOOK_CACHE", folder().join(kept))
        .env("OVERBOOK_EMULATOR_LEAKS", "1")
        .envs(settings.iter().copied());
    command
}

/// Whether this process is the child that runs the body of a test.
pub(crate) fn is_child(test: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|child| child == test)
}

/// Runs a test of this program in a process that finds the stand-in.
pub(crate) fn run(test: &str, settings: &[(&str, &str)]) -> Output {
    let program = std::env::current_exe().expect("this program");
    let mut command = command(&program, settings);
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(CHILD, test).output().expect("runs")
}

/// Runs a test of this program in a process that finds the libraries of a folder.
pub(crate) fn run_with(test: &str, folder: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env("LD_LIBRARY_PATH", folder).env(CHILD, test);
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).output().expect("runs")
}

/// What a child has said.
pub(crate) fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("{out}{err}")
}

/// Runs `body` where the stand-in is found: here, if this is a child of the test, else in one.
pub(crate) fn emulated(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) {
    if is_child(test) {
        return body();
    }
    let output = run(test, settings);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("1 passed"), "the child ran nothing: {}", said(&output));
}
