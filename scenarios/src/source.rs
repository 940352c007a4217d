//! A scenario as the user gives it: a file and the `--set` options on top.

pub(crate) mod renamed;
mod vary;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use crate::diagnostics::{Problems, Sources};
use crate::small_file::{self, SETTINGS_MAX};
use crate::yaml::{self, Detail, Fault, Node, NodeKind, Span};

pub use vary::LoadError;

/// A scenario file and changes to it, not yet checked.
#[derive(Clone, Debug)]
pub struct Source {
    pub(crate) sources: Sources,
    /// The document; `None` if it is not valid YAML.
    pub(crate) tree: Option<Node>,
    pub(crate) faults: Vec<Fault>,
    /// What the user should know, if nothing is wrong.
    pub(crate) notes: Vec<String>,
    /// The folder that relative paths start from.
    pub(crate) base: PathBuf,
}

impl Source {
    /// Reads a scenario file. Relative paths in it start from its folder.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 8 MiB, or is no text. What is wrong with its content is reported by [`Source::resolve`].
    pub fn load(path: &Path) -> Result<Source, Problems> {
        let name = path.display().to_string();
        let bytes = small_file::read(path, SETTINGS_MAX).map_err(|error| {
            let message = if error.kind() == ErrorKind::FileTooLarge {
                let most = SETTINGS_MAX >> 20;
                let help = "requests go into a file of their own, which `workload.trace` names";
                format!("`{name}` is larger than {most} MiB, the most that a scenario may have; {help}")
            } else {
                format!("cannot read the scenario `{name}`: {error}")
            };
            Problems::unplaced(&name, message)
        })?;
        let text = String::from_utf8(bytes).map_err(|error| not_text(&name, &error))?;
        let mut source = Source::from_text(&name, &text);
        path.parent().unwrap_or(Path::new("")).clone_into(&mut source.base);
        Ok(source)
    }

    /// Takes a scenario from memory; `name` is what messages call it. Relative paths start from the working directory.
    pub fn from_text(name: &str, text: &str) -> Source {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut sources = Sources::default();
        let id = sources.add(name, text);
        let (mut tree, mut faults) = yaml::parse(id, text);
        let mut notes = Vec::new();
        match tree.as_mut().map(renamed::move_keys) {
            Some(Ok(moved)) => notes = moved.into_iter().map(|note| format!("{name}: {note}")).collect(),
            Some(Err((span, message))) => faults.push(Fault::new(Detail::Message(message), span)),
            None => {}
        }
        Source { sources, tree, faults, notes, base: PathBuf::new() }
    }

    /// BLAKE3 of the text and of all changes to it, in hex: what is written the same has the same.
    pub fn text_hash(&self) -> String {
        self.sources.hash()
    }

    /// The seed that is written, else the default.
    pub(crate) fn seed(&self) -> u64 {
        self.text_at("seed").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Sets a value (YAML, e.g. `8`, `2s`, `{ vllm: { max_num_seqs: 64 } }`) at a dotted path. Later ones win.
    /// Relative paths in it start from the working directory. What is wrong with it is reported by [`Source::resolve`].
    pub fn set(&mut self, path: &str, value: &str) {
        let id = self.sources.add("--set", &format!("{path}={value}"));
        let key_span = Span { source: id, start: 0, end: path.len() };
        let (node, mut faults) = yaml::parse(id, value);
        for fault in &mut faults {
            fault.span.shift(path.len() + 1);
        }
        self.faults.extend(faults);
        let (Some(mut node), Some(tree)) = (node, &mut self.tree) else { return };
        node.shift(path.len() + 1);
        self.notes.extend(renamed::note(path));
        if swept(tree, path) {
            self.notes
                .push(format!("--set {path}: the scenario's sweep sets it at every point, so that this has no effect"));
        }
        if let Err(error) = tree.set(&renamed::canonical(path), node, key_span) {
            self.faults.push(Fault::new(Detail::Message(error.to_string()), key_span));
        }
    }
}

/// Whether the sweep of a scenario sets a path.
fn swept(tree: &Node, path: &str) -> bool {
    let Some(sweep) = tree.entry("sweep") else { return false };
    let places = ["axes", "zip"].map(|key| sweep.value.entry(key));
    let drawn = ["random", "lhs"].map(|key| sweep.value.entry(key).and_then(|design| design.value.entry("over")));
    places.into_iter().chain(drawn).flatten().any(|place| match &place.value.kind {
        NodeKind::Map(entries) => {
            entries.iter().any(|entry| renamed::canonical(&entry.key) == renamed::canonical(path))
        }
        _ => false,
    })
}

/// The place of the first byte that is no UTF-8.
fn not_text(name: &str, error: &FromUtf8Error) -> Problems {
    let start = error.utf8_error().valid_up_to();
    let byte = error.as_bytes()[start];
    let mut sources = Sources::default();
    let source = sources.add(name, &String::from_utf8_lossy(error.as_bytes()));
    let mut problems = Problems::new(sources);
    let span = Span { source, start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
    let help = "save the file as UTF-8".to_owned();
    problems.add("", span, format!("not UTF-8 text: a byte 0x{byte:02x} is none of a character here"), Some(help));
    problems
}

impl Span {
    fn shift(&mut self, bytes: usize) {
        self.start += bytes;
        self.end += bytes;
    }
}

impl Node {
    fn shift(&mut self, bytes: usize) {
        self.span.shift(bytes);
        match &mut self.kind {
            NodeKind::Map(entries) => {
                for entry in entries {
                    entry.key_span.shift(bytes);
                    entry.value.shift(bytes);
                }
            }
            NodeKind::List(items) => items.iter_mut().for_each(|item| item.shift(bytes)),
            NodeKind::Scalar { .. } | NodeKind::Hole => {}
        }
    }
}
