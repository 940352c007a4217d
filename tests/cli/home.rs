//! A folder of one test, and the program run in it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A scenario that runs in a few milliseconds: 300 requests, about two at a time.
pub(crate) const SMALL: &str = "\
version: 1
name: small
workload:
  generate:
    arrivals: { poisson: { rate: 10/s } }
    lengths: { fixed: { prompt: 200, output: 50 } }
    requests: 300
model: llama-3.1-8b
gpu: h200
fleet: { replicas: 1, router: round-robin }
scheduler: { vllm: { max_num_seqs: 64 } }
";

/// A folder of one test.
pub(crate) struct Home(TempDir);

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home(tempfile::tempdir().expect("a temporary folder"))
    }

    /// A folder with the scenario `small.yaml`.
    pub(crate) fn small() -> Home {
        let home = Home::new();
        home.write("small.yaml", SMALL);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).expect("a file is written");
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("a text file")
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(name)).expect("a JSON document")
    }

    /// Names in a folder of the home, in order.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        names(&self.path(folder))
    }

    /// The program, to be run in the folder.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overbook"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    /// Runs the program with arguments separated by spaces.
    pub(crate) fn overbook(&self, args: &str) -> Ran {
        self.run(args.split_whitespace())
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(&self.command(args).output().expect("the program starts"))
    }

    /// Runs the program, which must refuse its input: exit code 2, nothing on stdout, nothing new in the folder.
    pub(crate) fn refused<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let before = self.names("");
        let ran = self.run(args);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert_eq!(ran.out, "", "{ran:?}");
        assert_eq!(self.names(""), before, "nothing is left behind");
        ran.err
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        Ran { code: output.status.code().expect("an exit code, not a signal"), out, err }
    }

    /// Asserts the exit code.
    pub(crate) fn ends(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// The digest of the simulation, from the remark on stderr.
    pub(crate) fn digest(&self) -> &str {
        let (_, after) = self.err.rsplit_once("digest ").expect("a digest on stderr");
        after.trim_end()
    }

    /// The figures printed by `--json`.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).expect("exactly one JSON document on stdout")
    }
}
