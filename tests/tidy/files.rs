//! The files of the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders that are not part of it: what is built, recorded or run.
const LEFT_OUT: [&str; 6] = [".git", ".gpu", "target", "runs", "corpus", "artifacts"];

/// Paths from the root with `/` between, and the text of each file that is text.
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Reads the repository that this test was compiled from.
    pub(crate) fn read() -> Tree {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut tree = Tree { files: BTreeMap::new() };
        tree.walk(&root, "");
        tree
    }

    fn walk(&mut self, folder: &Path, prefix: &str) {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            let (path, kind) = (format!("{prefix}{name}"), entry.file_type().expect("a kind"));
            if kind.is_dir() {
                if !LEFT_OUT.contains(&name.as_str()) {
                    self.walk(&entry.path(), &format!("{path}/"));
                }
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap_or_else(|e| panic!("{path}: {e}"));
                self.files.insert(path, String::from_utf8(bytes).ok());
            }
        }
    }

    /// All files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// All files that are text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// All Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_ending(".rs")
    }

    /// All text files with an ending.
    pub(crate) fn with_ending(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(path, _)| path.ends_with(ending))
    }

    /// The text of a file; `None` if there is none.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether there is a file or a folder of that path.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty() || self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }
}
