//! A YAML document as a tree that remembers where everything stands.
//!
//! ```text
//! text ──parse──► Node ──decode──► typed value + every fault, each with its place
//!                  ▲ set(path)
//! ```
//! The tree holds scalars as they were written; what they mean (`null`, a bool, a number, text) is settled when they are
//! decoded, by the YAML 1.2 core schema.

mod de;
mod decode;
mod edit;
mod emit;
mod fault;
mod parse;
pub mod scalar;

pub use decode::{Decoded, FAULTS_MAX, decode};
pub use edit::SetError;
pub use emit::emit;
pub use fault::{Detail, Error, Fault};
pub use parse::parse;

/// Which text a span points into; see [`crate::diagnostics::Sources`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SourceId(pub u32);

impl SourceId {
    /// The scenario file; every other text is a change to it.
    pub const FILE: SourceId = SourceId(0);
}

/// A range of bytes in a source text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A value and where it was written.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Dotted path from the root (`fleet.replicas`, `expect.0.max`), as written: it survives the removal of neighbours.
    pub path: String,
    /// Where the value stands.
    pub span: Span,
    /// The value.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Clone, PartialEq, Debug)]
pub enum NodeKind {
    /// A scalar as written; `plain` unless it was quoted or a block scalar.
    Scalar {
        /// The text, escapes resolved.
        text: String,
        /// Written without quotes, so subject to the core schema.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order it was written.
    Map(Vec<Entry>),
    /// Stands in for a required value that is missing, so that decoding can go on to the next fault.
    Hole,
}

/// One key and its value.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            NodeKind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value of a key of this mapping, to change it.
    pub fn value_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.kind {
            NodeKind::Map(entries) => entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value),
            NodeKind::List(_) | NodeKind::Scalar { .. } | NodeKind::Hole => None,
        }
    }

    /// Where the deepest node on the way to `path` stands: the value itself if it is written, else the key of the
    /// nearest mapping around it.
    pub fn place(&self, path: &str) -> Span {
        self.walk(path, None)
    }

    fn walk(&self, path: &str, key_span: Option<Span>) -> Span {
        if self.path == path {
            return self.span;
        }
        let deeper = match &self.kind {
            NodeKind::Map(entries) => entries
                .iter()
                .find(|entry| leads_to(&entry.value.path, path))
                .map(|entry| entry.value.walk(path, Some(entry.key_span))),
            NodeKind::List(items) => {
                items.iter().find(|item| leads_to(&item.path, path)).map(|item| item.walk(path, None))
            }
            _ => None,
        };
        // A value that was put here from elsewhere stands there: the key is of the value that it has replaced.
        let key = key_span.filter(|key| key.source == self.span.source);
        deeper.or(key).unwrap_or(self.span)
    }

    /// Removes the node with this path from the tree; says whether it was there.
    pub fn remove(&mut self, path: &str) -> bool {
        match &mut self.kind {
            NodeKind::Map(entries) => {
                let before = entries.len();
                entries.retain(|entry| entry.value.path != path);
                let inside = |entry: &mut Entry| leads_to(&entry.value.path, path) && entry.value.remove(path);
                before > entries.len() || entries.iter_mut().any(inside)
            }
            NodeKind::List(items) => {
                let before = items.len();
                items.retain(|item| item.path != path);
                before > items.len() || items.iter_mut().any(|item| leads_to(&item.path, path) && item.remove(path))
            }
            _ => false,
        }
    }

    /// Takes the entry `key` out of a mapping.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        match &mut self.kind {
            NodeKind::Map(entries) => {
                let at = entries.iter().position(|entry| entry.key == key)?;
                Some(entries.remove(at))
            }
            _ => None,
        }
    }

    /// Writes `path` into this node and the paths of everything below it.
    pub fn relabel(&mut self, path: &str) {
        path.clone_into(&mut self.path);
        match &mut self.kind {
            NodeKind::Map(entries) => {
                for entry in entries {
                    entry.value.relabel(&join(path, &entry.key));
                }
            }
            NodeKind::List(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    item.relabel(&join(path, &i.to_string()));
                }
            }
            _ => {}
        }
    }
}

/// `parent.key`, or `key` at the root.
pub fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Whether `path` is `prefix` or lies below it.
pub fn leads_to(prefix: &str, path: &str) -> bool {
    prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
